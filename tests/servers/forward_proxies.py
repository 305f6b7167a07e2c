"""Small SOCKS5 and HTTP proxies on loopback that really connect, and that a test can make refuse, lie or dawdle.

    with SocksProxy(login=("ci", "secret"), names={"sftp.bank.example": server.port}) as proxy:
        ...
    assert proxy.asked == [("sftp.bank.example", 22)]

They look up names of their own: a name that is not among `names` is asked of nobody.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.servers.endpoint import LOOPBACK

_JOIN_SECONDS = 20.0
_PIECE_BYTES = 64 * 1024


class ForwardProxy:
    """What the two have in common. `asked` are the hosts and ports that it was asked for, `logins` who wanted in.

    `names` are the hosts that it knows beside addresses, each with a port on loopback. With `one_byte_seconds` it sends its
    own answers byte by byte, with such a pause before each.
    """

    host = LOOPBACK

    def __init__(
        self,
        *,
        names: Mapping[str, int] | None = None,
        login: tuple[str, str] | None = None,
        one_byte_seconds: float = 0.0,
    ) -> None:
        self.port = 0
        self.asked: list[tuple[str, int]] = []
        self.logins: list[tuple[str, str]] = []
        self.connection_count = 0
        self._names = names or {}
        self._login = login
        self._one_byte_seconds = one_byte_seconds
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._begin(self._accept_all)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        for sock in (self._listener, *self._sockets):
            sock.close()

    def serve(self, client: socket.socket) -> socket.socket | None:
        """Talk to a client; the connection that it asked for, None if it gets none."""
        raise NotImplementedError

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to a host that is known. Raises `OSError`."""
        self.asked.append((host, port))
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if host not in self._names:
                raise OSError("no such name") from None
            host, port = LOOPBACK, self._names[host]
        server = socket.create_connection((host, port), timeout=10)
        self._sockets.append(server)
        return server

    def say(self, client: socket.socket, data: bytes) -> None:
        """Send an answer, at once or byte by byte."""
        if not self._one_byte_seconds:
            client.sendall(data)
            return
        for byte in data:
            time.sleep(self._one_byte_seconds)
            client.sendall(bytes([byte]))

    def _begin(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept_all(self) -> None:
        assert self._listener is not None
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connection_count += 1
            self._sockets.append(client)
            self._begin(self._handle, client)

    def _handle(self, client: socket.socket) -> None:
        try:
            server = self.serve(client)
            if server is None:
                _hang_up(client)
                return
            server.settimeout(None)
            self._begin(_pump, server, client)
            _pump(client, server)
        except OSError:
            _hang_up(client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _hang_up(client: socket.socket) -> None:
    """An orderly end: closing with unread data would reset the connection, and may swallow the answer."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.settimeout(2)
        while client.recv(4096):
            pass


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


class SocksProxy(ForwardProxy):
    """SOCKS5. With a `reply` other than 0 it connects nobody; `bound` is the address it says that it connects from."""

    def __init__(
        self,
        *,
        names: Mapping[str, int] | None = None,
        login: tuple[str, str] | None = None,
        one_byte_seconds: float = 0.0,
        reply: int = 0,
        bound: bytes = b"\x01\x00\x00\x00\x00\x00\x00",
    ) -> None:
        super().__init__(names=names, login=login, one_byte_seconds=one_byte_seconds)
        self.kinds: list[int] = []
        self._reply = reply
        self._bound = bound

    def serve(self, client: socket.socket) -> socket.socket | None:
        version, count = _read(client, 2)
        methods = _read(client, count)
        assert version == 5
        wanted = 0 if self._login is None else 2
        if wanted not in methods:
            self.say(client, b"\x05\xff")
            return None
        self.say(client, bytes([5, wanted]))
        if self._login is not None and not self._is_let_in(client):
            return None
        version, command, _, kind = _read(client, 4)
        assert (version, command) == (5, 1)
        self.kinds.append(kind)
        host, port = _read_socks_address(client, kind), int.from_bytes(_read(client, 2), "big")
        if self._reply:
            self.asked.append((host, port))
            self.say(client, bytes([5, self._reply, 0]) + self._bound)
            return None
        try:
            server = self.connect(host, port)
        except OSError:
            self.say(client, b"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00")
            return None
        self.say(client, b"\x05\x00\x00" + self._bound)
        return server

    def _is_let_in(self, client: socket.socket) -> bool:
        assert _read(client, 1) == b"\x01"
        username, password = (_read(client, _read(client, 1)[0]).decode() for _ in range(2))
        self.logins.append((username, password))
        is_right = (username, password) == self._login
        self.say(client, b"\x01\x00" if is_right else b"\x01\x01")
        return is_right


def _read_socks_address(client: socket.socket, kind: int) -> str:
    if kind == 3:
        return _read(client, _read(client, 1)[0]).decode("ascii")
    return str(ipaddress.ip_address(_read(client, 4 if kind == 1 else 16)))


class HttpProxy(ForwardProxy):
    """Knows CONNECT. With an `answer` it says that, whatever is asked, and connects nobody. `heads` are the requests."""

    def __init__(
        self,
        *,
        names: Mapping[str, int] | None = None,
        login: tuple[str, str] | None = None,
        one_byte_seconds: float = 0.0,
        answer: bytes | None = None,
        success: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
    ) -> None:
        super().__init__(names=names, login=login, one_byte_seconds=one_byte_seconds)
        self.heads: list[str] = []
        self._answer = answer
        self._success = success

    def serve(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _read(client, 1)
        self.heads.append(head.decode("ascii"))
        first, *lines = head.decode("ascii").split("\r\n")
        method, authority, _ = first.split(" ")
        assert method == "CONNECT"
        host, _, port = authority.rpartition(":")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._answer is not None:
            self.say(client, self._answer)
            return None
        if self._login is not None and not self._is_let_in(fields.get("proxy-authorization", "")):
            self.say(
                client, b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n'
            )
            return None
        try:
            server = self.connect(host.strip("[]"), int(port))
        except OSError:
            self.say(client, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry")
            return None
        self.say(client, self._success)
        return server

    def _is_let_in(self, field: str) -> bool:
        if field:
            username, _, password = base64.b64decode(field.removeprefix("Basic ")).decode().partition(":")
            self.logins.append((username, password))
        return bool(field) and self.logins[-1] == self._login
