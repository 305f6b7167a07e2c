"""What servers do that are unlike OpenSSH's, a class each: rows 1 to 16 and 18 of the table that the conformance is for.

Each names the product, or the kind of product, that was seen to do so.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.served import (
    APPEND,
    CREATE,
    EXCLUSIVE,
    EXTENSIONS,
    HARDLINK,
    LIMITS,
    POSIX_RENAME,
    READ,
    TRUNCATE,
    WRITE,
    Ask,
    Personality,
    ServedFiles,
    accept,
    refuse,
    was_ok,
)
from tests.servers.raw_sftp import (
    EOF,
    FAILURE,
    NO_SUCH_FILE,
    OP_UNSUPPORTED,
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

UNKNOWN_CODE = 99
HOUR_SECONDS = 3600
# What servers without limits@openssh.com take.
MANY_BYTES = 256 * 1024
LARGE_PACKET = MANY_BYTES + 1024

LOOKING = (Kind.STAT, Kind.LSTAT, Kind.FSTAT)
SETTING = (Kind.SETSTAT, Kind.FSETSTAT)


def without(*names: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The usual extensions but for these."""
    return tuple(pair for pair in EXTENSIONS if pair[0] not in names)


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


# --- 3, 4: OK to what was not done ---


class MkdirSaysYes(Personality):
    """3: answers OK to MKDIR of a directory that exists (`rclone serve sftp`, object stores)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.MKDIR and os.path.isdir(ask.path):
            return accept(ask)
        return [execute()]


class HardlinkSaysYes(Personality):
    """4: answers OK to `hardlink@openssh.com` and makes no link (`rclone serve sftp`)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return accept(ask) if ask.extension == HARDLINK else [execute()]


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


# --- 6, 7: links ---


class RenameFollowsLinks(Personality):
    """6: follows a symbolic link that is the *source* of RENAME (ProFTPD)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.is_renaming and os.path.islink(ask.path):
            try:
                os.replace(os.path.realpath(ask.path), ask.second_path)
            except OSError:
                return refuse(ask, NO_SUCH_FILE, b"No such file")
            return accept(ask)
        return [execute()]


class RenameFollowsLinksPlainly(RenameFollowsLinks):
    """6: the same without posix-rename."""

    extensions = without(POSIX_RENAME)


class SwappedSymlink(Personality):
    """7: has SYMLINK's arguments in the draft's order (gesftpserver, Twisted Conch)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind != Kind.SYMLINK:
            return [execute()]
        # What OpenSSH's clients send as (target, link) is read as (link, target).
        target = _second_string(ask.request.body)
        try:
            os.symlink(target, os.path.join(os.fsencode(self.root), ask.second_path))
        except OSError:
            return refuse(ask, FAILURE, b"File exists")
        return accept(ask)


class AnnouncedSymlinkOrder(SwappedSymlink):
    """7: and says so, as gesftpserver does."""

    extensions = (*EXTENSIONS, (b"symlink-order@rjk.greenend.org.uk", b"linkpath-targetpath"))


class AbsoluteTargets(Personality):
    """7: makes the target of a link absolute."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind != Kind.SYMLINK:
            return [execute()]
        target = os.path.join(os.path.dirname(ask.path), ask.second_path)
        try:
            os.symlink(os.path.normpath(target), ask.path)
        except OSError:
            return refuse(ask, FAILURE, b"File exists")
        return accept(ask)


def _second_string(body: bytes) -> bytes:
    fields = Fields(body)
    fields.string()
    return fields.string()


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


# --- 9, 10, 11: attributes ---


class DiscardOnRefusal(Personality):
    """9: knows no SETSTAT and no FSETSTAT, and discards a file if any request about it was refused."""

    def __init__(self) -> None:
        super().__init__()
        self.spoilt: set[bytes] = set()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind in SETTING:
            self.spoilt.add(ask.path)
            if ask.path not in self.paths.values() or ask.kind == Kind.SETSTAT:
                self._discard(ask.path)
            return refuse(ask, OP_UNSUPPORTED, b"Operation unsupported")
        reply = execute()
        if ask.kind == Kind.CLOSE:
            self._discard(ask.path)
        return [reply]

    def _discard(self, path: bytes) -> None:
        if path in self.spoilt and os.path.isfile(path):
            os.unlink(path)


class RefusesAttributes(Personality):
    """10: refuses FSETSTAT, SETSTAT or both."""

    def __init__(self, *kinds: Kind, code: int = OP_UNSUPPORTED) -> None:
        super().__init__()
        self.kinds, self.code = kinds, code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, self.code, b"Not supported") if ask.kind in self.kinds else [execute()]


class IgnoresAttributes(RefusesAttributes):
    """10: ignores them while saying OK."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return accept(ask) if ask.kind in self.kinds else [execute()]


class OwnTimes(Personality):
    """11: gives files another modification time than was asked for; `own` makes it of that."""

    def __init__(self, own: Callable[[int], int]) -> None:
        super().__init__()
        self.own = own

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        before = os.stat(ask.path) if ask.kind in SETTING and os.path.exists(ask.path) else None
        reply = execute()
        if before is not None and was_ok(reply) and "modified" in ask.wanted:
            time = self.own(ask.wanted["modified"])
            os.utime(ask.path, (time, time) if time else (before.st_atime, before.st_mtime))
        return [reply]


def ignored(wanted_seconds: int) -> int:
    """No time is ever set."""
    return 0


def rounded(wanted_seconds: int) -> int:
    """To two seconds, as FAT does."""
    return wanted_seconds // 2 * 2


def an_hour_off(wanted_seconds: int) -> int:
    """Summer time."""
    return wanted_seconds + HOUR_SECONDS


class TimesAtClose(Personality):
    """11: sets its own time when a file that was written to is closed."""

    OWN_SECONDS = 1_500_000_001

    def __init__(self) -> None:
        super().__init__()
        self.written: set[bytes] = set()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.WRITE:
            self.written.add(ask.handle)
        reply = execute()
        if ask.kind == Kind.CLOSE and ask.handle in self.written:
            os.utime(ask.path, (self.OWN_SECONDS, self.OWN_SECONDS))
        return [reply]


# --- 12: open files ---


class FewHandles(Personality):
    """12: has no `limits@openssh.com` and allows 64 open files; with `dies`, one more ends the session."""

    extensions = without(LIMITS)

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


# --- 13: looking ---


class OtherWordsForMissing(Personality):
    """13: answers FAILURE or an unknown code for a missing path."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        reply = execute()
        if reply[4] == Kind.STATUS and reply[9:13] == struct.pack(">I", NO_SUCH_FILE):
            return refuse(ask, self.code, b"Failure")
        return [reply]


class RefusesRequests(Personality):
    """13: refuses some kinds of request, such as all that look."""

    def __init__(self, *kinds: Kind, code: int = PERMISSION_DENIED) -> None:
        super().__init__()
        self.kinds, self.code = kinds, code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, self.code, b"Permission denied") if ask.kind in self.kinds else [execute()]


class DropBox(RefusesRequests):
    """13: a write-only inbox: nothing may be looked at, listed or read."""

    def __init__(self, code: int = PERMISSION_DENIED) -> None:
        super().__init__(*LOOKING, Kind.OPENDIR, Kind.READLINK, code=code)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.OPEN and ask.flags & READ:
            return refuse(ask, self.code, b"Permission denied")
        return super().answer(ask, execute)


# --- 14: renaming ---


class RefusesPosixRename(Personality):
    """14: advertises posix-rename and refuses it."""

    def __init__(self, code: int = OP_UNSUPPORTED) -> None:
        super().__init__()
        self.code = code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, self.code) if ask.extension == POSIX_RENAME else [execute()]


class RefusesRename(Personality):
    """14: refuses to rename anything."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, PERMISSION_DENIED) if ask.is_renaming else [execute()]


class RefusesRemove(Personality):
    """14: has no posix-rename, and refuses to remove what stepped aside."""

    extensions = without(POSIX_RENAME, HARDLINK)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, PERMISSION_DENIED) if ask.kind == Kind.REMOVE else [execute()]


# --- 15: names ---


class NameRules(Personality):
    """15: allows only some names: for new files, and for what is renamed."""

    def __init__(self, pattern: str, code: int = PERMISSION_DENIED) -> None:
        super().__init__()
        self.allowed, self.code = re.compile(os.fsencode(pattern)), code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        new = ask.path if ask.is_writing and ask.flags & CREATE else ask.second_path if ask.is_renaming else b""
        if new and not self.allowed.fullmatch(os.path.basename(new)):
            return refuse(ask, self.code, b"Name not allowed")
        return [execute()]


NO_DOT_FILES = r"[^.].*"
ONLY_CSV = r"[A-Za-z0-9_-]+\.csv"
ONLY_FILEPART = r"[^.].*\.filepart|[A-Za-z0-9_-]+\.csv"


class OnlyInStaging(Personality):
    """15: takes new files in one directory only; they may be renamed out of it."""

    def __init__(self, staging: Path) -> None:
        super().__init__()
        self.staging = os.fsencode(staging)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.is_writing and ask.flags & CREATE and os.path.dirname(ask.path) != self.staging:
            return refuse(ask, PERMISSION_DENIED, b"Permission denied")
        return [execute()]


class TakesAtClose(Personality):
    """15: takes a file that was written to at CLOSE, under whatever name it has."""

    def __init__(self, inbox: Path) -> None:
        super().__init__()
        self.inbox = inbox
        self.written: set[bytes] = set()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.WRITE:
            self.written.add(ask.handle)
        reply = execute()
        if ask.kind == Kind.CLOSE and ask.handle in self.written:
            os.rename(ask.path, os.path.join(os.fsencode(self.inbox), os.path.basename(ask.path)))
        return [reply]


# --- 16: flags ---


class CommonFlags(Personality):
    """16: knows only common combinations of OPEN's flags (ssh2's `flagsToString`)."""

    known = frozenset(
        [READ, READ | WRITE]
        + [
            access | CREATE | beginning | exclusive
            for access in (WRITE, READ | WRITE)
            for beginning in (TRUNCATE, APPEND)
            for exclusive in (0, EXCLUSIVE)
        ]
    )

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, FAILURE) if ask.kind == Kind.OPEN and ask.flags not in self.known else [execute()]


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
