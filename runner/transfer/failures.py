"""What could not be done for some of many paths, told in the end, when the rest has been done."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.errors import StepError, TreeIncomplete

MAX_KEPT = 1000
MAX_TOLD = 5
# Of failures in one message. Each is told whole: what was kept, and under which name, is at its end.
MAX_TOLD_CHARACTERS = 1000
MAX_HINTS = 3

# What differs in refusals for the same reason: names and numbers.
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9][0-9,]*")

Failed = tuple[str, StepError]


def tell_failures(failures: Sequence[Failed], count: int) -> str:
    """Failures in one sentence, one of each reason first; `count` are all there were, also those that are not kept."""
    told: list[str] = []
    for path, error in _one_of_each(failures)[:MAX_TOLD]:
        text = f"{path}: {error}"
        if told and sum(map(len, told)) + len(text) > MAX_TOLD_CHARACTERS:
            break
        told.append(text)
    more = f"; and {count - len(told):,} more" if count > len(told) else ""
    return "; ".join(told) + more


def join_hints(failures: Sequence[Failed], otherwise: str) -> str:
    """What to do about them: each hint once, and not without end."""
    hints = dict.fromkeys(error.hint for _, error in _one_of_each(failures)[:MAX_TOLD] if error.hint)
    return " ".join([*hints][:MAX_HINTS]) or otherwise


def _one_of_each(failures: Sequence[Failed]) -> list[Failed]:
    """The first failure of each reason, and then the others, in their order."""
    first: dict[str, Failed] = {}
    for failed in failures:
        first.setdefault(_PARTICULARS.sub("…", failed[1].message), failed)
    chosen = set(map(id, first.values()))
    return [*first.values(), *(failed for failed in failures if id(failed) not in chosen)]


class Failures:
    """The failures of one step. `done` says what should have been: `removed`."""

    def __init__(self, root: str, done: str) -> None:
        self._root = root
        self._done = done
        self._first: list[tuple[str, StepError]] = []
        self._count = 0

    def add(self, path: str, error: StepError) -> None:
        """Note one. What ends the session is raised by the batch instead."""
        self._count += 1
        if len(self._first) < MAX_KEPT:
            self._first.append((path, error))

    def raise_any(self, rest: str) -> None:
        """Raise `TreeIncomplete` if there are any. `rest` says what was done."""
        if not self._first:
            return
        told = tell_failures(self._first, self._count)
        codes = {error.exit_code for _, error in self._first}
        raise TreeIncomplete(
            f"{self._count:,} of what is in {self._root!r} could not be {self._done}: {told}. {rest}",
            hint=join_hints(self._first, "Play again when it is fixed."),
            exit_code=codes.pop() if len(codes) == 1 else 2,
        )
