"""An honest SFTP server whose handling of every request a personality can change, with a log of what it was asked.

It serves real files, tells handles' paths apart, lists a directory in several answers with attributes, long names, `.` and
`..`, as OpenSSH's does, and takes 4 KiB at a time, so that a small file has a first, a middle and a last READ or WRITE.
"""

from __future__ import annotations

import itertools
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn, cast

from tests.servers.file_session import Channel, FileSession
from tests.servers.raw_sftp import (
    EOF,
    HONEST_EXTENSIONS,
    OK,
    Execute,
    Fields,
    Files,
    Hangup,
    Kind,
    RawSession,
    RawSftpServer,
    Request,
    Script,
    attributes,
    limits,
    packet,
    status,
    string,
    version,
)

POSIX_RENAME, HARDLINK = b"posix-rename@openssh.com", b"hardlink@openssh.com"
FSYNC, LIMITS = b"fsync@openssh.com", b"limits@openssh.com"
EXTENSIONS = (*HONEST_EXTENSIONS, (HARDLINK, b"1"), (b"statvfs@openssh.com", b"2"))
READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32
PIECE_BYTES = 4096
NAMES_AT_ONCE = 3

_TWO_PATHS = (b"posix-rename@openssh.com", b"hardlink@openssh.com")
_BY_HANDLE = (Kind.CLOSE, Kind.READ, Kind.WRITE, Kind.FSTAT, Kind.FSETSTAT, Kind.READDIR)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request taken apart. `path` is what it is about, also by way of a handle."""

    request: Request
    kind: Kind
    extension: bytes = b""
    path: bytes = b""
    second_path: bytes = b""
    handle: bytes = b""
    flags: int = 0
    offset: int = 0
    count: int = 0
    wanted: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`OPEN`, `posix-rename`, …: requests of one name are counted together."""
        return self.extension.decode("ascii", "replace").partition("@")[0] if self.extension else self.kind.name

    @property
    def is_renaming(self) -> bool:
        return self.kind == Kind.RENAME or self.extension == POSIX_RENAME

    @property
    def is_writing(self) -> bool:
        """Whether an OPEN asks for more than reading."""
        return self.kind == Kind.OPEN and bool(self.flags & WRITE)


def take_apart(request: Request, root: Path, paths: dict[bytes, bytes]) -> Ask:
    """What a request asks for; `paths` knows the path of each handle."""
    kind, fields = Kind(request.kind), Fields(request.body)

    def path() -> bytes:
        return os.path.join(os.fsencode(root), fields.string())

    if kind == Kind.INIT:
        return Ask(request, kind)
    if kind == Kind.EXTENDED:
        name = fields.string()
        if name in _TWO_PATHS:
            return Ask(request, kind, name, path(), path())
        if name.startswith(b"fsync"):
            handle = fields.string()
            return Ask(request, kind, name, paths.get(handle, b""), handle=handle)
        return Ask(request, kind, name)
    if kind in _BY_HANDLE:
        handle = fields.string()
        about = Ask(request, kind, path=paths.get(handle, b""), handle=handle)
        if kind in (Kind.READ, Kind.WRITE):
            return replace(about, offset=fields.uint64(), count=fields.uint32())
        return replace(about, wanted=fields.attributes()) if kind == Kind.FSETSTAT else about
    if kind == Kind.SYMLINK:
        target = fields.string()
        return Ask(request, kind, path=path(), second_path=target)
    if kind == Kind.RENAME:
        return Ask(request, kind, path=path(), second_path=path())
    if kind == Kind.OPEN:
        return Ask(request, kind, path=path(), flags=fields.uint32(), wanted=fields.attributes())
    about_path = path()
    return Ask(request, kind, path=about_path, wanted=fields.attributes() if kind == Kind.SETSTAT else {})


class ServedFiles(Files):
    """The files of one session. Handles are not used twice in a play, and `paths` knows whose they are."""

    def __init__(self, root: Path, personality: Personality) -> None:
        super().__init__(root)
        self.personality = personality
        self._numbers = personality.numbers
        self.paths = personality.paths

    def _dispatch(self, request: Request, fields: Fields) -> bytes | None:
        if request.kind == Kind.EXTENDED and request.name == LIMITS:
            return self.personality.limits(request)
        return super()._dispatch(request, fields)

    def _opened(self, request: Request, fd: int) -> bytes:
        handle = self.personality.make_handle()
        self._open[handle] = fd
        self.paths[handle] = self._path(Fields(request.body))
        return packet(Kind.HANDLE, request.id, string(handle))

    def _list(self, request: Request, fields: Fields) -> bytes:
        if request.kind == Kind.OPENDIR:
            folder = self._path(fields)
            names = [b".", b"..", *sorted(os.listdir(folder))]
            handle = self.personality.make_handle()
            self._listings[handle] = names
            self.paths[handle] = folder
            return packet(Kind.HANDLE, request.id, string(handle))
        handle = fields.string()
        names = self._listings[handle]
        some, names[:NAMES_AT_ONCE] = names[:NAMES_AT_ONCE], []
        if not some:
            return status(request.id, EOF)
        entries = [(name, os.lstat(os.path.join(self.paths[handle], name))) for name in some]
        return packet(Kind.NAME, request.id, struct.pack(">I", len(some)), *(_entry(*entry) for entry in entries))


def _entry(name: bytes, found: os.stat_result) -> bytes:
    long_name = b"%s    1 1000     1000 %12d Nov 24 12:05 %s" % (
        stat.filemode(found.st_mode).encode(),
        found.st_size,
        name,
    )
    return string(name) + string(long_name) + attributes(found)


class Personality(Script):
    """How a server answers during one play, in all its sessions. This one is honest.

    `answer` is called for each request and gives the packets that go out; it need not call `execute`.
    """

    extensions: tuple[tuple[bytes, bytes], ...] = EXTENSIONS

    def __init__(self) -> None:
        self.root = Path("/")
        self.asked: list[Ask] = []
        self.paths: dict[bytes, bytes] = {}
        self.numbers = itertools.count(1)
        self.session_count = 0
        self.live_sessions = 0
        self.is_dropping = False
        # What went wrong in this server itself.
        self.fault: Exception | None = None

    def make_files(self, root: Path) -> Files:
        self.root = root
        return ServedFiles(root, self)

    def make_handle(self) -> bytes:
        """The next handle."""
        return b"handle %d" % next(self.numbers)

    def accepts_channel(self) -> bool:
        """Whether one more SFTP session may begin."""
        return True

    def limits(self, request: Request) -> bytes:
        """The answer to limits@openssh.com."""
        return limits(request.id, PIECE_BYTES + 1024, PIECE_BYTES, PIECE_BYTES, 100)

    def version(self) -> Iterable[bytes]:
        self.asked.append(Ask(Request(Kind.INIT, 3, b""), Kind.INIT))
        return [version(3, *self.extensions)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        ask = take_apart(request, self.root, self.paths)
        self.asked.append(ask)
        return self.answer(ask, execute)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        """What goes out."""
        return [execute()]

    def drop(self) -> NoReturn:
        """End the whole connection."""
        self.is_dropping = True
        raise Hangup

    def names_asked(self) -> list[str]:
        """The requests' names, in order."""
        return [ask.name for ask in self.asked]


def extensions_without(*names: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The usual extensions but for these."""
    return tuple(pair for pair in EXTENSIONS if pair[0] not in names)


def refuse(ask: Ask, code: int, text: bytes = b"Refused") -> list[bytes]:
    """A status other than OK, nothing done."""
    return [status(ask.request.id, code, text)]


def accept(ask: Ask) -> list[bytes]:
    """The status OK, whatever was done."""
    return [status(ask.request.id, OK, b"Success")]


def was_ok(reply: bytes) -> bool:
    """Whether a reply is no refusal."""
    return reply[4] != Kind.STATUS or reply[9:13] == bytes(4)


class ConformanceServer(RawSftpServer):
    """One server for many plays; each play sets the `personality` before it begins."""

    def __init__(self, folder: Path, *, root: Path) -> None:
        super().__init__(folder, root=root, make_script=lambda: self.personality)
        self.personality = Personality()

    def _make_session(self) -> FileSession:
        return ConformanceSession(self)


class ConformanceSession(RawSession):
    """One channel, answered by the personality of the play that it was opened in."""

    _script: Personality

    def __init__(self, server: ConformanceServer) -> None:
        super().__init__(server)

    def subsystem_requested(self, subsystem: str) -> bool:
        """Grant `sftp`, as often as the personality allows."""
        try:
            return self._script.accepts_channel() and super().subsystem_requested(subsystem)
        except Hangup:
            cast("Channel", self._chan).get_connection().abort()
            return False

    async def _serve_sftp(self, channel: Channel) -> None:
        personality = self._script
        personality.session_count += 1
        personality.live_sessions += 1
        try:
            await super()._serve_sftp(channel)
        except Exception as error:
            personality.fault = error
            raise
        finally:
            personality.live_sessions -= 1
            if personality.is_dropping:
                channel.get_connection().abort()
