"""The scripted SFTP server, judged by paramiko and by OpenSSH's sftp."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import paramiko
import pytest

from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.raw_sftp import Execute, Hangup, Kind, RawSftpServer, Request, Script, status, version
from tests.servers.test_servers import open_sftp, run_client

DATA = bytes(range(256)) * 4000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "source").write_bytes(DATA)
    return folder


def test_an_honest_script_serves_every_request(tmp_path: Path, root: Path) -> None:
    with RawSftpServer(tmp_path, root=root) as server, open_sftp(server) as sftp:
        assert sftp.normalize(".") == str(root)
        assert sorted(sftp.listdir(".")) == ["source"]
        sftp.get("source", str(tmp_path / "down"))
        sftp.mkdir("folder")
        sftp.put(str(tmp_path / "down"), "folder/up")
        sftp.chmod("folder/up", 0o640)
        sftp.utime("folder/up", (5, 6))
        with pytest.raises(OSError, match="Failure"):
            sftp.rename("folder/up", "source")
        sftp.posix_rename("folder/up", "source")
        sftp.truncate("source", 1000)
        found = sftp.lstat("source")
        assert (found.st_size, (found.st_mode or 0) & 0o777, found.st_atime) == (1000, 0o640, 5)
        with sftp.open("source", "rb") as file:
            assert file.stat().st_size == 1000
        with pytest.raises(FileNotFoundError):
            sftp.stat("folder/up")
        sftp.rmdir("folder")
        sftp.remove("source")
    assert (tmp_path / "down").read_bytes() == DATA
    assert list(root.iterdir()) == []


def test_openssh_finds_its_extensions_and_limits(tmp_path: Path, root: Path) -> None:
    with RawSftpServer(tmp_path, root=root) as server:
        told = run_client(server, "sftp", "-vvv", f"{server.username}@{server.host}:source", str(tmp_path / "down"))
        assert "posix-rename@openssh.com" in told.stderr
        assert "limits" in told.stderr
    assert (tmp_path / "down").read_bytes() == DATA


class Refusing(Script):
    """Says to one kind of request that it is refused, and does not carry it out."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        return [status(request.id, 4, b"not today")] if request.kind == self.kind else [execute()]


def test_a_script_decides_about_each_reply(tmp_path: Path, root: Path) -> None:
    script = partial(Refusing, Kind.REMOVE)
    with RawSftpServer(tmp_path, root=root, make_script=script) as server, open_sftp(server) as sftp:
        with pytest.raises(OSError, match="not today"):
            sftp.remove("source")
        assert sftp.stat("source").st_size == len(DATA)


class Late(Script):
    """Keeps replies to itself until no more requests come, and then sends the last one first."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        self.kept.insert(0, execute())
        return []

    def idle(self) -> Iterable[bytes]:
        packets, self.kept = self.kept, []
        return packets


def test_replies_can_wait(tmp_path: Path, root: Path) -> None:
    with (
        RawSftpServer(tmp_path, root=root, make_script=Late) as server,
        open_sftp(server) as sftp,
        sftp.open("source", "rb") as file,
    ):
        file.prefetch(len(DATA))
        assert file.read() == DATA


class Leaving(Script):
    """Ends the session instead of an answer."""

    def version(self) -> Iterable[bytes]:
        return [version(3)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        raise Hangup


def test_a_script_can_hang_up(tmp_path: Path, root: Path) -> None:
    with (
        RawSftpServer(tmp_path, root=root, make_script=Leaving) as server,
        open_sftp(server) as sftp,
        pytest.raises((OSError, EOFError, paramiko.SSHException)),
    ):
        sftp.stat("source")


def test_reads_give_half_of_what_was_asked(tmp_path: Path, root: Path) -> None:
    with (
        AsyncsshServer(tmp_path, root=root, sftp_factory=misbehaving.ShortReads) as server,
        open_sftp(server) as sftp,
        sftp.open("source", "rb", bufsize=0) as file,
    ):
        # Not file.read(): it asks again until it has everything.
        assert file._read(1000) == DATA[:500]
        assert file._read(1) == DATA[:1]
