"""Fills in a step of a loop once more, where all that another item makes of it are other file names, and another name.

To fill in a step whole is to merge, render, validate and read all of its inputs. In a loop of thousands of files nothing of
that comes out otherwise but two texts. What depends on the item is found out by rendering once with items that are unknown;
where that is anything else than such a text, every item is filled in whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from runner.plan import Step
from runner.playbook.document import Awaited, PositionedMap, Unfilled, is_unfilled
from runner.playbook.inputs import InputProblem
from runner.playbook.modes import read_mode
from runner.playbook.rendering import Rendering
from runner.playbook.templating import Scope
from runner.program import Bound, StepTemplate

# Inputs of a mode of which the schema asks nothing but that they are text and not empty.
TEXTS = frozenset(("source_file_name", "destination_file_name"))


class Rebinding:
    """One step of a loop, filled in once. `rebind` gives it for another item."""

    def __init__(
        self,
        bound: Bound,
        template: StepTemplate,
        inputs: PositionedMap,
        written_mode: PositionedMap,
        keys: tuple[str, ...],
        scopes: tuple[Scope, Scope],
        workdir: str,
    ) -> None:
        """`inputs` are filled in, `written_mode` is as it stands; `keys` of it depend on the item.

        `scopes` are what the step sees besides the names of loops, results and facts: what these win over, and what wins
        over them.
        """
        self._bound = bound
        self._template = template
        self._inputs = _copy(inputs)
        self._mode = self._inputs["mode"] = _copy(inputs["mode"])
        self._written_mode = written_mode
        self._keys = keys
        self._below, self._above = scopes
        self._workdir = workdir

    def rebind(self, names: Scope, rendering: Rendering) -> Bound | None:
        """The step for these names; None if it has to be filled in whole, to find out what is wrong for one."""
        scope = {**self._below, **names, **self._above}
        written = self._written_mode
        for key in self._keys:
            value = rendering.input(key, written[key], written.value_locations[key], scope)
            if not isinstance(value, str) or isinstance(value, Unfilled) or not value:
                return None
            self._mode[key] = value
        try:
            mode = read_mode(self._inputs, self._workdir)
        except InputProblem:
            return None
        step = self._bound.step
        assert isinstance(step, Step)
        name = rendering.key(self._template.item, "name", scope)
        if name is None:
            name = self._template.name or f"{mode.mode_name} {mode.subject}".rstrip()
        if not isinstance(name, str) or isinstance(name, Unfilled):
            return None
        return self._bound._replace(step=replace(step, name=name, mode=mode))


def unknown(names: Scope) -> Scope:
    """The same names, with values that are not known yet."""
    later = Awaited("", "an item")
    return {name: (later, location) for name, (_, location) in names.items()}


def find_dependent(inputs: PositionedMap) -> tuple[str, ...] | None:
    """What of a mode is open in inputs that were filled in with unknown names; None if anything else is."""
    mode = inputs.get("mode")
    if not isinstance(mode, PositionedMap) or any(is_unfilled(value) for key, value in inputs.items() if key != "mode"):
        return None
    keys = tuple(_open_keys(mode))
    return keys if TEXTS.issuperset(keys) else None


def _open_keys(mode: PositionedMap) -> Iterator[str]:
    return (key for key, value in mode.items() if is_unfilled(value))


def _copy(section: PositionedMap) -> PositionedMap:
    copy = PositionedMap(section.location)
    for key in section:
        copy.take(key, section)
    return copy
