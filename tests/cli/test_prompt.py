"""`--step`: somebody is asked before each step."""

from __future__ import annotations

import io
import sys

import pytest

from tests.conftest import Runner

STEPS = [{"name": f"s{number}", "debug": {"msg": "x"}} for number in range(1, 5)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "statuses"),
    [
        ("y\nn\n\ny\n", ["ok", "skipped", "skipped", "ok"]),
        ("n\nwhat\nc\n", ["skipped", "ok", "ok", "ok"]),
        ("YES\n", ["ok", "skipped", "skipped", "skipped"]),
        ("", ["skipped"] * 4),
    ],
)
def test_somebody_decides(runner: Runner, monkeypatch: pytest.MonkeyPatch, typed: str, statuses: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))

    outcome = runner.play(STEPS, "--step")

    assert (outcome.exit_code, outcome.statuses) == (0, statuses)
    assert "Carry out step 1, s1 [(playbook)]?" in outcome.stderr
    assert outcome.report["steps"][statuses.index("skipped")]["message"] == "it was not confirmed"


def test_nobody_is_asked_without_a_terminal(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

    outcome = runner.play(STEPS, "--step")

    assert outcome.exit_code == 64
    assert "--step asks at a terminal" in outcome.stderr
