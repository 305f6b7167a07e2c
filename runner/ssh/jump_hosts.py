"""Opens the way to a host that only its jump hosts reach, one after the other, each as strictly as the host itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runner.cancellation import Cancellation, Deadline
from runner.errors import StepError
from runner.plan import Hop
from runner.ssh.dial import WorkingAddresses
from runner.ssh.opening import open_connection

if TYPE_CHECKING:
    from runner.ssh.connection import Connection


def open_hops(
    hops: Sequence[Hop],
    cancellation: Cancellation,
    tell_connected: Callable[[Connection], None],
    working: WorkingAddresses | None = None,
) -> Connection | None:
    """The connection to the last of the jump hosts, through all the others; None if there are none.

    Each has the time of its own `connect_timeout`, which begins when the one before it has let us in. Closing the
    connection closes them all, in order. Raises what `open_connection` raises, with the jump host in front of the message.
    """
    last: Connection | None = None
    for number, hop in enumerate(hops, start=1):
        name = f"jump host {number} of {len(hops)} ({hop})"
        deadline = Deadline.after(hop.connect_timeout_seconds)
        try:
            last = open_connection(hop.endpoint, deadline, cancellation, last, name, working=working)
        except StepError as error:
            error.place(name)
            raise
        tell_connected(last)
    return last
