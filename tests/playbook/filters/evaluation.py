"""Expressions filled in as those of a playbook are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.playbook.templating import COMMAND_LINE, TemplateProblem, Templates
from runner.playbook.vault_password import Vault
from runner.problems import Location, Problem
from runner.redaction import Redactor

PLACE = Location("play.yaml", 7, 3)


def make_templates(folder: Path) -> Templates:
    """The templates of a playbook in this folder. Commands are not run."""
    return Templates(folder, Vault(None, Redactor([])), runs_commands=False)


def evaluate(expression: str, variables: Mapping[str, Any], folder: Path = Path("/")) -> Any:
    """What comes of the expression. Raises `TemplateProblem`."""
    scope = {name: (value, PLACE) for name, value in variables.items()}
    return make_templates(folder).render(f"{{{{ {expression} }}}}", PLACE, scope)


def evaluate_data(expression: str, variables: Mapping[str, Any]) -> Any:
    """What comes of the expression with variables that are taken literally, whatever they look like."""
    scope = {name: (value, COMMAND_LINE) for name, value in variables.items()}
    return make_templates(Path("/")).render(f"{{{{ {expression} }}}}", PLACE, scope)


def to_plain(value: Any) -> Any:
    """The value as JSON gives it back: without positions, and with lists for tuples."""
    return json.loads(json.dumps(value))


def find_problem(expression: str, variables: Mapping[str, Any], folder: Path = Path("/")) -> Problem:
    """The one problem of an expression that must have one."""
    try:
        found = evaluate(expression, variables, folder)
    except TemplateProblem as error:
        assert len(error.problems) == 1, error.problems
        return error.problems[0]
    raise AssertionError(f"{expression} gives {found!r}")
