"""The table against ansible-core itself, where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.playbook.filters.strangers import KINDS
from runner.playbook.lookups import LOOKUP_OPTIONS
from tests.playbook.filters.ansible import find_differences, find_names, find_program, find_version
from tests.playbook.filters.evaluation import make_templates

# The one that the table was made with: others may have changed their mind.
TABLE_VERSION = (2, 19)


@pytest.fixture(scope="module")
def program() -> Path:
    found = find_program()
    assert found is not None, "ansible-core is not installed"
    if find_version(found)[:2] != TABLE_VERSION:
        pytest.skip("the table was made with another ansible-core")
    return found


def test_ansible_gives_what_the_table_says(program: Path, tmp_path: Path) -> None:
    assert find_differences(program, tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_ansible_is_known(program: Path, kind: str, tmp_path: Path) -> None:
    """It is here, or there is a hint what to write in its place."""
    environment = make_templates(tmp_path)._environment
    known = {"filter": environment.filters, "test": environment.tests, "lookup": LOOKUP_OPTIONS}[kind]

    assert find_names(program, kind, tmp_path) - known.keys() - KINDS[kind].keys() == set()
