"""One channel of a connection, as the protocols above it want it: bytes in by callback, bytes out under a stall timeout.

Data is handed over in the transport's own thread, without the copy, the lock and the wake-up that a reader on the other
side of paramiko's buffer would cost. That thread must never wait to send: during a key re-exchange it would wait for
itself. It may only use `send_some`, which sends what can go at once.
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
from runner.ssh.pacing import LOOK_UP_SECONDS, Pace
from runner.ssh.window import RECEIVE_WINDOW_BYTES, REPLENISH_BYTES, ReceiveWindow, TooMuchSent

# What is kept of a command's complaints, and what nobody complains beyond: to take it would look like progress for ever.
MAX_STDERR_BYTES = 4096
# Of what a command complains of, so much is told.
MAX_STDERR_CHARACTERS = 500
MAX_STDERR_TOTAL_BYTES = 1024 * 1024
FINISH_REQUEST_SECONDS = 2.0
# After such a silence a narrow window is widened, in case it is the reason.
PATIENCE_SECONDS = 0.1
MAX_PIECE_BYTES = 1024 * 1024
# OpenSSH gives room for 32 to 96 KiB at a time. Waking up for each to send as little costs a tenth more of our CPU.
WORTHWHILE_ROOM_BYTES = 512 * 1024


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
        self,
        raw: paramiko.Channel,
        peer: str,
        stall_timeout_seconds: float,
        cancellation: Cancellation,
        pace: Pace | None = None,
    ) -> None:
        self._raw: Any = raw
        self._pace = pace
        self._poll_seconds = POLL_SECONDS if pace is None else LOOK_UP_SECONDS
        self._peer = peer
        self._stall_timeout_seconds = stall_timeout_seconds
        self._cancellation = cancellation
        self._arrival = threading.Condition()
        self._on_data: Callable[[memoryview], bool] = lambda data: False
        self._unread_bytes: Callable[[], int] | None = None
        # Called in the transport's thread when the server has room for much more; it may only `send_some`.
        self.on_room: Callable[[], None] | None = None
        # Called there when everything that has come so far has been handed over.
        self.on_pause: Callable[[], None] | None = None
        # Called there when nothing more will come.
        self.on_end: Callable[[], None] | None = None
        # Whether what was handed over still lies somewhere, until `note_consumed` is told that it does not.
        self.is_consumed_later = False
        self._stderr = bytearray()
        self._stderr_total_bytes = 0
        # The most room that there has been. Some servers have little at their best, and give it back late.
        self._largest_room_bytes: int = raw.out_window_size
        # How much more the server has made room for since the beginning.
        self.granted_bytes = 0
        width_bytes: int = raw.in_window_size
        self._window = ReceiveWindow(
            width_bytes, width_bytes if pace is not None else max(width_bytes, RECEIVE_WINDOW_BYTES)
        )
        # Somebody else was sending when it was time to open the window: whoever it is opens it afterwards.
        self._is_opening_due = False
        self._last_progress = time.monotonic()
        # Set when the server has sent its last byte of output.
        self.has_ended = False
        raw.transport.packetizer.give_up_writing_after_seconds = stall_timeout_seconds
        self._raw.in_buffer = _Inbox(self._end)
        raw.transport.packetizer.divert(raw.chanid, self)
        self._raw.in_stderr_buffer = _Inbox(self._end, self._receive_stderr)
        # paramiko would hold back what is less than a tenth of the window.
        self._raw.in_window_threshold = 0
        # With a limit, less than this is not worth a packet.
        self._grain_bytes = min(REPLENISH_BYTES, width_bytes // 8)
        if pace is not None:
            pace.join(self._replenish_window)

    @property
    def piece_bytes(self) -> int:
        """The most that a protocol should send or ask for in one request; little on a connection with a low limit."""
        return MAX_PIECE_BYTES if self._pace is None else min(MAX_PIECE_BYTES, self._pace.piece_bytes)

    def listen(self, on_data: Callable[[memoryview], bool], unread_bytes: Callable[[], int] | None = None) -> None:
        """Have the server's bytes handed to `on_data`. Call it before the program or subsystem is started.

        It is called in the transport's thread and must be quick. The view is valid during the call only. It returns
        whether there is something new for whoever stands in `wait_until`.

        Who keeps bytes to read them later tells with `unread_bytes` how many these are, and calls `note_read`: the server
        may not send more than a window beyond what has been read.
        """
        self._on_data, self._unread_bytes = on_data, unread_bytes

    def note_read(self) -> None:
        """Some of what was kept has been read: the server may send on. Raises what `Cancellation.check` raises."""
        self._cancellation.check()
        self._replenish_window()

    def open_window(self, width_bytes: int) -> None:
        """Let the server send so much ahead from now on, unless the window is kept wide, or the connection is limited."""
        if self._pace is None:
            self._window.set_width(width_bytes)
            self._replenish_window()

    def keep_window_wide(self) -> None:
        """Never narrow the window, and let the server send as far ahead as it may: it is far away, or no OpenSSH."""
        if self._pace is None:
            self._window.keep_wide()
            self._replenish_window()

    def wait_until(
        self,
        is_ready: Callable[[], bool],
        deadline: Deadline | None = None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until something that arrives, or the channel's end, has made `is_ready` true.

        `on_tick` is called ten times a second or more meanwhile, in the waiting thread.

        Raises `Stalled` after `stall_timeout` of silence and what `Cancellation.check` raises; with a deadline,
        `ConnectTimedOut` then and not before, since a session that is being set up answers to `connect_timeout`.
        """
        started = time.monotonic()
        departed_bytes: int | None = None
        while True:
            # Before every look, since what is waited for may be behind more data than the window has room for.
            if self._pace is None:
                self._replenish_window()
            else:
                self._pace.open_windows()
            with self._arrival:
                # Before the look: a server that has always sent something more must not be listened to for ever.
                self._cancellation.check()
                if is_ready():
                    return
                departed_bytes = self._note_departures(departed_bytes)
                silent_since = max(started, self._last_progress)
                if time.monotonic() - silent_since > PATIENCE_SECONDS:
                    # Some servers do not use up a window that is too small for their next answer.
                    self._window.keep_wide()
                if deadline is not None and deadline.has_passed:
                    raise self._timed_out()
                if deadline is None and time.monotonic() - silent_since > self._stall_timeout_seconds:
                    raise self.stalled()
                self._arrival.wait(self._poll_seconds)
            on_tick()

    def check(self) -> None:
        """Raise what `Cancellation.check` raises: for loops over bytes that have come and are not waited for."""
        self._cancellation.check()

    def _note_departures(self, before_bytes: int | None) -> int:
        """On a slow line an answer may take longer than `stall_timeout`, but our bytes leave meanwhile: that is progress."""
        departed_bytes: int = self._raw.transport.packetizer.departed_bytes
        if before_bytes is None or departed_bytes <= before_bytes:
            return departed_bytes if before_bytes is None else before_bytes
        self._last_progress = time.monotonic()
        return departed_bytes

    @property
    def was_refused(self) -> bool:
        """Whether the server has said that it does not start what was asked for."""
        return bool(getattr(self._raw, "was_refused", False))

    def note_consumed(self, count_bytes: int) -> None:
        """So much of what was handed over has been consumed: the server may send as much again. Any thread may say so."""
        if count_bytes:
            self._note_received(count_bytes)
        if self._window.is_low:
            self._replenish_window()

    def note_progress(self) -> None:
        """Something other than the server is waited for just now: its silence does not count."""
        self._last_progress = time.monotonic()

    def wake(self) -> None:
        """Have whoever stands in `wait_until` look again."""
        with self._arrival:
            self._arrival.notify_all()

    def start_subsystem(self, name: str) -> None:
        """Start a subsystem. Raises `paramiko.SSHException` if the server refuses."""
        self._raw.invoke_subsystem(name)

    def start_command(self, command: bytes) -> None:
        """Start a command. Raises `paramiko.SSHException` if the server refuses."""
        self._raw.exec_command(command)

    def send(self, data: bytes | memoryview, *, is_rest: bool = False) -> None:
        """Send all of `data`. Raises `Stalled`, `ConnectionLost` and what `Cancellation.check` raises.

        A signal or a limit is obeyed before the first byte. After it, and for the rest of what has been sent in part, a
        few seconds are given: what the protocol above sends next, to clean up, would be unreadable behind half a request.
        """
        if not is_rest:
            self._cancellation.check()
        view = memoryview(data)
        last_progress = time.monotonic()
        grace: Deadline | None = None
        while view:
            try:
                sent_bytes = self.send_some(view)
            except ConnectionLost:
                # It may have been cut because the end is due.
                self._cancellation.check()
                raise
            view = view[sent_bytes:]
            if sent_bytes:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > self._stall_timeout_seconds:
                raise self.stalled()
            if view and self._cancellation.is_due:
                grace = grace or Deadline.after(FINISH_REQUEST_SECONDS)
                if grace.has_passed or self._cancellation.is_urgent:
                    self.close()
                    self._cancellation.check()
            if not sent_bytes:
                self.wait_for_room(len(view))

    def send_some(self, data: memoryview) -> int:
        """Send as much as can go at once, and return how much that was.

        It is 0 while the server has no room, while the limit leaves none, while keys are exchanged, when nothing else may
        be sent (RFC 4253 section 7.1), and while another thread sends. Raises `ConnectionLost`.
        """
        raw, transport = self._raw, self._raw.transport
        if not transport.active or raw.closed or raw.eof_sent:
            raise self.lost()
        if not transport.clear_to_send.is_set() or not transport.clear_to_send_lock.acquire(blocking=False):
            return 0
        try:
            if not transport.clear_to_send.is_set():
                return 0
            with raw.lock:
                granted_bytes: int = min(len(data), raw.out_window_size)
                if self._pace is not None:
                    granted_bytes = self._pace.up.take(granted_bytes)
                raw.out_window_size -= granted_bytes
            size = raw.out_max_packet_size
            pieces = [data[at : min(at + size, granted_bytes)] for at in range(0, granted_bytes, size)]
            if pieces:
                transport.packetizer.send_channel_data(raw.remote_chanid, pieces)
            return granted_bytes
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self.lost() from error
        finally:
            transport.clear_to_send_lock.release()
            if self._is_opening_due:
                self._replenish_window()

    def wait_for_room(self, wanted_bytes: int) -> None:
        """Wait a moment for what kept `send_some` from sending."""
        raw = self._raw
        if self._pace is not None:
            self._pace.open_windows()
        with raw.lock:
            if raw.out_window_size == 0 and not raw.closed:
                raw.out_buffer_cv.wait(POLL_SECONDS)
                return
        pause_seconds = self._pace.up.seconds_until(wanted_bytes) if self._pace is not None else 0.0
        if pause_seconds:
            time.sleep(min(pause_seconds, POLL_SECONDS))
        elif raw.transport.clear_to_send.wait(POLL_SECONDS):
            # Another thread is sending; it will not take long.
            time.sleep(0.001)

    def _replenish_window(self) -> None:
        """Let the server send on, if it is time for that, and as far as the limit allows and it can be said at once."""
        while self._due_bytes():
            # Before it is tried: whoever keeps us from it looks when it is done.
            self._is_opening_due = True
            if not self._try_to_open_window() or not self._is_opening_due:
                return
        self._is_opening_due = False

    def _try_to_open_window(self) -> bool:
        """Whether nothing kept us from it: another thread that sends, or an exchange of keys."""
        transport = self._raw.transport
        if not transport.clear_to_send_lock.acquire(blocking=False):
            return False
        try:
            if not transport.clear_to_send.is_set() or not transport.active:
                return False
            self._is_opening_due = False
            count = self._due_bytes()
            if count == 0:
                return True
            self._window.open(count)
            acknowledged = self._raw._check_add_window(count)
            if acknowledged > 0:
                message = paramiko.Message()
                message.add_byte(paramiko.common.cMSG_CHANNEL_WINDOW_ADJUST)
                message.add_int(self._raw.remote_chanid)
                message.add_int(acknowledged)
                transport._send_message(message)
            return True
        except (OSError, EOFError, paramiko.SSHException):
            return False  # whoever waits will find the connection dead
        finally:
            transport.clear_to_send_lock.release()

    def _due_bytes(self) -> int:
        """By how much the window is to grow; on a limited connection by what its bucket holds."""
        unread_bytes = self._unread_bytes() if self._unread_bytes is not None else 0
        if self._pace is None:
            return self._window.due_bytes(unread_bytes)
        allowed_bytes = self._pace.down.level_bytes - self._window.open_bytes
        count = min(self._window.room_bytes(unread_bytes), allowed_bytes)
        return count if count >= self._grain_bytes else 0

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
        lines = bytes(self._stderr).decode("utf-8", "replace").splitlines()
        # An sshd in debug mode talks there as well.
        text = " ".join(line.strip() for line in lines if not line.startswith("debug")).strip()
        return text if len(text) <= MAX_STDERR_CHARACTERS else f"{text[:MAX_STDERR_CHARACTERS]}…"

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the channel: after that not even an exit status comes."""
        return bool(self._raw.closed)

    @property
    def is_ending(self) -> bool:
        """Whether we have closed the channel and the server has not: the program at its other end may still be there."""
        return self.is_closed and self._raw.transport._channels.get(self._raw.chanid) is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether the whole connection is gone, and not just this channel."""
        return not self._raw.transport.is_active()

    def close(self) -> None:
        """Close the channel; never raises. Its listener is released."""
        self._on_data, self._unread_bytes = lambda data: False, None
        self._raw.transport.packetizer.divert(self._raw.chanid, None)
        if self._pace is not None:
            self._pace.leave(self._replenish_window)
        try:
            self._raw.close()
        except (OSError, EOFError, paramiko.SSHException):
            pass

    def lost(self) -> ConnectionLost:
        """The error for a connection that broke off."""
        saved = self._raw.transport.saved_exception
        reason = f": {saved}" if isinstance(saved, socket.error | paramiko.SSHException) else ""
        lost = self._raw.transport.find_lost_hop()
        return ConnectionLost(
            f"the connection to {self._peer} broke off{f': {lost}' if lost else reason}",
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

    def take_data(self, data: memoryview) -> None:
        """Called by the packetizer with the channel's next bytes."""
        if not self.is_consumed_later:
            self._note_received(len(data))
        is_news = self._on_data(data)
        if is_news:
            with self._arrival:
                self._arrival.notify_all()

    def take_pause(self) -> bool:
        """Called by the packetizer when all that has come so far has been taken."""
        self._last_progress = time.monotonic()
        if self.on_pause is not None:
            self.on_pause()
        # Behind what has been sent just now: the server does that first, and has more to tell when it comes to this.
        if self._window.is_low:
            self._replenish_window()
        return self._is_opening_due

    def take_window(self, count_bytes: int) -> None:
        """Called by the packetizer when the server has room for more."""
        self.granted_bytes += count_bytes
        with self._raw.lock:
            self._raw.out_window_size += count_bytes
            room_bytes: int = self._raw.out_window_size
            self._raw.out_buffer_cv.notify_all()
        self._largest_room_bytes = max(self._largest_room_bytes, room_bytes)
        if self.on_room is not None and room_bytes >= min(WORTHWHILE_ROOM_BYTES, self._largest_room_bytes // 4):
            self.on_room()

    def _note_received(self, count_bytes: int) -> None:
        try:
            self._window.note_received(count_bytes)
        except TooMuchSent as error:
            raise paramiko.SSHException("the server sent more than it had been given room for") from error
        if self._pace is not None:
            self._pace.down.spend(count_bytes)

    def _receive_stderr(self, data: bytes) -> None:
        self._note_received(len(data))
        self._stderr_total_bytes += len(data)
        if self._stderr_total_bytes > MAX_STDERR_TOTAL_BYTES:
            raise paramiko.SSHException("a command on the server complains without end")
        self._stderr += data[: MAX_STDERR_BYTES - len(self._stderr)]
        # The packetizer, which does not see what goes this way, calls no pause.
        if self._window.is_low:
            self._replenish_window()

    def _end(self) -> None:
        with self._arrival:
            self.has_ended = True
            self._arrival.notify_all()
        if self.on_end is not None:
            self.on_end()
