"""`durable: true`: what is asked to be put to disk, by whom, and when: before a file gets its name, and never alone."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runner.sftp.batch import upload as batch_upload
from tests.conftest import Runner, download, snapshot, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import (
    FAILURE,
    OP_UNSUPPORTED,
    Execute,
    Fields,
    Kind,
    RawSftpServer,
    Request,
    Script,
    status,
)
from tests.servers.raw_sftp import version as version_packet

FSYNC, RENAME = b"fsync@openssh.com", b"posix-rename@openssh.com"
# The old code has neither: there the tests must fail by what they find.
DURABLE = {"durable": True}


def tree_up(source: Path, destination: Path, **options: Any) -> dict[str, Any]:
    names = {"source_directory_name": str(source), "destination_directory_name": str(destination)}
    return {"mode_name": "copy_directory_from_engine", **names, **options}


def tree_down(source: Path, destination: Path, **options: Any) -> dict[str, Any]:
    return {**tree_up(source, destination, **options), "mode_name": "copy_directory_to_engine"}


class Recording(Script):
    """Notes what is asked of each handle, in order, over all sessions, and what it is asked for by name."""

    events: ClassVar[list[tuple[str, bytes]]]
    refusal: int | None = None

    def __init__(self) -> None:
        self._paths: dict[bytes, bytes] = {}

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        fields = Fields(request.body)
        if request.kind == Kind.OPEN:
            path = fields.string()
            packet = execute()
            if packet[4] == Kind.HANDLE:
                self._paths[Fields(packet[9:]).string()] = path
            return [packet]
        if request.kind in (Kind.WRITE, Kind.CLOSE, Kind.FSETSTAT):
            path = self._paths.get(fields.string(), b"")
            self.events.append((Kind(request.kind).name, path))
        elif request.name == FSYNC:
            fields.string()
            self.events.append(("FSYNC", self._paths[fields.string()]))
            if self.refusal is not None:
                return [status(request.id, self.refusal)]
        elif request.name == RENAME or request.kind == Kind.RENAME:
            if request.name:
                fields.string()
            self.events.append(("RENAME", fields.string()))
        return [execute()]


@pytest.fixture
def script() -> type[Recording]:
    class OfThisTest(Recording):
        events: ClassVar[list[tuple[str, bytes]]] = []

    return OfThisTest


@pytest.fixture
def raw(tmp_path: Path, remote: Path, script: type[Recording]) -> Iterator[RawSftpServer]:
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        yield server


def of_one_file(events: list[tuple[str, bytes]], path: bytes) -> list[str]:
    """What was asked about one path, WRITEs in a row told as one."""
    told: list[str] = []
    for name, about in events:
        if about == path and not (name == "WRITE" and told[-1:] == ["WRITE"]):
            told.append(name)
    return told


def assert_synced_before_rename(events: list[tuple[str, bytes]], count: int) -> None:
    temporaries = [path for name, path in events if name == "RENAME"]
    assert len(temporaries) == count
    for path in temporaries:
        assert of_one_file(events, path) == ["WRITE", "FSETSTAT", "FSYNC", "CLOSE", "RENAME"]


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["one request", "many requests"])
def test_a_file_is_synced_behind_the_last_write_and_before_the_rename(
    runner: Runner, raw: RawSftpServer, script: type[Recording], remote: Path, size: int
) -> None:
    (runner.folder / "file").write_bytes(os.urandom(size))
    outcome = runner.play([step(raw, upload("file", "copy", **DURABLE))])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    assert_synced_before_rename(script.events, 1)
    assert (remote / "copy").read_bytes() == (runner.folder / "file").read_bytes()


def test_of_several_channels_one_syncs_when_all_writes_are_acknowledged(
    runner: Runner, raw: RawSftpServer, script: type[Recording], remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_upload, "ROUND_TRIP_PER_CHANNEL_SECONDS", 0.000001)
    monkeypatch.setattr(batch_upload, "MANY_CHANNELS_BYTES", 1)
    content = os.urandom(5_000_000)
    (runner.folder / "file").write_bytes(content)
    outcome = runner.play([step(raw, upload("file", "copy", channels=6, **DURABLE))])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    assert outcome.step["result"]["verified"] == "readback"
    names = [name for name, _ in script.events]
    temporary = next(path for name, path in script.events if name == "RENAME")
    of_temporary = [name for name, path in script.events if path == temporary]
    # A handle of each channel, one to read it back, and one request to sync.
    assert of_temporary.count("CLOSE") == batch_upload.MAX_CHANNELS + 1
    assert of_temporary.count("FSYNC") == 1
    last_write = max(index for index, name in enumerate(names) if name == "WRITE")
    assert last_write < names.index("FSYNC") < names.index("RENAME")
    assert (remote / "copy").read_bytes() == content


def test_a_batch_waits_once(
    runner: Runner, raw: RawSftpServer, script: type[Recording], remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_files(runner.folder / "source", 60)
    outcome = runner.play([step(raw, tree_up(source, Path("tree"), **DURABLE))])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    assert outcome.step["result"]["warnings"] == []
    assert_synced_before_rename(script.events, 60)
    # Requests to sync go out while others are under way: none is waited for before the next file is begun.
    names = [name for name, _ in script.events]
    assert names.index("RENAME") > names.index("FSYNC") + 1
    # Each folder once, behind everything that happened in it.
    last_rename = max(index for index, name in enumerate(names) if name == "RENAME")
    folders = [path for name, path in script.events[last_rename:] if name == "FSYNC"]
    assert {b"tree", b"tree/0", b"tree/1", b"tree/2"} <= set(folders)
    assert len(folders) == len(set(folders))
    assert snapshot(remote / "tree") == snapshot(source)


def make_files(folder: Path, count: int, size: int = 100) -> Path:
    for number in range(count):
        path = folder / str(number % 3) / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return folder


def test_without_it_nothing_is_synced_and_nothing_said(
    runner: Runner, raw: RawSftpServer, script: type[Recording]
) -> None:
    source = make_files(runner.folder / "source", 5)
    (runner.folder / "file").write_text("content")
    outcome = runner.play([step(raw, upload("file", "copy")), step(raw, tree_up(source, Path("tree")))])

    assert outcome.exit_code == 0, outcome.output
    assert "FSYNC" not in [name for name, _ in script.events]
    assert all("durable" not in one["result"] for one in outcome.report["steps"])


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_server_that_cannot_is_told_of_once_and_the_copy_made(
    runner: Runner, tmp_path: Path, remote: Path, script: type[Recording], is_announced: bool
) -> None:
    source = make_files(runner.folder / "source", 20)
    (runner.folder / "file").write_text("content")
    script.refusal = OP_UNSUPPORTED
    if not is_announced:
        script.version = lambda self: [version_packet(3, (RENAME, b"1"))]  # type: ignore[method-assign]
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as raw:
        outcome = runner.play(
            [step(raw, upload("file", "copy", **DURABLE)), step(raw, tree_up(source, Path("tree"), **DURABLE))]
        )

    assert outcome.exit_code == 0, outcome.output
    for one in outcome.report["steps"]:
        assert one["result"]["durable"] is False
        assert [warning.partition(":")[0] for warning in one["result"]["warnings"]] == [
            "not synced to disk before it was published"
        ]
    assert (remote / "copy").read_text() == "content"
    assert snapshot(remote / "tree") == snapshot(source)


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("is_tree", [False, True], ids=["file", "tree"])
def test_a_disk_that_does_not_take_it_fails_the_copy(
    runner: Runner, raw: RawSftpServer, script: type[Recording], remote: Path, is_tree: bool, size: int
) -> None:
    source = make_files(runner.folder / "source", 1, size) / "0"
    (remote / "tree").mkdir()
    (remote / "tree/file-0").write_text("older")
    script.refusal = FAILURE
    mode = tree_up(source, Path("tree"), **DURABLE)
    if not is_tree:
        mode = upload(source / "file-0", "tree/file-0", **DURABLE)
    outcome = runner.play([step(raw, mode)])

    assert outcome.exit_code == 2, outcome.output
    assert "cannot sync to disk" in outcome.step["error"]["message"]
    assert snapshot(remote) == {"tree": None, "tree/file-0": b"older"}


class FolderlessSync(FileServer):
    """Syncs files, and opens no folder like a file."""

    synced: ClassVar[list[str]]

    def fsync(self, file_obj: object) -> None:
        self.synced.append(str(getattr(file_obj, "name", "")))
        super().fsync(file_obj)


def test_a_folder_that_cannot_be_synced_is_a_warning(runner: Runner, tmp_path: Path, remote: Path) -> None:
    FolderlessSync.synced = []
    source = make_files(runner.folder / "source", 10)
    (runner.folder / "file").write_text("content")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=FolderlessSync) as server:
        outcome = runner.play(
            [step(server, upload("file", "copy", **DURABLE)), step(server, tree_up(source, Path("tree"), **DURABLE))]
        )

    assert outcome.exit_code == 0, outcome.output
    for one in outcome.report["steps"]:
        assert one["result"]["durable"] is True
        assert len(one["result"]["warnings"]) == 1
        assert "not the folder" in one["result"]["warnings"][0]
    assert len(FolderlessSync.synced) == 11


def test_openssh_syncs_files_and_folders(runner: Runner, sshd: Endpoint, remote: Path) -> None:
    source = make_files(runner.folder / "source", 30)
    (runner.folder / "file").write_text("content")
    outcome = runner.play(
        [
            step(sshd, upload("file", remote / "new/folder/copy", **DURABLE)),
            step(sshd, tree_up(source, remote / "tree", **DURABLE)),
            step(sshd, tree_up(source, remote / "tree", **DURABLE)),
        ]
    )

    assert outcome.exit_code == 0, outcome.output
    assert [one["result"]["durable"] for one in outcome.report["steps"]] == [True, True, None]
    assert [one["result"]["warnings"] for one in outcome.report["steps"]] == [[], [], []]
    assert snapshot(remote / "tree") == snapshot(source)


# --- downloads ---


class Disk:
    """What this process syncs and renames: (name of the call, path, whether that is a folder), in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        self.threads: set[str] = set()
        self.delay_seconds = 0.0
        self.error: int | None = None
        self.under_way = self.most_under_way = 0
        self._lock = threading.Lock()
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        if self.error is not None and kind == "file":
            raise OSError(self.error, os.strerror(self.error))
        time.sleep(self.delay_seconds)
        self._fsync(fd)
        with self._lock:
            self.under_way -= 1
            self.threads.add(threading.current_thread().name)
            self.events.append((kind, path))

    def replace(self, source: str, destination: str, **options: Any) -> None:
        self._replace(source, destination, **options)
        if "report.json" in str(destination):
            return
        with self._lock:
            self.events.append(("rename", str(source)))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_a_download_is_synced_and_then_its_folder(
    runner: Runner, sshd: Endpoint, remote: Path, disk: Disk, connector_type: str
) -> None:
    (remote / "file").write_bytes(b"x" * 100_000)
    mode = download(remote / "file", runner.folder / "new/folder/copy", **DURABLE)
    outcome = runner.play([step(sshd, mode, connector_type=connector_type)])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    folder = runner.folder / "new/folder"
    (_, temporary), (_, renamed), *folders = disk.events
    assert [name for name, _ in disk.events[:3]] == ["file", "rename", "folder"]
    assert os.path.basename(temporary) == renamed
    # The new folders have to be found again, too.
    assert folders == [("folder", str(path)) for path in (folder, folder.parent, runner.folder)]


def test_the_files_of_a_folder_are_synced_side_by_side_and_each_folder_once(
    runner: Runner, sshd: Endpoint, remote: Path, disk: Disk
) -> None:
    source = make_files(remote / "source", 60)
    disk.delay_seconds = 0.05
    started = time.monotonic()
    outcome = runner.play([step(sshd, tree_down(source, runner.folder / "tree", **DURABLE))])
    seconds = time.monotonic() - started

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    assert snapshot(runner.folder / "tree") == snapshot(source)
    synced = [os.path.basename(path) for kind, path in disk.events if kind == "file"]
    assert len(synced) == len(set(synced)) == 60
    for name in synced:
        assert disk.events.index(("rename", name)) > next(
            index for index, (kind, path) in enumerate(disk.events) if kind == "file" and path.endswith(name)
        )
    # Neither the network nor one file waits for another file's disk.
    assert disk.most_under_way > 4
    assert not any("resolve" in name or "Thread-" in name for name in disk.threads)
    assert seconds < 60 * disk.delay_seconds + 2
    last_rename = max(index for index, (kind, _) in enumerate(disk.events) if kind == "rename")
    folders = [path for kind, path in disk.events[last_rename:] if kind == "folder"]
    expected = [runner.folder / "tree", *(runner.folder / "tree" / str(number) for number in range(3)), runner.folder]
    assert {str(path) for path in expected} <= set(folders)
    assert len(folders) == len(set(folders))


@pytest.mark.parametrize("is_tree", [False, True], ids=["file", "tree"])
def test_a_local_disk_that_does_not_take_it_fails_the_copy(
    runner: Runner, sshd: Endpoint, remote: Path, disk: Disk, is_tree: bool
) -> None:
    source = make_files(remote / "source", 3)
    local = runner.folder / "tree"
    make_files(local, 3)
    before = snapshot(local)
    disk.error = errno.EIO
    mode = tree_down(source, local, compare="always", **DURABLE)
    if not is_tree:
        mode = download(source / "0/file-0", local / "0/file-0", compare="always", **DURABLE)
    outcome = runner.play([step(sshd, mode)])

    assert outcome.exit_code == 2, outcome.output
    assert "Input/output error" in outcome.step["error"]["message"]
    assert snapshot(local) == before


def test_a_local_file_system_that_cannot_sync_is_a_warning(
    runner: Runner, sshd: Endpoint, remote: Path, disk: Disk
) -> None:
    source = make_files(remote / "source", 3)
    disk.error = errno.EINVAL
    outcome = runner.play(
        [
            step(sshd, tree_down(source, runner.folder / "tree", **DURABLE)),
            step(sshd, download(source / "0/file-0", runner.folder / "copy", **DURABLE)),
        ]
    )

    assert outcome.exit_code == 0, outcome.output
    for one in outcome.report["steps"]:
        assert one["result"]["durable"] is False
        assert len(one["result"]["warnings"]) == 1
    assert snapshot(runner.folder / "tree") == snapshot(source)


def test_a_slow_disk_is_no_silence_of_the_server(runner: Runner, sshd: Endpoint, remote: Path, disk: Disk) -> None:
    source = make_files(remote / "source", 2)
    disk.delay_seconds = 1.6
    outcome = runner.play(
        [step(sshd, tree_down(source, runner.folder / "tree", **DURABLE), stall_timeout=1, keepalive_interval=0)]
    )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True


# --- SCP ---


def test_scp_syncs_by_the_shell(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """A `sync` of the test's own tells what it was asked for."""
    (runner.folder / "file").write_text("content")
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    sync = programs / "sync"
    sync.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "sync (GNU coreutils) 9.1"; exit; fi\n'
        f'for path; do test -d "$path" && echo "folder $path $(ls "$path")" || echo "file $path"; done >> {log}\n'
    )
    sync.chmod(0o755)
    config = (f"SetEnv PATH={programs}:{os.environ['PATH']}",)
    with OpenSSHServer(tmp_path / "server", sftp=False, extra_config=config) as server:
        outcome = runner.play(
            [step(server, upload("file", remote / "copy", **DURABLE), connector_type="SCP")],
        )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    assert outcome.step["result"]["warnings"] == []
    file, folder = log.read_text().splitlines()
    assert file.startswith(f"file {remote}/.copy.runner-")
    assert folder == f"folder {remote} copy"


@pytest.mark.parametrize("answer", ["sync: BusyBox v1.36", ""])
def test_another_sync_is_not_trusted(runner: Runner, tmp_path: Path, remote: Path, answer: str) -> None:
    (runner.folder / "file").write_text("content")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sync").write_text(f'#!/bin/sh\necho "{answer}"\n')
    (programs / "sync").chmod(0o755)
    config = (f"SetEnv PATH={programs}:{os.environ['PATH']}",)
    with OpenSSHServer(tmp_path / "server", sftp=False, extra_config=config) as server:
        outcome = runner.play([step(server, upload("file", remote / "copy", **DURABLE), connector_type="SCP")])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is False
    assert len(outcome.step["result"]["warnings"]) == 1
    assert (remote / "copy").read_text() == "content"


def test_scp_without_a_shell_says_that_nothing_is_synced(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    outcome = runner.play([step(asyncssh_server, upload("file", remote / "copy", **DURABLE), connector_type="SCP")])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is False
    assert any("not synced" in warning for warning in outcome.step["result"]["warnings"])
    assert (remote / "copy").read_text() == "content"


# --- what goes with it ---


@pytest.mark.parametrize("is_upload", [True, False])
def test_large_files_of_a_folder_too(
    runner: Runner, sshd: Endpoint, remote: Path, is_upload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.transfer.tree.walk.RESUME_FROM_BYTES", 50_000)
    here, there = runner.folder / "here", remote / "there"
    make_files(here if is_upload else there, 3, 60_000)
    mode = tree_up(here, there, **DURABLE) if is_upload else tree_down(there, here, **DURABLE)
    outcome = runner.play([step(sshd, mode)])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is True
    assert snapshot(here) == snapshot(there)


def test_check_says_nothing_about_it(runner: Runner, raw: RawSftpServer, script: type[Recording]) -> None:
    (runner.folder / "file").write_text("content")
    outcome = runner.play([step(raw, upload("file", "copy", **DURABLE))], "--check")

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["durable"] is None
    assert script.events == []


def test_what_is_written_in_place_is_synced_too(
    runner: Runner, raw: RawSftpServer, script: type[Recording], remote: Path
) -> None:
    source = make_files(runner.folder / "source", 3)
    (runner.folder / "file").write_text("content")
    outcome = runner.play(
        [
            step(raw, upload("file", "copy", atomic=False, **DURABLE)),
            step(raw, tree_up(source, Path("tree"), atomic=False, **DURABLE)),
        ]
    )

    assert outcome.exit_code == 0, outcome.output
    assert [one["result"]["durable"] for one in outcome.report["steps"]] == [True, True]
    for path in (b"copy", b"tree/0/file-0"):
        told = of_one_file(script.events, path)
        assert told.index("WRITE") < told.index("FSYNC") < told.index("CLOSE")
