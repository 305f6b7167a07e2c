"""What could not be done for some of many paths, told in the end, when the rest has been done."""

from __future__ import annotations

from runner.errors import StepError, TreeIncomplete

MAX_KEPT = 1000
MAX_TOLD = 5


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
        told = "; ".join(f"{path}: {error}" for path, error in self._first[:MAX_TOLD])
        more = f"; and {self._count - MAX_TOLD:,} more" if self._count > MAX_TOLD else ""
        codes = {error.exit_code for _, error in self._first}
        raise TreeIncomplete(
            f"{self._count:,} of what is in {self._root!r} could not be {self._done}: {told}{more}. {rest}",
            hint=self._first[0][1].hint or "Play again when it is mended.",
            exit_code=codes.pop() if len(codes) == 1 else 2,
        )
