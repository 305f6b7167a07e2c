"""What a playbook takes from outside: its typed `inputs`, from the command line, the environment or a default."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from runner.playbook.document import PositionedList, PositionedMap, Unfilled, describe_type
from runner.playbook.provenance import mark_outside, plain
from runner.playbook.sections import as_map
from runner.playbook.templating import COMMAND_LINE
from runner.playbook.validation import show
from runner.problems import Location, Problem
from runner.program import Data
from runner.redaction import Redactor
from runner.suggestions import nearest

MAX_DIGITS = 20
_NUMBER = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{1,20})?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOOLEANS = {"true": True, "false": False}
_KINDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "mapping": lambda value: isinstance(value, dict),
}
_NAMES = {"integer": "an integer", "mapping": "a mapping", "list": "a list", "boolean": "true or false"}

# What has been told to be wrong is no problem of what uses it.
_WRONG = Unfilled("")

FillIn = Callable[[PositionedMap, str], Any]


class DeclaredInputs:
    """Reads the inputs of one playbook. All that is wrong with them is added to `problems`."""

    def __init__(self, problems: list[Problem], redactor: Redactor, fill_in: FillIn, *, needs_all: bool = True) -> None:
        """`fill_in` gives the value of a key, filled in with what the playbook says itself. Without `needs_all` one that is
        required may be missing.
        """
        self._needs_all = needs_all
        self._problems = problems
        self._redactor = redactor
        self._fill_in = fill_in

    def read(
        self, section: PositionedMap | None, extra_vars: Mapping[str, Any], environment: Mapping[str, str] = os.environ
    ) -> dict[str, tuple[Any, Location]]:
        """The value of each input, by its name; of one that has none and needs none, nothing."""
        found: dict[str, tuple[Any, Location]] = {}
        for name, given in (section or {}).items():
            declared = as_map(given)
            if declared is None or section is None:
                continue
            value = self._find(name, declared, section.key_locations[name], extra_vars, environment)
            if value is not None:
                found[name] = value
        return found

    def _find(
        self,
        name: str,
        declared: PositionedMap,
        place: Location,
        extra_vars: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> tuple[Any, Location] | None:
        variable = declared.get("env")
        if name in extra_vars:
            value = self._accept(name, declared, extra_vars[name], place, "given with -e", is_text=True)
            return value, COMMAND_LINE
        if isinstance(variable, str) and environment.get(variable):
            source = f"the environment variable {variable}"
            value = self._accept(name, declared, environment[variable], place, f"from {source}", is_text=True)
            return (value if isinstance(value, Unfilled) else Data(mark_outside(value, source))), place
        if "default" in declared:
            place = declared.value_locations["default"]
            value = self._fill_in(declared, "default")
            accepted = self._accept(name, declared, value, place, "its default", is_text=False)
            return (accepted if isinstance(accepted, Unfilled) else Data(accepted)), place
        if declared.get("required") is True and self._needs_all:
            ways = f"-e {name}=…" + (f", or the environment variable {variable}" if isinstance(variable, str) else "")
            self._note(place, f"the input '{name}' is missing", f"Give it with {ways}.")
            return _WRONG, place
        return None

    def _accept(
        self, name: str, declared: PositionedMap, value: Any, place: Location, source: str, *, is_text: bool
    ) -> Any:
        """The value, of the input's type; `Unfilled`, with a problem, if it is not what the input wants."""
        if isinstance(value, Unfilled):
            return _WRONG
        kind = declared.get("type", "string")
        value = _convert(value, str(kind)) if is_text else value
        if declared.get("secret") is True and isinstance(value, str) and value.strip():
            self._redactor.add(str(value))
        fits = _KINDS.get(str(kind))
        if fits is not None and not fits(value):
            wanted = _NAMES.get(str(kind), f"a {kind}")
            self._note(
                place,
                f"the input '{name}' must be {wanted}, and {source} is {describe_type(value)}: {show(plain(value))}",
            )
            return _WRONG
        choices = declared.get("enum")
        if isinstance(choices, PositionedList) and value not in choices:
            shown = ", ".join(str(choice) for choice in choices)
            self._note(place, f"the input '{name}' must be one of {shown}, and {source} is {show(plain(value))}")
            return _WRONG
        return value if self._fits_pattern(name, declared, value, place, source) else _WRONG

    def _fits_pattern(self, name: str, declared: PositionedMap, value: Any, place: Location, source: str) -> bool:
        pattern = declared.get("pattern")
        if not isinstance(pattern, str) or not isinstance(value, str):
            return True
        try:
            fits = re.fullmatch(pattern, value) is not None
        except (re.error, RecursionError) as error:
            self._note(declared.value_locations["pattern"], f"'pattern' is no regular expression: {error}")
            return True
        if not fits:
            self._note(place, f"the input '{name}' must match {show(pattern)}, and {source} is {show(plain(value))}")
        return fits

    def _note(self, place: Location, message: str, hint: str = "") -> None:
        self._problems.append(Problem(place, self._redactor.redact(message), hint))


def _convert(value: Any, kind: str) -> Any:
    """Text from outside as the type that is wanted, if it says that: command lines and environments have no types."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    if kind == "boolean":
        return _BOOLEANS.get(text.lower(), value)
    return value


def find_unknown_extra_vars(documents: Sequence[Any], extra_vars: Mapping[str, Any]) -> list[Problem]:
    """What the command line sets and the playbook, which says what it takes, does not know. `documents` begin with it."""
    inputs = documents[0].get("inputs") if isinstance(documents[0], PositionedMap) else None
    if inputs is None:
        return []
    known = {*(inputs if isinstance(inputs, PositionedMap) else ()), *_variable_names(documents)}
    return [
        Problem(COMMAND_LINE, f"the playbook has no input or variable '{name}'", nearest(name, sorted(known)))
        for name in extra_vars
        if name not in known
    ]


def find_unused_extra_vars(documents: Sequence[Any], extra_vars: Mapping[str, Any]) -> list[Problem]:
    """What the command line sets and nothing in a playbook without inputs can use."""
    has_inputs = isinstance(documents[0], PositionedMap) and "inputs" in documents[0]
    unused = set() if has_inputs or not extra_vars else extra_vars.keys() - _words(documents)
    return [Problem(COMMAND_LINE, f"nothing in the playbook uses the variable '{name}'") for name in sorted(unused)]


def _variable_names(value: Any) -> Iterator[str]:
    if isinstance(value, PositionedMap):
        for key in ("vars", "set_fact"):
            yield from value.get(key) or () if isinstance(value.get(key), PositionedMap) else ()
    for part in _parts(value):
        yield from _variable_names(part)


def _words(value: Any) -> set[str]:
    """Every word that could be a name, in keys and in texts."""
    words: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            words.update(_WORD.findall(one))
        elif isinstance(one, PositionedMap):
            words.update(one)
        waiting += _parts(one)
    return words


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, PositionedMap) else value if isinstance(value, list | tuple) else ()
