"""An SSH agent of the test's own, and FIDO keys in software that it may hold."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.servers.keys import KeyPair

REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE = 11, 12, 13, 14
_SECONDS = 60
_APPLICATION = b"ssh:"
_TOUCHED = 1

# From a request's number and fields to the bytes that go out; None for silence.
Answer = Callable[[int, bytes], bytes | None]


@contextmanager
def fake_agent(answer: Answer) -> Iterator[Path]:
    """The socket of an agent that answers so."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder) / "agent"
        server.bind(str(path))
        server.listen()
        connections: list[socket.socket] = []
        thread = threading.Thread(target=_serve, args=(server, answer, connections), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join(_SECONDS)


def _serve(server: socket.socket, answer: Answer, connections: list[socket.socket]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connections.append(connection)
        with connection, suppress(OSError, struct.error):
            while True:
                length = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))[0]
                request = connection.recv(length, socket.MSG_WAITALL)
                reply = answer(request[0], request[1:])
                if reply is not None:
                    connection.sendall(reply)


def packet(kind: int, *parts: bytes) -> bytes:
    """A whole answer."""
    body = bytes([kind]) + b"".join(parts)
    return struct.pack(">I", len(body)) + body


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def take_strings(data: bytes) -> list[bytes]:
    """The strings that a request begins with."""
    found = []
    while len(data) >= 4 and (length := int.from_bytes(data[:4], "big")) <= len(data) - 4:
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def blob_of(key: KeyPair) -> bytes:
    return base64.b64decode(key.public_line.split()[1])


def listing(*blobs: bytes, comment: bytes = b"comment") -> bytes:
    """The answer that lists these keys."""
    entries = b"".join(string(blob) + string(comment) for blob in blobs)
    return packet(IDENTITIES_ANSWER, struct.pack(">I", len(blobs)), entries)


@dataclass(frozen=True, slots=True)
class SecurityKey:
    """A FIDO key without its token (PROTOCOL.u2f)."""

    type: str
    blob: bytes
    sign_hash: Callable[[bytes], bytes]

    @property
    def public_line(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    def sign(self, data: bytes) -> bytes:
        """A signature as the agent gives it."""
        flags_and_counter = struct.pack(">BI", _TOUCHED, 7)
        signed = hashlib.sha256(_APPLICATION).digest() + flags_and_counter + hashlib.sha256(data).digest()
        return string(self.type.encode()) + string(self.sign_hash(signed)) + flags_and_counter

    def answer(self, kind: int, fields: bytes) -> bytes:
        """As the agent that holds it."""
        if kind == REQUEST_IDENTITIES:
            return listing(self.blob)
        blob, data = take_strings(fields)[:2]
        assert (kind, blob) == (SIGN_REQUEST, self.blob)
        return packet(SIGN_RESPONSE, string(self.sign(data)))


def make_security_key(kind: str) -> SecurityKey:
    """One of the two kinds, `ed25519-sk` or `ecdsa-sk`."""
    if kind == "ed25519-sk":
        key = ed25519.Ed25519PrivateKey.generate()
        point = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        name = "sk-ssh-ed25519@openssh.com"
        return SecurityKey(name, string(name.encode()) + string(point) + string(_APPLICATION), key.sign)
    curve_key = ec.generate_private_key(ec.SECP256R1())
    point = curve_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    name = "sk-ecdsa-sha2-nistp256@openssh.com"
    fields = (name.encode(), b"nistp256", point, _APPLICATION)

    def sign(data: bytes) -> bytes:
        numbers = decode_dss_signature(curve_key.sign(data, ec.ECDSA(hashes.SHA256())))
        return b"".join(string(_mpint(number)) for number in numbers)

    return SecurityKey(name, b"".join(map(string, fields)), sign)


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
