"""`--step`: asks at the terminal before each step."""

from __future__ import annotations

import sys

from runner.errors import UsageError
from runner.plan import ControlStep, Step
from runner.redaction import Redactor
from runner.report.text import printable

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


class Prompt:
    """Asks until somebody says that the rest is to be carried out without. Raises `UsageError` where nobody can answer."""

    def __init__(self, redactor: Redactor) -> None:
        if not sys.stdin.isatty():
            raise UsageError("--step asks at a terminal, and there is none", hint="Leave it out in scripts and in CI.")
        self._redactor = redactor
        self._is_over = False

    def ask(self, step: Step | ControlStep, label: str | None) -> bool:
        """Whether the step is to be carried out. The end of the input is a no to everything that follows."""
        item = "" if label is None else f" ({label})"
        what = f"step {step.index}, {step.name} [{step.host_label}]{item}"
        text = f"Carry out {what}? (y)es, (N)o, (c)ontinue without asking: "
        while not self._is_over:
            sys.stderr.write(self._redactor.redact(printable(text)))
            sys.stderr.flush()
            line = sys.stdin.readline()
            answer = line.strip().lower()
            if not line:
                return False
            if answer in _ANSWERS:
                return _ANSWERS[answer]
            self._is_over = answer in ("c", "continue")
        return True
