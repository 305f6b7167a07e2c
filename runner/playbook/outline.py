"""From the steps of a playbook to the tree that is carried out: steps, blocks, included files. A new keyword is read here.

What a block hands on to its steps is put down with each of them, so that nothing later needs to know where a step stands.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from runner.errors import PlaybookInvalid
from runner.playbook.document import PositionedList, PositionedMap, Unfilled
from runner.playbook.sections import as_list, as_map
from runner.playbook.validation import connector_keys, is_template, validate_included
from runner.problems import Location, Problem
from runner.program import Block, Keywords, Kind, LoopControl, Node, StepTemplate, Written
from runner.tags import read_tags

MAX_INCLUDES = 20
# Of all steps of a playbook, those in blocks and included files counted.
MAX_STEPS = 20_000

# What a step can be, besides a connector call.
_CONTROLS: tuple[Kind, ...] = ("assert", "set_fact", "debug", "fail", "pause")
_HOLDERS = ("block", "include_steps")
_PARTS = ("rescue", "always")
_FOR_CALLS_ONLY = ("retries", "delay", "until", "timeout", "ignore_unreachable", "check_mode", "diff")
_NOT_FOR_BLOCKS = ("retries", "delay", "until", "timeout", "register", "failed_when", "changed_when", "diff")

ReadFile = Callable[[str], PositionedMap | PositionedList]
# What a template with names of the playbook gives.
FillIn = Callable[[PositionedMap, str], Any]


class _Around(NamedTuple):
    """What the blocks and files around a step hand on to it, outermost first. `chain`: the files that include each other."""

    origins: tuple[PositionedMap, ...] = ()
    when: tuple[Written, ...] = ()
    tags: frozenset[str] = frozenset()
    chain: tuple[str, ...] = ()


class Outline:
    """Reads the steps of one playbook. What is wrong with their order and their keywords is added to `problems`."""

    def __init__(self, problems: list[Problem], read_file: ReadFile, fill_in: FillIn) -> None:
        """`read_file` raises `OSError` and `PlaybookInvalid`; `fill_in` gives the value of a key, with static names."""
        self._problems = problems
        self._read_file = read_file
        self._fill_in = fill_in
        self._count = 0
        self.files: list[str] = []

    def read(self, steps: PositionedList | None, file: str) -> tuple[Node, ...]:
        """The steps of the playbook `file`."""
        return self._read_all(steps, _Around(chain=(file,)))

    def _read_all(self, steps: PositionedList | None, context: _Around) -> tuple[Node, ...]:
        nodes: list[Node] = []
        for item in steps or ():
            if isinstance(item, PositionedMap) and self._count < MAX_STEPS:
                node = self._read_one(item, context)
                nodes += () if node is None else (node,)
        if self._count >= MAX_STEPS and steps is not None:
            self._note(
                steps.location, f"the playbook has more than {MAX_STEPS:,} steps", "Use a loop, or a directory copy."
            )
            self._count = -(10**9)
        return tuple(nodes)

    def _read_one(self, item: PositionedMap, context: _Around) -> Node | None:
        kinds = [key for key in (*_HOLDERS, *_CONTROLS, "mode") if key in item]
        if len(kinds) > 1 and not self._is_holder_with_mode(kinds):
            message = f"a step does one thing, and this one has {' and '.join(map(repr, kinds))}"
            self._note(item.key_locations[kinds[-1]], message, "Make a step of each.")
            return None
        kind = kinds[0] if kinds else "mode"
        self._check_parts(item, kind)
        if kind in _HOLDERS:
            return self._read_block(item, kind, context)
        return self._read_step(item, kind, context)

    @staticmethod
    def _is_holder_with_mode(kinds: list[str]) -> bool:
        """A block may hand a mode on to its steps."""
        return len(kinds) == 2 and kinds[0] in _HOLDERS and kinds[1] == "mode"

    def _check_parts(self, item: PositionedMap, kind: str) -> None:
        for key in _PARTS:
            if key in item and kind != "block":
                self._note(
                    item.key_locations[key], f"'{key}' belongs to a 'block'", "Put the steps before it in a 'block'."
                )
        meaningless: tuple[str, ...] = ()
        if kind in _HOLDERS:
            meaningless = _NOT_FOR_BLOCKS
        elif kind != "mode":
            meaningless = (*_FOR_CALLS_ONLY, *sorted(connector_keys()))
        for key in meaningless:
            if key in item:
                hint = "Set it in the steps." if kind in _HOLDERS else "Remove it."
                self._note(item.key_locations[key], f"'{key}' means nothing with '{kind}'", hint)

    def _check_debug(self, item: PositionedMap) -> None:
        given = item.get("debug")
        if not isinstance(given, PositionedMap) or ("msg" in given) ^ ("var" in given):
            return
        if "msg" in given:
            self._note(item.value_locations["debug"], "'debug' takes either 'msg' or 'var'", "Make a step of each.")
        elif not given:
            self._note(item.value_locations["debug"], "'debug' takes 'msg' or 'var'", "Write `debug: {msg: …}`.")

    def _read_step(self, item: PositionedMap, kind: str, context: _Around) -> StepTemplate:
        self._count += 1
        origins = (*context.origins, item)
        self._check_debug(item)
        name = item.get("name")
        return StepTemplate(
            index=self._count,
            kind=kind,  # type: ignore[arg-type]
            location=item.location,
            origins=origins,
            keywords=self._read_keywords(item, context),
            connection=_find_connection(origins),
            name=name if isinstance(name, str) and not is_template(name) and not isinstance(name, Unfilled) else "",
        )

    def _read_block(self, item: PositionedMap, kind: str, context: _Around) -> Block | None:
        keywords = self._read_keywords(item, context)
        inner = replace_around(context, item, keywords)
        if kind == "include_steps":
            read = self._include(item, inner)
            return None if read is None else Block(item.location, (*context.origins, item), keywords, read)
        steps, rescue, always = (self._read_all(as_list(item.get(key)), inner) for key in ("block", *_PARTS))
        return Block(
            item.location,
            (*context.origins, item),
            keywords,
            steps,
            rescue,
            always,
            _find_connection((*context.origins, item)),
        )

    # Included files.

    def _include(self, item: PositionedMap, inner: _Around) -> tuple[Node, ...] | None:
        place = item.value_locations["include_steps"]
        written = self._fill_in(item, "include_steps")
        if not isinstance(written, str) or isinstance(written, Unfilled) or not written:
            return None
        path = os.path.normpath(os.path.join(os.path.dirname(inner.chain[-1]), os.path.expanduser(written)))
        chain = (*inner.chain, path)
        if path in inner.chain:
            circle = " → ".join([*inner.chain[inner.chain.index(path) :], path])
            self._note(place, f"files include each other in a circle: {circle}")
            return None
        if len(chain) > MAX_INCLUDES + 1:
            self._note(place, f"files include each other more than {MAX_INCLUDES} levels deep: {' → '.join(chain)}")
            return None
        data = self._read(path, written, place)
        if data is None:
            return None
        self.files.append(path)
        sections = as_map(data)
        steps = as_list(data) if sections is None else as_list(sections.get("steps"))
        # The variables of the step that includes it win over the file's own.
        own = () if sections is None else (sections,)
        origins = (*inner.origins[:-1], *own, inner.origins[-1])
        return self._read_all(steps, inner._replace(chain=chain, origins=origins))

    def _read(self, path: str, written: str, place: Location) -> PositionedMap | PositionedList | None:
        try:
            data = self._read_file(path)
        except OSError as error:
            hint = f"The path is relative to the file that includes it: {path}."
            self._note(place, f"cannot read the included file {written!r}: {error.strerror}", hint)
            return None
        except PlaybookInvalid as error:
            self._problems += error.problems
            return None
        self._problems += validate_included(data)
        return data

    # Keywords.

    def _read_keywords(self, item: PositionedMap, context: _Around) -> Keywords:
        register = item.get("register")
        return Keywords(
            when=(*context.when, *self._conditions(item, "when")),
            loop=_written(item, "loop"),
            loop_control=_read_loop_control(as_map(item.get("loop_control"))),
            register=register if isinstance(register, str) and register.isidentifier() else None,
            failed_when=self._conditions(item, "failed_when"),
            changed_when=self._conditions(item, "changed_when"),
            until=self._conditions(item, "until"),
            tags=context.tags | _read_tags(item.get("tags")),
        )

    def _conditions(self, item: PositionedMap, key: str) -> tuple[Written, ...]:
        """The conditions under a key: one, or a list of which all must hold."""
        written = _written(item, key)
        if written is None:
            return ()
        if isinstance(written.value, PositionedList):
            places = written.value.item_locations
            return tuple(Written(value, place) for value, place in zip(written.value, places, strict=True))
        return (written,)

    def _note(self, location: Location, message: str, hint: str = "") -> None:
        self._problems.append(Problem(location, message, hint))


def replace_around(context: _Around, item: PositionedMap, keywords: Keywords) -> _Around:
    """What a block hands on to its steps."""
    return context._replace(origins=(*context.origins, item), when=keywords.when, tags=keywords.tags)


def _written(item: PositionedMap, key: str) -> Written | None:
    return Written(item[key], item.value_locations[key]) if key in item else None


def _find_connection(origins: tuple[PositionedMap, ...]) -> str:
    found = next((one["connection"] for one in reversed(origins) if "connection" in one), "")
    return found if isinstance(found, str) else ""


def _read_loop_control(given: PositionedMap | None) -> LoopControl:
    if given is None:
        return LoopControl()
    loop_var, index_var = given.get("loop_var"), given.get("index_var")
    return LoopControl(
        loop_var if isinstance(loop_var, str) else "item",
        index_var if isinstance(index_var, str) else None,
        _written(given, "label"),
        _written(given, "pause"),
        given.get("extended") is True,
    )


def _read_tags(given: Any) -> frozenset[str]:
    """A list of tags, or text with commas between them."""
    if isinstance(given, PositionedList):
        given = ",".join(text for text in given if isinstance(text, str))
    return read_tags(given) if isinstance(given, str) else frozenset()
