"""What is sent behind the greeting, before a server has answered it, and behind the last renames of a tree."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import Runner, connection, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileServer
from tests.servers.mute import MuteServer
from tests.servers.raw_sftp import OP_UNSUPPORTED, Execute, Kind, RawSftpServer, Request, Script, status, version

banners = pytest.mark.parametrize("software", ["", "OpenSSH_9.2p1"], ids=["any", "as OpenSSH"])
MINUTE = 60


@pytest.fixture
def file(runner: Runner) -> Path:
    (runner.folder / "file").write_text("content")
    return runner.folder / "file"


@banners
def test_a_server_that_does_not_answer_the_greeting_has_connect_timeout(
    runner: Runner, tmp_path: Path, remote: Path, file: Path, monkeypatch: pytest.MonkeyPatch, software: str
) -> None:
    monkeypatch.setattr(AsyncsshServer, "software", software)
    with MuteServer("sftp_init", tmp_path / "server", root=remote) as server:
        started = time.monotonic()
        outcome = runner.play([step(server, upload("file", remote / "file"), connect_timeout=1, stall_timeout=20)])

    assert time.monotonic() - started < 4 + BUSY_SECONDS
    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["error"]["type"] == "ConnectTimedOut"
    assert list(remote.iterdir()) == []


class Old(Script):
    """Of the version before."""

    def version(self) -> Iterable[bytes]:
        return [version(2)]


@banners
def test_another_version_of_the_protocol_is_told_and_nothing_is_written(
    runner: Runner, tmp_path: Path, remote: Path, file: Path, monkeypatch: pytest.MonkeyPatch, software: str
) -> None:
    monkeypatch.setattr(AsyncsshServer, "software", software)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=Old) as server:
        outcome = runner.play([step(server, upload("file", remote / "file"))])

    assert outcome.exit_code == 2, outcome.output
    assert "speaks SFTP version 2; version 3 is needed" in outcome.step["error"]["message"]
    assert list(remote.iterdir()) == []


class Recording(Script):
    """Knows no extensions. Notes what it is asked before it has answered the greeting."""

    asked: list[int]

    def version(self) -> Iterable[bytes]:
        return [version(3)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        self.asked.append(request.kind)
        return [status(request.id, OP_UNSUPPORTED)] if request.kind == Kind.EXTENDED else [execute()]


@pytest.mark.parametrize(("software", "is_asked"), [("", False), ("OpenSSH_7.4", True)])
def test_an_openssh_that_tells_no_limits_is_asked_for_them_in_vain(
    runner: Runner,
    tmp_path: Path,
    remote: Path,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    software: str,
    is_asked: bool,
) -> None:
    monkeypatch.setattr(AsyncsshServer, "software", software)
    Recording.asked = []
    with RawSftpServer(tmp_path / "server", root=remote, make_script=Recording) as server:
        outcome = runner.play([step(server, upload("file", remote / "file"))])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "file").read_text() == "content"
    assert (Kind.EXTENDED in Recording.asked) == is_asked


class OneRenameRefused(FileServer):
    """One file cannot be renamed to its name, which takes a while."""

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        await asyncio.sleep(0.1)
        if newpath.endswith(b"/last"):
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        os.replace(self.map_path(oldpath), self.map_path(newpath))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")

    link = rename


@banners
@pytest.mark.parametrize("permissions", [0o750, 0o550], ids=["writable", "read-only"])
def test_a_folder_has_its_time_also_when_something_in_it_went_wrong(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, software: str, permissions: int
) -> None:
    """It was sent behind the last rename; what was tidied up after that changed the folder once more."""
    monkeypatch.setattr(AsyncsshServer, "software", software)
    source, destination = runner.folder / "from", remote / "to"
    for name in ("a", "sub/last"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    then = int(time.time()) - MINUTE
    for folder in (source / "sub", source):
        folder.chmod(permissions)
        os.utime(folder, (then, then))
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
    }
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=OneRenameRefused) as server:
        outcome = runner.play([{**connection(server), "mode": mode}])

    assert outcome.exit_code == 2, outcome.output
    assert "1 of what is in" in outcome.step["error"]["message"]
    assert sorted(path.name for path in destination.rglob("*")) == ["a", "sub"]
    for folder in (destination, destination / "sub"):
        assert (int(folder.stat().st_mtime), folder.stat().st_mode & 0o777) == (then, permissions)
