"""Connections that are kept between steps: closed by the server while they are idle, and by us when nobody needs them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.cancellation import Cancellation
from runner.events import Event, StepStarted
from runner.execution.sessions import CLOSING_SECONDS
from runner.plan import PlayOptions
from runner.play import load_play, play
from runner.sftp.batch import upload as batch_upload
from runner.ssh.connection import Connection
from tests.conftest import Runner, connection, download, require_sshd, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import Channel, FileServer
from tests.servers.forwarding import ForwardingServer
from tests.servers.openssh import OpenSSHServer, ServerFailure
from tests.servers.raw_sftp import Execute, Hangup, Kind, RawSftpServer, Request, Script

# How long a server waits until a close has got through to us.
NOTICE_SECONDS = 0.2

CHANGING = {Kind.OPEN, Kind.SETSTAT, Kind.REMOVE, Kind.MKDIR, Kind.RMDIR, Kind.RENAME, Kind.EXTENDED}


def tree(name: str, source: str | Path, destination: str | Path) -> dict[str, Any]:
    return {
        "mode_name": name,
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
    }


def make_mode(name: str, local: Path, remote: Path) -> dict[str, Any]:
    """A mode of this name that has something to do."""
    (local / "folder").mkdir()
    (local / "folder" / "file").write_text("content")
    (local / "file").write_text("content")
    (remote / "there").mkdir()
    (remote / "there" / "file").write_text("content")
    path = {"mode_name": name, "path": str(remote / "there")}
    modes: dict[str, dict[str, Any]] = {
        "upload": upload(local / "file", remote / "copy"),
        "download": download(remote / "there/file", local / "copy"),
        "tree up": tree("copy_directory_from_engine", local / "folder", remote / "new"),
        "tree down": tree("copy_directory_to_engine", remote / "there", local / "new"),
        "list": path,
        "stats": path,
        "remove": {**path, "recursive": True},
        "rename": {
            "mode_name": name,
            "source_path": str(remote / "there"),
            "destination_path": str(remote / "new"),
        },
        "create_directory": {**path, "path": str(remote / "new")},
        "write_file": {"mode_name": name, "content": "content", "destination_file_name": str(remote / "new")},
        "read_file": {"mode_name": name, "source_file_name": str(remote / "there/file")},
        "create_link": {**path, "path": str(remote / "new"), "target": "there"},
        "wait_for": {**path, "path": str(remote / "th*")},
    }
    return modes[name]


MODES = [
    *("upload", "download", "tree up", "tree down", "list", "stats", "remove", "rename", "create_directory"),
    *("write_file", "read_file", "create_link", "wait_for"),
]


@contextmanager
def other_host(folder: Path, action: Callable[[], None]) -> Iterator[AsyncsshServer]:
    """A host that, while it is served, has something done to another one."""

    def serve(channel: Channel, root: Path, chroot: bool) -> FileServer:
        action()
        time.sleep(NOTICE_SECONDS)
        return FileServer(channel, root, chroot)

    with AsyncsshServer(folder, root=Path("/"), sftp_factory=serve) as server:
        yield server


def look() -> dict[str, Any]:
    return {"mode_name": "stats", "path": "/"}


# --- closed while another host is served ---


@pytest.mark.parametrize("what", ["connection", "channel"])
@pytest.mark.parametrize("mode_name", MODES)
def test_what_was_closed_meanwhile_is_replaced(
    runner: Runner, tmp_path: Path, remote: Path, mode_name: str, what: str
) -> None:
    channels: list[Channel] = []

    def serve(channel: Channel, root: Path, chroot: bool) -> FileServer:
        channels.append(channel)
        return FileServer(channel, root, chroot)

    def close() -> None:
        server._thread.call(server._abort_connections if what == "connection" else lambda: channels[0].exit(0))

    mode = make_mode(mode_name, runner.folder, remote)
    with (
        AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=serve) as server,
        other_host(tmp_path / "other", close) as other,
    ):
        outcome = runner.play([step(server, look()), step(other, look()), step(server, mode)])
        connection_count = server.connection_count

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1, 1]
    # Of a connection that is still good, only the channel is replaced: nobody has to log in again.
    assert (connection_count, len(channels)) == (2 if what == "connection" else 1, 2)


def test_scp_gets_a_fresh_connection_too(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "file").write_text("content")
    with (
        AsyncsshServer(tmp_path / "server", root=remote) as server,
        other_host(tmp_path / "other", lambda: server.kill_sessions()) as other,
    ):
        steps = [
            step(server, upload("file", remote / "a"), connector_type="SCP"),
            step(other, look()),
            step(server, upload("file", remote / "b"), connector_type="SCP"),
        ]
        outcome = runner.play(steps)

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1, 1]
    assert (remote / "b").read_text() == "content"


@pytest.mark.parametrize("closed", ["gateway", "target"])
def test_the_whole_way_through_a_jump_host_is_made_anew(
    runner: Runner, tmp_path: Path, remote: Path, closed: str
) -> None:
    (runner.folder / "file").write_text("content")
    with (
        ForwardingServer(tmp_path / "gateway") as gateway,
        AsyncsshServer(tmp_path / "server", root=remote) as server,
        other_host(tmp_path / "other", lambda: (gateway if closed == "gateway" else server).kill_sessions()) as other,
    ):
        target = step(server, look(), proxy_jump=[connection(gateway)])
        outcome = runner.play([target, step(other, look()), {**target, "mode": upload("file", remote / "a")}])

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1, 1]
    assert (remote / "a").read_text() == "content"


@pytest.mark.parametrize("how", ["ChannelTimeout session:subsystem:sftp=4", "ChannelTimeout session:*=4"])
def test_the_idle_limit_of_openssh(runner: Runner, tmp_path: Path, remote: Path, how: str) -> None:
    require_sshd()
    (runner.folder / "file").write_text("content")
    try:
        server = OpenSSHServer(tmp_path / "server", extra_config=(how,))
        server.start()
    except ServerFailure:
        pytest.skip("this sshd knows no ChannelTimeout")
    try:
        # Long enough that a busy machine is not idle for it within a step.
        with other_host(tmp_path / "other", lambda: time.sleep(6)) as other:
            outcome = runner.play(
                [step(server, look()), step(other, look()), step(server, upload("file", remote / "a"))]
            )
    finally:
        server.stop()

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1, 1]
    assert (remote / "a").read_text() == "content"


def test_further_channels_that_were_closed_are_replaced(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_upload, "ROUND_TRIP_PER_CHANNEL_SECONDS", 0.000001)
    monkeypatch.setattr(batch_upload, "MANY_CHANNELS_BYTES", 1)
    content = os.urandom(3_000_000)
    (runner.folder / "file").write_bytes(content)
    channels: list[Channel] = []

    def serve(channel: Channel, root: Path, chroot: bool) -> FileServer:
        channels.append(channel)
        return FileServer(channel, root, chroot)

    def close() -> None:
        # All but the first one, which is the session's own.
        for channel in channels[1:]:
            server._thread.call(functools.partial(channel.exit, 0))

    with (
        AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=serve) as server,
        other_host(tmp_path / "other", close) as other,
    ):
        outcome = runner.play(
            [
                step(server, upload("file", "a", channels=6)),
                step(other, look()),
                step(server, upload("file", "b", channels=6)),
            ]
        )

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1, 1]
    assert len(channels) == 1 + 2 * (batch_upload.MAX_CHANNELS - 1)
    assert (remote / "b").read_bytes() == content


# --- closed when the first request comes ---


class EndsAtSecondStep(Script):
    """The first session answers so many requests, and is closed by the next; every further one is honest."""

    answered_at_most: int
    sessions: list[list[Request]]

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sessions.append(self.requests)

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        if len(self.sessions) == 1 and len(self.requests) >= self.answered_at_most:
            self.requests.append(request)
            raise Hangup
        self.requests.append(request)
        return [execute()]


@pytest.fixture
def script() -> type[EndsAtSecondStep]:
    class OfThisTest(EndsAtSecondStep):
        answered_at_most = 1
        sessions: list[list[Request]] = []

    return OfThisTest


@pytest.mark.parametrize("mode_name", MODES)
def test_a_session_that_ends_with_the_first_request_is_begun_once_more(
    runner: Runner, tmp_path: Path, remote: Path, mode_name: str, script: type[EndsAtSecondStep]
) -> None:
    mode = make_mode(mode_name, runner.folder, remote)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        # The limits are asked for as well.
        script.answered_at_most = 2
        outcome = runner.play([step(server, look()), step(server, mode)])
        connection_count = server.connection_count

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1]
    # A wait asks for another channel itself, and needs no other login.
    assert connection_count == (1 if mode_name == "wait_for" else 2)
    # What was asked in vain may have been carried out all the same: it was nothing that changes anything.
    asked_in_vain = script.sessions[0][2:]
    assert asked_in_vain
    assert not CHANGING & {request.kind for request in asked_in_vain}


@pytest.mark.parametrize("mode_name", ["upload", "tree up", "remove"])
def test_what_has_begun_to_be_answered_is_a_failure(
    runner: Runner, tmp_path: Path, remote: Path, mode_name: str, script: type[EndsAtSecondStep]
) -> None:
    mode = make_mode(mode_name, runner.folder, remote)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        script.answered_at_most = 3
        outcome = runner.play([step(server, look()), step(server, mode)])
        connection_count = server.connection_count

    assert outcome.exit_code == 4, outcome.output
    assert outcome.report["steps"][1]["error"]["type"] == "ConnectionLost"
    assert connection_count == 1


def test_a_fresh_session_that_ends_with_the_first_request_is_a_failure(
    runner: Runner, tmp_path: Path, remote: Path, script: type[EndsAtSecondStep]
) -> None:
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        script.answered_at_most = 1
        outcome = runner.play([step(server, look())])
        connection_count = server.connection_count

    assert outcome.exit_code == 4, outcome.output
    assert connection_count == 1


def test_a_host_that_is_gone_is_told_after_one_more_attempt_to_connect(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    with (
        AsyncsshServer(tmp_path / "server", root=remote) as server,
        other_host(tmp_path / "other", server.stop) as other,
    ):
        outcome = runner.play([step(server, look()), step(other, look()), step(server, look())])

    assert outcome.exit_code == 4, outcome.output
    assert outcome.statuses == ["ok", "ok", "unreachable"]
    assert outcome.report["steps"][2]["attempts"] == 1
    assert outcome.report["steps"][2]["error"]["type"] == "ConnectFailed"


# --- closed by us ---


def play_observed(runner: Runner, playbook: Any, observe: Callable[[Event], None]) -> Any:
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps(playbook))
    return play(
        load_play(str(path)),
        options=PlayOptions(False, False, False),
        observers=[observe],
        cancellation=Cancellation(),
    )


def wait_until(is_so: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)
    return is_so()


def count_connections(server: AsyncsshServer) -> int:
    return len(server._visits.connections)


def test_a_connection_is_closed_behind_its_last_step_and_so_are_its_jump_hosts(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    with (
        ForwardingServer(tmp_path / "gateway") as gateway,
        AsyncsshServer(tmp_path / "first", root=remote) as first,
        AsyncsshServer(tmp_path / "second", root=remote) as second,
    ):
        seen: list[tuple[bool, bool]] = []

        def observe(event: Event) -> None:
            if isinstance(event, StepStarted) and event.step.index > 1:
                is_last = event.step.index == 4
                is_kept = count_connections(first) == count_connections(gateway) == 1
                seen.append((is_kept, is_last and wait_until(lambda: not count_connections(first))))
                if is_last:
                    assert wait_until(lambda: not count_connections(gateway))

        there = step(first, look(), proxy_jump=[connection(gateway)])
        result = play_observed(runner, [there, step(second, look()), there, step(second, look())], observe)

    assert result.exit_code == 0
    assert [is_kept for is_kept, _ in seen[:2]] == [True, True]
    assert seen[2][1]
    assert (first.connection_count, second.connection_count) == (2 - 1, 1)


def test_steps_that_will_not_run_keep_no_connection_open(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with (
        AsyncsshServer(tmp_path / "first", root=remote) as first,
        AsyncsshServer(tmp_path / "second", root=remote) as second,
    ):
        is_closed: list[bool] = []

        def observe(event: Event) -> None:
            if isinstance(event, StepStarted) and event.step.name == "elsewhere":
                is_closed.append(wait_until(lambda: not count_connections(first)))

        # One host by its name, with two endpoints: the second one's failure ends the steps of both.
        good = {"connection": "first", "mode": look()}
        bad = {**good, "port": second.port, "name": "fails"}
        playbook = {
            "connections": {"first": connection(first), "second": connection(second)},
            "steps": [good, bad, good, good, {"connection": "second", "mode": look(), "name": "elsewhere"}],
        }
        result = play_observed(runner, playbook, observe)

    assert [one.status for one in result.steps] == ["ok", "failed", "skipped", "skipped", "ok"]
    assert is_closed == [True]


def test_a_slow_close_delays_nobody(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, released = Connection.close, threading.Event()

    def close_slowly(connection: Connection) -> None:
        released.wait(20)
        close(connection)

    monkeypatch.setattr(Connection, "close", close_slowly)
    with (
        AsyncsshServer(tmp_path / "first", root=remote) as first,
        AsyncsshServer(tmp_path / "second", root=remote) as second,
    ):
        started: list[float] = []

        def observe(event: Event) -> None:
            if isinstance(event, StepStarted):
                started.append(time.monotonic())

        before = time.monotonic()
        result = play_observed(runner, [step(first, look()), step(second, look())], observe)
        seconds = time.monotonic() - before
        released.set()
        assert wait_until(lambda: not count_connections(first) + count_connections(second))

    assert result.exit_code == 0
    assert started[1] - started[0] < 5
    assert seconds < CLOSING_SECONDS + 10


MANY_HOSTS = """
import json, os, sys, threading
from runner.cancellation import Cancellation
from runner.events import StepStarted
from runner.plan import PlayOptions
from runner.play import load_play, play

seen = []

def observe(event):
    if isinstance(event, StepStarted):
        memory_kib = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
        seen.append((threading.active_count(), len(os.listdir("/proc/self/fd")), memory_kib))

result = play(load_play(sys.argv[1]), options=PlayOptions(False, False, False), observers=[observe],
              cancellation=Cancellation())
print(json.dumps({"seen": seen, "exit_code": result.exit_code}))
"""


def test_many_hosts_take_no_more_than_a_few(runner: Runner, tmp_path: Path, sshd: Endpoint) -> None:
    """Threads, descriptors and memory of a host are given back when its last step is done."""
    # Other inputs make another endpoint, as another host would be.
    steps = [step(sshd, look(), keepalive_interval=number) for number in range(1, 31)]
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps(steps))
    done = subprocess.run(
        [sys.executable, "-c", MANY_HOSTS, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["exit_code"] == 0
    threads, descriptors, memory_kib = zip(*told["seen"], strict=True)
    # One connection each that is being closed, at most, beside the one in use.
    assert max(threads) <= min(threads) + 5, threads
    assert max(descriptors) <= min(descriptors) + 4, descriptors
    # The buffers alone of each are more than a megabyte.
    assert memory_kib[-1] - memory_kib[9] < 10_000, memory_kib
