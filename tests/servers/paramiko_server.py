"""paramiko's SFTP server, started as a program: what most test servers and small services written in Python are.

`python -m tests.servers.paramiko_server PORT HOST-KEY USER-KEY LOGIN-FOLDER USERNAME`. It has no shell.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import paramiko

from tests.servers.endpoint import LOOPBACK
from tests.servers.program import ProgramServer

_CHECKOUT = Path(__file__).resolve().parents[2]
_LOGIN_SECONDS = 60


class ParamikoServer(ProgramServer):
    """paramiko's server for the current user, whose sessions start in `login_folder`."""

    def __init__(self, folder: Path, *, login_folder: Path) -> None:
        super().__init__(folder)
        self.login_folder = login_folder

    def _make_command(self) -> list[str]:
        keys = [str(self.host_keys[0].path), f"{self.user_key_path}.pub"]
        module = "tests.servers.paramiko_server"
        return [sys.executable, "-m", module, str(self.port), *keys, str(self.login_folder), self.username]

    def _make_environment(self) -> dict[str, str]:
        return {**super()._make_environment(), "PYTHONPATH": str(_CHECKOUT)}


class _Login(paramiko.ServerInterface):
    def __init__(self, username: str, public_line: str) -> None:
        self.username, self.public_line = username, public_line

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_known = username == self.username and f"{key.get_name()} {key.get_base64()}" == self.public_line
        return paramiko.AUTH_SUCCESSFUL if is_known else paramiko.AUTH_FAILED  # type: ignore[no-any-return,unused-ignore]

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return paramiko.OPEN_SUCCEEDED  # type: ignore[no-any-return,unused-ignore]
        return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED  # type: ignore[no-any-return,unused-ignore]


class _Handle(paramiko.SFTPHandle):
    def stat(self) -> Any:
        return _answer(lambda: paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno())))

    def chattr(self, attr: paramiko.SFTPAttributes) -> Any:
        return _answer(lambda: paramiko.SFTPServer.set_file_attr(self.filename, attr))


class _Files(paramiko.SFTPServerInterface):
    """The usual stub: what the documentation of paramiko's own interface asks for, on the real disk."""

    login_folder = "/"

    def _real(self, path: str) -> str:
        return os.path.join(self.login_folder, path)

    def list_folder(self, path: str) -> Any:
        def look() -> list[paramiko.SFTPAttributes]:
            found = []
            for name in os.listdir(self._real(path)):
                status = os.lstat(os.path.join(self._real(path), name))
                found.append(paramiko.SFTPAttributes.from_stat(status, name))
            return found

        return _answer(look)

    def stat(self, path: str) -> Any:
        return _answer(lambda: paramiko.SFTPAttributes.from_stat(os.stat(self._real(path))))

    def lstat(self, path: str) -> Any:
        return _answer(lambda: paramiko.SFTPAttributes.from_stat(os.lstat(self._real(path))))

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> Any:
        def begin() -> paramiko.SFTPHandle:
            mode = attr.st_mode if attr.st_mode is not None else 0o666
            fd = os.open(self._real(path), flags | os.O_CLOEXEC, mode)
            kind = "a" if flags & os.O_APPEND else "r+" if flags & os.O_RDWR else "w" if flags & os.O_WRONLY else "r"
            file = os.fdopen(fd, f"{kind}b")
            handle = _Handle(flags)
            handle.filename = self._real(path)
            handle.readfile = handle.writefile = file
            return handle

        return _answer(begin)

    def remove(self, path: str) -> Any:
        return _answer(lambda: os.remove(self._real(path)))

    def rename(self, oldpath: str, newpath: str) -> Any:
        def move() -> None:
            if os.path.lexists(self._real(newpath)):
                raise FileExistsError(17, "File exists")
            os.rename(self._real(oldpath), self._real(newpath))

        return _answer(move)

    def posix_rename(self, oldpath: str, newpath: str) -> Any:
        return _answer(lambda: os.replace(self._real(oldpath), self._real(newpath)))

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> Any:
        return _answer(lambda: os.mkdir(self._real(path), attr.st_mode if attr.st_mode is not None else 0o777))

    def rmdir(self, path: str) -> Any:
        return _answer(lambda: os.rmdir(self._real(path)))

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> Any:
        return _answer(lambda: paramiko.SFTPServer.set_file_attr(self._real(path), attr))

    def canonicalize(self, path: str) -> str:
        return os.path.normpath(self._real(path))

    def readlink(self, path: str) -> Any:
        return _answer(lambda: os.readlink(self._real(path)))

    def symlink(self, target_path: str, path: str) -> Any:
        return _answer(lambda: os.symlink(target_path, self._real(path)))


def _answer(work: Any) -> Any:
    """The result; OK for none; a code of SFTP for what the disk refuses."""
    try:
        result = work()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)
    return paramiko.SFTP_OK if result is None else result


def _serve(port: int, host_key: str, user_key: str, login_folder: str, username: str) -> None:
    _Files.login_folder = login_folder
    public_line = " ".join(Path(user_key).read_text(encoding="utf-8").split()[:2])
    with socket.create_server((LOOPBACK, port), backlog=64) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_greet, args=(client, host_key, _Login(username, public_line)), daemon=True).start()


def _greet(client: socket.socket, host_key: str, login: _Login) -> None:
    transport = paramiko.Transport(client)
    transport.add_server_key(paramiko.Ed25519Key(filename=host_key))
    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files)
    try:
        transport.start_server(server=login, event=threading.Event())
    except (paramiko.SSHException, EOFError, OSError):
        transport.close()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), *sys.argv[2:6])
