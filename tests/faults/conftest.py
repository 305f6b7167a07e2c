"""Fixtures: a trial of each way, and how many bytes it takes when nothing breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Runner, require_sshd
from tests.faults.trials import PATIENT, Reach, Trial, Way, make_content
from tests.servers.endpoint import Endpoint
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import FaultProxy

SIZE = 1_500_000

MakeTrial = Callable[..., Trial]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """A server of these tests' own: its sessions are killed."""
    with start_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def rekeying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """The same, asking for new keys after every mebibyte."""
    with start_sshd(tmp_path_factory.mktemp("rekeying"), "RekeyLimit 1M") as server:
        yield server


def start_sshd(folder: Path, *config: str) -> OpenSSHServer:
    """An sshd, not started yet."""
    require_sshd()
    return OpenSSHServer(folder, extra_config=config)


@pytest.fixture
def make_trial(runner: Runner, remote: Path) -> MakeTrial:
    def make(way: Way, size: int = SIZE, seed: str = "") -> Trial:
        return Trial(runner, remote, way, make_content(seed, size))

    return make


@pytest.fixture(scope="session")
def reaches() -> dict[Way, Reach]:
    """What has been measured so far."""
    return {}


@pytest.fixture
def reach(reaches: dict[Way, Reach], way: Way, sshd: OpenSSHServer, make_trial: MakeTrial) -> Reach:
    """How many bytes the honest copy of a trial takes."""
    if way not in reaches:
        reaches[way] = measure(make_trial(way), sshd)
    return reaches[way]


def measure(trial: Trial, server: Endpoint) -> Reach:
    with FaultProxy(server.host, server.port) as proxy:
        outcome = trial.play(server, proxy, **PATIENT)
        trial.judge(outcome)
        assert outcome.exit_code == 0, outcome.output
        return Reach(proxy.bytes_up, proxy.bytes_down)
