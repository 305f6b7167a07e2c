"""A TCP proxy that makes a line long but not thin: every byte arrives later, as many as ever pass.

It runs in a process of its own, so that a busy test or benchmark does not disturb its clock:

    with LatencyProxy(server.host, server.port, round_trip_seconds=0.05) as proxy:
        ...  # connect to proxy.host, proxy.port

Each direction has two threads. One reads whatever has come and notes when it is due, the other sends it on then.
The window of TCP itself spans loopback only, so nothing but the protocol above it is held up by the round trip.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.endpoint import LOOPBACK

_READ_BYTES = 1024 * 1024
# What may be under way in one direction: 25 ms at 10 GiB/s. Only a receiver that does not read fills it.
_QUEUED_BYTES = 256 * 1024 * 1024
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
_START_SECONDS = 40.0
_STOP_SECONDS = 20.0
_CHECKOUT = Path(__file__).resolve().parents[2]


class LatencyProxy:
    """Forwards connections on a loopback port to a server; a round trip takes `round_trip_seconds` longer."""

    host = LOOPBACK

    def __init__(self, target_host: str, target_port: int, *, round_trip_seconds: float) -> None:
        self.port = 0
        self._arguments = [target_host, str(target_port), str(round_trip_seconds)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.latency", *self._arguments],
            cwd=_CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.port = int(_read_line(self._process) or 0)
        if not self.port:
            self.__exit__(None, None, None)
            raise RuntimeError("the latency proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=_STOP_SECONDS)


def _read_line(process: subprocess.Popen[str]) -> str:
    """The first line of a process's output, or nothing when it does not come in time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(_START_SECONDS) else ""


class _Line:
    """What is under way in one direction: pieces with the moment at which each is due."""

    def __init__(self, delay_seconds: float) -> None:
        self._delay_seconds = delay_seconds
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()

    def put(self, data: bytes) -> None:
        """Let a piece set out; an empty one is the end. Waits while too much is under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued_bytes < _QUEUED_BYTES)
            self._pieces.append((time.monotonic() + self._delay_seconds, data))
            self._queued_bytes += len(data)
            self._changed.notify_all()

    def take(self) -> bytes:
        """The next piece, at the moment when it is due."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._pieces))
            due_at, data = self._pieces.popleft()
            self._queued_bytes -= len(data)
            self._changed.notify_all()
        time.sleep(max(0.0, due_at - time.monotonic()))
        return data


def _serve(target_host: str, target_port: int, round_trip_seconds: float) -> None:
    with socket.create_server((LOOPBACK, 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            _start(_connect, client, (target_host, target_port), round_trip_seconds)


def _connect(client: socket.socket, target: tuple[str, int], round_trip_seconds: float) -> None:
    """Open the other half of a connection, after the time that its handshake would take, and join the two."""
    time.sleep(round_trip_seconds)
    try:
        server = socket.create_connection(target)
    except OSError:
        client.close()
        return
    for one in (client, server):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    for source, destination in ((client, server), (server, client)):
        line = _Line(round_trip_seconds / 2)
        _start(_receive, source, line)
        _start(_send, line, destination)


def _receive(source: socket.socket, line: _Line) -> None:
    data = b"-"
    while data:
        try:
            data = source.recv(_READ_BYTES)
        except OSError:
            data = b""  # a reset is passed on as an end
        line.put(data)


def _send(line: _Line, destination: socket.socket) -> None:
    is_open = True
    while data := line.take():
        if is_open:
            try:
                destination.sendall(data)
            except OSError:
                is_open = False  # the rest is still taken, or its reader would wait for ever
    with contextlib.suppress(OSError):
        destination.shutdown(socket.SHUT_WR)


def _start(function: object, *arguments: object) -> None:
    assert callable(function)
    threading.Thread(target=function, args=arguments, daemon=True).start()


def main() -> None:
    """Serve until standard input ends, which it does with the process that started this one."""
    host, port, round_trip_seconds = sys.argv[1:]
    _start(_serve, host, int(port), float(round_trip_seconds))
    sys.stdin.read()


if __name__ == "__main__":
    main()
