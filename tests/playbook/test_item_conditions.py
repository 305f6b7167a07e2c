"""The `when` of many items judged at once says what it says of each; and a long loop that skips costs little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.events import Event, ItemsSkipped
from runner.playbook.item_conditions import ITEMS_AT_ONCE, ItemsLeftOut
from runner.playbook.language import PlaybookLanguage
from runner.playbook.limits import TimeIsUp
from runner.report.console import MAX_SKIPPED_ITEMS, Console
from tests.bench import meter
from tests.conftest import Outcome, Runner

MIB = 1024 * 1024
MANY = 2 * ITEMS_AT_ONCE + 7
NUMBERS = list(range(MANY))
FILES = [{"path": f"in/{number}.csv", "size_bytes": number % 3} for number in range(40)]
ODD: list[Any] = [0, 0, 0, "text", 0, None, {"a": 1}, 0, 0, True, False, 0]


def play_both(runner: Runner, monkeypatch: pytest.MonkeyPatch, *steps: dict[str, Any], **more: Any) -> list[Outcome]:
    """The same playbook, many items judged at once where they can be, and each by itself."""
    options = more.pop("options", ())
    at_once = runner.play({"steps": list(steps), **more}, *options)
    with monkeypatch.context() as patched:
        patched.setattr(PlaybookLanguage, "find_left_out", lambda *given: lambda position: 0)
        one_by_one = runner.play({"steps": list(steps), **more}, *options)
    return [at_once, one_by_one]


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    steps = [{key: value for key, value in step.items() if "_at" not in key} for step in report["steps"]]
    for step in steps:
        step["duration_seconds"] = 0
    return {"steps": steps, "recap": report["recap"], "status": report["status"]}


def count_omissions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items were skipped at once, each time."""
    counts: list[int] = []
    see = Console.__call__

    def watch(self: Console, event: Event) -> None:
        if isinstance(event, ItemsSkipped):
            counts.append(len(event.results))
        see(self, event)

    monkeypatch.setattr(Console, "__call__", watch)
    return counts


SAY = {"debug": {"msg": "{{ item }}"}, "loop": ODD}
# A step, and whether its items are judged at once.
STEPS: list[tuple[dict[str, Any], bool]] = [
    ({**SAY, "loop": NUMBERS, "when": "item < 0"}, True),
    ({**SAY, "loop": NUMBERS, "when": "item == 1030 or item % 700 == 3"}, True),
    ({**SAY, "loop": NUMBERS[:30], "when": ["item > 3", "item > 9 or item == 5", "item != 12"]}, True),
    ({**SAY, "loop": FILES, "when": "item.size_bytes > 1"}, True),
    ({**SAY, "loop": FILES, "when": "item.path.endswith('7.csv')"}, True),
    ({**SAY, "loop": FILES, "when": "item.path | basename is match('^1')"}, True),
    ({**SAY, "loop": FILES, "when": ["item.nothing is defined", "item.nothing > 3"]}, True),
    ({**SAY, "loop": FILES, "when": "item.size_bytes > least"}, True),
    ({**SAY, "loop": FILES, "when": "item.size_bytes in wanted"}, False),
    ({**SAY, "loop": NUMBERS[:20], "when": "item > from_outside | int"}, True),
    ({**SAY, "when": "item"}, False),
    ({**SAY, "when": "item == 0"}, True),
    ({**SAY, "when": "item != 0"}, True),
    ({**SAY, "when": "item is mapping and item.b > 2"}, True),
    ({**SAY, "when": "item.b > 2"}, False),
    ({**SAY, "when": "false"}, True),
    ({**SAY, "when": False}, False),
    ({**SAY, "when": ["item is number", "item is sameas false"]}, True),
    # What differs from item to item besides the item.
    ({**SAY, "when": "own > 2", "vars": {"own": "{{ item }}"}, "loop": NUMBERS[:9]}, False),
    ({**SAY, "when": "at > 3", "loop_control": {"index_var": "at"}}, False),
    ({**SAY, "when": "loop.last", "loop_control": {"extended": True}}, False),
    ({**SAY, "when": "item is mapping", "loop_control": {"label": "no. {{ item }}"}}, False),
    ({**SAY, "when": "one is mapping", "loop_control": {"loop_var": "one"}, "debug": {"msg": "x"}}, True),
    # What does not give the same for the same value, or looks something up.
    ({**SAY, "when": "'play.yaml' is exists and item is mapping"}, False),
    ({**SAY, "when": "lookup('env', 'HOME') == '' and item is mapping"}, False),
    ({**SAY, "when": "[item] | map('string') | select('exists') | list | length > 0"}, False),
    ({**SAY, "when": "now().year < 2000 and item is mapping"}, False),
    # What is registered.
    ({**SAY, "loop": FILES, "when": "item.size_bytes > 1", "register": "r"}, True),
    ({"set_fact": {"big": "{{ item.path }}"}, "loop": FILES, "when": "item.size_bytes > 1"}, True),
]
TELL = [
    {"debug": {"msg": "{{ big | default('none') }}"}},
    {"debug": {"msg": "{{ (r.results | map(attribute='status') | list, r.skipped, r.changed) if r else 0 }}"}},
    {"debug": {"msg": "{{ r.results[-1].item if r else 0 }}: {{ r.results[0].message if r else 0 }}"}},
]


@pytest.mark.parametrize(("step", "is_at_once"), STEPS, ids=[str(step["when"]) for step, _ in STEPS])
def test_judged_at_once_or_not_the_report_is_the_same(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, step: dict[str, Any], is_at_once: bool
) -> None:
    counts = count_omissions(monkeypatch)
    variables = {"least": 1, "wanted": [2, "{{ least }}"], "r": False}
    # What is known before the play is looked at then, item by item.
    steps = ({"set_fact": {"every": step["loop"]}}, {**step, "loop": "{{ every }}", "ignore_errors": True}, *TELL)

    at_once, one_by_one = play_both(runner, monkeypatch, *steps, vars=variables, options=("-e", "from_outside=7"))

    assert at_once.report["steps"]
    assert without_times(at_once.report) == without_times(one_by_one.report)
    assert at_once.exit_code == one_by_one.exit_code
    assert bool(counts) == is_at_once


def test_a_name_that_wins_over_the_item_is_what_counts(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"debug": {"msg": "x"}, "loop": NUMBERS[:9], "when": "item != 'mine'"}

    at_once, one_by_one = play_both(runner, monkeypatch, step, vars={"item": 0}, options=("-e", "item=mine"))

    assert at_once.statuses == one_by_one.statuses == ["skipped"] * 9


def test_of_many_skipped_items_the_console_shows_some(runner: Runner) -> None:
    outcome = runner.play([{"debug": {"msg": "x"}, "loop": NUMBERS, "when": "item < 0"}])

    lines = [line for line in outcome.stdout.splitlines() if line.startswith("skipped")]
    assert len(lines) == MAX_SKIPPED_ITEMS
    assert lines[7].endswith("(7)  when: item < 0 (item = 7)")
    assert (
        f"and {MANY - MAX_SKIPPED_ITEMS:,} more items were skipped, which the report of --json holds" in outcome.stdout
    )
    assert f"skipped={MANY}" in outcome.stdout
    assert [step["item"] for step in outcome.report["steps"]] == [str(number) for number in NUMBERS]


def test_what_takes_long_is_not_done_at_once() -> None:
    asked: list[int] = []

    def judge(items: Any) -> str:
        asked.append(len(items))
        raise TimeIsUp

    left_out = ItemsLeftOut(NUMBERS, judge)

    assert [left_out.count_from(position) for position in range(5)] == [0] * 5
    assert asked == [ITEMS_AT_ONCE]


def test_each_item_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def judge(items: Any) -> str:
        asked.extend(items)
        return "".join("1" if number % 100 == 99 else "0" for number in items)

    left_out, position, runs = ItemsLeftOut(NUMBERS, judge), 0, []
    while position < MANY:
        runs.append(left_out.count_from(position))
        position += max(runs[-1], 1)

    assert asked == NUMBERS
    assert runs == [99, 0] * 10 + [MANY - 1000]


def test_a_loop_over_200_000_items_that_skips_them_takes_little_memory_and_time(tmp_path: Path) -> None:
    playbook, report = tmp_path / "play.json", tmp_path / "meter.json"
    half = "range(100000) | list"
    fact = {"set_fact": {"every": f"{{{{ ({half}) + ({half}) }}}}"}}
    step = {"debug": {"msg": "x"}, "loop": "{{ every }}", "when": "item < 0", "register": "r"}
    say = {"debug": {"msg": "{{ r.results | length }} {{ r.results[199999].skipped }}"}}
    playbook.write_text(json.dumps([fact, step, say]), encoding="utf-8")
    command = [sys.executable, "-m", "runner", "play", str(playbook)]

    subprocess.run([sys.executable, "-I", "-S", meter.__file__, str(report), *command], check=True, cwd=tmp_path)

    cost = json.loads(report.read_text(encoding="ascii"))
    assert cost["exit_code"] == 0
    # It takes 55 MiB and 1 s; a result of each would take a kilobyte and a tenth of a millisecond.
    assert cost["peak_bytes"] < 110 * MIB
    assert cost["cpu_seconds"] < 10
