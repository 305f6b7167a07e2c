"""What each mode of a step does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from runner.cancellation import Cancellation
from runner.plan import Copy, CopyDirectory, CopyFile, LaterMode, PlayOptions, Step
from runner.remote_files import RemoteFiles
from runner.results import Change, CopyResult, Output
from runner.transfer.context import Surroundings
from runner.transfer.copy import copy_file
from runner.transfer.journal import Journal
from runner.transfer.left_behind import LeftBehind
from runner.transfer.memory import Memory
from runner.transfer.owner import find_owner
from runner.transfer.read_only import read_only
from runner.transfer.verification import warn_of_options


def carry_out(
    step: Step,
    remote: RemoteFiles,
    options: PlayOptions,
    on_progress: Callable[[int, int], None],
    on_change: Callable[[Change], None],
    cancellation: Cancellation,
    memory: Memory,
    journal: Journal | None = None,
    left: LeftBehind | None = None,
    reconnect: Callable[[], RemoteFiles] | None = None,
) -> Output:
    """Do what a step says with the server's files; `on_progress` gets done and total bytes, `on_change` every change.

    `memory` is what earlier steps have left to be remembered, and is added to. What earlier attempts have done according
    to the `journal` counts as done. What may be left behind is noted in `left`, and told by the caller. `reconnect` gives a
    fresh session to a step that has let its own be idle.

    Raises a `StepError`, or `Interrupted`.
    """
    mode = step.mode
    assert not isinstance(mode, LaterMode), "a step is bound before it is carried out"
    around = Surroundings(
        read_only(remote) if options.is_check else remote,
        str(step.endpoint),
        options.is_check,
        on_progress,
        cancellation,
        on_change if options.tells_changes else None,
        options.is_diff,
        find_owner(step.owner),
        memory=memory,
        step=f"step {step.index} ({step.name}, {step.location})",
        journal=journal,
        left=left or LeftBehind(),
        reconnect=None if options.is_check else reconnect,
    )
    if journal is not None and journal.is_retry:
        from runner.transfer.recovery import recover

        recover(journal, around)
    if isinstance(mode, CopyFile):
        return _copy(mode, around)
    from runner.transfer.operations import operate

    return operate(mode, around)


def _copy(copy: Copy, around: Surroundings) -> CopyResult:
    # Each step pays for the import of what it needs.
    if isinstance(copy, CopyDirectory):
        from runner.transfer.tree import copy_tree

        result = copy_tree(copy, around)
    else:
        result = copy_file(copy, around)
    warnings = warn_of_options(copy)
    return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result
