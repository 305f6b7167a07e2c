"""list, stats, remove, rename, create_directory: what they do, a second play is ok, and --check changes nothing."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.transfer import remote_folders
from tests.conftest import Runner, connection, snapshot
from tests.patience import BUSY_SECONDS
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileServer
from tests.servers.latency import LatencyProxy
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import FaultProxy, Trigger
from tests.servers.raw_sftp import RawSftpServer
from tests.transfer.operations import Operation
from tests.transfer.trees import make_tree, picture

# --- list ------------------------------------------------------------------------------------------------------------


def expected_entries(folder: Path, shown: str, *, recursive: bool) -> list[dict[str, Any]]:
    """What the disk says of a folder, in words of its own."""
    found = []
    for path in folder.rglob("*") if recursive else folder.iterdir():
        status = path.lstat()
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
        # The report is JSON: names that are not UTF-8 come as escapes.
        entry: dict[str, Any] = {
            "path": f"{shown}/{path.relative_to(folder)}",
            "type": kind,
            "size_bytes": status.st_size if kind == "file" else None,
            "permissions": f"{status.st_mode & 0o777:04o}",
            "modified_at": _iso(int(status.st_mtime)),
        }
        if kind == "link":
            entry["target"] = os.readlink(path)
        found.append(entry)
    return sorted(found, key=lambda entry: os.fsencode(entry["path"]))


def _iso(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


@pytest.mark.parametrize("recursive", [True, False])
def test_a_listing_is_what_is_there(play: Operation, recursive: bool) -> None:
    folder = play.remote / "in box"
    make_tree(folder, "listed", entries=60)
    os.mkfifo(folder / "pipe")
    (folder / ".a.csv.runner-0123456789ab.tmp").write_text("left")
    os.utime(folder / "pipe", (0, 0))
    os.utime(folder / ".a.csv.runner-0123456789ab.tmp", (2**32 - 1, 2**32 - 1))
    before = picture(play.remote)

    for shown in ("in box", "./in box", str(folder)):
        status, result = play.well("list", path=shown, recursive=recursive)
        assert status == "ok"
        assert result == {"path": shown, "entries": expected_entries(folder, shown, recursive=recursive)}
    assert play.well("list", path="in box/", recursive=recursive)[1]["entries"] == expected_entries(
        folder, "in box", recursive=recursive
    )
    assert picture(play.remote) == before


def test_the_login_directory_and_an_empty_folder_are_listed(play: Operation) -> None:
    (play.remote / "empty").mkdir()

    outcome = play("list", path=".")
    assert [entry["path"] for entry in outcome.step["result"]["entries"]] == ["./empty"]
    assert outcome.step["message"] == "1 entry: 1 directory"
    assert play.well("list", path="empty") == ("ok", {"path": "empty", "entries": []})


def test_links_are_listed_not_followed_but_the_folder_s_own_is(play: Operation) -> None:
    (play.remote / "real/sub").mkdir(parents=True)
    (play.remote / "real/loop").symlink_to("..")
    (play.remote / "real/gone").symlink_to("nowhere")
    (play.remote / "link").symlink_to("real")

    _, result = play.well("list", path="link", recursive=True)

    assert [(entry["path"], entry["type"], entry.get("target")) for entry in result["entries"]] == [
        ("link/gone", "link", "nowhere"),
        ("link/loop", "link", ".."),
        ("link/sub", "directory", None),
    ]


def test_what_cannot_be_listed_is_an_error(play: Operation) -> None:
    (play.remote / "file").write_text("x")

    play.failed("SourceMissing", "'missing' does not exist", name="list", path="missing")
    play.failed("FileRefused", "is not a directory", "stats", name="list", path="file")


def test_verbose_output_shows_the_entries_and_escapes_them(play: Operation) -> None:
    folder = play.remote / "in"
    folder.mkdir()
    (folder / "re\x1b[31mport").write_text("12345")
    (folder / "re\x1b[31mport").chmod(0o640)
    os.utime(folder / "re\x1b[31mport", (1_500_000_000, 1_500_000_000))
    (folder / "b").symlink_to("a")

    output = play("list", "-v", path="in").stdout

    assert "0640         5 B  2017-07-14 02:40:00  in/re\\x1b[31mport" in output
    assert "in/b → a" in output
    assert "2 entries: 1 file, 1 link" in play("list", path="in").stdout


@pytest.mark.parametrize("name", [b"../escaped", b"a/b", b"nul\0byte"])
def test_a_hostile_name_fails_the_listing_and_the_removal(
    runner: Runner, tmp_path: Path, remote: Path, name: bytes
) -> None:
    (remote / "folder").mkdir()
    (remote / "escaped").write_text("precious")
    factory = partial(misbehaving.HostileListing, name=name)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        play = Operation(runner, server, remote)
        play.failed("TreeIncomplete", "cannot be that of a file", name="list", path="folder")
        play.failed("TreeIncomplete", "cannot be that of a file", name="remove", path="folder", recursive=True)

    assert (remote / "escaped").read_text() == "precious"


@pytest.mark.parametrize("name", ["list", "remove"])
def test_a_listing_without_an_end_is_given_up(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(remote_folders, "MAX_ENTRIES", 5_000)
    (remote / "folder").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.EndlessListing) as server:
        play = Operation(runner, server, remote)
        play.failed("FileRefused", "more than 5,000 entries", name=name, path="folder", recursive=True)


class EndlessDepth(FileServer):
    """Every folder has a folder in it, which is the same one."""

    def map_path(self, path: bytes) -> bytes:
        return os.fsencode(self.root) + b"/folder"

    def realpath(self, path: bytes) -> bytes:
        return path if path.startswith(b"/") else b"/home/" + path

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        yield asyncssh.SFTPName(b"deeper", "", asyncssh.SFTPAttrs(size=1, permissions=0o40755, atime=1, mtime=1))


@pytest.mark.parametrize("name", ["list", "remove"])
def test_a_depth_without_an_end_is_given_up(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(remote_folders, "MAX_NAME_CHARACTERS", 100_000)
    (remote / "folder").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=EndlessDepth) as server:
        play = Operation(runner, server, remote)
        play.failed("FileRefused", "their names are endless", name=name, path="folder", recursive=True)


class Unreadable(FileServer):
    """A folder called `closed` cannot be listed."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        if path.endswith(b"closed"):
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        async for entry in super().scandir(path):
            yield entry


def test_a_folder_that_cannot_be_listed_is_named(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "folder/closed").mkdir(parents=True)
    (remote / "folder/closed/a").write_text("x")
    (remote / "folder/open").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=Unreadable) as server:
        play = Operation(runner, server, remote)
        play.failed("TreeIncomplete", "folder/closed", "permission denied", name="list", path="folder", recursive=True)
        assert play.well("list", path="folder")[0] == "ok"
        outcome = play("remove", path="folder", recursive=True)

    assert outcome.exit_code == 2
    assert "1 of what is in 'folder' could not be removed: folder/closed" in outcome.step["error"]["message"]
    assert "1 were removed" in outcome.step["error"]["message"]
    assert snapshot(remote) == {"folder": None, "folder/closed": None, "folder/closed/a": b"x"}


def test_a_server_that_lists_names_only_is_asked_for_the_rest(runner: Runner, tmp_path: Path, remote: Path) -> None:
    folder = remote / "folder"
    make_tree(folder, "names only", links=False)
    with RawSftpServer(tmp_path / "server", root=remote) as server:
        play = Operation(runner, server, remote)
        _, result = play.well("list", path="folder", recursive=True)
        assert result["entries"] == expected_entries(folder, "folder", recursive=True)
        assert play.foretold("remove", path="folder", recursive=True)[0] == "changed"

    assert snapshot(remote) == {}


# --- stats -----------------------------------------------------------------------------------------------------------


def test_stats_tells_of_one_path_or_that_there_is_none(play: Operation) -> None:
    (play.remote / "file").write_bytes(b"12345")
    (play.remote / "file").chmod(0o604)
    os.utime(play.remote / "file", (1_500_000_000, 1_500_000_000))
    (play.remote / "link").symlink_to("file")
    (play.remote / "folder").mkdir(mode=0o700)
    os.utime(play.remote / "folder", (0, 0))
    file = {"type": "file", "size_bytes": 5, "permissions": "0604", "modified_at": "2017-07-14T02:40:00+00:00"}

    assert play.well("stats", path="file") == ("ok", {"exists": True, "path": "file", **file})
    _, link = play.well("stats", path="link")
    assert (link["type"], link["target"], link["size_bytes"]) == ("link", "file", None)
    _, folder = play.well("stats", path="folder/")
    assert (folder["type"], folder["permissions"], folder["size_bytes"]) == ("directory", "0700", None)
    assert folder["modified_at"] == "1970-01-01T00:00:00+00:00"
    for nothing in ("missing", "missing/deeper", "file/below"):
        assert play.well("stats", path=nothing) == ("ok", {"exists": False, "path": nothing})
    assert play.well("stats", path="/")[1]["type"] == "directory"


def test_a_server_that_does_not_tell_is_no_missing_file(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "file").write_text("x")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.RefusedStat) as server:
        play = Operation(runner, server, remote)
        play.failed("PermissionRefused", "does not tell what is at", name="stats", path="file")
        play.failed("PermissionRefused", "does not tell what is at", name="remove", path="file")


# --- remove ----------------------------------------------------------------------------------------------------------


def test_a_file_a_link_and_an_empty_folder_are_removed(play: Operation) -> None:
    (play.remote / "file").write_text("x")
    (play.remote / "kept").mkdir()
    (play.remote / "kept/inner").write_text("kept")
    (play.remote / "link").symlink_to("kept")
    (play.remote / "empty").mkdir()
    (play.remote / "dangling").symlink_to("nowhere")

    for path in ("file", "link", "empty", "dangling"):
        assert play.foretold("remove", path=path)[0] == "changed"
    assert snapshot(play.remote) == {"kept": None, "kept/inner": b"kept"}


def test_a_link_to_a_folder_goes_alone_even_when_recursive(play: Operation) -> None:
    (play.remote / "kept").mkdir()
    (play.remote / "kept/inner").write_text("kept")
    (play.remote / "link").symlink_to("kept")

    assert play.foretold("remove", path="link", recursive=True)[0] == "changed"
    assert snapshot(play.remote) == {"kept": None, "kept/inner": b"kept"}


def test_missing_is_ok_unless_it_may_not_be(play: Operation) -> None:
    assert play.well("remove", path="missing") == ("ok", {"path": "missing", "removed": 0, "warnings": []})
    assert play.well("remove", path="missing/deeper", recursive=True)[0] == "ok"
    play.failed("SourceMissing", "'missing' does not exist", name="remove", path="missing", missing_ok=False)


def test_a_folder_with_something_in_it_goes_only_if_that_is_asked_for(play: Operation) -> None:
    (play.remote / "other").mkdir()
    (play.remote / "other/precious").write_text("precious")
    folder = play.remote / "folder"
    make_tree(folder, "removed", entries=80)
    (folder / "leads out").symlink_to("../other")
    (folder / "leads far out").symlink_to("/")
    os.mkfifo(folder / "pipe")
    count = len(picture(folder))

    play.failed("FileRefused", "is not empty", "recursive: true", name="remove", path="folder")
    status, result = play.foretold("remove", path="folder", recursive=True)

    assert (status, result["removed"]) == ("changed", count)
    assert snapshot(play.remote) == {"other": None, "other/precious": b"precious"}


@pytest.mark.parametrize("recursive", [True, False])
def test_the_login_directory_and_what_is_above_it_are_never_removed(play: Operation, recursive: bool) -> None:
    (play.remote / "precious").write_text("precious")
    (play.remote.parent / "elsewhere").symlink_to(play.remote.parent)
    (play.remote / "to home").symlink_to("..")

    above = play.remote.parent
    for path, words in (
        (str(play.remote), "is the login directory"),
        (f"../{play.remote.name}", "is the login directory"),
        (f"{above}/elsewhere/{play.remote.name}", "is the login directory"),
        (f"to home/{play.remote.name}", "is the login directory"),
        (str(above), "is above the login directory"),
        (f"../../{above.name}", "is above the login directory"),
    ):
        play.failed("SafetyLimitHeld", words, exit_code=6, name="remove", path=path, recursive=recursive)

    # The link itself leads there, and is only a link.
    assert play.well("remove", path="to home", recursive=recursive)[0] == "changed"
    assert snapshot(play.remote) == {"precious": b"precious"}


def test_the_root_is_never_removed_whatever_it_is_called(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """Where the login directory is the root, everything else may go."""
    (remote / "folder").mkdir()
    (remote / "folder/a").write_text("x")

    class TwoNames(FileServer):
        def reverse_map_path(self, path: bytes) -> bytes:
            found = super().reverse_map_path(path)
            return b"/" if found == b"/alias" else found

    (remote / "alias").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, chroot=True, sftp_factory=TwoNames) as server:
        play = Operation(runner, server, remote)
        play.failed("SafetyLimitHeld", "is the root", exit_code=6, name="remove", path="alias", recursive=True)
        assert play.foretold("remove", path="folder", recursive=True)[1]["removed"] == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "'path' must not be empty"),
        ("/", "'path' must end in a name, not in '/', '.' or '..': '/'"),
        ("//", "'path' must end in a name"),
        (".", "'path' must end in a name"),
        ("./", "'path' must end in a name"),
        ("..", "'path' must end in a name"),
        ("../..", "'path' must end in a name"),
        ("a/..", "'path' must end in a name"),
        ("a/../", "'path' must end in a name"),
        ("/a/.", "'path' must end in a name"),
        ("/data/", "'path' of a removal has an empty part: '/data/'"),
        ("/data//cache", "'path' of a removal has an empty part"),
        ("~", "'~' is not expanded in a remote path"),
        ("~/data", "'~' is not expanded in a remote path"),
        ("a\0b", "'path' contains a character that no path can contain"),
    ],
)
@pytest.mark.parametrize("is_template", [True, False])
def test_what_must_not_be_removed_is_told_before_anything_is_contacted(
    runner: Runner, sshd: OpenSSHServer, path: str, message: str, is_template: bool
) -> None:
    if is_template and "\0" in path:
        return
    written = "{{ folder }}" if is_template else path
    mode = {"mode_name": "remove", "path": written, "recursive": True}
    outcome = runner.play([{**connection(sshd), "host": "unreachable.invalid", "vars": {"folder": path}, "mode": mode}])

    assert outcome.exit_code == 3, outcome.output
    assert message in outcome.stderr
    assert "play.yaml:19:15: " in outcome.stderr


def test_an_empty_variable_at_the_end_removes_nothing(play: Operation) -> None:
    (play.remote / "data/today").mkdir(parents=True)
    # Were it not refused, it would be the root of this machine.
    step = {**connection(play.server, host="unreachable.invalid"), "vars": {"day": ""}}

    for written in ("data/{{ day }}", "data/{{ day }}/today", "{{ day }}", "{{ day }}/"):
        mode = {"mode_name": "remove", "path": written, "recursive": True}
        assert play.runner.play([{**step, "mode": mode}]).exit_code == 3
    assert snapshot(play.remote) == {"data": None, "data/today": None}


class SwappingServer(FileServer):
    """As soon as a folder called `victim` has been seen, somebody puts a link to `precious` into its place."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield entry
        victim = self.root / "folder/victim"
        if path.endswith(b"folder") and not victim.is_symlink():
            victim.rename(self.root / "moved away")
            victim.symlink_to(self.root / "precious")


class LateSwappingServer(SwappingServer):
    """The same, when the folder itself has been listed: the names in it are the same."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in FileServer.scandir(self, path):
            yield entry
        if path.endswith(b"victim"):
            async for _ in super().scandir(b"folder"):
                pass


class SwappedAbove(FileServer):
    """A folder further up is swapped when the innermost has been listed."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield entry
        above = self.root / "folder/victim"
        if path.endswith(b"victim/deep") and not above.is_symlink():
            above.rename(self.root / "moved away")
            above.symlink_to(self.root / "precious")


class SwappingServerThatResolvesNothing(SwappingServer):
    """Where a path really leads it does not tell: it only tidies it up."""

    def realpath(self, path: bytes) -> bytes:
        return posixpath.normpath(posixpath.join(os.fsencode(self.root), path))


@pytest.mark.parametrize(
    "factory", [SwappingServer, LateSwappingServer, SwappedAbove, SwappingServerThatResolvesNothing]
)
def test_a_folder_swapped_for_a_link_is_not_followed(
    runner: Runner, tmp_path: Path, remote: Path, factory: type[FileServer]
) -> None:
    for folder in ("folder/victim", "precious"):
        (remote / folder / "deep").mkdir(parents=True)
        (remote / folder / "a").write_text(folder)
        (remote / folder / "deep/b").write_text(folder)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = Operation(runner, server, remote)("remove", path="folder", recursive=True)

    assert outcome.exit_code == 2, outcome.output
    assert "became another folder, or a link" in outcome.step["error"]["message"]
    assert snapshot(remote / "precious").keys() >= {"deep", "deep/b"}
    if factory is not SwappedAbove:
        assert snapshot(remote / "precious").keys() == {"a", "deep", "deep/b"}


class Stubborn(FileServer):
    """What is called `stays` cannot be removed."""

    def remove(self, path: bytes) -> None:
        if path.endswith(b"stays"):
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        super().remove(path)


def test_what_cannot_be_removed_is_told_and_the_rest_goes(runner: Runner, tmp_path: Path, remote: Path) -> None:
    for name in ("a/b/stays", "a/b/goes", "a/goes", "c/d/goes", "goes"):
        (remote / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (remote / "folder" / name).write_text(name)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=Stubborn) as server:
        outcome = Operation(runner, server, remote)("remove", path="folder", recursive=True)

    error = outcome.step["error"]
    assert (outcome.exit_code, error["type"]) == (2, "TreeIncomplete")
    assert "1 of what is in 'folder' could not be removed: folder/a/b/stays" in error["message"]
    assert "permission denied" in error["message"]
    assert "6 were removed" in error["message"]
    assert snapshot(remote).keys() == {"folder", "folder/a", "folder/a/b", "folder/a/b/stays"}


def count_when_settled(server: OpenSSHServer, folder: Path) -> int:
    """How much is in a folder once the server has carried out what it was still asked for when the line broke."""
    server.wait_until_idle()
    return len(snapshot(folder))


def test_a_broken_line_in_the_middle_of_a_removal_is_finished_by_the_next_play(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    folder = remote / "folder"
    for number in range(2_000):
        (folder / f"{number % 20}").mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 20}/{number}").write_text("x")
    # More than is ever under way without an answer: something has been removed by then.
    with FaultProxy(sshd.host, sshd.port, Trigger("up", 100_000, sshd.kill_sessions), faulty_connections=1) as proxy:
        mode = {"mode_name": "remove", "path": str(folder), "recursive": True}
        step = {**connection(sshd), "host": proxy.host, "port": proxy.port, "mode": mode}
        broken = runner.play([step])
        left = count_when_settled(sshd, remote)
        again = runner.play([step])

    assert broken.exit_code == 4, broken.output
    assert 0 < left < 2_020
    assert (again.exit_code, again.step["result"]["removed"]) == (0, left)
    assert snapshot(remote) == {}


def test_many_files_do_not_cost_as_many_round_trips(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    """Over a line with a round trip of 50 ms, 300 files one after the other would take 15 s."""
    folder = remote / "folder"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}").touch()
    with LatencyProxy(sshd.host, sshd.port, round_trip_seconds=0.05) as proxy:
        mode = {"mode_name": "remove", "path": str(folder), "recursive": True}
        outcome = runner.play([{**connection(sshd, host=proxy.host, port=proxy.port), "mode": mode}])

    assert outcome.step["result"]["removed"] == 301
    assert outcome.step["duration_seconds"] < 4 + BUSY_SECONDS


# --- rename ----------------------------------------------------------------------------------------------------------


def renaming(source: str, destination: str, **options: Any) -> dict[str, Any]:
    return {"source_path": source, "destination_path": destination, **options}


def test_a_file_a_link_and_a_folder_are_renamed(play: Operation) -> None:
    (play.remote / "file").write_text("content")
    (play.remote / "folder").mkdir()
    (play.remote / "folder/inner").write_text("inner")
    (play.remote / "link").symlink_to("file")
    (play.remote / "into").mkdir()

    for name in ("file", "folder", "link"):
        status, result = play.foretold("rename", **renaming(name, f"into/new {name}"))
        assert (status, result["source"], result["destination"]) == ("changed", name, f"into/new {name}")
    assert play.well("rename", **renaming("into/new folder/", "back/"))[0] == "changed"
    assert (play.remote / "into/new link").is_symlink()
    assert (play.remote / "back/inner").read_text() == "inner"


def test_what_was_renamed_already_is_ok_and_says_so(play: Operation) -> None:
    (play.remote / "b").write_text("content")

    outcome = play("rename", **renaming("a", "b"))

    assert (outcome.step["status"], outcome.step["message"]) == ("ok", "already renamed")
    play.failed("SourceMissing", "neither 'a' nor 'c' exists", name="rename", **renaming("a", "c"))


def test_what_is_there_is_replaced_only_if_that_is_asked_for(play: Operation) -> None:
    (play.remote / "new").write_text("new")
    (play.remote / "old").write_text("old")

    play.failed("DestinationExists", "both 'new' and 'old'", "overwrite: true", name="rename", **renaming("new", "old"))
    status, result = play.foretold("rename", **renaming("new", "old", overwrite=True))

    assert (status, result["atomic"], result["warnings"]) == ("changed", True, [])
    assert snapshot(play.remote) == {"old": b"new"}


def test_an_empty_folder_is_replaced_and_a_full_one_is_not(play: Operation) -> None:
    (play.remote / "new").mkdir()
    (play.remote / "new/a").write_text("new")
    (play.remote / "full").mkdir()
    (play.remote / "full/a").write_text("old")
    (play.remote / "empty").mkdir()
    (play.remote / "file").write_text("x")

    def refused(error_type: str, words: str, source: str, destination: str) -> None:
        play.failed(error_type, words, name="rename", **renaming(source, destination, overwrite=True))

    refused("FileRefused", "is not empty", "new", "full")
    refused("FileRefused", "is not a directory", "new", "file")
    refused("DestinationIsDirectory", "empty/file", "file", "empty")
    assert play.foretold("rename", **renaming("new", "empty", overwrite=True))[0] == "changed"
    assert snapshot(play.remote / "empty") == {"a": b"new"}


def test_a_folder_that_is_missing_is_named(play: Operation) -> None:
    (play.remote / "a").write_text("x")

    (play.remote / "file").write_text("x")
    for arguments in ["--check"], []:
        outcome = play("rename", *arguments, **renaming("a", "none/a"))
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "FileRefused")
        assert "'none', where 'none/a' shall be, does not exist" in outcome.step["error"]["message"]
        assert "create_directory" in outcome.step["error"]["hint"]
    play.failed(
        "FileRefused", "'file', where 'file/a' shall be, is not a directory", name="rename", **renaming("a", "file/a")
    )


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("a", "a", "'destination_path' is the path itself"),
        ("a", "./a/", "'destination_path' is the path itself"),
        ("a", "a/b", "'destination_path' is inside of what is renamed"),
        ("/", "a", "'source_path' must end in a name"),
        ("..", "a", "'source_path' must end in a name"),
        ("a", ".", "'destination_path' must end in a name"),
        ("a", "~/b", "'~' is not expanded"),
        ("a", "", "'destination_path' must not be empty"),
    ],
)
def test_a_rename_that_makes_no_sense_is_told_before(
    runner: Runner, sshd: OpenSSHServer, source: str, destination: str, message: str
) -> None:
    outcome = runner.play([{**connection(sshd), "mode": {"mode_name": "rename", **renaming(source, destination)}}])

    assert outcome.exit_code == 3
    assert message in outcome.stderr


def test_without_posix_rename_replacing_takes_two_steps_and_says_so(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    (remote / "new").write_text("new")
    (remote / "old").write_text("old")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.PlainRenameOnly) as server:
        play = Operation(runner, server, remote)
        _, result = play.well("rename", **renaming("new", "old", overwrite=True))

    assert result["atomic"] is False
    assert "two steps" in result["warnings"][0]
    assert snapshot(remote) == {"old": b"new"}


def test_a_server_that_renames_nothing_says_so(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "a").write_text("a")
    (remote / "b").write_text("b")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.RefusedRename) as server:
        play = Operation(runner, server, remote)
        new = play("rename", **renaming("a", "c"))
        over = play("rename", **renaming("a", "b", overwrite=True))

    assert new.step["error"]["type"] == "PermissionRefused"
    for outcome in (new, over):
        assert outcome.exit_code == 2
        assert "atomic" not in outcome.step["error"]["hint"]
    assert snapshot(remote) == {"a": b"a", "b": b"b"}


def test_two_names_of_one_file_are_no_success(play: Operation) -> None:
    (play.remote / "a").write_text("x")
    os.link(play.remote / "a", play.remote / "b")

    outcome = play("rename", **renaming("a", "b", overwrite=True))

    assert outcome.step["error"]["type"] == "VerificationFailed"
    assert "hard links" in outcome.step["error"]["hint"]
    assert snapshot(play.remote).keys() == {"a", "b"}


# --- create_directory ------------------------------------------------------------------------------------------------


def test_a_folder_is_created_with_those_above_it(play: Operation) -> None:
    status, result = play.foretold("create_directory", path="a/b/c/")

    assert (status, result["created"]) == ("changed", ["a", "a/b", "a/b/c"])
    assert snapshot(play.remote) == {"a": None, "a/b": None, "a/b/c": None}
    full = play.remote / "a/d"
    assert play.foretold("create_directory", path=full)[1]["created"] == [str(full)]


def test_permissions_are_those_asked_for_also_of_a_folder_that_is_there(play: Operation) -> None:
    for permissions in ("0777", "0700", "0o750"):
        status, _ = play.foretold("create_directory", path="a/b", permissions=permissions)
        assert status == "changed"
        # What everybody may write to has the sticky bit, and a folder keeps what it has.
        mode = int(permissions.removeprefix("0o"), 8) | 0o1000
        assert (play.remote / "a/b").stat().st_mode & 0o7777 == mode
    assert play.well("create_directory", path="a/b")[0] == "ok"


def test_a_new_folder_is_never_more_open_than_asked_for(runner: Runner, tmp_path: Path, remote: Path) -> None:
    seen: list[int] = []

    class Watched(FileServer):
        def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
            super().mkdir(path, attrs)
            seen.append(Path(os.fsdecode(self.map_path(path))).stat().st_mode & 0o777)

    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=Watched) as server:
        Operation(runner, server, remote).well("create_directory", path="private", permissions="0700")

    assert seen == [0o700]


def test_what_is_in_the_way_of_a_folder_is_an_error(play: Operation) -> None:
    (play.remote / "file").write_text("x")
    (play.remote / "dangling").symlink_to("nowhere")
    (play.remote / "folder").mkdir()
    (play.remote / "link").symlink_to("folder")

    play.failed("FileRefused", "is there already and no folder", name="create_directory", path="file")
    play.failed("FileRefused", "leads nowhere", name="create_directory", path="dangling")
    play.failed("FileRefused", "is not a directory", name="create_directory", path="file/b", parents=False)
    without = play("create_directory", path="a/b", parents=False)
    assert "parents: true" in without.step["error"]["hint"]
    for outcome in (
        play("create_directory", path="file/b"),
        play("create_directory", "--check", path="file/b"),
        play("create_directory", "--check", path="a/b", parents=False),
        without,
    ):
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "FileRefused")
    assert play.well("create_directory", path="link")[0] == "ok"
    for there in ("/", ".", str(play.remote)):
        assert play.well("create_directory", path=there)[0] == "ok"
    assert play.foretold("create_directory", path="b", parents=False)[0] == "changed"


def test_a_folder_whose_permissions_are_refused_goes_again(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "old").mkdir(mode=0o700)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.RefusedSetstat) as server:
        play = Operation(runner, server, remote)
        for path in ("a/b", "old"):
            # More than the umask leaves of it, so that they must be set.
            outcome = play("create_directory", path=path, permissions="0770")
            assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "PermissionRefused")
        assert play.well("create_directory", path="c")[0] == "changed"

    assert snapshot(remote).keys() == {"old", "c"}


def test_unquoted_permissions_are_explained(runner: Runner, sshd: OpenSSHServer) -> None:
    mode = {"mode_name": "create_directory", "path": "a", "permissions": 750}

    outcome = runner.play([{**connection(sshd), "mode": mode}])

    assert outcome.exit_code == 3
    assert "'permissions' must be a string" in outcome.stderr
    assert "in quotes" in outcome.stderr


# --- all of them -----------------------------------------------------------------------------------------------------

MODES: list[dict[str, Any]] = [
    {"mode_name": "list", "path": "a"},
    {"mode_name": "stats", "path": "a"},
    {"mode_name": "remove", "path": "a"},
    {"mode_name": "rename", "source_path": "a", "destination_path": "b"},
    {"mode_name": "create_directory", "path": "a"},
    {"mode_name": "create_link", "path": "a", "target": "b"},
    {"mode_name": "wait_for", "path": "a"},
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["mode_name"])
def test_over_scp_they_are_refused_before_anything_is_contacted(
    runner: Runner, sshd: OpenSSHServer, mode: dict[str, Any]
) -> None:
    outcome = runner.play([{**connection(sshd), "connector_type": "SCP", "mode": mode}])

    assert outcome.exit_code == 3
    assert f"'{mode['mode_name']}' needs SFTP: over SCP 'mode_name' must be copy_file_to_engine" in outcome.stderr
    assert outcome.report["steps"] == []


def test_steps_are_named_after_what_they_are_about(runner: Runner, sshd: OpenSSHServer) -> None:
    (runner.folder / "play.yaml").write_text(json.dumps([{**connection(sshd), "mode": mode} for mode in MODES]))

    outcome = runner("play", "--list-steps", str(runner.folder / "play.yaml"))

    for mode in MODES:
        assert f"{mode['mode_name']} a [" in outcome.stdout


def test_switches_may_come_from_the_environment(play: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    (play.remote / "folder").mkdir()
    (play.remote / "folder/a").write_text("x")
    monkeypatch.setenv("RECURSIVE", "true")

    play.well("remove", path="{{ 'fold' + 'er' }}", recursive="{{ lookup('env', 'RECURSIVE') }}")

    assert snapshot(play.remote) == {}


def test_names_that_are_not_utf_8(play: Operation) -> None:
    (play.remote / os.fsdecode(b"caf\xe9")).mkdir()
    name = "caf\udce9"

    _, result = play.well("list", path=".")
    assert [entry["path"] for entry in result["entries"]] == [f"./{name}"]
    assert play.well("stats", path=name)[1]["exists"] is True
    assert play.foretold("create_directory", path=f"{name}/{name}")[0] == "changed"
    assert play.foretold("rename", **renaming(f"{name}/{name}", f"new {name}"))[0] == "changed"
    assert play.foretold("remove", path=name, recursive=True)[0] == "changed"
    assert os.listdir(os.fsencode(play.remote)) == [b"new caf\xe9"]
    shutil.rmtree(play.remote / f"new {name}")
