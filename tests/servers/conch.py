"""Twisted Conch, started as a program: `python -m tests.servers.conch PORT FOLDER LOGIN-FOLDER USERNAME`.

Its SFTP server for Unix users, which makes the targets of links absolute and has SYMLINK's arguments in the draft's order.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from tests.servers.endpoint import LOOPBACK
from tests.servers.program import ProgramServer

_CHECKOUT = Path(__file__).resolve().parents[2]


class ConchServer(ProgramServer):
    """Twisted Conch for the current user, whose sessions start in `login_folder`."""

    def __init__(self, folder: Path, *, login_folder: Path) -> None:
        super().__init__(folder)
        self.login_folder = login_folder

    def _make_command(self) -> list[str]:
        keys = [str(self.host_keys[0].path), f"{self.user_key_path}.pub"]
        return [
            sys.executable,
            "-m",
            "tests.servers.conch",
            str(self.port),
            *keys,
            str(self.login_folder),
            self.username,
        ]

    def _make_environment(self) -> dict[str, str]:
        return {**super()._make_environment(), "PYTHONPATH": str(_CHECKOUT)}


def has_conch() -> bool:
    """Whether it is installed, with what its cryptography needs."""
    return all(importlib.util.find_spec(name) for name in ("twisted", "bcrypt", "appdirs"))


def _serve(port: int, host_key: str, user_key: str, login_folder: str, username: str) -> None:
    from twisted.conch.avatar import ConchUser
    from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
    from twisted.conch.interfaces import IConchUser, ISFTPServer
    from twisted.conch.ssh.factory import SSHFactory
    from twisted.conch.ssh.filetransfer import FileTransferServer
    from twisted.conch.ssh.keys import Key
    from twisted.conch.ssh.session import SSHSession
    from twisted.conch.unix import SFTPServerForUnixConchUser
    from twisted.cred.portal import Portal
    from twisted.internet import reactor
    from twisted.python.components import registerAdapter
    from twisted.python.filepath import FilePath

    class Avatar(ConchUser):
        """The current user. The interface is Twisted's, its names included."""

        def __init__(self) -> None:
            super().__init__()
            self.channelLookup[b"session"] = SSHSession
            self.subsystemLookup[b"sftp"] = FileTransferServer

        def getUserGroupId(self) -> tuple[int, int]:  # noqa: N802
            return os.getuid(), os.getgid()

        def getHomeDir(self) -> Any:  # noqa: N802
            return FilePath(login_folder)

        def logout(self) -> None:
            pass

        def _runAsUser(self, function: Any, *arguments: Any, **keywords: Any) -> Any:  # noqa: N802
            """One call, or a list of (function, arguments), of which the last one's result counts."""
            if callable(function):
                return function(*arguments, **keywords)
            return [call[0](*(call[1] if len(call) > 1 else ())) for call in function][-1]

    class Realm:
        def requestAvatar(self, avatar_id: bytes, mind: object, *interfaces: object) -> tuple[Any, Any, Any]:  # noqa: N802
            avatar = Avatar()
            return IConchUser, avatar, avatar.logout

    registerAdapter(SFTPServerForUnixConchUser, Avatar, ISFTPServer)
    key = Key.fromFile(host_key)
    factory = SSHFactory()
    factory.publicKeys = {key.sshType(): key.public()}
    factory.privateKeys = {key.sshType(): key}
    known = InMemorySSHKeyDB({username.encode(): [Key.fromFile(user_key)]})
    factory.portal = Portal(Realm(), [SSHPublicKeyChecker(known)])
    reactor.listenTCP(port, factory, interface=LOOPBACK)
    reactor.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), *sys.argv[2:6])
