"""Hosts that are silent, closed or speak something else: the play ends in time, says where it waited, and obeys signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import runner as package
from runner.transfer.context import CLEAN_UP_SECONDS
from tests.conftest import Outcome, Runner, connection, download, step, upload
from tests.patience import BUSY_SECONDS, EVENT_SECONDS, wait_for
from tests.servers.listeners import FullBacklog, GarbageServer, Listener, closed_port
from tests.servers.mute import STAGES, MuteServer, Stage
from tests.ssh.agents import silent_agent

TIMEOUT_SECONDS = 2
# What a busy machine may add to the timeout, the start of Python not included.
GRACE_SECONDS = 2 + BUSY_SECONDS

AWAITED: dict[Stage, str] = {
    "tcp": "the TCP connection was not accepted",
    "banner": "waited for the server's SSH banner",
    "key_exchange": "waited for the key exchange",
    "authentication": "waited for the answer to the authentication request",
    "subsystem": "waited for the sftp subsystem to start",
    "sftp_init": "waited for the first answer",
}
LATER_STAGES = [stage for stage in STAGES if stage not in AWAITED]


def play_timed(runner: Runner, only: dict[str, Any]) -> tuple[Outcome, float]:
    started = time.monotonic()
    outcome = runner.play([only])
    return outcome, time.monotonic() - started


def make_step(server: MuteServer, remote: Path, folder: Path, **inputs: Any) -> dict[str, Any]:
    """An upload; for a server that is silent when it is read, a download."""
    (folder / "file").write_text("content")
    if server.stage == "sftp_read":
        (remote / "source").write_text("content")
        return step(server, download(remote / "source", folder / "copy"), **inputs)
    return step(server, upload("file", remote / "file"), **inputs)


def assert_unreachable(outcome: Outcome, kind: str, *words: str) -> None:
    assert outcome.exit_code == 4, outcome.output
    assert outcome.statuses == ["unreachable"]
    error = outcome.step["error"]
    assert error["type"] == kind
    assert error["hint"]
    for word in words:
        assert word in error["message"]
        assert word in outcome.output


# --- silence ---


@pytest.mark.parametrize(("stage", "awaited"), AWAITED.items())
def test_silence_before_a_session_answers_ends_at_connect_timeout(
    runner: Runner, tmp_path: Path, remote: Path, stage: Stage, awaited: str
) -> None:
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        only = make_step(server, remote, runner.folder, connect_timeout=TIMEOUT_SECONDS)
        outcome, seconds = play_timed(runner, only)
        assert_unreachable(outcome, "ConnectTimedOut", f"{server.host}:{server.port}", "connect_timeout", awaited)
    assert TIMEOUT_SECONDS <= seconds < TIMEOUT_SECONDS + GRACE_SECONDS
    assert list(remote.iterdir()) == []


@pytest.mark.parametrize("stage", LATER_STAGES)
def test_silence_in_a_session_ends_at_stall_timeout(runner: Runner, tmp_path: Path, remote: Path, stage: Stage) -> None:
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        only = make_step(server, remote, runner.folder, stall_timeout=TIMEOUT_SECONDS)
        outcome, seconds = play_timed(runner, only)
        assert_unreachable(outcome, "Stalled", f"{server.host}:{server.port}", "2 s (stall_timeout)")
    assert TIMEOUT_SECONDS <= seconds < 3 * TIMEOUT_SECONDS + GRACE_SECONDS
    assert not (remote / "file").exists()
    assert not (runner.folder / "copy").exists()


def test_scp_to_a_server_that_starts_no_command_ends_at_connect_timeout(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    with MuteServer("subsystem", tmp_path / "server", root=remote) as server:
        only = make_step(server, remote, runner.folder, connect_timeout=TIMEOUT_SECONDS, connector_type="SCP")
        outcome, seconds = play_timed(runner, only)
        assert_unreachable(outcome, "ConnectTimedOut", "connect_timeout", "waited for a command to start")
    assert TIMEOUT_SECONDS <= seconds < TIMEOUT_SECONDS + GRACE_SECONDS


@pytest.mark.parametrize("stage", ["sftp_init", "sftp_write"])
def test_scp_to_a_server_that_falls_silent_ends_at_stall_timeout(
    runner: Runner, tmp_path: Path, remote: Path, stage: Stage
) -> None:
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        only = make_step(server, remote, runner.folder, stall_timeout=TIMEOUT_SECONDS, connector_type="SCP")
        outcome, seconds = play_timed(runner, only)
        assert_unreachable(outcome, "Stalled", f"{server.host}:{server.port}", "2 s (stall_timeout)")
    assert TIMEOUT_SECONDS <= seconds < 3 * TIMEOUT_SECONDS + GRACE_SECONDS


def test_the_later_steps_of_a_silent_host_are_skipped_and_those_of_others_are_not(
    runner: Runner, tmp_path: Path, remote: Path, asyncssh_server: Any
) -> None:
    (runner.folder / "file").write_text("content")
    with Listener() as silent:
        mute = {**connection(asyncssh_server, connect_timeout=1), "port": silent.port}
        play = [
            {**mute, "mode": upload("file", remote / "a")},
            {**mute, "mode": upload("file", remote / "b")},
            step(asyncssh_server, upload("file", remote / "c")),
        ]
        outcome = runner.play(play)
        assert silent.connection_count == 1
    assert outcome.statuses == ["unreachable", "skipped", "changed"]
    assert outcome.exit_code == 4
    assert "failed on this host" in outcome.report["steps"][1]["message"]
    assert [path.name for path in remote.iterdir()] == ["c"]


# --- no SSH server at all ---


def test_a_closed_port_fails_at_once(runner: Runner, asyncssh_server: Any, remote: Path) -> None:
    port = closed_port()
    (runner.folder / "file").write_text("content")
    for kind in ("SFTP", "SCP"):
        only = step(asyncssh_server, upload("file", remote / "file"), connector_type=kind, port=port)
        outcome, seconds = play_timed(runner, only)
        assert_unreachable(outcome, "ConnectFailed", f"127.0.0.1:{port}", "refused")
        assert seconds < GRACE_SECONDS


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.0 400 Bad Request\r\n\r\n",
        b"220 ftp.example FTP server ready\r\n",
        b"",
        b"\x00\xff\x1b[31m\x07" * 100,
        b"SSH-1.5-old\r\n",
        b"x" * 100_000,
        b"line\r\n" * 10_000,
    ],
    ids=["http", "ftp", "nothing", "binary", "ssh1", "long line", "many lines"],
)
def test_a_port_that_speaks_something_else_is_told(
    runner: Runner, asyncssh_server: Any, remote: Path, greeting: bytes
) -> None:
    (runner.folder / "file").write_text("content")
    with GarbageServer(greeting) as server:
        only = step(asyncssh_server, upload("file", remote / "file"), port=server.port, connect_timeout=10)
        outcome, seconds = play_timed(runner, only)
        assert_unreachable(outcome, "ConnectFailed", f"127.0.0.1:{server.port}", "does not speak SSH")
    assert seconds < TIMEOUT_SECONDS + GRACE_SECONDS
    assert len(outcome.step["error"]["message"]) < 400
    assert "\x1b" not in outcome.output


def test_a_host_that_ends_the_connection_after_its_banner_is_told(
    runner: Runner, asyncssh_server: Any, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with GarbageServer(b"SSH-2.0-brief\r\n") as server:
        only = step(asyncssh_server, upload("file", remote / "file"), port=server.port, connect_timeout=10)
        outcome, seconds = play_timed(runner, only)
    assert_unreachable(outcome, "ConnectFailed", "ended the connection", "the key exchange")
    assert seconds < GRACE_SECONDS


def test_a_host_name_that_does_not_exist_is_told(runner: Runner, asyncssh_server: Any, remote: Path) -> None:
    (runner.folder / "file").write_text("content")
    name = "no-such-host.invalid"
    only = step(asyncssh_server, upload("file", remote / "file"), host=name, connect_timeout=TIMEOUT_SECONDS)
    outcome, seconds = play_timed(runner, only)
    assert outcome.step["error"]["type"] in ("ConnectFailed", "ConnectTimedOut")  # the latter without any network
    assert_unreachable(outcome, outcome.step["error"]["type"], name, "resolved")
    assert seconds < TIMEOUT_SECONDS + GRACE_SECONDS


# --- signals ---


def start_play(folder: Path, only: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    """`python -m runner play` in a process of its own, which has begun to play."""
    (folder / "play.yaml").write_text(json.dumps([only]))
    command = [sys.executable, "-m", "runner", "play", "play.yaml", "--json", "report.json"]
    root = str(Path(package.__file__).parents[1])
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": root, **environment}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("PLAY")
    return process


def assert_interrupted(
    process: subprocess.Popen[str], folder: Path, number: signal.Signals, within_seconds: float = 3
) -> None:
    """The signal ends the process in time, with its exit code and the report."""
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    started = time.monotonic()
    output, _ = process.communicate(timeout=EVENT_SECONDS)
    assert time.monotonic() - started < within_seconds + BUSY_SECONDS
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert report["exit_code"] == 128 + number
    assert report["steps"][0]["status"] == "failed"
    assert number.name in report["steps"][0]["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", [*AWAITED, "sftp_stat", "sftp_read"])
def test_a_signal_ends_the_wait_at_every_stage(
    tmp_path: Path, remote: Path, stage: Stage, number: signal.Signals
) -> None:
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        process = start_play(tmp_path, make_step(server, remote, tmp_path))
        if stage != "tcp":
            wait_for(lambda: server.connection_count > 0)
        if stage.startswith("s"):
            wait_for(lambda: server.requests == ["sftp"])
        time.sleep(0.2)
        assert_interrupted(process, tmp_path, number)
    assert not (remote / "file").exists()
    assert not (tmp_path / "copy").exists()


def test_a_signal_during_a_copy_waits_for_a_silent_server_no_longer_than_clean_up_may_take(
    tmp_path: Path, remote: Path
) -> None:
    """The temporary file on the server is worth a short wait, not an endless one."""
    with MuteServer("sftp_write", tmp_path / "server", root=remote) as server:
        process = start_play(tmp_path, make_step(server, remote, tmp_path))
        wait_for(lambda: server.requests == ["sftp"])
        time.sleep(0.3)
        assert_interrupted(process, tmp_path, signal.SIGTERM, within_seconds=CLEAN_UP_SECONDS + 2)
    assert not (remote / "file").exists()


@pytest.mark.parametrize("stage", ["subsystem", "sftp_init", "sftp_write"])
def test_a_signal_ends_the_wait_of_scp(tmp_path: Path, remote: Path, stage: Stage) -> None:
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        process = start_play(tmp_path, make_step(server, remote, tmp_path, connector_type="SCP"))
        wait_for(lambda: bool(server.requests))
        time.sleep(0.3)
        assert_interrupted(process, tmp_path, signal.SIGTERM)


def test_a_signal_ends_the_wait_for_a_silent_agent(tmp_path: Path, remote: Path, asyncssh_server: Any) -> None:
    (tmp_path / "file").write_text("content")
    login = {"authentication_method": "ssh_agent", "username": asyncssh_server.username}
    only = step(asyncssh_server, upload("file", remote / "file"), authentication=login)
    with silent_agent() as path:
        process = start_play(tmp_path, only, SSH_AUTH_SOCK=str(path))
        time.sleep(0.4)
        assert_interrupted(process, tmp_path, signal.SIGTERM)
    assert asyncssh_server.connection_count == 0


def has_socket(pid: int) -> bool:
    """Whether the process has one, and so has begun to connect."""
    folder = f"/proc/{pid}/fd"
    links = [os.path.join(folder, name) for name in os.listdir(folder)]
    return any(os.path.lexists(link) and os.readlink(link).startswith("socket:") for link in links)


def test_a_full_backlog_is_left_by_a_signal_in_the_hostkey_command_too(tmp_path: Path) -> None:
    backlog = FullBacklog()
    backlog.start()
    try:
        root = str(Path(package.__file__).parents[1])
        # A test run in the background has SIGINT ignored, and would hand that down.
        reset = ("env", "--default-signal=INT")
        command = [*reset, sys.executable, "-m", "runner", "hostkey", f"127.0.0.1:{backlog.port}"]
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: has_socket(process.pid))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=BUSY_SECONDS)
    finally:
        backlog.stop()
    assert process.returncode == 130
    assert "Traceback" not in errors
