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
FINISH_REQUEST_SECONDS = 5.0


class _Inbox:
    """Takes the place of a channel's `BufferedPipe`: what arrives goes straight to whoever listens."""

    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.feed = on_data
        self._on_end = on_end

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
        self._on_data: Callable[[bytes], None] = lambda data: None
        self._stderr = bytearray()
        self._received_bytes = 0
        self._replenished_bytes = 0
        self._last_received = time.monotonic()
        # Set when the server has sent its last byte of output.
        self.has_ended = False
        raw.settimeout(POLL_SECONDS)
        self._raw.in_buffer = _Inbox(self._receive, self._end)
        self._raw.in_stderr_buffer = _Inbox(self._receive_stderr, self._end)

    def listen(self, on_data: Callable[[bytes], None]) -> None:
        """Have the server's bytes handed to `on_data`. Call it before the program or subsystem is started.

        It is called in the transport's thread while `wait_until` stands still; it must be quick and must not send.
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
            try:
                sent = self._raw.send(view)
            except TimeoutError as error:
                if time.monotonic() - last_progress > self._stall_timeout_seconds:
                    raise self.stalled() from error
                if self._cancellation.is_requested:
                    grace = grace or Deadline.after(FINISH_REQUEST_SECONDS)
                    if grace.has_passed:
                        self.close()
                        self._cancellation.check()
                continue
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self.lost() from error
            if sent == 0:
                raise self.lost()
            last_progress = time.monotonic()
            view = view[sent:]

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

    def _receive(self, data: bytes) -> None:
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
