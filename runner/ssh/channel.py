"""One channel of a connection, as the protocols above it want it: bytes in by callback, bytes out under a stall timeout.

Data is handed over in the transport's own thread, without the copy, the lock and the wake-up that a reader on the other
side of paramiko's buffer would cost. That thread must never send: during a key re-exchange it would wait for itself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import ConnectionLost, ConnectTimedOut, Stalled

MAX_STDERR_BYTES = 4096
FINISH_REQUEST_SECONDS = 2.0


class _Inbox:
    """Takes the place of a channel's `BufferedPipe`, so that nothing is buffered twice.

    Standard output does not even come here: the packetizer hands it over before.
    """

    def __init__(self, on_end: Callable[[], None], on_data: Callable[[bytes], None] | None = None) -> None:
        self._on_end = on_end
        self._on_data = on_data

    def feed(self, data: bytes) -> None:
        if self._on_data is not None:
            self._on_data(data)

    def close(self) -> None:
        self._on_end()

    def __len__(self) -> int:
        return 0


class Channel:
    """A byte stream to one program or subsystem on the server."""

    def __init__(
        self, raw: paramiko.Channel, peer: str, stall_timeout_seconds: float, cancellation: Cancellation
    ) -> None:
        self._raw: Any = raw
        self._peer = peer
        self._stall_timeout_seconds = stall_timeout_seconds
        self._cancellation = cancellation
        self._arrival = threading.Condition()
        self._on_data: Callable[[memoryview], None] = lambda data: None
        self._stderr = bytearray()
        self._received_bytes = 0
        self._replenished_bytes = 0
        self._last_received = time.monotonic()
        # Set when the server has sent its last byte of output.
        self.has_ended = False
        raw.settimeout(POLL_SECONDS)
        self._raw.in_buffer = _Inbox(self._end)
        raw.transport.packetizer.divert(raw.chanid, self._receive)
        self._raw.in_stderr_buffer = _Inbox(self._end, self._receive_stderr)

    def listen(self, on_data: Callable[[memoryview], None]) -> None:
        """Have the server's bytes handed to `on_data`. Call it before the program or subsystem is started.

        It is called in the transport's thread while `wait_until` stands still; it must be quick and must not send. The
        view is valid during the call only.
        """
        self._on_data = on_data

    def wait_until(self, is_ready: Callable[[], bool], deadline: Deadline | None = None) -> None:
        """Wait until something that arrives, or the channel's end, has made `is_ready` true.

        Raises `Stalled` after `stall_timeout` of silence and `Interrupted` on a signal; with a deadline,
        `ConnectTimedOut` then and not before, since a session that is being set up answers to `connect_timeout`.
        """
        started = time.monotonic()
        while True:
            # Before every look, since what is waited for may be behind more data than the window has room for.
            self._replenish_window()
            with self._arrival:
                if is_ready():
                    return
                self._cancellation.check()
                silent_since = max(started, self._last_received)
                if deadline is not None and deadline.has_passed:
                    raise self._timed_out()
                if deadline is None and time.monotonic() - silent_since > self._stall_timeout_seconds:
                    raise self.stalled()
                self._arrival.wait(POLL_SECONDS)

    def start_subsystem(self, name: str) -> None:
        """Start a subsystem. Raises `paramiko.SSHException` if the server refuses."""
        self._raw.invoke_subsystem(name)

    def start_command(self, command: bytes) -> None:
        """Start a command. Raises `paramiko.SSHException` if the server refuses."""
        self._raw.exec_command(command)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of `data`. Raises `Stalled`, `ConnectionLost` or `Interrupted`.

        A signal is obeyed before the first byte. After it the rest is given a few seconds to go out: what the protocol
        above sends next, to clean up, would be unreadable behind half a request.
        """
        self._cancellation.check()
        view = memoryview(data)
        last_progress = time.monotonic()
        grace: Deadline | None = None
        while view:
            granted_bytes = self._take_window(len(view))
            if not granted_bytes:
                if time.monotonic() - last_progress > self._stall_timeout_seconds:
                    raise self.stalled()
                if self._cancellation.is_requested:
                    grace = grace or Deadline.after(FINISH_REQUEST_SECONDS)
                    if grace.has_passed:
                        self.close()
                        self._cancellation.check()
                continue
            self._send_packets(view[:granted_bytes])
            last_progress = time.monotonic()
            view = view[granted_bytes:]

    def _take_window(self, wanted_bytes: int) -> int:
        """How many bytes the server will take now, which are then ours to send; 0 after a moment without any room."""
        raw = self._raw
        with raw.lock:
            if raw.out_window_size == 0 and not raw.closed:
                raw.out_buffer_cv.wait(POLL_SECONDS)
            if raw.closed or raw.eof_sent:
                raise self.lost()
            granted = min(wanted_bytes, raw.out_window_size)
            raw.out_window_size -= granted
            return int(granted)

    def _send_packets(self, data: memoryview) -> None:
        """Send data for which there is room, in packets of the size the server takes, all of them at once."""
        raw, transport = self._raw, self._raw.transport
        size = raw.out_max_packet_size
        pieces = [data[offset : offset + size] for offset in range(0, len(data), size)]
        while True:
            # While keys are exchanged nothing else may be sent (RFC 4253 section 7.1).
            transport.clear_to_send.wait(POLL_SECONDS)
            if not transport.active:
                raise self.lost()
            with transport.clear_to_send_lock:
                if not transport.clear_to_send.is_set():
                    continue
                try:
                    transport.packetizer.send_channel_data(raw.remote_chanid, pieces)
                except (OSError, EOFError, paramiko.SSHException) as error:
                    raise self.lost() from error
                return

    def _replenish_window(self) -> None:
        """Let the server send as much again as has been received. Never called in the transport's thread."""
        count = self._received_bytes - self._replenished_bytes
        if count == 0:
            return
        self._replenished_bytes += count
        acknowledged = self._raw._check_add_window(count)
        if acknowledged > 0:
            message = paramiko.Message()
            message.add_byte(paramiko.common.cMSG_CHANNEL_WINDOW_ADJUST)
            message.add_int(self._raw.remote_chanid)
            message.add_int(acknowledged)
            self._raw.transport._send_user_message(message)

    def finish_sending(self) -> None:
        """Tell the server that nothing more will come."""
        try:
            self._raw.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self.lost() from error

    @property
    def exit_status(self) -> int | None:
        """The command's exit status, None as long as it has not arrived."""
        return int(self._raw.exit_status) if self._raw.exit_status_ready() and self._raw.exit_status >= 0 else None

    @property
    def stderr_text(self) -> str:
        """The beginning of what the command wrote to its standard error."""
        return bytes(self._stderr).decode("utf-8", "replace").strip()

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the channel: after that not even an exit status comes."""
        return bool(self._raw.closed)

    def close(self) -> None:
        """Close the channel; never raises."""
        self._raw.transport.packetizer.divert(self._raw.chanid, None)
        try:
            self._raw.close()
        except (OSError, EOFError, paramiko.SSHException):
            pass

    def lost(self) -> ConnectionLost:
        """The error for a connection that broke off."""
        saved = self._raw.transport.saved_exception
        reason = f": {saved}" if isinstance(saved, socket.error | paramiko.SSHException) else ""
        return ConnectionLost(
            f"the connection to {self._peer} broke off{reason}",
            hint="The server ended the session, or the network failed; the server's log tells which.",
        )

    def stalled(self) -> Stalled:
        """The error for a connection without progress."""
        return Stalled(
            f"{self._peer} has not answered for {self._stall_timeout_seconds:g} s (stall_timeout)",
            hint="The server or the network hangs. Raise 'stall_timeout' if it is known to pause that long.",
        )

    def _timed_out(self) -> ConnectTimedOut:
        return ConnectTimedOut(
            f"{self._peer} did not answer within connect_timeout: waited for the first answer of the program it started",
            hint="The sftp-server or scp program on the server hangs.",
        )

    def _receive(self, data: memoryview) -> None:
        with self._arrival:
            self._last_received = time.monotonic()
            self._received_bytes += len(data)
            self._on_data(data)
            self._arrival.notify_all()

    def _receive_stderr(self, data: bytes) -> None:
        self._received_bytes += len(data)
        self._stderr += data[: MAX_STDERR_BYTES - len(self._stderr)]

    def _end(self) -> None:
        with self._arrival:
            self.has_ended = True
            self._arrival.notify_all()
