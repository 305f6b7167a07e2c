"""Says whether data fits a schema, and nothing else. Most data does, and of that nobody need ask jsonschema.

It takes a tenth of the start-up to load, and milliseconds to check a step. It alone says what is wrong: what does not fit
here is shown to it. What is unknown (`Unfilled`) fits everywhere.

The keywords are those that our schemas use, in the meaning of JSON Schema 2020-12; any other is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from runner.playbook.document import Unfilled

Fit = Callable[[Any], bool]

_ANNOTATIONS = frozenset(("title", "description", "default", "examples", "writeOnly", "$comment"))
# They are looked at with the keyword beside them that they belong to.
_COMPANIONS = frozenset(("then", "else"))


def make_fit(schema: Any) -> Fit:
    """Whether a value fits the schema, whose references have been put in place; it may hold itself."""
    return _Maker().make(schema)


class _Maker:
    """Makes the checks of one schema and of all in it, each once."""

    def __init__(self) -> None:
        self._made: dict[int, Fit] = {}

    def make(self, schema: Any) -> Fit:
        if isinstance(schema, bool):
            return lambda value: schema
        if id(schema) not in self._made:
            checks: tuple[Fit, ...] | None = None

            def fit(value: Any) -> bool:
                nonlocal checks
                if isinstance(value, Unfilled):
                    return True
                if checks is None:
                    # Now, since a playbook uses a small part of a schema.
                    checks = tuple(self._list_checks(schema))
                # A generator takes twice as long.
                for check in checks:  # noqa: SIM110
                    if not check(value):
                        return False
                return True

            self._made[id(schema)] = fit
        return self._made[id(schema)]

    def _list_checks(self, schema: dict[str, Any]) -> Iterable[Fit]:
        for keyword, given in schema.items():
            if keyword in _SIMPLE:
                yield _SIMPLE[keyword](given)
            elif keyword in ("anyOf", "allOf"):
                yield self._combine(keyword, given)
            elif keyword == "if":
                yield self._make_condition(schema)
            elif keyword in ("properties", "additionalProperties", "propertyNames", "items"):
                yield self._look_inside(keyword, given, schema)
            elif keyword not in _ANNOTATIONS | _COMPANIONS:
                raise ValueError(f"nothing is known of the keyword {keyword!r}")

    def _combine(self, keyword: str, schemas: list[Any]) -> Fit:
        fits = [self.make(one) for one in schemas]
        if keyword == "anyOf":
            return lambda value: any(fit(value) for fit in fits)
        return lambda value: all(fit(value) for fit in fits)

    def _make_condition(self, schema: dict[str, Any]) -> Fit:
        is_so, then, other = (self.make(schema.get(keyword, True)) for keyword in ("if", "then", "else"))
        return lambda value: then(value) if is_so(value) else other(value)

    def _look_inside(self, keyword: str, given: Any, schema: dict[str, Any]) -> Fit:
        if keyword == "properties":
            fits = {name: self.make(one) for name, one in given.items()}
            return lambda value: (
                not isinstance(value, dict) or all(fits[name](item) for name, item in value.items() if name in fits)
            )
        fit = self.make(given)
        if keyword == "additionalProperties" and given is False:
            known = frozenset(schema.get("properties", ()))
            return lambda value: not isinstance(value, dict) or known.issuperset(value)
        if keyword == "items":
            return lambda value: not isinstance(value, list) or all(map(fit, value))
        if keyword == "propertyNames":
            return lambda value: not isinstance(value, dict) or all(map(fit, value))
        known = frozenset(schema.get("properties", ()))
        return lambda value: (
            not isinstance(value, dict) or all(fit(item) for name, item in value.items() if name not in known)
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Fit] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _check_type(wanted: Any) -> Fit:
    if isinstance(wanted, str):
        return _TYPES[wanted]
    fits = [_TYPES[one] for one in wanted]
    return lambda value: any(fit(value) for fit in fits)


def _check_choice(choices: list[Any]) -> Fit:
    # 1 is true in Python, and 1.0 is 1.
    if not all(isinstance(one, str | bool) or one is None for one in choices):
        raise ValueError("a choice is a text, true, false or null")
    texts = frozenset(one for one in choices if isinstance(one, str))
    others = [one for one in choices if not isinstance(one, str)]
    return lambda value: value in texts if isinstance(value, str) else any(value is one for one in others)


def _check_pattern(pattern: str) -> Fit:
    search = re.compile(pattern).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _is_unlike(items: list[Any]) -> bool:
    """Whether no two items are alike, for certain: of what cannot be in a set, nothing is said."""
    return all(isinstance(item, str) for item in items) and len(set(items)) == len(items)


_SIMPLE: dict[str, Callable[[Any], Fit]] = {
    "type": _check_type,
    "enum": _check_choice,
    "const": lambda given: _check_choice([given]),
    "pattern": _check_pattern,
    "required": lambda keys: lambda value: not isinstance(value, dict) or all(key in value for key in keys),
    "minLength": lambda least: lambda value: not isinstance(value, str) or len(value) >= least,
    "minItems": lambda least: lambda value: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda most: lambda value: not isinstance(value, list) or len(value) <= most,
    "uniqueItems": lambda is_asked: lambda value: not (is_asked and isinstance(value, list)) or _is_unlike(value),
    "minimum": lambda least: lambda value: not _is_number(value) or value >= least,
    "maximum": lambda most: lambda value: not _is_number(value) or value <= most,
    "exclusiveMinimum": lambda bound: lambda value: not _is_number(value) or value > bound,
}
