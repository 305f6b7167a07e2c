"""Loading a playbook from text, and its problems as `line:column message`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.errors import PlaybookInvalid
from runner.playbook.build import load_play
from runner.problems import Problem
from runner.program import Play


class Loader:
    """Loads playbooks that lie in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[Problem] = []

    def __call__(self, text: str, *, extra_vars: dict[str, Any] | None = None, workdir: str | None = None) -> Play:
        path = self.folder / "play.yaml"
        path.write_text(text, encoding="utf-8")
        return load_play(str(path), extra_vars=extra_vars, workdir=workdir, warn=self.warnings.append)

    def find_problems(self, text: str, *, extra_vars: dict[str, Any] | None = None) -> list[Problem]:
        """All problems of a playbook that must have some."""
        with pytest.raises(PlaybookInvalid) as caught:
            self(text, extra_vars=extra_vars)
        return list(caught.value.problems)

    def find_problem(self, text: str, *, extra_vars: dict[str, Any] | None = None) -> Problem:
        """The one problem of a playbook that must have one."""
        problems = self.find_problems(text, extra_vars=extra_vars)
        assert len(problems) == 1, problems
        return problems[0]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def tell(problem: Problem) -> str:
    """A problem without its file and hint: `line:column message`."""
    return f"{problem.location.line}:{problem.location.column} {problem.message}"
