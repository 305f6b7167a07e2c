"""The fault proxy, judged by plain sockets on both sides of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.patience import BUSY_SECONDS, wait_for
from tests.servers.listeners import closed_port
from tests.servers.proxy import BlackHole, Corrupt, Cut, Drip, Fault, FaultProxy, RateLimit, Trigger

SILENCE_SECONDS = 0.3


class Echo:
    """Sends back whatever comes, to any number of clients, and remembers it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    self.received += data
                    connection.sendall(data)
            except OSError:
                pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@contextmanager
def connect(echo: Echo, *faults: Fault, **options: int) -> Iterator[tuple[FaultProxy, socket.socket]]:
    with FaultProxy("127.0.0.1", echo.port, *faults, **options) as proxy, open_connection(proxy) as client:
        yield proxy, client


def open_connection(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), 5)


def receive(client: socket.socket, count: int) -> bytes:
    """Up to `count` bytes, fewer at the end of the stream."""
    data = b""
    while len(data) < count and (piece := client.recv(count - len(data))):
        data += piece
    return data


def assert_silent(client: socket.socket) -> None:
    client.settimeout(SILENCE_SECONDS)
    with pytest.raises(TimeoutError):
        client.recv(1)


def test_without_faults_bytes_pass_and_are_counted(echo: Echo) -> None:
    data = bytes(range(256)) * 4000
    with connect(echo) as (proxy, client):
        threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        assert receive(client, len(data)) == data
        assert (proxy.connection_count, proxy.bytes_up, proxy.bytes_down) == (1, len(data), len(data))


def test_an_orderly_end_is_passed_on_and_answers_still_come(echo: Echo) -> None:
    with connect(echo) as (_, client):
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 100) == b"last words"


def test_a_reset_after_some_bytes_to_the_server(echo: Echo) -> None:
    with connect(echo, Cut("up", 1000)) as (proxy, client):
        client.sendall(b"x" * 5000)
        with pytest.raises(ConnectionResetError):
            receive(client, 5000)
        assert proxy.bytes_up == 1000
        assert len(echo.received) <= 1000


def test_an_orderly_end_after_some_bytes_to_the_client(echo: Echo) -> None:
    with connect(echo, Cut("down", 1000, abrupt=False)) as (proxy, client):
        client.sendall(b"x" * 5000)
        assert receive(client, 5000) == b"x" * 1000
        assert proxy.bytes_down == 1000


def test_a_cut_after_nothing(echo: Echo) -> None:
    # Sometimes it is cut while the client still connects.
    with pytest.raises(ConnectionResetError), connect(echo, Cut("down", 0)) as (_, client):
        client.recv(1)
    assert echo.received == b""


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_black_hole_swallows_both_directions_and_keeps_the_connection(echo: Echo, direction: str) -> None:
    hole = BlackHole("up" if direction == "up" else "down", 1000)
    with connect(echo, hole) as (proxy, client):
        client.sendall(b"x" * 1000)
        time.sleep(0.1)
        client.sendall(b"y" * 1000)
        if direction == "down":
            assert receive(client, 1000) == b"x" * 1000
        else:
            wait_for(lambda: echo.received == b"x" * 1000)
        assert_silent(client)
        assert proxy.bytes_down <= 1000


def test_one_byte_is_changed(echo: Echo) -> None:
    with connect(echo, Corrupt("up", 3), Corrupt("down", 70_000, mask=1)) as (_, client):
        data = b"\x0f" * 100_000
        threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        back = receive(client, len(data))
    assert {index: byte for index, byte in enumerate(back) if byte != 0x0F} == {3: 0xF0, 70_000: 0x0E}


def test_bytes_drip(echo: Echo) -> None:
    with connect(echo, Drip(10, 0.05)) as (_, client):
        started = time.monotonic()
        client.sendall(b"x" * 100)
        assert receive(client, 10) == b"x" * 10
        first_at = time.monotonic()
        receive(client, 90)
    assert time.monotonic() - started > 0.45
    assert time.monotonic() - first_at > 0.1


def test_the_rate_is_limited(echo: Echo) -> None:
    with connect(echo, RateLimit(100_000)) as (_, client):
        started = time.monotonic()
        client.sendall(b"x" * 50_000)
        receive(client, 50_000)
    assert 0.4 < time.monotonic() - started < 2 + BUSY_SECONDS


def test_something_is_done_at_a_byte(echo: Echo) -> None:
    seen: list[int] = []
    trigger = Trigger("up", 1000, lambda: seen.append(proxy.bytes_up))
    with FaultProxy("127.0.0.1", echo.port, trigger) as proxy, open_connection(proxy) as client:
        client.sendall(b"x" * 3000)
        receive(client, 3000)
    assert seen == [1000]


def test_only_the_first_connections_are_faulty(echo: Echo) -> None:
    with FaultProxy("127.0.0.1", echo.port, Cut("up", 0), faulty_connections=2) as proxy:
        for _ in range(2):
            # The reset may be there before `connect` returns.
            with pytest.raises(ConnectionResetError), open_connection(proxy) as client:
                client.recv(1)
        with open_connection(proxy) as client:
            client.sendall(b"honest")
            assert receive(client, 6) == b"honest"
        assert proxy.connection_count == 3


def test_a_server_that_is_not_there() -> None:
    with FaultProxy("127.0.0.1", closed_port()) as proxy, open_connection(proxy) as client:
        assert client.recv(1) == b""


def test_leaving_the_block_ends_connections_that_are_stuck(echo: Echo) -> None:
    with FaultProxy("127.0.0.1", echo.port, BlackHole("up", 0)) as proxy:
        client = open_connection(proxy)
        client.sendall(b"x" * 1000)
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
