"""Which environment variables a playbook looks up for its secrets, found without filling anything in.

A command that a template runs must not be given them, also those that are looked up only later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runner.playbook.document import PositionedList, PositionedMap
from runner.playbook.lookups import HiddenNames
from runner.playbook.validation import HOLDERS_OF_SECRETS, is_template, secret_keys


class TemplateUse(NamedTuple):
    """What a template's text says about what it uses.

    `environment_names` are those that stand in a `lookup('env', …)`, `name_variables` the variables that do, `variables`
    all of them. Not `is_plain`: something is looked up under a name that only filling it in could tell.
    """

    variables: frozenset[str]
    environment_names: frozenset[str] = frozenset()
    name_variables: frozenset[str] = frozenset()
    is_plain: bool = True


def find_secret_names(
    documents: Sequence[PositionedMap | PositionedList],
    extra_vars: Mapping[str, Any],
    look_into: Callable[[str], TemplateUse],
) -> HiddenNames:
    """The environment variables that reach a password, a passphrase or a key, directly or through variables.

    `documents` are the playbook and the files that it includes; `look_into` says what a template uses. A variable counts
    wherever it is set: which one holds is not worked out here.
    """
    variables = _gather_variables(documents, extra_vars)
    found = _Search(variables, extra_vars, look_into).search(
        template for data in documents for template in _secret_templates(data)
    )
    return HiddenNames(found.names | _secret_inputs(documents), found.are_all_known)


@dataclass(slots=True)
class _Search:
    variables: Mapping[str, list[Any]]
    extra_vars: Mapping[str, Any]
    look_into: Callable[[str], TemplateUse]
    names: set[str] = field(default_factory=set)
    are_all_known: bool = True

    def search(self, templates: Iterable[str]) -> HiddenNames:
        waiting, seen = list(templates), set[str]()
        while waiting:
            text = waiting.pop()
            if text in seen:
                continue
            seen.add(text)
            use = self.look_into(text)
            self.names |= use.environment_names
            self.are_all_known &= use.is_plain
            for variable in use.name_variables:
                self._take_name(variable)
            for variable in use.variables:
                waiting += (one for value in self.variables.get(variable, ()) for one in _templates(value))
        return HiddenNames(frozenset(self.names), self.are_all_known)

    def _take_name(self, variable: str) -> None:
        """The values of a variable that holds an environment variable's name."""
        values = self.variables.get(variable, ())
        self.names |= {value for value in values if isinstance(value, str) and not is_template(value)}
        extra = self.extra_vars.get(variable)
        self.are_all_known &= bool(values) and not any(is_template(value) for value in values if value is not extra)


def _gather_variables(
    documents: Sequence[PositionedMap | PositionedList], extra_vars: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Every value that a variable has anywhere in the playbook, and those that are there by themselves."""
    gathered: dict[str, list[Any]] = {}
    for section in (one for data in documents for one in _sections(data)):
        for key in ("vars", "set_fact"):
            variables = section.get(key)
            for name, value in variables.items() if isinstance(variables, PositionedMap) else ():
                gathered.setdefault(name, []).append(value)
        if "host" in section:
            gathered.setdefault("host", []).append(section["host"])
        connections, inputs = section.get("connections"), section.get("inputs")
        gathered.setdefault("connection_name", []).extend(connections if isinstance(connections, PositionedMap) else ())
        for name, declared in inputs.items() if isinstance(inputs, PositionedMap) else ():
            if isinstance(declared, PositionedMap) and "default" in declared:
                gathered.setdefault(name, []).append(declared["default"])
    for name, value in extra_vars.items():
        # They are data, whatever they look like, and win over all others.
        gathered[name] = [value]
    return gathered


def _sections(value: Any) -> Iterator[PositionedMap]:
    """Every mapping: the playbook, its defaults, its connections, its steps and those in blocks."""
    if isinstance(value, PositionedMap):
        yield value
    parts = value.values() if isinstance(value, PositionedMap) else value if isinstance(value, PositionedList) else ()
    for part in parts:
        yield from _sections(part)


def _secret_inputs(documents: Sequence[PositionedMap | PositionedList]) -> set[str]:
    """The environment variables of inputs that are secret."""
    inputs = (data.get("inputs") for data in documents if isinstance(data, PositionedMap))
    declared = [one for section in inputs if isinstance(section, PositionedMap) for one in section.values()]
    secret = [one for one in declared if isinstance(one, PositionedMap) and one.get("secret") is True]
    return {one["env"] for one in secret if isinstance(one.get("env"), str)}


def _secret_templates(value: Any) -> Iterator[str]:
    """The templates that give a secret, wherever in the playbook."""
    if isinstance(value, PositionedMap):
        for key, item in value.items():
            if key in secret_keys() or (key in HOLDERS_OF_SECRETS and is_template(item)):
                yield from _templates(item)
            else:
                yield from _secret_templates(item)
    elif isinstance(value, PositionedList):
        for item in value:
            yield from _secret_templates(item)


def _templates(value: Any) -> Iterator[str]:
    """The templates in a value."""
    if isinstance(value, PositionedMap):
        for item in value.values():
            yield from _templates(item)
    elif isinstance(value, PositionedList):
        for item in value:
            yield from _templates(item)
    elif is_template(value):
        yield value
