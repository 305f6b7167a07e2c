"""What the page about the language promises, and no other test would miss: keyword by keyword, on every kind of step."""

from __future__ import annotations

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, download, snapshot, upload
from tests.playbook.conftest import Loader
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer

CONTROLS: dict[str, dict[str, Any]] = {
    "assert": {"that": "1 < 2"},
    "set_fact": {"a": 1},
    "debug": {"msg": "x"},
    "pause": {"seconds": 0},
}
KINDS = {**CONTROLS, "mode": {"mode_name": "stats", "path": "."}}


@pytest.fixture
def connections(asyncssh_server: AsyncsshServer) -> dict[str, Any]:
    server = connection(asyncssh_server)
    liar = {"hostkey_mode": "fingerprint", "fingerprint": "SHA256:" + "A" * 43}
    return {"bank": server, "liar": {**server, "hostkey": liar}}


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def play(runner: Runner, connections: dict[str, Any], *steps: dict[str, Any], options: tuple[str, ...] = ()) -> Outcome:
    return runner.play({"connections": connections, "steps": list(steps)}, *options)


def say(text: str, **keywords: Any) -> dict[str, Any]:
    return {"debug": {"msg": text}, **keywords}


def messages(outcome: Outcome) -> list[str]:
    return [step["message"] for step in outcome.report["steps"]]


# --- the keywords that every kind takes ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_the_keywords_of_all(runner: Runner, connections: dict[str, Any], kind: str) -> None:
    common: dict[str, Any] = {
        "name": "one {{ x }} {{ item }}",
        "connection": "bank",
        "vars": {"x": "y"},
        "when": "item > 1",
        "loop": [1, 2, 3],
        "loop_control": {"label": "number {{ item }}"},
        "register": "r",
        "changed_when": "item == 3",
        "failed_when": "item == 2",
        "ignore_errors": True,
        "tags": ["t"],
    }
    outcome = play(
        runner,
        connections,
        {kind: KINDS[kind], **common},
        say("{{ r.results | map(attribute='status') | join(' ') }}", tags="t"),
        say("not played"),
        options=("--tags", "t"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["skipped", "failed", "changed", "ok"]
    assert [step["item"] for step in outcome.report["steps"][:3]] == ["number 1", "number 2", "number 3"]
    assert [step["name"] for step in outcome.report["steps"][1:3]] == ["one y 2", "one y 3"]
    assert messages(outcome)[3] == "skipped failed changed"
    assert outcome.report["steps"][1]["ignored"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_log_hides_every_kind(runner: Runner, connections: dict[str, Any], kind: str) -> None:
    outcome = play(runner, connections, {kind: KINDS[kind], "connection": "bank", "no_log": True})

    assert outcome.statuses == ["ok"]
    assert outcome.step["result"] == {}
    assert "no_log" in outcome.step["message"]


@pytest.mark.parametrize("key", ["retries", "delay", "until", "timeout", "ignore_unreachable", "check_mode", "diff"])
@pytest.mark.parametrize("kind", CONTROLS)
def test_what_is_for_calls_is_an_error_elsewhere(load: Loader, kind: str, key: str) -> None:
    value = {"until": "true", "retries": 3, "delay": 1, "timeout": 1}.get(key, True)

    problem = load.find_problem(f"- {kind}: {CONTROLS[kind]}\n  {key}: {str(value).lower()}\n".replace("'", '"'))

    assert problem.message == f"'{key}' means nothing with '{kind}'"


# --- what a block and an included file hand on ---


@pytest.mark.parametrize("context", ["block", "include_steps"])
def test_conditions_tags_and_inputs_are_handed_on(
    runner: Runner, connections: dict[str, Any], remote: Path, context: str
) -> None:
    inner: list[dict[str, Any]] = [
        {"mode": {"mode_name": "create_directory", "path": "{{ name }}"}, "tags": "deep"},
        say("{{ connection_name }}", when="name == 'made'"),
        say("own", when=False),
        {"fail": {"msg": "x"}, "name": "ignored"},
        say("seen", no_log=False),
    ]
    (runner.folder / "part.yaml").write_text(json.dumps(inner))
    step = {
        context: inner if context == "block" else "part.yaml",
        "connection": "bank",
        "when": "1 < 2",
        "vars": {"name": "made"},
        "tags": "outer",
        "no_log": True,
        "ignore_errors": True,
        "check_mode": True,
    }
    outcome = play(runner, connections, step, say("plain"), options=("--tags", "outer"))
    skipped = play(runner, connections, {**step, "when": "1 > 2"}, options=("--tags", "deep"))

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "ok", "skipped", "failed", "ok"]
    assert outcome.report["steps"][3]["ignored"]
    assert [step["connection"] for step in outcome.report["steps"]] == ["bank"] * 5
    # What the block says is hidden, but where a step says otherwise.
    assert messages(outcome)[0] == messages(outcome)[1] != messages(outcome)[4] == "seen"
    assert snapshot(remote) == {}, "check_mode was not handed on"
    assert skipped.statuses == ["skipped"]


def test_a_refused_host_key_is_not_rescued(runner: Runner, connections: dict[str, Any], remote: Path) -> None:
    def make(name: str) -> dict[str, Any]:
        return {"connection": "bank", "mode": {"mode_name": "create_directory", "path": name}}

    block = {
        "block": [{"connection": "liar", "mode": KINDS["mode"]}],
        "rescue": [make("rescued")],
        "always": [make("always")],
    }
    outcome = play(runner, connections, block)

    assert outcome.exit_code == 5
    assert outcome.statuses == ["failed", "changed"]
    assert snapshot(remote) == {"always": None}


# --- conditions ---


def test_failed_when_does_not_excuse_a_copy_that_could_not_be_verified(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    (runner.folder / "a").write_bytes(bytes(300_000))
    factory = partial(misbehaving.DroppedWrites, capacity=100_000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        step = {"connection": "bank", "mode": upload("a", "b"), "failed_when": False}
        outcome = play(runner, {"bank": connection(server)}, step)

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (6, "VerificationFailed"), outcome.output
    assert not (remote / "b").exists()


def test_an_assertion_says_what_it_is_told_to(runner: Runner, connections: dict[str, Any]) -> None:
    texts = {"fail_msg": "not {{ a }}", "success_msg": "yes {{ a }}"}
    right = {"assert": {"that": "a == 1", **texts}, "vars": {"a": 1}}
    wrong = {"assert": {"that": ["a == 1", "a == 2"], **texts}, "vars": {"a": 1}}
    outcome = play(runner, connections, right, {**wrong, "ignore_errors": True}, {"assert": {"that": "2 < 1"}})

    assert messages(outcome)[0] == "yes 1"
    assert messages(outcome)[1] == "not 1: a == 2 (a = 1)"
    assert "2 < 1" in messages(outcome)[2]


# --- loops and attempts ---


def test_a_loop_pauses_between_its_items_and_not_before_or_behind_them(
    runner: Runner, connections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.execution import turns

    paused: list[float] = []
    monkeypatch.setattr(turns, "sleep", lambda seconds, cancellation: paused.append(seconds))

    outcome = play(runner, connections, say("x", loop=[1, 2, 3], loop_control={"pause": "{{ 7 / 2 }}"}))

    assert outcome.statuses == ["ok"] * 3
    assert paused == [3.5, 3.5]


def test_until_tries_three_times_more_with_the_same_delay_and_tells_each_attempt(
    runner: Runner, connections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.execution import step_run

    slept: list[float] = []
    monkeypatch.setattr(step_run, "sleep", lambda seconds, cancellation: slept.append(seconds))
    step = {"connection": "bank", "mode": {"mode_name": "stats", "path": "no"}, "until": "result.exists"}

    outcome = play(runner, connections, step, options=("-v",))

    assert outcome.step["attempts"] == 4
    assert slept == [5.0] * 3
    assert "result.exists" in outcome.step["message"]
    assert outcome.output.count("result.exists (result.exists = false)") == 4


# --- --check and --diff ---


def test_diff_false_keeps_the_differences_of_a_step_out_of_the_output(
    runner: Runner, connections: dict[str, Any]
) -> None:
    for name in ("shown", "hidden"):
        (runner.folder / name).write_text(f"{name} text\n")
    steps = [
        {"connection": "bank", "mode": upload(name, name), **({"diff": False} if name == "hidden" else {})}
        for name in ("shown", "hidden")
    ]
    play(runner, connections, *steps)
    for name in ("shown", "hidden"):
        (runner.folder / name).write_text(f"{name} other\n")

    outcome = play(runner, connections, *steps, options=("--diff",))

    assert outcome.statuses == ["changed", "changed"]
    assert "shown other" in outcome.stdout
    assert "hidden other" not in outcome.stdout


# --- the fence ---

LOGIN = "authentication: {authentication_method: ssh_agent, username: u}"
COPY = "mode_name: copy_directory_from_engine, source_directory_name: a, destination_directory_name: b"
LATE = "{{ l.message }}"
FENCED = {
    "host": f"host: '{LATE}', {LOGIN}, mode: {{{COPY}}}",
    "port": f"host: h, port: '{LATE}', {LOGIN}, mode: {{{COPY}}}",
    "authentication": f"host: h, authentication: {{authentication_method: ssh_agent, username: '{LATE}'}}, mode: {{{COPY}}}",
    "hostkey": f"host: h, {LOGIN}, hostkey: {{hostkey_mode: fingerprint, fingerprint: '{LATE}'}}, mode: {{{COPY}}}",
    "proxy_jump": f"host: h, {LOGIN}, proxy_jump: [{{host: '{LATE}', {LOGIN}}}], mode: {{{COPY}}}",
    "proxy": f"host: h, {LOGIN}, proxy: {{type: http, host: '{LATE}', port: 80}}, mode: {{{COPY}}}",
    "ssh_config": f"host: h, {LOGIN}, ssh_config: '{LATE}', mode: {{{COPY}}}",
    "connector_type": f"host: h, {LOGIN}, connector_type: '{LATE}', mode: {{{COPY}}}",
    **{
        key: f"host: h, {LOGIN}, mode: {{{COPY}, {key}: '{LATE}'}}"
        for key in ("delete", "max_delete", "atomic", "verify", "backup")
    },
}


@pytest.mark.parametrize("key", FENCED)
@pytest.mark.parametrize("way", ["a result", "a fact"])
def test_what_is_behind_the_fence_depends_on_no_result(load: Loader, key: str, way: str) -> None:
    first = {
        "a result": f"{{host: h, {LOGIN}, mode: {{mode_name: list, path: a}}, register: l}}",
        "a fact": "{set_fact: {l: {message: x}}}",
    }[way]

    problems = load.find_problems(f"- {first}\n- {{{FENCED[key]}}}\n")

    assert [one.location.line for one in problems] == [2] * len(problems)
    assert any("must not depend on" in one.message for one in problems), problems


# --- which value wins ---

LEVELS = (
    "vars_files",
    "playbook",
    "connection",
    "included file",
    "block",
    "step",
    "loop",
    "fact",
    "input",
    "command line",
)


@pytest.mark.parametrize(("lower", "higher"), list(itertools.combinations(LEVELS, 2)))
def test_of_two_values_the_later_level_wins(
    runner: Runner, connections: dict[str, Any], lower: str, higher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {lower, higher}

    def value(level: str, **more: Any) -> dict[str, Any]:
        return {"vars": {"v": level}, **more} if level in given else more

    shown = say("{{ v }}", connection="bank", name="the end")
    step: dict[str, Any] = {**value("step"), **shown}
    if "loop" in given:
        step |= {"loop": ["loop"], "loop_control": {"loop_var": "v"}}
    included = {**value("included file"), "steps": [{**value("block"), "block": [step]}]}
    (runner.folder / "part.yaml").write_text(json.dumps(included))
    (runner.folder / "more.yaml").write_text(json.dumps({"v": "vars_files"}))
    fact = [{"set_fact": {"v": "fact"}, "connection": "bank"}] if "fact" in given else []
    playbook = {
        **value("playbook"),
        **({"vars_files": ["more.yaml"]} if "vars_files" in given else {}),
        **({"inputs": {"v": {"default": "input"}}} if "input" in given else {}),
        "connections": {"bank": {**connections["bank"], **value("connection")}},
        "steps": [*fact, {"include_steps": "part.yaml"}],
    }
    outcome = runner.play(playbook, *(("-e", "v=command line") if "command line" in given else ()))

    assert outcome.exit_code == 0, outcome.output
    assert messages(outcome)[-1] == higher


def test_a_download_in_a_loop_with_a_condition_reads_as_it_is_written(
    runner: Runner, connections: dict[str, Any], remote: Path
) -> None:
    """The page's rule in one: conditions for each item, all items tried, the step has failed if one has."""
    for name in ("a", "c"):
        (remote / name).write_text(name)
    step = {"connection": "bank", "mode": download("{{ item }}", "got/{{ item }}"), "loop": ["a", "b", "c", "d"]}
    outcome = play(runner, connections, {**step, "when": "item != 'd'", "register": "r", "ignore_errors": True})

    assert outcome.statuses == ["changed", "failed", "changed", "skipped"]
    assert snapshot(runner.folder / "got") == {"a": b"a", "c": b"c"}
