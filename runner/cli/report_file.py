"""Where a report for programs goes: a file, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from runner.cli.output_file import require_writable, write_file
from runner.errors import UsageError
from runner.redaction import Redactor
from runner.report.console import print_error

STANDARD_OUTPUT = "-"
NEW_PERMISSIONS = 0o666


def require_report_writable(path: str | None, playbooks: Iterable[str]) -> None:
    """Raise `UsageError` for a report that cannot be written: what it would be about is better not begun.

    A report that would take a playbook's place is one.
    """
    if path is None or path == STANDARD_OUTPUT:
        return
    place = os.path.realpath(path)
    if any(os.path.realpath(file) == place for file in playbooks):
        raise UsageError(
            f"the report would take the place of the playbook {path}",
            hint="`--json` names the file that is written: give it a name of its own.",
        )
    try:
        require_writable(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def deliver_report(path: str, text: str, exit_code: int, redactor: Redactor) -> int:
    """Write the report, and return the exit code of the command: `exit_code`, that of what the report is about.

    A report that cannot be written is told on standard error. Only what ended well has another exit code then.
    """
    try:
        _write(path, text)
    except UsageError as error:
        print_error(redactor.redact(error.message))
        return exit_code or error.exit_code
    return exit_code


def _write(path: str, text: str) -> None:
    # What was printed so far comes first, should both go to one place.
    sys.stdout.flush()
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        write_file(path, text.encode("utf-8"), new_permissions=NEW_PERMISSIONS)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: str, error: OSError) -> UsageError:
    return UsageError(f"cannot write the report {path}: {error.strerror or error}")
