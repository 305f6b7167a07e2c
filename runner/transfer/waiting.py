"""Waits until something is on the server, or is there no more: `wait_for`.

Between two looks the session is idle, and a server may close it, as something on the way may: the next look then has a
fresh one. Where that cannot be had either, the step has lost its host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from runner.cancellation import POLL_SECONDS, Deadline
from runner.errors import FileRefused, StepTimedOut, UnreachableError, WaitTimedOut
from runner.operation_results import Wait
from runner.plan import WaitForPath
from runner.transfer.context import CopyContext
from runner.transfer.globs import Found, find_matching, is_glob
from runner.transfer.listing import to_entry

# Of what was there when the time was up, so many are named.
_MAX_NAMED = 3


def wait_for_path(mode: WaitForPath, context: CopyContext) -> Wait:
    """Look every few seconds until it is as the step wants it; with --check look once.

    Raises `WaitTimedOut` when the time is up, a `StepError` if the server does not let it be looked at, an
    `UnreachableError` if the session is gone and no other can be had, and `Interrupted`.
    """
    watch = _Watch(mode)
    started_seconds = time.monotonic()
    deadline = Deadline.after(mode.timeout_seconds)
    while True:
        asked_seconds = time.monotonic()
        found, context = _look(mode, context)
        watch.note(found, asked_seconds, context.peer)
        if watch.is_met or context.is_check:
            return _describe(mode, watch, time.monotonic() - started_seconds)
        if deadline.has_passed:
            raise _timed_out(mode, watch, context.peer)
        _sleep(min(watch.choose_pause(), deadline.remaining_seconds), context.cancellation.check)


class _Watch:
    """What was seen so far, for what has to stay as it is for a while."""

    def __init__(self, mode: WaitForPath) -> None:
        self._mode = mode
        self.found: Found = {}
        self._sizes_and_times: dict[str, tuple[int | None, int | None]] | None = None
        self._same_since_seconds = 0.0
        self.same_seconds = 0.0

    def note(self, found: Found, asked_seconds: float, peer: str) -> None:
        """What a look that began at `asked_seconds` has found.

        A look takes its time, and nobody knows when in it the server looked. So what has not changed is known to be the same
        only from the end of the one look to the beginning of the other.
        """
        self.found = found
        if self._mode.state != "settled":
            return
        seen = {path: (status.size_bytes, status.modified_at_seconds) for path, status in found.items()}
        unknown = next((path for path, known in seen.items() if known == (None, None)), None)
        if unknown is not None:
            raise FileRefused(
                f"{peer} tells neither size nor time of {unknown!r}, so that it cannot be seen whether it changes",
                hint="'state: present' waits until it is there.",
            )
        if seen != self._sizes_and_times:
            self._sizes_and_times, self._same_since_seconds = seen, time.monotonic()
        self.same_seconds = max(0.0, asked_seconds - self._same_since_seconds)

    @property
    def is_met(self) -> bool:
        """Whether it is as the step wants it."""
        mode = self._mode
        if mode.state == "absent":
            return not self.found
        return self.are_enough and (mode.state == "present" or self.same_seconds >= mode.settle_seconds)

    @property
    def are_enough(self) -> bool:
        """Whether as many were found as the step wants, each as large as it wants."""
        return self.count >= self._mode.min_files

    @property
    def count(self) -> int:
        """How many of those that were found are large enough."""
        least = self._mode.min_size_bytes
        if least is None:
            return len(self.found)
        return sum(1 for status in self.found.values() if status.is_regular and (status.size_bytes or 0) >= least)

    def choose_pause(self) -> float:
        """Seconds until the next look: sooner than usual if what is there may have settled by then."""
        mode = self._mode
        if mode.state != "settled" or not self.are_enough:
            return mode.every_seconds
        settled_seconds = self._same_since_seconds + mode.settle_seconds
        return min(mode.every_seconds, max(0.0, settled_seconds - time.monotonic()))


def _look(mode: WaitForPath, context: CopyContext) -> tuple[Found, CopyContext]:
    """What is there now, and the context that goes on: with a fresh session if the old one was closed while idle."""
    follow = mode.state != "absent"
    try:
        return find_matching(mode.path, context, follow=follow), context
    except StepTimedOut:
        raise
    except UnreachableError:
        if context.reconnect is None:
            raise
        context = replace(context, remote=context.reconnect())
        return find_matching(mode.path, context, follow=follow), context


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    deadline = Deadline.after(seconds)
    while not deadline.has_passed:
        check()
        time.sleep(min(POLL_SECONDS, deadline.remaining_seconds))
    check()


def _describe(mode: WaitForPath, watch: _Watch, waited_seconds: float) -> Wait:
    found, what = watch.found, _describe_found(mode, watch.found)
    message = what if watch.is_met else f"would wait until {_describe_wanted(mode)}: {what}"
    if watch.is_met and mode.state == "settled":
        message = f"{what}, unchanged for {mode.settle_seconds:g} s"
    sizes = [status.size_bytes for status in found.values()]
    return Wait(
        message=message,
        path=mode.path,
        state=mode.state,
        met=watch.is_met,
        waited_seconds=waited_seconds,
        size_bytes=sizes[0] if len(sizes) == 1 and not is_glob(mode.path) else None,
        entries=tuple(to_entry(path, status) for path, status in found.items()),
    )


def _timed_out(mode: WaitForPath, watch: _Watch, peer: str) -> WaitTimedOut:
    found, what = watch.found, _describe_found(mode, watch.found)
    if mode.state != "absent" and found:
        if watch.count != len(found):
            what = f"{watch.count} of {len(found)} count"
        if mode.state == "settled" and watch.are_enough:
            what = f"{what}, unchanged for {watch.same_seconds:.1f} s so far"
    names = ", ".join(map(repr, list(found)[:_MAX_NAMED]))
    named = f" ({names}{', …' if len(found) > _MAX_NAMED else ''})" if names else ""
    return WaitTimedOut(
        f"waited {mode.timeout_seconds:g} s on {peer} until {_describe_wanted(mode)}: {what}{named}",
        hint="Raise 'timeout' if it may take longer. Relative paths start at the login directory.",
    )


def _describe_wanted(mode: WaitForPath) -> str:
    if mode.state == "absent":
        return f"{mode.path!r} is gone"
    files = f"{mode.min_files:,} paths match" if mode.min_files > 1 else "there is"
    wanted = f"{files} {mode.path!r}"
    if mode.min_size_bytes is not None:
        wanted = f"{wanted} with at least {mode.min_size_bytes:,} bytes"
    return f"{wanted}, unchanged for {mode.settle_seconds:g} s" if mode.state == "settled" else wanted


def _describe_found(mode: WaitForPath, found: Found) -> str:
    if not is_glob(mode.path):
        return "is there" if found else "is not there"
    if not found:
        return "nothing matches"
    return f"{len(found):,} {'path matches' if len(found) == 1 else 'paths match'}"
