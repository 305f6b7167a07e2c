"""The bound on a template's cost: it ends what it should end, and leaves nothing behind."""

from __future__ import annotations

import gc
import resource
import signal
import sys
import threading
import time

import pytest

from runner.playbook.limits import MAX_BYTES, MAX_SECONDS, TimeIsUp, bounded_resources


def settings() -> object:
    """What the bound changes in the process."""
    return (
        resource.getrlimit(resource.RLIMIT_AS),
        signal.getsignal(signal.SIGVTALRM),
        signal.getitimer(signal.ITIMER_VIRTUAL),
    )


def test_too_much_time_ends_the_block_even_where_exceptions_are_swallowed() -> None:
    before = settings()
    started = time.process_time()

    with pytest.raises(TimeIsUp), bounded_resources():
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue

    assert MAX_SECONDS * 0.5 < time.process_time() - started < MAX_SECONDS * 2
    assert settings() == before


def test_too_much_memory_ends_the_block() -> None:
    before = settings()

    with pytest.raises(MemoryError), bounded_resources():
        bytearray(2 * MAX_BYTES)

    assert settings() == before


def test_a_block_within_the_bound_ends_as_it_likes() -> None:
    before = settings()

    with bounded_resources():
        assert len(bytearray(1024 * 1024)) == 1024 * 1024
    with pytest.raises(KeyError), bounded_resources():
        raise KeyError("x")

    assert settings() == before


def test_a_template_is_not_blamed_for_the_garbage_of_others() -> None:
    collections: list[str] = []
    note = lambda phase, info: collections.append(phase)  # noqa: E731
    thresholds, is_enabled = gc.get_threshold(), gc.isenabled()
    gc.enable()
    gc.callbacks.append(note)
    gc.set_threshold(10, 1, 1)
    try:
        with bounded_resources():
            collections.clear()
            kept = [[number] for number in range(1000)]
            assert not collections
        kept += [[number] for number in range(1000)]
        assert collections and gc.isenabled()
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
        if not is_enabled:
            gc.disable()


def test_outside_the_main_thread_the_memory_is_bounded() -> None:
    caught: list[type[BaseException]] = []

    def fill() -> None:
        try:
            with bounded_resources():
                bytearray(2 * MAX_BYTES)
        except MemoryError as error:
            caught.append(type(error))

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()

    assert caught == [MemoryError]


def test_what_another_thread_does_does_not_count() -> None:
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    began = time.process_time()
    try:
        with bounded_resources():
            while time.process_time() < began + 3 * MAX_SECONDS:
                time.sleep(0.01)
    finally:
        is_over.set()
        thread.join()


def test_what_is_swallowed_comes_again() -> None:
    """Python swallows what is raised in a finalizer."""

    class Swallowing:
        def __del__(self) -> None:
            while not swallowed:
                pass

    swallowed: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, swallowed.append
    try:
        with pytest.raises(TimeIsUp), bounded_resources():
            Swallowing()
            while True:
                pass
    finally:
        sys.unraisablehook = hook
    assert len(swallowed) == 1
