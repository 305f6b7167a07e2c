"""`timeout`: an attempt that takes too long ends, whatever it waits for, and cleans up behind it."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, download, snapshot, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileServer
from tests.servers.latency import LatencyProxy
from tests.servers.misbehaving import fail_first_sessions
from tests.servers.mute import STAGES, MuteServer, Stage
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import BlackHole, FaultProxy, RateLimit
from tests.ssh.agents import silent_agent

# What clean-up may take (a request that is half sent, then the temporary file), and what a busy machine adds.
GRACE_SECONDS = 5.5 + BUSY_SECONDS
WINDOW_ADJUST = 93

Ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


def play_timed(runner: Runner, playbook: list[Any]) -> tuple[Outcome, float]:
    started = time.monotonic()
    outcome = runner.play(playbook)
    return outcome, time.monotonic() - started


def make_mode(runner: Runner, remote: Path, is_upload: bool, size: int = 20_000_000) -> dict[str, Any]:
    """A copy to `a` in the remote folder or in `local`, over an older file."""
    local = runner.folder / "local"
    local.mkdir(exist_ok=True)
    source, target = (runner.folder, remote) if is_upload else (remote, local)
    (source / "source").write_bytes(os.urandom(size))
    (target / "a").write_bytes(b"older")
    if is_upload:
        return upload("source", remote / "a", resume=False)
    return download(remote / "source", "local/a", resume=False)


def written_to(runner: Runner, remote: Path, is_upload: bool) -> dict[str, bytes | None]:
    """What is in the folder of the destination."""
    return snapshot(remote if is_upload else runner.folder / "local")


def assert_timed_out(outcome: Outcome, seconds: float, timeout: float, *words: str) -> None:
    assert outcome.exit_code == 4, outcome.output
    assert outcome.statuses[0] == "unreachable"
    error = outcome.step["error"]
    assert error["type"] == "StepTimedOut", error
    assert "raise 'timeout'" in error["hint"].lower()
    for word in (f"its timeout of {timeout:g} s", *words):
        assert word in error["message"]
        assert word in outcome.output
    assert timeout <= seconds < timeout + GRACE_SECONDS


@Ways
def test_a_slow_copy_ends_and_leaves_nothing(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool, asyncssh_server: AsyncsshServer
) -> None:
    mode = make_mode(runner, remote, is_upload)
    factory = partial(misbehaving.SlowServer, seconds=0.1)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        slow = step(server, mode)
        later = {**slow, "mode": upload("play.yaml", "b")}
        elsewhere = step(asyncssh_server, upload("play.yaml", "c"))
        first = {**slow, "name": "The slow one", "timeout": 1}
        outcome, seconds = play_timed(runner, [first, later, elsewhere])
        address = f"{server.host}:{server.port}"
        connections = server.connection_count

    assert_timed_out(outcome, seconds, 1, "step 1 (The slow one)", address)
    assert outcome.statuses == ["unreachable", "skipped", "changed"]
    assert "failed on this host" in outcome.report["steps"][1]["message"]
    assert connections == 1
    assert outcome.step["attempts"] == 1
    left = written_to(runner, remote, is_upload)
    left.pop("c", None)
    assert left == {"a": b"older"}


@Ways
def test_scp_ends_too(runner: Runner, sshd_without_sftp: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    server = sshd_without_sftp
    mode = make_mode(runner, remote, is_upload)
    with FaultProxy(server.host, server.port, RateLimit(1_000_000)) as proxy:
        slow = {**step(server, mode, connector_type="SCP"), "port": proxy.port, "timeout": 1.5}
        outcome, seconds = play_timed(runner, [slow])

    assert_timed_out(outcome, seconds, 1.5)
    assert written_to(runner, remote, is_upload)["a"] == b"older"
    if not is_upload:
        assert written_to(runner, remote, is_upload) == {"a": b"older"}


def test_what_was_being_written_in_place_is_told(runner: Runner, tmp_path: Path, remote: Path) -> None:
    mode = {**make_mode(runner, remote, is_upload=True), "atomic": False}
    factory = partial(misbehaving.SlowServer, seconds=0.1)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome, seconds = play_timed(runner, [{**step(server, mode), "timeout": 1}])

    assert_timed_out(outcome, seconds, 1, "may be incomplete")


@pytest.mark.parametrize("stage", STAGES)
def test_silence_ends_at_every_stage(runner: Runner, tmp_path: Path, remote: Path, stage: Stage) -> None:
    """Long before `connect_timeout` and `stall_timeout`, which are longer here."""
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        mode = make_mode(runner, remote, is_upload=stage != "sftp_read", size=1000)
        one = {**step(server, mode, connect_timeout=30, stall_timeout=30), "timeout": 0.7}
        outcome, seconds = play_timed(runner, [one])

    assert_timed_out(outcome, seconds, 0.7)
    assert written_to(runner, remote, stage != "sftp_read")["a"] == b"older"


def test_a_silent_agent_ends(
    runner: Runner, remote: Path, asyncssh_server: AsyncsshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {"authentication_method": "ssh_agent", "username": asyncssh_server.username}
    one = {**step(asyncssh_server, make_mode(runner, remote, True, 10), authentication=login), "timeout": 0.7}
    with silent_agent() as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        outcome, seconds = play_timed(runner, [one])

    assert_timed_out(outcome, seconds, 0.7)


class _OneByteAtATime(FileServer):
    """Each read takes a while and gives one byte: progress, for `stall_timeout`."""

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        await asyncio.sleep(0.2)
        return b"x"


class _OneByteOfRoom(FileServer):
    """Nothing is ever written, but now and then there is room for one byte more."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False) -> None:
        super().__init__(channel, root, chroot)
        self.given_bytes = 0

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        while not self.channel.is_closing():
            await asyncio.sleep(0.2)
            self.channel.send_packet(WINDOW_ADJUST, (1).to_bytes(4, "big"))
        return 0


@Ways
def test_a_server_that_dribbles_is_not_waited_for(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    mode = make_mode(runner, remote, is_upload)
    factory: Any = _OneByteOfRoom if is_upload else _OneByteAtATime
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        one = {**step(server, mode, stall_timeout=1), "timeout": 2.5}
        outcome, seconds = play_timed(runner, [one])

    assert_timed_out(outcome, seconds, 2.5)
    left = written_to(runner, remote, is_upload)
    assert left["a"] == b"older"
    if is_upload:
        # There is no way to send the request that would remove it.
        (temporary,) = left.keys() - {"a"}
        message = outcome.step["error"]["message"]
        assert "What may be left" in message
        assert temporary in message
    else:
        assert left == {"a": b"older"}


@pytest.mark.parametrize("fault", [BlackHole("up", 3_000_000), RateLimit(40_000)], ids=["black hole", "thin line"])
@Ways
def test_a_line_that_takes_next_to_nothing_is_not_waited_for(
    runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool, fault: Any
) -> None:
    """A write that hangs in the kernel is given up as well."""
    if not is_upload and isinstance(fault, BlackHole):
        fault = BlackHole("down", 3_000_000)
    mode = make_mode(runner, remote, is_upload, 30_000_000)
    with FaultProxy(sshd.host, sshd.port, fault) as proxy:
        one = {**step(sshd, mode), "port": proxy.port, "timeout": 2}
        outcome, seconds = play_timed(runner, [one])

    assert_timed_out(outcome, seconds, 2)
    assert written_to(runner, remote, is_upload)["a"] == b"older"


def test_further_channels_that_do_not_open_are_not_waited_for(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """They are opened by threads of their own."""
    hanging: Any = fail_first_sessions(1, FileServer, honest=_hang)
    mode = {**make_mode(runner, remote, is_upload=True), "channels": 6}
    with (
        AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=hanging) as server,
        LatencyProxy(server.host, server.port, round_trip_seconds=0.05) as proxy,
    ):
        one = {**step(server, mode), "host": proxy.host, "port": proxy.port, "timeout": 2.5}
        outcome, seconds = play_timed(runner, [one])
        requests = len(server.requests)

    assert requests > 1, "only one channel was asked for"
    assert_timed_out(outcome, seconds, 2.5)
    assert written_to(runner, remote, is_upload=True)["a"] == b"older"


async def _hang(channel: Channel, root: Path, chroot: bool) -> FileServer:
    await asyncio.sleep(60)
    return FileServer(channel, root, chroot)


def test_every_attempt_has_its_own(runner: Runner, tmp_path: Path, remote: Path) -> None:
    mode = make_mode(runner, remote, is_upload=True, size=30_000_000)
    factory = fail_first_sessions(1, partial(misbehaving.SlowServer, seconds=0.05))
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        one = {**step(server, mode), "timeout": 4, "retries": 1, "delay": 1}
        outcome, seconds = play_timed(runner, [one])
        connections = server.connection_count

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == connections == 2
    assert seconds > 4.8
    assert snapshot(remote) == {"a": (runner.folder / "source").read_bytes()}
    assert "took longer than its timeout of 4 s" in outcome.stdout


class _SlowRename(FileServer):
    """Takes longer to rename than a step has left."""

    seconds = 1.5

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        await asyncio.sleep(self.seconds)
        os.replace(self.map_path(oldpath), self.map_path(newpath))


class _VerySlowRename(_SlowRename):
    seconds = 30


def test_a_rename_under_way_is_waited_for(runner: Runner, tmp_path: Path, remote: Path) -> None:
    mode = make_mode(runner, remote, is_upload=True, size=1000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=_SlowRename) as server:
        outcome, seconds = play_timed(runner, [{**step(server, mode), "timeout": 1}])

    assert outcome.exit_code == 0, outcome.output
    assert seconds > 1
    assert snapshot(remote) == {"a": (runner.folder / "source").read_bytes()}


def test_a_rename_is_not_waited_for_long(runner: Runner, tmp_path: Path, remote: Path) -> None:
    mode = make_mode(runner, remote, is_upload=True, size=1000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=_VerySlowRename) as server:
        outcome, seconds = play_timed(runner, [{**step(server, mode), "timeout": 0.5}])

    # The time of a deferral, and that of clean-up.
    assert_timed_out(outcome, seconds, 0.5)
    assert (remote / "a").read_bytes() == b"older"


def test_a_timeout_that_is_kept_has_no_say_in_the_next_step(runner: Runner, tmp_path: Path, remote: Path) -> None:
    mode = make_mode(runner, remote, is_upload=True, size=3_000_000)
    factory = partial(misbehaving.SlowServer, seconds=0.1)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        quick = {**step(server, upload("play.yaml", "b")), "timeout": 1}
        outcome, seconds = play_timed(runner, [quick, step(server, mode)])
        connections = server.connection_count

    assert outcome.statuses == ["changed", "changed"], outcome.output
    assert connections == 1
    assert seconds > 1
