"""Puts folders of the source in the place of files, and files and links in the place of folders; with `delete: true` only.

What goes for it counts as removed. It is listed and counted together with what the source lacks, before any of it is
touched. The old thing is never lost before the new one is there:

- A file or link in the way of a folder is renamed aside, and removed when the folder has been made.
- A file for the place of a folder is written and verified under a temporary name. Then the folder is emptied and removed,
  and the file renamed. What is protected in the folder (spared by the patterns, or kept by an earlier play) prevents it.

With `backup: true` what is replaced is renamed and kept, a folder as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from runner.cancellation import CleanUpAbandoned
from runner.errors import FileRefused, SafetyLimitHeld, StepError, UnreachableError
from runner.remote_files import Batch
from runner.results import CopyResult
from runner.transfer.backup import free_name
from runner.transfer.batch import running_batch
from runner.transfer.context import CLEAN_UP_SECONDS
from runner.transfer.copy import copy_file
from runner.transfer.journal import Done, Unanswered
from runner.transfer.tree.extras import Extra, count_removed, list_content, remove_extras, tell_removal, too_much
from runner.transfer.tree.large import describe_copy, surround
from runner.transfer.tree.walk import Folder, Replacement, TreeWalk

# A folder that is kept as it is may hold any number of entries.
NO_LIMIT = 1 << 62


@dataclass(slots=True)
class Written:
    """A new file or link under its temporary name, and what has to go for it."""

    replacement: Replacement
    extras: list[Extra]
    # Where the folder is kept, if it is.
    backup: str = ""
    temporary: str = ""
    result: CopyResult | None = None


@dataclass(slots=True)
class Removal:
    """What the copy of a tree removes: what the source lacks, and what something else takes the place of."""

    extras: list[Extra] = field(default_factory=list)
    replacements: list[Written] = field(default_factory=list)
    refusal: SafetyLimitHeld | None = None


def plan_removal(walk: TreeWalk, batch: Batch) -> Removal:
    """List and count all that is to go, and tell it; or nothing of it goes."""
    walk.batch = batch
    limit = walk.copy.max_delete
    removal = Removal(list_content(walk, walk.extras, limit).removable)
    going = [*removal.extras, *((folder.path, False) for folder in walk.blocked if not walk.copy.backup)]
    count = count_removed(walk, going)
    for replacement in walk.replacements:
        if count > limit:
            break
        content = list_content(walk, [(replacement.path, True)], NO_LIMIT if walk.copy.backup else limit - count)
        if replacement.path in content.kept:
            walk.tally.fail(replacement.path, _kept_content(walk, replacement.path))
            continue
        extras = [] if walk.copy.backup else content.found
        backup = _backup_of(walk, replacement.folder, replacement.path)
        removal.replacements.append(Written(replacement, extras, backup))
        going += extras
        count = count_removed(walk, going)
    if count > limit:
        return Removal(refusal=too_much(walk))
    # Those that earlier attempts have removed; the others are counted when they go.
    walk.tally.removed += count - len({path for path, _ in going})
    if walk.journal is not None:
        walk.journal.removed.update(walk.destination_path(path) for path, _ in going)
    tell_removal(walk, removal.extras)
    for planned in removal.replacements:
        tell_removal(walk, planned.extras)
    return removal


def _kept_content(walk: TreeWalk, path: str) -> FileRefused:
    return FileRefused(
        f"{walk.destination_path(path)!r} {walk.where} is a folder, and the source has none there; something in it is "
        "excluded, or not included, or kept by an earlier play, so it is not replaced",
        hint="Move it away, or let the patterns include it.",
    )


def make_way_for_folders(walk: TreeWalk, batch: Batch) -> None:
    """Make the folders that something is in the way of, and copy into them."""
    walk.batch = batch
    blocked, walk.blocked = walk.blocked, {}
    for folder, waiting in blocked.items():
        backup = _backup_of(walk, folder.parent, folder.path)
        _tell_going(walk, folder.path, backup)
        enter = functools.partial(_enter, walk, folder, waiting, backup)
        if walk.context.is_check:
            enter()
        else:
            _move_aside(walk, folder, backup, enter)
    walk.work()


def _move_aside(walk: TreeWalk, folder: Folder, backup: str, enter: Callable[[], None]) -> None:
    aside = backup or _temporary_for(walk, folder.path)
    # Should the session end meanwhile, that is where it is.
    place, aside_place = walk.destination_path(folder.path), walk.destination_path(aside)
    walk.left.move_aside(place, aside_place)

    def moved(error: StepError | None) -> None:
        if error is not None:
            walk.left.forget(aside_place)
            walk.tally.fail(folder.path, error)
            return
        folder.moved_aside_to = aside
        walk.make_with_parents(folder, made)

    def made() -> None:
        folder.moved_aside_to = ""
        walk.left.forget(aside_place)
        if not backup:
            walk.left.write(aside_place)
            walk.remove(aside, is_folder=False)
        enter()

    walk.rename(folder.path, aside, moved)


def _enter(walk: TreeWalk, folder: Folder, waiting: list[Callable[[], None]], backup: str) -> None:
    """Nothing is in the way any more."""
    folder.in_the_way = None
    if backup:
        walk.tally.keep(walk.destination_path(backup))
        if walk.effects is not None:
            walk.effects.keep_old(walk.destination_path(backup))
    else:
        walk.tally.removed += 1
    for then in waiting:
        then()


@contextmanager
def written_replacements(walk: TreeWalk, removal: Removal) -> Iterator[None]:
    """What shall take the place of folders is there under temporary names inside the block, and does not stay under them.

    What cannot be written is told in the end, and its folder stays as it is.
    """
    planned, removal.replacements = removal.replacements, []
    try:
        if planned:
            with running_batch(walk.context) as batch:
                walk.batch = batch
                for one in planned:
                    _tell_coming(walk, one)
                    if one.replacement.source is None and not walk.context.is_check:
                        _write_link(walk, one)
                walk.work()
        removal.replacements = [one for one in planned if walk.context.is_check or _is_written(walk, one)]
        yield
    except BaseException:
        with suppress(StepError, CleanUpAbandoned), walk.context.cancellation.shield(CLEAN_UP_SECONDS):
            for one in planned:
                if one.temporary:
                    walk.remove_now(one.temporary)
                    walk.left.forget(walk.destination_path(one.temporary))
        raise


def _write_link(walk: TreeWalk, written: Written) -> None:
    temporary = _temporary_for(walk, written.replacement.path)
    walk.left.write(walk.destination_path(temporary))

    def done(error: StepError | None) -> None:
        if error is None:
            written.temporary = temporary
        else:
            walk.left.forget(walk.destination_path(temporary))
            walk.tally.fail(written.replacement.path, error)

    walk.make_new_link(temporary, written.replacement.target, done)


def _is_written(walk: TreeWalk, written: Written) -> bool:
    """Whether the new thing is there; a file is copied now, with all that one file can have."""
    replacement = written.replacement
    if replacement.source is None:
        return bool(written.temporary)
    temporary = _temporary_for(walk, replacement.path)
    # A partial could not be found again under another temporary name.
    copy = replace(
        describe_copy(walk, replacement.path),
        destination=walk.destination_path(temporary),
        compare="always",
        resume=False,
        backup=False,
    )
    try:
        written.result = copy_file(copy, surround(walk, replacement.path, tells=False))
    except UnreachableError:
        raise
    except StepError as error:
        walk.tally.fail(replacement.path, error)
        return False
    written.temporary = temporary
    walk.left.write(walk.destination_path(temporary))
    return True


def _temporary_for(walk: TreeWalk, path: str) -> str:
    above, slash, name = path.rpartition("/")
    return f"{above}{slash}{walk.names.of(name)}"


def carry_out_removal(walk: TreeWalk, removal: Removal, batch: Batch) -> None:
    """Remove what is to go, and give what takes its place its name."""
    going = [extra for written in removal.replacements for extra in written.extras]
    remove_extras(walk, removal.extras + going, batch)
    for written in removal.replacements:
        written.replacement.folder.is_touched = True
        if walk.context.is_check:
            _foretell_replaced(walk, written)
            _count_replaced(walk, written)
        elif written.replacement.path in walk.unremoved:
            walk.remove(written.temporary, is_folder=False)
        elif written.backup:
            _keep_folder(walk, written)
        else:
            _publish(walk, written)
    walk.work()


def _foretell_replaced(walk: TreeWalk, written: Written) -> None:
    """With --check: a file or a link would be in a folder's place."""
    replacement, backup = written.replacement, walk.destination_path(written.backup) if written.backup else None
    if replacement.source is not None:
        walk.foretell_file(replacement.path, replacement.source, None, backup)
    elif walk.effects is not None:
        walk.effects.keep_old(backup)
        walk.effects.link(replacement.path, replacement.target)


def _keep_folder(walk: TreeWalk, written: Written) -> None:
    backup = walk.destination_path(written.backup)
    walk.left.move_aside(walk.destination_path(written.replacement.path), backup)

    def done(error: StepError | None) -> None:
        if error is None:
            _publish(walk, written)
        else:
            walk.left.forget(backup)
            walk.tally.fail(written.replacement.path, error)
            walk.remove(written.temporary, is_folder=False)

    walk.rename(written.replacement.path, written.backup, done)


def _publish(walk: TreeWalk, written: Written) -> None:
    path, backup = written.replacement.path, written.backup

    def done(error: StepError | None) -> None:
        if backup and error is None:
            walk.left.forget(walk.destination_path(backup))
        if error is None:
            _confirm(walk, written)
            walk.left.forget(walk.destination_path(written.temporary))
            written.temporary = ""
            _count_replaced(walk, written)
            return
        if walk.journal is not None:
            walk.journal.unanswered.pop(walk.destination_path(path), None)
        walk.tally.fail(path, error)
        walk.remove(written.temporary, is_folder=False)
        if backup:
            walk.rename(backup, path, lambda failure: _note_kept(walk, error, failure, backup))

    if walk.journal is not None and walk.is_upload:
        replacement, result = written.replacement, written.result
        walk.journal.unanswered[walk.destination_path(path)] = Unanswered(
            _describe_done(walk, written),
            walk.destination_path(written.temporary),
            size_bytes=result.size_bytes if result is not None else None,
            is_link=replacement.source is None,
        )
    walk.rename(written.temporary, path, done)


def _confirm(walk: TreeWalk, written: Written) -> None:
    if walk.journal is not None:
        walk.journal.confirm(walk.destination_path(written.replacement.path), _describe_done(walk, written))


def _describe_done(walk: TreeWalk, written: Written) -> Done:
    result, backup = written.result, walk.destination_path(written.backup) if written.backup else None
    if result is None:
        return Done(backup=backup)
    return Done(result.verified, backup, result.warnings, is_synced=result.durable)


def _note_kept(walk: TreeWalk, error: StepError, failure: StepError | None, backup: str) -> None:
    place = walk.destination_path(backup)
    walk.left.forget(place)
    if failure is not None:
        error.add(f"The old folder is kept as {place!r}", place)


def _count_replaced(walk: TreeWalk, written: Written) -> None:
    tally, result = walk.tally, written.result
    if written.backup:
        tally.keep(walk.destination_path(written.backup))
    if written.replacement.source is None:
        tally.links_changed += 1
        return
    tally.files_changed += 1
    if result is not None:
        tally.note_verified(result.verified)
        for warning in result.warnings:
            tally.warn(warning)


def forget_what_is_gone(walk: TreeWalk) -> None:
    """An earlier attempt was cut off: what it may have left beside a directory's place, and has not, is no matter any more.

    Asked while no batch is under way.
    """
    above = walk.destination_path("").rstrip("/") + "/"
    for path in walk.left.open_paths:
        if path.startswith(above) and not walk.is_taken(path.removeprefix(above)):
            walk.left.forget(path)


def _tell_coming(walk: TreeWalk, written: Written) -> None:
    replacement = written.replacement
    if written.backup:
        walk.changes.tell_folder("rename", replacement.path, f"→ {written.backup}/")
    if replacement.source is None:
        walk.changes.tell("link", replacement.path, f"→ {replacement.target}")
        return
    walk.tally.bytes_changed += replacement.source.size_bytes or 0
    if walk.changes.are_wanted:
        walk.changes.tell_file(replacement.path, replacement.source, None, lambda: None)


def _tell_going(walk: TreeWalk, path: str, backup: str) -> None:
    """What is in a folder's way is about to go."""
    if backup:
        walk.changes.tell("rename", path, f"→ {backup}")
    else:
        walk.changes.tell("delete", path)


def _backup_of(walk: TreeWalk, folder: Folder | None, path: str) -> str:
    """The path that what is replaced is kept under; empty if it is not kept."""
    if not walk.copy.backup or folder is None:
        return ""
    return folder.child(free_name(path.rpartition("/")[2], folder.taken))
