"""Rewrites a template's expressions so that their results know who said what in them. Used by `templating.py` alone.

Names, constants, `~`, `+`, conditions, `default`, `ternary`, `mandatory` and `path_join` hand on what they are given. Any
other filter or call makes new text: whether somebody outside has a part in it is decided by the names that it uses, and by
what it looks up.

A lookup is called by its own name only: each call of it is rewritten, whatever it stands in, since what it is given must
know where it comes from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.playbook.provenance import choose_source, concatenate, find_outside, mark_mixed, mark_quoted, mark_trusted

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

TRUSTED = "trusted_path"
# No template can name a filter so: not as a word, since there is a space in it, nor in quotes, as in `map('…')`.
LOOKUP, _CONCATENATE, _MARK, _QUOTED = (
    f"runner {name} {os.urandom(8).hex()}" for name in ("lookup", "concatenate", "mark", "quoted")
)
# They give one of what they are given, as it is; `path_join` puts it together and says itself whose is what.
_TRANSPARENT = frozenset(("default", "d", "mandatory", "ternary", "path_join", TRUSTED))


class Survey(NamedTuple):
    """What could have a part in the text that a piece of a template makes, but for what is trusted.

    `names` are the variables, `lookup` says what is looked up, and `has_written` whether text stands in the piece itself,
    one that begins with `/` if it `is_rooted`.
    """

    names: tuple[str, ...]
    lookup: str
    has_written: bool
    is_rooted: bool

    def mark(self, value: Any, variables: Mapping[str, Any], looked_up: Iterable[str]) -> Any:
        """What the piece has made of these variables: somebody outside has said it if anything of it came from there.

        `looked_up` are the sources of what has been looked up for it.
        """
        if value is None or isinstance(value, bool | int | float):
            return value
        outside = (find_outside(variables[name]) for name in self.names if name in variables)
        source = choose_source((*outside, self.lookup, *(looked_up if self.lookup else ())))
        if not source:
            return value
        return mark_mixed(value, source, has_written=self.has_written, is_rooted=self.is_rooted)


def tracing_filters(find_looked_up: Callable[[], Iterable[str]]) -> dict[str, Callable[..., Any]]:
    """The filters that rewritten expressions use, and the one by which a playbook says what it means.

    `find_looked_up` gives the sources of what the template that is being filled in has looked up so far.
    """

    def mark(value: Any, lookup: str, has_written: bool, is_rooted: bool, *uses: Any) -> Any:
        names = tuple(map(str, range(len(uses))))
        found = Survey(names, lookup, has_written, is_rooted)
        return found.mark(value, dict(zip(names, uses, strict=True)), find_looked_up())

    concatenated = lambda *values: concatenate(map(_to_text, values))  # noqa: E731
    return {TRUSTED: mark_trusted, _CONCATENATE: concatenated, _MARK: mark, _QUOTED: mark_quoted}


def trace(expression: nodes.Expr, *, may_look_up: bool = True) -> nodes.Expr:
    """The expression, rewritten. In the text of one that may look something up stands `lookup`."""
    from jinja2 import nodes

    if isinstance(expression, nodes.Name | nodes.Const):
        return expression
    traced: nodes.Expr = _tracer_class()(may_look_up and _looks_up(expression)).visit(expression)
    return traced


def trace_statements(tree: nodes.Template) -> None:
    """Rewrite the expressions of a template with statements, in place, if there are lookups in it.

    Where text goes other ways than through expressions it is not followed: what lookups are given there counts as coming
    from all variables that the template uses.
    """
    from jinja2 import nodes

    if not _looks_up(tree):
        return
    followed = (nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.With)
    is_followed = all(
        isinstance(one, followed) and not (isinstance(one, nodes.For) and one.recursive)
        for one in tree.find_all(nodes.Stmt)
    )
    everything = None if is_followed else survey(tree, sees_terms=True)._replace(lookup="")
    _tracer_class()(True, everything).visit(tree)


def survey(tree: nodes.Node, *, sees_terms: bool = False) -> Survey:
    """What has a part in what a piece of a template makes; with `sees_terms` also what lookups are given."""
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
            case nodes.Getitem() if not sees_terms:
                # What is looked up under a key is not the key.
                waiting.append(node.node)
                continue
            case nodes.Call() if _is_lookup(node) and not sees_terms:
                lookup = lookup or _describe(node)
                waiting += [keyword.value for keyword in node.kwargs if keyword.key == "default"]
                continue
        waiting += node.iter_child_nodes()
    words = [text for text in written if any(character.isalnum() for character in text)]
    return Survey(tuple(names), lookup, bool(words), any(text.lstrip().startswith("/") for text in words))


@cache
def _tracer_class() -> Callable[..., NodeTransformer]:
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    class Tracer(NodeTransformer):
        """`everything`: no expression is followed, and what lookups are given counts as coming from there."""

        def __init__(self, looks_up: bool, everything: Survey | None = None) -> None:
            self._looks_up = looks_up
            self._everything = everything

        def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
            makes_new_text = self._everything is None and _makes_new_text(node)
            found = survey(node) if makes_new_text else None
            if found is None or self._looks_up:
                # A lookup may stand inside, and what it is given must know where it comes from.
                node = super().generic_visit(node, *args, **kwargs)
            if _is_lookup(node):
                return _make_lookup(node, self._everything)
            if self._everything is None and isinstance(node, nodes.Concat):
                return _make_filter(_CONCATENATE, list(node.nodes), node.lineno)
            if found is None or not (found.names or found.lookup):
                return node
            marked = _make_mark(node, found)
            is_quoted = isinstance(node, nodes.Filter) and node.name == "quote"
            return _make_filter(_QUOTED, [marked], node.lineno) if is_quoted else marked

        def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802  (Jinja looks for this name)
            # It calls something, and nothing else can stand in its place.
            call = node.call
            made = super().generic_visit(node)
            node.call = call
            return made

    return Tracer


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


def _looks_up(tree: nodes.Node) -> bool:
    from jinja2 import nodes

    return _is_lookup(tree) or any(map(_is_lookup, tree.find_all(nodes.Call)))


def _make_lookup(call: Any, everything: Survey | None) -> nodes.Filter:
    """The call of a lookup as a filter that no template can name, with its arguments marked as coming from `everything`."""
    from jinja2 import nodes

    def mark(argument: Any) -> Any:
        is_plain = everything is None or argument is None or isinstance(argument, nodes.Const)
        return argument if is_plain else _make_mark(argument, everything)

    options = [nodes.Keyword(one.key, mark(one.value)) for one in call.kwargs]
    terms = [mark(one) for one in call.args]
    source = nodes.Const(None)
    return nodes.Filter(source, LOOKUP, terms, options, mark(call.dyn_args), mark(call.dyn_kwargs), lineno=call.lineno)


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
        case "vars":
            return f"the variable {term!r}"
    return f"the file {term!r}"


def _make_mark(node: nodes.Node, found: Any) -> nodes.Filter:
    from jinja2 import nodes

    said = [nodes.Const(value) for value in (found.lookup, found.has_written, found.is_rooted)]
    uses = [nodes.Name(name, "load") for name in found.names]
    return _make_filter(_MARK, [node, *said, *uses], node.lineno)


def _make_filter(name: str, values: list[nodes.Expr] | list[Any], line: int) -> nodes.Filter:
    """`values[0] | name(values[1:])`."""
    from jinja2 import nodes

    return nodes.Filter(values[0], name, values[1:], [], None, None, lineno=line)
