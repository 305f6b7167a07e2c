"""What is written in a playbook: steps and blocks of steps, with what only the play will know still open. Values only.

`playbook/outline.py` makes it of text, `execution/interpreter.py` says what comes next in it, and a `Language` fills in what
the play has found out by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, NamedTuple, Protocol

from runner.plan import ControlStep, Step
from runner.problems import Location
from runner.results import SkippedItems, StepResult
from runner.values import dataclass

Kind = Literal["mode", "assert", "set_fact", "debug", "fail", "pause"]

# A value and where it stands, by name.
Names = Mapping[str, tuple[Any, Location]]


class Written(NamedTuple):
    """A value as it stands in a playbook, templates and expressions as they are."""

    value: Any
    location: Location


class Data(NamedTuple):
    """A value that came up while the play ran. It is data: whatever it looks like, no template in it is filled in."""

    value: Any


class LoopControl(NamedTuple):
    """How a loop names its items, and how long it waits between them."""

    loop_var: str = "item"
    index_var: str | None = None
    label: Written | None = None
    pause: Written | None = None
    extended: bool = False


USUAL_CONTROL = LoopControl()


class Keywords(NamedTuple):
    """What stands beside what a step or a block does. Conditions are lists: all of one must hold."""

    when: tuple[Written, ...] = ()
    loop: Written | None = None
    loop_control: LoopControl = USUAL_CONTROL
    register: str | None = None
    failed_when: tuple[Written, ...] = ()
    changed_when: tuple[Written, ...] = ()
    until: tuple[Written, ...] = ()
    tags: frozenset[str] = frozenset()


NO_KEYWORDS = Keywords()


@dataclass(frozen=True, slots=True)
class StepTemplate:
    """One step as it is written. `origins` are the mappings that it takes its keys from: its blocks', then its own.

    `index` counts the steps of a playbook in the order in which they stand, those in blocks included. `connection` is the
    name of its saved connector, or empty.
    """

    index: int
    kind: Kind
    location: Location
    origins: tuple[Any, ...]
    keywords: Keywords = NO_KEYWORDS
    connection: str = ""
    name: str = ""

    @property
    def item(self) -> Any:
        """The step's own mapping."""
        return self.origins[-1]


class Block(NamedTuple):
    """Steps in order, what is done if one of them fails, and what is done in any case.

    Of its keywords only `loop` and its control count here: everything else has been handed on to its steps. `origins` are
    the mappings that its own loop may take names from.
    """

    location: Location
    origins: tuple[Any, ...]
    keywords: Keywords
    steps: tuple[Node, ...]
    rescue: tuple[Node, ...] = ()
    always: tuple[Node, ...] = ()
    connection: str = ""


Node = StepTemplate | Block


class StepOptions(NamedTuple):
    """What a step says about how its result counts and what is shown of it. None: as the command line has it."""

    ignores_errors: bool = False
    ignores_unreachable: bool = False
    hides_output: bool = False
    is_check: bool | None = None
    is_diff: bool | None = None


USUAL_OPTIONS = StepOptions()


class Bound(NamedTuple):
    """A step whose turn has come, everything in it filled in. `arguments` are those of a step that is no connector call.

    Before the play something may be open: then it `is_final` only when its turn has come.
    """

    step: Step | ControlStep
    options: StepOptions = USUAL_OPTIONS
    arguments: Any = None
    is_final: bool = True


class Verdict(NamedTuple):
    """Whether conditions hold; None if only the play will know. `failed` is the first that does not."""

    holds: bool | None
    failed: Written | None = None


# What came of a step, None if that is unknown; or of items of its loop, from the one at a position on.
Done = tuple[StepResult | SkippedItems | None, int]
# How many items of a loop are left out from a position on, one behind the other.
LeftOut = Callable[[int], int]

# Whether a step, with what is shown of its item, is to be carried out.
Confirm = Callable[[Step | ControlStep, str | None], bool]


class Language(Protocol):
    """Fills in what is written. `names` are those that the play has come to know: of loops, results and facts.

    What means nothing raises a `StepError` while the play runs. Before that it is noted, and `None` is the answer.
    """

    def host_of(self, node: Node) -> str:
        """What the values of a node are kept under, and its failures: its connection's name, else its address."""
        ...

    def items(self, node: Node, names: Names) -> Sequence[Any] | None:
        """What the node's loop goes over; None if only the play will know."""
        ...

    def label(self, node: Node, names: Names) -> str:
        """What is shown of an item."""
        ...

    def pause(self, node: Node, names: Names) -> float:
        """How many seconds to wait between two items."""
        ...

    def find_left_out(self, template: StepTemplate, names: Names, items: Sequence[Any]) -> LeftOut:
        """Says which items the step's `when` is certain to leave out. `names` are those that the first one sees."""
        ...

    def judge(self, conditions: Sequence[Written], template: StepTemplate, names: Names) -> Verdict:
        """Whether all conditions hold."""
        ...

    def describe(self, condition: Written, template: StepTemplate, names: Names) -> str:
        """The condition and the values that its names have."""
        ...

    def bind(self, template: StepTemplate, names: Names) -> Bound | None:
        """The step with everything filled in."""
        ...

    def is_settled(self, template: StepTemplate) -> bool:
        """Whether a step surely has its turn, and nothing that it says depends on what comes of others."""
        ...

    def conditions_of(self, template: StepTemplate) -> tuple[Written, ...]:
        """The conditions of an `assert`."""
        ...

    def result_of(self, result: StepResult) -> Any:
        """The value of one result, as `register` keeps it."""
        ...

    def part_of(self, value: Any, key: str) -> Any:
        """A part of such a value; one that it lacks says why when it is used."""
        ...

    def value_of(self, template: StepTemplate, done: Sequence[Done], items: Sequence[Any]) -> Any:
        """What `register` keeps of a step: of what came of it, with each of the `items` if it has a loop."""
        ...

    def facts_of(self, template: StepTemplate, done: Sequence[Done]) -> Mapping[str, Any]:
        """The variables that a step has set, by their names."""
        ...

    def failure_of(self, result: StepResult | None) -> Any:
        """What `rescue` and `always` know of the step that failed."""
        ...

    def later(self, reason: str) -> Any:
        """What stands for a value that only the play will know."""
        ...


def steps_of(nodes: Sequence[Node]) -> list[StepTemplate]:
    """All steps, those in blocks included, in the order in which they stand."""
    found: list[StepTemplate] = []
    for node in nodes:
        if isinstance(node, Block):
            for part in (node.steps, node.rescue, node.always):
                found += steps_of(part)
        else:
            found.append(node)
    return found


def select_nodes(nodes: Sequence[Node], is_chosen: Callable[[StepTemplate], bool]) -> tuple[Node, ...]:
    """The steps that are chosen, in the blocks where they stand; a block without any is left out."""
    return tuple(_select(nodes, is_chosen))


def _select(nodes: Sequence[Node], is_chosen: Callable[[StepTemplate], bool]) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, StepTemplate):
            if is_chosen(node):
                yield node
            continue
        parts = [select_nodes(part, is_chosen) for part in (node.steps, node.rescue, node.always)]
        if any(parts):
            yield node._replace(steps=parts[0], rescue=parts[1], always=parts[2])


class Program(NamedTuple):
    """All that a playbook says to do, and what fills it in."""

    nodes: tuple[Node, ...]
    language: Language


@dataclass(frozen=True, slots=True)
class Play:
    """A whole playbook, valid, in the order of execution.

    `steps` are all that may be carried out, each with what is known of it before; one that loops over several servers is
    there for each of them. `program` says when each step has its turn. `files` are the local files that were read to
    load it.
    """

    file: str
    name: str
    workdir: str
    steps: tuple[Step | ControlStep, ...]
    program: Program = field(compare=False, repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    files: frozenset[str] = frozenset()

    @property
    def calls(self) -> tuple[Step, ...]:
        """The steps that contact a host."""
        return tuple(step for step in self.steps if isinstance(step, Step))
