"""The latency proxy, judged by plain sockets on both sides of it: late, but not slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.servers.latency import LatencyProxy
from tests.servers.listeners import closed_port

ROUND_TRIP_SECONDS = 0.05
BULK_BYTES = 200 * 1024 * 1024
Serve = Callable[[socket.socket], None]


@contextmanager
def connect(serve: Serve) -> Iterator[socket.socket]:
    """A client's socket, through the proxy, to a server that serves one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with listener.accept()[0] as connection:
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        port = int(listener.getsockname()[1])
        with (
            LatencyProxy("127.0.0.1", port, round_trip_seconds=ROUND_TRIP_SECONDS) as proxy,
            socket.create_connection((proxy.host, proxy.port), 10) as client,
        ):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield client
        thread.join(10)


def echo(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        connection.sendall(data)


def measure_ping_pong(client: socket.socket) -> float:
    began = time.monotonic()
    client.sendall(b"ping")
    assert client.recv(100) == b"ping"
    return time.monotonic() - began


def receive_all(connection: socket.socket, count: int) -> int:
    buffer = bytearray(1024 * 1024)
    received = 0
    while received < count and (size := connection.recv_into(buffer)):
        received += size
    return received


def test_a_round_trip_takes_as_long_as_asked() -> None:
    with connect(echo) as client:
        # The first one pays for the handshake, and a busy machine adds to some, not to all.
        seconds = [measure_ping_pong(client) for _ in range(8)]
        while min(seconds) >= ROUND_TRIP_SECONDS + 0.02 and len(seconds) < 200:
            seconds.append(measure_ping_pong(client))
    assert ROUND_TRIP_SECONDS - 0.001 <= min(seconds) < ROUND_TRIP_SECONDS + 0.02


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bulk_passes_fast(direction: str) -> None:
    received: list[int] = []

    def serve(connection: socket.socket) -> None:
        if direction == "up":
            received.append(receive_all(connection, BULK_BYTES))
            connection.sendall(b"!")
        else:
            connection.recv(1)
            connection.sendall(bytes(BULK_BYTES))

    with connect(serve) as client:
        began = time.monotonic()
        if direction == "up":
            client.sendall(bytes(BULK_BYTES))
            assert client.recv(1) == b"!"
        else:
            client.sendall(b"?")
            received.append(receive_all(client, BULK_BYTES))
        seconds = time.monotonic() - began

    assert received == [BULK_BYTES]
    # A busy machine slows it down. A line of TCP's usual window and this round trip would take a few MiB in a second.
    assert BULK_BYTES / seconds > 20 * 1024 * 1024


def test_bytes_arrive_in_order_and_an_end_is_passed_on() -> None:
    data = bytes(range(256)) * 4096
    with connect(echo) as client:

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        came = b""
        while piece := client.recv(65536):
            came += piece
        assert came == data


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with (
        LatencyProxy("127.0.0.1", closed_port(), round_trip_seconds=0.0) as proxy,
        socket.create_connection((proxy.host, proxy.port), 10) as client,
    ):
        assert client.recv(1) == b""
