"""Every error the runner raises on purpose, and the exit code each one means.

    RunnerError
    ├── UsageError ............... 64  the command line asks for something that cannot be
    ├── PlaybookInvalid ........... 3  the playbook is wrong; nothing was contacted
    └── StepError ................. 2  a step failed
        ├── UnreachableError ...... 4  no session with the host
        │   ├── ConnectFailed          refused, no route, no such name, not an SSH server
        │   ├── NoCommonAlgorithm      the server has only algorithms that the runner does not offer
        │   ├── ConnectTimedOut        `connect_timeout` passed before a session answered
        │   ├── ForwardingRefused      a jump host or a proxy does not let the connection through
        │   ├── AuthenticationRefused  the server accepted none of the step's credentials
        │   ├── ConnectionLost         the session broke off
        │   ├── Stalled                `stall_timeout` passed without one byte of progress
        │   └── StepTimedOut           `timeout` passed before the step was done
        ├── HostKeyRefused ........ 5  the server's key is not the expected one; no credential was sent
        ├── VerificationFailed .... 6  the copy could not be proven right, so it was not published
        │   └── SourceChanged          the source was written to while it was read
        ├── SafetyLimitHeld ....... 6  a removal that was refused whole
        ├── WaitTimedOut               what a step waits for was not so before its time was up
        ├── TreeIncomplete             some of a folder could not be copied, listed or removed; the rest was
        ├── CredentialUnusable         a private key that cannot be read or decrypted
        ├── ServerLacksFeature         no SFTP subsystem, no scp program, a refused request
        │   └── ChannelRefused         the server opens no further channel
        ├── InternalError ......... 1  a bug in the runner
        ├── InvalidInput               a value that only the play could know is not what is needed there
        ├── ConditionFailed            `assert`, `fail`, `failed_when` or `until` says that a step has failed
        └── FileError                  one path on one side
            ├── SourceMissing, NotARegularFile, DestinationIsDirectory, DestinationExists
            └── PermissionRefused, DiskFull, FileRefused
    Interrupted .......... 129, 130, 143  SIGHUP, SIGINT or SIGTERM asked the play to end

A message says what failed, on what, what was expected and what was found; `hint` says what to do next. Whoever
catches a library's exception translates it here, once, with `raise … from`. Only `runner.cli` turns errors into
exit codes.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.problems import Problem


class RunnerError(Exception):
    """Something the user can understand and act on. `message` and `hint` are plain text in one paragraph each."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # With what was added to it.
        return self.message


class UsageError(RunnerError):
    """The command line contradicts itself or the playbook."""

    exit_code = 64


class PlaybookInvalid(RunnerError):
    """The playbook has problems; all of them are in `problems`, sorted by file and line."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the playbook")
        self.problems = tuple(problems)


class StepError(RunnerError):
    """A step failed while it ran. `may_pass` says whether trying again can help.

    `has_created_nothing` says that a file could not even be created: what bears its name, if anything, is somebody else's.
    `left_behind` are names, in the message as well, under which something is found that was there before or is in vain.
    """

    may_pass = False
    has_created_nothing = False
    left_behind: tuple[str, ...] = ()

    def add(self, sentence: str, *names: str) -> None:
        """Add to the message what the failure has left behind; under these names, if it is more than a sentence."""
        self.message = f"{self.message}. {sentence}"
        self.left_behind += names

    def place(self, where: str) -> None:
        """Say in front of the message where on the way it happened."""
        self.message = f"{where}: {self.message}"


class UnreachableError(StepError):
    """There is no session with the host, or no longer."""

    exit_code = 4
    may_pass = True


class ConnectFailed(UnreachableError):
    """The name does not resolve, nothing listens, or what listens does not speak SSH."""


class NoCommonAlgorithm(UnreachableError):
    """Server and runner agree on no key exchange, cipher or MAC. Trying again cannot help."""

    may_pass = False


class ConnectTimedOut(UnreachableError):
    """`connect_timeout` passed before the server had answered at every stage."""


class ForwardingRefused(UnreachableError):
    """A jump host or a proxy does not let this user through to the next host. Trying again cannot help."""

    may_pass = False


class AuthenticationRefused(UnreachableError):
    """The server accepted none of what the step's `authentication` offers. Trying again could lock the account."""

    may_pass = False


class ConnectionLost(UnreachableError):
    """The connection broke off in the middle of a session."""


class Stalled(UnreachableError):
    """`stall_timeout` passed without one byte of progress."""


class StepTimedOut(UnreachableError):
    """One attempt at the step took longer than its `timeout`."""


class HostKeyRefused(StepError):
    """The server did not prove to be the expected one. No credential was sent to it."""

    exit_code = 5


class VerificationFailed(StepError):
    """What arrived is not provably what was sent; the destination was not touched."""

    exit_code = 6


class SourceChanged(VerificationFailed):
    """The source was written to while it was being read."""

    may_pass = True


class SafetyLimitHeld(StepError):
    """More would have been removed than the step allows, or what must never be removed. Nothing was."""

    exit_code = 6


class TreeIncomplete(StepError):
    """Some of a folder could not be copied, listed or removed; the rest was. `exit_code` is the one the failures share."""

    def __init__(self, message: str, *, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class WaitTimedOut(StepError):
    """What `wait_for` waits for was not so when its `timeout` was up."""


class CredentialUnusable(StepError):
    """A private key, certificate or agent cannot be used. `about` is the input that is wrong, if that is not the key."""

    def __init__(self, message: str, *, hint: str = "", about: str = "") -> None:
        super().__init__(message, hint=hint)
        self.about = about


class ServerLacksFeature(StepError):
    """The server has no SFTP subsystem or scp program, or refuses a request the step needs."""


class ChannelRefused(ServerLacksFeature):
    """The server opens no further channel on this connection. It may do so later, or on another one."""


class InternalError(StepError):
    """A bug in the runner: an exception that nobody has foreseen. Whatever else failed, the play's exit code is this one."""

    exit_code = 1

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"an error in the runner itself, {type(error).__name__}: {error}",
            hint="This is a bug. Please report it with the lines on standard error and the playbook, secrets removed.",
        )


class InvalidInput(StepError):
    """A value that only the play could know is not what is needed there. `problems` say where it stands."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(one.message for one in problems), hint=problems[0].hint)
        self.problems = tuple(problems)


class ConditionFailed(StepError):
    """A step did what it says, and a condition of the playbook's says that this is a failure."""


class FileError(StepError):
    """One file on one side cannot be read or written as the step asks."""


class SourceMissing(FileError):
    """The source, or the path that the step is about, does not exist."""


class NotARegularFile(FileError):
    """The source is a directory, a device, a pipe or a socket."""


class DestinationIsDirectory(FileError):
    """The destination names an existing directory; a file copy needs a file name."""


class DestinationExists(FileError):
    """`if_exists: fail`, and the destination exists and differs."""


class PermissionRefused(FileError):
    """The file system or the server denies access."""


class DiskFull(FileError):
    """No space is left on the writing side."""

    may_pass = True


class FileRefused(FileError):
    """Any other refusal of one path: name too long, read-only file system, a bare FAILURE."""


class Interrupted(BaseException):
    """The play was asked to end. Not an `Exception`, so that no ordinary handler swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells report it: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal_number
