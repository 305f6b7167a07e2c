"""Syncs a tree's folders to disk, once each, when everything in them has its name: `durable: true`."""

from __future__ import annotations

import os

from runner.transfer.batch import running_batch
from runner.transfer.tree.walk import TreeWalk


def sync_folders(walk: TreeWalk) -> None:
    """Sync the folders in which something was made, renamed or removed, and those above a new root.

    Nothing where the step does not ask for it, or the server has synced no file either.
    """
    if not walk.copy.durable or walk.context.is_check or walk.tally.is_synced is False:
        return
    changed = [folder.path for folder in walk.folders if folder.is_touched or folder.was_made]
    if not changed:
        return
    with running_batch(walk.context) as batch:
        walk.batch = batch
        for path in changed:
            walk.sync_folder(walk.destination_path(path), is_above=False)
        for path in _list_above(walk.destination_root) if walk.root.was_made else ():
            # How many of them are new is not known; those that may not be read are not.
            walk.sync_folder(path, is_above=True)
        walk.work()


def _list_above(path: str) -> list[str]:
    """The folders above a path."""
    found: list[str] = []
    while path not in ("", "/", "."):
        path = os.path.dirname(path)
        found.append(path or ".")
    return found
