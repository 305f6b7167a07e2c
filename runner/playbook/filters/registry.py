"""All filters and tests by their names, each with an error in words for a call that does not fit it.

Each is loaded when it is first used: most playbooks use few of them, and every play would wait for all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from runner.playbook.filters.misuse import Misuse

# By the module that has them.
_FILTERS = {
    "text": ("basename", "dirname", "splitext", "path_join", "split", "quote", "b64encode", "b64decode", "hash"),
    "patterns": ("regex_replace", "regex_search", "regex_findall", "regex_escape"),
    "formats": ("to_json", "to_nice_json", "from_json", "to_yaml", "from_yaml"),
    "values": ("bool", "ternary", "to_datetime", "strftime", "human_readable", "human_to_bytes"),
    "data": (
        *("combine", "dict2items", "items2dict", "flatten", "zip", "union", "intersect", "difference", "unique"),
        "subelements",
    ),
}
_TESTS = {
    "tests": ("match", "search", "regex", "contains", "changed", "failed", "skipped", "succeeded", "unreachable"),
    "versions": ("version",),
}
FILE_TESTS = ("file", "directory", "exists")
# What does not give the same for the same values, of ours and of Jinja's.
IMPURE_NAMES = frozenset((*FILE_TESTS, "random"))
_OTHER_NAMES = {"success": "succeeded"}
# Where a function cannot be called as the filter is, which is a name of Python's.
_FUNCTIONS = {"hash": "hash_text", "bool": "to_bool", "zip": "zip_lists"}

# What writes a text in another way, or computes something of it: a secret comes out as one.
_ENCODING = ("b64encode", "b64decode", "hash", "quote", "regex_escape", "to_json", "to_nice_json", "to_yaml")

FILTER_NAMES = (*(name for names in _FILTERS.values() for name in names), "mandatory")
TEST_NAMES = (*(name for names in _TESTS.values() for name in names), *FILE_TESTS, *_OTHER_NAMES)


def make_filters(undefined: type, note_encoded: Callable[[str, str], None]) -> dict[str, Callable[..., Any]]:
    """The filters. `undefined` is the type of what nothing gives: a filter that is given it raises what that raises.

    `note_encoded` is called with a text, and with another one that can be had of it or that it can be had of.
    """

    def mandatory(value: Any, msg: Any = None) -> Any:
        """The value, which something must give. Raises `Misuse`, with the playbook's own message if there is one."""
        if not isinstance(value, undefined):
            return value
        name = getattr(value, "_undefined_name", None)
        shown = f"the variable '{name}' is mandatory and not defined" if name else "a mandatory value is not defined"
        raise Misuse(str(msg) if msg is not None else shown, "Give it in 'vars' or with --extra-vars.")

    made = {
        name: _check_calls("filter", name, partial(_load, module, _FUNCTIONS.get(name, name)), undefined)
        for module, name in _list(_FILTERS)
    }
    made |= {name: _note_results(made[name], note_encoded) for name in _ENCODING}
    return {**made, "mandatory": _check_calls("filter", "mandatory", lambda: mandatory, ())}


def make_tests(undefined: type, folder: Path) -> dict[str, Callable[..., bool]]:
    """The tests. `folder` is where relative paths start; `undefined` as for `make_filters`."""

    def load_file_test(name: str) -> Callable[..., bool]:
        found: Callable[..., bool] = _load("tests", "make_file_tests")(folder)[name]
        return found

    made = {name: _check_calls("test", name, partial(_load, module, name), undefined) for module, name in _list(_TESTS)}
    made |= {name: _check_calls("test", name, partial(load_file_test, name), undefined) for name in FILE_TESTS}
    return {**made, **{name: made[other] for name, other in _OTHER_NAMES.items()}}


def make_timedelta(*parts: float, **named: float) -> timedelta:
    """A length of time: `timedelta(days=1)`. Raises `Misuse`."""
    try:
        return timedelta(*parts, **named)
    except (TypeError, OverflowError) as error:
        hint = "It takes days, hours, minutes, seconds and weeks, as numbers: timedelta(days=1)."
        raise Misuse(f"timedelta: {error}", hint) from error


def _list(names: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    return ((module, name) for module, found in names.items() for name in found)


def _load(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(f"runner.playbook.filters.{module}"), name)
    return found


def _note_results(function: Callable[..., Any], note: Callable[[str, str], None]) -> Callable[..., Any]:
    def call(value: Any, *arguments: Any, **options: Any) -> Any:
        made = function(value, *arguments, **options)
        if isinstance(value, str) and isinstance(made, str):
            note(value, made)
        return made

    return call


def _check_calls(
    kind: str, name: str, find_function: Callable[[], Callable[..., Any]], undefined: type | tuple[()]
) -> Callable[..., Any]:
    """The function, with `Misuse` for arguments that it does not take, and the error of what is undefined among them."""
    find_function = cache(find_function)

    def call(*arguments: Any, **options: Any) -> Any:
        for argument in (*arguments, *options.values()):
            if isinstance(argument, undefined):
                str(argument)  # it raises, and says what is undefined
        try:
            return find_function()(*arguments, **options)
        except TypeError as error:
            raise _explain(kind, name, find_function(), arguments, options, error) from error

    return call


def _explain(
    kind: str, name: str, function: Callable[..., Any], arguments: Any, options: dict[str, Any], error: TypeError
) -> Misuse:
    import inspect

    from runner.suggestions import find_meant

    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    takes = {one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    shown = ", ".join(map(_describe, parameters))
    hint = f"It is used so: {'… |' if kind == 'filter' else '… is'} {name}" + (f"({shown})." if shown else ".")
    if unknown := next((one for one in options if one not in takes), ""):
        meant = find_meant(unknown, takes, cutoff=0.5)
        hint = f"Did you mean '{meant[0]}'? {hint}" if meant else hint
        return Misuse(f"the {kind} '{name}' has no option '{unknown}'", hint)
    try:
        signature.bind(*arguments, **options)
    except TypeError as wrong:
        return Misuse(f"the {kind} '{name}' is called wrongly: {wrong}", hint)
    return Misuse(f"the {kind} '{name}' cannot work with what it is given: {error}", hint)


def _describe(parameter: Any) -> str:
    if parameter.kind == parameter.VAR_POSITIONAL:
        return f"{parameter.name}…"
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
