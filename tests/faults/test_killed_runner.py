"""SIGKILL to the runner, at any byte of the session: the destination is old or new, never a mixture."""

from __future__ import annotations

import json
import random
import subprocess
import sys

from tests.faults.conftest import MakeTrial
from tests.faults.trials import PATIENT, Reach, Way, all_ways, explaining, random_trials
from tests.patience import EVENT_SECONDS, wait_for
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import FaultProxy, Trigger


@all_ways
@random_trials(2)
def test_the_runner_is_killed(way: Way, seed: str, make_trial: MakeTrial, reach: Reach, sshd: OpenSSHServer) -> None:
    direction, after_bytes = reach.pick(random.Random(f"client {way} {seed}"))
    trial = make_trial(way, seed=seed)
    processes: list[subprocess.Popen[bytes]] = []
    kill = Trigger(direction, after_bytes, lambda: processes[0].kill())
    with explaining(seed, way, direction, after_bytes), FaultProxy(sshd.host, sshd.port, kill) as proxy:
        playbook = trial.runner.folder / "killed.yaml"
        playbook.write_text(json.dumps([trial.step(sshd, proxy, **PATIENT)]), encoding="utf-8")
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "runner", "play", str(playbook)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        output, _ = processes[0].communicate(timeout=EVENT_SECONDS)
        assert processes[0].returncode in (-9, 0), output.decode()
        # What the runner sent last may still be on its way to the disk.
        wait_for(lambda: proxy.open_count == 0)
        trial.judge_killed()
        trial.judge_repetition(sshd)
