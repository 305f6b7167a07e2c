"""Which names a template sees, and which of two values of one name wins. The order of precedence is in no other place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.playbook.document import PositionedMap
from runner.playbook.sections import Sections, as_map
from runner.playbook.templating import COMMAND_LINE, Scope
from runner.problems import Location

NO_NAMES: Scope = {}


class Scopes:
    """The names of a playbook. `outside` holds those that were given to it: its inputs, and what the command line sets."""

    def __init__(self, sections: Sections, folder: str, extra_vars: Mapping[str, Any]) -> None:
        self._sections = sections
        self._folder = (folder, sections.start)
        self._files: dict[str, tuple[Any, Location]] = {}
        self._variables = variables(as_map(sections.top.get("vars")))
        self.outside: dict[str, tuple[Any, Location]] = {
            name: (value, COMMAND_LINE) for name, value in extra_vars.items()
        }

    @property
    def _own(self) -> Scope:
        """What the playbook says itself: a file of variables yields to what stands in the playbook."""
        return {"playbook_dir": self._folder, **self._files, **self._variables}

    def add_file(self, data: PositionedMap) -> None:
        """The variables of a file, which win over those of the files before it."""
        self._files |= variables(data)

    def of_playbook(self) -> Scope:
        """What stands beside the steps sees."""
        return {**self._own, **self.outside}

    def of(
        self,
        origins: tuple[PositionedMap, ...],
        connection_name: str | None,
        merged: PositionedMap,
        names: Scope = NO_NAMES,
    ) -> Scope:
        """What a step sees: lowest first, the names that are there by themselves, the variables of the playbook, of the
        step's connection, its blocks' and its own (`origins`), then the `names` of loops, results and facts, and what comes
        from outside.
        """
        scope: dict[str, tuple[Any, Location]] = {}
        if connection_name:
            scope["connection_name"] = (connection_name, origins[-1].location)
        if "host" in merged:
            scope["host"] = (merged["host"], merged.value_locations["host"])
        scope |= self._own
        connection = self._sections.connection(connection_name)
        for section in (connection, *origins):
            scope |= variables(as_map(section.get("vars") if section else None))
        return {**scope, **names, **self.outside}


def variables(section: PositionedMap | None) -> dict[str, tuple[Any, Location]]:
    """The variables of a section, with their places."""
    return {name: (value, section.value_locations[name]) for name, value in section.items()} if section else {}
