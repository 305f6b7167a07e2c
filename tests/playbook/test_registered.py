"""What a registered value has is known before the play: the table of fields is held to what the modes give."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from runner import operation_results
from runner.playbook.registered import RESULT_FIELDS, describe_loop, shape_of, why_absent
from runner.playbook.validation import mode_names
from runner.results import CopyResult, Entry

ENTRY = Entry("a", "link", 1, 0o644, None, "b")
GIVEN: dict[str, Any] = {
    "message": "",
    "path": "p",
    "entries": (ENTRY,),
    "entry": ENTRY,
    "removed": 1,
    "source": "s",
    "destination": "d",
    "created": (),
    "content": "",
    "encoding": "utf-8",
    "sha256": "",
    "target": "t",
    "state": "present",
    "met": True,
    "waited_seconds": 1.0,
    "size_bytes": 1,
}
OUTPUTS = {
    "list": operation_results.Listing,
    "stats": operation_results.Stats,
    "remove": operation_results.Removal,
    "rename": operation_results.Renaming,
    "create_directory": operation_results.FolderCreation,
    "read_file": operation_results.Reading,
    "create_link": operation_results.LinkCreation,
    "wait_for": operation_results.Wait,
}
COPIES = [name for name in RESULT_FIELDS if name.startswith("copy_") or name == "write_file"]


@pytest.mark.parametrize("mode_name", OUTPUTS)
def test_the_fields_are_those_of_the_mode_s_output(mode_name: str) -> None:
    kind: Any = OUTPUTS[mode_name]
    wanted = inspect.signature(kind).parameters
    output = kind(**{key: value for key, value in GIVEN.items() if key in wanted})

    assert set(RESULT_FIELDS[mode_name]) == set(output.facts())


@pytest.mark.parametrize("mode_name", COPIES)
def test_the_fields_of_a_copy_are_those_of_its_output(mode_name: str) -> None:
    output = CopyResult("s", "d", 1, 1, 1, "", asks_durable=True)

    assert set(RESULT_FIELDS[mode_name]) == set(output.facts())


def test_every_mode_is_in_the_table() -> None:
    assert mode_names() <= RESULT_FIELDS.keys()
    assert mode_names() == {*OUTPUTS, *COPIES}


def test_of_an_unknown_mode_anything_may_be_asked() -> None:
    assert shape_of("", is_loop=False)["result"] is None


def test_a_loop_says_where_its_results_are() -> None:
    reason, _ = why_absent(describe_loop([], []), "result") or ("", "")
    assert "'.results'" in reason
