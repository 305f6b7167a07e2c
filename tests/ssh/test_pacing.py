"""The bucket that holds a connection to its rate, by a clock that the test turns."""

from __future__ import annotations

import pytest

from runner.ssh.pacing import MAX_GRAIN_BYTES, MIN_DEPTH_BYTES, Bucket, Pace

RATE = 1_000_000


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_over_a_long_time_it_gives_the_rate(clock: Clock) -> None:
    bucket = Bucket(RATE, clock)
    taken = 0
    for _ in range(1000):
        clock.turn(0.013)
        taken += bucket.take(RATE)

    assert taken == pytest.approx(13 * RATE, abs=bucket.depth_bytes + 1)


@pytest.mark.parametrize("pause_seconds", [0.0, 1.0, 10_000.0])
def test_after_a_pause_there_is_a_quarter_of_a_second_s_worth(clock: Clock, pause_seconds: float) -> None:
    bucket = Bucket(RATE, clock)
    clock.turn(pause_seconds)

    assert bucket.take(10 * RATE) == RATE // 4
    assert bucket.take(10 * RATE) == 0


def test_it_gives_no_crumbs(clock: Clock) -> None:
    bucket = Bucket(RATE, clock)
    bucket.take(RATE)
    clock.turn((MAX_GRAIN_BYTES - 1000) / RATE)

    assert bucket.take(RATE) == 0
    assert bucket.seconds_until(RATE) == pytest.approx(1000 / RATE)
    # What is left of a message may be as small as it is.
    assert bucket.take(10) == 10
    clock.turn(bucket.seconds_until(RATE) + 1e-5)
    assert bucket.take(RATE) >= MAX_GRAIN_BYTES


def test_what_came_is_spent_even_if_it_was_not_there(clock: Clock) -> None:
    bucket = Bucket(RATE, clock)
    bucket.spend(RATE)

    assert bucket.level_bytes == -RATE * 3 // 4
    assert bucket.take(1) == 0
    clock.turn(0.75)
    assert bucket.level_bytes == pytest.approx(0, abs=2)
    clock.turn(100)
    assert bucket.level_bytes == RATE // 4


@pytest.mark.parametrize("rate", [1024, 5000, 1 << 20, 1 << 40])
def test_every_rate_has_a_depth_and_a_grain_that_it_can_reach(clock: Clock, rate: int) -> None:
    bucket = Bucket(rate, clock)

    assert MIN_DEPTH_BYTES <= bucket.depth_bytes <= max(MIN_DEPTH_BYTES, rate / 4)
    assert 0 < bucket.grain_bytes <= bucket.depth_bytes // 4
    bucket.take(bucket.depth_bytes)
    assert bucket.seconds_until(1 << 50) <= 0.25 + 1e-9
    assert 256 <= Pace(rate, clock).piece_bytes <= max(256, rate / 16)


def test_a_clock_that_stands_still_gives_nothing(clock: Clock) -> None:
    bucket = Bucket(RATE, clock)
    bucket.take(RATE)

    assert [bucket.take(1) for _ in range(10)] == [0] * 10


def test_the_windows_of_all_channels_are_opened_until_they_leave() -> None:
    pace = Pace(RATE)
    opened: list[str] = []

    def first() -> None:
        opened.append("first")

    def second() -> None:
        opened.append("second")

    pace.join(first)
    pace.join(second)
    pace.open_windows()
    pace.leave(first)
    pace.leave(first)
    pace.open_windows()

    assert opened == ["first", "second", "second"]
