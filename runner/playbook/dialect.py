"""Where Jinja2 as Ansible speaks it is other than Jinja2: backslashes in quotes, what is missing, lists for generators."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

# What gives something that can be read once only.
_LAZY_FILTERS = ("batch", "items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice")

# A backslash before what makes no other character of it in quotes: `\d`, `\.`; and before what only Python makes one of,
# a backspace or a character's number, where a regular expression has a boundary and a group: `\b`, `\1`.
_LITERAL_BACKSLASH = r"\\[^\\'\"nrtafvuUxN\n]"


def keep_backslashes(source: str, tokenize: Callable[[str], Iterator[tuple[int, str, str]]]) -> str:
    """The template in which `\\1`, `\\b` and `\\d` in quotes stay what they are. `tokenize` gives Jinja's tokens of it."""
    if "\\" not in source or not re.search(_LITERAL_BACKSLASH, source):
        return source

    def double(found: re.Match[str]) -> str:
        return f"\\{found[0]}" if re.fullmatch(_LITERAL_BACKSLASH, found[0]) else found[0]

    return "".join(
        re.sub(r"\\.", double, text, flags=re.DOTALL) if kind == "string" else text
        for _, kind, text in tokenize(source)
    )


def make_missing(strict_undefined: type) -> type:
    """The type of what nothing gives, made of Jinja's strict one: what is in it is missing too, and may have a default."""

    class Missing(strict_undefined):  # type: ignore[misc]
        """What nothing gives."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return self

        def __getitem__(self, key: Any) -> Any:
            return self

    return Missing


def make_lists(filters: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Jinja's own filters that give what can be read once only, giving lists: `map(…) | length` works."""
    return {name: _make_list(filters[name]) for name in _LAZY_FILTERS}


def _make_list(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        made = function(*arguments, **options)
        return list(made) if isinstance(made, Iterator) else made

    return call
