"""What the interpreter asks of a playbook: conditions, loops, and steps whose turn has come; before the play and in it.

`PlaybookLanguage.explore` goes through the program before anything is contacted. What will come of a step is unknown then,
so every branch is visited once, with values that stand for what only the play will know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from runner.errors import InvalidInput
from runner.interpreter import Interpreter, Reply, Together, Turn
from runner.plan import NO_HOST, ControlStep, CopyDirectoryToEngine, CopyFileToEngine, Step
from runner.playbook.binding import Binder
from runner.playbook.document import Awaited, Expected, PositionedList, PositionedMap, Unfilled, describe_type
from runner.playbook.endpoints import Notes
from runner.playbook.lazy_lists import LISTS
from runner.playbook.provenance import plain
from runner.playbook.registered import (
    FAILED_STEP_SHAPE,
    Result,
    Shape,
    describe_failed_step,
    describe_loop,
    describe_result,
    shape_of,
)
from runner.playbook.rendering import Rendering
from runner.playbook.secrets import redact_problems
from runner.playbook.validation import hint_for_old_boolean, is_template, show
from runner.problems import MAX_PROBLEMS, Location, Problem, collect_problems
from runner.program import Block, Bound, Data, Done, LeftOut, Names, Node, Program, StepTemplate, Verdict, Written
from runner.received_files import ReceivedFiles
from runner.redaction import Redactor
from runner.results import StepResult

MAX_LABEL_CHARACTERS = 80
# So many items of a loop that was bound before the play are not bound in it once more.
MAX_KEPT = 10_000
MAX_ITEMS = 200_000
MAX_LOOP_PAUSE_SECONDS = 86_400


class PlaybookLanguage:
    """The `Language` of one playbook; see `runner.program`."""

    def __init__(
        self,
        binder: Binder,
        rendering: Rendering,
        notes: Notes,
        redactor: Redactor,
        received: ReceivedFiles | None = None,
    ) -> None:
        """`received` is told of the files that come from servers."""
        self._received = received or ReceivedFiles()
        self._binder = binder
        self._rendering = rendering
        self._notes = notes
        self._redactor = redactor
        self._is_playing = False
        # The steps in which nothing was left open, by their numbers, and those whose conditions surely hold.
        self._fixed: dict[int, Bound] = {}
        self._certain: set[int] = set()
        self._hosts: dict[int, str] = {}
        # The steps whose names were looked at because they will not be carried out.
        self._looked_at: set[int] = set()
        # What each step sees of what only the play will know, the last time it was visited.
        self._names: dict[int, Names] = {}
        # How often a step was bound while exploring: in a loop, more than once.
        self._bound_counts: dict[int, int] = {}
        # What it was bound to, in this order, each with the loops' items that it sees: it need not be bound again.
        self._kept: dict[int, deque[tuple[Names, Bound]]] = {}

    # Before the play.

    def explore(self, nodes: tuple[Node, ...]) -> list[Step | ControlStep]:
        """Visit every step; what is wrong is noted. Each step as far as it is known, in loops one for each server."""
        course = Interpreter(Program(nodes, self), explores=True).run()
        found: dict[tuple[int, Any], Step | ControlStep] = {}
        reply: Reply = None
        while True:
            try:
                request = course.send(reply)
            except StopIteration:
                break
            turn = next(request.turns) if isinstance(request, Together) else request
            if isinstance(turn, Turn):
                bound = self._explore_turn(turn)
                if bound is not None:
                    found.setdefault((bound.index, bound.endpoint), bound)
            # What will come of it is unknown.
            reply = [None] if isinstance(request, Together) else None
            if len(self._notes.problems) > MAX_PROBLEMS:
                # A mistake in what the steps share is found again in each of them.
                self._notes.problems[:] = dict.fromkeys(self._notes.problems)
                if len(self._notes.problems) > MAX_PROBLEMS:
                    break
        self._is_playing = True
        return list(found.values())

    def _explore_turn(self, turn: Turn) -> Step | ControlStep | None:
        template = turn.template
        names = self._names[template.index] = turn.names
        verdict = self.judge(template.keywords.when, template, names)
        if verdict.holds is False:
            # Nothing of it is needed, secrets among them: only its names are looked at.
            if template.index not in self._looked_at:
                self._looked_at.add(template.index)
                self._binder.look_at_names(template, names)
            label = template.connection or NO_HOST
            shown = template.name or _what(template)
            return ControlStep(template.index, shown, label, _what(template), template.location)
        if verdict.holds:
            self._certain.add(template.index)
        bound = self._binder.bind(template, names)
        self._check_later_conditions(template, names)
        if bound is None:
            return None
        self._note_bound(template, bound, names)
        return bound.step

    def _note_bound(self, template: StepTemplate, bound: Bound, names: Names) -> None:
        count = self._bound_counts[template.index] = self._bound_counts.get(template.index, 0) + 1
        self._hosts.setdefault(template.index, bound.step.host_label)
        if count == 1 and template.kind == "mode" and template.keywords.loop is None and bound.is_final:
            self._fixed[template.index] = bound
            return
        self._fixed.pop(template.index, None)
        if template.kind == "mode" and bound.is_final and count <= MAX_KEPT:
            known = {name: value for name, value in names.items() if isinstance(value[0], Data)}
            self._kept.setdefault(template.index, deque()).append((known, bound))

    def _check_later_conditions(self, template: StepTemplate, names: Names) -> None:
        """`failed_when` and its like, as far as they can be looked at without a result."""
        keywords = template.keywords
        shape = _find_shape(template, is_loop=False)
        reason = f"the result of step {template.index}"
        inner = None if shape is None else shape["result"]
        known = {**names, "result": (Expected("", reason, inner), template.location)}
        if keywords.register is not None:
            known[keywords.register] = (Expected("", reason, shape), template.location)
        for conditions in (keywords.failed_when, keywords.changed_when, keywords.until):
            self.judge(conditions, template, known)
        if template.kind == "assert":
            self.judge(conditions_of(template), template, names)

    def names_of(self, template: StepTemplate) -> Names:
        """The names of loops, results and facts that a step sees, as they stood when it was visited."""
        return self._names.get(template.index, {})

    # Hosts, loops, conditions, steps.

    def host_of(self, node: Node) -> str:
        """What the values of a node are kept under: its connection's name, else its address."""
        if isinstance(node, Block) or node.connection:
            return node.connection
        return self._hosts.get(node.index, "")

    def items(self, node: Node, names: Names) -> Sequence[Any] | None:
        """What the loop goes over. Raises `InvalidInput` while the play runs."""
        loop = node.keywords.loop
        assert loop is not None
        with self._collecting():
            is_text = isinstance(loop.value, str) and not isinstance(loop.value, Unfilled)
            if is_text and not is_template(loop.value):
                self._refuse_text(loop)
                return None
            if isinstance(loop.value, PositionedMap):
                # The schema has told.
                return None
            found = self._rendering.raw(loop.value, loop.location, self._scope(node, names))
            if isinstance(found, Unfilled):
                return None
            if not isinstance(found, LISTS):
                self._refuse_loop(loop, found)
                return None
            if len(found) > MAX_ITEMS:
                self._note(loop.location, f"the loop has {len(found):,} items, and {MAX_ITEMS:,} are the most")
                return None
            return found

    def label(self, node: Node, names: Names) -> str:
        """What is shown of an item: what `label` says, else the item itself, shortened."""
        control = node.keywords.loop_control
        if control.label is not None:
            with self._collecting():
                value = self._rendering.value(control.label.value, control.label.location, self._scope(node, names))
                return "…" if isinstance(value, Unfilled) else _shorten(_show_item(plain(value)))
        item = names[control.loop_var][0]
        return _shorten(_show_item(item.value)) if isinstance(item, Data) else "…"

    def pause(self, node: Node, names: Names) -> float:
        """How many seconds to wait between two items. Raises `InvalidInput` while the play runs."""
        written = node.keywords.loop_control.pause
        if written is None:
            return 0.0
        with self._collecting():
            value = self._rendering.value(written.value, written.location, self._scope(node, names))
            if isinstance(value, Unfilled):
                return 0.0
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_LOOP_PAUSE_SECONDS:
                return float(value)
            wanted = f"a number of seconds from 0 to {MAX_LOOP_PAUSE_SECONDS:,}"
            self._note(written.location, f"'pause' must be {wanted}, not {show(value)}")
        return 0.0

    def find_left_out(self, template: StepTemplate, names: Names, items: Sequence[Any]) -> LeftOut:
        """Says which items the step's `when` is certain to leave out, judging many at once where that can be done."""
        # Loaded by a loop with a condition.
        from runner.playbook.item_conditions import NOTHING_LEFT_OUT, ItemsLeftOut

        control, scope = template.keywords.loop_control, self._scope(template, names)
        conditions = [condition.value for condition in template.keywords.when]
        texts = [text for text in conditions if isinstance(text, str) and not isinstance(text, Unfilled)]
        # What differs from item to item besides the item, and what wins over it.
        is_hidden = scope[control.loop_var][0] is not names[control.loop_var][0]
        varies = control.index_var is not None or control.extended or control.label is not None
        judge = None
        if len(texts) == len(conditions) and not is_hidden and not varies:
            judge = self._rendering.judge_of_items(texts, control.loop_var, scope)
        return NOTHING_LEFT_OUT if judge is None else ItemsLeftOut(items, judge).count_from

    def judge(self, conditions: Sequence[Written], template: StepTemplate, names: Names) -> Verdict:
        """Whether all conditions hold. Raises `InvalidInput` while the play runs."""
        if not conditions:
            return Verdict(holds=True)
        is_certain = True
        scope: Names | None = None
        with self._collecting():
            for condition in conditions:
                if isinstance(condition.value, bool):
                    holds: bool | None = condition.value
                else:
                    scope = self._scope(template, names) if scope is None else scope
                    holds = self._decide(condition, scope)
                if holds is False:
                    return Verdict(False, condition)
                is_certain &= holds is True
        return Verdict(True if is_certain else None)

    def _decide(self, condition: Written, scope: Names) -> bool | None:
        text, place = condition.value, condition.location
        if not isinstance(text, str) or isinstance(text, Unfilled):
            # The schema has told what it is, or what was to be there is told.
            return None
        if is_template(text):
            bare = text.strip().removeprefix("{{").removesuffix("}}").strip()
            hint = f"Write {bare}" if "{{" not in bare and "{%" not in bare else "Write the expression alone."
            self._note(place, "a condition is an expression without braces", hint)
            return None
        if text.strip() not in scope and (hint := hint_for_old_boolean(text)):
            self._note(place, f"a condition must be true or false, not {show(text)}", hint)
            return None
        value = self._rendering.expression(text, place, scope)
        if isinstance(value, Unfilled):
            return None
        if isinstance(value, bool):
            return value
        message = f"the condition must be true or false, and is {describe_type(value)}: {show(plain(value))}"
        self._note(place, message, _meant(text, value))
        return None

    def describe(self, condition: Written, template: StepTemplate, names: Names) -> str:
        """`stage == 'live' (stage = 'test')`."""
        if not isinstance(condition.value, str):
            return str(condition.value).lower()
        scope = self._scope(template, names)
        shown = [
            f"{path} = {show(plain(value))}"
            for path in self._rendering.paths_in(condition.value)
            if not isinstance(value := self._rendering.quietly(path, condition.location, scope), Unfilled)
        ]
        text = " ".join(condition.value.split())
        return f"{text} ({', '.join(shown)})" if shown else text

    def bind(self, template: StepTemplate, names: Names) -> Bound | None:
        """The step with everything filled in. Raises `InvalidInput` while the play runs."""
        bound = self._find_bound(template, names)
        if bound is None:
            with self._collecting():
                bound = self._binder.bind(template, names)
        if bound is not None and self._is_playing:
            self._note_received(bound)
        return bound

    def _find_bound(self, template: StepTemplate, names: Names) -> Bound | None:
        """What was bound before the play already."""
        if template.index in self._fixed:
            return self._fixed[template.index]
        kept = self._kept.get(template.index)
        while kept:
            # An item whose condition does not hold is passed over.
            known, bound = kept.popleft()
            if all(names.get(name) == value for name, value in known.items()):
                return bound
        return None

    def _note_received(self, bound: Bound) -> None:
        """From here on what the step may write on this machine is what its server says, also if it fails on the way."""
        step = bound.step
        if isinstance(step, Step) and isinstance(step.mode, CopyFileToEngine | CopyDirectoryToEngine):
            self._received.note(step.mode.destination, step.index, step.name, step.location)

    def is_settled(self, template: StepTemplate) -> bool:
        """Whether a step surely has its turn, and nothing that it says depends on what comes of others."""
        return template.index in self._fixed and template.index in self._certain

    def conditions_of(self, template: StepTemplate) -> tuple[Written, ...]:
        """The conditions of an `assert`."""
        return conditions_of(template)

    # What is kept.

    def result_of(self, result: StepResult) -> Any:
        """The value of one result, as `register` keeps it."""
        return describe_result(result)

    def part_of(self, value: Any, key: str) -> Any:
        """A part of such a value; one that it lacks says why when it is used."""
        return value[key] if key in value else self._rendering.lacking(value, key)

    def value_of(self, template: StepTemplate, done: Sequence[Done], items: Sequence[Any]) -> Any:
        """What `register` keeps of a step."""
        is_loop = template.keywords.loop is not None
        if any(result is None for result, _ in done) or (is_loop and not self._is_playing):
            reason = f"the result of step {template.index}"
            return Expected("", reason, _find_shape(template, is_loop=is_loop))
        if not is_loop:
            result = done[0][0]
            assert isinstance(result, StepResult)
            return Data(describe_result(result))
        return Data(describe_loop([(result, first) for result, first in done if result is not None], items))

    def facts_of(self, template: StepTemplate, done: Sequence[Done]) -> Mapping[str, Any]:
        """The variables that a step has set."""
        if template.kind != "set_fact":
            return {}
        if not self._is_playing:
            written = template.item["set_fact"]
            names = written if isinstance(written, PositionedMap) else ()
            return {name: Expected("", f"what step {template.index} sets as '{name}'") for name in names}
        facts: dict[str, Any] = {}
        for result, _ in done:
            if isinstance(result, StepResult) and result.output is not None and result.output.is_unknown:
                unknown = Result({}, dict.fromkeys(template.item["set_fact"], result.message))
                facts |= {name: Data(self._rendering.lacking(unknown, name)) for name in template.item["set_fact"]}
            elif isinstance(result, StepResult) and result.output is not None:
                facts |= {name: Data(value) for name, value in getattr(result.output, "values", {}).items()}
        return facts

    def failure_of(self, result: StepResult | None) -> Any:
        """What `rescue` and `always` know of the step that failed."""
        if result is None:
            return Expected("", "what fails", FAILED_STEP_SHAPE)
        return Data(describe_failed_step(result))

    def later(self, reason: str) -> Any:
        """What stands for a value that only the play will know."""
        return Awaited("", reason)

    # Problems.

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        """While the play runs, what is noted inside the block is raised at its end as `InvalidInput`."""
        before = len(self._notes.problems)
        yield
        if self._is_playing and len(self._notes.problems) > before:
            found = redact_problems(collect_problems(self._notes.problems[before:]), self._redactor)
            del self._notes.problems[before:]
            raise InvalidInput(found)

    def _note(self, location: Location, message: str, hint: str = "") -> None:
        self._notes.problems.append(Problem(location, self._redactor.redact(message), self._redactor.redact(hint)))

    def _scope(self, node: Node, names: Names) -> Names:
        return self._binder.scope_of(node, names)

    def _refuse_text(self, loop: Written) -> None:
        hint = f'Write "{{{{ {loop.value} }}}}"' if loop.value.strip() else "Give it a list."
        self._note(loop.location, f"'loop' must be a list, not {describe_type(loop.value)}", hint)

    def _refuse_loop(self, loop: Written, found: Any) -> None:
        hint = ""
        if isinstance(found, dict) and isinstance(loop.value, str):
            bare = loop.value.strip().removeprefix("{{").removesuffix("}}").strip()
            hint = f'Write "{{{{ {bare} | dict2items }}}}": each item then has a key and a value.'
        self._note(loop.location, f"'loop' must be a list, not {describe_type(found)}: {show(plain(found))}", hint)


def conditions_of(template: StepTemplate) -> tuple[Written, ...]:
    """The conditions of an `assert`."""
    given = template.item.get("assert")
    if not isinstance(given, PositionedMap) or "that" not in given:
        return ()
    that, place = given["that"], given.value_locations["that"]
    if isinstance(that, PositionedList):
        return tuple(Written(value, where) for value, where in zip(that, that.item_locations, strict=True))
    return (Written(that, place),)


def _what(template: StepTemplate) -> str:
    """What a step does: its mode, or what else it is."""
    if template.kind != "mode":
        return template.kind
    mode = _find_mode(template)
    name = mode.get("mode_name") if isinstance(mode, PositionedMap) else ""
    return name if isinstance(name, str) else ""


def _find_mode(template: StepTemplate) -> Any:
    return next((one["mode"] for one in reversed(template.origins) if "mode" in one), None)


def _find_shape(template: StepTemplate, *, is_loop: bool) -> Shape | None:
    """What the step's registered value has; None if nothing is known of what it does."""
    if template.kind == "mode" and isinstance(_find_mode(template), Unfilled):
        return None
    return shape_of(_what(template), is_loop=is_loop)


def _meant(text: str, value: Any) -> str:
    """What was probably meant by a condition that is no condition."""
    if isinstance(value, list | dict) or (isinstance(value, str) and text.strip().isidentifier()):
        return f"Perhaps {text.strip()} | length > 0."
    if isinstance(value, int | float):
        return f"Perhaps {text.strip()} > 0."
    if isinstance(value, str):
        return f"Perhaps {text.strip()} | bool, if it is text that says true or false."
    return ""


def _show_item(item: Any) -> str:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, dict) and isinstance(item.get("path"), str):
        # An entry of a listing is known by its path.
        return str(item["path"])
    return show(item)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_LABEL_CHARACTERS else f"{line[: MAX_LABEL_CHARACTERS - 1]}…"
