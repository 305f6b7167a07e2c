"""Copies one file: look, decide, write under a temporary name, verify, publish. The same order in both directions."""

from __future__ import annotations

from runner.plan import CopyFileFromEngine, CopyFileToEngine
from runner.results import CopyResult
from runner.transfer.context import Surroundings
from runner.transfer.download import download_file
from runner.transfer.upload import upload_file


def copy_file(copy: CopyFileFromEngine | CopyFileToEngine, around: Surroundings) -> CopyResult:
    """Carry out one copy. Raises a `StepError` with the destination as it was, or `Interrupted`."""
    if isinstance(copy, CopyFileFromEngine):
        return upload_file(copy, around)
    return download_file(copy, around)
