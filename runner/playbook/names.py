"""Looks at the names in an expression that cannot be evaluated yet: is something called so, and can it have that part?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.playbook.document import Awaited
from runner.suggestions import nearest

if TYPE_CHECKING:
    from jinja2 import nodes

# What makes something of a value that may be missing.
_FORGIVING_FILTERS = frozenset(("default", "d", "mandatory"))
_FORGIVING_TESTS = frozenset(("defined", "undefined"))


class Unknown(NamedTuple):
    """A name that nothing gives, or a part that a value cannot have."""

    message: str
    hint: str


class Expected(Awaited):
    """A value that only the play will know, of a known shape: the names in it, and what these have in turn."""

    __slots__ = ("shape",)
    shape: Mapping[str, Any] | None

    def __new__(cls, written: str, reason: str, shape: Mapping[str, Any] | None = None) -> Expected:
        made = super().__new__(cls, written, reason)
        made.shape = shape
        return made


def find_unknown(
    tree: nodes.Node, scope: Mapping[str, tuple[Any, Any]], known: Collection[str], shown: Collection[str]
) -> Iterator[Unknown]:
    """What is wrong with the names of an expression or a template, by its text alone.

    `known` are there by themselves; of these, `shown` are worth mentioning.
    """
    from jinja2 import nodes

    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    if tree.find(nodes.For) is not None:
        own.add("loop")
    for name, path in _uses(tree):
        if name in own or name in known:
            continue
        if name not in scope:
            yield Unknown(f"'{name}' is undefined", nearest(name, [*scope, *shown]))
            continue
        value = scope[name][0]
        shape = value.shape if isinstance(value, Expected) else None
        for part in path:
            if shape is None:
                break
            if part not in shape:
                yield Unknown(f"'{name}' has no '{part}'", nearest(part, shape) or f"It has {', '.join(shape)}.")
                break
            shape = shape[part]


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
