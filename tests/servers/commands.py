"""An asyncssh server that does with commands what a test likes, and serves SFTP and scp honestly beside.

    with CommandServer(tmp_path, root=files, on_command=powershell) as server: ...
    with CommandServer(tmp_path, root=files, on_command="disconnect") as server: ...

`requests` has every command and subsystem that was asked for. `max_sessions` is how many channels it opens at a time; one
counts until `closing_seconds` after its end.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, cast

import asyncssh

from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileServer, FileSession, SFTPFactory


class Answer(NamedTuple):
    """What comes of a command."""

    status: int
    output: bytes
    errors: bytes = b""


# A program; or: the command is refused, the request for it never answered, the connection cut for it, or the command
# started and nothing ever heard of it.
OnCommand = Callable[[str], Answer] | Literal["refuse", "ignore", "disconnect", "hang"]


class CommandServer(AsyncsshServer):
    """Commands other than scp (with `scp=False` that as well) are answered by `on_command`."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path,
        on_command: OnCommand = "refuse",
        sftp: bool = True,
        scp: bool = True,
        sftp_factory: SFTPFactory = FileServer,
        max_sessions: int | None = None,
        closing_seconds: float = 0.0,
    ) -> None:
        super().__init__(folder, root=root, sftp=sftp, scp=scp, sftp_factory=sftp_factory)
        self.on_command = on_command
        self.max_sessions = max_sessions
        self.closing_seconds = closing_seconds
        # Over all connections: a test has one at a time.
        self.open_sessions = 0

    @property
    def commands(self) -> list[str]:
        """The commands that are neither scp nor a subsystem."""
        return [one for one in self.requests if one != "sftp" and not one.startswith("scp ")]

    def _make_session(self) -> FileSession:
        if self.max_sessions is not None and self.open_sessions >= self.max_sessions:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "no more sessions")
        self.open_sessions += 1
        return _CommandSession(self)


class _CommandSession(FileSession):
    """One channel."""

    def __init__(self, server: CommandServer) -> None:
        super().__init__(server._make_sftp_server, server._visits, sftp=server.sftp, scp=server.scp)
        self._server = server
        self._is_ours = False

    def exec_requested(self, command: str) -> bool:
        if super().exec_requested(command):
            return True
        self._is_ours = True
        match self._server.on_command:
            case "refuse":
                return False
            case "ignore":
                return cast(bool, None)  # asyncssh takes it for "the answer comes later"
            case "disconnect":
                cast(Channel, self._chan).get_connection().abort()
                return False
        return True

    def session_started(self) -> None:
        if not self._is_ours:
            super().session_started()
            return
        channel = cast(Channel, self._chan)
        channel.get_connection().create_task(self._answer(channel), channel.logger)

    async def _answer(self, channel: Channel) -> None:
        program = self._server.on_command
        if program == "hang" or isinstance(program, str):
            await asyncio.Event().wait()
            return
        answer = await asyncio.get_running_loop().run_in_executor(None, program, str(channel.get_command()))
        channel.write(answer.output)
        channel.write_stderr(answer.errors)
        channel.exit(answer.status)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        asyncio.get_running_loop().call_later(self._server.closing_seconds, self._free)

    def _free(self) -> None:
        self._server.open_sessions -= 1


def posix_shell(command: str) -> Answer:
    """Runs it."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def powershell(command: str) -> Answer:
    """As Windows OpenSSH with PowerShell 5.1 as DefaultShell answers, as far as the runner's commands go.

    `${…}` is a variable of whatever name stands in the braces (about_Variables), `$(…)` the value of what is in it.
    """
    if command.startswith("echo "):
        text = re.sub(r"\$\{[^}]*\}", "", command.removeprefix("echo "))
        text = re.sub(r"\$\(\(([0-9]+)\+([0-9]+)\)\)", lambda sum_: str(int(sum_[1]) + int(sum_[2])), text)
        return Answer(0, f"{text}\r\n".encode())
    word = command.split(maxsplit=1)[0]
    if word in ("mv", "rm", "mkdir", "ln"):
        return Answer(1, b"", b"Move-Item : A parameter cannot be found that matches parameter name 'f'.\r\n"
                      b"    + FullyQualifiedErrorId : NamedParameterNotFound\r\n")  # fmt: skip
    return Answer(1, b"", f"{word} : The term '{word}' is not recognized as the name of a cmdlet, function, script file, or "
                  f"operable program.\r\n    + FullyQualifiedErrorId : CommandNotFoundException\r\n".encode())  # fmt: skip


def strict_powershell(command: str) -> Answer:
    """The same with `Set-StrictMode -Version Latest` in the profile: a variable that is not there is an error."""
    if "${" in command:
        return Answer(1, b"", b"The variable '$runner_unset' cannot be retrieved because it has not been set.\r\n"
                      b"    + FullyQualifiedErrorId : VariableIsUndefined\r\n")  # fmt: skip
    return powershell(command)


def cmd(command: str) -> Answer:
    """As cmd.exe, Windows OpenSSH's default shell, answers."""
    if command.startswith("echo "):
        return Answer(0, f"{command.removeprefix('echo ')}\r\n".encode())
    word = command.split(maxsplit=1)[0]
    return Answer(1, b"", f"'{word}' is not recognized as an internal or external command,\r\noperable program or batch "
                  f"file.\r\n".encode())  # fmt: skip
