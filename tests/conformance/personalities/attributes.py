"""What becomes of modes and times, and what may be looked at: rows 9, 10, 11 and 13."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable

from tests.conformance.served import (
    READ,
    Ask,
    Personality,
    accept,
    refuse,
    was_ok,
)
from tests.servers.raw_sftp import (
    NO_SUCH_FILE,
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    Execute,
    Kind,
)

UNKNOWN_CODE = 99
HOUR_SECONDS = 3600
LOOKING = (Kind.STAT, Kind.LSTAT, Kind.FSTAT)
SETTING = (Kind.SETSTAT, Kind.FSETSTAT)


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
