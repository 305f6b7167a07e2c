"""Order, loops, blocks: random programs end as a small model says, in a play and with --check."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.conftest import Outcome, Runner

PROGRAMS = 60
MAX_DEPTH = 3


class Model:
    """Ten lines for each thing that a program can do; nothing of the runner's is used."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.is_over = False

    def play(self, nodes: list[dict[str, Any]]) -> bool:
        """What is seen of a program; whether it failed."""
        failed = False
        for node in nodes:
            if self.is_over:
                self.skip([node])
            elif self.do(node):
                failed = self.is_over = True
        return failed

    def do(self, node: dict[str, Any]) -> bool:
        if "block" in node:
            return any(self.do_block(node) for _ in node.get("loop", [0])[:1]) or self.do_rest(node)
        statuses = [self.do_step(node, item) for item in node.get("loop", [None])]
        return "failed" in statuses and not node.get("ignore_errors", False)

    def do_rest(self, node: dict[str, Any]) -> bool:
        return any(self.do_block(node) for _ in node.get("loop", [0])[1:])

    def do_block(self, node: dict[str, Any]) -> bool:
        failed = self.do_all(node["block"])
        if failed and "rescue" in node:
            failed = self.do_all(node["rescue"])
        return self.do_all(node.get("always", [])) or failed

    def do_all(self, nodes: list[dict[str, Any]]) -> bool:
        for position, node in enumerate(nodes):
            if self.do(node):
                self.skip(nodes[position + 1 :])
                return True
        return False

    def do_step(self, node: dict[str, Any], item: Any) -> str:
        if not all(condition.format(item=item) != "false" for condition in node["_conditions"]):
            status = "skipped"
        else:
            status = "failed" if "fail" in node or item == "bad" else "ok"
        self.seen.append((node["name"], status))
        return status

    def skip(self, nodes: list[dict[str, Any]]) -> None:
        for node in nodes:
            if "block" in node:
                self.skip([*node["block"], *node.get("always", [])])
            else:
                self.seen.append((node["name"], "skipped"))


class Writer:
    """Writes random programs."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._count = 0

    def write(self, depth: int = 0, most: int = 4) -> list[dict[str, Any]]:
        return [self._write_one(depth) for _ in range(self._chance.randint(1, most))]

    def _write_one(self, depth: int) -> dict[str, Any]:
        chance = self._chance
        if depth < MAX_DEPTH and chance.random() < 0.4:
            node: dict[str, Any] = {"block": self.write(depth + 1)}
            for part in ("rescue", "always"):
                if chance.random() < 0.5:
                    node[part] = self.write(depth + 1, 2)
            if chance.random() < 0.2:
                node["loop"] = [1, 2][: chance.randint(1, 2)]
                node["loop_control"] = {"loop_var": f"outer{depth}"}
            return node
        self._count += 1
        node = {"name": f"s{self._count}", "_conditions": []}
        if chance.random() < 0.25:
            node["fail"] = {"msg": "as it should"}
        elif chance.random() < 0.3:
            node["loop"] = chance.choices(["good", "bad"], weights=[4, 1], k=chance.randint(0, 3))
            node["assert"] = {"that": "item != 'bad'"}
        else:
            node["debug"] = {"msg": "here"}
        if chance.random() < 0.2:
            node["ignore_errors"] = True
        if chance.random() < 0.2:
            node["when"] = node["_conditions"] = chance.choice((["false"], ["true"], ["true", "false"]))
        return node


def strip(node: Any) -> Any:
    """The program without what is there for the model only."""
    if isinstance(node, dict):
        return {key: strip(value) for key, value in node.items() if key != "_conditions"}
    return [strip(item) for item in node] if isinstance(node, list) else node


def seen(outcome: Outcome) -> list[tuple[str, str]]:
    return [(step["name"], step["status"]) for step in outcome.report["steps"]]


@pytest.mark.parametrize("is_check", [False, True], ids=["play", "check"])
def test_random_programs_end_as_the_model_says(runner: Runner, is_check: bool) -> None:
    for seed in range(PROGRAMS):
        program = Writer(seed).write(most=6)
        model = Model()
        failed = model.play(program)

        outcome = runner.play({"steps": strip(program)}, *(["--check"] if is_check else []))

        assert seen(outcome) == model.seen, json.dumps(strip(program), indent=1)
        assert outcome.exit_code == (2 if failed else 0), json.dumps(strip(program), indent=1)


def say(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "debug": {"msg": name}, **more}


def fail(name: str = "failing", **more: Any) -> dict[str, Any]:
    return {"name": name, "fail": {"msg": "no"}, **more}


def test_a_failed_item_leads_to_the_rescue_when_all_items_have_been_tried(runner: Runner) -> None:
    step = {"name": "each", "assert": {"that": "item < 2"}, "loop": [1, 2, 3]}
    block = {"block": [step, say("next")], "rescue": [say("rescue")], "always": [say("always")]}

    outcome = runner.play([block, say("after")])

    assert seen(outcome) == [
        *(("each", "ok"), ("each", "failed"), ("each", "failed"), ("next", "skipped")),
        *(("rescue", "ok"), ("always", "ok"), ("after", "ok")),
    ]
    assert outcome.exit_code == 0
    assert [step.get("rescued") for step in outcome.report["steps"][:3]] == [None, True, True]
    assert outcome.report["recap"]["(playbook)"] == {
        "ok": 4,
        "changed": 0,
        "skipped": 1,
        "failed": 0,
        "unreachable": 0,
        "rescued": 2,
        "ignored": 0,
    }


def test_a_rescue_that_fails_is_a_failure_and_always_has_its_turn(runner: Runner) -> None:
    block = {"block": [fail("first")], "rescue": [fail("second"), say("not this")], "always": [say("always")]}

    outcome = runner.play([block, say("after")])

    assert seen(outcome) == [
        *(("first", "failed"), ("second", "failed"), ("not this", "skipped"), ("always", "ok"), ("after", "skipped")),
    ]
    assert outcome.exit_code == 2
    assert all("rescued" not in step for step in outcome.report["steps"])


def test_rescue_and_always_know_what_failed(runner: Runner) -> None:
    show = (
        "{{ failed_step.name }} {{ failed_step.error.type }} {{ failed_step.error.message }} {{ failed_step.location }}"
    )
    block = {
        "block": [fail("first")],
        "rescue": [say("r", debug={"msg": show})],
        "always": [say("a", debug={"msg": show})],
    }

    outcome = runner.play([block])

    location = outcome.report["steps"][0]["location"]
    place = f"{location['file']}:{location['line']}:{location['column']}"
    assert [step["message"] for step in outcome.report["steps"][1:]] == [f"first ConditionFailed no {place}"] * 2


def test_without_a_failure_nothing_of_the_rescue_is_mentioned(runner: Runner) -> None:
    outcome = runner.play([{"block": [say("a")], "rescue": [say("b")], "always": [say("c")]}])

    assert seen(outcome) == [("a", "ok"), ("c", "ok")]


def test_a_loop_around_a_block_ends_with_the_first_iteration_that_fails(runner: Runner) -> None:
    block = {
        "block": [say("a", debug={"msg": "{{ n }}"}), {"name": "b", "assert": {"that": "n != 2"}}],
        "loop": [1, 2, 3],
        "loop_control": {"loop_var": "n"},
    }

    outcome = runner.play([block])

    assert seen(outcome) == [("a", "ok"), ("b", "ok"), ("a", "ok"), ("b", "failed")]
    assert [step["message"] for step in outcome.report["steps"]][::2] == ["1", "2"]


def test_loops_in_loops_see_both_items(runner: Runner) -> None:
    inner = {"debug": {"msg": "{{ outer }}{{ item }}"}, "loop": ["{{ outer }}", "x"]}
    outcome = runner.play([{"block": [inner], "loop": [1, 2], "loop_control": {"loop_var": "outer"}}])

    assert [step["message"] for step in outcome.report["steps"]] == ["11", "1x", "22", "2x"]


def test_what_a_loop_tells_about_itself(runner: Runner) -> None:
    control = {"extended": True, "index_var": "number", "label": "<{{ item }}>"}
    text = "{{ number }} {{ loop.index }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.previtem }}"

    outcome = runner.play([{"debug": {"msg": text}, "loop": ["a", "b"], "loop_control": control}])

    assert [step["message"] for step in outcome.report["steps"]] == ["0 1 True False 2 ", "1 2 False True 2 a"]
    assert [step["item"] for step in outcome.report["steps"]] == ["<a>", "<b>"]


def test_an_empty_loop_does_nothing_and_is_skipped(runner: Runner) -> None:
    outcome = runner.play(
        [say("each", loop=[], register="r"), say("after", debug={"msg": "{{ r.skipped }} {{ r.results }}"})]
    )

    assert seen(outcome) == [("after", "ok")]
    assert outcome.report["steps"][0]["message"] == "True []"
