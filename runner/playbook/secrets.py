"""Which values of a playbook are secret because of where they stand, and how they are kept out of its problems."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner.playbook.document import PositionedList, PositionedMap
from runner.problems import Problem
from runner.redaction import Redactor

# A shorter number in an encrypted file (a port, a count) is no secret, and would be masked in every line.
MIN_SECRET_NUMBER = 100_000


def note_values(value: Any, redactor: Redactor) -> None:
    """Tell the redactor of every text in a value, and of the numbers that are long enough to be a secret."""
    match value:
        case dict():
            for item in value.values():
                note_values(item, redactor)
        case list():
            for item in value:
                note_values(item, redactor)
        case str():
            redactor.add(value)
        case int() if abs(value) >= MIN_SECRET_NUMBER:
            redactor.add(str(value))


def note_variables(data: Any, redactor: Redactor) -> None:
    """Tell the redactor of the variables of a playbook, its connections and its steps, those in blocks included.

    The rest of one that is encrypted as a whole is not secret: no line of the output would be left.
    """
    if isinstance(data, PositionedMap):
        note_values(data.get("vars"), redactor)
        note_values(data.get("set_fact"), redactor)
    parts = data.values() if isinstance(data, PositionedMap) else data if isinstance(data, PositionedList) else ()
    for part in parts:
        note_variables(part, redactor)


def redact_problems(problems: Iterable[Problem], redactor: Redactor) -> list[Problem]:
    """The same problems without a secret in them."""
    redact = redactor.redact
    return [Problem(one.location, redact(one.message), redact(one.hint)) for one in problems]
