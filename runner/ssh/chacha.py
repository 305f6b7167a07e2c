"""chacha20-poly1305@openssh.com: seals and opens single SSH packets (OpenSSH's PROTOCOL.chacha20poly1305).

Two ChaCha20 keys: one encrypts the length alone, so that it can be read before the packet is whole; the other encrypts the
rest, and gives the one-time key of the Poly1305 tag over both. The packet's sequence number is the nonce of each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305
from paramiko.ssh_exception import SSHException

NAME = "chacha20-poly1305@openssh.com"
KEY_BYTES = 32
TAG_BYTES = 16
# ChaCha20 makes its key stream in blocks; the first one holds the key of the tag, and is used for nothing else.
STREAM_BLOCK_BYTES = 64

_FIRST_BLOCK = bytes(STREAM_BLOCK_BYTES)
# The state's last sixteen bytes: a counter of blocks, and the sequence number as 64 bits.
_NONCE = struct.Struct(">QQ").pack


class ChaChaKeys:
    """The two keys of one direction. Takes the place of a cipher class in paramiko's table, and of what it gives."""

    def __init__(self, key: bytes) -> None:
        """`key` is the 64 bytes that the key exchange gives: the packet's key before the length's."""
        self._packet_key, self._length_key = key[:KEY_BYTES], key[KEY_BYTES:]

    def seal(self, body: bytes, sequence: int) -> bytes:
        """The packet: encrypted length, encrypted body, tag."""
        length = self.apply_to_length(len(body).to_bytes(4, "big"), sequence)
        stream = self._start(self._packet_key, sequence)
        tag_key = stream(_FIRST_BLOCK)[:KEY_BYTES]
        encrypted = length + stream(body)
        return encrypted + Poly1305.generate_tag(tag_key, encrypted)

    def open(self, packet: memoryview, sequence: int) -> bytes:
        """The body of a whole packet. Raises `SSHException` if it is not genuine; nothing is decrypted before."""
        stream = self._start(self._packet_key, sequence)
        tag_key = stream(_FIRST_BLOCK)[:KEY_BYTES]
        encrypted = packet[:-TAG_BYTES]
        try:
            Poly1305.verify_tag(tag_key, encrypted, bytes(packet[-TAG_BYTES:]))
        except InvalidSignature as error:
            raise SSHException("the server sent a packet that fails authentication") from error
        return stream(encrypted[4:])

    def apply_to_length(self, length: bytes | memoryview, sequence: int) -> bytes:
        """Encrypts a length field, and decrypts an encrypted one."""
        return self._start(self._length_key, sequence)(length)

    def _start(self, key: bytes, sequence: int) -> Callable[[bytes | memoryview], bytes]:
        """The key stream of one packet, from its first block on."""
        update: Callable[[Any], bytes] = Cipher(ChaCha20(key, _NONCE(0, sequence)), None).encryptor().update
        return update
