"""Servers that fall silent at a chosen stage: every wait of a client needs an end of its own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileServer, FileSession, SFTPFactory
from tests.servers.listeners import FullBacklog, GarbageServer, Listener, closed_port
from tests.servers.login import Login

__all__ = ["STAGES", "GarbageServer", "MuteServer", "Stage", "closed_port"]

Stage = Literal[
    "tcp",  # a connect hangs
    "banner",  # connected, nothing is ever sent
    "key_exchange",  # a banner, then nothing
    "authentication",  # no answer to any userauth request
    "subsystem",  # logged in, no answer to a subsystem or exec request
    "sftp_init",  # subsystem (or scp) granted, then nothing
    "sftp_stat",  # from here on: no answer to that one request, nor to any after it
    "sftp_open",
    "sftp_read",
    "sftp_write",
    "sftp_close",
    "sftp_rename",
]
STAGES: tuple[Stage, ...] = get_args(Stage)

_OPERATIONS = {"stat": ("stat", "lstat"), "rename": ("rename", "posix_rename")}


class MuteServer(AsyncsshServer):
    """A server which goes silent at `stage`. It has keys at every stage: a test can always name them."""

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        *,
        root: Path | None = None,
        password: str | None = None,
        host_key_types: Sequence[str] = ("ed25519",),
    ) -> None:
        super().__init__(
            folder,
            root=root or folder,
            password=password,
            sftp_factory=_choose_factory(stage),
            host_key_types=host_key_types,
        )
        self.stage = stage
        self.login_class = MuteLogin if stage == "authentication" else Login
        self.session_class = MuteSession if stage == "subsystem" else FileSession
        self._listener = _make_listener(stage)

    @property
    def connection_count(self) -> int:
        """How many TCP connections were accepted."""
        return super().connection_count if self._listener is None else self._listener.connection_count

    def start(self) -> None:
        """Listen on a free port."""
        if self._listener is None:
            super().start()
        else:
            self._listener.start()
            self.port = self._listener.port

    def stop(self) -> None:
        """Close everything."""
        if self._listener is None:
            super().stop()
        else:
            self._listener.stop()


class MuteLogin(Login):
    """Records authentication requests and never answers."""

    async def answer(self, begin: bool, method: bytes, packet: Any) -> None:
        self.record(method)


class MuteSession(FileSession):
    """Never answers a subsystem or exec request."""

    def exec_requested(self, command: str) -> bool:
        return _withhold_answer(super().exec_requested(command))

    def subsystem_requested(self, subsystem: str) -> bool:
        return _withhold_answer(super().subsystem_requested(subsystem))


class HangingServer(FileServer):
    """Never returns from the operations named, for instance `write`."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, operations: Sequence[str] = ()) -> None:
        super().__init__(channel, root, chroot)
        for operation in operations:
            setattr(self, operation, _hang)


def _choose_factory(stage: Stage) -> SFTPFactory:
    if stage == "sftp_init":
        return _hang  # the session is granted first, and its server made then
    name = stage.removeprefix("sftp_")
    return FileServer if name == stage else partial(HangingServer, operations=_OPERATIONS.get(name, (name,)))


def _make_listener(stage: Stage) -> Listener | FullBacklog | None:
    match stage:
        case "tcp":
            return FullBacklog()
        case "banner":
            return Listener()
        case "key_exchange":
            return Listener(b"SSH-2.0-mute\r\n")
        case _:
            return None


def _withhold_answer(answer: bool) -> bool:
    """asyncssh takes None for "the answer comes later", and it never does."""
    return cast(bool, None)


async def _hang(*arguments: object) -> Any:
    try:
        await asyncio.Event().wait()
    finally:  # cancelled at the end of the server: a file is closed here or nowhere
        for file in arguments:
            if isinstance(file, io.IOBase):
                file.close()
