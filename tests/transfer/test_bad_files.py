"""Files that cannot be copied: each a clear error with its place, and both disks as they were."""

from __future__ import annotations

import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, download, snapshot, step, upload
from tests.privileges import no_special_powers
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.disk import NotAvailable, small_filesystem
from tests.servers.file_session import FileServer
from tests.servers.openssh import OpenSSHServer


def assert_failed(outcome: Outcome, error_type: str, *words: str, exit_code: int = 2) -> None:
    """One step failed as it should: exit code, error type, message, hint, and the step's place in the output."""
    assert outcome.exit_code == exit_code, outcome.output
    error = outcome.step["error"]
    assert error["type"] == error_type, error
    told = error["message"] + " " + error["hint"]
    for word in words:
        assert word in told, told
    assert error["hint"], "every error says what to do next"
    assert "play.yaml:2:3" in outcome.stdout
    assert "Traceback" not in outcome.output


def play_one(runner: Runner, server: Any, mode: dict[str, Any], **inputs: Any) -> Outcome:
    return runner.play([step(server, mode, **inputs)])


def test_missing_source_upload(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (remote / "a").write_text("older")

    outcome = play_one(runner, sshd, upload("missing", remote / "a"))

    assert_failed(outcome, "SourceMissing", "missing", "does not exist on this machine", "workdir")
    assert snapshot(remote) == {"a": b"older"}


def test_missing_source_download(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "copy").write_text("older")

    outcome = play_one(runner, sshd, download(remote / "missing", "copy"))

    assert_failed(outcome, "SourceMissing", "missing", f"{sshd.host}:{sshd.port}")
    assert (runner.folder / "copy").read_text() == "older"


@pytest.mark.parametrize("is_upload", [True, False])
def test_source_is_a_directory(runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    (runner.folder / "folder").mkdir()
    mode = upload("folder", remote / "a") if is_upload else download(remote, "a")

    outcome = play_one(runner, sshd, mode)

    assert_failed(outcome, "NotARegularFile", "is a directory")


@pytest.mark.parametrize("is_upload", [True, False])
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_source_is_no_regular_file(
    runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runner.folder if is_upload else remote
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as unix_socket:
        if kind == "fifo":
            os.mkfifo("special")
        else:
            unix_socket.bind("special")
        mode = upload("special", remote / "a") if is_upload else download(remote / "special", "a")
        outcome = play_one(runner, sshd, mode)

    assert_failed(outcome, "NotARegularFile", "device, pipe or socket")


@pytest.mark.parametrize("is_upload", [True, False])
def test_destination_is_a_directory(runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    (runner.folder / "source").write_text("x")
    (remote / "source").write_text("x")
    (runner.folder / "folder").mkdir()
    (remote / "folder").mkdir()
    mode = upload("source", remote / "folder") if is_upload else download(remote / "source", "folder")

    outcome = play_one(runner, sshd, mode)

    assert_failed(outcome, "DestinationIsDirectory", "is a directory", "folder/source")
    assert snapshot(remote) == {"folder": None, "source": b"x"}
    assert os.listdir(runner.folder / "folder") == []


def test_destination_exists_and_may_not(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "source").write_text("new")
    (remote / "a").write_text("older")

    outcome = play_one(runner, sshd, upload("source", remote / "a", if_exists="fail"))

    assert_failed(outcome, "DestinationExists", "if_exists: fail")
    assert snapshot(remote) == {"a": b"older"}


def test_destination_below_a_file(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "source").write_text("new")
    (remote / "file").write_text("older")

    up = play_one(runner, sshd, upload("source", remote / "file/a"))
    down = play_one(runner, sshd, download(remote / "file", "source/a"))

    assert up.exit_code == down.exit_code == 2
    assert snapshot(remote) == {"file": b"older"}


@pytest.mark.parametrize("is_upload", [True, False])
def test_a_name_that_is_too_long(runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    (runner.folder / "source").write_text("x")
    (remote / "source").write_text("x")
    name = "n" * 256
    mode = upload("source", remote / name) if is_upload else download(remote / "source", name)

    outcome = play_one(runner, sshd, mode)

    assert_failed(outcome, "FileRefused", "255")
    assert snapshot(remote) == {"source": b"x"}


class _Unreadable(FileServer):
    """Refuses to open anything, as a server does for a user without rights. (sshd under test may run as root.)"""

    def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
        import asyncssh

        raise asyncssh.SFTPPermissionDenied("Permission denied")


@pytest.mark.parametrize("is_upload", [True, False])
def test_no_permission_on_the_server(runner: Runner, tmp_path: Path, remote: Path, is_upload: bool) -> None:
    (runner.folder / "source").write_text("new")
    (remote / "source").write_text("older")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=_Unreadable) as server:
        mode = upload("source", "source") if is_upload else download("source", "source")
        outcome = play_one(runner, server, mode)

    assert_failed(outcome, "PermissionRefused", "permission denied", "source")
    assert snapshot(remote) == {"source": b"older"}
    assert (runner.folder / "source").read_text() == "new"


def test_no_permission_to_read_here(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "source").write_text("new")
    (runner.folder / "source").chmod(0)

    with no_special_powers():
        outcome = play_one(runner, sshd, upload("source", remote / "a"))

    assert_failed(outcome, "PermissionRefused", "Permission denied", "source")
    assert snapshot(remote) == {}


def test_no_permission_to_write_here(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (remote / "source").write_text("new")
    locked = runner.folder / "locked"
    locked.mkdir()
    (locked / "a").write_text("older")
    locked.chmod(0o555)

    with no_special_powers():
        outcome = play_one(runner, sshd, download(remote / "source", "locked/a"))

    assert_failed(outcome, "PermissionRefused", "Permission denied", "locked/a")
    assert snapshot(locked) == {"a": b"older"}


def test_disk_full_on_a_real_server(runner: Runner, sshd: OpenSSHServer) -> None:
    (runner.folder / "source").write_bytes(os.urandom(3_000_000))
    try:
        with small_filesystem(1_000_000) as disk:
            (disk / "a").write_text("older")
            outcome = play_one(runner, sshd, upload("source", disk / "a"))
            left = snapshot(disk)
    except NotAvailable as error:
        pytest.skip(str(error))

    assert_failed(outcome, "DiskFull", "no space left")
    assert left == {"a": b"older"}


def test_disk_full_here(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (remote / "source").write_bytes(os.urandom(3_000_000))
    try:
        with small_filesystem(1_000_000) as disk:
            (disk / "a").write_text("older")
            outcome = play_one(runner, sshd, download(remote / "source", disk / "a"))
            left = snapshot(disk)
    except NotAvailable as error:
        pytest.skip(str(error))

    assert_failed(outcome, "DiskFull", "No space left on device")
    assert left == {"a": b"older"}


@pytest.mark.parametrize(
    ("factory", "error_type", "exit_code", "words"),
    [
        (partial(misbehaving.FullDisk, capacity=100_000), "DiskFull", 2, ["space"]),
        (partial(misbehaving.DroppedWrites, capacity=100_000), "VerificationFailed", 6, ["100,000", "quota"]),
        (partial(misbehaving.FailingWrite, number=2), "FileRefused", 2, ["cannot write"]),
        (misbehaving.FailingClose, "DiskFull", 2, ["cannot finish"]),
        (misbehaving.RefusedRename, "FileRefused", 2, ["atomic: false"]),
        (misbehaving.RefusedStat, "VerificationFailed", 6, ["verify: size"]),
    ],
)
def test_a_server_that_fails_in_the_middle_of_an_upload(
    runner: Runner,
    tmp_path: Path,
    remote: Path,
    factory: Any,
    error_type: str,
    exit_code: int,
    words: list[str],
) -> None:
    (runner.folder / "source").write_bytes(os.urandom(1_000_000))
    (remote / "a").write_text("older")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_one(runner, server, upload("source", "a"))

    assert_failed(outcome, error_type, *words, exit_code=exit_code)
    assert snapshot(remote) == {"a": b"older"}


@pytest.mark.parametrize(
    ("factory", "error_type", "words"),
    [
        (partial(misbehaving.EarlyEnd, length=100_000), "VerificationFailed", ["100,000"]),
        (misbehaving.GrowingSource, "SourceChanged", ["was written to"]),
        (misbehaving.TouchedSource, "SourceChanged", ["was written to"]),
        (misbehaving.ReplacedSource, "SourceChanged", ["was written to"]),
    ],
)
def test_a_source_that_changes_or_ends_early_on_the_server(
    runner: Runner, tmp_path: Path, remote: Path, factory: Any, error_type: str, words: list[str]
) -> None:
    (remote / "source").write_bytes(os.urandom(1_000_000))
    os.utime(remote / "source", (1_500_000_000, 1_500_000_000))
    local = runner.folder / "local"
    local.mkdir()
    (local / "a").write_text("older")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_one(runner, server, download("source", "local/a"))

    assert_failed(outcome, error_type, *words, exit_code=6)
    assert snapshot(local) == {"a": b"older"}


@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_a_source_that_changes_here(
    runner: Runner, tmp_path: Path, remote: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = runner.folder / "source"
    source.write_bytes(os.urandom(3_000_000))
    os.utime(source, (1_500_000_000, 1_500_000_000))
    (remote / "a").write_text("older")
    real_preadv = os.preadv

    def preadv_and_change(fd: int, space: list[memoryview], offset: int) -> int:
        count = real_preadv(fd, space, offset)
        if offset == 0:
            match change:
                case "grow":
                    with source.open("ab") as stream:
                        stream.write(b"more")
                case "shrink":
                    os.truncate(source, 1_000_000)
                case "touch":
                    os.utime(source)
        return count

    monkeypatch.setattr(os, "preadv", preadv_and_change)
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = play_one(runner, server, upload("source", "a"))

    assert_failed(outcome, "SourceChanged", exit_code=6)
    assert snapshot(remote) == {"a": b"older"}


def test_a_source_that_vanishes_after_it_was_opened_is_copied_whole(
    runner: Runner, sshd: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = runner.folder / "source"
    content = os.urandom(3_000_000)
    source.write_bytes(content)
    real_preadv = os.preadv

    def preadv_and_unlink(fd: int, space: list[memoryview], offset: int) -> int:
        source.unlink(missing_ok=True)
        return real_preadv(fd, space, offset)

    monkeypatch.setattr(os, "preadv", preadv_and_unlink)
    outcome = play_one(runner, sshd, upload("source", remote / "a"))

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == content


def test_the_errors_name_the_way_out_and_it_works(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """`atomic: false` on a server that forbids renaming, `verify: size` on one that tells nothing."""
    (runner.folder / "source").write_text("new")
    with AsyncsshServer(tmp_path / "one", root=remote, sftp_factory=misbehaving.RefusedRename) as server:
        in_place = play_one(runner, server, upload("source", "a", atomic=False))
    with AsyncsshServer(tmp_path / "two", root=remote, sftp_factory=misbehaving.RefusedStat) as server:
        unverified = play_one(runner, server, upload("source", "b", verify="size"))

    assert (in_place.exit_code, unverified.exit_code) == (0, 0), in_place.output + unverified.output
    assert in_place.step["result"]["atomic"] is False
    assert unverified.step["result"]["verified"] is None
    assert "acknowledged" in unverified.step["result"]["warnings"][0]
    assert snapshot(remote) == {"a": b"new", "b": b"new"}


def test_a_drop_box_that_refuses_attributes_is_warned_about(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "source").write_text("new")
    os.utime(runner.folder / "source", (1_500_000_000, 1_500_000_000))
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.RefusedSetstat) as server:
        preserved = play_one(runner, server, upload("source", "a"))
        explicit = play_one(runner, server, upload("source", "b", permissions="0640"))

    assert preserved.exit_code == 0, preserved.output
    (warning,) = preserved.step["result"]["warnings"]
    assert "refused to preserve times" in warning
    assert "'compare: size'" in warning
    # The mode goes with the request that opens the file, which is all that such a server takes.
    assert explicit.exit_code == 0, explicit.output
    assert (remote / "a").stat().st_mode & 0o777 == (runner.folder / "source").stat().st_mode & 0o777
    assert (remote / "b").stat().st_mode & 0o777 == 0o640
    assert snapshot(remote) == {"a": b"new", "b": b"new"}


def test_a_server_without_posix_rename_replaces_in_two_steps(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "source").write_text("new")
    (remote / "a").write_text("older")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.PlainRenameOnly) as server:
        created = play_one(runner, server, upload("source", "b"))
        replaced = play_one(runner, server, upload("source", "a"))

    assert created.step["result"]["atomic"] is True
    assert replaced.step["result"]["atomic"] is False
    assert "two steps" in replaced.step["result"]["warnings"][0]
    assert snapshot(remote) == {"a": b"new", "b": b"new"}


def test_a_connection_that_breaks_in_the_middle(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "source").write_bytes(os.urandom(3_000_000))
    (remote / "a").write_text("older")
    factory = partial(misbehaving.BrokenConnection, number=3)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_one(runner, server, upload("source", "a"))

    assert_failed(outcome, "ConnectionLost", "broke off", "What may be left: '.a.", exit_code=4)
    assert outcome.statuses == ["unreachable"]
    assert (remote / "a").read_text() == "older"


def test_a_server_without_sftp(runner: Runner, sshd_without_sftp: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "source").write_text("new")

    outcome = play_one(runner, sshd_without_sftp, upload("source", remote / "a"))

    assert_failed(outcome, "ServerLacksFeature", "no sftp subsystem", "connector_type: SCP")
    assert snapshot(remote) == {}


@pytest.mark.parametrize("is_upload", [True, False])
def test_folders_made_for_a_copy_that_failed_go_again(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    for folder in (runner.folder / "local", remote / "kept"):
        folder.mkdir()
    (runner.folder / "source").write_bytes(b"x" * 200_000)
    (remote / "source").write_bytes(b"x" * 200_000)
    before = snapshot(remote)
    mode = upload("source", "kept/new/deep/a") if is_upload else download("source", "local/new/deep/a")
    factory: Any = misbehaving.FailingClose if is_upload else partial(misbehaving.EarlyEnd, length=100)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_one(runner, server, mode)

    assert outcome.exit_code != 0
    assert snapshot(remote) == before
    assert snapshot(runner.folder / "local") == {}


def test_a_download_in_place_that_fails_says_what_is_left(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "source").write_bytes(b"x" * 200_000)
    (runner.folder / "a").write_text("older")
    factory = partial(misbehaving.EarlyEnd, length=100)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_one(runner, server, download("source", "a", atomic=False))

    assert_failed(outcome, "VerificationFailed", "may be incomplete", exit_code=6)


def test_skip_leaves_permissions_alone_as_well(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "source").write_text("new")
    mode = upload("source", remote / "a", if_exists="skip")
    play_one(runner, sshd, mode)
    (remote / "a").chmod(0o600)

    outcome = play_one(runner, sshd, mode)

    assert outcome.statuses == ["ok"]
    assert (remote / "a").stat().st_mode & 0o777 == 0o600


def test_a_remote_tilde_is_found_before_anything_is_contacted(runner: Runner, sshd: OpenSSHServer) -> None:
    (runner.folder / "source").write_text("new")

    outcome = play_one(runner, sshd, upload("source", "~/inbox/a"))

    assert outcome.exit_code == 3
    assert "write 'inbox/a'" in outcome.stderr


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_no_file_takes_the_place_of_a_pipe(
    runner: Runner, sshd: OpenSSHServer, remote: Path, connector_type: str, is_upload: bool, atomic: bool
) -> None:
    """Somebody reads it, or writes to it."""
    source, destination = (runner.folder / "a", remote / "b") if is_upload else (remote / "a", runner.folder / "b")
    source.write_text("content")
    os.mkfifo(destination)

    mode = (upload if is_upload else download)(source, destination, atomic=atomic)
    outcome = runner.play([step(sshd, mode, connector_type=connector_type)])

    assert outcome.exit_code == 2, outcome.output
    # Over SCP a shell looks, which can tell a file from what is none.
    is_told = connector_type == "SFTP" or not is_upload
    assert outcome.step["error"]["type"] == ("NotARegularFile" if is_told else "DestinationIsDirectory")
    assert stat.S_ISFIFO(destination.lstat().st_mode)
    assert [path.name for path in destination.parent.iterdir() if path.name.startswith((".b", "b"))] == ["b"]


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
def test_nor_does_one_of_a_tree(
    runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool, atomic: bool
) -> None:
    here, there = runner.folder / "tree", remote / "tree"
    source, destination = (here, there) if is_upload else (there, here)
    for folder in (source, destination):
        folder.mkdir()
    for name in ("a", "b"):
        (source / name).write_text("content")
    os.mkfifo(destination / "b")
    direction = "from" if is_upload else "to"
    paths = {"source_directory_name": str(source), "destination_directory_name": str(destination)}
    mode = {"mode_name": f"copy_directory_{direction}_engine", **paths, "atomic": atomic}

    outcome = runner.play([step(sshd, mode)])

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete"), outcome.output
    assert "is a device, pipe or socket" in outcome.step["error"]["message"]
    assert stat.S_ISFIFO((destination / "b").lstat().st_mode)
    assert sorted(path.name for path in destination.iterdir()) == ["a", "b"]

    if atomic:
        assert runner.play([step(sshd, {**mode, "delete": True})]).exit_code == 0
        assert (destination / "b").read_text() == "content"
