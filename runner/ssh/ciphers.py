"""Seals and opens single SSH packets, for each of the four ways a packet can be protected.

    AES-GCM (RFC 5647)        length in clear, as additional data | ciphertext | tag
    ChaCha20-Poly1305         length encrypted by a key of its own | ciphertext | tag   (`chacha.py`)
    encrypt-then-MAC          length in clear | ciphertext | MAC over sequence number, length and ciphertext
    encrypt-and-MAC (RFC 4253) everything encrypted | MAC over sequence number and plaintext

All keys and cipher objects come from paramiko's key exchange.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paramiko.ssh_exception import SSHException

from runner.ssh.chacha import ChaChaKeys

MIN_PADDING_BYTES = 4
PLAIN_BLOCK_BYTES = 8
TAG_BYTES = 16
# Room for the packets that servers send in practice, 32 KiB of data each; larger ones are opened with an allocation.
OPENED_BYTES = 64 * 1024

_LENGTH = struct.Struct(">I")

# A payload in parts, so that bulk data is put together only once.
Payload = Sequence[bytes | memoryview]

# What `Inbound.open` gives: the payload, valid until the next call, and how many bytes of the buffer the packet took.
Opened = tuple[memoryview, int]


class Outbound(Protocol):
    """Protects what goes out."""

    def seal(self, payload: Payload, sequence: int) -> bytes:
        """The packet that carries `payload`."""
        ...

    def seal_into(self, space: memoryview, payload: Payload, sequence: int) -> int:
        """The same, written to the beginning of `space`; returns the packet's length."""
        ...


class Inbound(Protocol):
    """Checks and unwraps what comes in."""

    def open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        """The first packet in `buffer`, None if it is not all there. Raises `SSHException` if it is not genuine."""
        ...


def make_outbound(
    block_engine: Any,
    *,
    block_size: int,
    mac_engine: Any,
    mac_size: int,
    mac_key: bytes | None,
    sdctr: bool = False,
    etm: bool = False,
    aead: bool = False,
    iv_out: bytes | None = None,
) -> Outbound:
    """What protects packets under the keys that Transport has negotiated. The parameters are its own."""
    if isinstance(block_engine, ChaChaKeys):
        return ChaChaOutbound(block_engine, block_size)
    if aead and iv_out is not None:
        return GcmOutbound(block_engine, iv_out, block_size)
    return MacOutbound(block_engine, block_size, mac_key or b"", mac_engine, mac_size, is_etm=etm, is_cbc=not sdctr)


def make_inbound(
    block_engine: Any,
    *,
    block_size: int,
    mac_engine: Any,
    mac_size: int,
    mac_key: bytes | None,
    etm: bool = False,
    aead: bool = False,
    iv_in: bytes | None = None,
    is_cbc: bool = False,
) -> Inbound:
    """What unwraps packets under the keys that Transport has negotiated. The parameters are its own but for `is_cbc`."""
    if isinstance(block_engine, ChaChaKeys):
        return ChaChaInbound(block_engine)
    if aead and iv_in is not None:
        return GcmInbound(block_engine, iv_in)
    if etm:
        return EtmInbound(block_engine, mac_key or b"", mac_engine, mac_size)
    return MacInbound(block_engine, block_size, mac_key or b"", mac_engine, mac_size, is_cbc=is_cbc)


def pad(payload: Payload, block_size: int, counted_bytes: int, make_padding: Callable[[int], bytes] = bytes) -> bytes:
    """Padding length, payload and padding. `counted_bytes` is what the block size must divide beside the payload.

    The padding is zeros unless `make_padding` makes others: neither counter mode nor AES-GCM leaks anything through them.
    """
    count = MIN_PADDING_BYTES + -(sum(map(len, payload)) + counted_bytes + MIN_PADDING_BYTES) % block_size
    return b"".join((bytes((count,)), *payload, make_padding(count)))


def copy_into(space: memoryview, packet: bytes) -> int:
    """Put a packet at the beginning of `space`; returns its length."""
    space[: len(packet)] = packet
    return len(packet)


def unpad(body: bytes | memoryview) -> memoryview:
    """The payload of padding length, payload and padding. Raises `SSHException` if there is none."""
    end = len(body) - body[0]
    if end < 2:
        raise SSHException("the server sent a packet that is nothing but padding")
    return memoryview(body)[1:end]


def read_length(buffer: memoryview, limit_bytes: int) -> int:
    """A packet's length field, checked before anything is done with it."""
    length: int = _LENGTH.unpack_from(buffer)[0]
    if not 1 + MIN_PADDING_BYTES <= length <= limit_bytes:
        raise SSHException(f"the server announced a packet of {length:,} bytes")
    return length


class PlainOutbound:
    """Before the first key exchange."""

    def seal(self, payload: Payload, sequence: int) -> bytes:
        body = pad(payload, PLAIN_BLOCK_BYTES, 5)
        return struct.pack(">I", len(body)) + body

    def seal_into(self, space: memoryview, payload: Payload, sequence: int) -> int:
        return copy_into(space, self.seal(payload, sequence))


class PlainInbound:
    """Before the first key exchange."""

    def open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        if len(buffer) < 4:
            return None
        length = read_length(buffer, limit_bytes)
        if len(buffer) < 4 + length:
            return None
        return unpad(bytes(buffer[4 : 4 + length])), 4 + length


class _Nonce:
    """AES-GCM's nonce: four fixed bytes and a counter (RFC 5647 section 7.1)."""

    __slots__ = ("_counter", "_fixed")

    def __init__(self, start: bytes) -> None:
        self._fixed, self._counter = start[:4], int.from_bytes(start[4:], "big")

    def take(self) -> bytes:
        """The nonce for the next packet; each is given out once."""
        counter = self._counter
        self._counter = (counter + 1) & 0xFFFFFFFFFFFFFFFF
        return self._fixed + counter.to_bytes(8, "big")


class GcmOutbound:
    """AES-GCM."""

    def __init__(self, engine: Any, nonce: bytes, block_size: int) -> None:
        self._encrypt = engine.encrypt
        # Since cryptography 47: saves an allocation and a copy for each packet.
        self._encrypt_into = getattr(engine, "encrypt_into", None)
        self._nonce = _Nonce(nonce)
        self._block_size = block_size

    def seal(self, payload: Payload, sequence: int) -> bytes:
        body = pad(payload, self._block_size, 1)
        length = struct.pack(">I", len(body))
        return length + bytes(self._encrypt(self._nonce.take(), body, length))

    def seal_into(self, space: memoryview, payload: Payload, sequence: int) -> int:
        if self._encrypt_into is None:
            return copy_into(space, self.seal(payload, sequence))
        body = pad(payload, self._block_size, 1)
        end = 4 + len(body) + TAG_BYTES
        length = struct.pack(">I", len(body))
        space[:4] = length
        self._encrypt_into(self._nonce.take(), body, length, space[4:end])
        return end


class GcmInbound:
    """AES-GCM."""

    def __init__(self, engine: Any, nonce: bytes) -> None:
        self._decrypt = engine.decrypt
        self._decrypt_into = getattr(engine, "decrypt_into", None)
        self._space = memoryview(bytearray(OPENED_BYTES))
        self._nonce = _Nonce(nonce)

    def open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        if len(buffer) < 4:
            return None
        length = read_length(buffer, limit_bytes)
        end = 4 + length + TAG_BYTES
        if len(buffer) < end:
            return None
        try:
            if self._decrypt_into is not None and length <= OPENED_BYTES:
                body = self._space[:length]
                self._decrypt_into(self._nonce.take(), buffer[4:end], buffer[:4], body)
            else:
                body = self._decrypt(self._nonce.take(), buffer[4:end], buffer[:4])
        except Exception as error:
            raise SSHException("the server sent a packet that fails authentication") from error
        return unpad(body), end


class ChaChaOutbound:
    """chacha20-poly1305@openssh.com."""

    def __init__(self, keys: ChaChaKeys, block_size: int) -> None:
        self._keys = keys
        self._block_size = block_size

    def seal(self, payload: Payload, sequence: int) -> bytes:
        return self._keys.seal(pad(payload, self._block_size, 1), sequence)

    def seal_into(self, space: memoryview, payload: Payload, sequence: int) -> int:
        return copy_into(space, self.seal(payload, sequence))


class ChaChaInbound:
    """chacha20-poly1305@openssh.com."""

    def __init__(self, keys: ChaChaKeys) -> None:
        self._keys = keys
        # The length of the packet that is coming in, decrypted once; 0 before it is known.
        self._length = 0

    def open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        if len(buffer) < 4:
            return None
        if not self._length:
            length = self._keys.apply_to_length(buffer[:4], sequence)
            self._length = read_length(memoryview(length), limit_bytes)
        end = 4 + self._length + TAG_BYTES
        if len(buffer) < end:
            return None
        self._length = 0
        return unpad(self._keys.open(buffer[:end], sequence)), end


class MacOutbound:
    """A cipher and a MAC, the MAC over the plaintext or (etm) over the ciphertext."""

    def __init__(
        self,
        engine: Any,
        block_size: int,
        mac_key: bytes,
        mac_engine: Any,
        mac_size: int,
        *,
        is_etm: bool,
        is_cbc: bool = False,
    ) -> None:
        self._encrypt = engine.update
        self._block_size = block_size
        self._mac = hmac.new(mac_key, digestmod=mac_engine)
        self._mac_size = mac_size
        self._is_etm = is_etm
        # RFC 4253 section 6 wants random padding, and CBC needs it.
        self._make_padding = os.urandom if is_cbc else bytes

    def seal(self, payload: Payload, sequence: int) -> bytes:
        body = pad(payload, self._block_size, 1 if self._is_etm else 5, self._make_padding)
        length = struct.pack(">I", len(body))
        if self._is_etm:
            packet = length + bytes(self._encrypt(body))
            return packet + compute_mac(self._mac, self._mac_size, sequence, packet)
        plain = length + body
        return bytes(self._encrypt(plain)) + compute_mac(self._mac, self._mac_size, sequence, plain)

    def seal_into(self, space: memoryview, payload: Payload, sequence: int) -> int:
        return copy_into(space, self.seal(payload, sequence))


class EtmInbound:
    """Encrypt-then-MAC: nothing is decrypted before it is known to be genuine."""

    def __init__(self, engine: Any, mac_key: bytes, mac_engine: Any, mac_size: int) -> None:
        self._decrypt = engine.update
        self._mac = hmac.new(mac_key, digestmod=mac_engine)
        self._mac_size = mac_size

    def open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        if len(buffer) < 4:
            return None
        end = 4 + read_length(buffer, limit_bytes)
        if len(buffer) < end + self._mac_size:
            return None
        check_mac(self._mac, self._mac_size, sequence, buffer[:end], buffer[end : end + self._mac_size])
        return unpad(self._decrypt(buffer[4:end])), end + self._mac_size


class MacInbound:
    """Encrypt-and-MAC: the length is known only after the first block is decrypted.

    In CBC mode what is wrong with a packet is told only when as much has come as the longest packet has: how soon the
    connection ends would tell whoever changed it what its first four bytes decrypt to (CPNI-957037).
    """

    def __init__(
        self, engine: Any, block_size: int, mac_key: bytes, mac_engine: Any, mac_size: int, *, is_cbc: bool = False
    ) -> None:
        self._decrypt = engine.update
        self._block_size = block_size
        self._mac = hmac.new(mac_key, digestmod=mac_engine)
        self._mac_size = mac_size
        self._first_block = b""
        self._is_cbc = is_cbc
        self._failure: SSHException | None = None

    def open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        if self._failure is None:
            try:
                return self._open(buffer, sequence, limit_bytes)
            except SSHException as error:
                if not self._is_cbc:
                    raise
                self._failure = error
        if len(buffer) < limit_bytes:
            return None
        raise self._failure

    def _open(self, buffer: memoryview, sequence: int, limit_bytes: int) -> Opened | None:
        if not self._first_block:
            if len(buffer) < self._block_size:
                return None
            self._first_block = bytes(self._decrypt(buffer[: self._block_size]))
        end = 4 + read_length(memoryview(self._first_block), limit_bytes)
        if end % self._block_size:
            raise SSHException("the server sent a packet that is no whole number of blocks")
        if len(buffer) < end + self._mac_size:
            return None
        plain = self._first_block + self._decrypt(buffer[self._block_size : end])
        self._first_block = b""
        check_mac(self._mac, self._mac_size, sequence, plain, buffer[end : end + self._mac_size])
        return unpad(memoryview(plain)[4:]), end + self._mac_size


def compute_mac(keyed: Any, size: int, sequence: int, data: bytes | memoryview) -> bytes:
    """The MAC of one packet. `keyed` is an HMAC that has taken in nothing but the key."""
    mac = keyed.copy()
    mac.update(struct.pack(">I", sequence))
    mac.update(data)
    digest: bytes = mac.digest()
    return digest[:size]


def check_mac(keyed: Any, size: int, sequence: int, data: bytes | memoryview, shown: memoryview) -> None:
    """Raise `SSHException` unless the packet is genuine."""
    if not hmac.compare_digest(compute_mac(keyed, size, sequence, data), bytes(shown)):
        raise SSHException("the server sent a packet that fails authentication")
