"""Opens what a step needs on its host, once, and closes everything in the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from runner.cancellation import Cancellation, Deadline
from runner.plan import Endpoint, Step
from runner.remote_files import RemoteFiles
from runner.scp.files import ScpFiles
from runner.sftp.files import SftpFiles
from runner.sftp.session import SftpSession
from runner.shell.shell import Shell, StartCommand
from runner.shell.stream import CommandChannel
from runner.ssh.channel import Channel
from runner.ssh.connection import Connection, open_connection


@dataclass(slots=True)
class _Session:
    """A connection and the views of the server's files that steps have asked for, by protocol and limits.

    `limit` is that of the attempt it is used by, for the threads that open further channels for it.
    """

    connection: Connection
    limit: Callable[[], AbstractContextManager[None]] = nullcontext
    files: dict[tuple[str, int, int], RemoteFiles] = field(default_factory=dict)


class Sessions:
    """All connections of a play. Steps with equal endpoints share one; a dead one is replaced."""

    def __init__(self, cancellation: Cancellation, tell_connected: Callable[[Step, Connection], None]) -> None:
        self._cancellation = cancellation
        self._tell_connected = tell_connected
        self._sessions: dict[Endpoint, _Session] = {}

    def open(self, step: Step) -> RemoteFiles:
        """The files of the step's host, over the step's protocol.

        Everything up to a session that answers happens within the step's `connect_timeout`. Raises a `StepError`.
        """
        deadline = Deadline.after(step.connect_timeout_seconds)
        session = self._sessions.get(step.endpoint)
        if session is None or not session.connection.is_alive:
            self.drop(step.endpoint)
            session = _Session(open_connection(step.endpoint, deadline, self._cancellation))
            self._sessions[step.endpoint] = session
            self._tell_connected(step, session.connection)
        session.limit = self._cancellation.lend_limit()
        session.connection.end_with(self._cancellation.make_alarm())
        key = (step.connector_type, step.stall_timeout_seconds, step.transfers)
        if key not in session.files:
            open_files = self._open_sftp if step.connector_type == "SFTP" else self._open_scp
            session.files[key] = open_files(session, step, deadline)
        return session.files[key]

    def drop(self, endpoint: Endpoint) -> None:
        """Close the connection to an endpoint: whatever state it was in, the next step starts afresh."""
        session = self._sessions.pop(endpoint, None)
        if session is not None:
            session.connection.close()

    def close(self) -> None:
        """Close every connection; never raises."""
        for endpoint in list(self._sessions):
            self.drop(endpoint)

    def _open_sftp(self, session: _Session, step: Step, deadline: Deadline) -> RemoteFiles:
        connection = session.connection

        def open_session(deadline: Deadline) -> SftpSession:
            channel = connection.open_channel(step.stall_timeout_seconds, deadline, self._cancellation)
            opened = SftpSession(channel, str(step.endpoint))
            connection.start_subsystem(channel, "sftp", deadline, self._cancellation)
            opened.negotiate(deadline)
            opened.read_bytes = min(opened.read_bytes, channel.piece_bytes)
            opened.write_bytes = min(opened.write_bytes, channel.piece_bytes)
            return opened

        def open_another() -> SftpSession:
            with session.limit():
                return open_session(Deadline.after(step.connect_timeout_seconds))

        return SftpFiles(
            open_session(deadline),
            Shell(self._command_starter(connection, step), str(step.endpoint)),
            open_another,
            step.transfers,
        )

    def _open_scp(self, session: _Session, step: Step, deadline: Deadline) -> RemoteFiles:
        return ScpFiles(self._command_starter(session.connection, step), str(step.endpoint))

    def _command_starter(self, connection: Connection, step: Step) -> StartCommand:
        def start(command: bytes, prepare: Callable[[CommandChannel], None]) -> Channel:
            # Each command has a channel of its own, and the time of a new connection to start.
            deadline = Deadline.after(step.connect_timeout_seconds)
            channel = connection.open_channel(step.stall_timeout_seconds, deadline, self._cancellation)
            prepare(channel)
            connection.start_command(channel, command, deadline, self._cancellation)
            return channel

        return start
