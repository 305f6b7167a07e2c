"""Removes from a tree's destination what its source lacks, or nothing of it if that is too much."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from runner.errors import SafetyLimitHeld
from runner.remote_files import Batch
from runner.transfer.remote_status import kind_untold
from runner.transfer.tree.names import Entries, is_proper_name
from runner.transfer.tree.walk import TreeWalk

# A path of the destination, and whether it is a folder.
Extra = tuple[str, bool]


@dataclass(slots=True)
class Content:
    """Paths to be removed and all that is in them; `kept` are those that stay, since something in them is protected."""

    found: list[Extra] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)

    @property
    def removable(self) -> list[Extra]:
        """What can go."""
        return [extra for extra in self.found if extra[0] not in self.kept]


def list_content(walk: TreeWalk, roots: Iterable[Extra], limit: int) -> Content:
    """The roots and everything in them, no more than one beyond the limit. Needs a batch."""
    content = Content()
    waiting = deque(roots)
    while waiting and len(content.found) - len(content.kept) <= limit:
        path, is_folder = waiting.popleft()
        content.found.append((path, is_folder))
        if is_folder:
            walk.list_extra(path, functools.partial(_spread, path, waiting, content.kept, walk))
            walk.work()
    return content


def too_much(walk: TreeWalk) -> SafetyLimitHeld:
    """The error for more than may be removed."""
    limit = walk.copy.max_delete
    return SafetyLimitHeld(
        f"more than {limit:,} files and folders would be removed from {walk.destination_root!r} {walk.where}, so none was",
        hint=f"'max_delete' is {limit}. Check the source, or raise it.",
    )


def count_removed(walk: TreeWalk, extras: Iterable[Extra]) -> int:
    """How many paths the step removes, with those that earlier attempts have removed, or asked for and not heard of."""
    paths = {path for path, _ in extras}
    if walk.past is not None:
        return len({walk.destination_path(path) for path in paths} | walk.past.removed)
    return len(paths)


def tell_removal(walk: TreeWalk, extras: Iterable[Extra]) -> None:
    """Something is about to be removed."""
    for path, is_folder in extras:
        (walk.changes.tell_folder if is_folder else walk.changes.tell)("delete", path)


def remove_extras(walk: TreeWalk, extras: list[Extra], batch: Batch) -> None:
    """Remove files, links, and folders with all that is in them. With --check they are only counted."""
    walk.batch = batch
    walk.tally.removed += len(extras)
    if walk.context.is_check:
        if walk.effects is not None:
            walk.effects.remove([path for path, _ in extras])
        return
    for path, is_folder in extras:
        if not is_folder:
            walk.remove(path, is_folder=False)
    walk.work()
    # A folder goes when everything in it has gone.
    folders = sorted((path for path, is_folder in extras if is_folder), key=lambda path: -path.count("/"))
    for depth in sorted({path.count("/") for path in folders}, reverse=True):
        for path in folders:
            if path.count("/") == depth:
                walk.remove(path, is_folder=True)
        walk.work()


def spare_twins(walk: TreeWalk) -> None:
    """Take out of the extras what is a copied file by its old name: a disk may not tell `README` from `readme`."""
    if walk.twins and not walk.context.is_check:
        walk.extras = [extra for extra in walk.extras if _is_extra(walk, extra[0])]


def _is_extra(walk: TreeWalk, path: str) -> bool:
    twin = walk.twins.get(path)
    if twin is None:
        return True
    folder, _, name = path.rpartition("/")
    # A disk that tells them apart has both of them now.
    return {name, twin} <= set(walk.list_names(folder))


def _spread(path: str, waiting: deque[Extra], kept: set[str], walk: TreeWalk, entries: Entries) -> None:
    """What is in a folder that shall go goes with it, but for what is protected, which keeps the folder."""
    for name, status in entries.items():
        if not is_proper_name(name):
            continue
        child = f"{path}/{name}"
        is_protected = walk.is_protected(child, is_folder=status.is_directory)
        if not status.is_kind_told and not is_protected:
            walk.tally.fail(child, kind_untold(walk.destination_path(child), walk.context.peer))
        if is_protected or not status.is_kind_told:
            parts = path.split("/")
            kept.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        else:
            waiting.append((child, status.is_directory))
