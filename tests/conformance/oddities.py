"""Odd answers to a request, each with the requests that it fits: what servers have been seen to do, and what they could.

An oddity is a name and a function from a request to the packets that go out. `execute` carries the request out and gives the
honest answer; an oddity that does not call it does nothing on the server's disk.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.served import LIMITS, Ask, Personality, accept, refuse
from tests.servers.raw_sftp import (
    NO_SUCH_FILE,
    Execute,
    Fields,
    Hangup,
    Kind,
    Request,
    attributes,
    packet,
    status,
    string,
    version,
)

LOOKING = (Kind.STAT, Kind.LSTAT, Kind.FSTAT)
OPENING = (Kind.OPEN, Kind.OPENDIR)
NAMING = (Kind.REALPATH, Kind.READLINK)
# Answered with a status and nothing else.
DOING = (
    Kind.CLOSE, Kind.WRITE, Kind.SETSTAT, Kind.FSETSTAT, Kind.REMOVE, Kind.MKDIR, Kind.RMDIR, Kind.RENAME, Kind.SYMLINK,
)  # fmt: skip
DOING_EXTENSIONS = (b"posix-rename@openssh.com", b"hardlink@openssh.com", b"fsync@openssh.com")
CODES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 31, 0xFFFFFFFF)
LATE_SECONDS = 0.3

Answer = Callable[["OddServer", Ask, Execute], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Oddity:
    """One odd answer. `is_slow`: the play has to wait until it gives up; `is_for_small`: a large file would take hours."""

    name: str
    fits: Callable[[str], bool]
    answer: Answer
    is_slow: bool = False
    is_for_small: bool = False


class OddServer(Personality):
    """Answers oddly to some requests of one name: to those with a number in `places`, or to all."""

    def __init__(self, name: str = "", oddity: Oddity | None = None, places: frozenset[int] | None = None) -> None:
        super().__init__()
        self.name, self.oddity, self.places = name, oddity, places
        self.before: dict[bytes, os.stat_result] = {}
        self.held: list[tuple[float, bytes]] = []
        self.next_handle: bytes | None = None
        self.count = 0

    def remember(self, folder: Path) -> None:
        """Note what everything is before the play."""
        for parent, folders, files in os.walk(os.fsencode(folder)):
            for name in (b"", *folders, *files):
                path = os.path.join(parent, name).rstrip(b"/")
                self.before[path] = os.lstat(path)

    def make_handle(self) -> bytes:
        handle, self.next_handle = self.next_handle, None
        return super().make_handle() if handle is None else handle

    def version(self) -> Iterable[bytes]:
        honest = next(iter(super().version()))
        if self.oddity is None or self.name != "INIT":
            return [honest]
        return self.oddity.answer(self, Ask(Request(Kind.INIT, 3, b""), Kind.INIT), lambda: honest)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if self.oddity is None or ask.name != self.name:
            return [execute()]
        self.count += 1
        if self.places is not None and self.count not in self.places:
            return [execute()]
        return self.oddity.answer(self, ask, execute)

    def idle(self) -> Iterable[bytes]:
        due = [reply for moment, reply in self.held if moment <= time.monotonic()]
        self.held = [(moment, reply) for moment, reply in self.held if reply not in due]
        return due


# --- which requests ---


def _kinds(*kinds: Kind) -> Callable[[str], bool]:
    names = {kind.name for kind in kinds}
    return lambda name: name in names


def _is_doing(name: str) -> bool:
    extensions = {extension.decode().partition("@")[0] for extension in DOING_EXTENSIONS}
    return name in extensions or name in {kind.name for kind in DOING}


def _is_asking(name: str) -> bool:
    return name != "INIT" and not _is_doing(name)


def _is_any(name: str) -> bool:
    return name != "INIT"


# --- what goes out ---


def _refused(code: int) -> Answer:
    return lambda server, ask, execute: refuse(ask, code)


def _done_and_refused(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    execute()
    return refuse(ask, 4)


def _just_ok(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    return accept(ask)


def _old_object(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    """What was at the path before the play; of a handle to something new, that it is empty."""
    found = server.before.get(ask.path)
    if found is not None:
        return [packet(Kind.ATTRS, ask.request.id, attributes(found))]
    if ask.kind != Kind.FSTAT:
        return [status(ask.request.id, NO_SUCH_FILE, b"No such file")]
    return [_with_attributes(execute(), lambda told: dataclasses.replace(told, size=0))]


def _late(seconds: float) -> Answer:
    def hold(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
        server.held.append((time.monotonic() + seconds, execute()))
        return []

    return hold


def _twice(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    reply = execute()
    return [reply, reply]


def _other_id(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    reply = execute()
    return [reply[:5] + struct.pack(">I", ask.request.id ^ 0x40000000) + reply[9:]]


def _silent(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    return []


def _cut(*, is_done: bool, is_whole: bool) -> Answer:
    """The session ends, or the whole connection."""

    def cut(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if is_done:
            execute()
        server.is_dropping = is_whole
        raise Hangup

    return cut


def _cut_in_the_middle(server: OddServer, ask: Ask, execute: Execute) -> Iterator[bytes]:
    reply = execute()
    yield reply[: len(reply) // 2]
    raise Hangup


def _wrong_type(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    execute()
    kind = Kind.DATA if ask.kind in OPENING else Kind.HANDLE
    return [packet(kind, ask.request.id, string(b"handle"))]


def _bare(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    """A status without text and language, as version 2 had it."""
    reply = execute()
    return [packet(Kind.STATUS, ask.request.id, reply[9:13]) if reply[4] == Kind.STATUS else reply]


def _with_tail(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    """More bytes in the packet than its fields need."""
    reply = execute()
    return [packet(reply[4], ask.request.id, reply[9:], b"more")]


def _short_body(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    """A packet that ends in the middle of its last field."""
    reply = execute()
    return [packet(reply[4], ask.request.id, reply[9:-1])]


# --- attributes ---


@dataclass(frozen=True, slots=True)
class Told:
    """Attributes as they are told; what is None is left out."""

    size: int | None
    owner: tuple[int, int] | None
    mode: int | None
    times: tuple[int, int] | None
    pairs: tuple[tuple[bytes, bytes], ...] = ()

    def encode(self) -> bytes:
        parts: list[bytes] = []
        flags = 0
        if self.size is not None:
            flags, parts = flags | 1, [*parts, struct.pack(">Q", self.size)]
        if self.owner is not None:
            flags, parts = flags | 2, [*parts, struct.pack(">II", *self.owner)]
        if self.mode is not None:
            flags, parts = flags | 4, [*parts, struct.pack(">I", self.mode)]
        if self.times is not None:
            flags, parts = flags | 8, [*parts, struct.pack(">II", *self.times)]
        if self.pairs:
            flags, parts = flags | 0x80000000, [*parts, struct.pack(">I", len(self.pairs))]
            parts += [string(name) + string(value) for name, value in self.pairs]
        return struct.pack(">I", flags) + b"".join(parts)


def _take_told(fields: Fields) -> Told:
    flags = fields.uint32()
    size = fields.uint64() if flags & 1 else None
    owner = (fields.uint32(), fields.uint32()) if flags & 2 else None
    mode = fields.uint32() if flags & 4 else None
    times = (fields.uint32(), fields.uint32()) if flags & 8 else None
    return Told(size, owner, mode, times)


def _with_attributes(reply: bytes, change: Callable[[Told], Told]) -> bytes:
    """An answer with other attributes, be it one path's or a listing's."""
    request_id = int.from_bytes(reply[5:9], "big")
    if reply[4] == Kind.ATTRS:
        return packet(Kind.ATTRS, request_id, change(_take_told(Fields(reply[9:]))).encode())
    return _with_names(reply, lambda name, long_name, told: [(name, long_name, change(told))])


NameEntry = tuple[bytes, bytes, Told]


def _with_names(reply: bytes, change: Callable[[bytes, bytes, Told], list[NameEntry]]) -> bytes:
    """A listing with other entries."""
    if reply[4] != Kind.NAME:
        return reply
    fields = Fields(reply[9:])
    count = fields.uint32()
    entries: list[NameEntry] = []
    for _ in range(count):
        entries += change(fields.string(), fields.string(), _take_told(fields))
    return _names(int.from_bytes(reply[5:9], "big"), entries)


def _names(request_id: int, entries: list[NameEntry]) -> bytes:
    body = b"".join(string(name) + string(long_name) + told.encode() for name, long_name, told in entries)
    return packet(Kind.NAME, request_id, struct.pack(">I", len(entries)), body)


def _told(**changes: object) -> Answer:
    """Attributes with some of them left out or changed."""
    return _telling(lambda told: dataclasses.replace(told, **changes))  # type: ignore[arg-type]


def _telling(change: Callable[[Told], Told]) -> Answer:
    return lambda server, ask, execute: [_with_attributes(execute(), change)]


def _resized(change: Callable[[int], int]) -> Answer:
    def resize(told: Told) -> Told:
        is_file = told.size is not None and (told.mode is None or stat.S_ISREG(told.mode))
        return dataclasses.replace(told, size=change(told.size or 0)) if is_file else told

    return _telling(resize)


def _listed(change: Callable[[bytes, bytes, Told], list[NameEntry]]) -> Answer:
    return lambda server, ask, execute: [_with_names(execute(), change)]


def _is_directory(told: Told) -> bool:
    return told.mode is not None and stat.S_ISDIR(told.mode)


def _absolute_names(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    return [_with_names(execute(), lambda name, long, told: [(os.path.join(ask.path, name), long, told)])]


def _no_names(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    """NAME with no entry, once, and then what is there."""
    return [_names(ask.request.id, [])]


def _count_off(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    """One more entry is announced than there is."""
    reply = execute()
    if reply[4] != Kind.NAME:
        return [reply]
    return [packet(Kind.NAME, ask.request.id, struct.pack(">I", int.from_bytes(reply[9:13], "big") + 1), reply[13:])]


def _name_twice(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
    return [_with_names(execute(), lambda *entry: [entry, entry])]


# --- data and handles ---


def _data(change: Callable[[bytes], bytes]) -> Answer:
    def give(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
        reply = execute()
        return [packet(Kind.DATA, ask.request.id, string(change(reply[13:]))) if reply[4] == Kind.DATA else reply]

    return give


def _handle(handle: bytes) -> Answer:
    def give(server: OddServer, ask: Ask, execute: Execute) -> Iterable[bytes]:
        # A handle that is open already is not given twice.
        server.next_handle = None if handle in server.paths else handle
        try:
            return [execute()]
        finally:
            server.next_handle = None

    return give


# --- greetings and limits ---


def _greeting(number: int, *extensions: tuple[bytes, bytes], tail: bytes = b"") -> Answer:
    return lambda server, ask, execute: [_lengthened(version(number, *extensions), tail)]


def _lengthened(whole: bytes, tail: bytes) -> bytes:
    return struct.pack(">I", len(whole) - 4 + len(tail)) + whole[4:] + tail


def _limits(*numbers: int) -> Answer:
    body = struct.pack(f">{len(numbers)}Q", *numbers)
    return lambda server, ask, execute: [packet(Kind.EXTENDED_REPLY, ask.request.id, body)]


_attrs = _kinds(*LOOKING, Kind.READDIR)
_reading = _kinds(Kind.READ)
_listing = _kinds(Kind.READDIR)
_naming = _kinds(*NAMING)
_opening = _kinds(*OPENING)


def _is_greeting(name: str) -> bool:
    return name == "INIT"


def _is_limits(name: str) -> bool:
    return name == LIMITS.decode().partition("@")[0]


_POSIX = (b"posix-rename@openssh.com", b"1")

ODDITIES: tuple[Oddity, ...] = (
    *(Oddity(f"refused-{code}", _is_any, _refused(code)) for code in CODES),
    Oddity("done-refused", lambda name: _is_doing(name) or _opening(name), _done_and_refused),
    Oddity("ignored", _is_doing, _just_ok),
    Oddity("status-ok", _is_asking, _just_ok),
    Oddity("old-object", _kinds(*LOOKING), _old_object),
    Oddity("late", _is_any, _late(0)),
    Oddity("very-late", _is_any, _late(LATE_SECONDS)),
    Oddity("twice", _is_any, _twice),
    Oddity("other-id", _is_any, _other_id),
    Oddity("silent", _is_any, _silent, is_slow=True),
    Oddity("cut-before", _is_any, _cut(is_done=False, is_whole=False)),
    Oddity("cut-after", _is_any, _cut(is_done=True, is_whole=False)),
    Oddity("cut-middle", _is_any, _cut_in_the_middle),
    Oddity("drop-before", _is_any, _cut(is_done=False, is_whole=True)),
    Oddity("drop-after", _is_any, _cut(is_done=True, is_whole=True)),
    Oddity("wrong-type", _is_any, _wrong_type),
    Oddity("bare", _is_any, _bare),
    Oddity("tail", _is_any, _with_tail),
    Oddity("short-body", _is_any, _short_body),
    # Attributes missing, or of odd forms.
    Oddity("attrs-none", _attrs, _told(size=None, owner=None, mode=None, times=None)),
    Oddity("attrs-only-size", _attrs, _told(owner=None, mode=None, times=None)),
    Oddity("attrs-no-size", _attrs, _told(size=None)),
    Oddity("attrs-no-mode", _attrs, _told(mode=None)),
    Oddity("attrs-no-times", _attrs, _told(times=None)),
    Oddity("attrs-no-owner", _attrs, _told(owner=None)),
    Oddity("attrs-pairs", _attrs, _told(pairs=((b"", b""), (b"x@y", b"\xff" * 300)))),
    Oddity("mode-no-type", _attrs, _telling(lambda told: dataclasses.replace(told, mode=(told.mode or 0) & 0o7777))),
    Oddity("size+1", _attrs, _resized(lambda size: size + 1)),
    Oddity("size-1", _attrs, _resized(lambda size: max(size - 1, 0))),
    Oddity("size-0", _attrs, _resized(lambda size: 0)),
    Oddity("size-huge", _attrs, _resized(lambda size: 2**63 + size)),
    Oddity("time-0", _attrs, _told(times=(0, 0))),
    Oddity("time-max", _attrs, _told(times=(0xFFFFFFFF, 0xFFFFFFFF))),
    # Listings in the forms that servers use.
    Oddity("long-empty", _listing, _listed(lambda name, long, told: [(name, b"", told)])),
    Oddity("long-windows", _listing, _listed(lambda name, long, told: [(name, b"11-24-26  12:05PM  1 " + name, told)])),
    Oddity("long-binary", _listing, _listed(lambda name, long, told: [(name, b"\xff\x00\r\n" + name, told)])),
    Oddity("no-dots", _listing, _listed(lambda name, *rest: [] if name in (b".", b"..") else [(name, *rest)])),
    Oddity(
        "slashes", _listing, _listed(lambda name, long, told: [(name + b"/" * _is_directory(told), long, told)])
    ),
    Oddity("absolute", _listing, _absolute_names),
    Oddity("duplicates", _listing, _name_twice),
    Oddity("empty-name", _listing, _listed(lambda name, long, told: [(b"", b"", told), (name, long, told)])),
    Oddity("count-off", _listing, _count_off),
    Oddity("no-names", lambda name: _listing(name) or _naming(name), _no_names),
    Oddity("two-names", _naming, _name_twice),
    Oddity("empty-path", _naming, _listed(lambda name, long, told: [(b"", b"", told)])),
    Oddity("slash-end", _naming, _listed(lambda name, long, told: [(name + b"/", long, told)])),
    Oddity("nul-path", _naming, _listed(lambda name, long, told: [(name + b"\0x", long, told)])),
    # Data.
    Oddity("data-half", _reading, _data(lambda data: data[: (len(data) + 1) // 2])),
    Oddity("data-few", _reading, _data(lambda data: data[:50])),
    Oddity("data-empty", _reading, _data(lambda data: b"")),
    Oddity("data-more", _reading, _data(lambda data: data + b"0123456789")),
    # Handles.
    Oddity("handle-0", _opening, _handle(b"")),
    Oddity("handle-1", _opening, _handle(b"\0")),
    Oddity("handle-4", _opening, _handle(b"\0\0\0\0")),
    Oddity("handle-256", _opening, _handle(bytes(range(256)))),
    Oddity("handle-257", _opening, _handle(bytes(257))),
    # Greetings and limits.
    Oddity("no-extensions", _is_greeting, _greeting(3)),
    *(Oddity(f"version-{number}", _is_greeting, _greeting(number, _POSIX)) for number in (0, 2, 4, 6, 0xFFFFFFFF)),
    Oddity("unknown-extensions", _is_greeting, _greeting(3, (b"\xff\x1b[31m", b"\0" * 90), (b"", b""), _POSIX)),
    Oddity("extension-twice", _is_greeting, _greeting(3, _POSIX, _POSIX)),
    Oddity("extension-without-data", _is_greeting, _greeting(3, _POSIX, tail=string(b"alone"))),
    Oddity("extension-other-version", _is_greeting, _greeting(3, (_POSIX[0], b"2"))),
    Oddity("greeting-twice", _is_greeting, _twice),
    Oddity("greeting-silent", _is_greeting, _silent, is_slow=True),
    Oddity("greeting-cut", _is_greeting, _cut(is_done=False, is_whole=False)),
    Oddity("limits-0", _is_limits, _limits(0, 0, 0, 0)),
    Oddity("limits-small", _is_limits, _limits(64, 64, 64, 1), is_for_small=True),
    Oddity("limits-huge", _is_limits, _limits(*[2**64 - 1] * 4)),
    Oddity("limits-short", _is_limits, _limits(34000, 32768)),
)  # fmt: skip
