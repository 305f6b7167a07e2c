"""What a playbook is and takes, and where each value of a step comes from. Nothing is contacted, and no command is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runner.playbook.binding import Binder
from runner.playbook.document import Awaited, PositionedMap, Unfilled
from runner.playbook.provenance import plain
from runner.playbook.rendering import Rendering
from runner.playbook.scopes import Scopes, Undecided
from runner.playbook.sections import Sections, as_map
from runner.playbook.validation import connector_keys, secret_keys
from runner.problems import Location
from runner.program import Names, Node, StepTemplate, steps_of
from runner.redaction import MASK


class DescribedInput(NamedTuple):
    """One input of a playbook, as it is declared."""

    name: str
    type: str
    description: str
    is_required: bool
    is_secret: bool
    default: Any
    choices: tuple[Any, ...]
    environment_name: str


@dataclass(frozen=True, slots=True)
class DescribedStep:
    """One step, as it is written."""

    index: int
    name: str
    kind: str
    connection: str
    tags: tuple[str, ...]


class Description(NamedTuple):
    """What a playbook is, as far as its text tells. `connections` are pairs of a name and the host as it is written."""

    file: str
    name: str
    inputs: tuple[DescribedInput, ...]
    connections: tuple[tuple[str, str], ...]
    steps: tuple[DescribedStep, ...]
    tags: tuple[str, ...]


class Explained(NamedTuple):
    """One name of a step: its value, the place that gave it, and those that it has beaten, the strongest first.

    `kind` is `input` or `variable`; `waits_for` says what only the play will know.
    """

    kind: str
    name: str
    value: Any
    location: Location
    beaten: tuple[Location, ...]
    waits_for: str = ""


def describe(file: str, name: str, sections: Sections, nodes: Sequence[Node]) -> Description:
    """The description of a playbook whose text is valid."""
    steps = steps_of(nodes)
    connections = sections.connections or PositionedMap(sections.start)
    hosts: dict[str, dict[str, Any]] = {key: as_map(value) or {} for key, value in connections.items()}
    tags = sorted({tag for step in steps for tag in step.keywords.tags})
    return Description(
        file,
        name,
        tuple(_describe_inputs(as_map(sections.top.get("inputs")))),
        tuple((key, str(section.get("host", ""))) for key, section in hosts.items()),
        tuple(_describe_step(step) for step in steps),
        tuple(tags),
    )


def _describe_inputs(section: PositionedMap | None) -> Iterator[DescribedInput]:
    for name, given in (section or {}).items():
        declared: dict[str, Any] = as_map(given) or {}
        is_secret = declared.get("secret") is True
        default = declared.get("default")
        yield DescribedInput(
            name,
            str(declared.get("type", "string")),
            str(declared.get("description", "")),
            declared.get("required") is True,
            is_secret,
            MASK if is_secret and default is not None else default,
            tuple(declared.get("enum") or ()),
            str(declared.get("env", "")),
        )


def _describe_step(step: StepTemplate) -> DescribedStep:
    mode = next((one["mode"] for one in reversed(step.origins) if "mode" in one), None)
    kind = str(mode.get("mode_name", "")) if step.kind == "mode" and isinstance(mode, PositionedMap) else step.kind
    name = step.item.get("name")
    return DescribedStep(
        step.index, str(name) if name else "", kind, step.connection, tuple(sorted(step.keywords.tags))
    )


def explain(
    template: StepTemplate, names: Names, sections: Sections, binder: Binder, rendering: Rendering, scopes: Scopes
) -> list[Explained]:
    """Every input and variable of a step. `names` are those that only the play will know."""
    connection = sections.connection(template.connection)
    origins = (sections.defaults, connection, *template.origins)
    merged = binder.merge(template.location, *origins)
    layers = list(scopes.layers(template.origins, template.connection or None, merged, names))
    scope = scopes.of(template.origins, template.connection or None, merged, names)
    found = [_explain_input(key, origins, rendering, scope) for key in merged if key in connector_keys()]
    for name in scope:
        places = [layer[name][1] for layer in layers if name in layer]
        value = rendering.quietly(name, places[-1], scope)
        if isinstance(scope[name][0], Undecided):
            value = Awaited("", "whether it is a --check")
        found.append(_make("variable", name, value, places))
    return found


def _explain_input(key: str, origins: Sequence[PositionedMap | None], rendering: Rendering, scope: Names) -> Explained:
    given = [one for one in origins if one is not None and key in one]
    places = [one.value_locations[key] for one in given]
    value = rendering.input(key, given[-1][key], places[-1], scope)
    return _make("input", key, value, places)


def _make(kind: str, name: str, value: Any, places: list[Location]) -> Explained:
    waits_for = next((one.reason for one in _walk(value) if isinstance(one, Awaited)), "")
    return Explained(kind, name, _mask(name, value), places[-1], tuple(reversed(places[:-1])), waits_for)


def _walk(value: Any) -> Iterator[Any]:
    yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        yield from _walk(part)


def _mask(name: str, value: Any) -> Any:
    """The value without what is secret because of where it stands."""
    if name in secret_keys() and not isinstance(value, dict):
        return MASK
    if isinstance(value, dict):
        return {key: _mask(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(name, item) for item in value]
    if isinstance(value, Awaited):
        return None
    return str(value) if isinstance(value, Unfilled) else plain(value)
