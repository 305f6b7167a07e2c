"""SSH's binary packet protocol (RFC 4253, section 6), built for bulk.

The socket (or the tunnel in its place) is read into one large buffer, packets are decrypted straight out of it, and many
packets leave in one system call. It takes the place of paramiko's own through `Transport(packetizer_class=…)`: the first
half of its methods is what `Transport` calls, the second half is for channels that move much data.

One thread reads, any thread sends.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import paramiko
from paramiko.ssh_exception import SSHException

from runner.ssh.ciphers import Inbound, Outbound, Payload, PlainInbound, PlainOutbound, make_inbound, make_outbound

# What a server may send before it is known to be the right one, and after (RFC 4253 6.1; OpenSSH's PACKET_MAX_SIZE).
MAX_PACKET_BYTES_BEFORE_LOGIN = 35_000
MAX_PACKET_BYTES = 256 * 1024
RECEIVE_BUFFER_BYTES = 1024 * 1024
# A server may put each answer into a packet of its own. So small ones are handed over together, in the order they came.
SMALL_DATA_BYTES = 1024
# A batch of small answers waits for our acknowledgement (Nagle); a large one does not.
SMALL_RECEIVE_BYTES = 4096

# RFC 4344 3.2 bounds the packets under one key, and AES-GCM's counter would allow far more bytes than this.
REKEY_BYTES = 1 << 30
REKEY_PACKETS = 1 << 31

MAX_SILENT_KEEPALIVES = 3
# How long a server that takes nothing is waited for once the play is to end.
FINISH_WRITING_SECONDS = 2.0
MAX_BANNER_LINE_BYTES = 8192

MAX_SEQUENCE = 0xFFFFFFFF
_CHANNEL_WINDOW_ADJUST = 93
_CHANNEL_DATA = 94
# Type, our number of the channel, and how many bytes follow or may be sent.
_CHANNEL_PACKET = struct.Struct(">BII")
# GLOBAL_REQUEST (80) that wants an answer; every server refuses it, which is one.
_KEEPALIVE = b"\x50\0\0\0\x15keepalive@openssh.com\x01"
_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", None)

SEND_BUFFER_BYTES = 320 * 1024
# Length, padding and tag of a packet, at most.
PACKET_OVERHEAD_BYTES = 128
# More than a keepalive takes on the line, with all that jump hosts need to pass it on.
KEEPALIVE_BYTES = 1024


class Sink(Protocol):
    """Takes what arrives for one channel, in the reading thread, ahead of the transport's own dispatch."""

    def take_data(self, data: memoryview) -> None:
        """The channel's next bytes; the view is valid during the call only."""
        ...

    def take_window(self, count_bytes: int) -> None:
        """The server has room for so many bytes more."""
        ...

    def take_pause(self) -> bool:
        """Everything that has come so far has been taken. Returns whether it is to be told again soon, come what may."""
        ...


class BulkPacketizer:
    """Packets in and out of one socket."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._is_tcp = getattr(sock, "family", None) in (socket.AF_INET, socket.AF_INET6)
        self.closed = False
        self._log: logging.Logger | None = None
        self._buffer = bytearray(RECEIVE_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._inbound: Inbound = PlainInbound()
        self._outbound: Outbound = PlainOutbound()
        self._send_buffer = memoryview(bytearray(SEND_BUFFER_BYTES))
        self._sequence_in = self._sequence_out = 0
        self._send_lock = threading.RLock()
        self._sinks: dict[int, Sink] = {}
        self._talking: set[Sink] = set()
        # Whose data came last, and what of it has not been handed over.
        self._listener: Sink | None = None
        self._small_data: list[bytes] = []
        self._handshake_ends_at: float | None = None
        self._is_handshake_complete = False
        self._keepalive_seconds = 0.0
        self._last_received = self._last_sent = time.monotonic()
        self._keepalives_unanswered = 0
        self._sent_bytes = self._sent_packets = self._received_bytes = self._received_packets = 0
        self._written_bytes = 0
        self._keepalive_bytes = 0
        self._needs_rekey = self._has_told_rekey = False
        self._renewed_directions = 0
        self.is_greeted = False
        self.is_logged_in = False
        self.last_message_type = 0
        self._initial_kex_done = False  # set by Transport
        # Whether the next keys for what comes in are for a cipher in CBC mode; set by StrictTransport.
        self.expects_cbc = False
        self.give_up_writing_after_seconds = 60.0
        self.is_ending: Callable[[], bool] = lambda: False

    # What Transport calls.

    def close(self) -> None:
        self.closed = True
        self._socket.close()
        # What is left of a connection refers to itself, and may wait for long until it is collected. A thread that is
        # reading or sending just now has a view of its own.
        self._buffer = bytearray()
        self._view = self._send_buffer = memoryview(self._buffer)
        self._inbound = PlainInbound()

    def set_log(self, log: logging.Logger) -> None:
        self._log = log

    def set_hexdump(self, hexdump: bool) -> None:
        """Packets are never dumped: they carry credentials."""

    def get_hexdump(self) -> bool:
        return False

    def set_inbound_cipher(self, block_engine: Any, **parameters: Any) -> None:
        """New keys for what comes in."""
        self._inbound = make_inbound(block_engine, **parameters, is_cbc=self.expects_cbc)
        self._received_bytes = self._received_packets = 0
        self._note_renewal(2)

    def set_outbound_cipher(self, block_engine: Any, **parameters: Any) -> None:
        """New keys for what goes out."""
        self._outbound = make_outbound(block_engine, **parameters)
        self._sent_bytes = self._sent_packets = 0
        self._note_renewal(1)

    def set_inbound_compressor(self, compressor: object) -> None:
        raise SSHException("compression was not offered")

    def set_outbound_compressor(self, compressor: object) -> None:
        raise SSHException("compression was not offered")

    def reset_seqno_in(self) -> None:
        self._sequence_in = 0

    def reset_seqno_out(self) -> None:
        self._sequence_out = 0

    def need_rekey(self) -> bool:
        return self._needs_rekey

    def set_keepalive(self, interval: float, callback: Callable[[], None]) -> None:
        """Ask the server for a sign of life after `interval` seconds without one; 0 turns it off.

        Transport's own callback wants no answer, so it could never find out that nobody is there.
        """
        self._keepalive_seconds = interval

    def start_handshake(self, timeout: float) -> None:
        self._handshake_ends_at = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        ends_at = self._handshake_ends_at
        return ends_at is not None and not self._is_handshake_complete and time.monotonic() > ends_at

    def complete_handshake(self) -> None:
        self._is_handshake_complete = True

    def readline(self, timeout: float) -> str:
        """A line of the server's greeting, before the first packet. Raises `socket.timeout` and `EOFError`."""
        ends_at = time.monotonic() + timeout
        while True:
            line_end = self._buffer.find(b"\n", self._start, self._end)
            if line_end >= 0:
                line = bytes(self._view[self._start : line_end])
                self._start = line_end + 1
                return line.rstrip(b"\r").decode("utf-8", "replace")
            if self._end - self._start > MAX_BANNER_LINE_BYTES:
                raise SSHException("the server's greeting has an endless line")
            if not self._receive_some() and time.monotonic() > ends_at:
                raise TimeoutError

    def write_all(self, data: bytes) -> None:
        """Send our greeting, if that has not been done: Transport writes nothing else by itself. Raises `EOFError`."""
        if not self.is_greeted:
            self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        """Send raw bytes. Raises `EOFError` when the connection is gone or takes nothing for too long."""
        view = memoryview(data)
        last_progress = time.monotonic()
        ends_at: float | None = None
        while view:
            if self.closed:
                raise EOFError
            try:
                sent = self._socket.send(view)
            except TimeoutError:
                sent = 0
                if time.monotonic() - last_progress > self.give_up_writing_after_seconds:
                    # For good: what follows a part of a packet could not be read.
                    self.closed = True
            except OSError as error:
                raise EOFError from error
            view = view[sent:]
            self._written_bytes += sent
            if sent:
                last_progress = time.monotonic()
            if view and self.is_ending():
                # A server that takes a byte now and then is waited for no longer than one that takes none.
                ends_at = ends_at or time.monotonic() + FINISH_WRITING_SECONDS
                if time.monotonic() > ends_at:
                    self.closed = True
        self._last_sent = last_progress

    def send_message(self, message: Any) -> None:
        """Send one packet."""
        with self._send_lock:
            self._send_payloads([(message.asbytes(),)])

    def read_message(self) -> tuple[int, Any]:
        """The next packet that is not channel data for a sink.

        Raises `SSHException` for a packet that is mangled, `NeedRekeyException` once when the keys should be renewed,
        `EOFError` at the end.
        """
        while True:
            if self._needs_rekey and not self._has_told_rekey:
                self._has_told_rekey = True
                raise paramiko.packet.NeedRekeyException
            try:
                payload = self._read_payload()
                if payload[0] in (_CHANNEL_DATA, _CHANNEL_WINDOW_ADJUST) and self._divert(payload):
                    continue
            except SSHException:
                # What came before the mangled packet is as good as ever.
                self._hand_over()
                raise
            self._hand_over()
            message = paramiko.Message(bytes(payload[1:]))
            message.seqno = (self._sequence_in - 1) & MAX_SEQUENCE
            self.last_message_type = payload[0]
            return payload[0], message

    # What bulk channels call.

    def divert(self, channel_id: int, sink: Sink | None) -> None:
        """Hand what arrives for our channel `channel_id` straight to `sink`; None ends it."""
        if sink is None:
            self._sinks.pop(channel_id, None)
        else:
            self._sinks[channel_id] = sink

    def _divert(self, payload: memoryview) -> bool:
        """Hand a channel's packet to its sink, if it has one."""
        if len(payload) < _CHANNEL_PACKET.size:
            raise SSHException("the server sent a channel packet that is too short")
        kind, channel_id, number = _CHANNEL_PACKET.unpack_from(payload)
        sink = self._sinks.get(channel_id)
        if sink is None:
            return False
        if sink is not self._listener:
            self._hand_over()
            self._listener = sink
            self._talking.add(sink)
        if kind == _CHANNEL_WINDOW_ADJUST:
            sink.take_window(number)
            return True
        data = payload[_CHANNEL_PACKET.size :]
        if len(data) != number:
            raise SSHException("the server sent a channel packet whose lengths do not agree")
        if number <= SMALL_DATA_BYTES:
            self._small_data.append(bytes(data))
        else:
            self._hand_over()
            sink.take_data(data)
        return True

    def _hand_over(self) -> None:
        """Give the small data that has been put aside to the channel that it is for."""
        if self._small_data and self._listener is not None:
            data = b"".join(self._small_data)
            self._small_data.clear()
            self._listener.take_data(memoryview(data))

    def _tell_pause(self) -> None:
        """Nothing complete is left to read: whoever wants to answer many packets at once does it now."""
        self._hand_over()
        self._listener = None
        self._talking = {sink for sink in self._talking if sink.take_pause()}

    @property
    def departed_bytes(self) -> int:
        """How many bytes have left this machine for good: written, and acknowledged by TCP where the system tells that.

        Without those of keepalives, which leave whatever has become of the program on the other side. A tunnel tells how
        many have left it.
        """
        if hasattr(self._socket, "departed_bytes"):
            return int(self._socket.departed_bytes) - self._keepalive_bytes
        waiting = bytes(4)
        try:
            if self._is_tcp:
                waiting = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, waiting)
        except (OSError, ValueError):
            pass  # it is closed
        return self._written_bytes - self._keepalive_bytes - int.from_bytes(waiting, sys.byteorder)

    def send_channel_data(self, remote_channel_id: int, pieces: Sequence[memoryview]) -> None:
        """Send pieces of data, each in a packet of its own, all in one system call."""
        head = bytes([_CHANNEL_DATA]) + remote_channel_id.to_bytes(4, "big")
        with self._send_lock:
            self._send_payloads([(head, len(piece).to_bytes(4, "big"), piece) for piece in pieces])

    def _send_payloads(self, payloads: Sequence[Payload]) -> None:
        end, space = 0, self._send_buffer
        if self.closed:
            raise EOFError
        for payload in payloads:
            needed = sum(map(len, payload)) + PACKET_OVERHEAD_BYTES
            if end + needed > SEND_BUFFER_BYTES:
                self._write(space[:end])
                end = 0
            if needed > SEND_BUFFER_BYTES:
                raise SSHException(f"a packet of {needed:,} bytes is too large to be sent")
            end += self._outbound.seal_into(space[end:], payload, self._sequence_out)
            self._sequence_out = self._next_sequence(self._sequence_out)
            self._sent_bytes += needed
        self._write(space[:end])
        self._sent_packets += len(payloads)
        if self._sent_bytes >= REKEY_BYTES or self._sent_packets >= REKEY_PACKETS:
            self._needs_rekey = True

    def _read_payload(self) -> memoryview:
        """The next packet's payload; the view is valid until the next call."""
        limit = MAX_PACKET_BYTES if self.is_logged_in else MAX_PACKET_BYTES_BEFORE_LOGIN
        while (opened := self._inbound.open(self._view[self._start : self._end], self._sequence_in, limit)) is None:
            self._tell_pause()
            self._receive_some()
        payload, consumed_bytes = opened
        self._start += consumed_bytes
        self._sequence_in = self._next_sequence(self._sequence_in)
        self._received_bytes += consumed_bytes
        self._received_packets += 1
        if self._received_bytes >= REKEY_BYTES or self._received_packets >= REKEY_PACKETS:
            self._needs_rekey = True
        return payload

    def _receive_some(self) -> bool:
        """Wait a moment for bytes, and look after what is due meanwhile. False if none came. Raises `EOFError`."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end > RECEIVE_BUFFER_BYTES - MAX_PACKET_BYTES:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        try:
            count = int(self._socket.recv_into(self._view[self._end :]))
        except TimeoutError:
            self._while_idle()
            return False
        except OSError as error:
            raise EOFError from error
        if count == 0:
            raise EOFError
        self._end += count
        self._last_received = time.monotonic()
        self._keepalives_unanswered = 0
        if count < SMALL_RECEIVE_BYTES and _QUICK_ACKNOWLEDGEMENT is not None and self._is_tcp:
            # The kernel forgets the setting by itself. Without it OpenSSH's next small answer is 40 ms late.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)
        return True

    def _while_idle(self) -> None:
        if self.closed or self.handshake_timed_out():
            raise EOFError
        if self._needs_rekey and not self._has_told_rekey and self._start == self._end:
            self._has_told_rekey = True
            raise paramiko.packet.NeedRekeyException
        self._keep_alive()

    def _keep_alive(self) -> None:
        """After some silence ask for an answer; when several stay out, the server is dead, whatever TCP believes."""
        if not self._keepalive_seconds or not self.is_logged_in or self._needs_rekey:
            return
        silent_seconds = time.monotonic() - self._last_received
        if silent_seconds < self._keepalive_seconds * (self._keepalives_unanswered + 1):
            return
        if self._keepalives_unanswered >= MAX_SILENT_KEEPALIVES:
            raise EOFError
        self._keepalives_unanswered += 1
        # A sender that is stuck holds the lock. Reading must go on all the same: it may be what the sender waits for.
        if self._send_lock.acquire(blocking=False):
            self._keepalive_bytes += KEEPALIVE_BYTES
            try:
                self._send_payloads([(_KEEPALIVE,)])
            finally:
                self._send_lock.release()

    def _next_sequence(self, sequence: int) -> int:
        following = (sequence + 1) & MAX_SEQUENCE
        if following == 0 and not self._initial_kex_done:
            raise SSHException("the sequence number rolled over during the first key exchange")
        return following

    def _note_renewal(self, direction: int) -> None:
        """Both directions must have new keys before the next renewal may be asked for."""
        self._renewed_directions |= direction
        if self._renewed_directions == 3:
            self._renewed_directions = 0
            self._needs_rekey = self._has_told_rekey = False
