"""Looks at a server without changing anything there: logs in as a play would, asks what it can do, and leaves."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectionLost, ConnectTimedOut, FileError, InternalError, ServerLacksFeature, StepError
from runner.execution.protocols import find_patience, make_command_starter, open_sftp_session, remember_shell
from runner.execution.weaknesses import find_notes
from runner.findings import CommandFacts, Findings, HopFacts, Login, Note, ProbeFacts, SftpFacts, SftpLimits
from runner.plan import Target
from runner.remote_files import StatusRefused
from runner.results import StepFailure
from runner.scp.files import ScpFiles
from runner.sftp.disk_space import ask_disk_space
from runner.sftp.files import SftpFiles
from runner.sftp.session import SftpSession
from runner.shell.shell import CHECKSUM_COMMANDS, Shell, StartCommand
from runner.ssh.connection import Connection
from runner.ssh.jump_hosts import open_hops
from runner.ssh.opening import open_connection

LOGIN_FOLDER = "."


def examine(
    target: Target,
    cancellation: Cancellation,
    on_bug: Callable[[Exception], None],
    probed_folder: str | None = None,
) -> Findings:
    """Everything that can be found out about a server within its `connect_timeout`, and those of its jump hosts.

    With a `probed_folder` a file is written there and removed again, behind everything else and without that limit.

    Never raises for what is wrong there, nor for a bug met on the way, which `on_bug` is told: the findings say how far it
    went, and the first failure. Raises `Interrupted`.
    """
    examination = _Examination(target, cancellation, probed_folder)
    try:
        return examination.run()
    except Exception as error:
        on_bug(error)
        return examination.give_up(InternalError(error))


class _Examination:
    """One visit to one server; holds what is known so far."""

    def __init__(self, target: Target, cancellation: Cancellation, probed_folder: str | None) -> None:
        self._target = target
        self._probed_folder = probed_folder
        self._session: SftpSession | None = None
        self._shell: Shell | None = None
        self._probe: ProbeFacts | None = None
        self._cancellation = cancellation
        self._deadline = Deadline.after(target.connect_timeout_seconds)
        self._awaited = ""
        self._login: Login | None = None
        self._sftp: SftpFacts | None = None
        self._commands: CommandFacts | None = None
        self._warnings: tuple[str, ...] = ()
        self._hops: list[HopFacts] = []
        self._failure: StepFailure | None = None

    def run(self) -> Findings:
        """Connect, ask, and hang up."""
        try:
            self._visit()
        except StepError as error:
            self._note_failure(error)
        return self._findings(find_notes(self._target, self._login, self._sftp, self._commands, self._hops))

    def give_up(self, error: StepError) -> Findings:
        """What was found before something went wrong that nobody has foreseen."""
        self._failure = None
        self._note_failure(error)
        return self._findings(())

    def _findings(self, notes: tuple[Note, ...]) -> Findings:
        return Findings(
            target=self._target,
            hops=tuple(self._hops),
            login=self._login,
            sftp=self._sftp,
            commands=self._commands,
            probe=self._probe,
            notes=notes,
            warnings=self._warnings,
            failure=self._failure,
        )

    def _note_failure(self, error: StepError) -> None:
        failure = StepFailure(type(error).__name__, error.message, error.hint, error.exit_code)
        self._failure = self._failure or failure

    def _visit(self) -> None:
        last_hop = open_hops(self._target.endpoint.proxy_jump, self._cancellation, self._note_hop)
        self._deadline = Deadline.after(self._target.connect_timeout_seconds)
        started = time.monotonic()
        connection = open_connection(self._target.endpoint, self._deadline, self._cancellation, last_hop)
        try:
            self._login = _describe_login(connection, time.monotonic() - started)
            self._warnings += connection.known_hosts_warnings
            # What comes after the login may take no longer either; these waits know no deadline of their own.
            with self._cancellation.limited(self._deadline.remaining_seconds, self._time_is_up):
                connection.end_with(self._cancellation.make_alarm())
                self._ask(connection)
            self._try_out()
        finally:
            connection.close()

    def _try_out(self) -> None:
        """Only a try can tell the rest."""
        session, shell, folder = self._session, self._shell, self._probed_folder
        if session is None or shell is None or folder is None:
            return
        from runner.execution.probing import probe

        peer = str(self._target.endpoint)
        self._probe = probe(SftpFiles(session, shell), folder, peer, self._cancellation)
        if self._probe.failure is not None:
            self._note_failure(self._probe.failure)
        if self._sftp is not None:
            self._sftp = replace(self._sftp, traits=session.traits.describe())

    def _note_hop(self, connection: Connection) -> None:
        self._hops.append(HopFacts(connection.name, connection.host_key, connection.trusted_by, connection.weaknesses))
        self._warnings += connection.known_hosts_warnings

    def _time_is_up(self) -> ConnectTimedOut:
        return ConnectTimedOut(
            f"{self._target.endpoint} did not answer within connect_timeout: waited for {self._awaited}",
            hint="The host is overloaded or hangs at this stage; raise 'connect_timeout' if it is only slow.",
        )

    def _ask(self, connection: Connection) -> None:
        target = self._target
        start = make_command_starter(
            connection, target.connect_timeout_seconds, target.stall_timeout_seconds, self._cancellation
        )
        memory = remember_shell(target.endpoint, "SFTP")
        shell = Shell(start, str(target.endpoint), memory, find_patience(connection))
        if target.connector_type == "SFTP":
            try:
                self._ask_sftp(connection, shell)
            except ServerLacksFeature as error:
                # Whether there are commands is what one wants to know next.
                self._note_failure(error)
        self._ask_commands(shell)
        if target.connector_type == "SCP" and shell.answered_by != "hangup":
            self._ask_scp(start)

    def _ask_sftp(self, connection: Connection, shell: Shell) -> None:
        self._awaited = "the SFTP session"
        session = open_sftp_session(connection, self._target.stall_timeout_seconds, self._deadline, self._cancellation)
        session.negotiate()
        self._awaited = "the limits"
        session.settle_limits()
        self._sftp = SftpFacts(
            version=session.version,
            round_trip_seconds=session.round_trip_seconds,
            extensions=tuple(session.extensions.items()),
            limits=SftpLimits(*session.limits) if session.limits is not None else None,
            read_bytes=session.read_bytes,
            write_bytes=session.write_bytes,
            traits=session.traits.describe(),
        )
        self._session, self._shell = session, shell
        self._awaited = "the name of the login directory"
        try:
            self._sftp = replace(self._sftp, login_folder=SftpFiles(session, shell).real_path(LOGIN_FOLDER))
        except (FileError, ServerLacksFeature):
            pass  # it is not told, then
        self._awaited = "the free space"
        self._sftp = replace(self._sftp, space=ask_disk_space(session, LOGIN_FOLDER))

    def _ask_commands(self, shell: Shell) -> None:
        self._awaited = "a command to run"
        try:
            self._commands = CommandFacts(shell.answered_by)
        except ConnectionLost:
            if self._target.connector_type == "SCP":
                raise
            # It has ended the connection for it; a play does without commands then.
            self._commands = CommandFacts("hangup")
            return
        if shell.exists:
            programs = shell.find_programs(CHECKSUM_COMMANDS)
            self._commands = replace(self._commands, checksum_programs=programs, login_folder=shell.login_folder)

    def _ask_scp(self, start: StartCommand) -> None:
        """Have scp refuse to send a folder: it answers, and nothing is read or written."""
        self._awaited = "scp to answer"
        has_scp = True
        try:
            ScpFiles(start, str(self._target.endpoint)).status(LOGIN_FOLDER)
        except StatusRefused:
            pass  # it speaks
        except ServerLacksFeature as error:
            has_scp = False
            self._note_failure(error)
        if self._commands is not None:
            self._commands = replace(self._commands, has_scp=has_scp)


def _describe_login(connection: Connection, seconds: float) -> Login:
    return Login(
        address=connection.peer_address,
        seconds=seconds,
        server_version=connection.server_version,
        host_key=connection.host_key,
        authority=connection.host_key_authority,
        trusted_by=connection.trusted_by,
        lax_files=tuple(path for path in connection.known_hosts_files if _is_writable_by_everybody(path)),
        algorithms=connection.algorithms,
        method=connection.authentication_method,
        weaknesses=connection.weaknesses,
    )


def _is_writable_by_everybody(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IWOTH)
    except OSError:
        return False
