"""Patterns mean the same for every name that a disk takes."""

from __future__ import annotations

import pytest

from runner.transfer.filters import Filter


@pytest.mark.parametrize("folder", ["plain", "new\nline", "\n", "a\n\nb", "end\n"])
def test_a_newline_in_a_name_gets_nothing_past_a_pattern(folder: str) -> None:
    """What is excluded is neither copied nor removed."""
    patterns = Filter((), ("*.key", "/new\nline/cache/", "secret"))

    for path in (f"{folder}/a.key", f"{folder}/secret", f"{folder}/secret/below", f"x/{folder}/a.key"):
        assert patterns.excludes(path, is_folder=False), path
    assert patterns.excludes("new\nline/cache", is_folder=True)
    assert not patterns.excludes(f"{folder}/a.txt", is_folder=False)
    assert Filter(("*.csv",), ()).admits(f"{folder}/a.csv", is_folder=False)
    assert not Filter(("*.csv",), ()).admits(f"{folder}/a.csv.txt", is_folder=False)
