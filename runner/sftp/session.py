"""An SFTP session on a channel: requests out, replies matched to them, every wait under a deadline.

Replies are taken apart in the transport's thread (`SftpSession._feed`) and picked up by whoever waits for them; a request is
sent by the thread that makes it. Any number of requests may be under way at once.
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from runner.cancellation import Deadline
from runner.errors import ConnectionLost, ServerLacksFeature, StepTimedOut, UnreachableError
from runner.server_traits import ServerTraits
from runner.sftp.packets import LIMITS, VERSION, MalformedPacket, Reader, StatusCode, Type, encode_packet, encode_string
from runner.shell.noise import MAX_NOISE_BYTES, NOISE_HINT, has_whole_line, quote_noise

# How long the end of a line is waited for that stands where SFTP should begin.
NOISE_SECONDS = 0.5

# OpenSSH sends 256 KiB at most; a server that announces more is broken or hostile.
MAX_PACKET_BYTES = 257 * 1024
DEFAULT_TRANSFER_BYTES = 32 * 1024
MAX_TRANSFER_BYTES = 255 * 1024

# How much a near OpenSSH may send before it hears from us again (`runner/ssh/window.py`): a hundred short answers and more;
# several READDIRs' names; all the data that is ever asked for at once.
ANSWERS_WINDOW_BYTES = 4 * 1024
NAMES_WINDOW_BYTES = 256 * 1024
DATA_WINDOW_BYTES = 32 * 1024 * 1024

# Length, type, request id and code of a STATUS, the commonest reply.
_STATUS_START = struct.Struct(">IBII").unpack_from
_SHORTEST_STATUS_BYTES = 13
_BODY_AT = 9
_STATUS, _OK = Type.STATUS, StatusCode.OK
_OK_BYTES = struct.pack(">I", StatusCode.OK)

_READING = frozenset((Type.STAT, Type.LSTAT, Type.FSTAT, Type.REALPATH, Type.READLINK, Type.OPENDIR, Type.READDIR))

# Takes a reply's type and body in the transport's thread; the view is valid during the call only. It may send nothing
# but what can go at once, and returns whether somebody should be woken.
OnReply = Callable[[int, memoryview], bool]


class ByteChannel(Protocol):
    """What a session needs of the channel below it."""

    on_room: Callable[[], None] | None
    on_pause: Callable[[], None] | None

    @property
    def has_ended(self) -> bool: ...
    @property
    def is_cut_off(self) -> bool: ...
    @property
    def stderr_text(self) -> str: ...
    def listen(self, on_data: Callable[[memoryview], bool]) -> None: ...
    def send(self, data: bytes | memoryview, *, is_rest: bool = False) -> None: ...
    def send_some(self, data: memoryview) -> int: ...
    def wait_until(
        self, is_ready: Callable[[], bool], deadline: Deadline | None = None, on_tick: Callable[[], None] = ...
    ) -> None: ...
    def open_window(self, width_bytes: int) -> None: ...
    def note_progress(self) -> None: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...
    def lost(self) -> ConnectionLost: ...


class Refusal(Exception):
    """The server answered a request with a status other than OK. Translated by `files.py`, which knows the path."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        # Whether the disk had no room left when it was refused, as far as somebody has asked.
        self.is_disk_full: bool | None = None
        # What the failure has left behind, each a sentence and the names in it, for the error that it is explained by.
        self.remarks: list[tuple[str, ...]] = []


class Reply:
    """The place for one request's reply. Empty until the reply has arrived."""

    __slots__ = ("body", "kind", "sent_at_seconds")

    def __init__(self) -> None:
        self.sent_at_seconds = time.monotonic()
        self.kind: int | None = None
        self.body: bytes = b""


# Takes the type and the body of a reply that is not the status OK; the view is valid during the call only.
TakeAnswer = Callable[[int, memoryview], None]


class Countdown(Protocol):
    """Waits for the replies to several requests, nearly all of which will be OK. Called in the transport's thread."""

    def acknowledge(self) -> None:
        """One of the requests is answered, whatever the answer is."""
        ...


# Who waits for a reply. With a countdown, a `TakeAnswer` gets any answer but OK before.
Taker = Reply | OnReply | tuple[Countdown, TakeAnswer]


class SftpSession:
    """One SFTP session. Create it before the subsystem is started, then call `greet`."""

    def __init__(
        self, channel: ByteChannel, peer: str, traits: ServerTraits, piece_bytes: int = MAX_TRANSFER_BYTES
    ) -> None:
        """`piece_bytes` is the most that one request may carry or ask for, whatever the server allows."""
        self.channel = channel
        self.traits = traits
        self.peer = peer
        self._send_lock = threading.Lock()
        self._packet = memoryview(bytearray(4 + MAX_PACKET_BYTES))
        self._filled_bytes = 0
        self._waiting: dict[int, Taker] = {}
        self._version_reply = Reply()
        self._ids = itertools.count()
        self._failure: Exception | None = None
        self.version = 0
        # The shortest time that an answer has taken.
        self.round_trip_seconds = math.inf
        # Whether, since somebody has set this, nothing was answered and nothing but looked at.
        self.is_untouched = False
        self._answer_is_due: Deadline | None = None
        self._is_negotiated = False
        # How long the packet of a status OK is: one of this length was looked at.
        self._usual_status_length = -1
        self._extensions: dict[str, bytes] = {}
        self._piece_bytes = piece_bytes
        self._limits_reply: Reply | None = None
        # Until `settle_limits` has been called, what every server takes.
        self.read_bytes = self.write_bytes = min(DEFAULT_TRANSFER_BYTES, piece_bytes)
        # What the server says it takes: a packet, a read, a write, open files. None if it does not tell, 0 for no limit.
        self.limits: tuple[int, int, int, int] | None = None
        # How many files may be open at once, 0 if the server does not tell.
        self.max_open_handles = 0
        # What came where the answer to the greeting was due, if that is no packet.
        self._noise = bytearray()
        # Who sends our requests, and guards taking the replies.
        self._send: Callable[[bytes], None] = channel.send
        self._guard = threading.RLock()
        channel.listen(self._feed)

    def greet(self, deadline: Deadline) -> None:
        """Begin the session, and ask a server that tells its limits for them.

        Behind the greeting requests may follow at once where the server is known to carry out one after the other, in order.
        Any other's answer is waited for. Raises what `negotiate` raises.
        """
        self._answer_is_due = deadline
        try:
            self.channel.send(struct.pack(">IBI", 5, Type.INIT, VERSION))
            if self.traits.is_sequential:
                self._ask_for_limits()
                return
        except ConnectionLost:
            # The program may have ended already: what it has said is told below.
            if self.channel.is_cut_off:
                raise
        self.negotiate()
        if LIMITS in self.extensions:
            self._ask_for_limits()

    def negotiate(self) -> None:
        """Take over what the server has answered to the greeting: the protocol's version, and its extensions.

        Whoever waits for a reply or asks for the extensions comes through here. Raises `ConnectTimedOut` at the deadline,
        `ServerLacksFeature` for a server of another version.
        """
        if self._is_negotiated:
            return
        # Whatever goes wrong, it is told to the first who waits.
        self._is_negotiated = True
        try:
            self._await(self._version_reply, self._answer_is_due)
        except ConnectionLost as error:
            if self.channel.is_cut_off:
                raise
            said = quote_noise(bytes(self._packet[: self._filled_bytes])) if self._filled_bytes else ""
            said = said or self.channel.stderr_text
            raise ServerLacksFeature(
                f"the SFTP server of {self.peer} ended before it said a word{f': {said}' if said else ''}",
                hint="The sftp-server program may be missing, or the account may only run certain commands; "
                "if the server speaks SCP, set connector_type: SCP.",
            ) from error
        if self.version < VERSION:
            raise ServerLacksFeature(
                f"{self.peer} speaks SFTP version {self.version}; version {VERSION} is needed",
                hint="The server needs an update; if it speaks SCP, set connector_type: SCP.",
            )
        reader = self._read(self._version_reply)
        try:
            while not reader.is_at_end:
                name = bytes(reader.take_string()).decode("utf-8", "replace")
                self._extensions[name] = bytes(reader.take_string())
        except MalformedPacket as error:
            raise self.malformed_field(error) from error
        self.traits.learn_extensions(self._extensions)

    @property
    def extensions(self) -> dict[str, bytes]:
        """What the server can do beyond the protocol, with what it says of it."""
        if not self._is_negotiated:
            self.negotiate()
        return self._extensions

    def _ask_for_limits(self) -> None:
        self._limits_reply = self.submit(Type.EXTENDED, encode_string(LIMITS.encode()))

    def settle_limits(self) -> None:
        """Take the server's limits over. Whoever moves much calls it before; by then they have mostly arrived."""
        reply, self._limits_reply = self._limits_reply, None
        if reply is None:
            return
        try:
            reader = self.expect(reply, Type.EXTENDED_REPLY)
            packet, read, write, handles = (reader.take_uint64() for _ in range(4))
        except (Refusal, MalformedPacket):
            return
        self.limits = packet, read, write, handles
        self.read_bytes = min(read or DEFAULT_TRANSFER_BYTES, MAX_TRANSFER_BYTES, self._piece_bytes)
        self.write_bytes = min(write or DEFAULT_TRANSFER_BYTES, MAX_TRANSFER_BYTES, self._piece_bytes)
        self.max_open_handles = handles

    def submit(self, kind: int, *parts: bytes) -> Reply:
        """Send a request without waiting. Collect the reply with one of the `expect_` methods."""
        reply = Reply()
        if kind not in _READING:
            self.is_untouched = False
        try:
            with self._send_lock, self._giving_up_on_failure():
                self._send(encode_packet(kind, self.expect_later(reply), *parts))
        except ConnectionLost:
            if not self._is_negotiated and not self.channel.is_cut_off:
                # The program has ended before its first answer: what it has said is told.
                self.negotiate()
            raise
        return reply

    def expect_data(self) -> None:
        """From now on data is asked for."""
        self.channel.open_window(DATA_WINDOW_BYTES)

    def expect_names(self) -> None:
        """From now on a folder's names are asked for, and no data."""
        self.channel.open_window(NAMES_WINDOW_BYTES)

    def expect_answers(self) -> None:
        """From now on nothing but short answers are asked for, as is so from the beginning."""
        self.channel.open_window(ANSWERS_WINDOW_BYTES)

    def share(self, send: Callable[[bytes], None], guard: threading.RLock) -> None:
        """Let somebody gather all requests of this session, and take its replies under a lock of theirs."""
        self._send, self._guard = send, guard

    def take_back(self) -> None:
        """The end of `share`."""
        self._send, self._guard = self.channel.send, threading.RLock()

    def expect_later(self, taker: Taker) -> int:
        """A new request's id; `taker` gets the reply to it."""
        request_id = next(self._ids) & 0xFFFFFFFF
        self._waiting[request_id] = taker
        return request_id

    def wait_for(self, is_over: Callable[[], bool], on_tick: Callable[[], None]) -> None:
        """Wait for what callbacks bring about. Raises when the session ends, stalls or is interrupted before."""
        with self._giving_up_on_failure():
            self.channel.wait_until(
                lambda: is_over() or self._failure is not None or self.channel.has_ended, on_tick=on_tick
            )
        if not is_over():
            raise self._find_failure() or self.channel.lost()

    def expect_status(self, reply: Reply) -> None:
        """Wait for OK. Raises `Refusal` for any other status."""
        self._await(reply)
        self.check_status(reply.kind or 0, memoryview(reply.body))

    def check_status(self, kind: int, body: memoryview) -> None:
        """Raise `Refusal` unless a reply is the status OK."""
        if kind != Type.STATUS:
            raise self._malformed(f"a reply of type {kind} where a status is due")
        self._check_status(Reader(body))

    def expect(self, reply: Reply, kind: int) -> Reader:
        """Wait for a reply of one type. Raises `Refusal` when a status comes instead."""
        self._await(reply)
        reader = self._read(reply)
        if reply.kind == Type.STATUS:
            self._check_status(reader)
            raise self._malformed(f"the status OK where a {Type.name_of(kind)} is due")
        if reply.kind != kind:
            raise self._malformed(f"a reply of type {reply.kind} where a {Type.name_of(kind)} is due")
        return reader

    def call(self, kind: int, *parts: bytes) -> None:
        """Send a request and wait for OK."""
        self.expect_status(self.submit(kind, *parts))

    def malformed_field(self, error: MalformedPacket) -> ConnectionLost:
        """The error for a reply whose fields do not add up."""
        return self._malformed(str(error))

    @property
    def is_open(self) -> bool:
        """Whether it can be used on, as far as is known."""
        return self._failure is None and not self.channel.has_ended

    def close(self) -> None:
        """End the session; never raises."""
        self.channel.close()

    def _check_status(self, reader: Reader) -> None:
        try:
            code = reader.take_uint32()
            text = "" if reader.is_at_end else bytes(reader.take_string()).decode("utf-8", "replace")
        except MalformedPacket as error:
            raise self.malformed_field(error) from error
        if code != StatusCode.OK:
            raise Refusal(code, text)

    def _await(self, reply: Reply, deadline: Deadline | None = None) -> None:
        """Wait until the reply is there. Raises when the session ends, stalls, is interrupted or meets the deadline."""
        self.negotiate()
        channel = self.channel
        if self._failure is None:
            with self._giving_up_on_failure():
                channel.wait_until(
                    lambda: reply.kind is not None or self._failure is not None or channel.has_ended, deadline
                )
        if reply.kind is None:
            raise self._find_failure() or channel.lost()

    @contextmanager
    def _giving_up_on_failure(self) -> Iterator[None]:
        """A session that stalled or broke off is not used again: clean-up must not wait for it a second time."""
        if (failure := self._find_failure()) is not None:
            raise failure
        try:
            yield
        except StepTimedOut:
            # The step's time is up; the session is as good as before, and there is something to clean up.
            raise
        except UnreachableError as error:
            self._failure = error
            raise

    def _find_failure(self) -> Exception | None:
        """What ended the session; None if nothing has."""
        if self._noise and not isinstance(self._failure, ServerLacksFeature):
            with suppress(UnreachableError):
                # The rest of the line is on its way.
                self.channel.wait_until(
                    lambda: has_whole_line(self._noise) or self.channel.has_ended, Deadline.after(NOISE_SECONDS)
                )
            self._failure = ServerLacksFeature(
                f"{self.peer} says something before SFTP begins: {quote_noise(bytes(self._noise))}",
                hint=NOISE_HINT,
            )
        return self._failure

    def _read(self, reply: Reply) -> Reader:
        return Reader(reply.body)

    def _malformed(self, what: str) -> ConnectionLost:
        return ConnectionLost(f"{self.peer} broke the SFTP protocol: {what}", hint="The session cannot be trusted on.")

    def _feed(self, data: memoryview) -> bool:
        """Take the server's next bytes apart. Runs in the transport's thread; true if somebody should be woken."""
        is_news = False
        if self._noise:
            self._noise += data[: MAX_NOISE_BYTES - len(self._noise)]
            return True
        try:
            with self._guard:
                while data and self._failure is None:
                    if self._filled_bytes == 0:
                        taken_bytes, is_for_somebody = self._take_whole_packets(data)
                        is_news = is_news or is_for_somebody
                        if taken_bytes == len(data):
                            break
                        data = data[taken_bytes:]
                    if self._failure is None:
                        packet, data = self._take_part(data)
                        if packet is not None:
                            is_news = self._accept(packet[0], int.from_bytes(packet[1:5], "big"), packet[5:]) or is_news
        except Exception as error:
            # Nothing may be raised in the transport's thread: what goes wrong there ends this session only.
            self._failure = self._failure or error
        return is_news or self._failure is not None

    def _take_whole_packets(self, data: memoryview) -> tuple[int, bool]:
        """Accept the packets that are complete in `data`, none of which is copied: how many bytes they were."""
        start, limit, is_news, waiting = 0, len(data), False, self._waiting
        while limit - start >= _SHORTEST_STATUS_BYTES and self._failure is None:
            length, kind, request_id, code = _STATUS_START(data, start)
            end = start + 4 + length
            if not 5 <= length <= MAX_PACKET_BYTES or end > limit:
                break
            start, body_start = end, start + _BODY_AT
            # Nearly all replies to a batch of small files are this status.
            if kind == _STATUS and code == _OK and length == self._usual_status_length:
                taker = waiting.get(request_id)
                if type(taker) is tuple:
                    del waiting[request_id]
                    taker[0].acknowledge()
                    continue
            is_news = self._accept(kind, request_id, data[body_start:end]) or is_news
        return start, is_news

    def _take_part(self, data: memoryview) -> tuple[memoryview | None, memoryview]:
        """Put a packet together that comes in pieces: the packet, if it is complete by now, and the data behind it."""
        wanted = 4 if self._filled_bytes < 4 else 4 + int.from_bytes(self._packet[:4], "big")
        count = min(len(data), wanted - self._filled_bytes)
        self._packet[self._filled_bytes : self._filled_bytes + count] = data[:count]
        self._filled_bytes += count
        if self._filled_bytes == 4 and wanted == 4:
            self._check_length(int.from_bytes(self._packet[:4], "big"), data[count:])
        elif self._filled_bytes == wanted:
            self._filled_bytes = 0
            return self._packet[4:wanted], data[count:]
        return None, data[count:]

    def _check_length(self, length: int, behind: memoryview) -> None:
        # Every packet has a type and a request id, or in VERSION's case the version in its place.
        if not 5 <= length <= MAX_PACKET_BYTES:
            if self._version_reply.kind is None:
                self._noise += bytes(self._packet[:4]) + behind[: MAX_NOISE_BYTES - 4]
            self._failure = self._malformed(f"a packet of {length:,} bytes is announced")

    def _accept(self, kind: int, request_id: int, body: memoryview) -> bool:
        taker: Taker | None
        if kind != Type.VERSION:
            taker = self._waiting.pop(request_id, None)
        elif self._version_reply.kind is None:
            self.version = request_id
            taker = self._version_reply
        else:
            # Said again it is no answer; it must not pass for progress for ever.
            taker = None
        if taker is None:
            self._failure = self._malformed("a reply to no request")
            return True
        if isinstance(taker, tuple):
            countdown, take = taker
            if kind == _STATUS and body[:4] == _OK_BYTES:
                self._check_status(Reader(body))
                # One that is whole; those that follow are as long.
                self._usual_status_length = 5 + len(body)
            else:
                try:
                    take(kind, body)
                except MalformedPacket as error:
                    raise self.malformed_field(error) from error
            countdown.acknowledge()
            return False
        if not isinstance(taker, Reply):
            return taker(kind, body)
        self.is_untouched = False
        # The kind is set last: whoever waits takes it as the sign that the body is there.
        taker.body, taker.kind = bytes(body), kind
        waited_seconds = time.monotonic() - taker.sent_at_seconds
        self.round_trip_seconds = min(self.round_trip_seconds, waited_seconds)
        return True
