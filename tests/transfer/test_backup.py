"""backup: a file that is replaced stays, under a dated name; and is never missing where the server can help it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import asyncssh
import pytest

from runner.transfer import backup
from tests.conftest import Outcome, Runner, connection, download, snapshot, step, upload
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.servers.openssh import OpenSSHServer
from tests.transfer.trees import below, change_tree, make_tree, picture

DATED = re.compile(r"\.\d{4}-\d\d-\d\dT\d{6}Z(\.\d+)?~$")

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield server


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """All happens in one second."""

    class Frozen(backup.datetime):  # type: ignore[name-defined]
        @classmethod
        def now(cls, zone: Any = None) -> Any:
            return cls(2026, 11, 24, 12, 5, 1, tzinfo=zone)

    monkeypatch.setattr(backup, "datetime", Frozen)


class File:
    """A file to be copied, and its copy in a folder of its own."""

    def __init__(self, runner: Runner, server: Endpoint, *, is_upload: bool, **inputs: Any) -> None:
        self.runner, self.server, self.is_upload, self.inputs = runner, server, is_upload, inputs
        self.source, self.folder = runner.folder / "new.csv", runner.folder / "there"
        self.copy = self.folder / "report.csv"
        self.folder.mkdir()
        self.write(self.source, b"new", 1_600_000_000)
        self.write(self.copy, b"older", 1_500_000_000, 0o604)

    @staticmethod
    def write(path: Path, content: bytes, when: int, mode: int = 0o640) -> None:
        path.write_bytes(content)
        path.chmod(mode)
        os.utime(path, (when, when))

    def play(self, *arguments: str, **options: Any) -> Outcome:
        mode = (upload if self.is_upload else download)(self.source, self.copy, **{"backup": True, **options})
        return self.runner.play([step(self.server, mode, **self.inputs)], *arguments)

    @property
    def backups(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if DATED.search(path.name))


@both_ways
@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_the_old_file_is_kept_as_it_was_and_the_result_says_where(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool, connector_type: str
) -> None:
    file = File(runner, sshd, is_upload=is_upload, connector_type=connector_type)
    inode = file.copy.stat().st_ino
    before = picture(file.folder)

    foretold = file.play("--check")
    assert picture(file.folder) == before
    assert DATED.search(foretold.step["result"]["backup"])
    outcome = file.play()

    assert (outcome.exit_code, outcome.statuses) == (0, ["changed"]), outcome.output
    (kept,) = file.backups
    assert outcome.step["result"]["backup"] == str(kept)
    assert kept.name.startswith("report.csv.")
    assert f"replaced, the old one kept as {kept.name}" in outcome.stdout
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777, kept.stat().st_mtime) == (b"older", 0o604, 1_500_000_000)
    assert kept.stat().st_ino == inode
    assert file.copy.read_bytes() == b"new"
    assert outcome.step["result"]["atomic"] is True
    assert outcome.step["result"]["warnings"] == []

    again = file.play()
    assert (again.statuses, again.step["result"]["backup"]) == (["ok"], None)
    assert snapshot(file.folder) == {"report.csv": b"new", kept.name: b"older"}


@both_ways
def test_nothing_is_kept_where_nothing_is_replaced(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    file = File(runner, server, is_upload=is_upload)
    file.copy.unlink()

    assert file.play().step["result"]["backup"] is None
    file.copy.chmod(0o600)
    assert file.play().step["status"] == "changed"
    file.source.write_bytes(b"newer")
    assert file.play(backup=False).step["result"]["backup"] is None
    assert file.play(backup=True, if_exists="skip").step["status"] == "ok"
    assert snapshot(file.folder) == {"report.csv": b"newer"}


@both_ways
def test_several_backups_of_one_second_all_stay(
    runner: Runner, server: Endpoint, is_upload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(runner, server, is_upload=is_upload)

    freeze(monkeypatch)
    for number in range(4):
        file.write(file.source, b"%d" % number, 1_600_000_000 + number)
        assert file.play().exit_code == 0

    assert snapshot(file.folder) == {
        "report.csv": b"3",
        "report.csv.2026-11-24T120501Z~": b"older",
        "report.csv.2026-11-24T120501Z.1~": b"0",
        "report.csv.2026-11-24T120501Z.2~": b"1",
        "report.csv.2026-11-24T120501Z.3~": b"2",
    }


@both_ways
def test_the_longest_name_has_a_backup_too(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    file = File(runner, sshd, is_upload=is_upload)
    file.copy = file.copy.rename(file.folder / ("ü" * 127))

    assert file.play().exit_code == 0
    assert [path.read_bytes() for path in file.backups] == [b"older"]


@both_ways
def test_a_link_that_is_replaced_is_kept_as_a_link(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    file = File(runner, sshd, is_upload=is_upload)
    file.copy.rename(file.folder / "target")
    file.copy.symlink_to("target")

    assert file.play().exit_code == 0

    (kept,) = file.backups
    assert (os.readlink(kept), (file.folder / "target").read_bytes()) == ("target", b"older")
    assert not file.copy.is_symlink()


@pytest.mark.parametrize("server_kind", ["sshd", "asyncssh", "scp"])
@both_ways
def test_the_destination_is_there_at_every_moment(
    runner: Runner, request: pytest.FixtureRequest, tmp_path: Path, is_upload: bool, server_kind: str
) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as other:
        server = other if server_kind == "asyncssh" else request.getfixturevalue("sshd")
        file = File(runner, server, is_upload=is_upload, connector_type="SCP" if server_kind == "scp" else "SFTP")
        is_over = threading.Event()
        missing = 0

        def watch() -> None:
            nonlocal missing
            while not is_over.is_set():
                missing += not os.path.exists(file.copy)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(2):
                file.write(file.source, b"%d" % number, 1_600_000_000 + number)
                assert file.play().exit_code == 0
        finally:
            is_over.set()
            watcher.join()

    assert missing == 0
    assert len(file.backups) == 2


class NoHardLinks(FileServer):
    """The extension is not there."""

    hidden_extensions: ClassVar[frozenset[bytes]] = frozenset([b"hardlink@openssh.com"])


class RefusedHardLinks(FileServer):
    """The extension is there, and the disk knows no hard links."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPFailure("Operation not permitted")


no_hard_links = pytest.mark.parametrize("factory", [NoHardLinks, RefusedHardLinks, misbehaving.PlainRenameOnly])


@no_hard_links
def test_without_hard_links_the_old_file_is_renamed_and_a_warning_says_so(
    runner: Runner, tmp_path: Path, factory: type[FileServer]
) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        file = File(runner, server, is_upload=True)
        outcome = file.play()
        result = outcome.step["result"]
        again = file.play()

    (kept,) = file.backups
    assert (outcome.exit_code, result["backup"], result["atomic"]) == (0, str(kept), False)
    assert "two steps" in result["warnings"][0]
    assert (kept.read_bytes(), kept.stat().st_mtime) == (b"older", 1_500_000_000)
    assert again.statuses == ["ok"]
    assert snapshot(file.folder) == {"report.csv": b"new", kept.name: b"older"}


@pytest.mark.parametrize("name", ["link", "rename"])
def test_a_local_disk_without_hard_links(
    runner: Runner, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """FAT says EPERM. And if the new file cannot be published then, the old one comes back."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    replace = os.replace

    def refuse_copies(*arguments: Any, **options: Any) -> None:
        # The report is published by a rename as well.
        (refuse if options else replace)(*arguments, **options)

    file = File(runner, sshd, is_upload=False)
    monkeypatch.setattr(os, "link", refuse)
    if name == "rename":
        monkeypatch.setattr(os, "replace", refuse_copies)
        outcome = file.play()
        assert outcome.step["error"]["type"] == "PermissionRefused"
        assert snapshot(file.folder) == {"report.csv": b"older"}
        return
    outcome = file.play()

    (kept,) = file.backups
    assert (outcome.step["result"]["backup"], outcome.step["result"]["atomic"]) == (str(kept), False)
    assert "two steps" in outcome.step["result"]["warnings"][0]
    assert snapshot(file.folder) == {"report.csv": b"new", kept.name: b"older"}


class RefusedPublishing(FileServer):
    """What is written cannot get its final name."""

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if oldpath.endswith((b".tmp", b".part")):
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        super().rename(oldpath, newpath)


class RefusedPublishingWithoutLinks(RefusedPublishing):
    hidden_extensions: ClassVar[frozenset[bytes]] = frozenset([b"hardlink@openssh.com"])


@pytest.mark.parametrize("factory", [RefusedPublishing, RefusedPublishingWithoutLinks])
@pytest.mark.parametrize("is_tree", [True, False])
def test_a_copy_that_fails_leaves_the_old_file_and_no_backup(
    runner: Runner, tmp_path: Path, factory: type[FileServer], is_tree: bool
) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        if is_tree:
            tree = Tree(runner, server, is_upload=True)
            (tree.source).mkdir()
            (tree.source / "report.csv").write_bytes(b"new")
            tree.destination.mkdir(parents=True)
            (tree.destination / "report.csv").write_bytes(b"older")
            outcome, folder = tree.play(), tree.destination
        else:
            file = File(runner, server, is_upload=True)
            outcome, folder = file.play(), file.folder

    assert outcome.exit_code == 2
    assert snapshot(folder) == {"report.csv": b"older"}


@both_ways
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_backup_and_in_place_exclude_each_other(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool, kind: str
) -> None:
    file = File(runner, sshd, is_upload=is_upload)
    copied: File | Tree = file if kind == "file" else Tree(runner, sshd, is_upload=is_upload)
    outcome = copied.play(atomic=False)

    assert outcome.exit_code == 3
    assert "'backup: true' cannot be kept with 'atomic: false'" in outcome.stderr
    assert snapshot(file.folder) == {"report.csv": b"older"}


def test_over_scp_without_a_shell_it_is_an_error(runner: Runner, tmp_path: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        file = File(runner, server, is_upload=True, connector_type="SCP")
        outcome = file.play()

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "ServerLacksFeature")
    assert "cannot be kept" in outcome.step["error"]["message"]
    assert snapshot(file.folder) == {"report.csv": b"older"}


def test_a_server_that_lets_nobody_look_cannot_keep_anything(runner: Runner, tmp_path: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=misbehaving.RefusedStat) as server:
        file = File(runner, server, is_upload=True)
        outcome = file.play(verify="size")

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "ServerLacksFeature")
    assert "'backup: true' cannot be kept" in outcome.step["error"]["message"]
    assert snapshot(file.folder) == {"report.csv": b"older"}


# --- folders ---------------------------------------------------------------------------------------------------------


class Tree:
    """A folder to be copied, and the folder that becomes its copy."""

    def __init__(self, runner: Runner, server: Endpoint, *, is_upload: bool) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        self.source, self.destination = runner.folder / "from here", runner.folder / "to/there"

    def play(self, *arguments: str, **options: Any) -> Outcome:
        mode = {
            "mode_name": f"copy_directory_{'from' if self.is_upload else 'to'}_engine",
            "source_directory_name": str(self.source),
            "destination_directory_name": str(self.destination),
            "backup": True,
            **options,
        }
        return self.runner.play([{**connection(self.server), "mode": mode}], *arguments)

    def play_well(self, *arguments: str, **options: Any) -> dict[str, Any]:
        outcome = self.play(*arguments, **options)
        assert outcome.exit_code == 0, outcome.output
        result: dict[str, Any] = {"status": outcome.step["status"], **outcome.step["result"]}
        return result

    def kept(self) -> dict[str, bytes]:
        """The content of what was kept, by the name it had."""
        paths = [path for path in self.destination.rglob("*") if DATED.search(path.name) and not path.is_symlink()]
        return {DATED.sub("", str(path.relative_to(self.destination))): path.read_bytes() for path in paths}


@both_ways
@pytest.mark.parametrize("seed", range(2))
def test_every_file_of_a_tree_that_is_replaced_is_kept(
    runner: Runner, server: Endpoint, is_upload: bool, seed: int
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make_tree(tree.source, f"kept {seed}", links=False)
    make_tree(tree.destination, f"kept {seed}", links=False)
    change_tree(tree.source, f"changes {seed}")
    (tree.source / "large").write_bytes(b"new" * 3_000_000)
    (tree.destination / "large").write_bytes(b"old")
    old, new = picture(tree.destination), picture(tree.source)
    replaced = {
        name: entry[3]
        for name, entry in old.items()
        if entry[0] == "file" and name in new and (entry[2], entry[3]) != (new[name][2], new[name][3])
    }
    assert "large" in replaced and len(replaced) > 1

    foretold = tree.play_well("--check")
    assert picture(tree.destination) == old
    result = tree.play_well()

    assert tree.kept() == replaced
    assert result["backups_total"] == foretold["backups_total"] == len(replaced)
    assert {DATED.sub("", os.path.relpath(path, tree.destination)) for path in result["backups"]} == replaced.keys()
    assert result["backup"] is None
    after = picture(tree.destination)
    assert {name: entry for name, entry in below(after).items() if name in new} == below(new)
    assert tree.play_well()["status"] == "ok"
    assert picture(tree.destination) == after


@both_ways
def test_delete_leaves_backups_alone_and_keeps_nothing_itself(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    for folder, names in ((tree.source, ["a", "b"]), (tree.destination, ["a", "gone", "old/a", "old/c"])):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{folder.name} {name}")
    earlier = "a.2020-01-01T000000Z~"
    (tree.destination / earlier).write_text("earlier")
    (tree.destination / "old" / earlier).write_text("earlier")

    assert tree.play_well(delete=True)["removed"] == 3
    assert tree.play_well(delete=True)["status"] == "ok"

    assert tree.kept() == {"a": b"there a", "old/a": b"earlier"} | {"a": tree.kept()["a"]}
    found = snapshot(tree.destination).keys()
    assert {name for name in found if not DATED.search(name)} == {"a", "b", "old"}
    assert {earlier, f"old/{earlier}"} < found
    # Without the option they are what the source lacks.
    assert tree.play_well(delete=True, backup=False)["removed"] == 4
    assert snapshot(tree.destination).keys() == {"a", "b"}


@both_ways
def test_a_file_that_a_link_replaces_is_kept(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    tree.source.mkdir()
    (tree.source / "link").symlink_to("elsewhere")
    (tree.source / "other").symlink_to("elsewhere")
    tree.destination.mkdir(parents=True)
    (tree.destination / "link").write_text("precious")
    (tree.destination / "other").symlink_to("somewhere")

    assert tree.play_well("--check")["backups_total"] == 1
    assert tree.play_well()["backups_total"] == 1
    assert tree.kept() == {"link": b"precious"}
    assert os.readlink(tree.destination / "link") == "elsewhere"
    assert tree.play_well()["status"] == "ok"


@no_hard_links
def test_a_tree_on_a_server_without_hard_links(runner: Runner, tmp_path: Path, factory: type[FileServer]) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        tree = Tree(runner, server, is_upload=True)
        for folder in (tree.source, tree.destination):
            folder.mkdir(parents=True)
            for number in range(20):
                (folder / f"{number}").write_text(f"{folder.name} {number}")
        assert tree.play_well()["backups_total"] == 20
        assert tree.play_well()["status"] == "ok"

    assert tree.kept() == {f"{number}": f"there {number}".encode() for number in range(20)}
    assert (tree.destination / "3").read_text() == "from here 3"


class Breaking(FileServer):
    """The connection breaks in the middle: at the 50th rename, or at the 50th read."""

    calls = 0

    def break_in_the_middle(self) -> None:
        """Count what is asked for."""
        self.calls += 1
        if self.calls == 50:
            self.connection.abort()

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        self.break_in_the_middle()
        super().posix_rename(oldpath, newpath)

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        self.break_in_the_middle()
        return cast(bytes, super().read(file_obj, offset, size))


@both_ways
def test_a_broken_line_loses_no_old_file(runner: Runner, tmp_path: Path, is_upload: bool) -> None:
    factory = misbehaving.fail_first_sessions(1, Breaking)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        tree = Tree(runner, server, is_upload=is_upload)
        for folder in (tree.source, tree.destination):
            folder.mkdir(parents=True)
            for number in range(200):
                (folder / f"{number}").write_text(f"{folder.name} {number}")
        broken = tree.play()
        old = {f"{number}": f"there {number}".encode() for number in range(200)}
        found = {**snapshot(tree.destination), **tree.kept()}
        for name, content in old.items():
            assert content in (found[name], (tree.destination / name).read_bytes())
        again = tree.play()

    assert (broken.exit_code, again.exit_code) == (4, 0), again.output
    assert tree.kept() == old
    assert {(tree.destination / name).read_bytes() for name in old} == {
        f"from here {number}".encode() for number in range(200)
    }


class TakenNames(FileServer):
    """Whatever is asked for is there; but the destination alone is."""

    hidden_extensions: ClassVar[frozenset[bytes]] = frozenset([b"hardlink@openssh.com"])

    def lstat(self, path: bytes) -> os.stat_result:
        return os.stat("/dev/null")


@pytest.mark.parametrize("is_tree", [True, False])
def test_a_server_on_which_every_name_is_taken_is_given_up(runner: Runner, tmp_path: Path, is_tree: bool) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=TakenNames) as server:
        tree = Tree(runner, server, is_upload=True)
        file = File(runner, server, is_upload=True)
        tree.source, tree.destination = runner.folder / "new", file.folder
        tree.source.mkdir()
        (tree.source / "report.csv").write_text("new")
        outcome = tree.play() if is_tree else file.play()

    assert outcome.exit_code == 2
    assert "no name is free" in outcome.step["error"]["message"]
    assert snapshot(file.folder) == {"report.csv": b"older"}


class HidesBackups(FileServer):
    """A listing that is older than what is there."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            if not str(entry.filename).endswith(("~", "~'")):
                yield entry


class HidesBackupsWithoutLinks(HidesBackups):
    hidden_extensions: ClassVar[frozenset[bytes]] = frozenset([b"hardlink@openssh.com"])


@pytest.mark.parametrize("factory", [HidesBackups, HidesBackupsWithoutLinks])
def test_a_name_that_was_taken_meanwhile_is_not_used(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: type[FileServer]
) -> None:
    freeze(monkeypatch)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        tree = Tree(runner, server, is_upload=True)
        for number in range(4):
            tree.source.mkdir(exist_ok=True)
            File.write(tree.source / "a", b"%d" % number, 1_600_000_000 + number)
            assert tree.play_well()["backups_total"] == min(number, 1)

    assert snapshot(tree.destination) == {
        "a": b"3",
        "a.2026-11-24T120501Z~": b"0",
        "a.2026-11-24T120501Z.1~": b"1",
        "a.2026-11-24T120501Z.2~": b"2",
    }
