"""Removes from a tree's destination what its source lacks, or nothing of it if that is too much."""

from __future__ import annotations

import functools
from collections import deque

from runner.errors import SafetyLimitHeld
from runner.remote_files import Batch
from runner.transfer.tree_names import Entries, is_proper_name
from runner.transfer.tree_walk import TreeWalk


def remove_extras(walk: TreeWalk, batch: Batch) -> SafetyLimitHeld | None:
    """Remove what the source lacks, or nothing of it if that is too much."""
    walk.batch = batch
    wanted = _list_extras(walk)
    limit = walk.copy.max_delete
    # With what earlier attempts have removed, or asked for and not heard of again.
    removed = {walk.destination_path(path) for path, _ in wanted} if walk.journal else set()
    removed |= walk.journal.removed if walk.journal else set()
    if max(len(wanted), len(removed)) > limit:
        return SafetyLimitHeld(
            f"more than {limit:,} files and folders would be removed from {walk.destination_root!r} {walk.where}, "
            "so none was",
            hint=f"'max_delete' is {limit}. Check the source, or raise it.",
        )
    walk.tally.removed = max(len(wanted), len(removed))
    for path, is_folder in wanted:
        (walk.changes.tell_folder if is_folder else walk.changes.tell)("delete", path)
    if walk.around.is_check:
        return None
    if walk.journal is not None:
        walk.journal.removed = removed
    for path, is_folder in wanted:
        if not is_folder:
            walk.remove(path, is_folder=False)
    walk.work()
    # A folder goes when everything in it has gone.
    folders = sorted((path for path, is_folder in wanted if is_folder), key=lambda path: -path.count("/"))
    for depth in sorted({path.count("/") for path in folders}, reverse=True):
        for path in folders:
            if path.count("/") == depth:
                walk.remove(path, is_folder=True)
        walk.work()
    return None


def spare_twins(walk: TreeWalk) -> None:
    """Take out of the extras what is a copied file by its old name: a disk may not tell `README` from `readme`."""
    if walk.twins and not walk.around.is_check:
        walk.extras = [extra for extra in walk.extras if _is_extra(walk, extra[0])]


def _is_extra(walk: TreeWalk, path: str) -> bool:
    twin = walk.twins.get(path)
    if twin is None:
        return True
    folder, _, name = path.rpartition("/")
    # A disk that tells them apart has both of them now.
    return {name, twin} <= set(walk.list_names(folder))


def _list_extras(walk: TreeWalk) -> list[tuple[str, bool]]:
    """Everything that would be removed, no more than one beyond the limit."""
    found: list[tuple[str, bool]] = []
    kept: set[str] = set()
    waiting = deque(walk.extras)
    while waiting and len(found) <= walk.copy.max_delete:
        path, is_folder = waiting.popleft()
        found.append((path, is_folder))
        if is_folder:
            walk.list_extra(path, functools.partial(_spread, path, waiting, kept, walk))
            walk.work()
    return [one for one in found if one[0] not in kept]


def _spread(path: str, waiting: deque[tuple[str, bool]], kept: set[str], walk: TreeWalk, entries: Entries) -> None:
    """What is in a folder that shall go goes with it, but for what is protected, which keeps the folder."""
    for name, status in entries.items():
        if not is_proper_name(name):
            continue
        child = f"{path}/{name}"
        if walk.is_protected(child, is_folder=status.is_directory):
            parts = path.split("/")
            kept.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        else:
            waiting.append((child, status.is_directory))
