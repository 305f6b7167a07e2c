"""Rewrites a template's expressions so that their results know who said what in them. Used by `templating.py` alone.

Names, constants, `~`, `+`, conditions and `default` hand on what they are given. Any other filter or call makes new text:
whether somebody outside has a part in it is decided by the names that it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.playbook.provenance import concatenate, find_outside, mark_mixed, mark_trusted

if TYPE_CHECKING:
    from jinja2 import nodes

TRUSTED = "trusted_path"
# No template can name a filter so.
_CONCATENATE, _MARK = "runner concatenate", "runner mark"
# They give one of what they are given, as it is.
_TRANSPARENT = frozenset(("default", "d", TRUSTED))


class Survey(NamedTuple):
    """What could have a part in the text that a piece of a template makes, but for what is trusted.

    `names` are the variables, `lookup` says what is looked up, and `has_written` whether text stands in the piece itself,
    one that begins with `/` if it `is_rooted`.
    """

    names: tuple[str, ...]
    lookup: str
    has_written: bool
    is_rooted: bool

    def mark(self, value: Any, variables: Mapping[str, Any]) -> Any:
        """What the piece has made of these variables: somebody outside has said it if anything of it came from there."""
        outside = (find_outside(variables[name]) for name in self.names if name in variables)
        source = next(filter(None, outside), self.lookup)
        if not source:
            return value
        return mark_mixed(value, source, has_written=self.has_written, is_rooted=self.is_rooted)


def tracing_filters() -> dict[str, Callable[..., Any]]:
    """The filters that rewritten expressions use, and the one by which a playbook says what it means."""
    return {TRUSTED: mark_trusted, _CONCATENATE: lambda *values: concatenate(map(_to_text, values)), _MARK: _mark}


def trace(expression: nodes.Expr) -> nodes.Expr:
    """The expression, rewritten."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    if isinstance(expression, nodes.Name | nodes.Const):
        return expression

    class Tracer(NodeTransformer):
        def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
            if _makes_new_text(node):
                found = survey(node)
                if not found.names and not found.lookup:
                    return node
                said = [nodes.Const(value) for value in (found.lookup, found.has_written, found.is_rooted)]
                uses = [nodes.Name(name, "load") for name in found.names]
                return _make_filter(_MARK, [node, *said, *uses], node.lineno)
            made = super().generic_visit(node, *args, **kwargs)
            if isinstance(made, nodes.Concat):
                return _make_filter(_CONCATENATE, list(made.nodes), node.lineno)
            return made

    made: nodes.Expr = Tracer().visit(expression)
    return made


def survey(tree: nodes.Node) -> Survey:
    """What has a part in what a piece of a template makes."""
    from jinja2 import nodes

    names: dict[str, None] = {}
    lookup = ""
    written: list[str] = []
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case nodes.Filter() if node.name == TRUSTED:
                written.append("trusted")
                continue
            case nodes.Name() if node.ctx == "load":
                names[node.name] = None
            case nodes.Const(value=str() as text) | nodes.TemplateData(data=text):
                written.append(text)
            case nodes.Getitem():
                # What is looked up under a key is not the key.
                waiting.append(node.node)
                continue
            case nodes.Call() if _is_lookup(node):
                lookup = lookup or _describe(node)
                waiting += [keyword.value for keyword in node.kwargs if keyword.key == "default"]
                continue
        waiting += node.iter_child_nodes()
    names.pop("now", None)
    words = [text for text in written if any(character.isalnum() for character in text)]
    return Survey(tuple(names), lookup, bool(words), any(text.lstrip().startswith("/") for text in words))


def _mark(value: Any, lookup: str, has_written: bool, is_rooted: bool, *uses: Any) -> Any:
    names = tuple(map(str, range(len(uses))))
    return Survey(names, lookup, has_written, is_rooted).mark(value, dict(zip(names, uses, strict=True)))


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _makes_new_text(node: nodes.Node) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.Filter):
        return node.name not in _TRANSPARENT
    # A lookup says itself where its text comes from.
    return isinstance(node, nodes.Mul | nodes.Mod) or (isinstance(node, nodes.Call) and not _is_lookup(node))


def _is_lookup(node: nodes.Node) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "lookup"


def _describe(call: nodes.Call) -> str:
    """Where the text of a lookup comes from, as far as it can be said before it is made."""
    from jinja2 import nodes

    words = [one.value if isinstance(one, nodes.Const) else "…" for one in call.args]
    return describe_lookup(str(words[0]), str(words[1])) if len(words) > 1 else "a lookup"


def describe_lookup(kind: str, term: str) -> str:
    """`the environment variable BRANCH`."""
    term = term if len(term) <= 40 else f"{term[:39]}…"
    match kind:
        case "env":
            return f"the environment variable {term}"
        case "pipe":
            return f"the command {term!r}"
    return f"the file {term!r}"


def _make_filter(name: str, values: list[nodes.Expr] | list[Any], line: int) -> nodes.Filter:
    """`values[0] | name(values[1:])`."""
    from jinja2 import nodes

    return nodes.Filter(values[0], name, values[1:], [], None, None, lineno=line)
