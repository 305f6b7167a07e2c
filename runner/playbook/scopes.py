"""Which names a template sees, and which of two values of one name wins. The order of precedence is in no other place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.playbook.document import PositionedMap, Unfilled
from runner.playbook.sections import Sections, as_map
from runner.playbook.templating import COMMAND_LINE, Scope
from runner.problems import Location
from runner.program import Data

NO_NAMES: Scope = {}
# What the play itself tells of its hosts: as low as what is there by itself.
OF_HOSTS = ("hostvars", "play_hosts")


class Undecided(Unfilled):
    """What the command line will say. It is worth mentioning, as what could not be filled in is not."""

    __slots__ = ()


class Scopes:
    """The names of a playbook. `outside` holds those that were given to it: its inputs, and what the command line sets."""

    def __init__(
        self, sections: Sections, folder: str, extra_vars: Mapping[str, Any], *, is_check: bool | None = None
    ) -> None:
        """`is_check`: whether the playbook is loaded for a `--check`; None where that is not known."""
        self._sections = sections
        connections = as_map(sections.top.get("connections")) or ()
        # Every connection is a host, and there are no groups but that of all.
        self._built_in: dict[str, tuple[Any, Location]] = {
            "playbook_dir": (folder, sections.start),
            "groups": (Data({"all": list(connections)}), sections.start),
            "group_names": (Data([]), sections.start),
            "runner_check_mode": (Undecided("") if is_check is None else is_check, sections.start),
        }
        self._files: list[Scope] = []
        self._variables = variables(as_map(sections.top.get("vars")))
        # Some variables are where they cannot be found, for a reason that is told.
        self.lacks_variables = False
        self.outside: dict[str, tuple[Any, Location]] = {
            name: (value, COMMAND_LINE) for name, value in extra_vars.items()
        }

    def add_file(self, data: PositionedMap) -> None:
        """The variables of a file, which win over those of the files before it."""
        self._files.append(variables(data))

    def of_playbook(self) -> Scope:
        """What stands beside the steps sees."""
        scope = dict(self._built_in)
        for layer in (*self._files, self._variables, self.outside):
            scope |= layer
        return scope

    def of(
        self,
        origins: tuple[PositionedMap, ...],
        connection_name: str | None,
        merged: PositionedMap,
        names: Scope = NO_NAMES,
    ) -> Scope:
        """What a step sees; `names` are those of loops, results and facts."""
        return merge_layers(self.layers(origins, connection_name, merged, names))

    def layers(
        self,
        origins: tuple[PositionedMap, ...],
        connection_name: str | None,
        merged: PositionedMap,
        names: Scope = NO_NAMES,
    ) -> Iterator[Scope]:
        """What a step sees, lowest first: the names that are there by themselves, files, the variables of the playbook, of
        its connection, its blocks' and its own (`origins`), the `names` of loops, results and facts, what is from outside.
        """
        built_in, of_play = self._built_in.copy(), dict(names)
        for name in OF_HOSTS:
            if name in of_play:
                built_in[name] = of_play.pop(name)
        if connection_name:
            built_in["connection_name"] = (connection_name, origins[-1].location)
        if "host" in merged:
            built_in["host"] = (merged["host"], merged.value_locations["host"])
        yield built_in
        yield from self._files
        yield self._variables
        for section in (self._sections.connection(connection_name), *origins):
            yield variables(as_map(section.get("vars") if section else None))
        yield of_play
        yield self.outside


def merge_layers(layers: Iterable[Scope]) -> Scope:
    """All names of the layers; of a name that several have the last one's value."""
    scope: dict[str, tuple[Any, Location]] = {}
    for layer in layers:
        scope |= layer
    return scope


def variables(section: PositionedMap | None) -> dict[str, tuple[Any, Location]]:
    """The variables of a section, with their places."""
    return {name: (value, section.value_locations[name]) for name, value in section.items()} if section else {}
