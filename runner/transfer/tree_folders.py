"""Gives a tree's folders their modes and times, last of all: writing into a folder changes its time.

A destination that was there before keeps both, unless `permissions` are given: it is not a part of what is copied. The login
directory and those above it keep them in any case, since sshd refuses a key below a directory that others may write to.
"""

from __future__ import annotations

from runner.remote_files import NOTHING_WANTED, Batch, WantedAttributes
from runner.transfer.decision import asks_for_permissions, carried_time, is_same_time, looks_at_times
from runner.transfer.directory_modes import keep_special_bits, mode_of, permissions_for_folders
from runner.transfer.tree_walk import Folder, TreeWalk
from runner.transfer.verification import PERMISSIONS_UNTOLD, TIMES_UNTOLD

# Without these nobody can write into a folder: the owner's.
WRITABLE = 0o300


def is_all_done(walk: TreeWalk) -> bool:
    """Whether nothing is left but the folders. What may still go wrong must find them as they are: open to their owner."""
    if walk.has_more:
        return False
    permissions = [_wanted_of_folder(walk, folder).permissions for folder in walk.folders]
    return all(wanted is None or wanted & WRITABLE == WRITABLE for wanted in permissions)


def finish_folders(walk: TreeWalk, batch: Batch) -> None:
    """Give the folders their modes and times, from the deepest up: writing into one changes its time."""
    walk.batch = batch
    for folder in reversed(walk.folders):
        wanted = _wanted_of_folder(walk, folder)
        if None in folder.source:
            _warn_of_untold(walk, folder)
        if wanted == NOTHING_WANTED:
            walk.tally.folders_changed += _was_set_before(walk, folder)
            continue
        if folder.destination is not None and not folder.was_made:
            # That the time of a folder is set back when something in it has changed is no change worth telling.
            told = wanted._replace(modified_at_seconds=None) if folder.is_touched else wanted
            walk.changes.tell_attributes(folder.path, folder.destination, told, is_folder=True)
        if walk.around.is_check:
            is_new = folder.destination is None
            walk.tally.folders_changed += not is_new and not folder.is_touched
        else:
            if walk.journal is not None:
                walk.journal.attributes_set.add(walk.destination_path(folder.path))
            walk.set_folder_attributes(folder, wanted)
    walk.work()


def _warn_of_untold(walk: TreeWalk, folder: Folder) -> None:
    """The server does not tell what a directory of the source is like that was made here."""
    if not folder.was_made:
        return
    if folder.source.modified_at_seconds is None and "times" in walk.copy.preserve:
        walk.tally.warn(TIMES_UNTOLD)
    if folder.source.permissions is None and walk.copy.permissions is None and asks_for_permissions(walk.copy):
        walk.tally.warn(PERMISSIONS_UNTOLD)


def _was_set_before(walk: TreeWalk, folder: Folder) -> bool:
    """Whether an earlier attempt has changed a folder that needed nothing else."""
    is_ours = walk.past is not None and walk.destination_path(folder.path) in walk.past.attributes_set
    return is_ours and not folder.was_made and not folder.is_touched


def restore_folders(walk: TreeWalk, batch: Batch) -> None:
    """The same again for the times, when something went wrong after that and was tidied up."""
    walk.batch = batch
    for folder in reversed(walk.folders):
        modified_at = _wanted_of_folder(walk, folder).modified_at_seconds
        if folder.is_touched and modified_at is not None:
            walk.set_folder_attributes(folder, WantedAttributes(None, modified_at))
    walk.work()


def _wanted_of_folder(walk: TreeWalk, folder: Folder) -> WantedAttributes:
    """What is to be changed; nothing where it is right already."""
    found = None if folder.was_made or folder.destination is None else folder.destination
    if found is not None and folder.path in walk.protected:
        return NOTHING_WANTED
    is_old_root = found is not None and folder.parent is None
    permissions = permissions_for_folders(walk.copy, folder.source)
    if is_old_root and walk.copy.permissions is None:
        permissions = None
    elif permissions is None and folder.was_made:
        permissions = walk.new_folder_permissions
    has_time = "times" in walk.copy.preserve and not is_old_root
    modified_at = carried_time(folder.source.modified_at_seconds) if has_time else None
    if permissions is not None:
        permissions = keep_special_bits(permissions, found.special_bits if found else folder.inherited_bits or 0)
    if found is not None and mode_of(found) in (permissions, None if walk.copy.permissions is None else permissions):
        permissions = None
    if found is not None and not folder.is_touched and is_same_time(walk.copy, modified_at, found.modified_at_seconds):
        modified_at = None
    if found is not None and not folder.is_touched and not looks_at_times(walk.copy):
        # Nor are the times of files looked at whose content is right: a checkout in CI has new ones each time.
        modified_at = None
    return WantedAttributes(permissions, modified_at)
