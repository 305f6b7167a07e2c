"""Where bytes go: object stores, servers of one handle, workers, mailboxes, partial files: rows 1, 2, 5, 8, 12 and 18."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.served import (
    CREATE,
    EXCLUSIVE,
    LIMITS,
    TRUNCATE,
    WRITE,
    Ask,
    Personality,
    ServedFiles,
    extensions_without,
    refuse,
    was_ok,
)
from tests.servers.raw_sftp import (
    EOF,
    FAILURE,
    NO_SUCH_FILE,
    PERMISSION_DENIED,
    Execute,
    Fields,
    Files,
    Kind,
    Request,
    attributes,
    limits,
    packet,
    status,
    string,
)

# What servers take that tell no limits.
MANY_BYTES = 256 * 1024
LARGE_PACKET = MANY_BYTES + 1024


class Roomy(Personality):
    """Takes large pieces, for plays with large files."""

    def limits(self, request: Request) -> bytes:
        return limits(request.id, LARGE_PACKET, MANY_BYTES, MANY_BYTES, 100)


# --- 1: object stores ---


@dataclass(slots=True)
class _Object:
    """What one handle of an object store holds until it is closed."""

    path: bytes
    content: bytearray = field(default_factory=bytearray)
    wanted: dict[str, int] = field(default_factory=dict)


class ObjectFiles(ServedFiles):
    """Each handle that writes has an object of its own, which becomes the path's at CLOSE: the last one wins."""

    personality: ObjectStore

    def _dispatch(self, request: Request, fields: Fields) -> bytes | None:
        if request.kind == Kind.OPEN:
            flags = Fields(request.body)
            path, asked = self._path(flags), flags.uint32()
            if asked & WRITE:
                return self._begin(request, path, asked)
        elif request.kind in (Kind.WRITE, Kind.READ, Kind.FSTAT, Kind.FSETSTAT, Kind.CLOSE):
            about = Fields(request.body)
            found = self.personality.objects.get(about.string())
            if found is not None:
                return self._go_on(request, about, found)
        return super()._dispatch(request, fields)

    def _begin(self, request: Request, path: bytes, flags: int) -> bytes:
        exists = os.path.lexists(path)
        if (exists and flags & EXCLUSIVE) or not (exists or flags & CREATE):
            raise FileExistsError if exists else FileNotFoundError
        if not exists:
            Path(os.fsdecode(path)).touch()
        handle = self.personality.make_handle()
        self.personality.objects[handle] = _Object(path)
        self.paths[handle] = path
        return packet(Kind.HANDLE, request.id, string(handle))

    def _go_on(self, request: Request, fields: Fields, found: _Object) -> bytes | None:
        match request.kind:
            case Kind.WRITE:
                offset, data = fields.uint64(), fields.string()
                found.content.extend(bytes(max(0, offset - len(found.content))))
                found.content[offset : offset + len(data)] = data
            case Kind.READ:
                offset, count = fields.uint64(), fields.uint32()
                data = bytes(found.content[offset : offset + count])
                return packet(Kind.DATA, request.id, string(data)) if data else status(request.id, EOF)
            case Kind.FSTAT:
                size = self.personality.tell_size(found.path)
                real = attributes(os.stat(found.path))
                return packet(Kind.ATTRS, request.id, real[:4], struct.pack(">Q", size), real[12:])
            case Kind.FSETSTAT:
                found.wanted.update(fields.attributes())
            case Kind.CLOSE:
                self._end(request, found)
        return None

    def _end(self, request: Request, found: _Object) -> None:
        del self.personality.objects[Fields(request.body).string()]
        with open(found.path, "wb") as file:
            file.write(found.content)
        if "mode" in found.wanted:
            os.chmod(found.path, stat.S_IMODE(found.wanted["mode"]))
        if "modified" in found.wanted:
            os.utime(found.path, (found.wanted["accessed"], found.wanted["modified"]))


class ObjectStore(Roomy):
    """1: keeps one object per handle; the last CLOSE wins; FSTAT tells the path's size (rclone, S3 gateways).

    With `counts_open`, that is the size of the largest object that is open for it; else of what was closed.
    """

    def __init__(self, *, counts_open: bool = True) -> None:
        super().__init__()
        self.counts_open = counts_open
        self.objects: dict[bytes, _Object] = {}

    def make_files(self, root: Path) -> Files:
        self.root = root
        return ObjectFiles(root, self)

    def tell_size(self, path: bytes) -> int:
        """What FSTAT says."""
        open_sizes = [len(each.content) for each in self.objects.values() if each.path == path and self.counts_open]
        return max([os.stat(path).st_size, *open_sizes])


# --- 2: one at a time ---


class OneHandle(Roomy):
    """2: refuses a second handle for a file that is open for writing, in whichever channel."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.is_writing and ask.path in self.writing:
            return self.refuse_second(ask)
        reply = execute()
        if ask.is_writing and was_ok(reply):
            self.writing.append(ask.path)
        if ask.kind == Kind.CLOSE and ask.path in self.writing:
            self.writing.remove(ask.path)
        return [reply]

    def __init__(self) -> None:
        super().__init__()
        self.writing: list[bytes] = []

    def refuse_second(self, ask: Ask) -> list[bytes]:
        return refuse(ask, FAILURE, b"The file is in use")


class DropsForSecondHandle(OneHandle):
    """2: drops the connection for it."""

    def refuse_second(self, ask: Ask) -> list[bytes]:
        self.drop()


class OneChannel(Roomy):
    """2: refuses a second channel."""

    def accepts_channel(self) -> bool:
        return self.live_sessions == 0


class DropsForSecondChannel(Roomy):
    """2: drops the connection for it."""

    def accepts_channel(self) -> bool:
        if self.live_sessions:
            self.drop()
        return True


# --- 5: mailboxes ---


class Mailbox(Personality):
    """5: hands a file out once: gone at its end, and then FSTAT and READ say "no such file".

    With `at_last_byte` it is gone with the last byte that is read, else when the end of the file is told.
    """

    def __init__(self, *, at_last_byte: bool = True) -> None:
        super().__init__()
        self.at_last_byte = at_last_byte
        self.taken: set[bytes] = set()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.path in self.taken and ask.kind in (Kind.READ, Kind.FSTAT):
            return refuse(ask, NO_SUCH_FILE, b"No such file")
        reply = execute()
        if ask.kind == Kind.READ and self._is_at_end(ask, reply):
            self.taken.add(ask.path)
            os.unlink(ask.path)
        return [reply]

    def _is_at_end(self, ask: Ask, reply: bytes) -> bool:
        if reply[4] != Kind.DATA:
            return True
        return self.at_last_byte and ask.offset + len(reply) - 13 >= os.stat(ask.path).st_size


# --- 8: workers ---


class Workers(Roomy):
    """8: runs WRITE in workers and answers everything else at once; only CLOSE waits (pkg/sftp, node's ssh2)."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[tuple[bytes, Execute]] = []

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.WRITE:
            self.pending.append((ask.handle, execute))
            return []
        if ask.kind == Kind.CLOSE:
            return [*self._finish(ask.handle), execute()]
        return [execute()]

    def idle(self) -> Iterable[bytes]:
        return self._finish(None)

    def _finish(self, handle: bytes | None) -> list[bytes]:
        """Do what waits, for one handle or for all."""
        due = [each for each in self.pending if handle in (None, each[0])]
        self.pending = [each for each in self.pending if each not in due]
        return [execute() for _, execute in due]


# --- 12: open files ---


class FewHandles(Personality):
    """12: has no `limits@openssh.com` and allows 64 open files; with `dies`, one more ends the session."""

    extensions = extensions_without(LIMITS)

    def __init__(self, allowed: int = 64, *, dies: bool = False) -> None:
        super().__init__()
        self.allowed, self.dies = allowed, dies
        self.open: set[bytes] = set()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind in (Kind.OPEN, Kind.OPENDIR) and len(self.open) >= self.allowed:
            if self.dies:
                self.drop()
            return refuse(ask, FAILURE, b"Too many open files")
        reply = execute()
        if ask.kind in (Kind.OPEN, Kind.OPENDIR) and reply[4] == Kind.HANDLE:
            self.open.add(reply[13:])
        if ask.kind == Kind.CLOSE:
            self.open.discard(ask.handle)
        return [reply]


# --- 18: partial files ---


class CutsAfter(Roomy):
    """Drops the connection after some WRITEs: what leaves a partial file."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes_left = writes

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.WRITE:
            self.writes_left -= 1
            if self.writes_left < 0:
                self.drop()
        return [execute()]


class NoAppend(Roomy):
    """18: opens nothing for writing that exists, unless it is cut to nothing."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.is_writing and not ask.flags & TRUNCATE and os.path.lexists(ask.path):
            return refuse(ask, PERMISSION_DENIED, b"Append not allowed")
        return [execute()]


class NoLookAtPartials(Roomy):
    """18: tells nothing of what is not published: STAT, LSTAT and reading are refused for hidden files."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        is_look = ask.kind in (Kind.STAT, Kind.LSTAT) or (ask.kind == Kind.OPEN and not ask.is_writing)
        if is_look and os.path.basename(ask.path).startswith(b"."):
            return refuse(ask, PERMISSION_DENIED, b"Permission denied")
        return [execute()]
