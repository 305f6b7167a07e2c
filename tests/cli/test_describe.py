"""`runner describe` and `runner explain`: what a playbook is, and where each value comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Runner

PLAYBOOK = """\
name: Try
inputs:
  stage: {type: string, enum: [test, live], default: test, description: where to}
  pw: {type: string, secret: true, env: PW, required: true}
vars: {v: 1, dir: "out/{{ stage }}"}
defaults: {transfers: 4}
connections:
  bank:
    host: h.example
    transfers: 5
    authentication: {authentication_method: username_password, username: u, password: "{{ pw }}"}
    vars: {v: 2}
steps:
  - name: Look
    connection: bank
    tags: [a]
    mode: {mode_name: list, path: "{{ dir }}"}
    register: l
  - vars: {v: 3}
    tags: b
    block:
      - name: Fetch
        connection: bank
        transfers: 6
        loop: "{{ l.result.entries }}"
        mode: {mode_name: copy_file_to_engine, source_file_name: "{{ item.path }}", destination_file_name: x}
  - debug: {msg: "{{ lookup('pipe', 'touch ran') }}"}
"""


@pytest.fixture
def playbook(runner: Runner) -> Path:
    path = runner.folder / "p.yaml"
    path.write_text(PLAYBOOK)
    return path


def test_a_playbook_is_described_without_its_inputs(runner: Runner, playbook: Path) -> None:
    outcome = runner("describe", str(playbook))

    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [
        f"Try  ({playbook})",
        "",
        "inputs:",
        "  stage  string, one of test, live, default test: where to",
        "  pw  string, required, secret, from PW",
        "",
        "connections:",
        "  bank  h.example",
        "",
        "steps:",
        "  1  Look  list [bank]  tags: a",
        "  2  Fetch  copy_file_to_engine [bank]  tags: b",
        "  3  debug",
        "",
        "tags: a, b",
    ]


def test_a_description_as_json(runner: Runner, playbook: Path) -> None:
    told = json.loads(runner("describe", str(playbook), "--json").stdout)

    assert told["name"] == "Try"
    assert [one["name"] for one in told["inputs"]] == ["stage", "pw"]
    assert told["connections"] == {"bank": "h.example"}
    assert [one["kind"] for one in told["steps"]] == ["list", "copy_file_to_engine", "debug"]
    assert told["tags"] == ["a", "b"]


def test_a_playbook_that_is_no_playbook_is_not_described(runner: Runner, playbook: Path) -> None:
    playbook.write_text("steps: [{zebra: 1}]")

    outcome = runner("describe", str(playbook))

    assert outcome.exit_code == 3
    assert "unknown key 'zebra'" in outcome.stderr


def explain(runner: Runner, playbook: Path, *arguments: str) -> list[str]:
    outcome = runner("explain", str(playbook), *arguments, "-e", "pw=correct horse")
    assert outcome.exit_code == 0, outcome.stderr
    assert "correct horse" not in outcome.stdout
    assert not (runner.folder / "ran").exists()
    return outcome.stdout.replace(str(playbook), "p.yaml").splitlines()


def test_a_value_is_told_with_what_it_beat(runner: Runner, playbook: Path) -> None:
    assert explain(runner, playbook, "Fetch", "transfers", "v") == [
        "transfers = 6",
        "    input, p.yaml:24:20",
        "    instead of p.yaml:10:16",
        "    instead of p.yaml:6:23",
        "v = 3",
        "    variable, p.yaml:19:15",
        "    instead of p.yaml:12:15",
        "    instead of p.yaml:5:11",
    ]
    assert explain(runner, playbook, "1", "v", "dir")[:4] == [
        "v = 2",
        "    variable, p.yaml:12:15",
        "    instead of p.yaml:5:11",
        'dir = "out/test"',
    ]


def test_secrets_are_masked_and_what_the_play_will_know_is_said(runner: Runner, playbook: Path) -> None:
    lines = explain(runner, playbook, "2")

    assert 'pw = "********"' in lines
    assert any(line.startswith("authentication = ") and '"password": "********"' in line for line in lines)
    assert "l = (waits for the result of step 1)" in lines
    assert "item = (waits for an item of the loop at p.yaml:25:15)" in lines
    assert "mode = (waits for an item of the loop at p.yaml:25:15)" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("9",), "no step of"), (("Fetch", "transfer"), "no input or variable 'transfer'")],
)
def test_what_is_not_there_is_a_usage_error(
    runner: Runner, playbook: Path, arguments: tuple[str, ...], message: str
) -> None:
    outcome = runner("explain", str(playbook), *arguments, "-e", "pw=x1x2")

    assert outcome.exit_code == 64
    assert message in outcome.stderr
