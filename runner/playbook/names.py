"""Looks at the names in an expression that cannot be evaluated yet: is something called so, and can it have that part?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.playbook.document import Expected, Unfilled
from runner.suggestions import nearest

if TYPE_CHECKING:
    from jinja2 import nodes

# What makes something of a value that may be missing.
_FORGIVING_FILTERS = frozenset(("default", "d", "mandatory"))
_FORGIVING_TESTS = frozenset(("defined", "undefined"))
# Names that are there in some places alone.
_SOMETIMES = {
    "connection_name": "It is there in steps with a 'connection'.",
    "host": "It is there in steps with a 'connection', or with a 'host' of their own.",
    "item": "It is there in steps with a 'loop' that gives its items no other name.",
    "loop": "It is there in loops with `loop_control: {extended: true}`.",
    "result": "It is there in 'until', 'failed_when' and 'changed_when'. `register: NAME` keeps it as `NAME.result`.",
    "failed_step": "It is there in 'rescue' and 'always'.",
}


class Unknown(NamedTuple):
    """A name that nothing gives, or a part that a value cannot have."""

    message: str
    hint: str


def explain_undefined(name: str, text: str, given: Collection[str], kinds: Mapping[str, Collection[str]]) -> str:
    """What to do about a name in `text` that nothing gives. `given` are those that there are, `kinds` filters and tests."""
    # Loaded when a name is undefined.
    from runner.playbook.ansible.names import explain_name
    from runner.playbook.filters.strangers import find_name_hint

    return explain_name(name, text) or _SOMETIMES.get(name) or find_name_hint(name, given, kinds)


def names_in(scope: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """The names that are worth mentioning: not those that stand for something that is told."""
    return [name for name, (value, _) in scope.items() if type(value) is not Unfilled]


def find_unknown(
    tree: nodes.Node,
    scope: Mapping[str, tuple[Any, Any]],
    known: Collection[str],
    shown: Collection[str],
    kinds: Mapping[str, Collection[str]],
) -> Iterator[Unknown]:
    """What is wrong with the names of an expression or a template, by its text alone.

    `known` are there by themselves; of these, `shown` are worth mentioning. `kinds` are the names of filters and tests.
    """
    from jinja2 import nodes

    own: set[str] = set()
    for one in tree.find_all((nodes.Name, nodes.For)):
        if isinstance(one, nodes.For):
            own.add("loop")
        elif isinstance(one, nodes.Name) and one.ctx in ("store", "param"):
            own.add(one.name)
    for name, path in _uses(tree):
        if name in own or name in known:
            continue
        if name not in scope:
            hint = explain_undefined(name, ".".join((name, *path)), [*names_in(scope), *shown], kinds)
            yield Unknown(f"'{name}' is undefined", hint)
            continue
        value = scope[name][0]
        if isinstance(value, Expected):
            yield from _find_unknown_part(name, path, value.shape)


def _find_unknown_part(name: str, path: tuple[str, ...], whole: Mapping[str, Any] | None) -> Iterator[Unknown]:
    shape = whole
    for position, part in enumerate(path):
        if shape is None:
            return
        if part not in shape:
            hint = "" if position else _explain_foreign_part(name, path, shape)
            hint = hint or nearest(part, shape) or f"It has {', '.join(shape)}."
            yield Unknown(f"'{name}' has no '{part}'", hint)
            return
        shape = shape[part]


def _explain_foreign_part(name: str, path: tuple[str, ...], shape: Mapping[str, Any]) -> str:
    """What to write for a part that Ansible's results have."""
    # Loaded when a part is missing.
    from runner.playbook.ansible.results import explain_field

    return explain_field(name, path[0], "".join(path[1:2]), shape)


def paths_of(tree: nodes.Node, known: Collection[str]) -> list[str]:
    """The names that an expression uses, with the parts that it asks of them; those that are `known` left out."""
    return list(dict.fromkeys(".".join((name, *path)) for name, path in _uses(tree) if name not in known))


def _uses(node: nodes.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each name that is used, with the parts that are asked of it, as far as these stand there."""
    from jinja2 import nodes

    match node:
        case nodes.Name() if node.ctx == "load":
            yield node.name, path
            return
        case nodes.Getattr():
            yield from _uses(node.node, (node.attr, *path))
            return
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            yield from _uses(node.node, (key, *path))
            return
        case nodes.Filter() if node.name in _FORGIVING_FILTERS:
            yield from (use for child in node.args for use in _uses(child))
            return
        case nodes.Test() if node.name in _FORGIVING_TESTS:
            return
    for child in node.iter_child_nodes():
        yield from _uses(child)
