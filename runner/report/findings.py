"""What `runner doctor` has found, as people read it: a heading for each server, a line for each fact, then what is weak."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Literal

from runner.errors import UnreachableError
from runner.findings import Answerer, CommandFacts, DiskSpace, Findings, Login, Note, ProbeFacts, SftpFacts, Survey
from runner.plan import Authentication, SshAgent, SshKey, SshKeyFile, Target, UsernamePassword
from runner.problems import Location, Problem
from runner.redaction import Redactor
from runner.report.printer import ConsoleOptions, Printer
from runner.report.text import (
    LABEL_WIDTH,
    format_duration,
    format_fact,
    format_milliseconds,
    format_size,
    format_trait,
    printable,
)
from runner.results import StepFailure

INDENT = "  "
MAX_WARNINGS = 10
MAX_VALUE_LENGTH = 1000
MAX_EXTENSIONS = 40
MIN_COLUMNS = 60
MAX_VERSION_LENGTH = 20

# The extensions of SFTP that are worth missing; the last three would be of use to others.
USEFUL_EXTENSIONS = (
    "posix-rename@openssh.com",
    "limits@openssh.com",
    "statvfs@openssh.com",
    "fsync@openssh.com",
    "hardlink@openssh.com",
    "copy-data",
)

_METHODS: dict[type[Authentication], str] = {
    UsernamePassword: "username_password",
    SshKey: "ssh_key",
    SshKeyFile: "ssh_key_file",
    SshAgent: "ssh_agent",
}

_ANSWERS: dict[Answerer, str] = {
    "shell": "run by a POSIX shell",
    "powershell": "run by PowerShell, which is no POSIX shell",
    "cmd": "run by cmd.exe, which is no POSIX shell",
    "program": "answered by another program than a POSIX shell",
    "nothing": "a shell's are refused",
    "silent": "never answered",
    "hangup": "end the connection",
    "never": "never started ('commands: never')",
}

# Label and value of one line.
Fact = tuple[str, str]


class FindingsConsole:
    """Prints findings as they come. Nothing a server says is printed raw, and no secret at all."""

    def __init__(self, options: ConsoleOptions, redactor: Redactor) -> None:
        self._options = options
        self._redactor = redactor
        self._printer = Printer(options, redactor)

    def start(self, survey: Survey, probed_folder: str | None = None) -> None:
        """Say what is going to be looked at, and where something is tried out."""
        if self._options.verbosity >= 0:
            title = self._printer.paint("DOCTOR", "bold")
            what = "nothing is transferred"
            if probed_folder is not None:
                what = f"a test file is written to {printable(probed_folder)!r}, and removed"
            self._printer.print(f"{title}  {printable(survey.name)}  ({printable(survey.file)}, {what})")

    def tell(self, findings: Findings) -> None:
        """Everything about one server."""
        if self._options.verbosity < 0 and findings.failure is None:
            return
        if self._options.verbosity >= 0:
            self._printer.print("")
        self._printer.print(self._heading(findings))
        if self._options.verbosity >= 0:
            for label, value in list_facts(findings):
                self._print_fact(label, value)
            for note in findings.notes:
                self._print_note(note)
        if self._options.verbosity > 0:
            self._print_warnings(findings.warnings)
        if findings.failure:
            self._print_failure(findings.target.location, findings.failure.message, findings.failure.hint)

    def tell_left_out(self, name: str, problem: Problem) -> None:
        """A connection that was not looked at."""
        if self._options.verbosity < 0:
            return
        self._printer.print("")
        self._printer.print(f"{self._printer.paint('skipped', 'skipped')}  {printable(name)}")
        self._print_failure(problem.location, problem.message, problem.hint)

    def finish(self, duration_seconds: float, exit_code: int, *, is_interrupted: bool) -> None:
        """The last line."""
        if self._options.verbosity < 0 and exit_code == 0:
            return
        ending = "interrupted" if is_interrupted else "failed" if exit_code else "done"
        code = f", exit code {exit_code}" if exit_code else ""
        self._printer.print("")
        self._printer.print(f"{ending} in {format_duration(duration_seconds)}{code}")

    def _heading(self, findings: Findings) -> str:
        target, failure = findings.target, findings.failure
        status = status_of(failure)
        word = self._printer.paint(status if failure is None else status.upper(), status)
        name = ", ".join(target.names)
        where = "" if target.names == (str(target.endpoint),) else f"  {target.endpoint}"
        return f"{word}  {self._printer.paint(printable(name), 'bold')}{printable(where)}  {target.connector_type}"

    def _print_fact(self, label: str, value: str) -> None:
        # Masked before it is cut: what is left of a secret would not be found.
        text = self._redactor.redact(printable(value))
        text = text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + "…"
        self._print_text(text, format_fact(label, ""), "dim", hanging=LABEL_WIDTH + 1)

    def _print_note(self, note: Note) -> None:
        if note.kind == "weak":
            self._print_text(note.message, "warning: ", "changed")
        else:
            self._print_text(note.message, "note: ", "skipped")
        if note.hint:
            self._print_text(note.hint, "hint: ")

    def _print_warnings(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings[:MAX_WARNINGS]:
            self._print_text(warning, "warning: ", "changed")
        if len(warnings) > MAX_WARNINGS:
            self._print_text(f"and {len(warnings) - MAX_WARNINGS} more warnings")

    def _print_failure(self, location: Location, message: str, hint: str) -> None:
        self._print_text(f"{location}: {message}")
        if hint:
            self._print_text(hint, "hint: ")

    def _print_text(self, text: str, prefix: str = "", colour: str = "", *, hanging: int = 2) -> None:
        """One line in a pipe, for whoever searches; on a terminal lines that fit."""
        # Masked before it is broken into lines.
        line = prefix + self._redactor.redact(printable(text))
        columns = self._options.columns
        if columns is not None:
            width = max(columns, MIN_COLUMNS) - len(INDENT)
            line = textwrap.fill(line, width, subsequent_indent=" " * hanging, break_on_hyphens=False)
        if colour:
            line = self._printer.paint(prefix, colour) + line.removeprefix(prefix)
        self._printer.print(textwrap.indent(line, INDENT))


def status_of(failure: StepFailure | None) -> Literal["ok", "failed", "unreachable"]:
    """A visit's end in the words of a play."""
    if failure is None:
        return "ok"
    return "unreachable" if failure.exit_code == UnreachableError.exit_code else "failed"


def list_facts(findings: Findings) -> Iterator[Fact]:
    """The lines about one server, as label and value."""
    if (proxy := findings.target.endpoint.first_proxy) is not None:
        yield "through", f"{proxy}{f' as {proxy.username}' if proxy.username else ''}"
    for hop in findings.hops:
        yield "through", f"{hop.name}, {hop.host_key.type} {hop.host_key.fingerprint}, trusted by {hop.trusted_by}"
    if findings.login is not None:
        yield from _list_login(findings.target, findings.login)
    if findings.sftp is not None:
        yield from _list_sftp(findings.sftp)
    if findings.commands is not None:
        yield from _list_commands(findings.commands)
    yield from _list_places(findings.sftp, findings.commands)
    if findings.probe is not None:
        yield from _list_probe(findings.probe)


def _list_login(target: Target, login: Login) -> Iterator[Fact]:
    agreed = login.algorithms
    yield "address", f"{login.address}, logged in after {format_duration(login.seconds)}"
    yield "server", login.server_version
    bits = f" of {login.host_key.rsa_bits} bits" if login.host_key.rsa_bits else ""
    yield "host key", f"{login.host_key.type}{bits} {login.host_key.fingerprint}, proven by {agreed.host_key}"
    if login.authority is not None:
        yield "certificate", f"signed by {login.authority.type} {login.authority.fingerprint}"
    yield "trusted by", login.trusted_by
    yield "key exchange", f"{agreed.key_exchange}, {'strict' if agreed.is_strict else 'not strict'}"
    yield "cipher", _both_ways(agreed.ciphers)
    yield "integrity", _both_ways(agreed.macs, nothing="by the cipher")
    yield "compression", _both_ways(agreed.compressions)
    method = _METHODS[type(target.endpoint.authentication)]
    yield "login", f"{target.endpoint.authentication.username} by {login.method} ({method})"


def _both_ways(names: tuple[str, str], nothing: str = "") -> str:
    there, back = (name or nothing for name in names)
    return there if there == back else f"{there} to the server, {back} from it"


def _list_sftp(sftp: SftpFacts) -> Iterator[Fact]:
    trip = format_milliseconds(sftp.round_trip_seconds)
    yield "sftp", f"version {sftp.version}, answers in {trip}"
    shown = [_name_extension(*extension) for extension in sftp.extensions[:MAX_EXTENSIONS]]
    more = len(sftp.extensions) - len(shown)
    yield "extensions", ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
    missing = [name for name in USEFUL_EXTENSIONS if not sftp.has(name)]
    if missing:
        yield "not offered", ", ".join(missing)
    yield "limits", _describe_limits(sftp)
    for label, value, reason in sftp.traits:
        yield label, format_trait(value, reason)


def _list_probe(probe: ProbeFacts) -> Iterator[Fact]:
    for trial in probe.trials:
        yield f"{'tried' if trial.is_well else 'FAILED'} {trial.name}", trial.outcome
    yield "lines to paste", "; ".join(probe.advice) if probe.advice else "none are needed"


def _name_extension(name: str, version: bytes) -> str:
    """`statvfs@openssh.com 2`; some extensions carry a structure where others carry a version."""
    text = version.decode("ascii", "replace")
    is_short = text.isascii() and text.isprintable() and 0 < len(text) <= MAX_VERSION_LENGTH
    return f"{name} {text}" if is_short else name


def _describe_limits(sftp: SftpFacts) -> str:
    ours = f"the runner reads {format_size(sftp.read_bytes)} and writes {format_size(sftp.write_bytes)} at a time"
    limits = sftp.limits
    if limits is None:
        return f"not told; {ours}"
    files = f"{limits.open_files:,} open files" if limits.open_files else "any number of open files"
    sizes = [format_size(size) if size else "any size" for size in (limits.read_bytes, limits.write_bytes)]
    return f"reads of {sizes[0]}, writes of {sizes[1]}, {files}; {ours}"


def _list_commands(commands: CommandFacts) -> Iterator[Fact]:
    yield "commands", _ANSWERS[commands.answered_by]
    if commands.has_scp is not None:
        yield "scp", "answers" if commands.has_scp else "does not answer"
    if commands.answered_by == "shell":
        yield "checksums", "by " + ", ".join(commands.checksum_programs) if commands.checksum_programs else "by none"


def _list_places(sftp: SftpFacts | None, commands: CommandFacts | None) -> Iterator[Fact]:
    if sftp is None and commands is None:
        return
    folder = sftp.login_folder if sftp is not None else commands.login_folder if commands is not None else None
    yield "login directory", folder or "unknown"
    space = sftp.space if sftp is not None else None
    yield "free space", _describe_space(space) if space is not None else "unknown"


def _describe_space(space: DiskSpace) -> str:
    text = f"{format_size(space.free_bytes)} of {format_size(space.total_bytes)}"
    return f"{text}, {space.free_files:,} files" if space.total_files else text
