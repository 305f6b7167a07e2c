"""An error in the runner itself, shown on standard error: what to send to whom repairs it."""

from __future__ import annotations

import sys
import traceback

from runner._version import VERSION
from runner.events import Event, ObserverFailed, StepCrashed
from runner.redaction import Redactor
from runner.report.console import print_error
from runner.report.text import printable


def print_bug(error: BaseException, redactor: Redactor) -> None:
    """Print the traceback, without secrets, and where to report it."""
    text = "".join(traceback.format_exception(error))
    # An exception's text may be a server's: as any other it is escaped, and begins no line.
    for line in redactor.redact(text).splitlines():
        sys.stderr.write(f"| {printable(line)}\n")
    print_error(
        f"this is a bug in runner {VERSION}",
        "Please report it with the lines above and the playbook, secrets removed.",
    )


class BugPrinter:
    """Prints the bugs that a play has survived, as they come."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepCrashed | ObserverFailed):
            print_bug(event.error, self._redactor)
