"""Opens the TCP connection to a server and greets it, within a deadline and interruptible at every moment."""

from __future__ import annotations

import errno
import os
import queue
import select
import socket
import threading
from contextlib import suppress

from runner._version import VERSION
from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut
from runner.plan import format_address

# What the server sees of us (RFC 4253 section 4.2). Some know the library by its name, and by that what its clients mean:
# asyncssh in which order SYMLINK has its fields.
SSH_VERSION = f"SSH-2.0-paramiko runner_{VERSION}"

Address = tuple[socket.AddressFamily, tuple[str | int, ...] | tuple[int, bytes]]


def dial(host: str, port: int, deadline: Deadline, cancellation: Cancellation) -> socket.socket:
    """A connected TCP socket to the first of the host's addresses that answers. The server has been sent our greeting.

    Raises `ConnectFailed` when the name does not resolve or every address refuses, `ConnectTimedOut` at the deadline,
    `Interrupted` on a signal.
    """
    addresses = _resolve(host, port, deadline, cancellation)
    failures: list[str] = []
    for position, (family, address) in enumerate(addresses):
        # A dead first address must not use up the time of the next one.
        share = deadline.remaining_seconds / (len(addresses) - position)
        try:
            sock = _connect(family, address, Deadline.after(share), cancellation)
        except OSError as error:
            failures.append(
                f"{address[0]}: {error.strerror or error}" if len(addresses) > 1 else str(error.strerror or error)
            )
        else:
            # Sent at once, so that the answer is there when we are ready for it. Whether the line has broken already is
            # found out when that is read.
            with suppress(OSError):
                sock.sendall(f"{SSH_VERSION}\r\n".encode("ascii"))
            return sock
    if deadline.has_passed:
        raise ConnectTimedOut(
            f"no answer from {format_address(host, port)} within connect_timeout: the TCP connection was not accepted",
            hint="Is the host up, and does a firewall between here and there drop the packets?",
        )
    raise ConnectFailed(
        f"cannot connect to {format_address(host, port)}: {'; '.join(failures)}",
        hint="Check host and port, and that an SSH server listens there and is reachable from this machine.",
    )


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


def _connect(
    family: socket.AddressFamily,
    address: tuple[str | int, ...] | tuple[int, bytes],
    deadline: Deadline,
    cancellation: Cancellation,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        error_number = sock.connect_ex(address)
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        while error_number in (errno.EINPROGRESS, errno.EALREADY):
            cancellation.check()
            if poller.poll(int(min(POLL_SECONDS, deadline.remaining_seconds) * 1000)):
                error_number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                break
            if deadline.has_passed:
                raise TimeoutError(errno.ETIMEDOUT, "no answer")
        if error_number:
            raise OSError(error_number, os.strerror(error_number))
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
