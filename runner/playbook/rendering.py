"""Fills in the values of a playbook: templates, secrets, and the types that text from outside does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from runner.playbook.document import Awaited, Decrypted, PositionedList, PositionedMap, Unfilled, is_unfilled
from runner.playbook.paths import PATH_KEYS, PATTERN_KEYS, find_path_fault, find_pattern_fault
from runner.playbook.provenance import plain
from runner.playbook.secrets import redact_problems
from runner.playbook.templating import UNDEFINED, Scope, TemplateProblem, Templates, ValueUnknown
from runner.playbook.validation import HOLDERS_OF_SECRETS, is_template, secret_keys, show
from runner.problems import Location, Problem
from runner.redaction import Redactor

if TYPE_CHECKING:
    from runner.playbook.item_conditions import Judge

_NUMBER_INPUTS = (
    "port",
    "port_number",
    "connect_timeout",
    "keepalive_interval",
    "stall_timeout",
    "transfers",
    "retries",
    "max_delete",
    "modify_window",
    "channels",
    *("max_bytes", "min_files", "min_size"),
)
_DECIMAL_INPUTS = ("delay", "timeout", "every", "settle")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_BOOLEAN_INPUTS = (
    *("atomic", "resume", "create_parents", "backup", "durable", "delete"),
    *("recursive", "missing_ok", "overwrite", "parents", "ssh_config"),
)
# With it behind them, an expression and white space are no expression alone.
_END = "."
# Text whose white space counts.
_TEXT_INPUTS = ("content",)
_MAX_DIGITS = 20


class Rendering:
    """Fills in values, tells the problems, and notes the secrets.

    What cannot be filled in is `Unfilled` in the result: the problem is told, or a command would have to be run for it.
    """

    def __init__(self, templates: Templates, redactor: Redactor, tell: Callable[[Problem], None]) -> None:
        self._templates = templates
        self._redactor = redactor
        self._tell = tell
        # Some variables are not there, for a reason that has been told: what is undefined is no problem of its own.
        self.lacks_variables = False
        # Parts of the playbook with nothing to fill in, by the inputs that they are, as they came out.
        self._plain: dict[tuple[str, int], tuple[PositionedMap, PositionedMap]] = {}
        # How many values were asked for that only the play will know.
        self.awaited_count = 0

    def inputs(self, merged: PositionedMap, scope: Scope) -> PositionedMap:
        """The merged inputs, filled in; secrets are noted, and an empty one is a problem."""
        inputs = PositionedMap(merged.location)
        for key, value in merged.items():
            place = merged.value_locations[key]
            inputs.put(key, self.input(key, value, place, scope), merged.key_locations[key], place)
        return inputs

    def input(self, key: str, value: Any, location: Location, scope: Scope) -> Any:
        """One input, filled in."""
        if isinstance(value, PositionedMap):
            return self._map_of_inputs(key, value, scope)
        if isinstance(value, PositionedList):
            items = PositionedList(value.location)
            for item, place in zip(value, value.item_locations, strict=True):
                items.add(self.input(key, item, place, scope), place)
            return items
        if not is_template(value) and key not in secret_keys():
            return _coerce(key, value) if isinstance(value, Decrypted) else value
        with self._templates.watching_lookups() as lookups:
            hidden = lookups.values if key in secret_keys() or key in HOLDERS_OF_SECRETS else set[str]()
            result = self.value(value, location, scope, hidden)
            if key in _TEXT_INPUTS and is_template(value):
                result = self._as_text(value, result, location, scope)
        result = self._accept(key, value, result, location, lookups.environment_names)
        return _coerce(key, result) if is_template(value) else result

    def _map_of_inputs(self, key: str, value: PositionedMap, scope: Scope) -> PositionedMap:
        # Thousands of steps may share a connection. What it says is the same for each, unless there is something to fill in.
        known = self._plain.get((key, id(value)))
        if known is not None and known[0] is value:
            return known[1]
        rendered = PositionedMap(value.location)
        for inner, item in value.items():
            place, name = value.value_locations[inner], _name_inside(key, inner)
            rendered.put(inner, self.input(name, item, place, scope), value.key_locations[inner], place)
        if not _has_template(value) and not is_unfilled(rendered):
            self._plain[key, id(value)] = value, rendered
        return rendered

    def _as_text(self, value: str, result: Any, location: Location, scope: Scope) -> Any:
        """What was filled in as text, with the white space around an expression that stands alone: it would go else.

        A list or a mapping is left for the schema to refuse: there are many ways to write one.
        """
        is_whole = isinstance(result, str) and value == value.strip()
        if isinstance(result, Unfilled) or is_whole or not isinstance(result, str | int | float):
            return result
        return self.value(f"{value}{_END}", location, scope).removesuffix(_END)

    def _accept(self, key: str, written: Any, result: Any, location: Location, environment_names: set[str]) -> Any:
        """What was filled in, without what nothing more can be said about; its secrets are noted, its paths looked at."""
        if isinstance(result, PositionedMap):
            for inner, item in result.items():
                place = result.value_locations[inner]
                result[inner] = self._accept(_name_inside(key, inner), item, item, place, environment_names)
            return result
        if isinstance(result, PositionedList):
            for index, (item, place) in enumerate(zip(result, result.item_locations, strict=True)):
                result[index] = self._accept(key, item, item, place, environment_names)
            return result
        if not isinstance(result, str) or isinstance(result, Unfilled):
            return result
        is_right = self._check_path(key, result, location)
        if key in secret_keys():
            is_right = self._note_secret(key, result, location, environment_names)
        return plain(result) if is_right else Unfilled(written)

    def _check_path(self, key: str, result: str, location: Location) -> bool:
        find = find_path_fault if key in PATH_KEYS else find_pattern_fault if key in PATTERN_KEYS else None
        fault = find(result) if find is not None else None
        if fault is not None:
            self._tell(self._redact(Problem(location, f"'{key}': {fault.message}: {show(result)}", fault.hint)))
        return fault is None

    def _note_secret(self, key: str, secret: str, location: Location, environment_names: set[str]) -> bool:
        if secret.strip():
            self._redactor.add(str(secret))
            return True
        source = ""
        if environment_names:
            source = f": the environment variable {' or '.join(sorted(environment_names))} is empty"
        hint = "CI systems give empty variables to jobs that may not see a secret: check where it is allowed."
        self._tell(Problem(location, f"the secret '{key}' is empty{source}", hint))
        return False

    def key(self, section: PositionedMap, key: str, scope: Scope) -> Any:
        """The value of a section's key, filled in; None if there is none."""
        if key not in section:
            return None
        location = section.value_locations[key]
        return self._accept(key, section[key], self.value(section[key], location, scope), location, set())

    def value(self, value: Any, location: Location, scope: Scope, hidden: Collection[str] = ()) -> Any:
        """The value filled in; `Unfilled` if that is not possible. `hidden` fills up with what an error may not quote."""
        return self._try(self._templates.render, value, location, scope, hidden)

    def expression(self, text: str, location: Location, scope: Scope) -> Any:
        """What an expression without braces gives; `Unfilled` if that cannot be said."""
        return self._try(self._templates.evaluate, text, location, scope, ())

    def judge_of_items(self, conditions: Sequence[str], item_name: str, scope: Scope) -> Judge | None:
        """What judges many items at once; None for conditions that depend on more than the item's value."""
        return self._templates.judge_of_items(conditions, item_name, scope)

    def lacking(self, value: Any, key: str) -> Any:
        """What stands for a part that a value lacks: who uses it is told why."""
        return self._templates.lacking(value, key)

    def raw(self, value: Any, location: Location, scope: Scope) -> Any:
        """The value filled in, and what is in it left as it is: for lists that may be long."""
        return self._try(self._templates.render_raw, value, location, scope, ())

    def quietly(self, expression: str, location: Location, scope: Scope) -> Any:
        """What an expression gives; `Unfilled`, and no problem, if that cannot be said."""
        try:
            return self._templates.evaluate(expression, location, scope)
        except ValueUnknown as error:
            return Awaited("", error.reason) if error.reason else Unfilled("")
        except TemplateProblem:
            return Unfilled("")

    def find_unknown_names(self, value: Any, location: Location, scope: Scope) -> list[Problem]:
        """What is wrong with the names in a value, without filling anything in."""
        if self.lacks_variables:
            return []
        if isinstance(value, PositionedMap):
            parts = [(item, value.value_locations[key]) for key, item in value.items()]
        elif isinstance(value, PositionedList):
            parts = list(zip(value, value.item_locations, strict=True))
        elif is_template(value):
            return self._templates.find_unknown_names(value, location, scope)
        else:
            return []
        return [problem for part, place in parts for problem in self.find_unknown_names(part, place, scope)]

    def guarded_names(self, expression: str) -> tuple[str, ...]:
        """The names of which an expression asks whether they are defined."""
        return self._templates.guarded_names(expression)

    def paths_in(self, expression: str) -> tuple[str, ...]:
        """The names that an expression uses, with what it asks of them: `r.result.size_bytes`."""
        return self._templates.paths_in(expression)

    def _try(
        self,
        fill_in: Callable[[Any, Location, Scope], Any],
        value: Any,
        location: Location,
        scope: Scope,
        hidden: Collection[str],
    ) -> Any:
        written = value if isinstance(value, str) else ""
        try:
            return fill_in(value, location, scope)
        except ValueUnknown as error:
            if error.reason:
                self.awaited_count += 1
                return Awaited(written, error.reason)
        except TemplateProblem as error:
            # What was looked up for a secret on the way to a mistake is as secret.
            told = redact_problems(error.problems, Redactor(hidden))
            for problem in told:
                if not (self.lacks_variables and problem.message.startswith(UNDEFINED)):
                    self._tell(problem)
        return Unfilled(written)

    def _redact(self, problem: Problem) -> Problem:
        return redact_problems([problem], self._redactor)[0]


def _has_template(value: Any) -> bool:
    parts = value.values() if isinstance(value, PositionedMap) else value if isinstance(value, PositionedList) else None
    return is_template(value) if parts is None else any(map(_has_template, parts))


def _name_inside(key: str, inner: str) -> str:
    """The name that decides about a value in a mapping: its own, or that of a mapping which is secret as a whole."""
    return key if key in secret_keys() else inner


def _coerce(key: str, value: Any) -> Any:
    """What a template gives for a number or a switch is often text: environment variables, `-e` and vaults have no types."""
    if isinstance(value, str) and key in _NUMBER_INPUTS and value.strip().isdecimal() and len(value) <= _MAX_DIGITS:
        return int(value)
    if isinstance(value, str) and key in _DECIMAL_INPUTS and _DECIMAL.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, str) and key in _BOOLEAN_INPUTS and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value
