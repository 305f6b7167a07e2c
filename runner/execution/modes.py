"""What each mode of a step does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from runner.cancellation import Cancellation
from runner.errors import StepError, TreeIncomplete
from runner.plan import Copy, CopyDirectory, CopyFile, LaterMode, Mode, PlayOptions, Step
from runner.remote_files import RemoteFiles
from runner.results import Change, CopyResult, Output
from runner.transfer.context import CopyContext
from runner.transfer.copy import copy_file
from runner.transfer.journal import Journal
from runner.transfer.left_behind import LeftBehind
from runner.transfer.memory import Memory
from runner.transfer.owner import find_owner
from runner.transfer.verification import warn_of_options


class Attempt(NamedTuple):
    """What one attempt at a step needs beside the step and the server's files.

    `on_progress` gets done and total bytes, `on_change` every change. `memory` is what earlier steps have left to be
    remembered, and is added to. What earlier attempts have done according to the `journal` counts as done. What may be left
    behind is noted in `left`, and told by the caller. `reconnect` gives a fresh session to a step that has let its own be
    idle.
    """

    options: PlayOptions
    on_progress: Callable[[int, int], None]
    on_change: Callable[[Change], None]
    cancellation: Cancellation
    memory: Memory
    journal: Journal | None = None
    left: LeftBehind | None = None
    reconnect: Callable[[], RemoteFiles] | None = None


def run_mode(step: Step, remote: RemoteFiles, attempt: Attempt) -> Output:
    """Do what a step says with the server's files. Raises a `StepError`, or `Interrupted`."""
    mode = step.mode
    assert not isinstance(mode, LaterMode), "a step is bound before it is carried out"
    context = _surround(step, remote, attempt)
    if context.is_check:
        from runner.execution.foretelling import foretell

        return foretell(step, mode, context, _act)
    if attempt.journal is not None and attempt.journal.is_retry:
        from runner.transfer.recovery import recover

        recover(attempt.journal, context)
    try:
        output = _act(mode, context)
    except TreeIncomplete:
        _note_real(step, remote, attempt)
        raise
    _note_real(step, remote, attempt)
    return output


def _note_real(step: Step, remote: RemoteFiles, attempt: Attempt) -> None:
    """A step has really run. In a --check it is one that says `check_mode: false`: what is there now counts."""
    if attempt.memory.foretold is not None and not isinstance(step.mode, LaterMode):
        from runner.transfer.foretold.effects import forget_real

        forget_real(attempt.memory.foretold, step.mode, remote, step.endpoint, attempt.cancellation.check)


def run_modes_together(
    steps: Sequence[tuple[Step, Attempt]],
    remote: RemoteFiles,
    on_done: Callable[[int, Output | StepError], None],
    *,
    each_needs_the_last: bool,
) -> None:
    """Do what steps say that copy a file each: from the first one on, as far as that goes well. See `copy_together`."""
    from runner.transfer.together import Member, copy_together

    # All steps of a playbook have the same.
    owner = find_owner(steps[0][0].owner)
    members = []
    for step, attempt in steps:
        assert isinstance(step.mode, CopyFile)
        members.append(Member(step.mode, _surround(step, remote, attempt, owner)))

    def tell(position: int, ending: CopyResult | StepError) -> None:
        copy = members[position].copy
        if not isinstance(ending, StepError):
            noted.append(steps[position])
        on_done(position, ending if isinstance(ending, StepError) else _add_warnings(copy, ending))

    noted: list[tuple[Step, Attempt]] = []
    try:
        copy_together(members, tell, each_needs_the_last=each_needs_the_last)
    finally:
        for step, attempt in noted:
            _note_real(step, remote, attempt)


def _surround(step: Step, remote: RemoteFiles, attempt: Attempt, owner: str = "") -> CopyContext:
    options = attempt.options
    return CopyContext(
        remote,
        str(step.endpoint),
        options.is_check,
        attempt.on_progress,
        attempt.cancellation,
        attempt.on_change if options.tells_changes else None,
        options.is_diff,
        owner or find_owner(step.owner),
        memory=attempt.memory,
        step=f"step {step.index} ({step.name}, {step.location})",
        journal=attempt.journal,
        left=attempt.left or LeftBehind(),
        reconnect=None if options.is_check else attempt.reconnect,
    )


def _act(mode: Mode, context: CopyContext) -> Output:
    """Do what a mode says. Raises a `StepError`, or `Interrupted`."""
    if isinstance(mode, CopyFile):
        return _copy(mode, context)
    from runner.transfer.operations import operate

    return operate(mode, context)


def _copy(copy: Copy, context: CopyContext) -> CopyResult:
    # Each step pays for the import of what it needs.
    if isinstance(copy, CopyDirectory):
        from runner.transfer.tree.tree import copy_tree

        result = copy_tree(copy, context)
    else:
        result = copy_file(copy, context)
    return _add_warnings(copy, result)


def _add_warnings(copy: Copy | CopyFile, result: CopyResult) -> CopyResult:
    warnings = warn_of_options(copy)
    return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result
