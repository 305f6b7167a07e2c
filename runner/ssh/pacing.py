"""Holds a connection to `bandwidth_limit`: a bucket of tokens for each direction, one token a byte.

Upwards, what is sent is taken from the bucket before. Downwards nobody can take before the server sends; but it sends no
more than the channel's window allows, so the window is never opened wider than what the bucket holds, and what comes is
spent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# How much of the rate may be saved up while nothing is sent: what passes in any span is the span's worth and this much more.
SAVED_SECONDS = 0.25
# A low rate must not mean packets of a few bytes.
MIN_DEPTH_BYTES = 1024
MAX_GRAIN_BYTES = 32 * 1024
# How often whoever waits looks up. Well within what may be saved up, so that nothing is lost.
LOOK_UP_SECONDS = 0.05


class Bucket:
    """Fills at a steady rate, up to its depth. Any thread may use it."""

    def __init__(self, bytes_per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self.depth_bytes = max(MIN_DEPTH_BYTES, int(bytes_per_second * SAVED_SECONDS))
        # Less than this is not worth a packet, unless there is no more to send.
        self.grain_bytes = min(MAX_GRAIN_BYTES, self.depth_bytes // 4)
        self._level = float(self.depth_bytes)
        self._filled_at = clock()

    @property
    def level_bytes(self) -> int:
        """How much is in the bucket; below zero if more has been spent."""
        with self._lock:
            return int(self._fill())

    def take(self, wanted_bytes: int) -> int:
        """Take what is there, at most `wanted_bytes`. Returns how much; 0 rather than a crumb."""
        with self._lock:
            level = int(self._fill())
            if level < min(wanted_bytes, self.grain_bytes):
                return 0
            taken = min(wanted_bytes, level)
            self._level -= taken
            return taken

    def spend(self, count_bytes: int) -> None:
        """Take so much, whether it is there or not."""
        with self._lock:
            self._level = self._fill() - count_bytes

    def seconds_until(self, wanted_bytes: int) -> float:
        """How long it takes until `take` gives something."""
        with self._lock:
            missing = min(wanted_bytes, self.grain_bytes) - self._fill()
            return max(0.0, missing / self._bytes_per_second)

    def _fill(self) -> float:
        now = self._clock()
        gained = (now - self._filled_at) * self._bytes_per_second
        self._level = min(float(self.depth_bytes), self._level + gained)
        self._filled_at = now
        return self._level


class Pace:
    """The limited rate of one connection, which all its channels share."""

    def __init__(self, bytes_per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.up = Bucket(bytes_per_second, clock)
        self.down = Bucket(bytes_per_second, clock)
        self._open_windows: list[Callable[[], None]] = []

    @property
    def piece_bytes(self) -> int:
        """The most that a protocol should send or ask for in one request: one that is half sent must be finished soon."""
        return self.up.depth_bytes // 4

    def join(self, open_window: Callable[[], None]) -> None:
        """A new channel; `open_window` lets the server send on what the bucket allows."""
        self._open_windows.append(open_window)

    def leave(self, open_window: Callable[[], None]) -> None:
        """A channel is closed."""
        if open_window in self._open_windows:
            self._open_windows.remove(open_window)

    def open_windows(self) -> None:
        """Let the server send on, on every channel: nobody may be waiting for some of them."""
        for open_window in tuple(self._open_windows):
            open_window()
