"""An SSH server whose scp does and says what a test likes: names, sizes, errors, silence, floods.

    async def lie(talk: Talk) -> None:
        await talk.say(b"C0644 5 ../../evil\nhello\0")

    with HostileScp(tmp_path, [honest_header(5), lie]) as server:
        ...

Each `scp` command is answered by the next act; the last one answers all later ones too. Other commands are refused, unless
an act is given as `shell`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncssh

from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileSession

YES = b"\0"


@dataclass(slots=True)
class Talk:
    """One running scp, from the server's side."""

    command: str
    reader: asyncssh.SSHReader[bytes]
    writer: asyncssh.SSHWriter[bytes]
    errors: asyncssh.SSHWriter[bytes]
    sent_bytes: list[int]
    exit_status: int | None = 0

    async def say(self, data: bytes) -> None:
        """Send, as soon as the client has room."""
        # A flood must not keep the loop from everything else, the end of its channel included.
        await asyncio.sleep(0)
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()
        self.sent_bytes[0] += len(data)

    async def hear_line(self) -> bytes:
        """The client's next line."""
        return await self.reader.readline()

    async def hear(self, count: int) -> bytes:
        """So many of the client's bytes."""
        return await self.reader.readexactly(count)


Act = Callable[[Talk], Awaitable[None]]


class HostileScp(AsyncsshServer):
    """Runs acts in place of scp. `commands` are those that were run, `sent_bytes` what all acts have sent."""

    def __init__(self, folder: Path, acts: Sequence[Act], *, shell: Act | None = None) -> None:
        super().__init__(folder, root=folder, sftp=False)
        self.acts = list(acts)
        self.shell = shell
        self.commands: list[str] = []
        self._sent_bytes = [0]

    @property
    def sent_bytes(self) -> int:
        """How many bytes the acts could send so far."""
        return self._sent_bytes[0]

    def next_act(self, command: str) -> Act:
        """The act for the next command."""
        if self.shell is not None and not command.startswith("scp "):
            return self.shell
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]

    def _make_session(self) -> FileSession:
        return _HostileSession(self)


class _HostileSession(FileSession):
    """One channel."""

    def __init__(self, server: HostileScp) -> None:
        super().__init__(server._make_sftp_server, server._visits, sftp=False, scp=True)
        self._server = server

    def exec_requested(self, command: str) -> bool:
        """Grant `scp`, and everything where there is a shell."""
        return super().exec_requested(command) or self._server.shell is not None

    def session_started(self) -> None:
        channel = cast(Channel, self._chan)
        channel.get_connection().create_task(self._play(channel), channel.logger)

    async def _play(self, channel: Channel) -> None:
        command = str(channel.get_command())
        self._server.commands.append(command)
        talk = Talk(
            command,
            asyncssh.SSHReader(self, channel),
            asyncssh.SSHWriter(self, channel),
            asyncssh.SSHWriter(self, channel, asyncssh.EXTENDED_DATA_STDERR),
            self._server._sent_bytes,
        )
        with contextlib.suppress(OSError, asyncssh.Error, asyncio.IncompleteReadError):
            await self._server.next_act(command)(talk)
            if talk.exit_status is not None:
                channel.exit(talk.exit_status)


def say(data: bytes, *, status: int = 0) -> Act:
    """Say this, whatever the client does, and end."""

    async def act(talk: Talk) -> None:
        talk.exit_status = status
        await talk.say(data)

    return act


def say_and_hang(data: bytes) -> Act:
    """Say this, and nothing more, for ever."""

    async def act(talk: Talk) -> None:
        await talk.say(data)
        await asyncio.Event().wait()

    return act


def flood(data: bytes, more: bytes) -> Act:
    """Say this, and then more and more."""

    async def act(talk: Talk) -> None:
        await talk.say(data)
        while True:
            await talk.say(more)

    return act


def header(size: int, *, name: str = "a", mode: str = "0644", time: int = 1_500_000_000) -> bytes:
    """What an honest scp says of a file."""
    return f"T{time} 0 {time} 0\nC{mode} {size} {name}\n".encode()
