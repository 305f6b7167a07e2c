"""The parts of a playbook, by their names; a part of the wrong kind is missing, for a reason that the schema tells."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from runner.playbook.document import PositionedList, PositionedMap
from runner.problems import Location


class Sections:
    """A playbook as it is written: a list of steps, or a mapping that has them beside what they share."""

    def __init__(self, data: PositionedMap | PositionedList) -> None:
        self._data = data
        self.top = data if isinstance(data, PositionedMap) else PositionedMap(data.location)

    @property
    def start(self) -> Location:
        """Where the playbook begins."""
        return Location(self._data.location.file, 1, 1)

    @cached_property
    def steps(self) -> PositionedList | None:
        return self._data if isinstance(self._data, PositionedList) else as_list(self.top.get("steps"))

    @cached_property
    def defaults(self) -> PositionedMap | None:
        return as_map(self.top.get("defaults"))

    @cached_property
    def connections(self) -> PositionedMap | None:
        return as_map(self.top.get("connections"))

    def connection(self, name: str | None) -> PositionedMap | None:
        """A saved connector, if there is one of that name."""
        return as_map(self.connections.get(name)) if self.connections is not None and name is not None else None


def as_map(value: Any) -> PositionedMap | None:
    """The value if it is a mapping."""
    return value if isinstance(value, PositionedMap) else None


def as_list(value: Any) -> PositionedList | None:
    """The value if it is a list."""
    return value if isinstance(value, PositionedList) else None
