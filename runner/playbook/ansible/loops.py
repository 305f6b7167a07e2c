"""Ansible's `with_…` as loops of the playbook language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from runner.playbook.ansible.arguments import TEMPLATE, read_arguments, read_template
from runner.playbook.ansible.writing import LEFT_OPEN, write, write_pair

_NESTED = (
    "Put the step into a block with a loop over the first list, and give the step a loop over the second: "
    "`block: […]` with `loop: {first}` and `loop_control: {{loop_var: outer}}`, inside `loop: {second}`."
)


def explain_loop(name: str, value: Any) -> str:
    """The hint for `with_NAME: value`."""
    if name in _LOOPS:
        return _LOOPS[name](value)
    if name in ("file", "env", "first_found"):
        names = value.get("files") if isinstance(value, dict) else value
        found = f"\"{{{{ lookup('{name}', {_terms(names)}) }}}}\""
        return f"No loop is needed: write `{found}` in the place of `{{{{ item }}}}`."
    return f"There is no lookup '{name}' to loop over: write `loop: […]` with what is in the list."


def _explain_items(value: Any) -> str:
    return _write_loop(_flatten_once(value))


def _explain_indexed(value: Any) -> str:
    loop = write_pair("loop", _flatten_once(value))
    return f"Write `{loop}` and `loop_control: {{index_var: index}}`: `item.0` is `index` then, and `item.1` is `item`."


def _explain_nested(value: Any) -> str:
    first, second = (*_parts(value), LEFT_OPEN, LEFT_OPEN)[:2]
    return _NESTED.format(first=write(first), second=write(second))


def _explain_together(value: Any) -> str:
    first, *others = _two_parts(value)
    return _write_loop(f"{{{{ {_operand(first)} | zip({', '.join(map(_expression, others))}) | list }}}}")


def _explain_subelements(value: Any) -> str:
    first, second, *_ = _two_parts(value)
    return _write_loop(f"{{{{ {_operand(first)} | subelements({_expression(second)}) }}}}")


def _two_parts(value: Any) -> list[Any]:
    parts = _parts(value)
    return parts if len(parts) > 1 else [*parts, LEFT_OPEN]


def _explain_choice(value: Any) -> str:
    return f'Write `"{{{{ {_operand(value)} | random }}}}"` in the place of `{{{{ item }}}}`.'


def _explain_tree(value: Any) -> str:
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": str(_parts(value)[0]).rstrip("/") or "/",
        "destination_directory_name": LEFT_OPEN,
    }
    return f"A tree is copied as a whole: `{write_pair('mode', mode)}`."


def _terms(value: Any) -> str:
    return ", ".join(map(_expression, _parts(value)))


def _write_loop(value: Any) -> str:
    return f"Write `loop: {write(value)}`."


def _flatten_once(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) == 1 and isinstance(value[0], str) and read_template(value[0]):
        return value[0]
    return [one for item in value for one in (item if isinstance(item, list) else [item])]


def _filter(value: Any, name: str) -> str:
    return f"{{{{ {_operand(value)} | {name} }}}}"


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _expression(value: Any) -> str:
    """A value as an expression: a template's inside, or a literal."""
    inside = read_template(value) if isinstance(value, str) else ""
    if inside:
        return inside
    if isinstance(value, str):
        parts = [one for one in re.split(rf"({TEMPLATE})", value) if one]
        return " ~ ".join(f"({one[2:-2].strip()})" if one.startswith("{{") else _literal(one) for one in parts) or "''"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(str(key))}: {_expression(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_expression, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)


def _operand(value: Any) -> str:
    """The same, to stand in front of a filter."""
    text = _expression(value)
    return text if re.fullmatch(r"[\w.]+|[\[{'].*", text, re.DOTALL) else f"({text})"


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _explain_sequence(value: Any) -> str:
    arguments = read_arguments(value)
    form = arguments.get("format")
    start, end, stride = (arguments.get(name) for name in ("start", "end", "stride"))
    first = _bound(start, "1")
    last = f"{_bound(arguments['count'], '0')} + {first}" if "count" in arguments else f"{_bound(end, LEFT_OPEN)} + 1"
    if re.fullmatch(r"\d+ \+ \d+", last):
        left, _, right = last.partition(" + ")
        last = str(int(left) + int(right))
    step = f", {_bound(stride, '1')}" if stride else ""
    more = f" `{form}` is a template there: `\"{{{{ '{form}' | format(item) }}}}\"`." if form else ""
    return _write_loop(f"{{{{ range({first}, {last}{step}) | list }}}}") + more


def _bound(value: Any, default: str) -> str:
    if value is None:
        return default
    return str(value) if str(value).lstrip("-").isdigit() else f"({_expression(value)}) | int"


_LOOPS: dict[str, Callable[[Any], str]] = {
    "items": _explain_items,
    "list": _write_loop,
    "flattened": lambda value: _write_loop(_filter(value, "flatten")),
    "dict": lambda value: _write_loop(_filter(value, "dict2items")),
    "indexed_items": _explain_indexed,
    "nested": _explain_nested,
    "cartesian": _explain_nested,
    "together": _explain_together,
    "subelements": _explain_subelements,
    "sequence": _explain_sequence,
    "fileglob": lambda value: _write_loop(f"{{{{ lookup('fileglob', {_terms(value)}) }}}}"),
    "lines": lambda value: _write_loop(f"{{{{ lookup('pipe', {_terms(value)}).splitlines() }}}}"),
    "filetree": _explain_tree,
    "random_choice": _explain_choice,
    "inventory_hostnames": lambda value: "There is no inventory: write `loop: […]` with names of connections.",
}
