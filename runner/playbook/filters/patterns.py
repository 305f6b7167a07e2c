"""Regular expressions, bounded: the pattern may be careless, and the text a server's.

Python's `re` looks for signals while it tries again, so the bound on a template's time (`runner/playbook/limits.py`) ends
`(a+)+$` in the main thread as it ends a loop. Only what happens between two such looks is not ended by it: CPython's
Modules/_sre/sre_lib.h looks after each 4,096 steps, and one step may pass over all of the text. The length of the text
bounds that: 64 Ki characters cost an eighth of a second more at worst, where the processor is free.

Before CPython 3.11.6 (Debian 12 has 3.11.2) the count of steps begins anew at each position that a search tries, so a
search of many short tries never looks (gh-109631). There a long text is searched position by position, by `find_each`.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from runner.playbook.document import shorten
from runner.playbook.filters.misuse import Misuse, refuse

MAX_TEXT_LENGTH = 64 * 1024
MAX_PATTERN_LENGTH = 4096

SEARCHES_LOOK_FOR_SIGNALS = sys.version_info >= (3, 11, 6)
# So short a text costs half a second at most where no search looks: each position, 4,096 steps, each over all of it.
MAX_UNWATCHED_LENGTH = 512

_SPLIT_HINT = "Look at one line at a time: … | split('\\n') | map(…)."


def compile_pattern(name: str, pattern: Any, *, ignorecase: bool = False, multiline: bool = False) -> re.Pattern[str]:
    """The regular expression. Raises `Misuse`, which names the filter or test."""
    if not isinstance(pattern, str):
        raise refuse(name, "a regular expression as text", pattern)
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise Misuse(f"'{name}': the regular expression is longer than {MAX_PATTERN_LENGTH:,} characters")
    flags = (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)
    try:
        return _compile(str(pattern), flags)
    except (re.error, OverflowError, RecursionError) as error:
        shown = shorten(repr(str(pattern)))
        hint = (
            "One of . * + ? ( ) [ { | ^ $ \\ that stands for itself has a \\ before it; … | regex_escape writes them."
        )
        raise Misuse(f"'{name}': {shown} is no regular expression: {error}", hint) from error


@lru_cache(maxsize=256)
def _compile(pattern: str, flags: int) -> re.Pattern[str]:
    with warnings.catch_warnings():
        # `[[` may mean something else one day: that is no reason to write on standard error.
        warnings.simplefilter("ignore")
        return re.compile(pattern, flags)


def to_searchable(name: str, value: Any) -> str:
    """The value as text to search in, as Ansible takes it: a number is its digits. Raises `Misuse`."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_TEXT_LENGTH:
        message = f"'{name}': the text is longer than {MAX_TEXT_LENGTH:,} characters, which could take too long"
        raise Misuse(message, _SPLIT_HINT)
    return str(text)


def regex_replace(
    value: Any = "",
    pattern: Any = "",
    replacement: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    """The text with what the pattern matches replaced; `\\1`, `\\g<name>` in the replacement are groups."""
    expression = compile_pattern("regex_replace", pattern, ignorecase=ignorecase, multiline=multiline)
    if not isinstance(replacement, str):
        raise refuse("regex_replace", "text as the replacement", replacement, "Put it in quotes.")
    try:
        made, replaced = _replace(expression, str(replacement), to_searchable("regex_replace", value), count)
    except (re.error, IndexError) as error:
        hint = "'\\\\1' is the first group, '\\\\g<name>' a named one; a backslash itself is written twice."
        raise Misuse(f"'regex_replace': the replacement is wrong: {error}", hint) from error
    if mandatory_count and mandatory_count != replaced:
        shown = shorten(repr(str(pattern)))
        raise Misuse(f"'regex_replace': {shown} must match {mandatory_count} times, but matches {replaced} times")
    return made


def regex_search(value: Any, regex: Any, *groups: Any, ignorecase: bool = False, multiline: bool = False) -> Any:
    """What matches first; the list of its `groups` (`'\\1'`, `'\\g<name>'`) if some are named; null if nothing matches."""
    wanted = [_read_group(group) for group in groups]
    expression = compile_pattern("regex_search", regex, ignorecase=ignorecase, multiline=multiline)
    found = _search(expression, to_searchable("regex_search", value))
    if found is None:
        return None
    try:
        return [found[group] for group in wanted] if wanted else found[0]
    except IndexError as error:
        known = [*map(str, range(1, expression.groups + 1)), *expression.groupindex]
        hint = f"Its groups: {', '.join(known)}." if known else "It has no groups: put '(' and ')' around a part."
        raise Misuse("'regex_search' asks for a group that the regular expression has not", hint) from error


def regex_findall(value: Any, regex: Any, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    """All that matches; its groups instead if the pattern has some."""
    expression = compile_pattern("regex_findall", regex, ignorecase=ignorecase, multiline=multiline)
    text = to_searchable("regex_findall", value)
    if _is_watched(text):
        return expression.findall(text)
    return [_parts(found) for found in find_each(expression, text)]


def regex_escape(value: Any, re_type: str = "python") -> str:
    """The text as a regular expression that matches it and nothing else."""
    text = to_searchable("regex_escape", value)
    if re_type == "python":
        return re.escape(text)
    if re_type == "posix_basic":
        return re.sub(r"([].[^$*\\])", r"\\\1", text)
    raise Misuse(
        f"'regex_escape' knows no regular expressions called {shorten(repr(re_type))}", "Known: python, posix_basic."
    )


def is_matching(
    name: str, how: str, value: Any, pattern: Any, *, ignorecase: bool = False, multiline: bool = False
) -> bool:
    """Whether the pattern matches; `how` is `search`, `match` or `fullmatch`. Raises `Misuse`, which names the test."""
    expression = compile_pattern(name, pattern, ignorecase=ignorecase, multiline=multiline)
    text = to_searchable(name, value)
    match how:
        case "search":
            return _search(expression, text) is not None
        case "match":
            return expression.match(text) is not None
        case "fullmatch":
            return expression.fullmatch(text) is not None
    raise Misuse(f"'{name}' knows no match_type {shorten(repr(how))}", "Known: search, match, fullmatch.")


def find_each(expression: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """What `expression.finditer(text)` gives, with a look for signals at each position."""
    position = 0
    while position <= len(text):
        # A scanner knows that an empty match may not come twice at one position; it ends where nothing matches.
        scanner: Any = expression.scanner(text, position)  # type: ignore[attr-defined]
        while (found := scanner.match()) is not None:
            yield found
            position = found.end()
        position += 1


def _is_watched(text: str) -> bool:
    return SEARCHES_LOOK_FOR_SIGNALS or len(text) <= MAX_UNWATCHED_LENGTH


def _search(expression: re.Pattern[str], text: str) -> re.Match[str] | None:
    return expression.search(text) if _is_watched(text) else next(find_each(expression, text), None)


def _replace(expression: re.Pattern[str], replacement: str, text: str, count: int) -> tuple[str, int]:
    if _is_watched(text):
        return expression.subn(replacement, text, count=count)
    expression.sub(replacement, "")  # a replacement that is wrong is an error, whether anything matches or not
    pieces, position, replaced = [], 0, 0
    for found in find_each(expression, text):
        pieces += [text[position : found.start()], found.expand(replacement)]
        position = found.end()
        replaced += 1
        if replaced == count:
            break
    return "".join([*pieces, text[position:]]), replaced


def _parts(found: re.Match[str]) -> Any:
    groups = found.groups("")
    return groups if len(groups) > 1 else groups[0] if groups else found[0]


def _read_group(group: Any) -> int | str:
    found = re.fullmatch(r"\\(?:([0-9]{1,3})|g<([^>]{1,100})>)", group) if isinstance(group, str) else None
    if found is None:
        hint = "'\\\\1' is the first group, '\\\\g<name>' a named one; 'ignorecase=true' is written with its name."
        raise refuse("regex_search", "groups behind the regular expression", group, hint)
    return int(found[1]) if found[1] else found[2]
