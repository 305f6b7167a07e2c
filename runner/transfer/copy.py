"""Copies one file: look, decide, write under a temporary name, verify, publish. The same order in both directions."""

from __future__ import annotations

from runner.plan import CopyFileFromEngine, CopyFileToEngine
from runner.results import CopyResult
from runner.transfer.context import CopyContext


def copy_file(copy: CopyFileFromEngine | CopyFileToEngine, context: CopyContext) -> CopyResult:
    """Carry out one copy. Raises a `StepError` with the destination as it was, or `Interrupted`."""
    # Each direction pays for its own import.
    if isinstance(copy, CopyFileFromEngine):
        from runner.transfer.upload import upload_file

        return upload_file(copy, context)
    from runner.transfer.download import download_file

    return download_file(copy, context)
