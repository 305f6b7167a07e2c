"""The server's shell, where the account has one: what SCP itself cannot do, POSIX utilities can."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from runner.cancellation import Deadline
from runner.errors import (
    ChannelRefused,
    ConnectionLost,
    ConnectTimedOut,
    FileRefused,
    PermissionRefused,
    ServerLacksFeature,
    StepError,
)
from runner.shell.stream import CommandChannel, OutputEnded, Stream, Unanswered

if TYPE_CHECKING:
    from runner.findings import Answerer

MAX_OUTPUT_BYTES = 64 * 1024

# By the program's name. OpenSSL's uses the processor's SHA instructions: 0.9 s for 1 GiB where the sha256sum of Debian 12,
# which is plain C, takes 3.5 s. Then coreutils and busybox, Perl's on macOS, the BSDs'.
CHECKSUM_COMMANDS = {
    "openssl": "openssl dgst -sha256 -r",
    "sha256sum": "sha256sum",
    "shasum": "shasum -a 256",
    "sha256": "sha256 -q",
}

# The sum is worked out by a POSIX shell and by nothing else. The variable is not set: PowerShell, which knows the sum,
# takes what the braces hold for a variable's name, of which there is none; cmd.exe repeats the words.
_QUESTION = b"echo runner-${runner_unset-$((40+2))}"
_POSIX_ANSWER = b"runner-42"
_POWERSHELL_ANSWER = b"runner-"
_CMD_ANSWER = _QUESTION.removeprefix(b"echo ")
# What they say of a command that they cannot make sense of, in every language: PowerShell names its error.
_POWERSHELL_ERROR = re.compile(
    rb"FullyQualifiedErrorId|ParserError|CommandNotFoundException|VariableIsUndefined|[Pp]ower[Ss]hell|cmdlet"
)
_CMD_ERROR = re.compile(rb"is not recognized as an internal or external command|Microsoft Windows")

# How long a command may take that only finds out whether there is a shell; where the login itself took long, as many times
# as long as that.
TRIAL_SECONDS = 5.0
TRIAL_LOGINS = 5
# What a program hashes without a sign of life. A slow disk reads it in a few seconds.
BLOCK_BYTES = 64 * 1024 * 1024
_DD_BYTES = 64 * 1024

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Each writes digest, a space, a space or a star, and the name.
_MANY_SHA256 = ("openssl dgst -sha256 -r", "sha256sum", "shasum -a 256")
_OUTPUT_BYTES_BESIDE_NAME = 128

# `h` hashes its input by the first program that works. Not a variable: zsh would take the words in it for one.
_CHOOSE_HASH = (
    "".join(
        f"{'el' if number else ''}if {program} </dev/null >/dev/null 2>&1; then h() {{ {program}; }}; "
        for number, program in enumerate(CHECKSUM_COMMANDS.values())
    )
    + "else exit 127; fi; "
)


class StartCommand(Protocol):
    """Starts a command and returns its channel, which was handed to `prepare` before. Raises `ServerLacksFeature` if the
    server runs none.

    A command with `patience_seconds` is only tried: if the server has not started it by then, its channel alone is given
    up, and `Unanswered` raised.
    """

    def __call__(
        self,
        command: bytes,
        prepare: Callable[[CommandChannel], None],
        patience_seconds: float | None = None,
        /,
    ) -> CommandChannel: ...


class ShellMemory:
    """What is known of who runs an account's commands. It outlives the connection on which that was found out.

    `answered_by` is None until it is known. A server that ends the connection for a command is known by that, once it has
    done so `losses_needed` times: where everything rests on commands, an accident must not pass for it.
    """

    def __init__(self, answered_by: Answerer | None = None, losses_needed: int = 1) -> None:
        self.answered_by = answered_by
        self._losses_needed = losses_needed
        self._losses = 0
        self._has_just_lost = False
        self._is_told = False

    def note_loss(self) -> None:
        """A connection ended while it was being found out."""
        self._losses += 1
        self._has_just_lost = True
        if self._losses >= self._losses_needed:
            self.answered_by = "hangup"

    def take_loss(self) -> bool:
        """Whether a connection has ended so since this was asked last: what was under way may begin again."""
        has_lost, self._has_just_lost = self._has_just_lost, False
        return has_lost

    def take_warning(self, peer: str) -> str:
        """What the user should know of it, once; empty if there is nothing."""
        words = {
            "silent": "does not answer a command, so that it was waited for in vain",
            "hangup": "ended the connection when a command was started, so that another login was needed",
        }
        said = words.get(self.answered_by or "", "")
        if not said or self._is_told:
            return ""
        self._is_told = True
        return f"{peer} {said}: 'commands: never' saves the try"


class Shell:
    """Runs single commands for one user on one server."""

    def __init__(
        self,
        start_command: StartCommand,
        peer: str,
        memory: ShellMemory | None = None,
        patience_seconds: float = TRIAL_SECONDS,
    ) -> None:
        """`memory` is what is known beforehand, and is added to. `patience_seconds` are for finding out whether a shell
        is there.
        """
        self._start_command = start_command
        self._peer = peer
        self._memory = memory or ShellMemory()
        self._patience_seconds = patience_seconds
        # Where there is no channel for it on this connection, nothing is known of another one.
        self._has_no_channel = False

    @property
    def exists(self) -> bool:
        """Whether there is a POSIX shell behind the account, rather than a program that serves scp only."""
        return self.answered_by == "shell"

    @property
    def answered_by(self) -> Answerer:
        """Who runs this account's commands. Asked once. Raises `ConnectionLost`."""
        if self._has_no_channel:
            return "nothing"
        if self._memory.answered_by is None:
            try:
                self._memory.answered_by = self._find_out()
            except ChannelRefused:
                self._has_no_channel = True
                return "nothing"
            except ConnectionLost as error:
                self._memory.note_loss()
                raise ConnectionLost(
                    f"{error.message}; a command had just been started there, to find out whether there is a shell",
                    hint="If the server ends connections for that, set 'commands: never'. Otherwise play again.",
                ) from error
        return self._memory.answered_by

    def _find_out(self) -> Answerer:
        try:
            answer = self._ask()
            if answer[0] is None:
                # Nor does a connection that has broken off tell a status: then this raises `ConnectionLost`.
                answer = self._ask()
            return _identify(*answer)
        except Unanswered:
            return "silent"
        except ChannelRefused:
            raise
        except ServerLacksFeature:
            return "nothing"

    def _ask(self) -> tuple[int | None, bytes, str]:
        """What a command comes to that only a shell understands. Raises `Unanswered`."""
        streams: list[Stream] = []
        channel = self._start_command(
            _QUESTION,
            lambda channel: streams.append(Stream(channel, Deadline.after(self._patience_seconds))),
            self._patience_seconds,
        )
        try:
            channel.finish_sending()
            output = streams[0].read_to_end(MAX_OUTPUT_BYTES)
            return streams[0].await_exit(), output, channel.stderr_text
        except ConnectTimedOut as error:
            channel.check()
            raise Unanswered from error
        except ConnectionLost:
            if channel.is_cut_off:
                raise
            # It talks without end, and is no shell.
            return 0, b"", ""
        finally:
            channel.close()

    @property
    def login_folder(self) -> str | None:
        """The folder that commands start in; None if the shell does not say."""
        status, output, _ = self._run(b"pwd")
        folder = output.decode("utf-8", "surrogateescape").removesuffix("\n")
        return folder if status == 0 and folder.startswith("/") else None

    def find_programs(self, names: Collection[str]) -> tuple[str, ...]:
        """Those of the programs that are installed."""
        command = f"for name in {' '.join(names)}; do command -v $name >/dev/null 2>&1 && echo $name; done"
        _, output, _ = self._run(command.encode("ascii"))
        found = output.decode("ascii", "replace").split()
        return tuple(name for name in names if name in found)

    def rename(self, source: str, destination: str) -> None:
        """Rename a file over another one in one step. Raises `StepError`."""
        self._do(f"mv -f -- {quote(source)} {quote(destination)}", "cannot rename to", destination)

    def replace_keeping(self, source: str, destination: str, backup: str) -> bool:
        """The same, but what was there is kept under another name. False if nothing was there. Raises `StepError`."""
        old, kept = quote(destination), quote(backup)
        # A hard link: the destination is never missing. If the rename fails, its second name goes again.
        output = self._do(
            f"if [ -e {old} ] || [ -L {old} ]; then ln -- {old} {kept} || exit; "
            f"mv -f -- {quote(source)} {old} || {{ rm -f -- {kept}; exit 1; }}; echo kept; "
            f"else mv -f -- {quote(source)} {old}; fi",
            "cannot keep the old file and rename to",
            destination,
        )
        return output.strip() == b"kept"

    def remove(self, path: str) -> bool:
        """Remove a file; whether there was one. Raises `StepError`."""
        name = quote(path)
        command = f"if [ -e {name} ] || [ -L {name} ]; then rm -f -- {name} && echo removed; fi"
        return self._do(command, "cannot remove", path).strip() == b"removed"

    def set_permissions(self, path: str, permissions: int) -> None:
        """Set a file's permissions. Raises `StepError`."""
        self._do(f"chmod {permissions:04o} {quote(path)}", "cannot set the permissions of", path)

    def close_off(self, path: str, permissions: int) -> None:
        """Set a file's permissions if it is there. Raises `StepError`."""
        name = quote(path)
        self._do(f"test ! -e {name} || chmod {permissions:04o} {name}", "cannot set the permissions of", path)

    def is_link(self, path: str) -> bool:
        """Whether a symbolic link is at a path, wherever it leads."""
        return self._run(f"test -L {quote(path)}".encode("utf-8", "surrogateescape"))[0] == 0

    def create_folder(self, path: str) -> None:
        """Create a folder and those above it. Raises `StepError`."""
        self._do(f"mkdir -p -- {quote(path)}", "cannot create the folder", path)

    def sync(self, path: str) -> bool:
        """Put a file or folder to disk; False where no utility is installed that can. Raises `StepError` if that fails."""
        # Other programs of this name take no notice of the path, and not all of them wait.
        output = self._do(
            f"if sync --version 2>/dev/null | grep -q coreutils; then sync {quote(path)} && echo synced; fi",
            "cannot sync to disk",
            path,
        )
        return output.strip() == b"synced"

    def sha256(self, path: str, size_bytes: int = 0) -> str | None:
        """The SHA-256 of a file, in hexadecimal; None where no utility for it is installed, or it cannot be read.

        Of a file as large as `size_bytes` says a dot comes back for each block: a server that works is not silent.
        """
        name = quote(path)
        if size_bytes <= BLOCK_BYTES:
            # Read from standard input, no name needs escaping in the output.
            command = " || ".join(f"{program} < {name}" for program in CHECKSUM_COMMANDS.values())
        else:
            # `dd` takes a block from the descriptor that all share, `cat` what is there beyond the expected size.
            blocks = (
                f"n=0; while [ $n -lt {size_bytes // BLOCK_BYTES} ]; do "
                f"{_take(BLOCK_BYTES)} || exit; printf . >&3; n=$((n+1)); done; cat"
            )
            can_read = f"command -v dd >/dev/null && [ -r {name} ] || exit"
            command = f"{_CHOOSE_HASH}{can_read}; exec 3>&1; {{ {blocks}; }} < {name} | h"
        status, output, _ = self._run(command.encode("utf-8", "surrogateescape"), limit_bytes=_limit_bytes(size_bytes))
        digest = output.lstrip(b".").split()[:1]
        text = digest[0].decode("ascii", "replace").lower() if digest else ""
        return text if status == 0 and _SHA256.fullmatch(text) else None

    def sha256_pieces(self, path: str, sizes: Sequence[int]) -> Iterator[str]:
        """The SHA-256 of each piece of a file, one after the other from its beginning, each as soon as it is known.

        There are fewer where the file cannot be read or no utility is installed. Close it when no more of them are needed.
        Raises `ConnectionLost` if the session ends.
        """
        runs = [(size, sum(1 for _ in run)) for size, run in itertools.groupby(sizes)]
        pieces = " ".join(f"p {count} {_count_of(size)} &&" for size, count in runs)
        command = (
            f"{_CHOOSE_HASH}p() {{ n=0; while [ $n -lt $1 ]; do dd bs=$2 count=$3 2>/dev/null | h || exit; n=$((n+1)); "
            f"done; }}; {{ {pieces} :; }} < {quote(path)}"
        )
        streams: list[Stream] = []
        channel = self._start_command(
            command.encode("utf-8", "surrogateescape"), lambda channel: streams.append(Stream(channel))
        )
        try:
            channel.finish_sending()
            for _ in sizes:
                words = streams[0].read_line().split()
                digest = words[0].decode("ascii", "replace").lower() if words else ""
                if not _SHA256.fullmatch(digest):
                    return
                yield digest
        except OutputEnded:
            if streams[0].await_exit() is None:
                raise self._lost(f"hashing {path!r}") from None
        finally:
            channel.close()

    def sha256_of(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        """The SHA-256 of files, given by path and size in bytes; those that cannot be read, or told apart, are missing."""
        if len(files) != 1:
            return self.sha256_many(files)
        # Alone it may have any name, and gives signs of life while it is hashed.
        ((path, size_bytes),) = files
        digest = self.sha256(path, size_bytes)
        return {} if digest is None else {path: digest}

    def sha256_many(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        """The SHA-256 of many files in one command, by path; those that cannot be read, or told apart, are missing.

        `files` are paths and sizes in bytes.
        """
        names = {encode(shell_path(path)): path for path, _ in files if not _is_escaped_in_output(path)}
        if not names:
            return {}
        # What a program has found out comes back when it ends: each is given no more than it can read in a while.
        at_once = max(1, BLOCK_BYTES // max(1, *(size for _, size in files)))
        together = f"-n {at_once} " if at_once < len(names) else ""
        choices = " elif ".join(
            f"command -v {program.split()[0]} >/dev/null; then xargs -0 {together}{program};"
            for program in _MANY_SHA256
        )
        limit_bytes = MAX_OUTPUT_BYTES + sum(len(name) + _OUTPUT_BYTES_BESIDE_NAME for name in names)
        _, output, _ = self._run(f"if {choices} fi".encode(), b"".join(name + b"\0" for name in names), limit_bytes)
        found: dict[str, str] = {}
        for line in output.split(b"\n"):
            digest, name = line[:64].decode("ascii", "replace").lower(), line[66:]
            if name in names and _SHA256.fullmatch(digest):
                found[names[name]] = digest
        return found

    def _do(self, command: str, doing: str, path: str) -> bytes:
        status, output, said = self._run(command.encode("utf-8", "surrogateescape"))
        if status is None:
            raise self._lost(f"{doing} {path!r}")
        if status != 0:
            raise self._explain(doing, path, said or f"status {status}")
        return output

    def _lost(self, doing: str) -> ConnectionLost:
        return ConnectionLost(
            f"the connection to {self._peer} broke off: {doing} was under way",
            hint="The server ended the session, or the network failed. Play again.",
        )

    def _explain(self, doing: str, path: str, said: str) -> StepError:
        message = f"{doing} {path!r} on {self._peer}: {said}"
        if "permission denied" in said.lower():
            return PermissionRefused(message, hint="Check owner and permissions of the file and its folder.")
        return FileRefused(message, hint="The words are the server's; its file system refuses.")

    def _run(
        self, command: bytes, given: bytes = b"", limit_bytes: int = MAX_OUTPUT_BYTES
    ) -> tuple[int | None, bytes, str]:
        """A command's exit status, output and error text; `given` is its input."""
        streams: list[Stream] = []
        channel = self._start_command(command, lambda channel: streams.append(Stream(channel)))
        try:
            if given:
                try:
                    streams[0].send(given)
                except OutputEnded:
                    pass  # it wants no more, and its output tells what came of it
            channel.finish_sending()
            output = streams[0].read_to_end(limit_bytes)
            return streams[0].await_exit(), output, channel.stderr_text
        finally:
            channel.close()


def _identify(status: int | None, output: bytes, said: str) -> Answerer:
    """Who has given this answer to the question."""
    answer, everything = output.strip(), output + said.encode("utf-8", "replace")
    if status == 0 and answer == _POSIX_ANSWER:
        return "shell"
    if answer == _POWERSHELL_ANSWER or _POWERSHELL_ERROR.search(everything):
        return "powershell"
    if answer == _CMD_ANSWER or _CMD_ERROR.search(everything):
        return "cmd"
    return "program"


def _take(size_bytes: int) -> str:
    """The command that copies so many bytes of its input and leaves the rest to the next one."""
    size, count = _count_of(size_bytes).split()
    return f"dd bs={size} count={count} 2>/dev/null"


def _count_of(size_bytes: int) -> str:
    """The size and the number of the blocks that `dd` takes so many bytes in."""
    return f"{size_bytes} 1" if size_bytes % _DD_BYTES else f"{_DD_BYTES} {size_bytes // _DD_BYTES}"


def _limit_bytes(size_bytes: int) -> int:
    return MAX_OUTPUT_BYTES + size_bytes // BLOCK_BYTES


def quote(path: str) -> str:
    """A path as one word of a POSIX shell that no command takes for an option."""
    return shlex.quote(shell_path(path))


def shell_path(path: str) -> str:
    """A path that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def encode(path: str) -> bytes:
    """A path's bytes on the server."""
    return path.encode("utf-8", "surrogateescape")


def _is_escaped_in_output(path: str) -> bool:
    """Whether checksum programs may write the name in another way than it is."""
    return any(character in path for character in "\n\r\\\0")
