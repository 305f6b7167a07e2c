"""Two plays of one playbook at once: every destination is whole at every moment, and nothing stray stays."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.transfer import backup, local_folders, resume
from tests.conftest import Runner, download, snapshot, step, upload
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileServer
from tests.servers.openssh import OpenSSHServer

# Large enough to be resumed, by the numbers of `_PROGRAM`.
LARGE = 3_000_000
ROUNDS = 2
_PROGRAM = """
import sys, time
from runner.transfer import proof, resume
resume.RESUME_FROM_BYTES, proof.MARGIN_BYTES = 1_000_000, 1_000_000
proof.PIECE_BYTES, proof.FINE_PIECE_BYTES, resume.QUIET_SECONDS = 1 << 19, 1 << 17, 0.5
from runner.cli.main import main
import runner.execution.modes
time.sleep(float(sys.argv.pop(1)))
main()
"""

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "RESUME_FROM_BYTES", 1_000_000)


class Watch:
    """Reads every destination all the time: what was never a whole content of it is noted."""

    def __init__(self, valid: dict[Path, set[str]]) -> None:
        self._valid = valid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.wrong: list[str] = []
        self.looks = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            for path, digests in self._valid.items():
                self._look(path, digests)
            self.looks += 1
            time.sleep(0.001)

    def _look(self, path: Path, digests: set[str]) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if "missing" not in digests:
                self.wrong.append(f"{path} is missing")
            return
        if digest(content) not in digests:
            self.wrong.append(f"{path} has {len(content):,} bytes that were never its content")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Scene:
    """A playbook of all modes that copy, one way, and the contents that its destinations may have."""

    def __init__(self, runner: Runner, remote: Path, server: OpenSSHServer, is_upload: bool) -> None:
        local = runner.folder / "local"
        local.mkdir()
        self.source, self.destination = (local, remote) if is_upload else (remote, local)
        self.playbook = runner.folder / "two.yaml"
        copy = upload if is_upload else download
        tree = {
            "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
            "source_directory_name": str(self.source / "tree"),
            "destination_directory_name": str(self.destination / "new" / "tree"),
            "delete": True,
        }
        modes = [
            copy(self.source / "private", self.destination / "private"),
            copy(self.source / "private", self.destination / "deep" / "er" / "private", verify="checksum"),
            copy(self.source / "small", self.destination / "small", backup=True),
            tree,
            {**tree, "destination_directory_name": str(self.destination / "checked"), "verify": "checksum"},
        ]
        self.playbook.write_text(json.dumps([step(server, mode, stall_timeout=30) for mode in modes]))
        self.contents: dict[str, set[str]] = {}
        self.sources: dict[str, Path] = {}
        self.round = 0

    def write(self, name: str, content: bytes, *targets: str) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
        os.utime(path, (1_600_000_000 + self.round, 1_600_000_000 + self.round))
        for target in targets or (f"new/{name}", f"checked/{name.removeprefix('tree/')}"):
            self.sources[target] = path
            self.contents.setdefault(target, {"missing"}).add(digest(content))

    def change_sources(self, chance: random.Random) -> None:
        self.round += 1
        for known in self.contents.values():
            known.discard("missing")
        self.write("private", chance.randbytes(LARGE), "private", "deep/er/private")
        self.write("small", chance.randbytes(1000), "small")
        for number in range(6):
            for folder in ("", "sub/", "sub/deep/"):
                self.write(f"tree/{folder}{number}", chance.randbytes(chance.choice([0, 10, 50_000])))
        self.write("tree/large", chance.randbytes(LARGE))
        for root in ("new/tree", "checked"):
            if (self.destination / root).is_dir():
                (self.destination / root / "extra" / "in").mkdir(parents=True, exist_ok=True)
                (self.destination / root / "extra" / "in" / "it").write_text("goes")

    def play(self, delay: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _PROGRAM, f"{delay:.3f}", "play", str(self.playbook)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@both_ways
def test_two_plays_at_once(runner: Runner, remote: Path, sshd: OpenSSHServer, is_upload: bool) -> None:
    chance = random.Random(f"two plays {is_upload}")
    scene = Scene(runner, remote, sshd, is_upload)
    backups = 0
    for round_number in range(ROUNDS):
        scene.change_sources(chance)
        valid = {scene.destination / name: digests for name, digests in scene.contents.items()}
        with Watch(valid) as watch:
            plays = [scene.play(0), scene.play(chance.choice([0, 0.01, 0.05]))]
            outputs = [play.communicate(timeout=120)[0] for play in plays]
        explain = f"round {round_number}\n" + "\n".join(outputs)

        assert watch.wrong == [], explain
        assert [play.returncode for play in plays] == [0, 0], explain
        assert watch.looks > 3
        for name, source in scene.sources.items():
            assert (scene.destination / name).read_bytes() == source.read_bytes(), explain
        found = {path for path in snapshot(scene.destination) if (scene.destination / path).is_file()}
        kept = {name for name in found if name.startswith("small.20")}
        assert found - kept == set(scene.contents), explain
        assert len(kept) > backups or round_number == 0
        backups = len(kept)


@both_ways
def test_a_play_that_is_killed_beside_another(
    runner: Runner, remote: Path, sshd: OpenSSHServer, is_upload: bool
) -> None:
    """What the killed one leaves is nobody's, and the next play has nothing left to clear away."""
    chance = random.Random(f"killed {is_upload}")
    scene = Scene(runner, remote, sshd, is_upload)
    scene.change_sources(chance)
    scene.change_sources(chance)
    valid = {scene.destination / name: digests | {"missing"} for name, digests in scene.contents.items()}
    with Watch(valid) as watch:
        plays = [scene.play(0), scene.play(0.02)]
        wait_for(
            lambda: any(".runner-" in name for name in os.listdir(scene.destination)) or plays[0].poll() is not None
        )
        plays[0].kill()
        outputs = [play.communicate(timeout=120)[0] for play in plays]
        last = scene.play(0)
        outputs.append(last.communicate(timeout=120)[0])

    assert watch.wrong == [], outputs
    assert (plays[1].returncode, last.returncode) == (0, 0), outputs
    found = {path for path in snapshot(scene.destination) if (scene.destination / path).is_file()}
    stray = {name for name in found if ".runner-" in name and not name.endswith(".part")}
    assert stray == set(), outputs


def wait_for(is_true: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.002)


def test_a_partial_that_was_published_before_it_was_locked_is_left_alone(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it another play made it the destination."""
    content = os.urandom(LARGE)
    (remote / "a").write_bytes(content)
    (remote / "a").chmod(0o600)
    (runner.folder / "local").mkdir()
    destination = runner.folder / "local" / "a"
    flock = fcntl.flock
    published: list[bytes] = []

    def lock(fd: int, operation: int) -> None:
        if not published:
            partial = os.readlink(f"/proc/self/fd/{fd}")
            Path(partial).write_bytes(content)
            os.replace(partial, destination)
            published.append(content)
        flock(fd, operation)

    monkeypatch.setattr("runner.transfer.local_folders.fcntl.flock", lock)
    with watching(destination, {digest(content), "missing"}) as watch:
        outcome = runner.play([step(sshd, download(remote / "a", destination))])

    assert published
    assert outcome.exit_code == 0, outcome.output
    assert watch.wrong == []
    assert snapshot(destination.parent) == {"a": content}


@contextmanager
def watching(path: Path, digests: set[str]) -> Iterator[Watch]:
    with Watch({path: digests}) as watch:
        yield watch


def test_a_partial_is_removed_before_its_lock_is_given_back(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next play that has it could lose it before it is published."""
    (remote / "a").write_bytes(os.urandom(LARGE))
    (runner.folder / "local").mkdir()
    seen: list[bool] = []
    close = os.close

    def watch_close(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}") if os.path.exists(f"/proc/self/fd/{fd}") else ""
        if "/.a.runner-" in path:
            seen.append(path.endswith(" (deleted)"))
        close(fd)

    replace = os.replace

    def refuse(source: Any, destination: Any, **options: Any) -> None:
        if options:
            raise PermissionError(13, "Permission denied")
        replace(source, destination)

    monkeypatch.setattr("runner.transfer.local_targets.os.replace", refuse)
    monkeypatch.setattr("runner.transfer.local_targets.os.close", watch_close)
    outcome = runner.play([step(sshd, download(remote / "a", "local/a"))])

    assert outcome.exit_code == 2, outcome.output
    assert seen == [True]
    assert snapshot(runner.folder / "local") == {}


@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_a_backups_name_that_another_play_has_just_taken(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch, connector_type: str
) -> None:
    (runner.folder / "a").write_bytes(b"new content")
    (remote / "a").write_bytes(b"old")
    name = "is_taken" if hasattr(backup, "is_taken") else "_is_taken"
    honest = getattr(backup, name)
    taken: list[str] = []

    def take(path: str, remote_files: Any) -> bool:
        if taken:
            return bool(honest(path, remote_files))
        taken.append(path)
        Path(path).write_bytes(b"another play's")
        return False

    monkeypatch.setattr(backup, name, take)
    outcome = runner.play([step(sshd, upload("a", remote / "a", backup=True), connector_type=connector_type)])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == b"new content"
    assert Path(taken[0]).read_bytes() == b"another play's"
    assert Path(outcome.step["result"]["backup"]).read_bytes() == b"old"
    assert len(snapshot(remote)) == 3


class FolderMadeByAnother(FileServer):
    """Each folder that is to be made is made by another play a moment before."""

    def mkdir(self, path: bytes, attrs: object) -> None:
        os.mkdir(self.map_path(path))
        raise asyncssh.SFTPFailure("Failure")


@both_ways
def test_a_folder_that_another_play_makes_a_moment_before(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, is_upload: bool
) -> None:
    local = runner.folder / "local"
    source, destination = (local, remote) if is_upload else (remote, local)
    (source / "tree" / "sub").mkdir(parents=True)
    (source / "tree" / "sub" / "a").write_text("content")
    destination.mkdir(exist_ok=True)
    mkdir = os.mkdir

    def make_twice(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(path, mode, dir_fd=dir_fd)
        mkdir(path, mode, dir_fd=dir_fd)

    mode = {
        "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
        "source_directory_name": str(source / "tree"),
        "destination_directory_name": str(destination / "tree"),
    }
    factory = FolderMadeByAnother if is_upload else FileServer
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        if not is_upload:
            monkeypatch.setattr("runner.transfer.tree.down.os.mkdir", make_twice)
        outcome = runner.play([step(server, mode)])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(destination / "tree") == {"sub": None, "sub/a": b"content"}


class RemovedByAnother(FileServer):
    """A folder called `gone` is removed by another play before it is listed."""

    def scandir(self, path: bytes) -> Any:
        if path.endswith(b"/gone"):
            shutil.rmtree(self.map_path(path), ignore_errors=True)
        return super().scandir(path)


@pytest.mark.parametrize("mode_name", ["remove", "copy_directory_from_engine"])
def test_what_another_play_has_removed_a_moment_before(
    runner: Runner, tmp_path: Path, remote: Path, mode_name: str
) -> None:
    (runner.folder / "tree").mkdir()
    (runner.folder / "tree" / "a").write_bytes(b"content")
    for name in ("gone/in/it", "gone/and", "other/it"):
        (remote / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (remote / "tree" / name).write_bytes(b"it goes")
    place = str(remote / "tree")
    removal: dict[str, Any] = {"mode_name": "remove", "path": place, "recursive": True}
    copy: dict[str, Any] = {
        "mode_name": mode_name,
        "source_directory_name": "tree",
        "destination_directory_name": place,
    }
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=RemovedByAnother) as server:
        outcome = runner.play([step(server, removal if mode_name == "remove" else {**copy, "delete": True})])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == ({} if mode_name == "remove" else {"tree": None, "tree/a": b"content"})


class VanishingFolder(FileServer):
    """The folder above the first new file is removed by another play, which had made it and failed."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False) -> None:
        super().__init__(channel, root, chroot)
        self.is_due = True

    def open(self, path: bytes, pflags: int, attrs: object) -> object:
        if self.is_due and b".runner-" in path:
            self.is_due = False
            os.rmdir(os.path.dirname(self.map_path(path)))
        return super().open(path, pflags, attrs)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_folder_that_another_play_removes_after_its_failure(
    runner: Runner, tmp_path: Path, remote: Path, size: int
) -> None:
    content = os.urandom(size)
    (runner.folder / "a").write_bytes(content)
    (remote / "shared").mkdir()
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=VanishingFolder) as server:
        outcome = runner.play([step(server, upload("a", remote / "shared" / "a"))])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"shared": None, "shared/a": content}


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_local_folder_that_another_play_removes_after_its_failure(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = os.urandom(size)
    (remote / "a").write_bytes(content)
    opened = local_folders.LocalFolder.__init__
    is_due = [True]

    def vanish(self: Any, path: str, fd: int, made: tuple[str, ...] = ()) -> None:
        opened(self, path, fd, made)
        if is_due.pop() if is_due else False:
            os.rmdir(path)

    monkeypatch.setattr(local_folders.LocalFolder, "__init__", vanish)
    outcome = runner.play([step(sshd, download(remote / "a", "shared/a"))])

    assert outcome.exit_code == 0, outcome.output
    assert not is_due
    assert snapshot(runner.folder / "shared") == {"a": content}


def test_an_old_file_that_stepped_aside_long_ago_is_in_nobodys_way(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    """A play that died between two renames left the old destination under the partial's name: it is not touched."""
    (runner.folder / "a").write_bytes(os.urandom(LARGE))
    (remote / "a").write_bytes(b"old")
    names: list[bytes] = []

    class Dying(misbehaving.PlainRenameOnly):
        def rename(self, oldpath: bytes, newpath: bytes) -> Any:
            names.append(newpath)
            if len(names) == 2:
                self.connection.abort()
                raise asyncssh.SFTPFailure("unheard")
            return super().rename(oldpath, newpath)

    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=Dying) as server:
        broken = runner.play([step(server, upload("a", remote / "a"))])
        (aside,) = [name for name in os.listdir(remote) if name.endswith(".old")]
        (remote / "a").write_bytes(b"restored by hand")
        outcome = runner.play([step(server, upload("a", remote / "a"))])

    assert broken.exit_code == 4
    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == (runner.folder / "a").read_bytes()
    assert (remote / aside).read_bytes() == b"old"
