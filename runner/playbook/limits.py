"""A bound on what filling in one template may cost.

A sandbox keeps a template from the file system, not from `'a'.center(10**10)` or a loop in a loop in a loop, and there is
no end to the ways to write these. So the operating system counts: processor time and address space.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MAX_SECONDS = 0.5
MAX_BYTES = 256 * 1024 * 1024
MIN_TIMER_SECONDS = 0.1


class TimeIsUp(BaseException):
    """The block took too long. Not an `Exception`, so that no handler inside the block swallows it."""


@contextmanager
def bounded_resources() -> Iterator[None]:
    """Inside the block, `TimeIsUp` comes after `MAX_SECONDS` of processor time, `MemoryError` after `MAX_BYTES` more.

    Holds for the whole process, so it is for the time before anything is contacted. The time is bounded in the main
    thread only, the memory on Linux only.
    """
    with _bounded_memory(), _without_collections(), _bounded_time():
        yield


def memory_limit_bytes() -> int:
    """How much memory the process may have."""
    return resource.getrlimit(resource.RLIMIT_AS)[0]


@contextmanager
def memory_limited_to(limit_bytes: int) -> Iterator[None]:
    """Inside the block another limit holds than `bounded_resources` has set: a program that is started takes it over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _without_collections() -> Iterator[None]:
    """Inside the block Python looks for no garbage: with a large heap that takes longer than a template may."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


@contextmanager
def _bounded_time() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    began = time.thread_time()

    def stop(number: int, frame: object) -> None:
        # The timer counts what other threads do as well.
        left_seconds = MAX_SECONDS - (time.thread_time() - began)
        # Where the exception is swallowed (Python does that in a finalizer, say), it comes again.
        signal.setitimer(signal.ITIMER_VIRTUAL, max(left_seconds, MIN_TIMER_SECONDS))
        if left_seconds <= 0:
            raise TimeIsUp

    old_handler = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old_handler)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _address_space_bytes() + MAX_BYTES
    is_stricter = wanted > MAX_BYTES and (soft == resource.RLIM_INFINITY or wanted < soft)
    if is_stricter:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        if is_stricter:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space_bytes() -> int:
    """What the process has mapped; 0 where the system does not say. Linux: proc(5), /proc/pid/statm."""
    try:
        # By hand: this is done for every template, and a file object takes four times as long.
        number = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(number, 64).split()[0]) * resource.getpagesize()
    finally:
        os.close(number)
