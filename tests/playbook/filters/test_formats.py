"""JSON and YAML: what is written can be read again, and what is read is bounded."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from runner.playbook.limits import MAX_SECONDS
from tests.playbook.filters.evaluation import evaluate, evaluate_data, find_problem, to_plain

LETTERS = "abyn01:-?#&*!|>'\"%@`{}[],=<~. \n\t\\_/eEx+ü🙂\u2028\x85"
WORDS = [
    "yes",
    "No",
    "null",
    "~",
    "1e3",
    "0x1F",
    "1_000",
    "2024-05-17",
    "12:30",
    "=",
    "? x",
    "- x",
    "a: b",
    ".5",
    ".inf",
]


def make_value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(4 if depth > 3 else 6)
    if kind == 4:
        return [make_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 5:
        return {make_text(chance): make_value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return chance.choice([make_text(chance), make_text(chance), chance.randrange(-99, 99), 0.5, True, False, None])


def make_text(chance: random.Random) -> str:
    length = chance.choice([0, 1, 2, 3, 8, 100])
    return chance.choice(WORDS) if chance.random() < 0.2 else "".join(chance.choice(LETTERS) for _ in range(length))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "write", ["to_json", "to_nice_json", "to_yaml", "to_yaml(indent=4)", "to_yaml(default_flow_style=false)"]
)
def test_what_is_written_can_be_read_again(write: str, seed: int) -> None:
    chance = random.Random(seed)
    read = "from_json" if "json" in write else "from_yaml"
    for _ in range(15):
        value = make_value(chance)
        assert to_plain(evaluate_data(f"[value] | {write} | {read}", {"value": value})) == [value]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("text | from_json", "[" * 100_000),
        ("text | from_json", "9" * 5000),
        ("text | from_yaml", "[" * 100_000),
        (
            "text | from_yaml",
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        ),
        ("text | from_yaml", "- x\n" * 200_000),
        ("text | from_yaml", "&a [*a]"),
        ("text | from_yaml", "!!python/object/apply:os.system ['true']"),
        ("text | from_yaml", "!vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  00"),
        ("text | from_yaml", "a: 1\x01"),
        ("text | from_yaml", "%YAML 1.1\n--- yes"),
    ],
)
def test_hostile_text_is_an_error_and_costs_little(expression: str, text: str) -> None:
    started = time.process_time()
    problem = find_problem(expression, {"text": text})

    assert time.process_time() - started < 2 * MAX_SECONDS + 1
    assert problem.message.startswith(("'from_", "the template takes longer"))


@pytest.mark.parametrize(
    "expression",
    [
        "[now] | to_yaml(sort_keys=false)",
        "[now] | to_yaml",
        "now | to_json",
        "timedelta(days=1) | to_json",
        "[missing] | to_yaml",
        "{'a': missing} | to_json",
        "1 | to_json(indent=99)",
        "1 | to_yaml(indent='x')",
    ],
)
def test_what_has_no_words_is_an_error(expression: str) -> None:
    assert find_problem(expression, {}).message.startswith(("'to_", "undefined in the template: 'missing'"))


def test_what_is_read_stands_where_the_expression_stands() -> None:
    made = evaluate("text | from_yaml", {"text": "a: {b: 1}"})

    assert made.location.file == "play.yaml"
    assert made["a"].location.file == "play.yaml"
