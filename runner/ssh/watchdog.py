"""Ends what paramiko waits for, at a deadline or on a signal: the socket is cut from another thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import paramiko

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import ConnectTimedOut, CredentialUnusable
from runner.plan import Endpoint


class CanBeCut(Protocol):
    """A socket, or what ends a wait as one does when it is shut down."""

    def shutdown(self, how: int, /) -> None: ...


@contextmanager
def watch(
    sock: CanBeCut,
    deadline: Deadline,
    cancellation: Cancellation,
    make_error: Callable[[], ConnectTimedOut],
) -> Iterator[None]:
    """Cut the connection at the deadline or on a signal, which ends whatever paramiko waits for inside the block."""
    finished = threading.Event()
    cut: list[BaseException] = []
    must_end = cancellation.make_alarm()

    def guard() -> None:
        while not finished.wait(POLL_SECONDS):
            if must_end() or deadline.has_passed:
                if deadline.has_passed:
                    cut.append(make_error())
                shut_down(sock)
                return

    thread = threading.Thread(target=guard, name="connect watchdog", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        finished.set()
        cancellation.check()
        # An agent that does not sign in time is not the server's silence.
        if cut and not isinstance(error, CredentialUnusable):
            raise cut[0] from error
        raise
    finally:
        finished.set()
    cancellation.check()
    if cut:
        raise cut[0]


def shut_down(sock: CanBeCut) -> None:
    """Cut a connection, whatever state it is in."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def silenced() -> Iterator[None]:
    """Closing is best effort: whatever a dead connection has to say about it has been said already."""
    try:
        yield
    except (paramiko.SSHException, OSError, EOFError):
        pass


def timed_out(endpoint: Endpoint, awaited: str) -> ConnectTimedOut:
    """The error for a host that is silent at a stage of connecting."""
    return ConnectTimedOut(
        f"{endpoint} did not answer within connect_timeout: waited for {awaited}",
        hint="The host accepts connections but is overloaded or hangs at this stage; raise 'connect_timeout' if it is "
        "only slow.",
    )
