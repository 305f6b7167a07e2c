"""Says which step comes next: order, loops, blocks, and what a failure means for what follows. READ HERE what happens when.

A generator without any I/O: it yields turns and is sent what came of them. Carrying out a play is one way to answer, finding
out before the play whether every step could be carried out is another: then what came of a turn is unknown, every branch
is visited, and values that only the play will know stand for themselves.

What happens to a failed item of a loop in a block with `rescue`: all other items have their turn, then the step has failed;
the rest of the block is skipped, `rescue` has its turn, and if nothing fails in it the failure counts as rescued.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from runner.errors import HostKeyRefused, InternalError, Interrupted, StepError
from runner.plan import NO_HOST
from runner.problems import Location
from runner.program import Block, Data, Done, Language, LeftOut, Names, Node, Program, StepTemplate, steps_of
from runner.results import SkippedItems, StepResult

# No `rescue` can do anything about these.
BEYOND_RESCUE = frozenset(kind.__name__ for kind in (HostKeyRefused, InternalError, Interrupted))


class Turn(NamedTuple):
    """A step is to be carried out, or reported as skipped if `skip` says why, or as failed with the `error`.

    `label` is what is shown of a loop's item.
    """

    template: StepTemplate
    names: Names
    label: str | None = None
    skip: str = ""
    error: StepError | None = None


class Omission(NamedTuple):
    """Items of a loop, one behind the other, that its condition leaves out. `names_of` gives the names that each sees."""

    template: StepTemplate
    size: int
    names_of: Callable[[int], Names]


class Together(NamedTuple):
    """Turns on one host of which none needs what comes of another. The answer are the results of the first of them.

    One of them at least has to be taken. `each_needs_the_last` says that a failure keeps the later ones from having their
    turn, so that nothing of these may be seen then.
    """

    turns: Iterator[Turn | Omission]
    each_needs_the_last: bool


class Pause(NamedTuple):
    """Some seconds are to pass before the next item of a loop."""

    seconds: float


class Misread(NamedTuple):
    """A step's loop goes over nothing that can be gone over: it has failed."""

    template: StepTemplate
    error: StepError


class Rescued(NamedTuple):
    """A failure has been made up for."""

    results: tuple[StepResult, ...]


class NodeOver(NamedTuple):
    """A step or block of the outermost list is done with, and everything in it."""

    node: Node


Request = Turn | Together | Pause | Misread | Rescued | NodeOver
# What came of a turn, or of several; None if that is unknown.
Reply = StepResult | SkippedItems | list[StepResult | SkippedItems | None] | None


class Ending(NamedTuple):
    """How a part of the program ended: with these failures, or `stopped` before its end for another reason."""

    failures: tuple[StepResult, ...] = ()
    stopped: str = ""


DONE = Ending()
Course = Generator[Request, Reply, Ending]


class Values:
    """What the play has come to know: registered results and facts, each host's own."""

    def __init__(self) -> None:
        self._by_host: dict[str, dict[str, tuple[Any, Location]]] = {}
        self._latest: dict[str, tuple[Any, Location]] = {}
        # What everybody sees.
        self._shared: Names = {}
        # What each host sees, until something more is kept.
        self._seen: dict[str, Names] = {}

    def share(self, names: Names) -> None:
        """Everybody sees these, and no others that were shared before."""
        self._shared = names
        self._seen.clear()

    def keep(self, host: str, name: str, value: Any, location: Location) -> None:
        """A name has got a value on a host; empty for the playbook as a whole."""
        self._by_host.setdefault(host, {})[name] = self._latest[name] = (value, location)
        self._seen.clear()

    def seen_from(self, host: str) -> Names:
        """What a step on the host sees: the host's own values, and of names that it has none of the latest one."""
        if host not in self._seen:
            self._seen[host] = {**self._shared, **self._latest, **self._by_host.get(host, {})}
        return self._seen[host]

    def of_hosts(self, hosts: Sequence[str]) -> HostValues:
        """`hostvars`: what each of the hosts, and everybody else who knows something, has come to know when it is asked."""
        for host in hosts:
            self._by_host.setdefault(host, {})
        return HostValues(self._by_host)


class HostValues(Mapping[str, Mapping[str, Any]]):
    """What each host has come to know, by its name: `hostvars`."""

    def __init__(self, by_host: Mapping[str, Mapping[str, tuple[Any, Location]]]) -> None:
        self._by_host = by_host

    def __getitem__(self, host: str) -> Mapping[str, Any]:
        values = ((name, value) for name, (value, _) in self._by_host[host].items())
        return {name: value.value if isinstance(value, Data) else value for name, value in values}

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_host)

    def __len__(self) -> int:
        return len(self._by_host)


class Interpreter:
    """One run through a program. `explores`: what comes of a turn is unknown, and every branch is visited."""

    def __init__(self, program: Program, *, explores: bool = False) -> None:
        self._nodes = program.nodes
        self._language: Language = program.language
        self._explores = explores
        self._values = Values()
        # Why nothing is done on a host any more; under `NO_HOST`, anywhere.
        self._given_up: dict[str, str] = {}
        steps = steps_of(program.nodes)
        # The connections that its steps name, in the order in which they do.
        self._hosts = tuple(dict.fromkeys(step.connection for step in steps if step.connection))
        self._start = steps[0].location if steps else Location("", 1, 1)
        self._tell_of_hosts()

    def give_up(self, host: str, reason: str) -> None:
        """Nothing more is to be done on a host, or with `NO_HOST` on any."""
        self._given_up.setdefault(host, reason)
        self._tell_of_hosts()

    def run(self) -> Course:
        """All turns, in order."""
        position = 0
        while position < len(self._nodes):
            endings = yield from self._go_on(self._nodes, position, {})
            for ending in endings:
                for failure in ending.failures:
                    step = failure.step
                    self.give_up(step.host_label, f"step {step.index} ({step.name}) failed{_where(step.host_label)}")
                yield NodeOver(self._nodes[position])
                position += 1
        return DONE

    def _go_on(self, nodes: Sequence[Node], position: int, names: Names) -> Generator[Request, Reply, list[Ending]]:
        """Go through a node, and through those behind it that may be under way with it: how each of these ended."""
        row = self._find_row(nodes, position)
        if self._explores or len(list(itertools.islice(row, 2))) < 2 or self._why_not(nodes[position]):
            return [(yield from self._go(nodes[position], names))]
        turns = (Turn(template, self._see(template, names)) for template in self._find_row(nodes, position))
        results = yield from self._take(turns, each_needs_the_last=True)
        return [
            self._end_turn(template, result)
            for template, result in zip(self._find_row(nodes, position), results, strict=False)
        ]

    def _find_row(self, nodes: Sequence[Node], position: int) -> Iterator[StepTemplate]:
        """Steps that stand one behind the other, on one host, and of which none waits for what comes of another."""
        language, first = self._language, nodes[position]
        for node in itertools.islice(nodes, position, None):
            if isinstance(node, Block) or not language.is_settled(node):
                return
            if language.host_of(node) != language.host_of(first):
                return
            yield node

    def _go(self, node: Node, names: Names) -> Course:
        return self._go_through(node, names) if isinstance(node, Block) else self._take_turns(node, names)

    # Steps.

    def _take_turns(self, template: StepTemplate, names: Names) -> Course:
        """A step, with each item of its loop if it has one. All items are tried; it has failed if one has."""
        reason = self._why_not(template)
        if reason:
            yield Turn(template, names, skip=reason)
            return Ending(stopped=reason)
        if template.keywords.loop is None:
            return self._end_turn(template, (yield Turn(template, self._see(template, names))))
        items = yield from self._items_of(template, self._see(template, names))
        if isinstance(items, Ending):
            return items
        return (yield from self._take_each(template, names, items))

    def _end_turn(self, template: StepTemplate, result: Reply) -> Ending:
        """A step without a loop has had its turn."""
        assert not isinstance(result, list | SkippedItems)
        self._remember(template, [(result, 0)])
        return self._judge([result])

    def _take_each(self, template: StepTemplate, names: Names, items: Sequence[Any] | None) -> Course:
        done: list[Done] = []
        every: Sequence[Any] = items if items is not None else [None]
        waits = template.keywords.loop_control.pause is not None
        left_out = self._find_left_out(template, names, items)
        position = 0
        while position < len(every):
            reason = self._why_not(template)
            if reason:
                yield Turn(template, names, skip=f"{reason}; {len(every) - position} items are left")
                break
            if position and waits and (failed := (yield from self._pause(template, names))) is not None:
                done.append((failed, position))
                break
            end = position + 1 if waits else len(every)
            turns = self._turns_of(template, names, items, range(position, end), left_out)
            for result in (yield from self._take(turns, each_needs_the_last=False)):
                done.append((result, position))
                position += len(result) if isinstance(result, SkippedItems) else 1
        self._remember(template, done, every)
        return self._judge([result for result, _ in done if not isinstance(result, SkippedItems)])

    def _turns_of(
        self, template: StepTemplate, names: Names, items: Sequence[Any] | None, positions: range, left_out: LeftOut
    ) -> Iterator[Turn | Omission]:
        """The turns of some items of a loop; of those that are left out one behind the other, one for all."""
        position = positions.start
        while position < positions.stop:
            count = left_out(position)
            if count > 1:
                yield self._omit(template, names, items, position, count)
            else:
                yield self._turn_of(template, names, items, position)
            position += max(count, 1)

    def _omit(
        self, template: StepTemplate, names: Names, items: Sequence[Any] | None, first: int, count: int
    ) -> Omission:
        assert items is not None
        # What is known now: a later step may give a name another value.
        known = self._see(template, {})

        def names_of(offset: int) -> Names:
            position = first + offset
            return {**names, **self._name_item(template, items, position, items[position]), **known}

        return Omission(template, count, names_of)

    def _find_left_out(self, template: StepTemplate, names: Names, items: Sequence[Any] | None) -> LeftOut:
        """Says how many items are left out from a position on, one behind the other."""
        has_many = items is not None and len(items) > 1 and template.keywords.when
        if self._explores or not has_many or template.keywords.loop_control.pause is not None:
            return lambda position: 0
        assert items is not None
        seen = self._see(template, {**names, **self._name_item(template, items, 0, items[0])})
        return self._language.find_left_out(template, seen, items)

    def _turn_of(self, template: StepTemplate, names: Names, items: Sequence[Any] | None, position: int) -> Turn:
        """The turn of one item of a loop."""
        item = None if items is None else items[position]
        seen = self._see(template, {**names, **self._name_item(template, items, position, item)})
        try:
            return Turn(template, seen, self._language.label(template, seen))
        except StepError as error:
            return Turn(template, seen, f"item {position + 1}", error=error)

    def _take(
        self, turns: Iterator[Turn | Omission], *, each_needs_the_last: bool
    ) -> Generator[Request, Reply, list[StepResult | SkippedItems | None]]:
        """Have the first of the turns taken, and of those behind it as many as may be under way with it."""
        results = yield Together(turns, each_needs_the_last)
        assert isinstance(results, list)
        return results

    def _judge(self, results: Sequence[StepResult | None]) -> Ending:
        failures = tuple(one for one in results if one is not None and one.failure is not None and not one.is_ignored)
        for one in failures:
            if one.status == "unreachable":
                # What stands in the same block cannot be done there either.
                step = one.step
                self.give_up(step.host_label, f"step {step.index} ({step.name}) failed{_where(step.host_label)}")
        return Ending(failures)

    def _remember(self, template: StepTemplate, done: Sequence[Done], items: Sequence[Any] = (None,)) -> None:
        host = self._language.host_of(template)
        facts = self._language.facts_of(template, done)
        for name, value in facts.items():
            self._values.keep(host, name, value, template.location)
        if template.keywords.register is not None:
            value = self._language.value_of(template, done, items)
            self._values.keep(host, template.keywords.register, value, template.location)

    # Blocks.

    def _go_through(self, block: Block, names: Names) -> Course:
        """A block, with each item of its loop if it has one. The first iteration that fails ends it."""
        if block.keywords.loop is None:
            return (yield from self._go_once(block, names))
        reason = self._why_not(block)
        first = next(iter(steps_of([block])), None)
        if reason or first is None:
            yield from self._skip([block], names, reason)
            return Ending(stopped=reason)
        items = yield from self._items_of(block, self._see(block, names), first)
        if isinstance(items, Ending):
            return items
        for position, item in enumerate(items if items is not None else [None]):
            if position and (failed := (yield from self._pause(block, names, first))) is not None:
                return self._judge([failed])
            inner = {**names, **self._name_item(block, items, position, item)}
            ending = yield from self._go_once(block, inner)
            if ending.failures or ending.stopped:
                return ending
        return DONE

    def _go_once(self, block: Block, names: Names) -> Course:
        ending = yield from self._go_along(block.steps, names)
        known = {**names, **self._name_failure(block, ending)}
        if self._explores or (ending.failures and block.rescue and _can_rescue(ending.failures)):
            rescue = yield from self._go_along(block.rescue, known)
            if not rescue.failures and not rescue.stopped:
                yield Rescued(ending.failures)
                ending = DONE
            elif rescue.failures:
                ending = Ending((*ending.failures, *rescue.failures))
        always = yield from self._go_along(block.always, known)
        return Ending((*ending.failures, *always.failures), ending.stopped or always.stopped)

    def _go_along(self, nodes: Sequence[Node], names: Names) -> Course:
        """Steps of which each is the condition of the next."""
        position = 0
        while position < len(nodes):
            endings = yield from self._go_on(nodes, position, names)
            position += len(endings)
            ending = endings[-1]
            if ending.failures or ending.stopped:
                reason = ending.stopped
                if ending.failures:
                    step = ending.failures[0].step
                    reason = f"step {step.index} ({step.name}) of its block failed"
                yield from self._skip(nodes[position:], names, reason)
                return ending
        return DONE

    def _skip(self, nodes: Sequence[Node], names: Names, reason: str) -> Generator[Request, Reply, None]:
        """Report steps as skipped; what is there for the case that one of them fails is not mentioned."""
        for node in nodes:
            if isinstance(node, Block):
                yield from self._skip((*node.steps, *node.always), names, reason)
            else:
                self._end_turn(node, (yield Turn(node, names, skip=reason)))

    # What names stand for.

    def _see(self, node: Node, names: Names) -> Names:
        """The names that the play gives, for a step: the innermost loop's before what was registered."""
        seen = self._values.seen_from(self._language.host_of(node))
        return {**names, **seen} if names else seen

    def _tell_of_hosts(self) -> None:
        """`hostvars`, and `play_hosts`: the hosts of the play that have not failed."""
        left = [host for host in self._hosts if not self.why_not_on(host)]
        later = self._language.later
        told = (
            (later("what other hosts come to know"), later("which hosts have failed until then"))
            if self._explores
            else (Data(self._values.of_hosts(self._hosts)), Data(left))
        )
        self._values.share({"hostvars": (told[0], self._start), "play_hosts": (told[1], self._start)})

    def _items_of(
        self, node: Node, names: Names, blamed: StepTemplate | None = None
    ) -> Generator[Request, Reply, Sequence[Any] | Ending | None]:
        """What a loop goes over; None if that is unknown. What cannot be gone over is a failure of the step."""
        try:
            items = self._language.items(node, names)
            # What is in an empty loop is looked at, too.
            return None if self._explores and not items else items
        except StepError as error:
            template = blamed if blamed is not None else node
            assert isinstance(template, StepTemplate)
            return self._end_turn(template, (yield Misread(template, error)))

    def _pause(
        self, node: Node, names: Names, blamed: StepTemplate | None = None
    ) -> Generator[Request, Reply, StepResult | None]:
        """Wait between two items. How long that is may mean nothing: a failure of the step."""
        try:
            seconds = self._language.pause(node, self._see(node, names))
        except StepError as error:
            template = blamed if blamed is not None else node
            assert isinstance(template, StepTemplate)
            result = yield Misread(template, error)
            assert isinstance(result, StepResult)
            return result
        if seconds:
            yield Pause(seconds)
        return None

    def _name_item(self, node: Node, items: Sequence[Any] | None, position: int, item: Any) -> Names:
        control, loop = node.keywords.loop_control, node.keywords.loop
        assert loop is not None
        if items is None:
            names = [control.loop_var, *([control.index_var] if control.index_var else [])]
            names += ["loop"] if control.extended else []
            return {
                name: (self._language.later(f"an item of the loop at {loop.location}"), loop.location) for name in names
            }
        found: dict[str, Any] = {control.loop_var: item}
        if control.index_var:
            found[control.index_var] = position
        if control.extended:
            found["loop"] = _extend(items, position)
        return {name: (Data(value), loop.location) for name, value in found.items()}

    def _name_failure(self, block: Block, ending: Ending) -> Mapping[str, tuple[Any, Location]]:
        if not ending.failures and not self._explores:
            return {}
        value = self._language.failure_of(ending.failures[0] if ending.failures else None)
        return {"failed_step": (value, block.location)}

    def why_not_on(self, host: str) -> str:
        """Why nothing is done on a host any more; empty if there is no reason."""
        return self._given_up.get(NO_HOST) or self._given_up.get(host, "")

    def _why_not(self, node: Node) -> str:
        return self.why_not_on(self._language.host_of(node))


def _where(host_label: str) -> str:
    return "" if host_label == NO_HOST else " on this host"


def _can_rescue(failures: Sequence[StepResult]) -> bool:
    return not any(
        one.status == "unreachable" or (one.failure is not None and one.failure.type in BEYOND_RESCUE)
        for one in failures
    )


def _extend(items: Sequence[Any], position: int) -> dict[str, Any]:
    """What `ansible_loop` has, as far as a template can read it."""
    last = len(items) - 1
    return {
        "index": position + 1,
        "index0": position,
        "revindex": last - position + 1,
        "revindex0": last - position,
        "first": position == 0,
        "last": position == last,
        "length": len(items),
        "previtem": items[position - 1] if position else None,
        "nextitem": items[position + 1] if position < last else None,
    }
