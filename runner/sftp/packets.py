"""SFTP's packets as bytes: numbers, strings, attributes, and the constants of draft-ietf-secsh-filexfer-02."""

from __future__ import annotations

import struct
from typing import NamedTuple

VERSION = 3
# Section 6.2.
MAX_HANDLE_BYTES = 256


# Extensions, by the names that servers tell.
LIMITS = "limits@openssh.com"
POSIX_RENAME = "posix-rename@openssh.com"
HARDLINK = "hardlink@openssh.com"
FSYNC = "fsync@openssh.com"


class _Numbers:
    """Plain numbers by name: they are looked up several times for every request, and an enum's members are slow."""

    @classmethod
    def name_of(cls, number: int) -> str | None:
        """The number's name, if it has one."""
        return next((name for name, value in vars(cls).items() if value == number and name[0] != "_"), None)


class Type(_Numbers):
    """Packet types, section 3."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class StatusCode(_Numbers):
    """Status codes, section 7."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlag(_Numbers):
    """Flags of OPEN, section 6.3."""

    READ = 0x01
    WRITE = 0x02
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


# Flags of attributes, section 5.
_SIZE = 0x01
_USER_GROUP = 0x02
_PERMISSIONS = 0x04
_TIMES = 0x08
_EXTENDED = 0x80000000
_USUAL = _SIZE | _USER_GROUP | _PERMISSIONS | _TIMES
# Flags, size, user, group, mode, access time, modification time.
_USUAL_ATTRIBUTES = struct.Struct(">IQIIIII")
# Flags, mode, access time, modification time.
_MODE_AND_TIMES = struct.Struct(">IIII")
_LENGTH = struct.Struct(">I")
_TOO_SHORT = "a packet ends in the middle of a field"


class MalformedPacket(Exception):
    """The server sent bytes that are no SFTP packet."""


class Attributes(NamedTuple):
    """What a server tells of a file, section 5; None for what it left out. Times are whole seconds since 1970."""

    size_bytes: int | None = None
    mode: int | None = None
    accessed_at_seconds: int | None = None
    modified_at_seconds: int | None = None

    def encode(self) -> bytes:
        """The attributes as SETSTAT and OPEN carry them. Access and modification time go together or not at all."""
        mode, modified = self.mode, self.modified_at_seconds
        if mode is not None and modified is not None and self.accessed_at_seconds is None:
            # What nearly every file is given.
            return _MODE_AND_TIMES.pack(_PERMISSIONS | _TIMES, mode, modified, modified)
        flags = 0
        body = b""
        if self.mode is not None:
            flags |= _PERMISSIONS
            body += struct.pack(">I", self.mode)
        if self.modified_at_seconds is not None:
            flags |= _TIMES
            accessed = self.modified_at_seconds if self.accessed_at_seconds is None else self.accessed_at_seconds
            body += struct.pack(">II", accessed, self.modified_at_seconds)
        return struct.pack(">I", flags) + body


def encode_string(value: bytes) -> bytes:
    """A length and the bytes."""
    return _LENGTH.pack(len(value)) + value


def encode_path(path: str) -> bytes:
    """A remote path on the wire. Bytes that are not UTF-8 travel as surrogate escapes inside the program."""
    raw = path.encode("utf-8", "surrogateescape")
    return _LENGTH.pack(len(raw)) + raw


def encode_packet(kind: int, request_id: int, *parts: bytes) -> bytes:
    """A whole request: length, type, request id, body."""
    body_length = 5 + sum(map(len, parts))
    return struct.pack(">IBI", body_length, kind, request_id) + b"".join(parts)


class Reader:
    """Takes a packet's body apart. Every method raises `MalformedPacket` at the packet's end."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._offset = 0

    def take(self, count: int) -> memoryview:
        end = self._offset + count
        if count < 0 or end > len(self._data):
            raise MalformedPacket(_TOO_SHORT)
        piece = self._data[self._offset : end]
        self._offset = end
        return piece

    def take_uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def take_uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def take_string(self) -> memoryview:
        return self.take(self.take_uint32())

    def take_attributes(self) -> Attributes:
        if len(self._data) - self._offset >= _USUAL_ATTRIBUTES.size:
            flags, size, _, _, mode, accessed, modified = _USUAL_ATTRIBUTES.unpack_from(self._data, self._offset)
            if flags == _USUAL:
                self._offset += _USUAL_ATTRIBUTES.size
                return Attributes(size, mode, accessed, modified)
        return self._take_unusual_attributes()

    def _take_unusual_attributes(self) -> Attributes:
        flags = self.take_uint32()
        size = self.take_uint64() if flags & _SIZE else None
        if flags & _USER_GROUP:
            self.take(8)
        mode = self.take_uint32() if flags & _PERMISSIONS else None
        accessed, modified = (self.take_uint32(), self.take_uint32()) if flags & _TIMES else (None, None)
        if flags & _EXTENDED:
            # Pairs of a name and a value, which behind a listed name would be taken for the next one.
            for _ in range(2 * self.take_uint32()):
                self.take_string()
        return Attributes(size, mode, accessed, modified)

    def take_names(self) -> list[tuple[str, Attributes]]:
        """The entries of a folder as READDIR's answer carries them: name and attributes, without the long name."""
        count = self.take_uint32()
        # The shortest entry takes twelve bytes.
        if not 0 < count <= len(self._data) // 12:
            raise MalformedPacket(f"a listing of {count:,} names")
        entries = []
        for _ in range(count):
            name = self._take_name()
            entries.append((name, self.take_attributes()))
        return entries

    def _take_name(self) -> str:
        """A name, and the long one behind it, which nobody wants. By hand, since a listing has very many."""
        data, start = self._data, self._offset + _LENGTH.size
        try:
            end = start + _LENGTH.unpack_from(data, self._offset)[0]
            self._offset = end + _LENGTH.size + _LENGTH.unpack_from(data, end)[0]
        except struct.error as error:
            raise MalformedPacket(_TOO_SHORT) from error
        if self._offset > len(data):
            raise MalformedPacket(_TOO_SHORT)
        return str(data[start:end], "utf-8", "surrogateescape")

    @property
    def is_at_end(self) -> bool:
        return self._offset >= len(self._data)


def take_handle(reader: Reader) -> bytes:
    """The handle of an answer to OPEN or OPENDIR."""
    handle = bytes(reader.take_string())
    if not 0 < len(handle) <= MAX_HANDLE_BYTES:
        raise MalformedPacket(f"a handle of {len(handle)} bytes")
    return handle


def encoded_handle(body: memoryview) -> bytes:
    """The same as requests carry it, from the answer's body."""
    handle = bytes(body)
    length = len(handle) - _LENGTH.size
    if 0 < length <= MAX_HANDLE_BYTES and _LENGTH.unpack_from(handle)[0] == length:
        return handle
    return encode_string(take_handle(Reader(body)))


def usual_attributes(attributes: memoryview) -> tuple[int, int, int] | None:
    """Size, mode and modification time of an answer to FSTAT that has what nearly all have; None for any other."""
    if len(attributes) < _USUAL_ATTRIBUTES.size:
        return None
    flags, size_bytes, _, _, mode, _, modified = _USUAL_ATTRIBUTES.unpack_from(attributes)
    return (size_bytes, mode, modified) if flags == _USUAL else None
