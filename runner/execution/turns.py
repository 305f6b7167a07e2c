"""Answers the interpreter while a play runs: carries out a step, judges what came of it, and reports it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from runner.errors import ConditionFailed, InternalError, Interrupted, InvalidInput, StepError
from runner.events import (
    Event,
    FailuresRescued,
    ItemsSkipped,
    Observer,
    StepCrashed,
    StepFinished,
    StepRetried,
    StepStarted,
)
from runner.execution.row import Decided, Prepared, Rows
from runner.execution.step_run import Clock, PlayContext, StepRun, describe_failure, sleep
from runner.foretold import NOT_CARRIED_OUT, READING_MODES
from runner.interpreter import Interpreter, Misread, NodeOver, Omission, Pause, Reply, Request, Rescued, Together, Turn
from runner.plan import NO_HOST, ControlStep, Endpoint, PlayOptions, Step
from runner.problems import Location
from runner.program import Bound, Confirm, Data, Language, Names, Play, StepOptions, StepTemplate, steps_of
from runner.results import SkippedItems, StepFailure, StepResult, StepResults

INTERRUPTED = "the play was interrupted"
HIDDEN = "hidden, since the step says no_log"
# These cannot be excused by a condition.
BEYOND_EXCUSE = frozenset(
    ("HostKeyRefused", "VerificationFailed", "SourceChanged", "InternalError", "Interrupted", "InvalidInput")
)


class Turns:
    """Carries out one play. `results` fills up with what is reported."""

    def __init__(
        self,
        play: Play,
        shared: PlayContext,
        weaknesses: Mapping[Endpoint, Iterable[str]],
        confirm: Confirm | None = None,
    ) -> None:
        """`weaknesses` says what is weak about the connections to each endpoint that have been opened so far.

        `confirm` is asked before each step.
        """
        self._confirm = confirm
        self._play = play
        self._shared = shared
        self._weaknesses = weaknesses
        self._language: Language = play.program.language
        self._known = {step.index: step for step in play.steps}
        self._interpreter = Interpreter(play.program)
        self._rows = Rows(shared.sessions, shared.cancellation, self._make_run)
        self.results = StepResults()
        self.interruption: Interrupted | None = None

    def run(self) -> None:
        """Have every step take its turn. Never raises for what a step does wrong, nor on a signal."""
        course = self._interpreter.run()
        reply: Reply = None
        while True:
            try:
                request = course.send(reply)
            except StopIteration:
                return
            reply = self._answer(request)

    def _answer(self, request: Request) -> Reply:
        match request:
            case Turn():
                return self._end(self._prepare(request))
            case Together(turns, each_needs_the_last):
                return self._take_together(turns, each_needs_the_last=each_needs_the_last)
            case Misread(template, error):
                end = self._skip_unknown if self._is_beyond_check(error) else self._fail
                return self._report(end(template, None, error), StepOptions())
            case Pause(seconds):
                self._wait(seconds)
            case Rescued(results):
                self._rescue(results)
            case NodeOver(node):
                over = {template.index for template in steps_of([node])}
                for step in self._play.calls:
                    if step.index in over:
                        self._shared.sessions.finish(step)
        return None

    # One turn.

    def _prepare(self, turn: Turn | Omission) -> Prepared | Decided:
        """The step with everything filled in, or what is to be reported of one that is not carried out."""
        if isinstance(turn, Omission):
            return Decided(self._skip_items(turn))
        template, names = turn.template, turn.names
        if turn.error is not None:
            return Decided(self._fail(template, turn.label, turn.error))
        if turn.skip:
            return Decided(self._skip(template, turn.label, turn.skip))
        clock = Clock.start()
        try:
            verdict = self._language.judge(template.keywords.when, template, names)
            if verdict.failed is not None:
                said = self._language.describe(verdict.failed, template, names)
                return Decided(self._skip(template, turn.label, f"when: {said}"))
            bound = self._language.bind(template, names)
            assert bound is not None, "what cannot be bound is raised while the play runs"
        except InvalidInput as error:
            if self._is_beyond_check(error):
                return Decided(self._skip_unknown(template, turn.label, error))
            return Decided(self._fail(template, turn.label, error))
        reason = self._interpreter.why_not_on(bound.step.host_label)
        if not reason and self._confirm is not None and not self._confirm(bound.step, turn.label):
            reason = "it was not confirmed"
        if reason:
            return Decided(self._skip(template, turn.label, reason))
        return Prepared(turn, bound, clock, self._options_of(bound.options))

    def _end(self, prepared: Prepared | Decided) -> StepResult | SkippedItems:
        """Carry out the step, and report what has come of it."""
        if isinstance(prepared, Decided):
            return self._report_decided(prepared.result)
        self._shared.observer(StepStarted(prepared.bound.step))
        return self._conclude(prepared, self._execute(prepared))

    def _conclude(self, prepared: Prepared, result: StepResult) -> StepResult:
        """Judge what has come of a step, and report it."""
        turn, bound = prepared.turn, prepared.bound
        result = self._judge(result, bound, turn.template, turn.names)._replace(item=turn.label)
        return self._report(result, bound.options)

    def _execute(self, prepared: Prepared) -> StepResult:
        turn, bound, clock, options = prepared
        template, names = turn.template, turn.names
        if isinstance(bound.step, ControlStep):
            return self._control(bound, template, names, clock, is_check=options.is_check)
        return self._take_run(bound.step, self._make_run(prepared).run())

    def _make_run(self, prepared: Prepared) -> StepRun:
        turn, bound, _, options = prepared
        assert isinstance(bound.step, Step)
        template = turn.template
        until = template.keywords.until

        def find_lacking(result: StepResult) -> str:
            known = self._know(result, template, turn.names)
            try:
                verdict = self._language.judge(until, template, known)
            except InvalidInput as error:
                if self._is_beyond_check(error):
                    return ""
                raise
            return self._language.describe(verdict.failed, template, known) if verdict.failed is not None else ""

        shared = self._shared._replace(options=options)
        if bound.options.hides_output:
            shared = shared._replace(observer=_hiding(shared.observer))
        run = StepRun(bound.step, shared, find_lacking if until else None)
        self._rows.hand_over(run)
        return run

    def _take_run(self, step: Step, ending: tuple[StepResult, Interrupted | None]) -> StepResult:
        """What has come of a step's attempts."""
        result, interruption = ending
        if interruption is not None:
            self._interrupt(interruption)
        return result._replace(warnings=tuple(self._weaknesses.get(step.endpoint, ())))

    # Several turns.

    def _take_together(
        self, turns: Iterator[Turn | Omission], *, each_needs_the_last: bool
    ) -> list[StepResult | SkippedItems | None]:
        """Take the first turn, and as many behind it as may be under way with it."""
        first = self._prepare(next(turns))
        if self._confirm is not None:
            return [self._end(first)]
        row = self._rows.gather(first, map(self._prepare, turns))
        copies = [one for one in row if isinstance(one, Prepared)]
        if len(copies) < 2:
            return [self._end(first)]
        results: list[StepResult | SkippedItems | None] = []

        def catch_up(one: Prepared) -> None:
            """Report what was decided without being carried out, up to a step that was."""
            while (skipped := row[len(results)]) is not one:
                results.append(self._end(skipped))

        def begin(one: Prepared) -> None:
            catch_up(one)
            self._shared.observer(StepStarted(one.bound.step))

        def conclude(one: Prepared, ending: tuple[StepResult, Interrupted | None]) -> None:
            assert isinstance(one.bound.step, Step)
            results.append(self._conclude(one, self._take_run(one.bound.step, ending)))

        self._rows.take(copies, begin, conclude, each_needs_the_last=each_needs_the_last)
        while len(results) < len(row) and isinstance(skipped := row[len(results)], Decided):
            results.append(self._end(skipped))
        return results

    def _control(
        self, bound: Bound, template: StepTemplate, names: Names, clock: Clock, *, is_check: bool
    ) -> StepResult:
        # Few playbooks have one.
        from runner.execution.control import run_control

        step = bound.step
        try:
            output = run_control(bound, template, names, self._language, self._shared.cancellation, is_check=is_check)
        except StepError as error:
            failure = describe_failure(error)
        except Interrupted as signalled:
            self._interrupt(signalled)
            failure = StepFailure("Interrupted", str(signalled), "Play again to finish.", signalled.exit_code)
        except Exception as error:
            # Nobody has foreseen it. What else the play does, and what it reports, must not be lost for that.
            self._shared.observer(StepCrashed(step, error))
            failure = describe_failure(InternalError(error))
        else:
            return StepResult(step, "ok", clock.started_at, clock.elapsed_seconds, output.message, output=output)
        return StepResult(step, "failed", clock.started_at, clock.elapsed_seconds, failure.message, failure=failure)

    def _options_of(self, options: StepOptions) -> PlayOptions:
        """The play's options, as far as the step does not say otherwise."""
        given = self._shared.options
        # Without --check nothing makes a step change less than it says, but itself.
        is_check = given.is_check if options.is_check is None else options.is_check
        is_diff = given.is_diff and options.is_diff is not False
        shows = given.tells_changes and not options.hides_output
        return replace(given, is_check=is_check, is_diff=is_diff and shows, tells_changes=shows)

    # What came of it.

    def _judge(self, result: StepResult, bound: Bound, template: StepTemplate, names: Names) -> StepResult:
        """The result as the step's own conditions have it."""
        keywords, options = template.keywords, bound.options
        try:
            if keywords.failed_when and self._may_excuse(result):
                result = self._apply_failed_when(result, template, names)
            if keywords.changed_when and result.failure is None and result.status in ("ok", "changed"):
                verdict = self._language.judge(keywords.changed_when, template, self._know(result, template, names))
                result = result._replace(status="changed" if verdict.failed is None else "ok")
        except InvalidInput as error:
            if result.failure is None and not self._is_beyond_check(error):
                result = _fail_with(result, error)
        ignores = options.ignores_unreachable if result.status == "unreachable" else options.ignores_errors
        is_ignored = (
            result.failure is not None and ignores and result.failure.type not in ("InternalError", "Interrupted")
        )
        return result._replace(is_ignored=is_ignored)

    def _is_beyond_check(self, error: StepError) -> bool:
        """Whether a value is only not there because --check does not carry out what would give it."""
        return self._shared.options.is_check and NOT_CARRIED_OUT in error.message

    def _may_excuse(self, result: StepResult) -> bool:
        failure = result.failure
        return failure is None or (result.status != "unreachable" and failure.type not in BEYOND_EXCUSE)

    def _apply_failed_when(self, result: StepResult, template: StepTemplate, names: Names) -> StepResult:
        known = self._know(result, template, names)
        verdict = self._language.judge(template.keywords.failed_when, template, known)
        if verdict.failed is None:
            if result.failure is not None:
                return result
            said = "; ".join(
                self._language.describe(condition, template, known) for condition in template.keywords.failed_when
            )
            return _fail_with(result, ConditionFailed(f"failed_when: {said}"))
        if result.failure is None:
            return result
        return result._replace(status="ok", failure=None)

    def _know(self, result: StepResult, template: StepTemplate, names: Names) -> Names:
        """The names that the conditions behind a step see: its own result as well."""
        value = self._language.result_of(result)
        place: Location = template.location
        known = {**names, "result": (Data(self._language.part_of(value, "result")), place)}
        if template.keywords.register is not None:
            known[template.keywords.register] = (Data(value), place)
        return known

    # Reporting.

    def _report(self, result: StepResult, options: StepOptions) -> StepResult:
        """Tell what came of a turn; what the play goes on with is told as it is."""
        shown = _hide(result) if options.hides_output else result
        self.results.add(shown)
        self._shared.observer(StepFinished(shown))
        return result

    def _report_decided(self, result: StepResult | SkippedItems) -> StepResult | SkippedItems:
        """Tell of what is not carried out."""
        if isinstance(result, StepResult):
            return self._report(result, StepOptions())
        self.results.add(result)
        self._shared.observer(ItemsSkipped(result))
        return result

    def _skip(self, template: StepTemplate, label: str | None, reason: str) -> StepResult:
        now = datetime.now(UTC)
        return StepResult(self._head(template), "skipped", now, 0.0, reason, attempts=0, item=label)

    def _skip_unknown(self, template: StepTemplate, label: str | None, error: StepError) -> StepResult:
        """With --check: what is reported of a step that needs what only the play will show. What it does is unknown too."""
        from runner.operation_results import Unknown

        head, foretold = self._head(template), self._shared.memory.foretold
        if foretold is not None and template.kind == "mode" and head.kind not in READING_MODES:
            foretold.pathless_step = f"step {template.index}"
        return self._skip(template, label, error.message)._replace(output=Unknown(message=error.message))

    def _skip_items(self, omission: Omission) -> SkippedItems:
        """What came of items that are left out. What is said of each is made when somebody asks for it."""
        template, size, names_of = omission
        when, head, now = template.keywords.when, self._head(template), datetime.now(UTC)

        def make(offset: int) -> StepResult:
            names = names_of(offset)
            failed = self._language.judge(when, template, names).failed
            said = self._language.describe(failed or when[0], template, names)
            label = self._language.label(template, names)
            return StepResult(head, "skipped", now, 0.0, f"when: {said}", attempts=0, item=label)

        return SkippedItems(head, size, make)

    def _fail(self, template: StepTemplate, label: str | None, error: StepError) -> StepResult:
        failure = describe_failure(error)
        step, now = self._head(template), datetime.now(UTC)
        return StepResult(step, "failed", now, 0.0, error.message, attempts=0, failure=failure, item=label)

    def _head(self, template: StepTemplate) -> Step | ControlStep:
        """The step as far as it is known, for one that is not carried out."""
        known = self._known.get(template.index)
        if known is not None:
            return known
        label = template.connection or NO_HOST
        return ControlStep(template.index, template.name or template.kind, label, template.kind, template.location)

    def _rescue(self, results: tuple[StepResult, ...]) -> None:
        failed = {(one.step.index, one.item, one.started_at) for one in results}
        for position, one in enumerate(self.results.parts):
            if isinstance(one, StepResult) and (one.step.index, one.item, one.started_at) in failed:
                self.results.parts[position] = one._replace(is_rescued=True)
        self._shared.observer(FailuresRescued(results))

    # Signals.

    def _wait(self, seconds: float) -> None:
        try:
            sleep(seconds, self._shared.cancellation)
        except Interrupted as signalled:
            self._interrupt(signalled)

    def _interrupt(self, signalled: Interrupted) -> None:
        self.interruption = signalled
        self._interpreter.give_up(NO_HOST, INTERRUPTED)


def _hiding(observer: Observer) -> Observer:
    """Tells what happens, and not what is said about it."""

    def tell(event: Event) -> None:
        observer(event._replace(message=HIDDEN) if isinstance(event, StepRetried) else event)

    return tell


def _fail_with(result: StepResult, error: StepError) -> StepResult:
    return result._replace(status="failed", message=error.message, failure=describe_failure(error))


def _hide(result: StepResult) -> StepResult:
    """A result of which nothing but its status is told."""
    failure = result.failure
    return result._replace(
        message=HIDDEN,
        output=None,
        changes=None,
        item=None if result.item is None else "…",
        failure=None if failure is None else failure._replace(message=HIDDEN, hint="", problems=()),
    )
