"""Finds the jump hosts that lead to a step's host, as they are written: in lists, by name, and in the connections named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from runner.playbook.document import PositionedList, PositionedMap, Unfilled, describe_type
from runner.playbook.validation import is_template, jump_host_keys
from runner.problems import Location, Problem
from runner.suggestions import nearest
from runner.values import dataclass

MAX_HOPS = 8


@dataclass(frozen=True, slots=True)
class JumpHost:
    """One jump host: its merged inputs, not filled in, and where the playbook asks for it.

    Its templates see what those of the connection `owner` see. `name` is its own connection's, empty for one inline.
    """

    inputs: PositionedMap
    name: str
    owner: str | None
    location: Location


class JumpHosts:
    """The jump hosts of one step. `problems` fills up with what is wrong with them."""

    def __init__(
        self,
        defaults: PositionedMap | None,
        connections: PositionedMap | None,
        fill_in: Callable[[str, Location, str | None], Any],
    ) -> None:
        """`fill_in` gives what a template makes, `Unfilled` if it cannot: of a place, and of a connection's variables."""
        self.problems: list[Problem] = []
        self._defaults = defaults
        self._connections = connections if connections is not None else PositionedMap(Location("", 1, 1))
        self._fill_in = fill_in
        self._passed: set[str] = set()

    def find(self, value: Any, location: Location, owner: str | None) -> list[JumpHost]:
        """In the order of travel, those that `value` asks for on behalf of a step on the connection `owner`.

        The first one may need jump hosts itself, which then come before it. Each later one is reached from the one before
        it: the list says so, whatever its own connection says.
        """
        found = self._find(value, location, owner, (owner,) if owner is not None else ())
        if len(found) > MAX_HOPS:
            message = f"the way leads through {len(found)} jump hosts, and {MAX_HOPS} are the most"
            self.problems.append(Problem(location, message))
        return found

    def _find(self, value: Any, location: Location, owner: str | None, trail: tuple[str, ...]) -> list[JumpHost]:
        found: list[JumpHost] = []
        for item, place in self._list_items(value, location, owner):
            if isinstance(item, PositionedMap):
                found.append(JumpHost(self._merge(place, item, is_first=not found), "", owner, place))
                if len(found) > 1 and "proxy" in item:
                    hint = "A proxy leads to the first jump host: write it there, or beside 'proxy_jump'."
                    message = "this jump host is reached from the one before it, and not through a proxy"
                    self.problems.append(Problem(item.key_locations["proxy"], message, hint))
            elif isinstance(item, str):
                found += self._find_named(item, place, trail, is_first=not found)
        return found

    def _find_named(self, name: str, location: Location, trail: tuple[str, ...], *, is_first: bool) -> list[JumpHost]:
        connection = self._connections.get(name)
        if not isinstance(connection, PositionedMap):
            if name not in self._connections:
                hint = nearest(name, self._connections) or "The playbook has no 'connections'."
                self.problems.append(Problem(location, f"no connection is called '{name}'", hint))
            return []
        if name in trail:
            circle = " → ".join([*trail[trail.index(name) :], name])
            hint = "A connection that needs no jump host, whatever the defaults say, has 'proxy_jump: []'."
            self.problems.append(Problem(location, f"the connection '{name}' jumps through itself: {circle}", hint))
            return []
        if name in self._passed:
            self.problems.append(Problem(location, f"the way leads through '{name}' twice", "Remove one of them."))
            return []
        self._passed.add(name)
        before: list[JumpHost] = []
        if is_first and "proxy_jump" in connection:
            place = connection.value_locations["proxy_jump"]
            before = self._find(connection["proxy_jump"], place, name, (*trail, name))
        merged = self._merge(location, connection, is_first=is_first)
        return [*before, JumpHost(merged, name, name, location)]

    def _list_items(self, value: Any, location: Location, owner: str | None) -> Iterator[tuple[Any, Location]]:
        """The names and mappings of a value that may be one of them, a list, or a template that gives names."""
        if isinstance(value, PositionedList):
            for item, place in zip(value, value.item_locations, strict=True):
                yield from self._list_items(item, place, owner)
        elif is_template(value):
            made = self._fill_in(value, location, owner)
            for name in made if isinstance(made, PositionedList) else [made]:
                if isinstance(name, Unfilled):
                    continue
                if isinstance(name, str):
                    yield name, location
                elif name is not None:
                    hint = "Inputs are written inline; each of their values may be a template."
                    message = f"'proxy_jump' needs the names of connections, not {describe_type(name)}"
                    self.problems.append(Problem(location, message, hint))
        elif value != "":
            # That this is empty, or neither a name nor a mapping, has been told by the schema.
            yield value, location

    def _merge(self, location: Location, inputs: PositionedMap, *, is_first: bool) -> PositionedMap:
        merged = PositionedMap(location)
        for origin in (self._defaults, inputs):
            for key in origin or ():
                if origin is not None and key in jump_host_keys():
                    merged.take(key, origin)
        # The defaults' proxy is the step's as well, which may replace it.
        if not (is_first and "proxy" in inputs):
            merged.pop("proxy", None)
        return merged
