"""write_file, read_file, create_link and wait_for over a bad line: done, or a clear failure that has lost nothing."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, step
from tests.faults.trials import CONNECT_SECONDS, PATIENT, STALL_SECONDS, Reach, explaining, random_trials
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import BlackHole, Corrupt, Cut, FaultProxy, Trigger

TEXT = "some text\n" * 300
MODE_NAMES = ("write_file", "read_file", "create_link", "wait_for")

every_mode = pytest.mark.parametrize("mode_name", MODE_NAMES)


@dataclass(slots=True)
class Scene:
    """A directory on the server in which one of the modes has something to do."""

    runner: Runner
    remote: Path
    mode_name: str

    def __post_init__(self) -> None:
        (self.remote / "file").write_text(TEXT if self.mode_name == "read_file" else "older")
        (self.remote / "current").symlink_to("old")

    @property
    def mode(self) -> dict[str, Any]:
        file, link = str(self.remote / "file"), str(self.remote / "current")
        fields: dict[str, dict[str, Any]] = {
            "write_file": {"content": TEXT, "destination_file_name": file},
            "read_file": {"source_file_name": file},
            "create_link": {"path": link, "target": "new"},
            "wait_for": {"path": f"{self.remote}/f*", "timeout": 0},
        }
        return {"mode_name": self.mode_name, **fields[self.mode_name]}

    def play(self, server: OpenSSHServer, proxy: FaultProxy | None = None, **inputs: Any) -> Outcome:
        limits = {"connect_timeout": CONNECT_SECONDS, "stall_timeout": STALL_SECONDS}
        place = {} if proxy is None else {"host": proxy.host, "port": proxy.port}
        return self.runner.play([{**step(server, self.mode, **limits), **place, **inputs}])

    def judge(self, outcome: Outcome, most_left: int = 0) -> None:
        """What is there is old or new, and nothing else is but what a lost session has left, which nobody could remove."""
        assert "Traceback" not in outcome.output, outcome.output
        is_good = outcome.exit_code == 0
        file, target = (self.remote / "file").read_text(), os.readlink(self.remote / "current")
        if self.mode_name == "write_file":
            assert file == TEXT or (file == "older" and not is_good)
        if self.mode_name == "create_link":
            assert target == "new" or (target == "old" and not is_good)
        if self.mode_name == "read_file" and is_good:
            assert outcome.step["result"]["content"] == TEXT
        if not is_good:
            assert outcome.step["error"]["message"] and outcome.step["error"]["hint"]
        left = [name for name in os.listdir(self.remote) if name not in ("file", "current")]
        is_reader = self.mode_name in ("read_file", "wait_for")
        assert len(left) <= (0 if is_reader else most_left if is_good else 1), left

    def judge_repetition(self, server: OpenSSHServer) -> None:
        """The next play, with nothing in the way, does it; and then it is done."""
        for _ in range(2):
            outcome = self.play(server, **PATIENT)
            assert outcome.exit_code == 0, outcome.output
        assert outcome.statuses == ["ok"]


@pytest.fixture
def scene(runner: Runner, remote: Path, mode_name: str) -> Scene:
    return Scene(runner, remote, mode_name)


_REACHES: dict[str, Reach] = {}


@pytest.fixture
def reach(tmp_path: Path, runner: Runner, mode_name: str, sshd: OpenSSHServer) -> Reach:
    """How many bytes the honest play takes."""
    if mode_name not in _REACHES:
        (tmp_path / "measured").mkdir()
        with FaultProxy(sshd.host, sshd.port) as proxy:
            assert Scene(runner, tmp_path / "measured", mode_name).play(sshd, proxy, **PATIENT).exit_code == 0
            _REACHES[mode_name] = Reach(proxy.bytes_up, proxy.bytes_down)
    return _REACHES[mode_name]


@every_mode
@random_trials(4)
def test_a_bad_line(mode_name: str, seed: str, scene: Scene, reach: Reach, sshd: OpenSSHServer) -> None:
    chance = random.Random(f"{mode_name} {seed}")
    at = reach.pick(chance)
    fault = chance.choice((Cut(*at), Cut(*at, abrupt=False), Corrupt(*at), Trigger(*at, sshd.kill_sessions)))
    with explaining(seed, mode_name, fault), FaultProxy(sshd.host, sshd.port, fault) as proxy:
        outcome = scene.play(sshd, proxy)
        assert outcome.exit_code in (0, 2, 4, 5), outcome.output
        scene.judge(outcome)
        scene.judge_repetition(sshd)


@every_mode
@random_trials(1)
def test_a_silent_line(mode_name: str, seed: str, scene: Scene, reach: Reach, sshd: OpenSSHServer) -> None:
    fault = BlackHole(*reach.pick(random.Random(f"hole {mode_name} {seed}")))
    with explaining(seed, mode_name, fault), FaultProxy(sshd.host, sshd.port, fault) as proxy:
        outcome = scene.play(sshd, proxy)
        assert outcome.exit_code in (0, 4), outcome.output
        scene.judge(outcome)
        scene.judge_repetition(sshd)


@every_mode
@random_trials(3)
def test_a_retry_makes_up_for_it(mode_name: str, seed: str, scene: Scene, reach: Reach, sshd: OpenSSHServer) -> None:
    chance = random.Random(f"retry {mode_name} {seed}")
    fault = chance.choice((Cut, Cut, BlackHole))(*reach.pick(chance))
    with (
        explaining(seed, mode_name, fault),
        FaultProxy(sshd.host, sshd.port, fault, faulty_connections=1) as proxy,
    ):
        outcome = scene.play(sshd, proxy, retries=1, delay=0)
        assert outcome.exit_code == 0, outcome.output
        # What a lost session has done was done by the step all the same.
        assert outcome.statuses == ["changed" if mode_name in ("write_file", "create_link") else "ok"]
    scene.judge(outcome, most_left=1)
