"""What the attempts at one step share: the changes that are reported, each of them once."""

from __future__ import annotations

from runner.events import ChangeBegun, Observer
from runner.plan import Step
from runner.results import Change

# Of the changes of one step so many are kept for the reports; the observers are told all.
MAX_CHANGES_KEPT = 10_000


class StepChanges:
    """The changes of one step. What an attempt comes to again was reported by an earlier one."""

    def __init__(self, step: Step, observer: Observer) -> None:
        self._step = step
        self._observer = observer
        self._kept: list[Change] = []
        # What earlier attempts have reported, and this one; only where there may be a further one.
        self._earlier: set[tuple[str, str]] = set()
        self._current: set[tuple[str, str]] = set()
        self.total = 0

    @property
    def kept(self) -> tuple[Change, ...]:
        """The first of them."""
        return tuple(self._kept)

    def begin_attempt(self) -> None:
        """What has been reported so far is not reported again."""
        self._earlier |= self._current
        self._current.clear()

    def report(self, change: Change) -> None:
        """A change is about to be made."""
        if self._step.retries:
            key = (change.action, change.path)
            if key in self._earlier:
                return
            self._current.add(key)
        self.total += 1
        if len(self._kept) < MAX_CHANGES_KEPT:
            self._kept.append(change._replace(diff=""))
        self._observer(ChangeBegun(self._step, change))
