"""Filters from and to JSON and YAML."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

from runner.playbook.document import NotOneValue, parse_value
from runner.playbook.filters.misuse import Misuse, describe, refuse

MAX_INDENT = 20


def to_json(
    value: Any,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    separators: Any = None,
) -> str:
    """The value as JSON, on one line unless an `indent` is given. Raises `Misuse`."""
    pair = None if separators is None else tuple(separators)
    return _convert(
        "to_json",
        lambda: json.dumps(
            value,
            indent=_check_indent("to_json", indent),
            sort_keys=sort_keys,
            ensure_ascii=ensure_ascii,
            separators=pair,
            default=_to_simple,
        ),
    )


def to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, ensure_ascii: bool = True) -> str:
    """The value as JSON for readers: indented, its keys sorted. Raises `Misuse`."""
    return to_json(value, indent, sort_keys, ensure_ascii, (",", ": "))


def from_json(text: Any) -> Any:
    """The value that the JSON stands for. Raises `Misuse` with the place of what is wrong in it."""
    if not isinstance(text, str):
        hint = "It is data already: take away the filter." if isinstance(text, list | dict) else ""
        raise refuse("from_json", "text", text, hint)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno} of it"
        raise Misuse(f"'from_json': the text is not JSON: {error.msg} at {place}") from error
    except ValueError as error:
        raise Misuse(f"'from_json': {error}") from error
    except RecursionError as error:
        raise Misuse("'from_json': the text is nested too deeply") from error


def to_yaml(
    value: Any,
    indent: int | None = None,
    default_flow_style: bool | None = None,
    width: int | None = None,
    sort_keys: bool = True,
) -> str:
    """The value as YAML; what holds no further mappings and lists stands on one line. Raises `Misuse`.

    What older readers of YAML would take for something else than text (`yes`, `1_000`, dates) is quoted.
    """
    from runner.playbook.yaml_text import dump_value

    indent = _check_indent("to_yaml", indent)
    return _convert(
        "to_yaml",
        lambda: dump_value(value, indent=indent, flow_style=default_flow_style, width=width, sorts_keys=sort_keys),
    )


def from_yaml(text: Any) -> Any:
    """The value that the YAML stands for, read as a playbook is. Raises `Misuse` with the place of what is wrong in it."""
    if text is None:
        return None
    if not isinstance(text, str):
        hint = "It is data already: take away the filter." if isinstance(text, list | dict) else ""
        raise refuse("from_yaml", "text", text, hint)
    try:
        return parse_value(text)
    except NotOneValue as error:
        raise Misuse(f"'from_yaml': {error}") from error


def _check_indent(name: str, indent: Any) -> int | None:
    if indent is None:
        return None
    if not isinstance(indent, int) or not 0 <= indent <= MAX_INDENT:
        raise refuse(name, f"an indent from 0 to {MAX_INDENT}", indent)
    return int(indent)


def _convert(name: str, make: Callable[[], str]) -> str:
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise Misuse(f"'{name}': {error}") from error
    except RecursionError as error:
        raise Misuse(f"'{name}': the value is nested too deeply") from error


def _to_simple(value: Any) -> Any:
    if isinstance(value, datetime.date):
        return value.isoformat()
    if hasattr(value, "__iter__"):
        return list(value)
    str(value)  # what is undefined says so here
    hint = "Write … .strftime('…')." if isinstance(value, datetime.timedelta) else ""
    raise Misuse(f"'to_json' knows no JSON for {describe(value)}", hint)
