"""Every filter and test gives what the table says: what Ansible gives, but for the differences that have a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runner.playbook.filters.registry import FILTER_NAMES, TEST_NAMES
from tests.playbook.filters.evaluation import PLACE, evaluate, find_problem, to_plain
from tests.playbook.filters.table import CASES, DIFFERENCES, VARIABLES, Wrong

ALL = [case for cases in CASES.values() for case in cases]


@pytest.mark.parametrize(("expression", "expected"), ALL, ids=[expression for expression, _ in ALL])
def test_an_expression_gives_what_ansible_gives(expression: str, expected: Any) -> None:
    check(expression, expected)


@pytest.mark.parametrize("expression", DIFFERENCES)
def test_what_is_other_than_in_ansible_is_so_on_purpose(expression: str) -> None:
    difference = DIFFERENCES[expression]

    assert difference.reason
    assert difference.ours != difference.ansibles
    check(expression, difference.ours)


def check(expression: str, expected: Any) -> None:
    if isinstance(expected, Wrong):
        problem = find_problem(expression, VARIABLES)
        assert problem.message.startswith(expected)
        assert problem.location == PLACE
        return
    found = to_plain(evaluate(expression, VARIABLES))
    assert found == expected
    assert type(found) is type(expected)


def test_the_table_is_large_and_has_every_filter_and_test() -> None:
    expressions = [*DIFFERENCES, *(expression for expression, _ in ALL)]
    assert len(set(expressions)) == len(expressions) > 600
    for name in (*FILTER_NAMES, "default"):
        assert sum(bool(re.search(rf"\| {name}\b", one)) for one in expressions) >= 4, name
    for name in TEST_NAMES:
        assert sum(bool(re.search(rf"is (not )?{name}\b", one)) for one in expressions) >= 2, name
