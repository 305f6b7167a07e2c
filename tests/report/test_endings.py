"""In every ending there is a report and a recap of everything that was done, whatever went wrong in between."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner.cancellation import Cancellation
from runner.events import Event, ObserverFailed, PlayFinished, StepCrashed, StepFinished
from runner.plan import PlayOptions
from runner.play import load_play, play
from runner.report.console import Console
from runner.resources import schema_text
from runner.results import combine_codes
from tests.cli.processes import run_in_shell, write_playbook, write_unreachable
from tests.conftest import Runner, connection, download, snapshot, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.listeners import closed_port


def assert_valid(report: dict[str, Any]) -> None:
    Draft202012Validator(json.loads(schema_text("report"))).validate(report)


@pytest.fixture
def playbook(runner: Runner, asyncssh_server: AsyncsshServer) -> dict[str, Any]:
    """Four steps on two hosts; the second of them is the one that goes wrong."""
    for name in "abcd":
        (runner.folder / name).write_text(name)
    connections = {"one": connection(asyncssh_server), "two": connection(asyncssh_server)}
    steps = [("one", "a"), ("one", "b"), ("one", "c"), ("two", "d")]
    return {
        "connections": connections,
        "steps": [{"name": f"Send {name}", "connection": host, "mode": upload(name, name)} for host, name in steps],
    }


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> ZeroDivisionError:
    """An error that nobody has foreseen, in the middle of the step that copies `b`."""
    from runner.transfer import together, upload

    error = ZeroDivisionError("\x1b[2J::error::gone wrong")
    decide: Any = vars(upload)["decide"]

    def fail(copy: Any, *others: Any, **options: Any) -> Any:
        if copy.source.endswith("/b"):
            raise error
        return decide(copy, *others, **options)

    # Where a step is carried out together with those behind it, and where by itself.
    for module in (together, upload):
        monkeypatch.setattr(module, "decide", fail)
    return error


class TestABugInAStep:
    def test_it_is_that_step_s_failure_and_the_rest_is_reported_as_always(
        self, runner: Runner, playbook: dict[str, Any], remote: Path, crash: ZeroDivisionError
    ) -> None:
        outcome = runner.play(playbook)

        assert_valid(outcome.report)
        assert outcome.exit_code == outcome.report["exit_code"] == 1
        assert outcome.report["status"] == "failed"
        assert outcome.statuses == ["changed", "failed", "skipped", "changed"]
        counts = {"ok": 0, "changed": 1, "skipped": 1, "failed": 1, "unreachable": 0, "rescued": 0, "ignored": 0}
        assert outcome.report["recap"]["one"] == counts
        assert outcome.report["recap"]["two"]["changed"] == 1
        failed = outcome.report["steps"][1]
        assert failed["error"]["type"] == "InternalError"
        assert "ZeroDivisionError" in failed["error"]["message"]
        assert "report it" in failed["error"]["hint"]
        assert "step 2 (Send b) failed on this host" in outcome.report["steps"][2]["message"]
        assert snapshot(remote) == {"a": b"a", "d": b"d"}

    def test_the_console_shows_step_recap_and_ending(
        self, runner: Runner, playbook: dict[str, Any], crash: ZeroDivisionError
    ) -> None:
        outcome = runner.play(playbook)

        assert "FAILED       2/4  Send b [one]" in outcome.stdout
        assert outcome.stdout.count("RECAP") == 2
        assert "failed in" in outcome.stdout
        assert "exit code 1" in outcome.stdout

    def test_the_traceback_is_on_standard_error_and_drives_no_terminal(
        self, runner: Runner, playbook: dict[str, Any], crash: ZeroDivisionError
    ) -> None:
        outcome = runner.play(playbook)

        lines = outcome.stderr.splitlines()
        assert lines[0] == "| Traceback (most recent call last):"
        assert lines[-2].startswith("error: this is a bug in runner")
        assert all(line.startswith("| ") for line in lines[:-2])
        assert "Traceback" not in outcome.stdout
        assert "\x1b" not in outcome.output

    def test_its_connection_is_not_used_again_and_no_retry_is_made(
        self, runner: Runner, playbook: dict[str, Any], asyncssh_server: AsyncsshServer, crash: ZeroDivisionError
    ) -> None:
        for one in playbook["steps"]:
            one["retries"] = 3
        outcome = runner.play(playbook)

        assert outcome.report["steps"][1]["attempts"] == 1
        # Both connections are one to the same server; after the bug there is a second.
        assert asyncssh_server.connection_count == 2

    def test_it_outweighs_every_other_failure(
        self, runner: Runner, playbook: dict[str, Any], crash: ZeroDivisionError
    ) -> None:
        playbook["steps"][3]["mode"] = upload("missing", "d")

        assert runner.play(playbook).exit_code == 1
        assert combine_codes([0, 4, 1, 2]) == 1
        assert combine_codes([0, 4, 4]) == 4
        assert combine_codes([4, 2]) == 2
        assert combine_codes([0]) == combine_codes([]) == 0

    def test_the_next_playbook_is_played_and_both_are_reported(
        self, runner: Runner, playbook: dict[str, Any], crash: ZeroDivisionError
    ) -> None:
        path = str(write_playbook(runner.folder, playbook))
        report_path = runner.folder / "report.json"

        outcome = runner("play", path, path, "--json", str(report_path))

        reports = json.loads(report_path.read_text())
        assert [one["exit_code"] for one in reports] == [1, 1]
        assert outcome.exit_code == 1


class TestABugInAnObserver:
    @pytest.fixture
    def broken_console(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: Console, result: object) -> None:
            raise ZeroDivisionError("no line today")

        monkeypatch.setattr(Console, "_step_line", fail)

    def test_neither_the_play_nor_its_report_are_lost(
        self, runner: Runner, playbook: dict[str, Any], remote: Path, broken_console: None
    ) -> None:
        outcome = runner.play(playbook)

        assert_valid(outcome.report)
        assert outcome.exit_code == outcome.report["exit_code"] == 1
        assert outcome.report["status"] == "failed"
        assert outcome.statuses == ["changed"] * 4
        assert outcome.report["error"]["type"] == "InternalError"
        assert "no line today" in outcome.report["error"]["message"]
        assert outcome.stderr.count("Traceback") == 1
        assert sorted(snapshot(remote)) == ["a", "b", "c", "d"]

    def test_the_other_observers_are_told_everything(self, runner: Runner, playbook: dict[str, Any]) -> None:
        told: list[Event] = []
        error = ZeroDivisionError()

        def fail(event: Event) -> None:
            raise error

        plan = load_play(str(write_playbook(runner.folder, playbook)))
        options = PlayOptions(False, False, False)
        result = play(plan, options=options, observers=[fail, told.append], cancellation=Cancellation())

        assert told[0] == ObserverFailed(error)
        assert sum(isinstance(event, ObserverFailed) for event in told) == 1
        assert sum(isinstance(event, StepFinished) for event in told) == 4
        assert isinstance(told[-1], PlayFinished)
        assert (result.exit_code, result.status) == (1, "failed")

    def test_all_observers_may_fail(self, runner: Runner, playbook: dict[str, Any], remote: Path) -> None:
        def fail(event: Event) -> None:
            raise ZeroDivisionError

        def fail_later(event: Event) -> None:
            if isinstance(event, ObserverFailed | StepCrashed):
                raise ZeroDivisionError

        plan = load_play(str(write_playbook(runner.folder, playbook)))
        options = PlayOptions(False, False, False)
        result = play(plan, options=options, observers=[fail_later, fail], cancellation=Cancellation())

        assert result.exit_code == 1
        assert [one.status for one in result.steps] == ["changed"] * 4


def test_a_bug_while_connections_are_closed_loses_nothing(
    runner: Runner, playbook: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise ZeroDivisionError("not closed")

    monkeypatch.setattr("runner.execution.sessions.Sessions.close", fail)
    outcome = runner.play(playbook)

    assert_valid(outcome.report)
    assert outcome.exit_code == 1
    assert outcome.statuses == ["changed"] * 4
    assert outcome.report["error"]["type"] == "InternalError"


def test_doctor_tells_of_every_server_in_spite_of_a_bug(
    runner: Runner, playbook: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another server, where nothing listens.
    playbook["connections"]["two"]["port"] = closed_port()

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("runner.execution.examination.find_notes", fail)
    report_path = runner.folder / "doctor.json"
    outcome = runner("doctor", str(write_playbook(runner.folder, playbook)), "--json", str(report_path))

    report = json.loads(report_path.read_text())
    assert outcome.exit_code == report["exit_code"] == 1
    assert [one["error"]["type"] for one in report["connections"]] == ["InternalError"] * 2
    assert "Traceback" in outcome.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", ["play", "doctor"])
def test_a_signal_while_the_playbook_is_read_leaves_a_report(
    tmp_path: Path, number: int, exit_code: int, command: str
) -> None:
    """It comes from a command that a template runs, so that it comes at this moment for certain."""
    playbook = json.loads(write_unreachable(tmp_path).read_text())
    playbook[0]["mode"]["destination_file_name"] = f"{{{{ lookup('pipe', 'kill -{int(number)} $PPID; sleep 20') }}}}"
    path = tmp_path / "report.json"

    done = run_in_shell('"$@"; echo $?', [command, write_playbook(tmp_path, playbook), "--json", path])

    assert done.stdout == f"{exit_code}\n", done.stderr
    report = json.loads(path.read_text())
    assert report["exit_code"] == exit_code
    assert report["status"] == "interrupted"
    assert report["error"]["type"] == "Interrupted"
    assert done.stderr == f"error: {report['error']['message']}\n"
    assert "before anything was contacted" in done.stderr
    if command == "play":
        assert_valid(report)


def test_a_signal_between_two_playbooks_is_no_success(
    runner: Runner, playbook: dict[str, Any], remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was over, the second is not played."""

    def play_and_signal(*arguments: Any, **options: Any) -> Any:
        result = play(*arguments, **options)
        signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr("runner.cli.play.play", play_and_signal)
    path = str(write_playbook(runner.folder, playbook))
    report_path = runner.folder / "report.json"

    both = runner("play", path, path, "--json", str(report_path))

    assert both.exit_code == 143
    assert [one["exit_code"] for one in json.loads(report_path.read_text())] == [0]
    # Of one alone nothing is missing.
    assert runner("play", path).exit_code == 0


def test_a_failed_download_is_reported_beside_what_was_done(
    runner: Runner, playbook: dict[str, Any], asyncssh_server: AsyncsshServer
) -> None:
    playbook["steps"][1]["mode"] = download("missing", "b")

    outcome = runner.play(playbook)

    assert_valid(outcome.report)
    assert "error" not in outcome.report
    assert outcome.statuses == ["changed", "failed", "skipped", "changed"]
