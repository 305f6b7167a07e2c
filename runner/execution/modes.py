"""What each mode of a step does."""

from __future__ import annotations

from collections.abc import Callable

from runner.cancellation import Cancellation
from runner.plan import CopyDirectory, CopyFile, Step
from runner.remote_files import RemoteFiles
from runner.results import Output
from runner.transfer.copy import Surroundings, copy_file
from runner.transfer.operations import operate
from runner.transfer.tree import copy_tree


def carry_out(
    step: Step,
    remote: RemoteFiles,
    is_check: bool,
    on_progress: Callable[[int, int], None],
    cancellation: Cancellation,
) -> Output:
    """Do what a step says with the server's files; `on_progress` gets done and total bytes.

    Raises a `StepError`, or `Interrupted`.
    """
    mode, around = step.mode, Surroundings(remote, str(step.endpoint), is_check, on_progress, cancellation)
    if isinstance(mode, CopyDirectory):
        return copy_tree(mode, around)
    if isinstance(mode, CopyFile):
        return copy_file(mode, around)
    return operate(mode, around)
