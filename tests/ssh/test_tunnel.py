"""The tunnel on its own, through real servers: order, ends, bounded memory both ways, and a server that keeps no bounds."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.cancellation import Cancellation, Deadline
from runner.errors import HostKeyRefused
from runner.plan import Hop, PinnedKeys
from runner.ssh.connection import Connection
from runner.ssh.jump_hosts import open_hops
from runner.ssh.opening import open_connection
from runner.ssh.tunnel import Tunnel
from runner.ssh.window import RECEIVE_WINDOW_BYTES
from tests.patience import BUSY_SECONDS, EVENT_SECONDS
from tests.servers.endpoint import Endpoint
from tests.servers.forwarding import ForwardingServer
from tests.servers.keys import shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.endpoints import LOGIN_SECONDS, make_endpoint

PIECE_BYTES = 1024 * 1024
PARTIAL = 123_457


@pytest.fixture(params=["sshd", "asyncssh"])
def hop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """A connection to a jump host of each kind."""
    if request.param == "sshd":
        with connect(request.getfixturevalue("sshd")) as opened:
            yield opened
    else:
        with ForwardingServer(tmp_path / "gateway") as server, connect(server) as opened:
            yield opened


@contextmanager
def connect(server: Endpoint) -> Iterator[Connection]:
    endpoint = make_endpoint(server, PinnedKeys((server.known_host_line(),)))
    opened = open_connection(endpoint, Deadline.after(LOGIN_SECONDS), Cancellation())
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def open_tunnel(hop: Connection) -> Iterator[tuple[Tunnel, socket.socket]]:
    """A tunnel, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tunnel = hop.open_tunnel("127.0.0.1", listener.getsockname()[1], Deadline.after(5), Cancellation())
        accepted, _ = listener.accept()
    tunnel.settimeout(0.1)
    accepted.settimeout(5)
    try:
        with accepted:
            yield tunnel, accepted
    finally:
        tunnel.close()


def receive(tunnel: Tunnel, size: int = 1 << 62) -> bytes:
    """What arrives, up to so much or to the end."""
    received = bytearray()
    space = memoryview(bytearray(PARTIAL))
    ends_at = time.monotonic() + EVENT_SECONDS
    while len(received) < size:
        assert time.monotonic() < ends_at
        try:
            count = tunnel.recv_into(space[: size - len(received)])
        except TimeoutError:
            continue
        if not count:
            break
        received += space[:count]
    return bytes(received)


def send(tunnel: Tunnel, data: bytes) -> int:
    """Send until all is gone or nothing goes any more; how much went."""
    view = memoryview(data)
    silent = 0
    while view and silent < 5:
        try:
            view = view[tunnel.send(view) :]
            silent = 0
        except TimeoutError:
            silent += 1
    return len(data) - len(view)


def test_bytes_keep_their_order_both_ways_at_once(hop: Connection) -> None:
    content = os.urandom(20 * PIECE_BYTES)
    with open_tunnel(hop) as (tunnel, far):

        def echo() -> None:
            left = len(content)
            while left:
                data = far.recv(PIECE_BYTES)
                far.sendall(data)
                left -= len(data)

        threads = [threading.Thread(target=echo), threading.Thread(target=send, args=(tunnel, content))]
        for thread in threads:
            thread.start()
        assert receive(tunnel, len(content)) == content
        for thread in threads:
            thread.join(5)


def test_who_is_reached_may_speak_first(hop: Connection) -> None:
    for _ in range(20):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def greet(listener: socket.socket = listener) -> None:
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(b"SSH-2.0-first\r\n")

            greeter = threading.Thread(target=greet)
            greeter.start()
            tunnel = hop.open_tunnel("127.0.0.1", port, Deadline.after(5), Cancellation())
            tunnel.settimeout(0.1)
            assert receive(tunnel) == b"SSH-2.0-first\r\n"
            tunnel.close()
            greeter.join(5)


def test_what_was_sent_before_the_end_arrives_and_the_other_way_stays_open(hop: Connection) -> None:
    content = os.urandom(5 * PIECE_BYTES)
    with open_tunnel(hop) as (tunnel, far):

        def speak() -> None:
            far.sendall(content)
            far.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=speak)
        sender.start()
        time.sleep(0.3)
        assert receive(tunnel) == content
        sender.join(EVENT_SECONDS)
        assert tunnel.recv_into(memoryview(bytearray(10))) == 0
        assert send(tunnel, b"still") == 5
        assert far.recv(10) == b"still"


def test_a_reader_that_does_not_read_stops_the_sender(hop: Connection) -> None:
    """The window bounds what is kept, and nothing of it is lost."""
    block = os.urandom(PIECE_BYTES)
    sent = 0
    with open_tunnel(hop) as (tunnel, far):
        far.settimeout(1)
        try:
            while sent < 8 * RECEIVE_WINDOW_BYTES:
                sent += far.send(block[sent % PIECE_BYTES :])
        except TimeoutError:
            pass
        assert sent < 4 * RECEIVE_WINDOW_BYTES
        assert RECEIVE_WINDOW_BYTES // 2 < tunnel._held_bytes <= RECEIVE_WINDOW_BYTES
        # The connection to the jump host is not held up meanwhile.
        with open_tunnel(hop) as (other, other_far):
            other_far.sendall(b"x")
            assert receive(other, 1) == b"x"
        received = receive(tunnel, sent)
        assert received == (block * (sent // PIECE_BYTES + 1))[:sent]


def test_a_server_that_does_not_read_stops_us(hop: Connection) -> None:
    block = bytes(64 * PIECE_BYTES)
    with open_tunnel(hop) as (tunnel, far):
        sent = send(tunnel, block)
        assert sent < len(block)

        def drain() -> None:
            left = sent + len(block)
            while left:
                left -= len(far.recv(PIECE_BYTES))

        receiver = threading.Thread(target=drain)
        receiver.start()
        assert send(tunnel, block) == len(block)
        receiver.join(5)


def test_a_jump_host_that_keeps_no_window_is_left(sshd: OpenSSHServer) -> None:
    with connect(sshd) as hop, open_tunnel(hop) as (tunnel, far):
        tunnel._window_bytes = 1000
        far.sendall(bytes(1001))
        assert receive(tunnel) == b""
        assert not hop.is_alive
        with pytest.raises(OSError, match="sends more through a tunnel than it may"):
            tunnel.send(memoryview(b"x"))


def test_a_tunnel_that_is_closed_ends_at_the_other_side_and_every_wait_here(hop: Connection) -> None:
    with open_tunnel(hop) as (tunnel, far):
        tunnel.settimeout(30)
        counts: list[int] = []
        reader = threading.Thread(target=lambda: counts.append(tunnel.recv_into(memoryview(bytearray(10)))))
        reader.start()
        time.sleep(0.1)
        started = time.monotonic()
        tunnel.close()
        reader.join(EVENT_SECONDS)
        assert counts == [0]
        assert far.recv(10) == b""
        with pytest.raises(OSError):
            tunnel.send(memoryview(b"x"))
        assert time.monotonic() - started < BUSY_SECONDS
    assert hop.is_alive


def test_to_shut_down_a_tunnel_cuts_the_whole_way(hop: Connection) -> None:
    with open_tunnel(hop) as (tunnel, far):
        tunnel.shutdown(socket.SHUT_RDWR)
        assert far.recv(10) == b""
        assert hop.find_lost() == f"the connection to {hop.name} was lost"


def test_hops_are_closed_together_however_it_ends(sshd: OpenSSHServer) -> None:
    endpoint = make_endpoint(sshd, PinnedKeys((sshd.known_host_line(),)))
    stranger = make_endpoint(sshd, PinnedKeys((shared_key_pair().public_line,)))
    opened: list[Connection] = []

    last = open_hops([Hop(endpoint, 5, "first"), Hop(endpoint, 5)], Cancellation(), opened.append)

    address = f"127.0.0.1:{sshd.port}"
    assert [one.name for one in opened] == [f"jump host 1 of 2 (first, {address})", f"jump host 2 of 2 ({address})"]
    assert last is opened[-1] and last.is_alive
    last.close()
    assert not any(one.is_alive for one in opened)

    with pytest.raises(HostKeyRefused) as caught:
        open_hops([Hop(endpoint, 5), Hop(endpoint, 5), Hop(stranger, 5)], Cancellation(), opened.append)
    assert caught.value.message.startswith(f"jump host 3 of 3 ({address}): ")
    assert len(opened) == 4
    assert not any(one.is_alive for one in opened)
