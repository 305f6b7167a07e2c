"""Judges the `when` of a long loop for many items at once: item by item, it would cost more than what it leaves out.

That is for conditions that say of an item, by its value alone, whether it has its turn. Nothing is decided here that is not
certain: an item that is not left out, or of which that cannot be said, has its turn, and its conditions are judged then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from runner.playbook.limits import TimeIsUp

if TYPE_CHECKING:
    from jinja2 import nodes

# What a template of many items calls them.
ITEMS = "all_items_of_the_loop"
# So many items at a time: those behind one that has its turn may never have theirs.
ITEMS_AT_ONCE = 512
_LEFT_OUT, _HAS_TURN = "0", "1"
# Jinja's filters that take the name of another filter or test.
_FILTERS_BY_NAME = ("map", "select", "reject", "selectattr", "rejectattr")

# Which says so of no item.
NOTHING_LEFT_OUT: Callable[[int], int] = lambda position: 0  # noqa: E731
# Judges some items: a character for each, up to the first of which nothing can be said. Raises `TimeIsUp`.
Judge = Callable[[Sequence[Any]], str]


class ItemsLeftOut:
    """Which items of a loop are left out."""

    def __init__(self, items: Sequence[Any], judge: Judge) -> None:
        self._items = items
        self._judge: Judge | None = judge
        self._start = 0
        self._verdicts = ""

    def count_from(self, position: int) -> int:
        """How many are certain to be left out from a position on, one behind the other."""
        end = position
        while end < len(self._items) and self._knows(end):
            found = self._verdicts.find(_HAS_TURN, end - self._start)
            end = self._start + (len(self._verdicts) if found < 0 else found)
            if found >= 0:
                break
        return end - position

    def _knows(self, position: int) -> bool:
        """Whether something is said of an item, after looking if need be."""
        if not 0 <= position - self._start < len(self._verdicts) and self._judge is not None:
            self._start = position
            try:
                self._verdicts = self._judge(self._items[position : position + ITEMS_AT_ONCE])
            except TimeIsUp:
                # Each takes its time, and nothing is gained by doing many at once.
                self._judge, self._verdicts = None, ""
        return 0 <= position - self._start < len(self._verdicts)


def is_by_value(tree: nodes.Node, impure_names: frozenset[str]) -> bool:
    """Whether an expression gives the same for the same values: it looks nothing up, on no disk, and rolls no dice.

    `impure_names` are those of filters and tests that do.
    """
    from jinja2 import nodes

    for node in tree.find_all((nodes.Call, nodes.Filter, nodes.Test)):
        if isinstance(node, nodes.Call) and not isinstance(node.node, nodes.Getattr):
            return False
        if isinstance(node, nodes.Filter | nodes.Test) and node.name in impure_names:
            return False
        if isinstance(node, nodes.Filter) and node.name in _FILTERS_BY_NAME:
            given = [one.value if isinstance(one, nodes.Const) else None for one in node.args]
            if None in given or not impure_names.isdisjoint(given):
                return False
    return True


def judge_each(conditions: Sequence[nodes.Expr], item_name: str) -> nodes.Template:
    """A template that gives a verdict for each of `ITEMS`, as `Judge` wants it.

    Left out is one for which the first condition that is not true is false. What is neither is a mistake: the item's own
    turn tells it.
    """
    from jinja2 import nodes

    whole = conditions[-1]
    for condition in reversed(conditions[:-1]):
        whole = nodes.CondExpr(_is(condition, "true"), whole, condition)
    left_out, has_turn = (nodes.Output([nodes.TemplateData(text)]) for text in (_LEFT_OUT, _HAS_TURN))
    verdict = nodes.If(_is(whole, "false"), [left_out], [], [has_turn])
    each = nodes.For(nodes.Name(item_name, "store"), nodes.Name(ITEMS, "load"), [verdict], [], None, False)
    template = nodes.Template([each], lineno=1)
    template.set_lineno(1)
    return template


def _is(expression: nodes.Expr, test: str) -> nodes.Test:
    from jinja2 import nodes

    return nodes.Test(expression, test, [], [], None, None)
