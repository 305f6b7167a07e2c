"""Opens the TCP connection to a server and greets it, within a deadline and interruptible at every moment.

`proxy.py` opens one to a proxy, and greets the server behind it.

A name may have many addresses, and the first one may be dead. They are tried side by side, as RFC 8305 ("happy eyeballs")
says: the next one begins a quarter of a second after the one before, or at once when that fails, and the first that connects
wins. Only TCP connections race: one server is greeted.
"""

from __future__ import annotations

import errno
import math
import os
import queue
import select
import socket
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, zip_longest
from types import TracebackType
from typing import Self

from runner._version import VERSION
from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut
from runner.plan import format_address

# What the server sees of us (RFC 4253 section 4.2). Some know the library by its name, and by that what its clients mean:
# asyncssh in which order SYMLINK has its fields.
SSH_VERSION = f"SSH-2.0-paramiko runner_{VERSION}"

# RFC 8305 section 8: how long an attempt is alone, and the shortest time for which it may be.
ATTEMPT_DELAY_SECONDS = 0.25
MIN_ATTEMPT_DELAY_SECONDS = 0.01

Address = tuple[socket.AddressFamily, tuple[str | int, ...] | tuple[int, bytes]]


class WorkingAddresses:
    """Which address of each host name has answered, for as long as a play takes: it is tried first the next time."""

    def __init__(self) -> None:
        # Without the port: what a host does not answer on one, it may on another, but a dead address answers on none.
        self._by_host: dict[str, tuple[object, ...]] = {}

    def put_first(self, host: str, addresses: list[Address]) -> list[Address]:
        """The addresses of a host, the one that has answered before the others."""
        known = self._by_host.get(host)
        return sorted(addresses, key=lambda address: _without_port(address) != known)

    def note(self, host: str, address: Address) -> None:
        """An address has accepted a connection."""
        self._by_host[host] = _without_port(address)

    def forget(self, host: str) -> None:
        """What accepted the connection refused the login: another address may accept it."""
        self._by_host.pop(host, None)


def dial(
    host: str, port: int, deadline: Deadline, cancellation: Cancellation, working: WorkingAddresses | None = None
) -> socket.socket:
    """A connected TCP socket to the first of the host's addresses that answers. The server has been sent our greeting.

    Raises what `connect` raises.
    """
    sock = connect(host, port, deadline, cancellation, working or WorkingAddresses())
    greet(sock)
    return sock


def greet(sock: socket.socket) -> None:
    """Send our greeting to an SSH server, at once, so that the answer is there when we are ready for it.

    Whether the line has broken already is found out when that is read.
    """
    with suppress(OSError):
        sock.sendall(f"{SSH_VERSION}\r\n".encode("ascii"))


def connect(
    host: str, port: int, deadline: Deadline, cancellation: Cancellation, working: WorkingAddresses
) -> socket.socket:
    """A connected TCP socket to the first of the host's addresses that answers. Nothing has been sent.

    Raises `ConnectFailed` when the name does not resolve or every address refuses, `ConnectTimedOut` at the deadline,
    `Interrupted` on a signal.
    """
    addresses = working.put_first(host, interleave(_resolve(host, port, deadline, cancellation)))
    with _Race(addresses) as race:
        found = race.run(deadline, cancellation)
        reasons = race.describe_failures()
    if found is None:
        raise _unreached(format_address(host, port), reasons, deadline)
    address, sock = found
    working.note(host, address)
    return sock


def _unreached(place: str, reasons: str, deadline: Deadline) -> ConnectFailed | ConnectTimedOut:
    if deadline.has_passed:
        told = f" ({reasons})" if "; " in reasons else ""
        return ConnectTimedOut(
            f"no answer from {place} within connect_timeout: the TCP connection was not accepted{told}",
            hint="Is the host up, and does a firewall between here and there drop the packets?",
        )
    return ConnectFailed(
        f"cannot connect to {place}: {reasons}",
        hint="Check host and port, and that an SSH server listens there and is reachable from this machine.",
    )


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Each address once, the families in turn, each of them in its order (RFC 8305 section 4)."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


def _without_port(address: Address) -> tuple[object, ...]:
    family, (host, _, *rest) = address
    return family, host, *rest


class _Race:
    """Connections that are begun one after the other, until the first of them is there. The others are closed."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._waiting = deque(addresses)
        self._under_way: dict[int, tuple[Address, socket.socket]] = {}
        self._poller = select.poll()
        self._failures: dict[Address, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, sock in self._under_way.values():
            sock.close()

    def run(self, deadline: Deadline, cancellation: Cancellation) -> tuple[Address, socket.socket] | None:
        """The first connection; None if every address fails, or none answers before the deadline."""
        # Of many addresses each has its turn in the first half of the time.
        share_seconds = deadline.remaining_seconds / 2 / len(self._addresses) if self._addresses else 0.0
        delay_seconds = max(MIN_ATTEMPT_DELAY_SECONDS, min(ATTEMPT_DELAY_SECONDS, share_seconds))
        turn = Deadline.after(0)
        while (self._waiting or self._under_way) and not deadline.has_passed:
            cancellation.check()
            if self._waiting and turn.has_passed:
                if self._begin(self._waiting.popleft()):
                    turn = Deadline.after(delay_seconds)
                continue
            pause_seconds = turn.remaining_seconds if self._waiting else POLL_SECONDS
            failure_count = len(self._failures)
            found = self._look(min(pause_seconds, POLL_SECONDS, deadline.remaining_seconds))
            if found is not None:
                return found
            if len(self._failures) > failure_count:
                turn = Deadline.after(0)
        return None

    def _begin(self, address: Address) -> bool:
        """Begin to connect; whether there is something to wait for."""
        try:
            sock = socket.socket(address[0], socket.SOCK_STREAM)
        except OSError as error:
            # A family that this machine does not know.
            self._failures[address] = str(error.strerror or error)
            return False
        sock.setblocking(False)
        error_number = sock.connect_ex(address[1])
        if error_number not in (0, errno.EINPROGRESS, errno.EALREADY):
            sock.close()
            self._failures[address] = os.strerror(error_number)
            return False
        self._under_way[sock.fileno()] = address, sock
        self._poller.register(sock, select.POLLOUT)
        return True

    def _look(self, seconds: float) -> tuple[Address, socket.socket] | None:
        """Wait a moment; the connection that is there by then, if one is."""
        for number, _ in self._poller.poll(math.ceil(seconds * 1000)):
            self._poller.unregister(number)
            address, sock = self._under_way.pop(number)
            error_number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error_number:
                sock.setblocking(True)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return address, sock
            sock.close()
            self._failures[address] = os.strerror(error_number)
        return None

    def describe_failures(self) -> str:
        """Every address and what came of it; the reason alone where there is one address."""
        pending = {address: "no answer" for address, _ in self._under_way.values()}
        reasons = dict.fromkeys(self._waiting, "not tried") | pending | self._failures
        if len(self._addresses) == 1:
            return reasons.get(self._addresses[0], "")
        return "; ".join(f"{address[1][0]!s}: {reasons[address]}" for address in self._addresses if address in reasons)


def _resolve(host: str, port: int, deadline: Deadline, cancellation: Cancellation) -> list[Address]:
    """The host's addresses. The resolver cannot be interrupted, so it works in a thread that is left behind if need be."""
    answers: queue.Queue[list[Address] | OSError | UnicodeError] = queue.Queue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(family, address) for family, _, _, _, address in found])
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    while True:
        cancellation.check()
        try:
            answer = answers.get(timeout=min(POLL_SECONDS, deadline.remaining_seconds or 0.001))
            break
        except queue.Empty:
            if deadline.has_passed:
                raise ConnectTimedOut(
                    f"the name {host!r} was not resolved within connect_timeout",
                    hint="The DNS server does not answer; try the IP address.",
                ) from None
    if isinstance(answer, list):
        return answer
    reason = getattr(answer, "strerror", None) or answer
    raise ConnectFailed(
        f"the host name {host!r} cannot be resolved: {reason}", hint="Check the spelling, and the DNS of this machine."
    ) from answer
