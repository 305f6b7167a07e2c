"""What an asyncssh server serves: SFTP and SCP on real files, relative paths starting at a root."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

import asyncssh
from asyncssh.sftp import SFTPServerHandler
from asyncssh.stream import SSHServerStreamSession

from tests.servers.login import Visits

_SFTP_VERSION = 3  # what OpenSSH and paramiko speak

Channel = asyncssh.SSHServerChannel[bytes]


class FileServer(asyncssh.SFTPServer):
    """An honest server: absolute paths are real paths, relative ones start at `root`.

    With `chroot`, `/` is the root. Subclasses add one fault each.
    """

    hidden_extensions: ClassVar[frozenset[bytes]] = frozenset()

    def __init__(self, channel: Channel, root: Path, chroot: bool = False) -> None:
        super().__init__(channel, os.fsencode(root) if chroot else None)
        self.root = root
        self.chroot = chroot

    def map_path(self, path: bytes) -> bytes:
        """The real path of a client's path."""
        return super().map_path(path if self.chroot else os.path.join(os.fsencode(self.root), path))

    def exit(self) -> None:
        """End an SFTP session with status 0, as OpenSSH does: without one, `scp -s` reports failure."""
        with contextlib.suppress(OSError):  # the connection may be gone
            if self.channel.get_subsystem():
                self.channel.exit(0)


# Makes the server of one session. It may be a coroutine function: the client waits for it.
SFTPFactory = Callable[[Channel, Path, bool], FileServer | Awaitable[FileServer]]


class FileSession(SSHServerStreamSession[bytes]):
    """One channel: the sftp subsystem, or an `scp -t` / `scp -f` command."""

    def __init__(self, make_server: asyncssh.SFTPServerFactory, visits: Visits, *, sftp: bool, scp: bool) -> None:
        super().__init__(None, make_server, _SFTP_VERSION, allow_scp=scp)
        self.visits = visits
        self.sftp = sftp

    def exec_requested(self, command: str) -> bool:
        """Grant `scp` only."""
        self.visits.requests.append(command)
        return super().exec_requested(command)

    def subsystem_requested(self, subsystem: str) -> bool:
        """Grant `sftp` only."""
        self.visits.requests.append(subsystem)
        return self.sftp and super().subsystem_requested(subsystem)

    def session_started(self) -> None:
        """Serve the channel; SFTP by our own handler: asyncssh has no other way to hide an extension."""
        channel = cast(Channel, self._chan)
        if channel.get_subsystem() != "sftp":
            super().session_started()
            return
        connection = channel.get_connection()
        connection.create_task(self._serve_sftp(channel), channel.logger)

    async def _serve_sftp(self, channel: Channel) -> None:
        server = self._init_sftp_server()
        if inspect.isawaitable(server):
            server = await server
        reader, writer = asyncssh.SSHReader(self, channel), asyncssh.SSHWriter(self, channel)
        handler = SFTPServerHandler(server, reader, writer, _SFTP_VERSION)
        hidden: frozenset[bytes] = getattr(server, "hidden_extensions", frozenset())
        # On the instance: the class attribute is shared with every other server of the process.
        handler._extensions = [pair for pair in handler._extensions if pair[0] not in hidden]
        try:
            await handler.run()
        finally:
            _close_files(handler)


def _close_files(handler: SFTPServerHandler) -> None:
    """Close what a cancelled handler left open: a forgotten file is a warning, and so a failed test."""
    for file in handler._file_handles.values():
        cast(BinaryIO, file).close()
