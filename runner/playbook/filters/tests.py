"""Tests: what stands behind `is`, and in `select(…)`."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner.playbook.filters.misuse import Misuse, describe, need_text, refuse
from runner.playbook.filters.patterns import is_matching
from runner.playbook.lazy_lists import LISTS


def match(value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False) -> bool:
    """Whether the pattern matches at the beginning of the text."""
    return is_matching("match", "match", value, pattern, ignorecase=ignorecase, multiline=multiline)


def search(value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False) -> bool:
    """Whether the pattern matches somewhere in the text."""
    return is_matching("search", "search", value, pattern, ignorecase=ignorecase, multiline=multiline)


def regex(
    value: Any, pattern: Any = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search"
) -> bool:
    """Whether the pattern matches, in the way that `match_type` says."""
    return is_matching("regex", match_type, value, pattern, ignorecase=ignorecase, multiline=multiline)


def contains(container: Any, value: Any) -> bool:
    """Whether the list, the text or the mapping's keys have the value: `in`, the other way round."""
    if not isinstance(container, (str, *LISTS, Mapping, range, set)):
        raise refuse("contains", "a list, a text or a mapping before it", container)
    if isinstance(container, str):
        return need_text(value, "contains") in container
    try:
        return value in container
    except TypeError as error:
        raise Misuse(f"'contains': a mapping cannot have {describe(value)} as a key") from error


def changed(result: Any) -> bool:
    """Whether a registered step, or one of its items, changed something."""
    items = _need_result("changed", result).get("results")
    if "changed" not in result and isinstance(items, LISTS):
        return any(isinstance(item, Mapping) and bool(item.get("changed")) for item in items)
    return bool(result.get("changed"))


def failed(result: Any) -> bool:
    """Whether a registered step failed."""
    return bool(_need_result("failed", result).get("failed"))


def skipped(result: Any) -> bool:
    """Whether a registered step was skipped."""
    return bool(_need_result("skipped", result).get("skipped"))


def unreachable(result: Any) -> bool:
    """Whether the host of a registered step could not be reached."""
    return bool(_need_result("unreachable", result).get("unreachable"))


def succeeded(result: Any) -> bool:
    """Whether a registered step neither failed nor found its host unreachable."""
    found = _need_result("succeeded", result)
    return not found.get("failed") and not found.get("unreachable")


def _need_result(name: str, result: Any) -> Mapping[Any, Any]:
    if not isinstance(result, Mapping):
        hint = "Write the name that stands behind 'register', without anything behind it."
        raise refuse(name, "the registered result of a step", result, hint)
    unknown = getattr(result, "unknown", "")
    if unknown:
        raise Misuse(f"'{name}': {unknown}")
    return result


def make_file_tests(folder: Path) -> dict[str, Callable[..., bool]]:
    """The tests that look at this machine's files. A relative path starts at `folder`, `~` is the user's home."""

    def look(name: str, holds: Callable[[str], bool]) -> Callable[[Any], bool]:
        def test(path: Any) -> bool:
            wanted = need_text(path, name)
            # An empty path is none, not the folder itself.
            return bool(wanted) and holds(os.path.join(folder, os.path.expanduser(str(wanted))))

        return test

    return {
        "file": look("file", os.path.isfile),
        "directory": look("directory", os.path.isdir),
        "exists": look("exists", os.path.exists),
    }
