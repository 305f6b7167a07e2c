"""Copies what is below a folder: both sides are looked at side by side, and only differences are moved.

The tree is walked folder by folder. A folder is visited once the listings of both sides are there; what is to be done in it
goes to the batch, which has hundreds of requests under way while the next folders are listed. Three stages follow each
other: copy, remove what the source lacks, and last, from the deepest folder up, give the folders their modes and times.

`tree/walk.py` has the first stage and its decisions, `tree/large.py` copies the large files after it, `tree/extras.py` and
`tree/folders.py` have the other stages, `tree/type_changes.py` what needs something removed first; `tree/tally.py` counts,
`tree/up.py` and `tree/down.py` know what each side can do.
"""

from __future__ import annotations

from contextlib import closing

from runner.plan import CopyDirectoryFromEngine, CopyDirectoryToEngine
from runner.results import CopyResult
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.tree.down import TreeDown
from runner.transfer.tree.extras import spare_twins
from runner.transfer.tree.folders import finish_folders, is_all_done, restore_folders
from runner.transfer.tree.large import copy_large_files
from runner.transfer.tree.sync import sync_folders
from runner.transfer.tree.type_changes import (
    carry_out_removal,
    forget_what_is_gone,
    make_way_for_folders,
    plan_removal,
    written_replacements,
)
from runner.transfer.tree.up import TreeUp
from runner.transfer.tree.walk import TreeWalk


def copy_tree(copy: CopyDirectoryFromEngine | CopyDirectoryToEngine, context: CopyContext) -> CopyResult:
    """Make the destination a copy of the source folder.

    Each file is old or new at every moment. What fails for one path is told in the end, when the rest has been copied:
    raises `TreeIncomplete` then, `SafetyLimitHeld` if more would be removed than may be, or what ends the session.
    """
    walk: TreeWalk = TreeUp(copy, context) if isinstance(copy, CopyDirectoryFromEngine) else TreeDown(copy, context)
    with closing(walk), closing(walk.names):
        walk.open_root()
        if walk.past is not None:
            forget_what_is_gone(walk)
        with running_batch(context) as batch:
            walk.copy_all(batch)
            is_finished = is_all_done(walk)
            walk.warn_of_open_source()
            if is_finished:
                # A round trip less than behind the answers to the last renames.
                finish_folders(walk, batch)
        if is_finished and not walk.tally.failure_count:
            sync_folders(walk)
            return walk.tally.conclude(None)
        _copy_rest(walk)
        walk.tally.cleared = walk.clear_leftovers() if walk.leftovers else 0
        spare_twins(walk)
        with running_batch(context) as batch:
            removal = plan_removal(walk, batch)
            if removal.refusal is None:
                make_way_for_folders(walk, batch)
        # What is in the folders that have been made only now.
        _copy_rest(walk)
        with written_replacements(walk, removal), running_batch(context) as batch:
            if removal.refusal is None:
                carry_out_removal(walk, removal, batch)
            if not is_finished:
                finish_folders(walk, batch)
            elif not context.is_check:
                restore_folders(walk, batch)
        sync_folders(walk)
        return walk.tally.conclude(removal.refusal)


def _copy_rest(walk: TreeWalk) -> None:
    """Copy what the walk has put off."""
    if walk.settle_doubts():
        with running_batch(walk.context) as batch:
            walk.copy_settled(batch)
    copy_large_files(walk)
