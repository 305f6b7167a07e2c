"""An SFTP server whose every packet a test can change: it serves real files, and a script decides what goes out.

    class Twice(Script):
        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            packet = execute()
            return [packet, packet]

    with RawSftpServer(tmp_path, root=files, make_script=Twice) as server:
        ...

It packs and unpacks on its own, so that it shares no mistake with the product. Version 3, as in
draft-ietf-secsh-filexfer-02, and OpenSSH's extensions posix-rename, fsync and limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import stat
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import cast

import asyncssh

from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileSession

_IDLE_SECONDS = 0.02
_MAX_REQUEST_BYTES = 1024 * 1024


class Kind(IntEnum):
    """The packet types that a client and this server use."""

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


OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, OP_UNSUPPORTED = 0, 1, 2, 3, 4, 8
_READ, _WRITE, _APPEND, _CREATE, _TRUNCATE, _EXCLUSIVE = 1, 2, 4, 8, 16, 32

HONEST_EXTENSIONS = ((b"posix-rename@openssh.com", b"1"), (b"fsync@openssh.com", b"1"), (b"limits@openssh.com", b"1"))


@dataclass(frozen=True, slots=True)
class Request:
    """What the client sent. `name` tells one extended request from another."""

    kind: int
    id: int
    body: bytes

    @property
    def name(self) -> bytes:
        """The name of an extended request."""
        return Fields(self.body).string() if self.kind == Kind.EXTENDED else b""


# Carries the request out and returns the honest reply.
Execute = Callable[[], bytes]


class Hangup(Exception):
    """Raised by a script: the server ends the session."""


class Script:
    """What goes out. This one is honest; subclasses override what they lie about."""

    def version(self) -> Iterable[bytes]:
        """The answer to INIT."""
        return [version(3, *HONEST_EXTENSIONS)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        """The answer to a request: any bytes, at once or piece by piece."""
        return [execute()]

    def idle(self) -> Iterable[bytes]:
        """What goes out when no request has come for a moment."""
        return []


class RawSftpServer(AsyncsshServer):
    """An SSH server with such an SFTP server; each session gets a script of its own."""

    def __init__(self, folder: Path, *, root: Path, make_script: Callable[[], Script] = Script) -> None:
        super().__init__(folder, root=root, scp=False)
        self.make_script = make_script

    def _make_session(self) -> FileSession:
        return RawSession(self)


class RawSession(FileSession):
    """One channel, served by a script."""

    def __init__(self, server: RawSftpServer) -> None:
        super().__init__(server._make_sftp_server, server._visits, sftp=True, scp=False)
        self._root = server.root
        self._script = server.make_script()

    async def _serve_sftp(self, channel: Channel) -> None:
        reader = cast("asyncssh.SSHReader[bytes]", asyncssh.SSHReader(self, channel))
        writer = cast("asyncssh.SSHWriter[bytes]", asyncssh.SSHWriter(self, channel))
        files = Files(self._root)
        requests: asyncio.Queue[Request | None] = asyncio.Queue()
        receiving = asyncio.create_task(_receive(reader, requests))
        try:
            await self._answer(requests, writer, files)
        except (Hangup, OSError, asyncssh.Error):
            pass
        finally:
            receiving.cancel()
            files.close_all()
        with contextlib.suppress(OSError, asyncssh.Error):
            channel.exit(0)

    async def _answer(
        self, requests: asyncio.Queue[Request | None], writer: asyncssh.SSHWriter[bytes], files: Files
    ) -> None:
        while True:
            try:
                request = await asyncio.wait_for(requests.get(), _IDLE_SECONDS)
            except TimeoutError:
                packets = self._script.idle()
            else:
                if request is None:
                    return
                packets = self._packets_for(request, files)
            for packet in packets:
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)  # a script without end must not keep the loop from everything else
                if writer.is_closing():
                    return

    def _packets_for(self, request: Request, files: Files) -> Iterable[bytes]:
        if request.kind == Kind.INIT:
            return self._script.version()
        return self._script.reply(request, lambda: files.execute(request))


async def _receive(reader: asyncssh.SSHReader[bytes], requests: asyncio.Queue[Request | None]) -> None:
    """Take the client's bytes apart; None is their end."""
    try:
        while True:
            length, kind, request_id = struct.unpack(">IBI", await reader.readexactly(9))
            assert 5 <= length <= _MAX_REQUEST_BYTES, length
            requests.put_nowait(Request(kind, request_id, await reader.readexactly(length - 5)))
    except (asyncio.IncompleteReadError, OSError, asyncssh.Error):
        requests.put_nowait(None)


class Files:
    """Carries requests out on real files: absolute paths as they are, relative ones from `root`."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._open: dict[bytes, int] = {}
        self._listings: dict[bytes, list[bytes]] = {}
        self._numbers = itertools.count(1)

    def close_all(self) -> None:
        """Close what the client has left open."""
        while self._open:
            os.close(self._open.popitem()[1])

    def execute(self, request: Request) -> bytes:
        """Do what is asked, and the reply."""
        fields = Fields(request.body)
        try:
            reply = self._dispatch(request, fields)
        except FileNotFoundError:
            return status(request.id, NO_SUCH_FILE, b"No such file")
        except PermissionError:
            return status(request.id, PERMISSION_DENIED, b"Permission denied")
        except (OSError, KeyError):
            return status(request.id, FAILURE, b"Failure")
        return status(request.id, OK) if reply is None else reply

    def _dispatch(self, request: Request, fields: Fields) -> bytes | None:  # noqa: PLR0912  # a table
        match request.kind:
            case Kind.OPEN:
                path, flags = self._path(fields), fields.uint32()
                return self._opened(request, os.open(path, _os_flags(flags), fields.attributes().get("mode", 0o666)))
            case Kind.CLOSE:
                handle = fields.string()
                if self._listings.pop(handle, None) is None:
                    os.close(self._open.pop(handle))
            case Kind.READ:
                fd, offset, count = self._open[fields.string()], fields.uint64(), fields.uint32()
                data = os.pread(fd, min(count, 256 * 1024), offset)
                return packet(Kind.DATA, request.id, string(data)) if data else status(request.id, EOF)
            case Kind.WRITE:
                fd, offset, data = self._open[fields.string()], fields.uint64(), fields.string()
                assert os.pwrite(fd, data, offset) == len(data)
            case Kind.STAT | Kind.LSTAT:
                found = os.stat(self._path(fields), follow_symlinks=request.kind == Kind.STAT)
                return packet(Kind.ATTRS, request.id, attributes(found))
            case Kind.FSTAT:
                return packet(Kind.ATTRS, request.id, attributes(os.fstat(self._open[fields.string()])))
            case Kind.SETSTAT:
                _apply(self._path(fields), fields.attributes())
            case Kind.FSETSTAT:
                _apply(self._open[fields.string()], fields.attributes())
            case Kind.REMOVE:
                os.unlink(self._path(fields))
            case Kind.MKDIR:
                os.mkdir(self._path(fields))
            case Kind.RMDIR:
                os.rmdir(self._path(fields))
            case Kind.RENAME:
                old, new = self._path(fields), self._path(fields)
                if os.path.lexists(new):
                    raise FileExistsError
                os.rename(old, new)
            case Kind.REALPATH:
                name = os.path.realpath(self._path(fields))
                return packet(Kind.NAME, request.id, struct.pack(">I", 1), string(name), string(name), bytes(4))
            case Kind.OPENDIR | Kind.READDIR:
                return self._list(request, fields)
            case Kind.EXTENDED:
                return self._extended(request, fields)
            case _:
                return status(request.id, OP_UNSUPPORTED, b"Operation unsupported")
        return None

    def _list(self, request: Request, fields: Fields) -> bytes:
        if request.kind == Kind.OPENDIR:
            names = os.listdir(self._path(fields))
            handle = b"folder %d" % next(self._numbers)
            self._listings[handle] = names
            return packet(Kind.HANDLE, request.id, string(handle))
        names = self._listings[fields.string()]
        if not names:
            return status(request.id, EOF)
        entries = b"".join(string(name) + string(name) + bytes(4) for name in names)
        count = struct.pack(">I", len(names))
        names.clear()
        return packet(Kind.NAME, request.id, count, entries)

    def _extended(self, request: Request, fields: Fields) -> bytes | None:
        match fields.string():
            case b"posix-rename@openssh.com":
                os.replace(self._path(fields), self._path(fields))
            case b"fsync@openssh.com":
                os.fsync(self._open[fields.string()])
            case b"limits@openssh.com":
                return limits(request.id, 256 * 1024 + 1024, 256 * 1024, 256 * 1024, 100)
            case _:
                return status(request.id, OP_UNSUPPORTED, b"Operation unsupported")
        return None

    def _opened(self, request: Request, fd: int) -> bytes:
        handle = b"file %d" % next(self._numbers)
        self._open[handle] = fd
        return packet(Kind.HANDLE, request.id, string(handle))

    def _path(self, fields: Fields) -> bytes:
        return os.path.join(self._root, fields.string())


class Fields:
    """The fields of a request, one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def take(self, count: int) -> bytes:
        taken, self._body = self._body[:count], self._body[count:]
        assert len(taken) == count, "the client's packet ends in the middle of a field"
        return taken

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        return self.take(self.uint32())

    def attributes(self) -> dict[str, int]:
        """Those that are given, of size, mode, accessed and modified."""
        flags = self.uint32()
        found: dict[str, int] = {}
        if flags & 1:
            found["size"] = self.uint64()
        if flags & 2:
            self.take(8)
        if flags & 4:
            found["mode"] = self.uint32()
        if flags & 8:
            found["accessed"], found["modified"] = self.uint32(), self.uint32()
        return found


def packet(kind: int, request_id: int, *parts: bytes) -> bytes:
    """A whole packet, with its length in front."""
    body = struct.pack(">BI", kind, request_id) + b"".join(parts)
    return struct.pack(">I", len(body)) + body


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def status(request_id: int, code: int, text: bytes = b"") -> bytes:
    return packet(Kind.STATUS, request_id, struct.pack(">I", code), string(text), string(b"en"))


def version(number: int, *extensions: tuple[bytes, bytes]) -> bytes:
    return packet(Kind.VERSION, number, *(string(name) + string(value) for name, value in extensions))


def limits(request_id: int, packet_bytes: int, read_bytes: int, write_bytes: int, handles: int) -> bytes:
    """The reply to limits@openssh.com."""
    return packet(Kind.EXTENDED_REPLY, request_id, struct.pack(">QQQQ", packet_bytes, read_bytes, write_bytes, handles))


def attributes(found: os.stat_result) -> bytes:
    """Everything but the extended ones. Times wrap around, as OpenSSH's do."""
    times = (int(found.st_atime) & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)
    return struct.pack(">IQIIIII", 15, found.st_size, found.st_uid, found.st_gid, found.st_mode, *times)


def _os_flags(flags: int) -> int:
    access = {_READ: os.O_RDONLY, _WRITE: os.O_WRONLY, _READ | _WRITE: os.O_RDWR}[flags & (_READ | _WRITE)]
    pairs = ((_APPEND, os.O_APPEND), (_CREATE, os.O_CREAT), (_TRUNCATE, os.O_TRUNC), (_EXCLUSIVE, os.O_EXCL))
    return access | os.O_CLOEXEC | sum(theirs for ours, theirs in pairs if flags & ours)


def _apply(target: bytes | int, wanted: dict[str, int]) -> None:
    if "size" in wanted:
        os.truncate(target, wanted["size"])
    if "mode" in wanted:
        os.chmod(target, stat.S_IMODE(wanted["mode"]))
    if "modified" in wanted:
        os.utime(target, (wanted["accessed"], wanted["modified"]))
