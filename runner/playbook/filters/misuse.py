"""A filter or a test that is used wrongly, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.playbook.document import describe_type, shorten
from runner.playbook.lazy_lists import LISTS


class Misuse(Exception):
    """A filter or a test was given what it cannot work with. The message says which and what; `hint` what to write."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def refuse(name: str, wanted: str, value: object, hint: str = "") -> Misuse:
    """The error of a filter or test `name` that wants something else than `value`: `… needs text, not a list`."""
    return Misuse(f"'{name}' needs {wanted}, not {describe(value)}", hint)


def describe(value: object) -> str:
    """What a value is, with the value itself if it is short and simple: `the text 'x'`, `a list`."""
    if isinstance(value, str):
        return f"the text {shorten(repr(str(value)))}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {shorten(str(value))}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, LISTS):
        return "a list"
    str(value)  # what is undefined says so here
    return describe_type(value)


def need_text(value: Any, name: str) -> str:
    """The value, if it is text. Raises `Misuse`."""
    if not isinstance(value, str):
        hint = "Join it: … | join('/')." if isinstance(value, LISTS) else ""
        hint = hint or ("Add '| string' before it." if isinstance(value, int | float) else "")
        raise refuse(name, "text", value, hint)
    return value


def need_list(value: Any, name: str) -> list[Any]:
    """The value as a list, if it is a sequence and no text. Raises `Misuse`."""
    if isinstance(value, Mapping):
        raise refuse(name, "a list", value, "Write … | dict2items for its pairs, or … | list for its keys.")
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise refuse(name, "a list", value, "Write [x] for a list of one, or … | split(',') for a text's parts.")
    return value if isinstance(value, list) else list(value)


def need_mapping(value: Any, name: str) -> Mapping[Any, Any]:
    """The value, if it is a mapping. Raises `Misuse`."""
    if not isinstance(value, Mapping):
        hint = "Write … | items2dict for a list of pairs." if isinstance(value, LISTS) else ""
        raise refuse(name, "a mapping", value, hint)
    return value
