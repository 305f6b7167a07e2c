"""The test that compares versions, in the ways in which Ansible does."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from runner.playbook.document import shorten
from runner.playbook.filters.misuse import Misuse, refuse

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
}
_MAX_VERSION_LENGTH = 200
_STRICT = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:([ab])([0-9]+))?")
# https://semver.org, version 2.0.0, section 2 and 9
_SEMANTIC = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def version(
    value: Any, version: Any, operator: str = "eq", strict: bool | None = None, version_type: str | None = None
) -> bool:
    """Whether the comparison of the two versions holds. Raises `Misuse`, also where they cannot be compared."""
    if operator not in _OPERATORS:
        raise Misuse(f"'version' knows no comparison {shorten(repr(operator))}", f"Known: {', '.join(_OPERATORS)}.")
    if strict is not None and version_type is not None:
        raise Misuse("'version' takes strict or version_type, not both")
    kind = "strict" if strict else version_type or "loose"
    if kind not in _VERSION_TYPES:
        raise Misuse(f"'version' knows no version_type {shorten(repr(kind))}", f"Known: {', '.join(_VERSION_TYPES)}.")
    read = _VERSION_TYPES[kind]
    try:
        return _OPERATORS[operator](read(_version_text(value)), read(_version_text(version)))
    except TypeError as error:
        shown = f"{shorten(repr(str(value)))} with {shorten(repr(str(version)))}"
        hint = "A number stands where the other has letters. version_type='semver' compares such versions by its rules."
        raise Misuse(f"'version' cannot compare {shown}", hint) from error


def _version_text(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None or isinstance(value, bool) else str(value)
    if not text or len(text) > _MAX_VERSION_LENGTH:
        raise refuse("version", "a version that is not empty, and not longer than 200 characters", value)
    return str(text)


def _read_loose(text: str) -> list[int | str]:
    parts = (part for part in re.split(r"([0-9]+|[a-z]+|\.)", text) if part and part != ".")
    return [int(part) if part.isdecimal() else part for part in parts]


def _read_strict(text: str) -> tuple[Any, ...]:
    found = _STRICT.fullmatch(text)
    if found is None:
        raise Misuse(
            f"'version': {shorten(repr(text))} is no strict version", "Strict ones are like 1.4, 1.4.2 or 1.4b1."
        )
    numbers = tuple(int(part or 0) for part in found.group(1, 2, 3))
    return (*numbers, (1,) if found[4] is None else (0, found[4], int(found[5])))


def _read_semantic(text: str) -> tuple[Any, ...]:
    found = _SEMANTIC.fullmatch(text)
    if found is None:
        raise Misuse(
            f"'version': {shorten(repr(text))} is no semantic version", "These are like 1.4.2 or 1.4.2-rc.1+build.7."
        )
    numbers = tuple(int(part) for part in found.group(1, 2, 3))
    # Section 11: a version with a pre-release comes before the one without; numbers come before words.
    pre = tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in (found[4] or "").split(".") if part
    )
    return (*numbers, not pre, pre)


_VERSION_TYPES: dict[str, Callable[[str], Any]] = {
    "loose": _read_loose,
    "strict": _read_strict,
    "semver": _read_semantic,
    "semantic": _read_semantic,
}
