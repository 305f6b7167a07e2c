"""What ends a wait: a signal everywhere, a limit in its own thread, and what may hold them off for how long."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from runner.cancellation import Cancellation, CleanUpAbandoned
from runner.errors import Interrupted, StepError, StepTimedOut

LIMIT_SECONDS = 0.05


def time_is_up() -> StepTimedOut:
    return StepTimedOut("too long")


def in_another_thread(do: Callable[[], object]) -> object:
    answers: list[object] = []

    def answer() -> None:
        try:
            answers.append(do())
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()
    return answers[0]


def test_nothing_ends_unasked() -> None:
    cancellation = Cancellation()
    with cancellation.limited(None, time_is_up), cancellation.shield(1), cancellation.deferred(1):
        cancellation.check()
    assert not cancellation.is_due


def test_a_limit_ends_the_waits_of_its_thread_and_of_no_other() -> None:
    cancellation = Cancellation()
    with cancellation.limited(LIMIT_SECONDS, time_is_up):
        cancellation.check()
        alarm = cancellation.make_alarm()
        assert not alarm()
        time.sleep(LIMIT_SECONDS)
        with pytest.raises(StepTimedOut):
            cancellation.check()
        assert cancellation.is_due
        # What another thread asks about this one is another thing than what holds for itself.
        assert in_another_thread(alarm) is True
        assert in_another_thread(cancellation.check) is None
    cancellation.check()


def test_a_limit_can_be_lent() -> None:
    cancellation = Cancellation()

    def check() -> None:
        with lent():
            cancellation.check()

    with cancellation.limited(LIMIT_SECONDS, time_is_up):
        lent = cancellation.lend_limit()
        assert in_another_thread(check) is None
        time.sleep(LIMIT_SECONDS)
        assert isinstance(in_another_thread(check), StepTimedOut)


def test_a_limit_that_was_kept_sets_off_no_alarm_later() -> None:
    cancellation = Cancellation()
    with cancellation.limited(LIMIT_SECONDS, time_is_up):
        alarm = cancellation.make_alarm()
    time.sleep(LIMIT_SECONDS)
    assert not alarm()


def test_one_that_was_not_kept_does() -> None:
    cancellation = Cancellation()
    with pytest.raises(StepTimedOut), cancellation.limited(LIMIT_SECONDS, time_is_up):
        alarm = cancellation.make_alarm()
        time.sleep(LIMIT_SECONDS)
        cancellation.check()
    assert alarm()
    cancellation.check()


def test_clean_up_goes_on_after_a_limit_but_not_for_ever() -> None:
    cancellation = Cancellation()
    with cancellation.limited(LIMIT_SECONDS, time_is_up):
        time.sleep(LIMIT_SECONDS)
        with cancellation.shield(0.05):
            cancellation.check()
            time.sleep(0.05)
            with pytest.raises(CleanUpAbandoned):
                cancellation.check()


def test_what_must_not_be_torn_apart_has_its_time_from_the_limit_on() -> None:
    cancellation = Cancellation()
    with cancellation.limited(LIMIT_SECONDS, time_is_up):
        with cancellation.deferred(0.05):
            time.sleep(LIMIT_SECONDS)
            cancellation.check()
        # It has come to its end, which is no failure.
        with pytest.raises(StepTimedOut), cancellation.deferred(0.05):
            cancellation.check()
            time.sleep(0.05)
            cancellation.check()


def test_a_signal_comes_before_a_limit() -> None:
    cancellation = Cancellation()
    with cancellation.limited(LIMIT_SECONDS, time_is_up):
        time.sleep(LIMIT_SECONDS)
        cancellation.cancel(signal.SIGTERM)
        with pytest.raises(Interrupted):
            cancellation.check()
        with pytest.raises(Interrupted), cancellation.deferred(1):
            cancellation.check()


def test_a_second_signal_waits_for_no_clean_up() -> None:
    cancellation = Cancellation()
    cancellation.cancel(signal.SIGTERM)
    with cancellation.shield(60):
        cancellation.check()
        assert not cancellation.is_urgent
        cancellation.cancel(signal.SIGINT)
        with pytest.raises(CleanUpAbandoned):
            cancellation.check()
    with pytest.raises(Interrupted) as raised:
        cancellation.check()
    assert raised.value.exit_code == 143


def test_nor_does_it_tear_apart_what_must_not_be() -> None:
    cancellation = Cancellation()
    with pytest.raises(Interrupted), cancellation.deferred(60):
        cancellation.cancel(signal.SIGTERM)
        cancellation.cancel(signal.SIGTERM)
        cancellation.check()


def test_a_check_for_another_thread_knows_the_limit_and_the_signal_of_this_one() -> None:
    cancellation = Cancellation()
    with pytest.raises(StepTimedOut), cancellation.limited(LIMIT_SECONDS, time_is_up):
        check = cancellation.make_check()
        assert in_another_thread(check) is None
        time.sleep(LIMIT_SECONDS)
        assert isinstance(in_another_thread(check), StepTimedOut)
        cancellation.check()
    check = cancellation.make_check()
    assert in_another_thread(check) is None
    cancellation.cancel(signal.SIGTERM)
    assert type(in_another_thread(check)) is StepError
