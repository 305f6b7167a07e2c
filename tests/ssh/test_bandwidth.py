"""`bandwidth_limit`: a connection carries no more, both ways, over both protocols; and everything else goes on as ever."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, download, snapshot, step, upload
from tests.execution.test_interruption import Process, has_temporary
from tests.faults.conftest import start_sshd
from tests.patience import BUSY_SECONDS, wait_for
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.latency import LatencyProxy
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import BlackHole, FaultProxy

MIB = 1024 * 1024
METER_SECONDS = 0.01

Ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
Protocols = pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """An sshd whose commands start at once: only the limit takes time."""
    with start_sshd(tmp_path_factory.mktemp("quick")) as server:
        yield server


def make_mode(runner: Runner, remote: Path, is_upload: bool, size: int, **options: Any) -> dict[str, Any]:
    content = os.urandom(size)
    if is_upload:
        (runner.folder / "source").write_bytes(content)
        return upload("source", remote / "a", **options)
    (remote / "source").write_bytes(content)
    return download(remote / "source", "local/a", **options)


def assert_same(runner: Runner, remote: Path, is_upload: bool) -> None:
    local = runner.folder / ("source" if is_upload else "local/a")
    assert local.read_bytes() == (remote / ("a" if is_upload else "source")).read_bytes()


def seconds_of(outcome: Outcome) -> float:
    """How long the last step took."""
    assert outcome.exit_code == 0, outcome.output
    return float(outcome.report["steps"][-1]["duration_seconds"])


def assert_held(outcome: Outcome, seconds: float) -> None:
    """The last step took as long as the limit says: no less, and not twice as much. A busy machine may add to it."""
    assert seconds * 0.8 < seconds_of(outcome) < seconds * 2


def greet(server: Any, remote: Path, **inputs: Any) -> dict[str, Any]:
    """A step that opens the connection, so that the next one need not; it is not under way together with that."""
    return step(server, upload("play.yaml", remote / "greeting", compare="checksum"), **inputs)


@Protocols
@Ways
def test_three_megabytes_at_one_take_three_seconds(
    runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool, connector_type: str
) -> None:
    mode = make_mode(runner, remote, is_upload, 3_000_000)
    inputs: dict[str, Any] = {"connector_type": connector_type, "bandwidth_limit": 1_000_000, "stall_timeout": 1}
    outcome = runner.play([greet(quick, remote, **inputs), step(quick, mode, **inputs)])

    assert_held(outcome, 3)
    assert_same(runner, remote, is_upload)
    # What people are told agrees with it.
    rates = re.findall(r"s, ([0-9.]+) (MiB|KiB)/s", outcome.stdout)
    assert rates, outcome.stdout
    assert float(rates[-1][0]) * (MIB if rates[-1][1] == "MiB" else 1024) == pytest.approx(
        3_000_000 / seconds_of(outcome), rel=0.25
    )


@Protocols
@Ways
def test_another_server_is_held_to_it_too(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, is_upload: bool, connector_type: str
) -> None:
    mode = make_mode(runner, remote, is_upload, 2 * MIB)
    inputs: dict[str, Any] = {"connector_type": connector_type, "bandwidth_limit": "1m"}
    outcome = runner.play([greet(asyncssh_server, remote, **inputs), step(asyncssh_server, mode, **inputs)])

    assert_held(outcome, 2)
    assert_same(runner, remote, is_upload)


@Protocols
@Ways
def test_a_low_limit_works(
    runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool, connector_type: str
) -> None:
    """A quarter of a second's worth is less than a packet, and no pause is as long as `stall_timeout`."""
    mode = make_mode(runner, remote, is_upload, 20_000)
    outcome = runner.play([step(quick, mode, connector_type=connector_type, bandwidth_limit="8K", stall_timeout=1)])

    assert_held(outcome, 20_000 / 8192)
    assert_same(runner, remote, is_upload)


@Ways
def test_the_lowest_limit_gets_through(runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    mode = make_mode(runner, remote, is_upload, 2000)

    assert 1.5 < seconds_of(runner.play([step(quick, mode, bandwidth_limit="1K", stall_timeout=1)])) < 5 + BUSY_SECONDS
    assert_same(runner, remote, is_upload)


class Meter:
    """Looks again and again at how many bytes have passed the proxy, while the block runs."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.samples: list[tuple[float, int]] = []
        self._proxy = proxy
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def excess_bytes(self, bytes_per_second: int) -> float:
        """How much more than the rate has passed at most, in any span."""
        return max(
            later[1] - earlier[1] - (later[0] - earlier[0]) * bytes_per_second
            for earlier, later in itertools.combinations(self.samples, 2)
        )

    @property
    def late_seconds(self) -> float:
        """How long a busy machine has kept this thread waiting, at most. So long it may keep the proxy, too."""
        return max(later[0] - earlier[0] for earlier, later in itertools.pairwise(self.samples)) - METER_SECONDS

    def _watch(self) -> None:
        while not self._ended.wait(METER_SECONDS):
            self.samples.append((time.monotonic(), self._proxy.bytes_up + self._proxy.bytes_down))


@Ways
def test_in_no_span_passes_more_than_its_worth_and_a_quarter_of_a_second_s(
    runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool
) -> None:
    """Not after the pause between two steps either."""
    mode = make_mode(runner, remote, is_upload, 2 * MIB, compare="always")
    pause = {"host": "127.0.0.1", "port": 1, "connect_timeout": 1, "retries": 1, "delay": 0.6, "name": "pause"}
    with FaultProxy(quick.host, quick.port) as proxy, Meter(proxy) as meter:
        limited = {**step(quick, mode, bandwidth_limit="2M"), "port": proxy.port}
        outcome = runner.play([limited, {**limited, **pause}, limited])
        connections = proxy.connection_count

    assert outcome.statuses == ["changed", "unreachable", "changed"], outcome.output
    assert connections == 1
    excess = meter.excess_bytes(2 * MIB)
    # And what encryption, the other direction, and a proxy that is late add.
    assert 2 * MIB * 0.2 < excess < 2 * MIB * (0.25 + 0.05 + 2 * meter.late_seconds) + 50_000


def test_reading_back_is_limited_too(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    """A server without a shell: the file goes up, and comes down once more."""
    mode = make_mode(runner, remote, True, MIB, verify="checksum")
    outcome = runner.play([step(asyncssh_server, mode, bandwidth_limit="1M")])

    assert seconds_of(outcome) > 1.4
    assert outcome.step["result"]["verified"] == "readback"


def test_all_channels_share_it(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    mode = {**make_mode(runner, remote, True, 17 * MIB), "channels": 6}
    with LatencyProxy(asyncssh_server.host, asyncssh_server.port, round_trip_seconds=0.03) as proxy:
        limited = {**step(asyncssh_server, mode, bandwidth_limit="8M"), "host": proxy.host, "port": proxy.port}
        outcome = runner.play([limited])

    assert asyncssh_server.requests.count("sftp") > 1
    # Each by itself at this rate, all of them would take half as long at most.
    assert 17 / 8 - 0.3 < seconds_of(outcome) < 5 + BUSY_SECONDS
    assert_same(runner, remote, True)


@Ways
def test_a_limit_beyond_the_line_changes_nothing(
    runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool
) -> None:
    """More than a window, more than once. Whether it costs anything is for a quiet machine to tell."""
    mode = make_mode(runner, remote, is_upload, 50_000_000)

    assert seconds_of(runner.play([step(quick, mode, bandwidth_limit="1024G")])) < 20 + BUSY_SECONDS
    assert_same(runner, remote, is_upload)


@Ways
def test_new_keys_in_the_middle(runner: Runner, tmp_path: Path, remote: Path, is_upload: bool) -> None:
    mode = make_mode(runner, remote, is_upload, 6 * MIB)
    with start_sshd(tmp_path / "rekeying", "RekeyLimit 1M") as server:
        outcome = runner.play([step(server, mode, bandwidth_limit="4M", stall_timeout=5)])

    assert seconds_of(outcome) < 4 + BUSY_SECONDS
    assert_same(runner, remote, is_upload)


@Protocols
@Ways
def test_a_signal_ends_a_limited_copy(
    tmp_path: Path, runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool, connector_type: str
) -> None:
    (runner.folder / "local").mkdir()
    mode = make_mode(runner, remote, is_upload, 5_000_000)
    folder = remote if is_upload else runner.folder / "local"
    process = Process(tmp_path, [step(quick, mode, connector_type=connector_type, bandwidth_limit="50K")])
    wait_for(lambda: has_temporary(folder))
    time.sleep(0.5)
    started = time.monotonic()
    code, report, output = process.interrupt(signal.SIGTERM)

    assert (code, report["status"]) == (143, "interrupted"), output
    assert time.monotonic() - started < 4 + BUSY_SECONDS
    assert snapshot(folder).keys() - {"source"} == set()


@Ways
def test_a_timeout_ends_a_limited_copy(runner: Runner, quick: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    (runner.folder / "local").mkdir()
    mode = make_mode(runner, remote, is_upload, 5_000_000)
    outcome = runner.play([{**step(quick, mode, bandwidth_limit="50K"), "timeout": 1}])

    assert outcome.step["error"]["type"] == "StepTimedOut", outcome.output
    assert "could not be removed" not in outcome.output
    assert outcome.step["duration_seconds"] < 4 + BUSY_SECONDS
    assert snapshot(remote if is_upload else runner.folder / "local").keys() - {"source"} == set()


def test_a_dead_server_is_noticed_by_keepalives(runner: Runner, quick: OpenSSHServer, remote: Path) -> None:
    mode = make_mode(runner, remote, False, 5_000_000)
    with FaultProxy(quick.host, quick.port, BlackHole("down", 50_000)) as proxy:
        one = step(quick, mode, bandwidth_limit="50K", keepalive_interval=1, stall_timeout=60)
        outcome = runner.play([{**one, "port": proxy.port}])

    assert outcome.step["error"]["type"] == "ConnectionLost", outcome.output
    assert 3 < outcome.step["duration_seconds"] < 8 + BUSY_SECONDS


def test_steps_with_another_limit_have_a_connection_of_their_own(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "source").write_bytes(b"x")
    limits = ["1M", "1024K", 1048576, "2M", None]
    steps = [step(asyncssh_server, upload("source", f"a{i}")) for i in range(len(limits))]
    limited = [{**one, "bandwidth_limit": limit} for one, limit in zip(steps, limits, strict=True) if limit]
    outcome = runner.play([*limited, steps[-1]])

    assert outcome.exit_code == 0, outcome.output
    assert asyncssh_server.connection_count == 3
