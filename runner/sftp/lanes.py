"""Further channels for one large upload: at a long round trip the server's window for a single one is too small.

A lane does all its work in the transport's thread: a reply that comes in makes the next request go out. The main channel is
the batch's; all of them take the source's bytes from one cursor.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
from collections.abc import Callable

from runner.errors import ConnectionLost, SourceChanged, StepError
from runner.remote_files import Source
from runner.sftp.packets import Attributes, OpenFlag, Type, encode_path, encode_string, take_handle
from runner.sftp.requests import ask_to_open, take
from runner.sftp.session import Refusal, Reply, SftpSession

# 255 KiB each where the server allows it: enough to fill a line of 4 MiB, few enough to stop quickly.
WRITES_IN_FLIGHT = 16


class Cursor:
    """Gives out the source's bytes, in order and each once, to whichever channel asks next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._offset = source.offset
        self._is_stopped = False

    @property
    def left_bytes(self) -> int:
        """How many have not been given out, and will be."""
        return 0 if self._is_stopped else self._source.size_bytes - self._offset

    def stop(self) -> None:
        """Give out nothing more."""
        self._is_stopped = True

    def take(self, space: memoryview) -> tuple[int, int]:
        """The next bytes into `space`: their offset, and how many; none if another channel has just taken the last.

        Raises `SourceChanged` if the local file ends too early, and `OSError`.
        """
        with self._lock:
            offset, size_bytes = self._offset, self._source.size_bytes
            wanted = min(len(space), self.left_bytes)
            count = os.preadv(self._source.fd, [space[:wanted]], offset) if wanted else 0
            if wanted and not count:
                raise SourceChanged(
                    f"the source became shorter while it was read: {size_bytes:,} bytes expected, {offset:,} found",
                    hint="Something still writes to it. Play again when it is finished.",
                )
            if self._source.hasher is not None:
                self._source.hasher.update(space[:count])
            self._offset += count
            return offset, count


class WriteSpace:
    """A buffer for one WRITE at a time: the next is built in it when the one before has been sent."""

    def __init__(self, write_bytes: int) -> None:
        self._write_bytes = write_bytes
        self._buffer = memoryview(bytearray(0))
        self._header_bytes = 0

    def build(self, handle: bytes, cursor: Cursor, request_id: Callable[[int], int]) -> memoryview:
        """The next WRITE to an encoded handle, empty if there are no more bytes. `request_id` is given their number."""
        self._header_bytes = 9 + len(handle) + 12
        if len(self._buffer) < self._header_bytes + self._write_bytes:
            self._buffer = memoryview(bytearray(self._header_bytes + self._write_bytes))
        offset, count = cursor.take(self._buffer[self._header_bytes : self._header_bytes + self._write_bytes])
        if count == 0:
            return memoryview(b"")
        end = self._header_bytes + count
        start = struct.pack(">IBI", end - 4, Type.WRITE, request_id(count))
        self._buffer[: self._header_bytes] = b"".join((start, handle, struct.pack(">QI", offset, count)))
        return self._buffer[:end]


class Lane:
    """A further handle of a file, on a session of its own, and what goes through it."""

    def __init__(self, session: SftpSession, handle: bytes) -> None:
        self.session = session
        self._handle = handle
        self._encoded_handle = encode_string(handle)
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self._in_flight = 0
        self._is_stopped = False
        self._on_written: Callable[[int], None] = lambda count_bytes: None
        self._on_over: Callable[[], None] = lambda: None
        self._cursor: Cursor | None = None
        self._space: WriteSpace | None = None
        self.failure: Exception | None = None

    def start(self, cursor: Cursor, on_written: Callable[[int], None], on_over: Callable[[], None]) -> None:
        """Send what can go now, and go on by itself. The callbacks come from the transport's thread, or this one."""
        self.session.settle_limits()
        self._cursor, self._space = cursor, WriteSpace(self.session.write_bytes)
        self._on_written, self._on_over = on_written, on_over
        self.session.channel.on_room = self.fill
        self.fill()

    @property
    def is_over(self) -> bool:
        """Whether all that it has taken is acknowledged, and there is no more; or something went wrong."""
        if self.failure is not None or self._is_stopped or self._cursor is None:
            return True
        return self._in_flight == 0 and not self._unsent and not self._cursor.left_bytes

    def look_after(self) -> None:
        """Called now and then by the thread that waits, for what no reply will set going."""
        if self.session.channel.has_ended and not self.is_over:
            self.failure = self.session.channel.lost()
            self._on_over()
        # While keys were exchanged nothing could be sent, and nothing may come any more that would set it going again.
        self.fill()

    def fill(self) -> None:
        """Send what can go now. What goes wrong is kept."""
        try:
            with self._lock:
                self._fill()
        except Exception as error:
            self.failure = self.failure or error

    def _fill(self) -> None:
        cursor, space = self._cursor, self._space
        while cursor is not None and space is not None and not self._is_stopped and self.failure is None:
            if not self._unsent:
                if not cursor.left_bytes or self._in_flight >= WRITES_IN_FLIGHT:
                    return
                self._unsent = space.build(self._encoded_handle, cursor, self._expect)
                if not self._unsent:
                    return
            sent_bytes = self.session.channel.send_some(self._unsent)
            if sent_bytes == 0:
                return
            self._unsent = self._unsent[sent_bytes:]

    def _expect(self, count_bytes: int) -> int:
        self._in_flight += 1
        return self.session.expect_later(functools.partial(Lane._take_status, self, count_bytes))

    def _take_status(self, count_bytes: int, kind: int, body: memoryview) -> bool:
        if self._is_stopped:
            return False
        try:
            self.session.check_status(kind, body)
            self._on_written(count_bytes)
        except Exception as error:
            self.failure = self.failure or error
        with self._lock:
            self._in_flight -= 1
        self.fill()
        if self.is_over:
            self._on_over()
        return False

    def stop(self) -> None:
        """Nothing more goes out, and no request stays half sent: what follows it could not be read."""
        self.session.channel.on_room = None
        with self._lock:
            self._is_stopped = True
            rest, self._unsent = self._unsent, memoryview(b"")
        if rest:
            try:
                self.session.channel.send(rest, is_rest=True)
            except StepError:
                pass  # the session is beyond cleaning up, and the next request is told

    def ask_to_close(self) -> Reply:
        """Ask for the handle to be closed. Raises `ConnectionLost`."""
        return self.session.submit(Type.CLOSE, encode_string(self._handle))


def open_lanes(sessions: list[SftpSession], path: str) -> list[Lane]:
    """Further handles of a file that is open already, on as many of these sessions as grant one. May wait.

    The server may have closed a channel while it was idle, or may refuse a second handle: the others will do.
    """
    # All are asked before the first answer is waited for: one round trip, not one for each.
    openings = [(session, _ask_to_open(session, path)) for session in sessions]
    lanes = []
    for session, opening in openings:
        handle = _take_handle(session, opening)
        if handle is not None:
            lanes.append(Lane(session, handle))
    return lanes


def close_lanes(lanes: list[Lane]) -> None:
    """Close all handles, and wait for that. Raises `Refusal` if a server reports only now that something was lost."""
    failure: Exception | None = None
    closings: list[tuple[Lane, Reply]] = []
    for lane in lanes:
        lane.stop()
        try:
            closings.append((lane, lane.ask_to_close()))
        except StepError as error:
            failure = failure or error
    for lane, closing in closings:
        try:
            lane.session.expect_status(closing)
        except (Refusal, StepError) as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _ask_to_open(session: SftpSession, path: str) -> Reply | None:
    try:
        return ask_to_open(session, encode_path(path), OpenFlag.READ | OpenFlag.WRITE, Attributes())
    except ConnectionLost:
        return None


def _take_handle(session: SftpSession, opening: Reply | None) -> bytes | None:
    """The handle; None if it is refused, or the channel is closed: nothing has gone through it."""
    try:
        return None if opening is None else take(session, opening, Type.HANDLE, take_handle)
    except Refusal:
        return None
    except ConnectionLost:
        if session.channel.is_cut_off:
            raise
        return None
