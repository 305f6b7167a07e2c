"""Gives a tree's folders their modes and times, last of all: writing into a folder changes its time.

A destination that was there before keeps both, unless `permissions` are given: it is not a part of what is copied. The login
directory and those above it keep them in any case, since sshd refuses a key below a directory that others may write to.
"""

from __future__ import annotations

from runner.foretold import NOT_CARRIED_OUT, Unforetold
from runner.remote_files import NOTHING_WANTED, Batch, ForetoldStatus, WantedAttributes
from runner.transfer.decision import asks_for_permissions, carried_time, is_same_time, looks_at_times
from runner.transfer.directory_modes import keep_special_bits, mode_of, permissions_for_folders
from runner.transfer.tree.walk import Folder, TreeWalk
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
    if walk.effects is not None and any(_is_unsure(walk, folder) for folder in walk.folders):
        _require_change(walk)
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
        if walk.context.is_check:
            is_new = folder.destination is None
            walk.tally.folders_changed += not is_new and not folder.is_touched
            if walk.effects is not None:
                walk.effects.set_directory(folder.path, wanted)
        else:
            if walk.journal is not None:
                walk.journal.attributes_set.add(walk.destination_path(folder.path))
            walk.set_folder_attributes(folder, wanted)
    walk.work()


def _is_unsure(walk: TreeWalk, folder: Folder) -> bool:
    """With --check: whether a folder's attributes may be right, or may not, since an earlier step would have made it."""
    source, found = folder.source, folder.destination
    if found is None or (not isinstance(source, ForetoldStatus) and not isinstance(found, ForetoldStatus)):
        return False
    is_old_root = folder.parent is None
    if is_old_root and walk.copy.permissions is None:
        return False
    has_time = "times" in walk.copy.preserve and looks_at_times(walk.copy) and not (is_old_root or folder.is_touched)
    has_mode = asks_for_permissions(walk.copy) and None in (
        found.permissions,
        walk.copy.permissions or source.permissions,
    )
    return has_mode or (has_time and source.modified_at_seconds is None)


def _require_change(walk: TreeWalk) -> None:
    """With --check: raise `Unforetold` if nothing else would be changed, so that not even that is known."""
    tally = walk.tally
    if not (tally.files_changed or tally.folders_changed or tally.links_changed or walk.has_more):
        raise Unforetold(f"it needs the attributes of a folder that an earlier step would have made, {NOT_CARRIED_OUT}")


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
