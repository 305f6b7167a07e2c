"""Templates that stand without quotes where YAML reads a mapping: `path: {{ name }}/x`."""

from __future__ import annotations

import re
from typing import NamedTuple

MESSAGE = "an unquoted '{{' begins a mapping in YAML, and no template"
MAX_SHOWN_CHARACTERS = 120

MAX_LINE_LENGTH = 4000

_TEMPLATE = re.compile(r"(?P<value>\{\{.*?\}\}(?P<rest>[^,#}\]]*))")
# A value stands behind a key, a '-', or an opening bracket.
_BEFORE = re.compile(r"\s*|.*([:,-]\s+|[\[{]\s*)")
_SECRET_LINE = re.compile(r"pass|secret|token|key", re.IGNORECASE)


class Unquoted(NamedTuple):
    """A template without quotes: where it begins, from 1, and what to write."""

    column: int
    hint: str


def find_unquoted(line: str, column: int | None = None) -> Unquoted | None:
    """The first template of a line that lacks its quotes, or the one at `column`; None if there is none."""
    line = line[:MAX_LINE_LENGTH]
    if column is not None:
        found = _TEMPLATE.match(line, column - 1)
        return _make(line, found) if found else None
    for found in _TEMPLATE.finditer(line):
        if _BEFORE.fullmatch(line, 0, found.start()):
            return _make(line, found)
    return None


def _make(line: str, found: re.Match[str]) -> Unquoted:
    return Unquoted(found.start() + 1, f"Put the whole value in quotes: {_quote(line, found)}.")


def _quote(line: str, found: re.Match[str]) -> str:
    value = found["value"].rstrip()
    # What stands beside a template for a secret may be a part of it.
    if len(value) > MAX_SHOWN_CHARACTERS or (found["rest"].strip() and _SECRET_LINE.search(line)):
        return '"{{ … }}"'
    return f"'{value}'" if '"' in value and "'" not in value else '"' + value.replace('"', '\\"') + '"'
