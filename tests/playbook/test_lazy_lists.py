"""A list whose items are made when they are asked for is a list for every template."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.operation_results import Listing
from runner.playbook.lazy_lists import LazyList
from runner.playbook.provenance import Origin, find_outside, find_parts, mark_outside, origin_of, parts_of
from runner.playbook.registered import describe_result
from runner.playbook.templating import Templates
from runner.playbook.vault_password import Vault
from runner.problems import Location
from runner.program import Data
from runner.redaction import Redactor
from runner.results import Entry, StepResult

HERE = Location("play.yaml", 1, 1)
ENTRIES = (
    Entry("in/a", "file", 10, 0o640, 1_500_000_000),
    Entry("in/b", "file", 0, None, None),
    Entry("in/c", "link", None, 0o777, 2**60, "../a"),
)


def registered(entries: tuple[Entry, ...] = ENTRIES) -> Any:
    """What `register` keeps of a listing of `in`."""
    step: Any = SimpleNamespace(index=1, name="list", location=HERE, mode=SimpleNamespace(places=()))
    output = Listing(message="", path="in", entries=entries)
    return describe_result(StepResult(step, "ok", datetime.now(UTC), 0.0, "", output=output))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("r.result.entries | length", 3),
        ("r.result.entries[0].path", "in/a"),
        ("r.result.entries[-1].target", "../a"),
        ("r.result.entries[1:] | map(attribute='path') | list", ["in/b", "in/c"]),
        ("r.result.entries | selectattr('type', 'equalto', 'file') | list | length", 2),
        ("r.result.entries | map(attribute='size_bytes') | select | sum", 10),
        ("(r.result.entries | first).permissions", "0640"),
        ("(r.result.entries | last).permissions", "0777"),
        (
            "r.result.entries | sort(attribute='path', reverse=true) | map(attribute='path') | join(',')",
            "in/c,in/b,in/a",
        ),
        ("(r.result.entries + [1]) | length", 4),
        ("([1] + r.result.entries) | length", 4),
        ("r.result.entries == r.result.entries | list", True),
        ("r.result.entries is iterable and r.result.entries is sequence", True),
        ("r.result.entries[0] in r.result.entries", True),
        ("r.result.entries is contains(r.result.entries[0])", True),
        ("[[1], r.result.entries] | flatten(levels=1) | length", 4),
        ("r.result.entries | union(r.result.entries) | length", 3),
        ("r.result.entries | to_json | from_json | length", 3),
        ("r.result | to_json | from_json == r.result", True),
        ("r.result.entries | to_yaml | from_yaml == r.result.entries", True),
        ("{'a': [1]} | combine({'a': r.result.entries}, list_merge='append') | length", 1),
        ("r.result.entries[0].modified_at", "2017-07-14T02:40:00+00:00"),
        ("[r.result.entries[1].modified_at, r.result.entries[2].modified_at]", [None, None]),
        ("r.result.entries | string | length > 10", True),
    ],
)
def test_a_template_takes_it_for_a_list(tmp_path: Path, expression: str, value: Any) -> None:
    templates = Templates(tmp_path, Vault(None, Redactor()), runs_commands=False)

    assert templates.evaluate(expression, HERE, {"r": (Data(registered()), HERE)}) == value


def test_it_comes_out_as_the_data_that_yaml_gives(tmp_path: Path) -> None:
    templates = Templates(tmp_path, Vault(None, Redactor()), runs_commands=False)
    scope = {"r": (Data(registered()), HERE)}

    found = templates.render("{{ r.result.entries }}", HERE, scope)

    assert isinstance(found, list)
    assert [one["path"] for one in found] == ["in/a", "in/b", "in/c"]
    raw = templates.render_raw("{{ r.result.entries }}", HERE, scope)
    assert isinstance(raw, LazyList)
    assert list(raw) == found


def test_its_items_are_known_to_come_from_the_server() -> None:
    entries = registered()["result"]["entries"]

    assert origin_of(find_outside(entries)) is Origin.SERVER
    assert len(list(find_parts(entries))) == 1, "no item is made for it"
    assert mark_outside(entries, "somebody else") is entries
    for one in (entries[0]["path"], entries[0]["permissions"], entries[0]["modified_at"], entries[2]["target"]):
        (part,) = parts_of(one)
        assert part.is_outside
        assert origin_of(part.source) is Origin.SERVER


def test_a_long_list_takes_no_memory_for_its_items() -> None:
    made: list[int] = []

    def make(position: int) -> int:
        made.append(position)
        return position

    long = LazyList(10**9, make, "the server")

    assert len(long) == 10**9
    assert long[5] == 5
    assert long[10**9 - 2 :] == [10**9 - 2, 10**9 - 1]
    assert made == [5, 10**9 - 2, 10**9 - 1]
    with pytest.raises(IndexError):
        long[10**9]
