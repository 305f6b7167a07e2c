"""What may be filled in where the playbook has written a path: proper names, and nothing that leads out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from runner.playbook.provenance import Part, parts_of
from runner.playbook.validation import show

# The inputs, and keys of the playbook, that are paths, on either side.
PATH_KEYS = frozenset(
    (
        *("source_file_name", "destination_file_name", "source_directory_name", "destination_directory_name"),
        *("path", "source_path", "destination_path", "temporary_directory", "target"),
        *("ssh_key_file", "certificate_file", "known_hosts_file", "ssh_config", "workdir"),
        *("vars_files", "include_steps"),
    )
)

# Patterns of paths. What is empty in one widens it: '{{ app }}/**' is '/**' then, and 'delete' goes by it.
PATTERN_KEYS = frozenset(("include", "exclude"))

TRUST_HINT = (
    "Behind what the playbook has written, values from outside may add names only: no '..', no '.', no '//' and no '/' at "
    "an end. If it is meant, say so: {{ … | trusted_path }}."
)
# Windows takes '\' for a slash, and drops blanks and dots at a name's end: there 'srv/ ' and 'srv/...' are 'srv'.
_BETWEEN_BACKSLASHES = re.compile(r"[^\\]+")
EMPTY_HINT = "Give it a value, or say what to take in its place: {{ … | default('…', true) }}."


class PathFault(NamedTuple):
    """Why a path is refused, as the end of a sentence that begins with the key; and what to do."""

    message: str
    hint: str


class _Span(NamedTuple):
    """A part at its place in the path, up to before `end`. `is_first`: nothing written stands before it."""

    part: Part
    start: int
    end: int
    is_first: bool


def find_path_fault(path: str) -> PathFault | None:
    """What is wrong with the way a path was filled in; None if nothing is.

    What comes from outside must not bring an empty name, `.` or `..` behind what is written, nor end in the middle of one;
    nor what is one of them on a server that is Windows.
    At the beginning, with nothing written before it, it may be any path. Nothing that is filled in may be empty where that
    leaves an empty name, or makes an absolute path of the rest.
    """
    parts = parts_of(path)
    if not any(part.source for part in parts):
        return None
    spans = list(_place(parts))
    for name, start, end in _split(path):
        if not _is_nothing(name):
            continue
        for span in spans:
            if fault := _find_fault(span, name, start, end, len(path)):
                return fault
    return None


def find_pattern_fault(pattern: str) -> PathFault | None:
    """What is wrong with the way a pattern was filled in: something empty leaves an empty name, or only the root."""
    empty = [span for span in _place(parts_of(pattern)) if span.part.source and not span.part.text.strip()]
    for name, start, end in _split(pattern):
        for span in empty if not name.strip() else ():
            if fault := _find_empty(span, name, start, end, len(pattern)):
                return fault
    return None


def _is_nothing(name: str) -> bool:
    """Whether it is no name at all on some server: empty, or of dots and blanks alone."""
    return not name.replace(".", "").strip()


def _place(parts: tuple[Part, ...]) -> Iterator[_Span]:
    at, is_first = 0, True
    for part in parts:
        yield _Span(part, at, at + len(part.text), is_first)
        at += len(part.text)
        is_first = is_first and ((part.is_outside and not part.is_mixed) or not part.text)


def _split(path: str) -> Iterator[tuple[str, int, int]]:
    """The names between the slashes, those between backslashes in them, and where they stand."""
    at = 0
    for name in path.split("/"):
        yield name, at, at + len(name)
        if "\\" in name:
            yield from ((one[0], at + one.start(), at + one.end()) for one in _BETWEEN_BACKSLASHES.finditer(name))
        at += len(name) + 1


def _find_fault(span: _Span, name: str, start: int, end: int, length: int) -> PathFault | None:
    """What is wrong with a name that is none, as far as this part has to do with it."""
    part = span.part
    if not part.source:
        return None
    if not part.text.strip() and name.strip() in ("", ".", ".."):
        return _find_empty(span, name, start, end, length)
    # The slashes on both sides make the name as well.
    has_share = max(span.start, start - 1) < min(span.end, end + 1)
    if not part.is_outside or not has_share or (span.is_first and not part.is_mixed):
        return None
    is_beginning = start == 0 and not name
    if is_beginning and part.is_rooted:
        return None
    brought = "a '/' at its beginning" if is_beginning else f"'{name}'" if name else "an empty name"
    return PathFault(f"{part.source} brings {brought} into it", TRUST_HINT)


def _find_empty(span: _Span, name: str, start: int, end: int, length: int) -> PathFault | None:
    if not length or not start <= span.start <= end:
        return None
    left = f"which leaves {show(name) if name.strip() else 'an empty name'} in it"
    if not name and not start:
        left = "which makes an absolute path of the rest"
    return PathFault(f"{span.part.source} is empty, {left}", EMPTY_HINT)
