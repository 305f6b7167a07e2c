"""Lengths of time as a playbook writes them: `90s`, `10m`, `36h`, `7d`, or a number of seconds."""

from __future__ import annotations

import re

# The schema has the same, for editors.
DURATION_PATTERN = "^[0-9]{1,6}[smhd]$"
DURATION_HINT = "Write a number and one of s, m, h or d: 2s, 10m, 1h, 7d. A number alone is seconds."

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def read_seconds(given: object) -> float | None:
    """The same, and a number may have decimals."""
    if isinstance(given, float):
        return given
    return read_duration(given)


def read_duration(given: object) -> int | None:
    """The seconds of a length of time; None for what is none. JSON Schema counts 2.0 among the integers."""
    if isinstance(given, str) and re.fullmatch(DURATION_PATTERN, given.strip()):
        number, unit = given.strip()[:-1], given.strip()[-1]
        return int(number) * _SECONDS[unit]
    return int(given) if isinstance(given, int | float) and not isinstance(given, bool) else None
