"""A problem of a playbook, and the place it points at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Nobody reads more at once, and a hostile file could have one for every byte.
MAX_PROBLEMS = 200


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a playbook. Lines and columns count from 1, as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a playbook: where, what, and what to do about it."""

    location: Location
    message: str
    hint: str = ""


def collect_problems(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of the file, each once; after `MAX_PROBLEMS` the last one says that there are more."""
    unique = sorted(set(problems))
    if len(unique) <= MAX_PROBLEMS:
        return unique
    shown = unique[:MAX_PROBLEMS]
    return [*shown, Problem(shown[-1].location, f"more than {MAX_PROBLEMS} problems", "Mend these first.")]
