"""The choice of steps by tags is Ansible's: the table was made with ansible-core 2.19."""

from __future__ import annotations

import pytest

from runner.tags import TagFilter, read_tags
from tests.conftest import Runner

# Tags of a step, --tags, --skip-tags, whether it is carried out.
TABLE = [
    ("", "all", "", True),
    ("a", "all", "", True),
    ("a", "a", "", True),
    ("a", "b", "", False),
    ("", "a", "", False),
    ("a,b", "b", "", True),
    ("a,b", "b", "a", False),
    ("a", "all", "a", False),
    ("a", "all", "b", True),
    ("always", "a", "", True),
    ("always", "a", "always", False),
    ("always,b", "a", "b", False),
    ("never", "all", "", False),
    ("never,a", "all", "", False),
    ("never,a", "a", "", True),
    ("never,a", "never", "", True),
    ("never,a", "tagged", "", False),
    ("a", "tagged", "", True),
    ("", "tagged", "", False),
    ("", "untagged", "", True),
    ("a", "untagged", "", False),
    ("always", "untagged", "", True),
    ("a", "all", "all", False),
    ("always", "all", "all", True),
    ("", "all", "tagged", True),
    ("a", "all", "tagged", False),
    ("", "all", "untagged", False),
    ("never,always", "all", "", True),
]


@pytest.mark.parametrize(("tags", "only", "skipped", "is_chosen"), TABLE)
def test_steps_are_chosen_as_ansible_does(tags: str, only: str, skipped: str, is_chosen: bool) -> None:
    assert TagFilter(read_tags(only), read_tags(skipped)).chooses(read_tags(tags)) == is_chosen


def say(name: str, *tags: str) -> dict[str, object]:
    return {"name": name, "debug": {"msg": name}, **({"tags": list(tags)} if tags else {})}


PLAYBOOK = [
    say("plain"),
    say("sending", "send"),
    {"block": [say("inner", "deep"), say("other")], "always": [say("end")], "tags": "outer, send"},
    say("rarely", "never", "rare"),
    say("ever", "always"),
]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ["plain", "sending", "inner", "other", "end", "ever"]),
        (("--tags", "send"), ["sending", "inner", "other", "end", "ever"]),
        (("-t", "deep", "-t", "rare"), ["inner", "rarely", "ever"]),
        (("--skip-tags", "outer,always"), ["plain", "sending"]),
        (("--tags", "untagged"), ["plain", "ever"]),
    ],
)
def test_the_command_line_chooses(runner: Runner, arguments: tuple[str, ...], names: list[str]) -> None:
    outcome = runner.play({"steps": PLAYBOOK}, *arguments)

    assert outcome.exit_code == 0, outcome.output
    assert [step["name"] for step in outcome.report["steps"]] == names


def test_a_tag_that_no_step_has_is_told(runner: Runner) -> None:
    outcome = runner.play({"steps": PLAYBOOK}, "--tags", "sned")

    assert outcome.exit_code == 64
    assert "no step has the tag 'sned'" in outcome.stderr
    assert "Did you mean 'send'?" in outcome.stderr


def test_tags_are_listed(runner: Runner) -> None:
    outcome = runner.play({"steps": PLAYBOOK}, "--list-tags")

    assert outcome.stdout.splitlines()[-1] == "  tags: always, deep, never, outer, rare, send"
