"""Moves a file's bytes with many requests under way. This is where a byte is written, on either side.

A pump does all its work in the transport's thread: a reply that comes in makes the next request go out, with no other
thread in between (two threads that take turns at this rate spend more time waiting for the interpreter than working). The
thread that called `write_whole` or `read_whole` sleeps, looks up ten times a second, reports progress, and takes over when
the pump is done, has failed, or must be stopped.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from runner.errors import ConnectionLost, SourceChanged, StepError, VerificationFailed
from runner.remote_files import Progress, Source
from runner.sftp.packets import MalformedPacket, Reader, StatusCode, Type, encode_string
from runner.sftp.session import Refusal, SftpSession

# 255 KiB each where the server allows it: enough to fill a line of 4 MiB, few enough to stop quickly.
WRITES_IN_FLIGHT = 16
# What is asked for and has not come yet: enough to keep the server busy, and beyond that what the line itself holds.
# All that does not fit the line piles up in OpenSSH's sftp-server, which moves the pile in memory again and again: with 16
# MiB of it on loopback a download of 1 GiB cost the server 1.3 to 3.0 s of CPU instead of 1.0.
READ_AHEAD_BYTES = 2 * 1024 * 1024
LINE_BYTES_PER_SECOND = 1024 * 1024 * 1024
MAX_READS_IN_FLIGHT = 64


# Takes bytes and their offset in the file, in the transport's thread; the view is valid during the call only.
Take = Callable[[memoryview, int], None]


@dataclass(frozen=True, slots=True)
class Lane:
    """An open handle of a file, and the session it belongs to. Each session has a window of its own at the server."""

    session: SftpSession
    handle: bytes


def write_whole(lanes: Sequence[Lane], source: Source, progress: Progress) -> None:
    """Write the source to a file that is open on one lane or several; every status is checked.

    Raises `Refusal` for the first write that is refused, `SourceChanged` if the local file ends too early.
    """
    if source.size_bytes == source.offset:
        return
    cursor = _Cursor(source)
    with ExitStack() as stack:
        run_together([stack.enter_context(_WritePump(lane, cursor)) for lane in lanes], progress, source.offset)


def read_piece(source: Source) -> bytes:
    """The whole of a source that fits into one request. Raises `SourceChanged` if the local file ends too early."""
    offset, piece = source.offset, b""
    while offset < source.size_bytes:
        more = os.pread(source.fd, source.size_bytes - offset, offset)
        if not more:
            raise _became_shorter(source.size_bytes, offset)
        piece, offset = piece + more, offset + len(more)
    if source.hasher is not None:
        source.hasher.update(memoryview(piece))
    return piece


def _became_shorter(expected_bytes: int, found_bytes: int) -> SourceChanged:
    return SourceChanged(
        f"the source became shorter while it was read: {expected_bytes:,} bytes expected, {found_bytes:,} found",
        hint="Something still writes to it. Play again when it is finished.",
    )


def read_whole(
    session: SftpSession, handle: bytes, size_bytes: int | None, take: Take, progress: Progress, offset: int = 0
) -> int:
    """Read the handle from `offset` to its end, each piece given to `take`. Returns where it ends.

    `size_bytes` is what the server announced, None if it announced nothing. One byte more is asked for, so that the
    answer proves where the file ends.

    Raises `Refusal` for the first read that is refused, `VerificationFailed` if the file has a gap, and whatever `take`
    raises.
    """
    with _ReadPump(session, handle, take, size_bytes, offset) as pump:
        run_together([pump], progress)
        if pump.end_at is not None and pump.done_bytes != pump.end_at:
            raise VerificationFailed(
                f"{session.peer} sent a file with a gap: it ends at byte {pump.end_at:,}, {pump.done_bytes:,} bytes came",
                hint="Another program is writing to the source, or the server is broken.",
            )
        return pump.done_bytes


def run_together(pumps: Sequence[_Pump], progress: Progress, offset: int = 0) -> None:
    """Pump until everything is acknowledged. Raises whatever went wrong first."""
    first = pumps[0].session

    def is_over() -> bool:
        return any(pump.failure for pump in pumps) or all(pump.is_over for pump in pumps)

    def tick() -> None:
        progress(offset + sum(pump.done_bytes for pump in pumps))
        for pump in pumps:
            pump.look_after()

    for pump in pumps:
        pump.start(first.channel.wake if pump.session is not first else lambda: None)
    first.wait_for(is_over, on_tick=tick)
    for pump in pumps:
        if pump.failure is not None:
            raise pump.failure
    progress(offset + sum(pump.done_bytes for pump in pumps))


class _Pump(ABC):
    """What both directions share: sending what can go now, and handing over to the thread that waits."""

    def __init__(self, session: SftpSession) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self._in_flight = 0
        self._is_stopped = False
        self._wake: Callable[[], None] = lambda: None
        self.failure: Exception | None = None
        self.done_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing more goes out, and no request stays half sent: what follows it could not be read."""
        self.session.channel.on_room = None
        with self._lock:
            self._is_stopped = True
            rest, self._unsent = self._unsent, memoryview(b"")
        if rest:
            try:
                self.session.channel.send(rest, is_rest=True)
            except StepError:
                pass  # the session is beyond cleaning up, and whoever tries will be told

    def start(self, wake: Callable[[], None]) -> None:
        """Send what can go now, and go on by itself. `wake` is called when the pump is over."""
        self._wake = wake
        self.session.channel.on_room = self.fill
        self.fill()

    @property
    def is_over(self) -> bool:
        return self.failure is not None or (self._in_flight == 0 and not self._unsent and not self._has_more())

    def look_after(self) -> None:
        """Called now and then by the thread that waits, for what no reply will set going."""
        if self.session.channel.has_ended and not self.is_over:
            self.failure = self.session.channel.lost()
        # While keys were exchanged nothing could be sent, and nothing may come any more that would set it going again.
        self.fill()

    def fill(self) -> None:
        """Send what can go now. What goes wrong is kept for the thread that waits."""
        try:
            with self._lock:
                self._fill()
        except Exception as error:
            self.failure = self.failure or error

    def _fill(self) -> None:
        while not self._is_stopped and self.failure is None:
            if not self._unsent:
                if not self._has_more() or self._in_flight >= self._limit:
                    return
                self._unsent = self._make_request()
                if not self._unsent:
                    return
            sent_bytes = self.session.channel.send_some(self._unsent)
            if sent_bytes == 0:
                return
            self._unsent = self._unsent[sent_bytes:]

    def _take_reply(self, kind: int, body: memoryview, *request: int) -> bool:
        """One reply, in the transport's thread. True wakes the thread that waits."""
        if self._is_stopped:
            return False
        try:
            self._digest(kind, body, *request)
        except Exception as error:
            self.failure = self.failure or error
        # Not before: the thread that waits takes a pump with nothing in flight for one that is done.
        with self._lock:
            self._in_flight -= 1
        self.fill()
        if not self.is_over:
            return False
        self._wake()
        return True

    _limit = 1

    @abstractmethod
    def _has_more(self) -> bool:
        """Whether there is something left to ask for."""

    @abstractmethod
    def _make_request(self) -> memoryview:
        """The next request's bytes, counted as in flight."""

    @abstractmethod
    def _digest(self, kind: int, body: memoryview, *request: int) -> None:
        """Make use of a reply to the request that these numbers describe."""


class _Cursor:
    """Gives out the source's bytes, in order and each once, to whichever pump asks next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._offset = source.offset

    @property
    def has_more(self) -> bool:
        return self._offset < self._source.size_bytes

    def take(self, space: memoryview) -> tuple[int, int]:
        """The next bytes into `space`: their offset, and how many; none if another pump has just taken the last.

        Raises `SourceChanged` if the local file ends too early.
        """
        with self._lock:
            offset, size_bytes = self._offset, self._source.size_bytes
            wanted = min(len(space), size_bytes - offset)
            count = os.preadv(self._source.fd, [space[:wanted]], offset) if wanted else 0
            if wanted and not count:
                raise _became_shorter(size_bytes, offset)
            if self._source.hasher is not None:
                self._source.hasher.update(space[:count])
            self._offset += count
            return offset, count


class _WritePump(_Pump):
    """From a local file to one lane."""

    _limit = WRITES_IN_FLIGHT

    def __init__(self, lane: Lane, cursor: _Cursor) -> None:
        super().__init__(lane.session)
        lane.session.settle_limits()
        self._cursor = cursor
        self._handle = encode_string(lane.handle)
        # One request is built at a time, and the next not before it is sent: they share one buffer.
        self._header_bytes = 9 + len(self._handle) + 12
        self._request = memoryview(bytearray(self._header_bytes + lane.session.write_bytes))

    def _has_more(self) -> bool:
        return self._cursor.has_more

    def _make_request(self) -> memoryview:
        offset, count = self._cursor.take(self._request[self._header_bytes :])
        if count == 0:
            return memoryview(b"")
        end = self._header_bytes + count
        request_id = self.session.expect_later(functools.partial(_WritePump._take_status, self, count))
        start = struct.pack(">IBI", end - 4, Type.WRITE, request_id)
        self._request[: self._header_bytes] = b"".join((start, self._handle, struct.pack(">QI", offset, count)))
        self._in_flight += 1
        return self._request[:end]

    def _take_status(self, count: int, kind: int, body: memoryview) -> bool:
        return self._take_reply(kind, body, count)

    def _digest(self, kind: int, body: memoryview, *request: int) -> None:
        self.session.check_status(kind, body)
        self.done_bytes += request[0]


class _ReadPump(_Pump):
    """From a handle to a local file."""

    def __init__(self, session: SftpSession, handle: bytes, take: Take, size_bytes: int | None, offset: int) -> None:
        super().__init__(session)
        session.settle_limits()
        session.expect_data()
        self._limit = count_reads(session.round_trip_seconds, session.read_bytes)
        self._take = take
        self._handle = encode_string(handle)
        self._asked_bytes = self.done_bytes = offset
        # One byte beyond the announced size proves that the file ends there.
        self._limit_bytes = None if size_bytes is None else size_bytes + 1
        self._rests: deque[tuple[int, int]] = deque()
        self.end_at: int | None = None

    def _has_more(self) -> bool:
        if self._rests:
            return True
        return self.end_at is None and (self._limit_bytes is None or self._asked_bytes < self._limit_bytes)

    def _make_request(self) -> memoryview:
        if self._rests:
            offset, count = self._rests.popleft()
        else:
            offset, count = self._asked_bytes, self.session.read_bytes
            if self._limit_bytes is not None:
                count = min(count, self._limit_bytes - offset)
            self._asked_bytes += count
        request_id = self.session.expect_later(functools.partial(_ReadPump._take_data, self, offset, count))
        self._in_flight += 1
        body = b"".join((self._handle, struct.pack(">QI", offset, count)))
        return memoryview(struct.pack(">IBI", 5 + len(body), Type.READ, request_id) + body)

    def _take_data(self, offset: int, count: int, kind: int, body: memoryview) -> bool:
        return self._take_reply(kind, body, offset, count)

    def _digest(self, kind: int, body: memoryview, *request: int) -> None:
        offset, count = request
        if kind != Type.DATA:
            self._digest_end(kind, body, offset)
            return
        try:
            data = Reader(body).take_string()
        except MalformedPacket as error:
            raise self.session.malformed_field(error) from error
        if not 0 < len(data) <= count:
            raise ConnectionLost(
                f"{self.session.peer} broke the SFTP protocol: {len(data):,} bytes of data where {count:,} were asked for",
                hint="The session cannot be trusted on.",
            )
        self._take(data, offset)
        self.done_bytes += len(data)
        if len(data) < count:
            # A short reply is no end of file: ask for the rest.
            self._rests.append((offset + len(data), count - len(data)))

    def _digest_end(self, kind: int, body: memoryview, offset: int) -> None:
        try:
            self.session.check_status(kind, body)
        except Refusal as refusal:
            if refusal.code != StatusCode.EOF:
                raise
            self.end_at = offset if self.end_at is None else min(self.end_at, offset)
            return
        raise self.session.malformed_field(MalformedPacket("the status OK where data is due"))


def count_reads(round_trip_seconds: float, read_bytes: int) -> int:
    """How many reads of that size to keep under way."""
    wanted_bytes = READ_AHEAD_BYTES + LINE_BYTES_PER_SECOND * min(round_trip_seconds, 1.0)
    return min(MAX_READS_IN_FLIGHT, math.ceil(wanted_bytes / read_bytes))


class TakesBytes(Protocol):
    """What is given a file's bytes in order."""

    def update(self, data: memoryview, /) -> None: ...


class InOrder:
    """Hashes pieces that may come in another order, up to a limit; what comes early is kept until its turn."""

    def __init__(self, hasher: TakesBytes, limit_bytes: int | None = None) -> None:
        self._hasher = hasher
        self._limit_bytes = limit_bytes
        self._offset = 0
        self._early: dict[int, bytes] = {}

    def take(self, data: memoryview, offset: int) -> None:
        """The next piece, or a later one."""
        if self._limit_bytes is not None:
            data = data[: max(0, self._limit_bytes - offset)]
        if offset != self._offset:
            self._early[offset] = bytes(data)
            return
        self._hasher.update(data)
        self._offset += len(data)
        while self._offset in self._early:
            piece = self._early.pop(self._offset)
            self._hasher.update(memoryview(piece))
            self._offset += len(piece)


class PieceHasher:
    """Hashes a file's pieces, one after the other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = iter(sizes)
        self._hasher = hashlib.sha256()
        self._left_bytes = next(self._sizes, 0)
        self.digests: list[str] = []

    def update(self, data: memoryview, /) -> None:
        """The next bytes of the file. What follows the last piece is not hashed."""
        while data and self._left_bytes:
            self._hasher.update(data[: self._left_bytes])
            taken_bytes = min(len(data), self._left_bytes)
            data = data[taken_bytes:]
            self._left_bytes -= taken_bytes
            if not self._left_bytes:
                self.digests.append(self._hasher.hexdigest())
                self._hasher = hashlib.sha256()
                self._left_bytes = next(self._sizes, 0)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` to the local file at `offset`. Raises `OSError`."""
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
