"""A step's protocol over its connection: SFTP or SCP, as the files of a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectTimedOut, ServerLacksFeature
from runner.plan import ConnectorType, Endpoint, Step
from runner.remote_files import RemoteFiles
from runner.sftp.files import SftpFiles
from runner.sftp.session import ANSWERS_WINDOW_BYTES, SftpSession
from runner.shell.shell import TRIAL_LOGINS, TRIAL_SECONDS, Shell, ShellMemory, StartCommand
from runner.shell.stream import CommandChannel, Unanswered
from runner.ssh.channel import Channel
from runner.ssh.connection import Connection


def open_files(
    step: Step,
    connection: Connection,
    deadline: Deadline,
    cancellation: Cancellation,
    limit: Callable[[], AbstractContextManager[None]],
    memory: ShellMemory,
) -> RemoteFiles:
    """The files at the other end of a connection, over the step's protocol.

    `limit` lends the limits of the attempt that is under way to the threads that open further channels for it. `memory`
    is what is known of the account's shell. Raises a `StepError`.
    """
    start_command = make_command_starter(
        connection, step.connect_timeout_seconds, step.stall_timeout_seconds, cancellation
    )
    if step.connector_type == "SCP":
        from runner.scp.files import ScpFiles

        # Without a shell nothing is atomic there: it is waited for as long as scp itself.
        return ScpFiles(start_command, str(step.endpoint), memory, step.connect_timeout_seconds)

    def open_session(deadline: Deadline) -> SftpSession:
        return open_sftp_session(connection, step.stall_timeout_seconds, deadline, cancellation)

    def open_another() -> SftpSession:
        with limit():
            another = open_session(Deadline.after(step.connect_timeout_seconds))
            # One that the server does not grant after all can be done without.
            another.negotiate()
            return another

    shell = Shell(start_command, str(step.endpoint), memory, find_patience(connection))
    return SftpFiles(open_session(deadline), shell, open_another, step.transfers)


def remember_shell(endpoint: Endpoint, connector_type: ConnectorType) -> ShellMemory:
    """What is known of an account's shell before anything was asked."""
    if not endpoint.runs_commands:
        return ShellMemory("never")
    # SCP without a shell writes in place. A line that breaks off once is no reason to begin with that.
    return ShellMemory(losses_needed=2 if connector_type == "SCP" else 1)


def find_patience(connection: Connection) -> float:
    """The seconds that a server gets to say whether it has a shell where that can be done without."""
    return max(TRIAL_SECONDS, TRIAL_LOGINS * connection.opened_in_seconds)


def open_sftp_session(
    connection: Connection, stall_timeout_seconds: float, deadline: Deadline, cancellation: Cancellation
) -> SftpSession:
    """An SFTP session on a channel of its own, which answers before the deadline. Raises a `StepError`."""
    channel = connection.open_channel(stall_timeout_seconds, deadline, cancellation, ANSWERS_WINDOW_BYTES)
    opened = SftpSession(channel, str(connection.endpoint), connection.traits, channel.piece_bytes)
    connection.start_subsystem(channel, "sftp", deadline, cancellation)
    opened.greet(deadline)
    return opened


def make_command_starter(
    connection: Connection, connect_timeout_seconds: float, stall_timeout_seconds: float, cancellation: Cancellation
) -> StartCommand:
    """Starts commands: each has a channel of its own, and the time of a new connection to start."""

    def start(
        command: bytes, prepare: Callable[[CommandChannel], None], patience_seconds: float | None = None, /
    ) -> Channel:
        if not connection.endpoint.runs_commands:
            raise ServerLacksFeature(
                f"no command is started on {connection.endpoint}: the playbook says 'commands: never'",
                hint="Remove it if the server runs commands after all.",
            )
        deadline = Deadline.after(connect_timeout_seconds)
        channel = connection.open_channel(stall_timeout_seconds, deadline, cancellation)
        prepare(channel)
        if patience_seconds is None:
            connection.start_command(channel, command, deadline, cancellation)
            return channel
        deadline = Deadline.after(patience_seconds)
        try:
            connection.start_command(channel, command, deadline, cancellation, is_trial=True)
        except ConnectTimedOut as error:
            # It may be the end of something larger that has come.
            cancellation.check()
            raise Unanswered from error
        return channel

    return start
