"""Opens what a step needs on its host, once, and closes it when the last step there is done.

What a server closed while other hosts were served is replaced, and no step is the worse for it: see `Sessions.use`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from runner.cancellation import Cancellation, Deadline
from runner.errors import ServerLacksFeature, StepTimedOut, UnreachableError
from runner.plan import CopyDirectory, CopyFile, CopyFileFromEngine, CopyFileToEngine, Endpoint, Step
from runner.remote_files import RemoteFiles
from runner.ssh.dial import WorkingAddresses
from runner.ssh.jump_hosts import open_hops
from runner.ssh.loading import wait_until_loaded
from runner.ssh.opening import open_connection

if TYPE_CHECKING:
    from runner.shell.shell import ShellMemory
    from runner.ssh.connection import Connection

# None of these is needed before the login is over.
NEEDED_NEXT = ("runner.execution.protocols", "runner.execution.modes")
NEEDED_FOR = (
    (CopyFileFromEngine, "runner.transfer.upload"),
    (CopyFileToEngine, "runner.transfer.download"),
    (CopyDirectory, "runner.transfer.tree.tree"),
    (CopyDirectory, "runner.sftp.batch.batch"),
)

# How long the play waits in the end for connections that are still being closed.
CLOSING_SECONDS = 2.0

T = TypeVar("T")


@dataclass(slots=True)
class _Session:
    """A connection and the views of the server's files that steps have asked for, by protocol and limits.

    `step` is the one that it was opened for, `limit` that of the attempt it is used by, for the threads that open further
    channels for it.
    """

    step: Step
    connection: Connection
    limit: Callable[[], AbstractContextManager[None]] = nullcontext
    files: dict[tuple[str, int, int], RemoteFiles] = field(default_factory=dict)

    def close_idle(self, key: tuple[str, int, int]) -> bool:
        """Close the SFTP sessions that are kept for other steps than those of the key; whether there were any."""
        idle = [other for other in self.files if other != key and other[0] == "SFTP"]
        for other in idle:
            self.files.pop(other).close()
        return bool(idle)

    def close(self) -> None:
        """Close the connection first, so that nothing is said on a line that may hang; never raises."""
        self.connection.close()
        for files in self.files.values():
            files.close()
        self.files.clear()


class Sessions:
    """All connections of a play. Steps with equal endpoints share one; a dead one is replaced.

    Connections to jump hosts are not shared: each belongs to the connection that goes through it.
    """

    def __init__(
        self,
        cancellation: Cancellation,
        tell_connected: Callable[[Step, Connection], None],
        steps: Iterable[Step] = (),
        tell_disconnected: Callable[[Step, Connection], None] = lambda step, connection: None,
    ) -> None:
        """`steps` are all that will run: each is reported with `finish`, and its connection closed with the last one.

        `tell_disconnected` is told of each connection that SFTP was spoken on, before it is closed, with the step that it
        was opened for.
        """
        self._cancellation = cancellation
        self._tell_connected = tell_connected
        self._tell_disconnected = tell_disconnected
        self._sessions: dict[Endpoint, _Session] = {}
        self._steps_to_come = Counter(step.endpoint for step in steps)
        self._working = WorkingAddresses()
        # What was found out about who runs commands, for the connections to come as well.
        self._shells: dict[tuple[Endpoint, str], ShellMemory] = {}
        self._closing: list[threading.Thread] = []

    def use(self, step: Step, work: Callable[[RemoteFiles], T]) -> T:
        """What `work` makes of the files of the step's host. Raises what it raises, and what `open` raises.

        A connection that has been idle may have been closed by the server, or by something on the way; often that comes out
        only with the first request. Where nothing has been answered yet, and nothing can have been changed, `work` begins
        once more, on a fresh connection.
        """
        session = self._find_kept(step.endpoint)
        if session is not None:
            remote: RemoteFiles | None = None
            try:
                remote = self._open_files(session, step, Deadline.after(step.connect_timeout_seconds))
                remote.begin_step()
                return work(remote)
            except StepTimedOut:
                raise
            except (UnreachableError, ServerLacksFeature) as error:
                # What one connection has granted once, a fresh one grants again, whatever the old one still holds.
                is_untouched = remote is None or (isinstance(error, UnreachableError) and remote.is_untouched)
                if not is_untouched:
                    raise
                # If it was a command that ended the old connection, that has been made up for.
                self.has_lost_by_command(step)
        return work(self._open_files(*self._connect(step)))

    def open(self, step: Step) -> RemoteFiles:
        """The files of the step's host, over the step's protocol.

        Everything up to a session that answers happens within the step's `connect_timeout`, which begins when the last
        jump host has let us in. Raises a `StepError`.
        """
        session = self._find_kept(step.endpoint)
        if session is not None:
            return self._open_files(session, step, Deadline.after(step.connect_timeout_seconds))
        return self._open_files(*self._connect(step))

    def reopen(self, step: Step) -> RemoteFiles:
        """The files of the step's host once more, for a step whose session was closed while it was idle.

        On a connection that is still good only the channel is replaced. Raises as `open` does.
        """
        session = self._find_kept(step.endpoint)
        found = session.files.get(key_of(step)) if session is not None else None
        if session is not None and found is not None and not found.is_open:
            try:
                return self._open_files(session, step, Deadline.after(step.connect_timeout_seconds))
            except StepTimedOut:
                raise
            except (UnreachableError, ServerLacksFeature):
                pass  # what one connection grants no more, a fresh one may
        return self._open_files(*self._connect(step))

    def _find_kept(self, endpoint: Endpoint) -> _Session | None:
        """The session of an earlier step, unless its connection is known to have ended."""
        session = self._sessions.get(endpoint)
        return session if session is not None and session.connection.is_alive else None

    def _connect(self, step: Step) -> tuple[_Session, Step, Deadline]:
        """A fresh connection, in the place of what may be left of an old one."""
        self.drop(step.endpoint)
        tell = partial(self._tell_connected, step)
        last_hop = open_hops(step.endpoint.proxy_jump, self._cancellation, tell, self._working)
        deadline = Deadline.after(step.connect_timeout_seconds)
        needed = (*NEEDED_NEXT, *(name for kind, name in NEEDED_FOR if isinstance(step.mode, kind)))
        connection = open_connection(
            step.endpoint, deadline, self._cancellation, last_hop, needed_next=needed, working=self._working
        )
        session = self._sessions[step.endpoint] = _Session(step, connection)
        self._tell_connected(step, connection)
        return session, step, deadline

    def _open_files(self, session: _Session, step: Step, deadline: Deadline) -> RemoteFiles:
        """The files over the step's protocol: those of an earlier step, unless the server has closed their channel."""
        session.limit = self._cancellation.lend_limit()
        session.connection.end_with(self._cancellation.make_alarm())
        key = key_of(step)
        found = session.files.get(key)
        if found is not None and not found.is_open:
            session.files.pop(key).close()
            found = None
        session.connection.make_room = partial(session.close_idle, key)
        if found is None:
            from runner.execution.protocols import open_files

            found = session.files[key] = open_files(
                step, session.connection, deadline, self._cancellation, lambda: session.limit(), self._shell_of(step)
            )
        if _will_hash(step) and not session.connection.traits.is_sequential:
            # A server that does not take it well is better asked before anything is written. OpenSSH takes it well.
            _ = found.can_hash
        return found

    def _shell_of(self, step: Step) -> ShellMemory:
        from runner.execution.protocols import remember_shell

        key = step.endpoint, step.connector_type
        if key not in self._shells:
            self._shells[key] = remember_shell(*key)
        return self._shells[key]

    def has_lost_by_command(self, step: Step) -> bool:
        """Whether the attempt that has just failed met a server that ends connections for a command.

        That is known now, and another attempt does without, or asks once more where everything rests on commands.
        """
        memory = self._shells.get((step.endpoint, step.connector_type))
        return memory is not None and memory.take_loss()

    def take_warning(self, step: Step) -> str:
        """What this step has found out about commands on its host and the user should know; empty if nothing."""
        memory = self._shells.get((step.endpoint, step.connector_type))
        return memory.take_warning(str(step.endpoint)) if memory is not None else ""

    def finish(self, step: Step) -> None:
        """A step is done with, or will not run. Behind the last one of an endpoint its connection is closed.

        Nobody waits for that: the next host's step begins meanwhile.
        """
        self._steps_to_come[step.endpoint] -= 1
        if self._steps_to_come[step.endpoint] > 0:
            return
        session = self._take_out(step.endpoint)
        if session is not None:
            self._closing = [thread for thread in self._closing if thread.is_alive()]
            thread = threading.Thread(target=session.close, name="close connection", daemon=True)
            thread.start()
            self._closing.append(thread)

    def drop(self, endpoint: Endpoint) -> None:
        """Close the connection to an endpoint: whatever state it was in, the next step starts afresh."""
        session = self._take_out(endpoint)
        if session is not None:
            session.close()

    def _take_out(self, endpoint: Endpoint) -> _Session | None:
        """The session of an endpoint, which is to be closed and is no longer ours."""
        session = self._sessions.pop(endpoint, None)
        if session is not None and session.connection.traits.has_spoken:
            self._tell_disconnected(session.step, session.connection)
        return session

    def close(self) -> None:
        """Close every connection, when nothing is being loaded for it any more; never raises."""
        wait_until_loaded()
        for endpoint in list(self._sessions):
            self.drop(endpoint)
        end = Deadline.after(CLOSING_SECONDS)
        for thread in self._closing:
            thread.join(end.remaining_seconds)


def key_of(step: Step) -> tuple[str, int, int]:
    """What tells the files of one step from those of another on the same connection."""
    return step.connector_type, step.stall_timeout_seconds, step.transfers


def _will_hash(step: Step) -> bool:
    """Whether a copy is going to be proven by its checksum, over a protocol that can do without commands."""
    return step.connector_type == "SFTP" and isinstance(step.mode, CopyFile) and step.mode.verify == "checksum"
