"""How much a server may send on a channel before it is told to go on (RFC 4254 section 5.2).

A window that is smaller than rate times round trip slows a server down, so that it is as wide as it may be where much is
to come. Where the line is short and only small answers are due, a narrow one is better: a server's sshd is woken for each
answer of its SFTP program and sends a packet for it, as long as the window is open. Once it is used up, what is answered
until the server hears from us comes in one packet. With small files this saves the server a third of its work. That is so
with OpenSSH; some others send nothing when the window is too small for a whole answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

RECEIVE_WINDOW_BYTES = 32 * 1024 * 1024
# One that is no wider is narrow: it is opened again when it is used up.
NARROW_WINDOW_BYTES = 16 * 1024
# A wide one is opened well before.
REPLENISH_BYTES = 4 * 1024 * 1024

# A channel that was opened in this time is taken to have a short line at first; a busy server needs some milliseconds even
# on loopback. One answer in the time below proves it; after so many that were slower the line is taken for a long one.
SHORT_OPENING_SECONDS = 0.01
SHORT_ANSWER_SECONDS = 0.002
SLOW_ANSWERS = 4


class TooMuchSent(Exception):
    """The server has sent what it had no room for."""


class ReceiveWindow:
    """The window of one channel. One thread receives, any thread may open it, one at a time."""

    def __init__(self, width_bytes: int, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """The server knows of `width_bytes` already.

        One that overruns a narrow window is borne with up to `most_bytes`: it is narrow for the sake of speed alone.
        """
        self._clock = clock
        self._most_bytes = most_bytes
        self._forgiven_bytes = most_bytes - width_bytes
        self._allowed_bytes = width_bytes
        self._received_bytes = 0
        # When it was opened after it had been used up, so that what comes next is the answer.
        self._opened_at_seconds: float | None = None
        self._slow_answers = 0
        self._is_line_short = self._is_kept_wide = False
        self._wanted_bytes = width_bytes

    def set_width(self, width_bytes: int) -> None:
        """How far the server may be ahead from now on, unless the window is kept wide.

        Less than before shows only when what the server has been allowed is used up.
        """
        self._wanted_bytes = width_bytes

    def keep_wide(self) -> None:
        """For good: the server must never wait for a word from us."""
        self._is_kept_wide = True

    @property
    def width_bytes(self) -> int:
        """How far the server may be ahead."""
        return self._most_bytes if self._is_kept_wide else self._wanted_bytes

    @property
    def _low_bytes(self) -> int:
        """How much is open when it is time to open more."""
        width = self.width_bytes
        return 0 if width <= NARROW_WINDOW_BYTES else width - min(REPLENISH_BYTES, width // 2)

    @property
    def open_bytes(self) -> int:
        """How much the server may send now."""
        return self._allowed_bytes - self._received_bytes

    def note_received(self, count_bytes: int) -> None:
        """So much has come. Raises `TooMuchSent`."""
        self._received_bytes += count_bytes
        if self._allowed_bytes - self._received_bytes < -self._forgiven_bytes:
            raise TooMuchSent
        if self._opened_at_seconds is not None:
            self._is_line_short = self._clock() - self._opened_at_seconds <= SHORT_ANSWER_SECONDS
            self._opened_at_seconds = None
            self._slow_answers += 1
            if self._slow_answers >= SLOW_ANSWERS and not self._is_line_short:
                self.keep_wide()

    @property
    def is_low(self) -> bool:
        """Whether it may be time to open it again; `due_bytes` tells."""
        return self._allowed_bytes - self._received_bytes <= self._low_bytes

    def due_bytes(self, unread_bytes: int) -> int:
        """By how much to open it now. What has come and nobody has read yet takes up room."""
        return self.room_bytes(unread_bytes) if self.open_bytes + unread_bytes <= self._low_bytes else 0

    def room_bytes(self, unread_bytes: int) -> int:
        """By how much it could be opened."""
        return max(0, self.width_bytes - self.open_bytes - unread_bytes)

    def open(self, count_bytes: int) -> None:
        """The server is told that it may send so much more."""
        if self.open_bytes <= 0 and not (self._is_kept_wide or self._is_line_short):
            self._opened_at_seconds = self._clock()
        self._allowed_bytes += count_bytes
