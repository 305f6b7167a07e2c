"""Where a report for programs goes: a file, whole or not at all, or standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runner.errors import UsageError


def require_writable(path: str | None) -> None:
    """Raise `UsageError` for a report that cannot be written: what it would be about is better not begun."""
    folder = os.path.dirname(path or "") or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write the report {path}: {folder} is not a folder that can be written to")


def write_report(path: str, text: str) -> None:
    """Put the report there in one step; `-` is standard output. Raises `UsageError`."""
    if path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        temporary = Path(f"{path}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write the report {path}: {error.strerror}") from error
