"""Waits until something is on the server, or is there no more: `wait_for`.

Between two looks the session is idle, and a server may close it, as something on the way may: the next look then has a
fresh one. Where that cannot be had either, the step has lost its host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from runner.cancellation import POLL_SECONDS, Deadline
from runner.errors import FileRefused, NotInTime, StepTimedOut, UnreachableError
from runner.operation_results import Wait
from runner.plan import WaitForPath
from runner.transfer.context import Surroundings
from runner.transfer.globs import Found, find_matching, is_glob
from runner.transfer.listing import to_entry

# Of what was there when the time was up, so many are named.
_MAX_NAMED = 3


def wait_for_path(mode: WaitForPath, around: Surroundings) -> Wait:
    """Look every few seconds until it is as the step wants it; with --check look once.

    Raises `NotInTime` when the time is up, a `StepError` if the server does not let it be looked at, an
    `UnreachableError` if the session is gone and no other can be had, and `Interrupted`.
    """
    watch = _Watch(mode)
    started_seconds = time.monotonic()
    deadline = Deadline.after(mode.timeout_seconds)
    while True:
        found, around = _look(mode, around)
        now = time.monotonic()
        is_met = watch.is_met(found, now, around.peer)
        if is_met or around.is_check:
            return _describe(mode, found, now - started_seconds, is_met=is_met, is_check=around.is_check)
        if deadline.has_passed:
            raise _not_in_time(mode, watch, found, around.peer)
        pause_seconds = min(watch.choose_pause(found, now), deadline.remaining_seconds)
        _sleep(pause_seconds, around.cancellation.check)


class _Watch:
    """What was seen so far, for what has to stay as it is for a while."""

    def __init__(self, mode: WaitForPath) -> None:
        self._mode = mode
        self._seen: dict[str, tuple[int | None, int | None]] = {}
        self._since_seconds = 0.0

    def is_met(self, found: Found, now_seconds: float, peer: str) -> bool:
        """Whether it is as the step wants it."""
        mode = self._mode
        if mode.state == "absent":
            return not found
        if mode.state == "settled":
            self._note(found, now_seconds, peer)
        if self.count(found) < mode.min_files:
            return False
        return mode.state == "present" or self._left_seconds(now_seconds) <= 0

    def count(self, found: Found) -> int:
        """How many of those that were found are large enough."""
        least = self._mode.min_size_bytes
        if least is None:
            return len(found)
        return sum(1 for status in found.values() if status.is_regular and (status.size_bytes or 0) >= least)

    def choose_pause(self, found: Found, now_seconds: float) -> float:
        """Seconds until the next look: sooner than usual if what is there may have settled by then."""
        mode = self._mode
        if mode.state != "settled" or self.count(found) < mode.min_files:
            return mode.every_seconds
        return min(mode.every_seconds, self._left_seconds(now_seconds))

    def _left_seconds(self, now_seconds: float) -> float:
        """How long what was found still has to stay as it is."""
        return self._since_seconds + self._mode.settle_seconds - now_seconds

    def _note(self, found: Found, now_seconds: float, peer: str) -> None:
        seen = {path: (status.size_bytes, status.modified_at_seconds) for path, status in found.items()}
        untold = next((path for path, known in seen.items() if known == (None, None)), None)
        if untold is not None:
            raise FileRefused(
                f"{peer} tells neither size nor time of {untold!r}, so that it cannot be seen whether it changes",
                hint="'state: present' waits until it is there.",
            )
        if seen != self._seen:
            self._seen, self._since_seconds = seen, now_seconds


def _look(mode: WaitForPath, around: Surroundings) -> tuple[Found, Surroundings]:
    """What is there now, and the context that goes on: with a fresh session if the old one was closed while idle."""
    follow = mode.state != "absent"
    try:
        return find_matching(mode.path, around, follow=follow), around
    except StepTimedOut:
        raise
    except UnreachableError:
        if around.reconnect is None:
            raise
        around = replace(around, remote=around.reconnect())
        return find_matching(mode.path, around, follow=follow), around


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    deadline = Deadline.after(seconds)
    while not deadline.has_passed:
        check()
        time.sleep(min(POLL_SECONDS, deadline.remaining_seconds))
    check()


def _describe(mode: WaitForPath, found: Found, waited_seconds: float, *, is_met: bool, is_check: bool) -> Wait:
    what = _tell_found(mode, found)
    message = what if is_met else f"would wait until {_tell_wanted(mode)}: {what}"
    if is_met and mode.state == "settled":
        message = f"{what}, unchanged for {mode.settle_seconds:g} s"
    sizes = [status.size_bytes for status in found.values()]
    return Wait(
        message=message,
        path=mode.path,
        state=mode.state,
        met=is_met,
        waited_seconds=waited_seconds,
        size_bytes=sizes[0] if len(sizes) == 1 and not is_glob(mode.path) else None,
        entries=tuple(to_entry(path, status) for path, status in found.items()),
    )


def _not_in_time(mode: WaitForPath, watch: _Watch, found: Found, peer: str) -> NotInTime:
    there = _tell_found(mode, found)
    if mode.state != "absent" and found:
        there = f"{watch.count(found)} of {len(found)} count" if watch.count(found) != len(found) else there
        if mode.state == "settled" and watch.count(found) >= mode.min_files:
            there = f"{there}, and something still changes"
    names = ", ".join(map(repr, list(found)[:_MAX_NAMED]))
    named = f" ({names}{', …' if len(found) > _MAX_NAMED else ''})" if names else ""
    return NotInTime(
        f"waited {mode.timeout_seconds:g} s on {peer} until {_tell_wanted(mode)}: {there}{named}",
        hint="Raise 'timeout' if it may take longer. Relative paths start at the login directory.",
    )


def _tell_wanted(mode: WaitForPath) -> str:
    if mode.state == "absent":
        return f"{mode.path!r} is gone"
    files = f"{mode.min_files:,} paths match" if mode.min_files > 1 else "there is"
    wanted = f"{files} {mode.path!r}"
    if mode.min_size_bytes is not None:
        wanted = f"{wanted} with at least {mode.min_size_bytes:,} bytes"
    return f"{wanted}, unchanged for {mode.settle_seconds:g} s" if mode.state == "settled" else wanted


def _tell_found(mode: WaitForPath, found: Found) -> str:
    if not is_glob(mode.path):
        return "is there" if found else "is not there"
    if not found:
        return "nothing matches"
    return f"{len(found):,} {'path matches' if len(found) == 1 else 'paths match'}"
