"""Listeners that speak no SSH, or hardly any: plain sockets in a daemon thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.servers.endpoint import LOOPBACK

_JOIN_SECONDS = 20.0
_LINGER_SECONDS = 2.0


class Listener:
    """Accepts connections, sends each one a greeting and then keeps it open, in silence."""

    host = LOOPBACK

    def __init__(self, greeting: bytes = b"") -> None:
        self.port = 0
        self.connection_count = 0
        self._greeting = greeting
        self._socket: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept_all, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port."""
        self._socket = socket.create_server((LOOPBACK, 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread.start()

    def stop(self) -> None:
        """Close everything. Harmless when the listener never started."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the accept; closing alone does not
            self._thread.join(_JOIN_SECONDS)
            self._socket.close()
        for connection in self._connections:
            connection.close()

    def greet(self, connection: socket.socket) -> None:
        """What a new client gets."""
        connection.sendall(self._greeting)

    def _accept_all(self) -> None:
        assert self._socket is not None
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connection_count += 1
            self._connections.append(connection)
            with contextlib.suppress(OSError):
                self.greet(connection)


class GarbageServer(Listener):
    """Answers `HTTP/1.0 400 Bad Request` to everybody and closes."""

    def __init__(self, greeting: bytes = b"HTTP/1.0 400 Bad Request\r\n\r\n") -> None:
        super().__init__(greeting)

    def greet(self, connection: socket.socket) -> None:
        """Send, and read what the client says: closing with unread data resets and may swallow the answer."""
        connection.settimeout(_LINGER_SECONDS)
        connection.sendall(self._greeting)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


class FullBacklog:
    """A listening socket that never accepts and whose queue is full: a connect hangs, unanswered."""

    connection_count = 0

    def __init__(self) -> None:
        self.port = 0
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Listen, and fill the queue."""
        server = socket.create_server((LOOPBACK, 0), backlog=0)
        self.port = int(server.getsockname()[1])
        self._sockets = [server, *(_begin_connect(self.port) for _ in range(4))]

    def stop(self) -> None:
        """Close everything."""
        for item in self._sockets:
            item.close()


def _begin_connect(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((LOOPBACK, port))
    return connection


_reserved: list[socket.socket] = []


def closed_port() -> int:
    """A port on which nothing listens, and never will in this process: it stays bound."""
    holder = socket.socket()
    holder.bind((LOOPBACK, 0))
    _reserved.append(holder)
    return int(holder.getsockname()[1])
