"""A client that sends single SFTP requests and shows the bare answers: what a server does, whatever a client makes of it.

It shares nothing with the product but paramiko's transport.
"""

from __future__ import annotations

import itertools
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import paramiko

from tests.servers.endpoint import Endpoint
from tests.servers.raw_sftp import EOF, OK, Fields, Kind, string

_ANSWER_SECONDS = 40.0
READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32
SIZE, OWNER, MODE, TIMES = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its packet type and what follows the request's number."""

    kind: int
    body: bytes

    @property
    def code(self) -> int:
        """The code of a STATUS; OK for what carries a result."""
        return Fields(self.body).uint32() if self.kind == Kind.STATUS else OK

    @property
    def is_good(self) -> bool:
        return self.code == OK

    def attributes(self) -> dict[str, int]:
        """Those of an ATTRS."""
        assert self.kind == Kind.ATTRS, self
        return Fields(self.body).attributes()

    def name(self) -> bytes:
        """The first of a NAME."""
        assert self.kind == Kind.NAME, self
        fields = Fields(self.body)
        fields.uint32()
        return fields.string()


class RawClient:
    """One session. `extensions` are those that the server announces."""

    def __init__(self, server: Endpoint) -> None:
        self._transport = paramiko.Transport(socket.create_connection((server.host, server.port), _ANSWER_SECONDS))
        self._numbers = itertools.count(1)
        try:
            self._transport.start_client(timeout=_ANSWER_SECONDS)
            self._transport.auth_publickey(server.username, paramiko.Ed25519Key(filename=str(server.user_key_path)))
            self._channel: Any = self._open_channel()
            self._channel.invoke_subsystem("sftp")
            self._send(struct.pack(">BI", Kind.INIT, 3))
            self.extensions = self._read_version()
        except BaseException:
            self._transport.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def request(self, kind: Kind, *parts: bytes) -> Reply:
        """Send one request and take its answer."""
        number = next(self._numbers)
        self._send(struct.pack(">BI", kind, number) + b"".join(parts))
        answer = self._read_packet()
        assert int.from_bytes(answer[1:5], "big") == number, "an answer to another request"
        return Reply(answer[0], answer[5:])

    def extended(self, name: bytes, *parts: bytes) -> Reply:
        """Send an extended request."""
        return self.request(Kind.EXTENDED, string(name), *parts)

    def open(self, path: bytes, flags: int, mode: int | None = None) -> Reply:
        """OPEN; `handle_of` takes the handle out of the answer."""
        return self.request(Kind.OPEN, string(path), struct.pack(">I", flags), encode_attributes(mode=mode))

    def write_file(self, path: bytes, data: bytes, mode: int | None = None) -> None:
        """Make a file, or replace what is in it."""
        handle = handle_of(self.open(path, WRITE | CREATE | TRUNCATE, mode))
        self.write(handle, 0, data)
        assert self.close_handle(handle).is_good

    def write(self, handle: bytes, offset: int, data: bytes) -> None:
        """WRITE, which must be acknowledged."""
        reply = self.send_write(handle, offset, data)
        assert reply.is_good, reply

    def send_write(self, handle: bytes, offset: int, data: bytes) -> Reply:
        """WRITE."""
        return self.request(Kind.WRITE, string(handle), struct.pack(">Q", offset), string(data))

    def close_handle(self, handle: bytes) -> Reply:
        return self.request(Kind.CLOSE, string(handle))

    def can_run(self, command: str) -> bool:
        """Whether the account has a shell: the command ends with 0."""
        try:
            channel = self._open_channel()
            channel.exec_command(command)
            return bool(channel.recv_exit_status() == 0)
        except (paramiko.SSHException, EOFError):
            return False

    def list_names(self, path: bytes) -> set[bytes]:
        """What is in a directory."""
        handle = handle_of(self.request(Kind.OPENDIR, string(path)))
        found: set[bytes] = set()
        while (reply := self.request(Kind.READDIR, string(handle))).code != EOF:
            fields = Fields(reply.body)
            for _ in range(fields.uint32()):
                found.add(fields.string())
                fields.string()
                fields.attributes()
        self.close_handle(handle)
        return found - {b".", b".."}

    def _open_channel(self) -> Any:
        channel = self._transport.open_session(timeout=_ANSWER_SECONDS)
        channel.settimeout(_ANSWER_SECONDS)
        return channel

    def _send(self, packet: bytes) -> None:
        self._channel.sendall(struct.pack(">I", len(packet)) + packet)

    def _read_version(self) -> dict[bytes, bytes]:
        packet = self._read_packet()
        assert packet[:5] == struct.pack(">BI", Kind.VERSION, 3), packet
        fields, found = packet[5:], {}
        while fields:
            first = int.from_bytes(fields[:4], "big")
            name, fields = fields[4 : 4 + first], fields[4 + first :]
            second = int.from_bytes(fields[:4], "big")
            found[name], fields = fields[4 : 4 + second], fields[4 + second :]
        return found

    def _read_packet(self) -> bytes:
        return self._read_exactly(int.from_bytes(self._read_exactly(4), "big"))

    def _read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._channel.recv(count - len(data))
            assert piece, "the server has ended the session"
            data += piece
        return data


def handle_of(reply: Reply) -> bytes:
    """The handle that OPEN or OPENDIR gave."""
    assert reply.kind == Kind.HANDLE, reply
    return Fields(reply.body).string()


def encode_attributes(*, mode: int | None = None, modified: int | None = None) -> bytes:
    """The attributes that are given, and no others."""
    flags = (MODE if mode is not None else 0) | (TIMES if modified is not None else 0)
    parts = [struct.pack(">I", flags)]
    parts += [struct.pack(">I", mode)] if mode is not None else []
    parts += [struct.pack(">II", modified, modified)] if modified is not None else []
    return b"".join(parts)
