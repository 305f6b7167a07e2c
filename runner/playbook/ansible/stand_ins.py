"""What stands for something that is answered already: a value of which nothing is known, so that nobody misses it."""

from __future__ import annotations

from collections.abc import Collection

from runner.playbook.document import PositionedMap, Unfilled
from runner.problems import Location


def stand_in(left: PositionedMap, key: str, place: Location) -> None:
    """Let a key be there, with a value of which nothing is known."""
    left.put(key, Unfilled(), place, place)


def stand_in_for_names(left: PositionedMap, names: Collection[str], place: Location) -> None:
    """Let names be variables of which nothing is known, where `vars` is not something else by mistake."""
    if not names or not isinstance(left.get("vars", {}), dict):
        return
    variables = open_variables(left, place)
    for name in names:
        if name not in variables:
            stand_in(variables, name, place)


def open_variables(left: PositionedMap, place: Location) -> PositionedMap:
    """The `vars` of what is left, to add to: a copy, since a file's own are as they were written."""
    own = PositionedMap(place)
    given = left.get("vars") or PositionedMap(place)
    for name in given:
        own.take(name, given)
    left.put("vars", own, place, place)
    return own
