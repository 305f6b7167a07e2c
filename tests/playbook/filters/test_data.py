"""Lists and mappings: nothing that is given is changed, and what was chosen to take long ends in time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runner.playbook.limits import MAX_SECONDS
from tests.playbook.filters.evaluation import evaluate, find_problem, to_plain

# sys.hash_info.modulus: its multiples all have the hash 0.
COLLIDING = [index * (2**61 - 1) for index in range(30_000)]


@pytest.mark.parametrize(
    "expression",
    [
        "given | unique",
        "given | union(given)",
        "[1] | difference(given)",
        "[1] | intersect(given)",
        "pairs | items2dict",
    ],
)
def test_numbers_that_are_chosen_to_collide_end_in_time(expression: str) -> None:
    variables = {"given": COLLIDING, "pairs": [{"key": one, "value": 1} for one in COLLIDING]}
    started = time.process_time()

    problem = find_problem(f"({expression}) | length", variables)

    assert problem.message == f"the template takes longer than {MAX_SECONDS} s"
    assert time.process_time() - started < 2 * MAX_SECONDS + 1


def test_many_items_are_no_trouble() -> None:
    many = [f"file-{index:05}" for index in range(20_000)]
    for expression in ("given | unique", "given | union(given)", "given | intersect(given)", "given | difference([])"):
        assert len(evaluate(expression, {"given": many})) == 20_000


def test_what_is_given_stays_as_it_was() -> None:
    variables: dict[str, Any] = {"a": {"x": {"y": [1]}}, "b": {"x": {"y": [2], "z": 3}}, "l": [[1], [1], [2]]}
    for expression in (
        "a | combine(b, recursive=true, list_merge='append')",
        "a | combine({'x': 1})",
        "l | unique",
        "l | union([[3]])",
        "l | flatten",
        "a | dict2items",
    ):
        assert evaluate(f"[{expression}, a, b, l]", variables)[1:] == [variables["a"], variables["b"], variables["l"]]


def test_what_cannot_be_in_a_set_is_compared_one_by_one() -> None:
    assert to_plain(evaluate("[[1], {'a': 1}, [1], 1, true, {'a': 1}] | unique", {})) == [[1], {"a": 1}, 1]
    assert to_plain(evaluate("[[1], 2] | intersect([2, [1]])", {})) == [[1], 2]
    assert to_plain(evaluate("[[1], 2] | difference([2])", {})) == [[1]]
