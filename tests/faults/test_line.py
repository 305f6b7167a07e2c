"""A bad line between the runner and sshd: cut, silent, slow, or changing bytes, at any byte of the whole session."""

from __future__ import annotations

import random

import pytest

from tests.faults.conftest import MakeTrial
from tests.faults.trials import PATIENT, Reach, Way, all_ways, both_directions, explaining, judge_words, random_trials
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import BlackHole, Corrupt, Cut, Drip, FaultProxy, RateLimit, Trigger


@all_ways
@random_trials(3)
def test_cut(way: Way, seed: str, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    chance = random.Random(f"cut {way} {seed}")
    fault = Cut(*reach.pick(chance), abrupt=chance.random() < 0.5)
    trial = make_trial(way, seed=seed)
    with explaining(seed, way, fault):
        outcome = trial.play_through(sshd, fault)
        assert outcome.exit_code in (0, 4), outcome.output
        trial.judge_repetition(sshd)


@all_ways
@random_trials(1)
def test_black_hole(way: Way, seed: str, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    fault = BlackHole(*reach.pick(random.Random(f"hole {way} {seed}")))
    trial = make_trial(way, seed=seed)
    with explaining(seed, way, fault):
        outcome = trial.play_through(sshd, fault)
        assert outcome.exit_code in (0, 4), outcome.output
        if outcome.exit_code == 4:
            assert outcome.step["error"]["type"] in ("Stalled", "ConnectTimedOut"), outcome.output
        trial.judge_repetition(sshd)


@all_ways
@random_trials(2)
def test_one_wrong_byte(way: Way, seed: str, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    """SSH's own checks notice it. In the handshake it may look like a server with the wrong key."""
    chance = random.Random(f"corrupt {way} {seed}")
    fault = Corrupt(*reach.pick(chance), mask=chance.randint(1, 255))
    trial = make_trial(way, seed=seed)
    with explaining(seed, way, fault):
        outcome = trial.play_through(sshd, fault)
        assert outcome.exit_code in (0, 4, 5), outcome.output
        trial.judge_repetition(sshd)


@random_trials(10)
def test_a_garbled_handshake(seed: str, make_trial: MakeTrial, sshd: OpenSSHServer) -> None:
    """Up to the new keys nothing guards the server's messages; what is made of them must still be an error."""
    chance = random.Random(f"handshake {seed}")
    fault = Corrupt("down", chance.randint(0, 2200), mask=chance.randint(1, 255))
    with explaining(seed, fault):
        outcome = make_trial("SFTP up", 1000).play_through(sshd, fault)
        assert outcome.exit_code in (0, 4, 5), outcome.output


@all_ways
@random_trials(1)
def test_the_session_is_killed(way: Way, seed: str, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    fault = Trigger(*reach.pick(random.Random(f"kill {way} {seed}")), sshd.kill_sessions)
    trial = make_trial(way, seed=seed)
    with explaining(seed, way, fault):
        outcome = trial.play_through(sshd, fault)
        assert outcome.exit_code in (0, 2, 4), outcome.output
        trial.judge_repetition(sshd)


@all_ways
@pytest.mark.parametrize("fault", [Drip(400, 0.002), RateLimit(400_000)], ids=lambda fault: str(fault))
def test_a_slow_line_is_no_fault(way: Way, fault: Drip | RateLimit, make_trial: MakeTrial, sshd: OpenSSHServer) -> None:
    # A busy machine makes it a slower one yet.
    outcome = make_trial(way, 200_000).play_through(sshd, fault, **PATIENT)

    assert outcome.exit_code == 0, outcome.output


@both_directions
def test_a_line_on_which_each_reply_takes_longer_than_the_stall_timeout(
    way: Way, make_trial: MakeTrial, sshd: OpenSSHServer
) -> None:
    """A stall is a time without one byte of progress, not a time without a whole request."""
    outcome = make_trial(way, 400_000).play_through(sshd, RateLimit(150_000))

    assert outcome.exit_code == 0, outcome.output


@all_ways
def test_after_a_bad_line_comes_a_good_one(way: Way, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    """Two plays through one proxy whose first connection breaks off."""
    trial = make_trial(way)
    cut = Cut("up", reach.up // 2) if trial.is_upload else Cut("down", reach.down // 2)
    with FaultProxy(sshd.host, sshd.port, cut, faulty_connections=1) as proxy:
        first = trial.play(sshd, proxy)
        trial.judge(first)
        second = trial.play(sshd, proxy, **PATIENT)
        judge_words(second)
        assert proxy.connection_count == 2
    assert (first.exit_code, second.exit_code) == (4, 0), first.output + second.output
    assert trial.destination.read_bytes() == trial.new


@all_ways
@random_trials(2)
def test_a_retry_mends_it(way: Way, seed: str, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    """Wherever the first connection breaks off or falls silent, the second one copies."""
    chance = random.Random(f"retry {way} {seed}")
    fault = chance.choice((Cut, Cut, BlackHole))(*reach.pick(chance))
    trial = make_trial(way, seed=seed)
    verify = chance.choice(("auto", "checksum"))
    with explaining(seed, way, fault, verify), FaultProxy(sshd.host, sshd.port, fault, faulty_connections=1) as proxy:
        one = trial.step(sshd, proxy, retries=1, delay=0)
        one["mode"]["verify"] = verify
        outcome = trial.runner.play([one])
        judge_words(outcome)
        assert outcome.exit_code == 0, outcome.output
        assert proxy.connection_count <= 2
        assert outcome.step["attempts"] == proxy.connection_count
    assert trial.destination.read_bytes() == trial.new
    # What the broken session left on the server nobody could remove.
    assert len(trial.leftovers()) <= (1 if trial.is_upload else 0), trial.leftovers()
