"""Opens what a step needs on its host, once, and closes everything in the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from runner.cancellation import Cancellation, Deadline
from runner.plan import CopyDirectory, Endpoint, Step
from runner.remote_files import RemoteFiles
from runner.ssh.jump_hosts import open_hops
from runner.ssh.loading import wait_until_loaded
from runner.ssh.opening import open_connection

if TYPE_CHECKING:
    from runner.ssh.connection import Connection

# None of these is needed before the login is over.
NEEDED_NEXT = ("runner.execution.protocols", "runner.execution.modes")
NEEDED_FOR_TREES = ("runner.transfer.tree", "runner.sftp.batch")


@dataclass(slots=True)
class _Session:
    """A connection and the views of the server's files that steps have asked for, by protocol and limits.

    `limit` is that of the attempt it is used by, for the threads that open further channels for it.
    """

    connection: Connection
    limit: Callable[[], AbstractContextManager[None]] = nullcontext
    files: dict[tuple[str, int, int], RemoteFiles] = field(default_factory=dict)


class Sessions:
    """All connections of a play. Steps with equal endpoints share one; a dead one is replaced.

    Connections to jump hosts are not shared: each belongs to the connection that goes through it.
    """

    def __init__(self, cancellation: Cancellation, tell_connected: Callable[[Step, Connection], None]) -> None:
        self._cancellation = cancellation
        self._tell_connected = tell_connected
        self._sessions: dict[Endpoint, _Session] = {}

    def open(self, step: Step) -> RemoteFiles:
        """The files of the step's host, over the step's protocol.

        Everything up to a session that answers happens within the step's `connect_timeout`, which begins when the last
        jump host has let us in. Raises a `StepError`.
        """
        deadline = Deadline.after(step.connect_timeout_seconds)
        session = self._sessions.get(step.endpoint)
        if session is None or not session.connection.is_alive:
            self.drop(step.endpoint)
            last_hop = open_hops(step.endpoint.proxy_jump, self._cancellation, partial(self._tell_connected, step))
            deadline = Deadline.after(step.connect_timeout_seconds)
            needed = NEEDED_NEXT + (NEEDED_FOR_TREES if isinstance(step.mode, CopyDirectory) else ())
            connection = open_connection(step.endpoint, deadline, self._cancellation, last_hop, needed_next=needed)
            session = _Session(connection)
            self._sessions[step.endpoint] = session
            self._tell_connected(step, session.connection)
        session.limit = self._cancellation.lend_limit()
        session.connection.end_with(self._cancellation.make_alarm())
        key = (step.connector_type, step.stall_timeout_seconds, step.transfers)
        if key not in session.files:
            from runner.execution.protocols import open_files

            session.files[key] = open_files(
                step, session.connection, deadline, self._cancellation, lambda: session.limit()
            )
        return session.files[key]

    def drop(self, endpoint: Endpoint) -> None:
        """Close the connection to an endpoint: whatever state it was in, the next step starts afresh."""
        session = self._sessions.pop(endpoint, None)
        if session is not None:
            session.connection.close()

    def close(self) -> None:
        """Close every connection, when nothing is being loaded for it any more; never raises."""
        wait_until_loaded()
        for endpoint in list(self._sessions):
            self.drop(endpoint)
