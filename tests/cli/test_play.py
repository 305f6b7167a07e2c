"""The options of `runner play`, its report and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner.resources import schema_text
from tests.conftest import Runner, connection, download, snapshot, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.listeners import closed_port


def assert_valid_report(report: Any) -> None:
    Draft202012Validator(json.loads(schema_text("report"))).validate(report)


@pytest.fixture
def playbook(runner: Runner, asyncssh_server: AsyncsshServer) -> dict[str, Any]:
    """Two connections to the same server, one step each, and a third step on the first."""
    for name in ("a", "b", "c"):
        (runner.folder / name).write_text(name)
    return {
        "name": "Three files",
        "connections": {"one": connection(asyncssh_server), "two": connection(asyncssh_server)},
        "steps": [
            {"name": "first", "connection": "one", "mode": upload("a", "a")},
            {"name": "second", "connection": "two", "mode": upload("b", "b")},
            {"name": "third", "connection": "one", "mode": upload("c", "c")},
        ],
    }


def test_the_report_follows_its_schema(runner: Runner, playbook: dict[str, Any]) -> None:
    outcome = runner.play(playbook)

    assert_valid_report(outcome.report)
    assert outcome.report["status"] == "ok"
    assert outcome.report["name"] == "Three files"
    assert [one["name"] for one in outcome.report["steps"]] == ["first", "second", "third"]
    assert outcome.report["recap"]["one"]["changed"] == 2
    assert outcome.step["location"] == {"file": outcome.report["playbook"], "line": 32, "column": 5}


def test_a_failed_report_follows_its_schema(runner: Runner, playbook: dict[str, Any]) -> None:
    playbook["steps"][0]["mode"] = upload("missing", "a")

    outcome = runner.play(playbook)

    assert_valid_report(outcome.report)
    assert outcome.exit_code == outcome.report["exit_code"] == 2
    assert outcome.statuses == ["failed", "changed", "skipped"]


def test_an_invalid_playbook_is_reported_too(runner: Runner) -> None:
    outcome = runner.play({"stepz": []})

    assert_valid_report(outcome.report)
    assert outcome.exit_code == outcome.report["exit_code"] == 3
    assert [one["message"] for one in outcome.report["error"]["problems"]] == [
        "unknown key 'stepz'",
    ]


def test_the_report_on_standard_output_is_alone_there(runner: Runner, playbook: dict[str, Any]) -> None:
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps(playbook))

    outcome = runner("play", str(path), "--json", "-")

    assert_valid_report(json.loads(outcome.stdout))
    assert "RECAP" in outcome.stderr


def test_several_playbooks_give_a_list_of_reports(runner: Runner, playbook: dict[str, Any]) -> None:
    paths = [runner.folder / name for name in ("x.yaml", "y.yaml")]
    for path in paths:
        path.write_text(json.dumps(playbook))

    outcome = runner("play", *map(str, paths), "--json", "-")

    reports = json.loads(outcome.stdout)
    assert [report["recap"]["one"]["changed"] for report in reports] == [2, 0]


def test_one_invalid_playbook_stops_all(runner: Runner, playbook: dict[str, Any], remote: Path) -> None:
    good, bad = runner.folder / "good.yaml", runner.folder / "bad.yaml"
    good.write_text(json.dumps(playbook))
    bad.write_text("[]")

    outcome = runner("play", str(good), str(bad))

    assert outcome.exit_code == 3
    assert snapshot(remote) == {}


def test_limit(runner: Runner, playbook: dict[str, Any], remote: Path) -> None:
    assert runner.play(playbook, "--limit", "two").exit_code == 0
    assert list(snapshot(remote)) == ["b"]


@pytest.mark.parametrize("start", ["second", "2"])
def test_start_at_step(runner: Runner, playbook: dict[str, Any], remote: Path, start: str) -> None:
    outcome = runner.play(playbook, "--start-at-step", start)

    assert list(snapshot(remote)) == ["b", "c"]
    assert [one["index"] for one in outcome.report["steps"]] == [2, 3]
    assert "2/3" in outcome.stdout


@pytest.mark.parametrize("arguments", [("--limit", "nobody"), ("--start-at-step", "9"), ("--quiet", "-v"), ("--nope",)])
def test_wrong_usage(runner: Runner, playbook: dict[str, Any], remote: Path, arguments: tuple[str, ...]) -> None:
    outcome = runner.play(playbook, *arguments)

    assert outcome.exit_code == 64
    assert "Traceback" not in outcome.output
    assert snapshot(remote) == {}


@pytest.mark.parametrize("option", ["--list-steps", "--list-hosts", "--syntax-check"])
def test_listings_contact_nobody(
    runner: Runner, playbook: dict[str, Any], asyncssh_server: AsyncsshServer, option: str
) -> None:
    outcome = runner.play(playbook, option)

    assert outcome.exit_code == 0
    assert asyncssh_server.connection_count == 0
    expected = {"--list-steps": "second [two]", "--list-hosts": f"{asyncssh_server.port}", "--syntax-check": "3 steps"}
    assert expected[option] in outcome.stdout


def test_workdir(runner: Runner, playbook: dict[str, Any], remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = runner.folder / "other"
    other.mkdir()
    for name in ("a", "b", "c"):
        (other / name).write_text("other")
    monkeypatch.chdir(runner.folder)

    assert runner.play(playbook, "--workdir", "other").exit_code == 0
    assert snapshot(remote) == dict.fromkeys("abc", b"other")


def test_failures_of_several_kinds(runner: Runner, playbook: dict[str, Any]) -> None:
    playbook["connections"]["one"]["port"] = closed_port()
    playbook["steps"][1]["mode"] = upload("missing", "b")

    both = runner.play(playbook)
    unreachable = runner.play(playbook, "--limit", "one")

    assert both.statuses == ["unreachable", "failed", "skipped"]
    assert (both.exit_code, unreachable.exit_code) == (2, 4)


def test_quiet_prints_failures_only(runner: Runner, playbook: dict[str, Any]) -> None:
    good = runner.play(playbook, "-q")
    playbook["steps"][0]["mode"] = upload("missing", "a")
    bad = runner.play(playbook, "-q")

    assert good.stdout == ""
    assert "FAILED" in bad.stdout
    assert "second" not in bad.stdout


def test_colour_only_where_it_is_wanted(
    runner: Runner, playbook: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = runner.play(playbook)
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = runner.play(playbook)
    monkeypatch.setenv("NO_COLOR", "1")
    neither = runner.play(playbook)

    assert "\x1b[" in coloured.stdout
    assert "\x1b[" not in plain.stdout + neither.stdout


def test_what_a_server_says_cannot_drive_the_terminal(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    name = "evil\x1b]0;title\x07\u202ename"

    outcome = runner.play([step(asyncssh_server, download(name, "a"))])

    assert outcome.exit_code == 2
    assert "evil\\x1b]0;title\\x07\\u202ename" in outcome.stdout
    assert "\x1b" not in outcome.output


def test_secrets_are_nowhere(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    """Not even when one is part of a path that is printed."""
    secret = "hunter2-canary"
    login = {"authentication_method": "username_password", "username": asyncssh_server.username, "password": secret}

    outcome = runner.play(
        [step(asyncssh_server, upload(f"{secret}/missing", "a"), authentication=login, name=f"With {secret}")], "-vvv"
    )

    assert outcome.exit_code in (2, 4)
    assert secret not in outcome.output + json.dumps(outcome.report)
    assert "********" in outcome.stdout


def test_a_report_that_cannot_be_written_is_known_beforehand(
    runner: Runner, playbook: dict[str, Any], remote: Path
) -> None:
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps(playbook))

    outcome = runner("play", str(path), "--json", str(runner.folder / "no/such/report.json"))

    assert outcome.exit_code == 64
    assert "cannot write the report" in outcome.stderr
    assert snapshot(remote) == {}


def test_nothing_is_left_in_the_working_folder(runner: Runner, playbook: dict[str, Any]) -> None:
    before = set(os.listdir(runner.folder))

    runner.play(playbook)

    assert set(os.listdir(runner.folder)) - before == {"play.yaml", "report.json"}


def test_a_bug_says_so_and_shows_no_secret(
    runner: Runner, asyncssh_server: AsyncsshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "correct horse"
    login = {"authentication_method": "username_password", "username": asyncssh_server.username, "password": secret}

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError(secret)

    monkeypatch.setattr("runner.execution.modes.copy_file", fail)
    outcome = runner.play([step(asyncssh_server, upload("a", "a"), authentication=login)])

    assert outcome.exit_code == 1
    assert "ZeroDivisionError: ********" in outcome.stderr
    assert "this is a bug in runner" in outcome.stderr
    assert secret not in outcome.output


def test_a_password_that_is_a_word_of_the_report_leaves_it_valid(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path
) -> None:
    (runner.folder / "a").write_text("x")
    with AsyncsshServer(tmp_path / "server", root=remote, password="changed") as server:
        login = {"authentication_method": "username_password", "username": server.username, "password": "changed"}
        outcome = runner.play([step(server, upload("a", "a"), authentication=login)])

    assert outcome.exit_code == 0, outcome.output
    assert_valid_report(outcome.report)
    assert outcome.statuses == ["changed"]


def test_output_that_cannot_be_written_does_not_end_the_play(
    runner: Runner, playbook: dict[str, Any], remote: Path
) -> None:
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps(playbook))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "runner", "play", str(path)], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == 0, done.stderr
    assert list(snapshot(remote)) == ["a", "b", "c"]
