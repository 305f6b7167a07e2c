"""wait_for: what it waits for, for how long, and what it tells; a session that is closed while it is idle is replaced."""

from __future__ import annotations

import functools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, download, snapshot, step
from tests.execution.test_interruption import Process
from tests.patience import BUSY_SECONDS, EVENT_SECONDS, ends_within, wait_for
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileServer
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import (
    FAILURE,
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    Execute,
    Kind,
    RawSftpServer,
    Request,
    Script,
    packet,
    string,
)
from tests.servers.raw_sftp import status as refuse
from tests.transfer.operations import Operation

# As often as is allowed: what a test waits for it makes itself, a moment later.
QUICKLY: dict[str, Any] = {"every": 0.1, "timeout": EVENT_SECONDS}


@contextmanager
def meanwhile(*actions: Callable[[], object], seconds: float = 0.5) -> Iterator[None]:
    """While the block runs, do this, each `seconds` after the one before."""

    def act() -> None:
        for action in actions:
            time.sleep(seconds)
            action()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_what_is_there_already_is_not_waited_for(play: Operation) -> None:
    (play.remote / "a").write_text("text")

    with ends_within(3):
        for arguments in ([], ["--check"]):
            status, result = play.well("wait_for", *arguments, path="a", every=3600)
            assert (status, result["met"], result["state"], result["path"]) == ("ok", True, "present", "a")
            (entry,) = result["entries"]
            assert (entry["path"], entry["type"], entry["size_bytes"]) == ("a", "file", 4)
            assert result["waited_seconds"] < 3 + BUSY_SECONDS
        play.well("wait_for", path="gone", state="absent", every=3600)


def test_a_file_that_comes_later(play: Operation) -> None:
    with meanwhile(lambda: (play.remote / "a").write_text("text")):
        status, result = play.well("wait_for", path="a", **QUICKLY)

    assert (status, result["met"]) == ("ok", True)
    assert result["waited_seconds"] >= 0.1
    assert [entry["path"] for entry in result["entries"]] == ["a"]


def test_a_file_that_goes_later(play: Operation) -> None:
    (play.remote / "lock").symlink_to("nowhere")

    with meanwhile((play.remote / "lock").unlink):
        result = play.well("wait_for", path="lock", state="absent", **QUICKLY)[1]

    assert (result["met"], result["entries"]) == (True, [])
    assert result["waited_seconds"] >= 0.1


def test_as_many_as_the_step_wants_and_as_large(play: Operation) -> None:
    folder = play.remote / "in"
    folder.mkdir()
    for name, size in (("a.csv", 10), ("b.csv", 0), ("c.txt", 10)):
        (folder / name).write_bytes(b"x" * size)

    with meanwhile(lambda: (folder / "d.csv").write_text("x"), lambda: (folder / "b.csv").write_text("x")):
        result = play.well("wait_for", path="in/*.csv", min_files=3, min_size=1, **QUICKLY)[1]

    assert [entry["path"] for entry in result["entries"]] == ["in/a.csv", "in/b.csv", "in/d.csv"]


def test_a_directory_that_comes_later_and_a_file_in_it(play: Operation) -> None:
    def make() -> None:
        (play.remote / "new").mkdir()

    with meanwhile(make, lambda: (play.remote / "new/a").write_text("x")):
        assert play.well("wait_for", path="new/*", **QUICKLY)[1]["met"]


def test_settled_is_what_has_not_changed_for_a_while(play: Operation) -> None:
    """A file that grows, and then another one that comes: both begin the wait anew."""
    path = play.remote / "a.csv"
    path.write_text("")

    def grow() -> None:
        with path.open("a") as file:
            file.write("more\n")

    last_change: list[float] = []
    actions = [
        *[grow] * 3,
        lambda: (play.remote / "b.csv").write_text("x"),
        lambda: last_change.append(time.monotonic()),
    ]
    with meanwhile(*actions, seconds=0.3):
        result = play.well("wait_for", path="*.csv", state="settled", settle=1, **QUICKLY)[1]

    assert last_change, "it did not wait for the last change"
    assert [(entry["path"], entry["size_bytes"]) for entry in result["entries"]] == [("a.csv", 15), ("b.csv", 1)]
    assert result["waited_seconds"] >= 4 * 0.3 + 1 - 0.3


class _SlowLook(FileServer):
    """Takes its time: before the first look at the disk, and after the others. `looked_at` is when each was."""

    looked_at: list[float]

    def stat(self, path: bytes) -> Any:
        is_first = not self.looked_at
        if is_first:
            time.sleep(0.6)
        self.looked_at.append(time.monotonic())
        found = super().stat(path)
        if not is_first:
            time.sleep(0.6)
        return found


def test_a_slow_look_is_no_time_in_which_nothing_changes(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """Between the first moment at which the server has looked, and the last one, is as long as the step says."""
    (remote / "a").write_text("x")
    looked_at: list[float] = []

    def serve(channel: Channel, root: Path, chroot: bool) -> FileServer:
        server = _SlowLook(channel, root, chroot)
        server.looked_at = looked_at
        return server

    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=serve) as server:
        Operation(runner, server, remote).well("wait_for", path="a", state="settled", settle=1, **QUICKLY)

    assert looked_at[-1] - looked_at[0] >= 1


def test_settled_looks_again_when_it_may_be_over_and_not_later(play: Operation) -> None:
    (play.remote / "a").write_text("x")

    with ends_within(3):
        result = play.well("wait_for", path="a", state="settled", settle=1, every=3600)[1]
    assert result["waited_seconds"] >= 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"path": "a"}, ["there is 'a'", "is not there"]),
        ({"path": "in/*.txt"}, ["there is 'in/*.txt'", "nothing matches"]),
        ({"path": "in/*", "min_files": 3}, ["3 paths match", "2 paths match", "'in/x'"]),
        ({"path": "in/*", "min_size": 4}, ["at least 4 bytes", "0 of 2 count"]),
        ({"path": "in/x", "state": "absent"}, ["'in/x' is gone", "is there"]),
    ],
)
def test_when_the_time_is_up_the_error_says_what_is_there(
    play: Operation, fields: dict[str, Any], words: list[str]
) -> None:
    (play.remote / "in").mkdir()
    for name in "xy":
        (play.remote / "in" / name).write_text(name)
    before = snapshot(play.remote)

    with ends_within(5):
        outcome = play("wait_for", timeout=0.5, every=0.1, **fields)

    assert outcome.exit_code == 2, outcome.output
    error = outcome.step["error"]
    assert error["type"] == "WaitTimedOut"
    for word in ["waited 0.5 s", *words]:
        assert word in error["message"], error
    assert error["hint"]
    assert snapshot(play.remote) == before


def test_what_still_changes_when_the_time_is_up(play: Operation) -> None:
    path = play.remote / "a"
    path.write_text("")

    def grow() -> None:
        with path.open("a") as file:
            file.write("more\n")

    with meanwhile(*[grow] * 25, seconds=0.1):
        outcome = play("wait_for", path="a", state="settled", settle=1.9, timeout=2, every=0.1)

    error = outcome.step["error"]
    assert (outcome.exit_code, error["type"]) == (2, "WaitTimedOut"), outcome.output
    assert re.search(r"unchanged for 1.9 s: is there, unchanged for [01]\.\d s so far", error["message"]), error


def test_a_timeout_of_nothing_looks_once(play: Operation) -> None:
    with ends_within(3):
        outcome = play("wait_for", path="a", timeout=0)
    assert outcome.step["error"]["type"] == "WaitTimedOut"


def test_a_wait_whose_time_was_up_is_not_begun_anew(play: Operation) -> None:
    mode = {"mode_name": "wait_for", "path": "a", "timeout": 0.2, "every": 0.1}
    outcome = play.runner.play([{**connection(play.server), "mode": mode, "retries": 2, "delay": 0}])

    assert (outcome.exit_code, outcome.step["attempts"]) == (2, 1), outcome.output


def test_check_looks_once_and_does_not_fail(play: Operation) -> None:
    with ends_within(5):
        for fields in ({"path": "a"}, {"path": "*", "min_files": 2}, {"path": "a", "state": "settled"}):
            status, result = play.well("wait_for", "--check", **fields)
            assert (status, result["met"], result["entries"]) == ("ok", False, [])
        outcome = play("wait_for", "--check", path="a")
    assert "would wait until there is 'a': is not there" in outcome.stdout


def test_the_step_after_it_finds_what_has_come(play: Operation) -> None:
    waiting = {"mode_name": "wait_for", "path": "out/a", **QUICKLY}
    steps = [{**connection(play.server), "mode": mode} for mode in (waiting, download("out/a", "a"))]
    (play.remote / "out").mkdir()

    with meanwhile(lambda: (play.remote / "out/a").write_text("text")):
        outcome = play.runner.play(steps)

    assert outcome.statuses == ["ok", "changed"], outcome.output
    assert (play.runner.folder / "a").read_text() == "text"


def test_lengths_of_time(play: Operation) -> None:
    (play.remote / "a").write_text("x")
    step_ = {
        **connection(play.server),
        "vars": {"wait": "5"},
        "mode": {
            "mode_name": "wait_for",
            "path": "a",
            "timeout": "2h",
            "every": "1m",
            "min_files": "{{ 2 - 1 }}",
            "settle": "{{ wait }}",
            "state": "settled",
        },
    }
    outcome = play.runner.play([step_], "--check")
    assert outcome.exit_code == 0, outcome.output
    assert "unchanged for 5 s" in outcome.stdout


# --- servers that do not let it be looked at ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [PERMISSION_DENIED, FAILURE, OP_UNSUPPORTED])
@pytest.mark.parametrize("path", ["lock", "lo*"])
@pytest.mark.parametrize("state", ["absent", "present", "settled"])
def test_what_cannot_be_looked_at_is_neither_there_nor_gone(
    runner: Runner, tmp_path: Path, remote: Path, state: str, path: str, code: int
) -> None:
    (remote / "lock").write_text("x")
    looks = (Kind.STAT, Kind.LSTAT, Kind.OPENDIR)

    class Refusing(Script):
        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            return [refuse(request.id, code, b"no")] if request.kind in looks else [execute()]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=Refusing) as server, ends_within(5):
        outcome = Operation(runner, server, remote)("wait_for", path=path, state=state)

    assert outcome.exit_code == 2, outcome.output
    error = outcome.step["error"]
    assert error["type"] != "WaitTimedOut"
    assert error["hint"]


def test_a_listing_that_gives_names_only_is_enough(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """What a name is, and how large, the server is asked for each."""
    for number in range(3):
        (remote / f"{number}.csv").write_text("x" * number)

    class NamesOnly(Script):
        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            reply = execute()
            if request.kind != Kind.READDIR or reply[4] != Kind.NAME:
                return [reply]
            names = [os.fsencode(name) for name in sorted(os.listdir(remote))]
            entries = b"".join(string(name) + string(name) + bytes(4) for name in names)
            return [packet(Kind.NAME, request.id, len(names).to_bytes(4, "big") + entries)]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=NamesOnly) as server:
        result = Operation(runner, server, remote).well("wait_for", path="*.csv", min_files=2, min_size=1, timeout=0)[1]

    assert [entry["size_bytes"] for entry in result["entries"]] == [0, 1, 2]


# --- a session that is closed while it is idle -------------------------------------------------------------------------


def play_while_closing(runner: Runner, server: Any, remote: Path, close: Callable[[], object]) -> Outcome:
    """Wait for a file that comes after the session was closed twice."""
    mode = {"mode_name": "wait_for", "path": str(remote / "a"), **QUICKLY, "every": 0.3}
    with meanwhile(close, close, lambda: (remote / "a").write_text("x"), seconds=0.6):
        return runner.play([step(server, mode), step(server, download(remote / "a", "a"))])


@pytest.mark.parametrize("what", ["connection", "channel"])
def test_a_session_that_is_closed_is_replaced(runner: Runner, tmp_path: Path, remote: Path, what: str) -> None:
    channels: list[Channel] = []

    def serve(channel: Channel, root: Path, chroot: bool) -> FileServer:
        channels.append(channel)
        return FileServer(channel, root, chroot)

    def close() -> None:
        if what == "connection":
            server.kill_sessions()
        else:
            server._thread.call(functools.partial(channels[-1].exit, 0))

    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=serve) as server:
        outcome = play_while_closing(runner, server, remote, close)
        count = server.connection_count

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1]
    # Where the connection is still good, nobody has to log in again.
    assert count == (3 if what == "connection" else 1)


def test_a_session_of_openssh_that_is_killed_is_replaced(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with OpenSSHServer(tmp_path / "server") as server:
        outcome = play_while_closing(runner, server, remote, server.kill_sessions)

    assert outcome.exit_code == 0, outcome.output
    assert [one["attempts"] for one in outcome.report["steps"]] == [1, 1]


def test_a_server_that_is_gone_for_good_is_unreachable(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server = AsyncsshServer(tmp_path / "server", root=remote)
    server.__enter__()
    mode = {"mode_name": "wait_for", "path": "a", **QUICKLY}
    with ends_within(10), meanwhile(lambda: server.__exit__(None, None, None)):
        outcome = runner.play([step(server, mode, connect_timeout=5)])

    assert outcome.exit_code == 4, outcome.output
    assert outcome.statuses == ["unreachable"]


# --- ending ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once(tmp_path: Path, remote: Path, number: int, exit_code: int) -> None:
    looks: list[bytes] = []

    class Counting(FileServer):
        def stat(self, path: bytes) -> Any:
            looks.append(path)
            return super().stat(path)

    mode = {"mode_name": "wait_for", "path": "a", "every": 3600, "timeout": 3600}
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=Counting) as server:
        process = Process(tmp_path, [step(server, mode), step(server, mode)])
        wait_for(lambda: looks)
        with ends_within(3):
            code, report, output = process.interrupt(number)

    assert code == exit_code, output
    assert [one["status"] for one in report["steps"]] == ["failed", "skipped"]
    assert report["steps"][0]["error"]["type"] == "Interrupted"
    assert "Traceback" not in output
    assert len(looks) == 1


def test_the_step_s_own_timeout_ends_it_too(play: Operation) -> None:
    mode = {"mode_name": "wait_for", "path": "a", "every": 3600, "timeout": 3600}
    with ends_within(5):
        outcome = play.runner.play([{**connection(play.server), "mode": mode, "timeout": 1}])

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (4, "StepTimedOut"), outcome.output


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ({}, "missing key 'path'"),
        ({"path": "~/a"}, "'~' is not expanded"),
        ({"path": "a", "state": "there"}, "'state' must be present or absent or settled"),
        ({"path": "a", "state": "absent", "min_files": 2}, "'min_files' means nothing with 'state: absent'"),
        ({"path": "a", "state": "absent", "min_size": 2}, "'min_size' means nothing with 'state: absent'"),
        ({"path": "a", "settle": 5}, "'settle' means nothing with 'state: present'"),
        ({"path": "a", "every": 0}, "'every' must be at least 0.1"),
        ({"path": "a", "every": "0s"}, "'every' must be at least 0.1"),
        ({"path": "a", "timeout": "1y"}, "'timeout' must be a length of time"),
        ({"path": "a", "min_files": 0}, "'min_files' must be at least 1"),
        ({"path": "a", "retries": 3}, "unknown key 'retries'"),
        ({"path": "a", "min_files": 2}, "'min_files: 2' can never be"),
        ({"path": "a", "state": "settled", "settle": 300}, "'settle' (300 s) is not shorter than 'timeout' (300 s)"),
        ({"path": "a", "state": "settled", "timeout": "5s"}, "'settle' (5 s) is not shorter than 'timeout' (5 s)"),
        ({"path": "a", "state": "settled", "settle": "{{ 5 * 2 }}", "timeout": "{{ 3 }}"}, "'settle' (10 s) is not"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_contacted(
    runner: Runner, remote: Path, asyncssh_server: AsyncsshServer, mode: dict[str, Any], words: str
) -> None:
    outcome = runner.play([{**connection(asyncssh_server), "mode": {"mode_name": "wait_for", **mode}}])

    assert outcome.exit_code == 3, outcome.output
    assert words in outcome.stderr
    assert outcome.report["steps"] == []
