"""What `runner doctor` finds out about a server. Facts only: how they are put into words is the report's business."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from runner.plan import Target
from runner.problems import Problem
from runner.public_keys import PublicKey
from runner.results import StepFailure

if TYPE_CHECKING:
    from runner.errors import StepError

# What answers a command: a POSIX shell, one of Windows' shells, another program in its place (a forced command), or nothing:
# commands are refused, never answered, or end the connection. `never` was asked because the playbook says so.
Answerer = Literal["shell", "powershell", "cmd", "program", "nothing", "silent", "hangup", "never"]


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What client and server have agreed on. Pairs are for the way to the server and the way back.

    `macs` are empty where the cipher signs the packets itself. `is_strict` says that the server keeps strict key exchange,
    OpenSSH's answer to the Terrapin attack.
    """

    key_exchange: str
    host_key: str
    ciphers: tuple[str, str]
    macs: tuple[str, str]
    compressions: tuple[str, str]
    is_strict: bool


@dataclass(frozen=True, slots=True)
class SftpLimits:
    """What an SFTP server says it takes (limits@openssh.com); 0 where it names no limit."""

    packet_bytes: int
    read_bytes: int
    write_bytes: int
    open_files: int


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The file system below a folder of the server: what there is, and what is left for this user."""

    total_bytes: int
    free_bytes: int
    total_files: int
    free_files: int

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be written. A file system that counts no blocks or no files has no end of them."""
        return bool((self.total_bytes and not self.free_bytes) or (self.total_files and not self.free_files))


@dataclass(frozen=True, slots=True)
class Login:
    """A connection that stands: who is at its other end, how that is known, and how it was let in.

    `authority` has signed the host's certificate, where one was shown. `lax_files` are those of the known_hosts files that
    everybody on this machine may write to. `weaknesses` says what the playbook allows although it is weak.
    """

    address: str
    seconds: float
    server_version: str
    host_key: PublicKey
    authority: PublicKey | None
    trusted_by: str
    lax_files: tuple[str, ...]
    algorithms: Algorithms
    method: str
    weaknesses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HopFacts:
    """A jump host that let us through."""

    name: str
    host_key: PublicKey
    trusted_by: str
    weaknesses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SftpFacts:
    """What the SFTP server says of itself; None for what it does not tell. `extensions` are names and raw versions."""

    version: int
    round_trip_seconds: float
    extensions: tuple[tuple[str, bytes], ...]
    limits: SftpLimits | None
    read_bytes: int
    write_bytes: int
    login_folder: str | None = None
    space: DiskSpace | None = None
    # What is held to be true of it, by name: the value in words, and why.
    traits: tuple[tuple[str, str, str], ...] = ()

    def has(self, name: str) -> bool:
        """Whether an extension is offered."""
        return any(name == offered for offered, _ in self.extensions)


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was tried out, and what came of it in words."""

    name: str
    outcome: str
    is_well: bool


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """What was tried out in a folder of the server, and the lines that a mode should have for it.

    `failure` is there if no such lines help, or something stays behind: what a server merely lacks is none.
    """

    folder: str
    trials: tuple[Trial, ...]
    advice: tuple[str, ...]
    failure: StepError | None = None


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """Whether commands run, and what they could be. `has_scp` is None where nobody asked."""

    answered_by: Answerer
    checksum_programs: tuple[str, ...] = ()
    login_folder: str | None = None
    has_scp: bool | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is weak, or that the server lacks; what that means, and what to do about it."""

    kind: Literal["weak", "lacking"]
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything about one target. What could not be found out is None; `failure` says why.

    `warnings` are about lines of known_hosts files that could not be read.
    """

    target: Target
    hops: tuple[HopFacts, ...] = ()
    login: Login | None = None
    sftp: SftpFacts | None = None
    commands: CommandFacts | None = None
    probe: ProbeFacts | None = None
    notes: tuple[Note, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: StepFailure | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """The servers that a playbook names, in its order, and the connections that mean nothing without a step."""

    file: str
    name: str
    targets: tuple[Target, ...]
    left_out: tuple[tuple[str, Problem], ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """A survey that was carried out, to its end or up to a signal."""

    survey: Survey
    found: tuple[Findings, ...]
    started_at: datetime
    duration_seconds: float
    exit_code: int
    is_interrupted: bool

    @property
    def status(self) -> Literal["ok", "failed", "interrupted"]:
        if self.is_interrupted:
            return "interrupted"
        return "failed" if self.exit_code else "ok"
