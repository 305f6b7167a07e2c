"""Copies the large files of a tree one by one, each with all that one file can have: several channels, resuming."""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from typing import Any

from runner.errors import StepError
from runner.plan import CopyFile, CopyFileFromEngine, CopyFileToEngine
from runner.remote_files import FileStatus
from runner.results import Change, CopyResult
from runner.transfer.context import CopyContext
from runner.transfer.copy import copy_file
from runner.transfer.tree.walk import Folder, TreeWalk


def copy_large_files(walk: TreeWalk) -> None:
    """Copy them. What fails for one of them is told in the end; raises what ends the session."""
    large, walk.large = walk.large, []
    for folder, path, source, is_unsure in large:
        try:
            result = copy_file(describe_copy(walk, path), surround(walk, path, tells=is_unsure))
        except StepError as error:
            if error.exit_code == 4:
                raise
            walk.tally.fail(path, error)
            continue
        _note(walk, folder, source, result, is_unsure=is_unsure)


def describe_copy(walk: TreeWalk, path: str) -> CopyFileFromEngine | CopyFileToEngine:
    """The copy of one file of a tree, as a step of its own would say it."""
    kind = CopyFileFromEngine if walk.is_upload else CopyFileToEngine
    options: dict[str, Any] = {option.name: getattr(walk.copy, option.name) for option in fields(CopyFile)}
    options |= {"source": walk.source_path(path), "destination": walk.destination_path(path), "create_parents": False}
    return kind(**options)


def surround(walk: TreeWalk, path: str, *, tells: bool) -> CopyContext:
    """What the copy of one file of a tree needs; with `tells`, its changes have not been told yet."""
    before_bytes = walk.batch.done_bytes

    def report(done_bytes: int, total_bytes: int) -> None:
        walk.context.on_progress(before_bytes + done_bytes, max(walk.tally.bytes_changed, before_bytes + done_bytes))

    tell = functools.partial(_tell, walk, path) if tells and walk.context.on_change else None
    return replace(walk.context, on_progress=report, on_change=tell)


def _tell(walk: TreeWalk, path: str, change: Change) -> None:
    walk.context.tell(change._replace(path=path))


def _note(walk: TreeWalk, folder: Folder, source: FileStatus, result: CopyResult, *, is_unsure: bool) -> None:
    tally = walk.tally
    tally.files_changed += result.files_changed
    tally.note_verified(result.verified)
    tally.note_synced(result.durable)
    tally.are_in_one_step &= result.atomic is not False
    tally.keep(result.backup)
    if is_unsure and result.skipped:
        tally.left_alone += 1
    elif is_unsure and not result.files_changed:
        tally.files_right += 1
    elif is_unsure:
        folder.is_touched = True
        tally.bytes_changed += source.size_bytes or 0
    for warning in result.warnings:
        tally.warn(warning)
