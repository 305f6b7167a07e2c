"""Hands out one-time codes, each time window's code once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runner.one_time_codes import CodeGenerator

# Servers take each code once (RFC 6238 section 5.2), whichever connection it comes by, and two servers may share what they
# have seen. So this is known of the whole process: by key, the last window whose code was given away.
_last_windows: dict[bytes, int] = {}
_lock = threading.Lock()


def take_code(generator: CodeGenerator, wait: Callable[[float], bool]) -> tuple[str, float]:
    """A code that has not been given to any server, and 0; or, if it cannot be waited for, no code and when there is one.

    `wait` waits for so many seconds, or returns False at once or early if there is no such time.
    """
    while True:
        with _lock:
            now = time.time()
            window = generator.window_at(now)
            last = _last_windows.get(generator.key)
            if last is None or window > last:
                _last_windows[generator.key] = window
                return generator.make_code(window), 0.0
        seconds = (last + 1) * generator.period_seconds - now
        if not wait(seconds):
            return "", seconds
