"""Fills in the values of a playbook: templates, secrets, and the types that text from outside does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from runner.playbook.document import Decrypted, PositionedList, PositionedMap
from runner.playbook.secrets import redact_problems
from runner.playbook.templating import Scope, TemplateProblem, Templates, ValueUnknown
from runner.playbook.validation import is_template, secret_keys
from runner.problems import Location, Problem
from runner.redaction import Redactor

_NUMBER_INPUTS = (
    "port",
    "port_number",
    "connect_timeout",
    "keepalive_interval",
    "stall_timeout",
    "transfers",
    "retries",
    "max_delete",
)
_DECIMAL_INPUTS = ("delay", "timeout")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_BOOLEAN_INPUTS = (
    *("atomic", "resume", "create_parents", "backup", "delete"),
    *("recursive", "missing_ok", "overwrite", "parents", "ssh_config"),
)
_MAX_DIGITS = 20


class Rendering:
    """Fills in values, tells the problems, and notes the secrets. `unknown_count` counts what cannot be known yet."""

    def __init__(self, templates: Templates, redactor: Redactor, tell: Callable[[Problem], None]) -> None:
        self._templates = templates
        self._redactor = redactor
        self._tell = tell
        self.unknown_count = 0

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
            rendered = PositionedMap(value.location)
            for inner, item in value.items():
                place = value.value_locations[inner]
                rendered.put(inner, self.input(inner, item, place, scope), value.key_locations[inner], place)
            return rendered
        if not isinstance(value, PositionedList) and not is_template(value) and key not in secret_keys():
            return _coerce(key, value) if isinstance(value, Decrypted) else value
        with self._templates.watching_lookups() as lookups:
            hidden = lookups.values if key in secret_keys() or key == "authentication" else set[str]()
            result = self.value(value, location, scope, hidden)
        environment_names = lookups.environment_names
        if key in secret_keys() and isinstance(result, str):
            self._note_secret(key, result, location, environment_names)
        if key == "authentication" and isinstance(result, PositionedMap):
            for inner in secret_keys() & result.keys():
                if isinstance(result[inner], str):
                    self._note_secret(inner, result[inner], result.value_locations[inner], environment_names)
        return _coerce(key, result) if is_template(value) else result

    def _note_secret(self, key: str, secret: str, location: Location, environment_names: set[str]) -> None:
        if secret.strip():
            self._redactor.add(secret)
            return
        source = ""
        if environment_names:
            source = f": the environment variable {' or '.join(sorted(environment_names))} is empty"
        hint = "CI systems give empty variables to jobs that may not see a secret: check where it is allowed."
        self._tell(Problem(location, f"the secret '{key}' is empty{source}", hint))

    def key(self, section: PositionedMap, key: str, scope: Scope) -> Any:
        """The value of a section's key, filled in; None if there is none."""
        return self.value(section[key], section.value_locations[key], scope) if key in section else None

    def value(self, value: Any, location: Location, scope: Scope, hidden: Collection[str] = ()) -> Any:
        """The value filled in; None if that is not possible. `hidden` fills up with what an error may not quote."""
        try:
            return self._templates.render(value, location, scope)
        except ValueUnknown:
            self.unknown_count += 1
        except TemplateProblem as error:
            # What was looked up for a secret on the way to a mistake is as secret.
            self._tell(redact_problems([error.problem], Redactor(hidden))[0])
        return None


def _coerce(key: str, value: Any) -> Any:
    """What a template gives for a number or a switch is often text: environment variables, `-e` and vaults have no types."""
    if isinstance(value, str) and key in _NUMBER_INPUTS and value.strip().isdecimal() and len(value) <= _MAX_DIGITS:
        return int(value)
    if isinstance(value, str) and key in _DECIMAL_INPUTS and _DECIMAL.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, str) and key in _BOOLEAN_INPUTS and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value
