"""Turns that are taken together: steps, or items of a loop, that copy a file each on one host.

Their files are under way at the same time, and what comes of them is told in their order. The first that does not go well,
or is not as simple as it looked, ends the row: it is carried out by itself, and those behind it have their turn later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from runner.cancellation import Cancellation, Limit
from runner.errors import Interrupted, StepError
from runner.execution.sessions import Sessions, key_of
from runner.execution.step_run import Clock, StepRun, time_is_up
from runner.interpreter import Turn
from runner.plan import CopyFile, Endpoint, PlayOptions, Step
from runner.program import Bound
from runner.results import Output, SkippedItems, StepResult
from runner.transfer.journal import Journal
from runner.transfer.left_behind import LeftBehind

# So few turns are taken together at least, however often it turned out that they could not be.
MIN_WINDOW = 8
MAX_WINDOW = 1024


class Prepared(NamedTuple):
    """A turn that is to be taken: the step with everything filled in, since when, and with which options."""

    turn: Turn
    bound: Bound
    clock: Clock
    options: PlayOptions


class Decided(NamedTuple):
    """What is to be reported of a step, or of items of its loop, that are not carried out."""

    result: StepResult | SkippedItems


OnBegin = Callable[[Prepared], None]
OnConclude = Callable[[Prepared, tuple[StepResult, Interrupted | None]], None]


class Rows:
    """Finds the turns that may be taken together, and takes them. For one play."""

    def __init__(self, sessions: Sessions, cancellation: Cancellation, make_run: Callable[[Prepared], StepRun]) -> None:
        self._sessions = sessions
        self._cancellation = cancellation
        self._make_run = make_run
        self._window = MAX_WINDOW
        # Whether the turn that comes next ended a row: it is to be taken by itself.
        self._is_next_alone = False
        # What became of files that were under way when a session ended, for the turns of their steps.
        self._journals: dict[tuple[Endpoint, str], Journal] = {}

    def gather(self, first: Prepared | Decided, more: Iterable[Prepared | Decided]) -> list[Prepared | Decided]:
        """The turns that may be taken together, the first one among them; only as many more as needed are asked for."""
        row: list[Prepared | Decided] = [first]
        is_alone, self._is_next_alone = self._is_next_alone, False
        if is_alone or not isinstance(first, Prepared) or not _may_join(first):
            return row
        from runner.transfer.together import most_together, place_of

        copy = _copy_of(first)
        places = {place_of(copy)}
        most = min(self._window, most_together(copy))
        for one in more:
            if isinstance(one, Prepared):
                if not (_may_join(one) and _belong_together(first, one)):
                    break
                place = place_of(_copy_of(one))
                if place in places:
                    break
                places.add(place)
            row.append(one)
            if len(row) >= most:
                break
        return row

    def take(self, copies: list[Prepared], begin: OnBegin, conclude: OnConclude, *, each_needs_the_last: bool) -> None:
        """Carry out the first of the copies, and as many behind it as go well with it.

        `begin` is told when a step begins, `conclude` what has come of it; both in order.
        """
        row = _Row(copies, [self._make_run(one) for one in copies], begin, conclude)
        with self._cancellation.limited(row.first.timeout_seconds, row.take_too_long) as row.limit:
            failure = self._execute(row, each_needs_the_last=each_needs_the_last)
        row.catch_up()
        self._is_next_alone = failure is None and bool(row.done_count) and not row.is_done
        if row.is_done and failure is not None:
            # What state the session is in is unknown.
            self._sessions.drop(row.first.endpoint)
        elif failure is not None:
            self._break_off(row, failure)
        elif not row.done_count:
            # It is not as simple as it looked.
            row.end_next(None)
        self._window = min(MAX_WINDOW, self._window * 2) if row.is_done else max(MIN_WINDOW, self._window // 2)

    def _break_off(self, row: _Row, failure: BaseException) -> None:
        """The session has failed, or the play is to end: that is the failure of the first step that is not done."""
        broken, *behind = row.runs[row.done_count :]
        broken.be_followed_by(_gather_left(behind))
        if broken.journal is not None:
            # Its next attempt finds out what became of all of them.
            for run in behind:
                if run.journal is not None:
                    broken.journal.take_over(run.journal)
                self._journals[_destination_of(run.step)] = broken.journal
        if row.has_taken_too_long and broken.journal is not None:
            # Those behind it may have taken its time. By itself it has its own.
            self._sessions.drop(row.first.endpoint)
            broken.journal.is_retry = True
            row.end_next(None)
        else:
            row.end_next(failure)

    def hand_over(self, run: StepRun) -> None:
        """Give a step what is known of its file, if that was under way already when a session ended."""
        journal = self._journals.pop(_destination_of(run.step), None) if self._journals else None
        if journal is not None:
            run.journal = journal

    def _execute(self, row: _Row, *, each_needs_the_last: bool) -> BaseException | None:
        """Why it broke off, if that is no matter of a single copy."""
        from runner.execution.modes import run_modes_together
        from runner.remote_files import RemoteFiles

        steps = [(run.step, run.describe_attempt()) for run in row.runs]

        def work(remote: RemoteFiles) -> None:
            run_modes_together(steps, remote, row.tell, each_needs_the_last=each_needs_the_last)

        try:
            row.begin(row.copies[0])
            self._sessions.use(row.first, work)
        except (Exception, Interrupted) as error:
            return error
        return None


class _Row:
    """Copies under way together, and how many of them are done and reported."""

    def __init__(self, copies: list[Prepared], runs: list[StepRun], begin: OnBegin, conclude: OnConclude) -> None:
        self.copies = copies
        self.runs = runs
        self.begin = begin
        self._conclude = conclude
        self.done_count = 0
        # How long the next one may take.
        self.limit: Limit | None = None
        self.has_taken_too_long = False
        if self.first.timeout_seconds is not None:
            for run in runs:
                # Which of them has taken too long comes out when each is tried by itself, so it counts as tried already.
                run.journal = run.journal or Journal(run.left)
        # From the first failure on: what it is followed by, a retry for one, needs the session that the batch has.
        self._later: list[Output | StepError] = []

    @property
    def first(self) -> Step:
        return self.runs[0].step

    @property
    def next_run(self) -> StepRun:
        """The first that is not done, or the last one."""
        return self.runs[min(self.done_count, len(self.runs) - 1)]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.done_count == len(self.runs)

    def take_too_long(self) -> StepError:
        """The time of the next one is over."""
        self.has_taken_too_long = True
        return time_is_up(self.next_run.step)

    def tell(self, position: int, ending: Output | StepError) -> None:
        """What has come of the next one."""
        if self._later or isinstance(ending, StepError):
            self._later.append(ending)
            return
        self.end_next(ending)
        seconds = self.first.timeout_seconds
        if self.limit is not None and seconds is not None:
            self.limit.begin_again(seconds)

    def catch_up(self) -> None:
        """The batch is over: report what had to wait for that."""
        for ending in self._later:
            self.end_next(ending)

    def end_next(self, ending: Output | BaseException | None) -> None:
        """Report the next one, whose attempt came to this; None if none was made yet."""
        position, run = self.done_count, self.next_run
        if position:
            self.begin(self.copies[position])
        result = run.run() if ending is None else run.run_on(ending)
        self._conclude(self.copies[position], result)
        self.done_count += 1
        if not self.is_done:
            # What was done for it before is part of those ahead of it.
            self.next_run.begin_clock()


def _gather_left(runs: list[StepRun]) -> LeftBehind:
    left = LeftBehind()
    for run in runs:
        left.add_all(run.left)
    return left


def _may_join(one: Prepared) -> bool:
    """Whether a step does nothing but to copy a file."""
    step, options, keywords = one.bound.step, one.options, one.turn.template.keywords
    if not isinstance(step, Step) or step.connector_type != "SFTP" or not isinstance(step.mode, CopyFile):
        return False
    if keywords.until or keywords.failed_when:
        return False
    if options.is_check or options.tells_changes:
        return False
    from runner.transfer.together import may_join

    return may_join(step.mode)


def _belong_together(first: Prepared, second: Prepared) -> bool:
    """Whether two steps may share a batch."""
    from runner.transfer.together import belong_together

    one, other = first.bound.step, second.bound.step
    assert isinstance(one, Step) and isinstance(other, Step)
    return (
        belong_together(_copy_of(first), _copy_of(second))
        and (one.endpoint is other.endpoint or one.endpoint == other.endpoint)
        and key_of(one) == key_of(other)
        and one.timeout_seconds == other.timeout_seconds
        and first.options == second.options
    )


def _copy_of(one: Prepared) -> CopyFile:
    step = one.bound.step
    assert isinstance(step, Step) and isinstance(step.mode, CopyFile)
    return step.mode


def _destination_of(step: Step) -> tuple[Endpoint, str]:
    return step.endpoint, step.mode.destination if isinstance(step.mode, CopyFile) else ""
