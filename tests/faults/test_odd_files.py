"""Files at the edges: nothing in them, very much in them, times that SFTP cannot tell; and new keys all the time."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.conftest import Runner, download, step, upload
from tests.faults.conftest import MakeTrial, measure
from tests.faults.trials import Way, all_ways, both_directions, explaining, random_trials
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import Corrupt, Cut, Fault, RateLimit

GIB = 1024**3
MIB = 1024**2

# 31 December 1969, and 1 January 2107: both are beyond the 32 bits of a time in SFTP and SCP.
IN_1969 = -86_400
IN_2107 = 4_323_456_000


@all_ways
@random_trials(2)
def test_an_empty_file_over_a_bad_line(way: Way, seed: str, make_trial: MakeTrial, sshd: OpenSSHServer) -> None:
    trial = make_trial(way, 0)
    reach = measure(trial, sshd)
    trial.destination.write_bytes(trial.old)
    fault = Cut(*reach.pick(random.Random(f"empty {way} {seed}")))
    with explaining(seed, way, fault):
        outcome = trial.play_through(sshd, fault)
        assert outcome.exit_code in (0, 4), outcome.output
        trial.judge_repetition(sshd)


@both_directions
def test_a_large_file_with_holes(runner: Runner, remote: Path, sshd: OpenSSHServer, way: Way) -> None:
    """Offsets beyond 32 bits. With RUN_SLOW=1 only: it fills 5 GiB of disk; otherwise a smaller file."""
    size = 5 * GIB if os.environ.get("RUN_SLOW") == "1" else 64 * MIB
    local = runner.folder / "local"
    source, destination = (local, remote / "a") if way == "SFTP up" else (remote / "a", local)
    marks = {0: b"first", size // 2 - 3: b"middle", size * 9 // 10: b"near the end", size - 4: b"last"}
    with source.open("wb") as file:
        for offset, mark in marks.items():
            file.seek(offset)
            file.write(mark)
    mode = upload(source, destination) if way == "SFTP up" else download(source, destination)
    try:
        outcome = runner.play([step(sshd, mode)])
        assert outcome.exit_code == 0, outcome.output
        assert_same(source, destination)
    finally:
        destination.unlink(missing_ok=True)


def assert_same(one: Path, other: Path) -> None:
    """Equal content, without holding it in memory."""
    assert one.stat().st_size == other.stat().st_size
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(16 * MIB):
            assert piece == second.read(16 * MIB)


@all_ways
@pytest.mark.parametrize("seconds", [IN_1969, IN_2107], ids=["1969", "2107"])
def test_a_time_beyond_the_protocol(way: Way, seconds: int, make_trial: MakeTrial, sshd: OpenSSHServer) -> None:
    """Copied. What leaves this machine without its time is warned about; what a server sends has lost it before."""
    trial = make_trial(way, 1000)
    try:
        os.utime(trial.source, (seconds, seconds))
    except OverflowError:
        pytest.skip("this file system does not hold such times")
    if trial.source.stat().st_mtime != seconds:
        pytest.skip("this file system does not hold such times")
    outcome = trial.play(sshd)

    trial.judge(outcome)
    assert outcome.exit_code == 0, outcome.output
    if trial.is_upload:
        assert any("time" in warning for warning in outcome.step["result"]["warnings"]), outcome.step


@all_ways
@random_trials(1)
def test_new_keys_over_a_bad_line(way: Way, seed: str, make_trial: MakeTrial, rekeying: OpenSSHServer) -> None:
    """Good without a fault; with a fault, which may hit the exchange of keys, judged as ever."""
    trial = make_trial(way, 5_000_000)
    reach = measure(trial, rekeying)
    trial.destination.write_bytes(trial.old)
    chance = random.Random(f"rekey {way} {seed}")
    place = reach.pick(chance)
    fault: Fault = chance.choice((Cut, Corrupt))(*place)
    with explaining(seed, way, fault):
        outcome = trial.play_through(rekeying, fault)
        assert outcome.exit_code in (0, 4, 5), outcome.output
        trial.judge_repetition(rekeying)


@both_directions
def test_new_keys_on_a_slow_line(way: Way, make_trial: MakeTrial, rekeying: OpenSSHServer) -> None:
    outcome = make_trial(way, 3_000_000).play_through(rekeying, RateLimit(2_000_000))

    assert outcome.exit_code == 0, outcome.output
