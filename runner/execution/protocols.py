"""A step's protocol over its connection: SFTP or SCP, as the files of a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from runner.cancellation import Cancellation, Deadline
from runner.plan import Step
from runner.remote_files import RemoteFiles
from runner.sftp.files import SftpFiles
from runner.sftp.session import ANSWERS_WINDOW_BYTES, SftpSession
from runner.shell.shell import Shell, StartCommand
from runner.shell.stream import CommandChannel
from runner.ssh.channel import Channel
from runner.ssh.connection import Connection


def open_files(
    step: Step,
    connection: Connection,
    deadline: Deadline,
    cancellation: Cancellation,
    limit: Callable[[], AbstractContextManager[None]],
) -> RemoteFiles:
    """The files at the other end of a connection, over the step's protocol.

    `limit` lends the limits of the attempt that is under way to the threads that open further channels for it. Raises a
    `StepError`.
    """
    start_command = make_command_starter(
        connection, step.connect_timeout_seconds, step.stall_timeout_seconds, cancellation
    )
    if step.connector_type == "SCP":
        from runner.scp.files import ScpFiles

        return ScpFiles(start_command, str(step.endpoint))

    def open_session(deadline: Deadline) -> SftpSession:
        return open_sftp_session(connection, step.stall_timeout_seconds, deadline, cancellation)

    def open_another() -> SftpSession:
        with limit():
            another = open_session(Deadline.after(step.connect_timeout_seconds))
            # One that the server does not grant after all can be done without.
            another.negotiate()
            return another

    return SftpFiles(open_session(deadline), Shell(start_command, str(step.endpoint)), open_another, step.transfers)


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

    def start(command: bytes, prepare: Callable[[CommandChannel], None]) -> Channel:
        deadline = Deadline.after(connect_timeout_seconds)
        channel = connection.open_channel(stall_timeout_seconds, deadline, cancellation)
        prepare(channel)
        connection.start_command(channel, command, deadline, cancellation)
        return channel

    return start
