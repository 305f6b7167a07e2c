"""The walk over both sides of a tree, whichever of them is remote: what is compared, decided, counted and concluded."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from runner.errors import FileRefused, PermissionRefused, ServerLacksFeature, SourceMissing, StepError
from runner.plan import CopyDirectory
from runner.remote_files import ATTRIBUTES_SET, AttributesSet, Batch, FileStatus, WantedAttributes
from runner.transfer.backup import free_name, is_backup
from runner.transfer.batch import Outcome, Pending
from runner.transfer.context import CopyContext
from runner.transfer.decision import asks_for_permissions, decide, only_hash_tells, wanted_attributes
from runner.transfer.directory_modes import WRITABLE_BY_ALL
from runner.transfer.filters import Filter
from runner.transfer.journal import Done, Journal
from runner.transfer.leftovers import may_be_left_over
from runner.transfer.remote_status import kind_untold
from runner.transfer.resume import RESUME_FROM_BYTES
from runner.transfer.temporary import OwnName, TemporaryNames
from runner.transfer.tree.changes import TreeChanges
from runner.transfer.tree.comparison import Comparison
from runner.transfer.tree.names import (
    HARM_HINT,
    Entries,
    check_name,
    find_doubtful,
    find_twins,
    improper_name,
    is_proper_name,
    same_name,
    with_slash,
)
from runner.transfer.tree.tally import Tally
from runner.transfer.verification import describe_kept_permissions, prove_directory, prove_permissions

# Gives the source's entries when it is a folder's turn: a local folder is not read before. Raises a `StepError`.
ListSource = Callable[[], Entries]
# Is told why something could not be done, or None.
OnDone = Callable[[StepError | None], None]

# More than memory should hold: a server may list folders in folders without end.
MAX_FOLDERS = 1_000_000
MAX_SHOWN_CHARACTERS = 200


@dataclass(eq=False, slots=True)
class Folder:
    """One folder of the tree, on both sides. `path` is relative to the root, and empty for the root itself."""

    path: str
    source: FileStatus
    destination: FileStatus | None
    parent: Folder | None = None
    # Where the folder really is, for links that are followed: they must not lead back to where they come from.
    real_path: str = ""
    is_there: bool = False
    was_made: bool = False
    # Special bits that a folder made by this play has taken over from the one above it; None for not known.
    inherited_bits: int | None = None
    # A file or link in its place; `tree/type_changes.py` moves it out of the way, under this name.
    in_the_way: FileStatus | None = None
    moved_aside_to: str = ""
    # Whether it gets its modes and times in the end.
    is_listed: bool = False
    # Something in it was written or removed, which changes its modification time.
    is_touched: bool = False
    # What is there in the destination; noted where a name must be found that is not taken.
    taken: Entries = field(default_factory=dict)
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def is_within(self, real_path: str) -> bool:
        """Whether the walk came to this folder through that one, by way of links or not."""
        here: Folder | None = self
        while here is not None:
            if f"{here.real_path}/".startswith(f"{real_path}/"):
                return True
            here = here.parent
        return False

    def child(self, name: str) -> str:
        """The relative path of an entry."""
        return f"{self.path}/{name}" if self.path else name

    def find_blocked(self) -> Folder | None:
        """This folder, or the one above it, that cannot be made because something is in the way."""
        here: Folder | None = self
        while here is not None and not here.is_there:
            if here.in_the_way is not None:
                return here
            here = here.parent
        return None


class Replacement(NamedTuple):
    """A file of the source, or a link with its target, where the destination has a folder."""

    folder: Folder
    path: str
    source: FileStatus | None
    target: str = ""


class TreeWalk(ABC):
    """A copy of one tree; lives as long as the step."""

    is_upload: bool
    where: str
    # For what is new where the step asks for no permissions; None leaves that to the server.
    new_file_permissions: int | None
    new_folder_permissions: int | None

    def __init__(self, copy: CopyDirectory, context: CopyContext) -> None:
        self.copy = copy
        self.context = context
        self.filter = Filter(copy.include, copy.exclude)
        self._has_patterns = bool(copy.include or copy.exclude)
        self._is_size_enough = copy.compare == "size"
        # In a batch a file is read as far as the size that its server tells.
        self._trusts_sizes = copy.verify != "none" or self.is_upload
        self.left = context.left
        self.tally = Tally(copy, context.is_check, context.left)
        self.changes = TreeChanges(self)
        # With --check: what the copy would change, for later steps.
        self.effects = context.effects.begin_tree(copy) if context.effects is not None else None
        self.source_root = _without_slash(copy.source)
        self.destination_root = _without_slash(copy.destination)
        self._above_source, self._above_destination = with_slash(self.source_root), with_slash(self.destination_root)
        self.names = TemporaryNames.for_copy(copy, context.owner)
        self.extras: list[tuple[str, bool]] = []
        # What a play has left whose process is gone.
        self.stale: set[str] = set()
        # What earlier plays may have left, if it is as old as it looks: folder, name.
        self.leftovers: list[tuple[str, str]] = []
        # From an extra to what may be the same file by another name.
        self.twins: dict[str, str] = {}
        self.batch: Batch
        self.root: Folder
        self.folders: list[Folder] = []
        self._ready: deque[tuple[Folder, ListSource, Entries]] = deque()
        # What `tree/large.py` copies, with whether it is still open if it has to be copied at all.
        self.large: list[tuple[Folder, str, FileStatus, bool]] = []
        # What `tree/type_changes.py` does, if it is to be done: what waits for a folder that something is in the way of, and
        # what is to be put in a folder's place.
        self.blocked: dict[Folder, list[Callable[[], None]]] = {}
        self.replacements: list[Replacement] = []
        # Paths that could not be removed.
        self.unremoved: set[str] = set()
        self._comparison = Comparison(self)
        self._doubtful: list[tuple[Folder, str, FileStatus]] = []
        self._settled: list[tuple[Folder, str, FileStatus]] = []
        self._folder_count = 0
        self.journal = context.journal
        # What earlier attempts have done; None in the first one.
        self.past = context.journal if context.journal is not None and context.journal.is_retry else None
        self._emptied = {path.rpartition("/")[0] for path in self.past.removed} if self.past else set()
        # Folders whose modes and times are not ours to change.
        self.protected: frozenset[str] = frozenset()
        # Whether everybody may write to everything that the source has shown so far.
        self._is_source_open = asks_for_permissions(copy) and copy.permissions is None
        self._has_seen_modes = False
        # Folders whose names the destination may take for others of the tree.
        self.colliding: set[str] = set()

    # What each direction knows.

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    @abstractmethod
    def open_root(self) -> None:
        """Look at both roots, and make the destination's if there is none. Raises a `StepError`."""

    @abstractmethod
    def enter(self, folder: Folder) -> None:
        """Begin to list a folder; `see` it when the entries are there."""

    @abstractmethod
    def is_taken(self, path: str) -> bool:
        """Whether something is at a path of the destination. Asked while no batch is under way."""

    @abstractmethod
    def list_names(self, path: str) -> list[str]:
        """The names in a folder of the destination. Asked while no batch is under way. Raises a `StepError`."""

    @abstractmethod
    def make_folder(self, folder: Folder) -> None:
        """Make a folder whose parent is there; `made` tells that it is."""

    def may_be_written(self, path: str, destination: FileStatus | None) -> bool:
        """Whether a path of the destination, at which that is now, may be written to; fails for it if not."""
        return True

    def find_refusal(self, folder: Folder, path: str, destination: FileStatus | None) -> StepError | None:
        """With --check: why a file could not be written to a path of the destination, at which that is now."""
        return None

    @abstractmethod
    def begin_copy(self, file: Pending) -> None:
        """Hand a file to the batch."""

    @abstractmethod
    def copy_link(self, folder: Folder, name: str, destination: FileStatus | None) -> None:
        """Make the destination a link with the same target, if it is not."""

    @abstractmethod
    def follow_link(self, folder: Folder, name: str, see: Callable[[FileStatus, str], None]) -> None:
        """Tell `see` what a link of the source leads to and where that really is, if it is inside of the tree."""

    @abstractmethod
    def change_permissions(self, path: str, permissions: int) -> None:
        """Set the permissions of a file whose content is right."""

    @abstractmethod
    def set_folder_attributes(self, folder: Folder, wanted: WantedAttributes) -> None:
        """Give a folder its modes and times; `folder_set` tells that it has them."""

    @abstractmethod
    def sync_folder(self, path: str, *, is_above: bool) -> None:
        """Sync a folder of the destination to disk, or one above it, by its path there. That it cannot be is warned of."""

    @abstractmethod
    def list_extra(self, path: str, see: Callable[[Entries], None]) -> None:
        """Tell `see` what is in a folder that the source lacks."""

    @abstractmethod
    def clear_leftovers(self) -> int:
        """Remove what is older than a week, by the destination's clock; how many. Asked while no batch is under way."""

    @abstractmethod
    def remove(self, path: str, *, is_folder: bool) -> None:
        """Remove a path of the destination; it is no error if it is gone already."""

    @abstractmethod
    def remove_now(self, path: str) -> None:
        """Remove a file or link of the destination, while no batch is under way. Raises a `StepError`."""

    @abstractmethod
    def rename(self, path: str, new_path: str, done: OnDone) -> None:
        """Rename an entry of the destination; nothing has the new path."""

    @abstractmethod
    def make_new_link(self, path: str, target: str, done: OnDone) -> None:
        """Make a link in the destination, where nothing is."""

    # Stage one: copy.

    def copy_all(self, batch: Batch) -> None:
        """Visit every folder and begin what is to be copied; wait until all of it is done."""
        self.batch = batch
        self.enter(self.root)
        self.work()

    def work(self) -> None:
        """Visit the folders that are ready until there are no more and nothing is under way."""
        while True:
            while self._ready:
                self._visit(*self._ready.popleft())
                self.report()
            is_busy = self.batch.wait()
            self.report()
            if not is_busy and not self._ready and not self.settle():
                return

    def claim(self, destination: FileStatus | None) -> None:
        """Note whether this step has made the root, now or in an earlier attempt: then it still has to get its mode."""
        if self.context.is_check:
            return
        if destination is None and self.journal is not None:
            self.journal.made[self.destination_root] = None
        was_made_before = self.past is not None and self.destination_root in self.past.made
        self.root.was_made = destination is None or was_made_before
        if self.root.was_made:
            self.tally.folders_changed += 1
            self.changes.tell_folder("mkdir", "")

    def warn_of_open_source(self) -> None:
        """A checkout in CI, or a mounted volume: its permissions mean nothing, and the copy has them."""
        if self._is_source_open and self._has_seen_modes:
            self.tally.warn(
                f"everybody may write to everything in {self.copy.source!r}, as in a CI checkout or a mounted volume, and "
                "so to the files of the copy: 'permissions: \"0644\"' gives them other permissions"
            )

    @property
    def has_more(self) -> bool:
        """Whether anything is left once every folder has been visited: to be copied, looked into, or removed."""
        has_removals = bool(self.extras or self.blocked or self.replacements or (self.past and self.past.removed))
        return bool(self._doubtful or self.large or self.leftovers) or has_removals

    @property
    def changes_types(self) -> bool:
        """Whether a folder may be put in the place of a file, or the other way round: it removes what is there."""
        return self.copy.delete and self.copy.if_exists == "replace"

    def settle(self) -> bool:
        """Nothing else is under way: work out the checksums that are waited for, if there are any."""
        return self._comparison.settle()

    def report(self) -> None:
        """Tell how far it is; stop if the play is to end."""
        self.context.on_progress(self.batch.done_bytes, max(self.tally.bytes_changed, self.batch.done_bytes))

    def see(self, folder: Folder, list_source: ListSource, destination: Entries) -> None:
        """A folder can be visited: the server's part of its entries is there."""
        self._ready.append((folder, list_source, destination))

    def _visit(self, folder: Folder, list_source: ListSource, destination: Entries) -> None:
        try:
            entries = list_source()
        except StepError as error:
            self.tally.fail(folder.path or ".", error)
            return
        if not folder.is_there and self._is_wanted(folder, entries):
            if self._puts_off(folder, lambda: self.see(folder, lambda: entries, destination)):
                return
            self._foretell(folder)
        elif folder.is_there:
            self._enlist(folder)
            self._recall_folder(folder)
        doubtful = find_doubtful(entries, destination)
        self.colliding.update(map(folder.child, doubtful))
        if self.copy.backup:
            folder.taken = destination
        for name in sorted(entries):
            try:
                source = entries[name]
            except StepError as error:
                if self._may_be_wanted(folder.child(name), error):
                    self.tally.fail(folder.child(name), error)
                continue
            if name in doubtful and not source.is_directory:
                self._doubtful.append((folder, name, source))
            else:
                self._look_at(folder, name, source, destination.get(name))
        self._find_extras(folder, entries, destination)
        if self.copy.delete:
            twins = find_twins(entries, destination)
            self.twins |= {
                folder.child(name): twin for name, twin in twins.items() if self._is_copied(folder, twin, entries)
            }

    def _puts_off(self, folder: Folder, then: Callable[[], None]) -> bool:
        """Have a folder made, and `then` carry on. False with --check, unless something is in the way: nothing is made."""
        blocked = folder.find_blocked()
        if blocked is not None:
            self.blocked.setdefault(blocked, []).append(then)
        elif not self.context.is_check:
            self.make_with_parents(folder, then)
        else:
            return False
        return True

    def _may_be_wanted(self, path: str, error: StepError) -> bool:
        """Whether the copy may be about an entry that cannot be looked at. One that vanished was hardly a folder."""
        if self.filter.is_selective and isinstance(error, SourceMissing):
            return self.filter.admits(path, is_folder=False)
        return any(self.filter.admits(path, is_folder=is_folder) for is_folder in (False, True))

    def _is_copied(self, folder: Folder, name: str, entries: Entries) -> bool:
        """Whether an entry of the source is one that the copy is about."""
        try:
            source = entries[name]
        except StepError:
            # It may have been. What is in doubt is not removed.
            return True
        if source.is_link and self.copy.links in ("skip", "error"):
            return False
        return self.filter.admits(folder.child(name), is_folder=source.is_directory)

    def _is_wanted(self, folder: Folder, entries: Entries) -> bool:
        """Whether a folder is made: the root is, and with `include` another one only for what is copied into it."""
        if folder.parent is None or not self.filter.is_selective:
            return True
        return any(
            self.filter.admits(folder.child(name), is_folder=False) and not self._is_folder(name, entries)
            for name in entries
        )

    def _is_folder(self, name: str, entries: Entries) -> bool:
        try:
            return entries[name].is_directory
        except StepError:
            # It is told when it is looked at.
            return False

    def _enlist(self, folder: Folder) -> None:
        """A folder is part of the copy: in the end it gets its modes and times."""
        if not folder.is_listed:
            folder.is_listed = True
            self.folders.append(folder)

    def _foretell(self, folder: Folder) -> None:
        """With --check: the folder would be made, and those above it that are missing."""
        here: Folder | None = folder
        made: list[str] = []
        while here is not None and not here.is_there and not here.is_listed:
            self._enlist(here)
            self.tally.folders_changed += 1
            self.changes.tell_folder("mkdir", here.path)
            made.append(here.path)
            if here.parent is not None:
                here.parent.is_touched = True
            here = here.parent
        if self.effects is not None:
            for path in reversed(made):
                self.effects.directory(path)

    def make_with_parents(self, folder: Folder, then: Callable[[], None]) -> None:
        folder.waiting.append(then)
        if len(folder.waiting) > 1:
            return
        if folder.parent is None or folder.parent.is_there:
            self._make(folder)
        else:
            self.make_with_parents(folder.parent, lambda: self._make(folder))

    def _make(self, folder: Folder) -> None:
        if self.journal is not None:
            self.journal.made[self.destination_path(folder.path)] = None
        self.make_folder(folder)

    def made(self, folder: Folder, error: StepError | None) -> None:
        """A folder was made, or could not be: then nothing in it is copied."""
        waiting, folder.waiting = folder.waiting, []
        if error is not None:
            if self.journal is not None:
                self.journal.made.pop(self.destination_path(folder.path), None)
            self.tally.fail(folder.path or ".", error)
            self._bring_back(folder, error)
            return
        folder.is_there = True
        self._enlist(folder)
        self._count_made(folder)
        for then in waiting:
            then()

    def _count_made(self, folder: Folder) -> None:
        folder.was_made = True
        self.tally.folders_changed += 1
        self.changes.tell_folder("mkdir", folder.path)
        if folder.parent is not None:
            folder.parent.is_touched = True

    def _recall_folder(self, folder: Folder) -> None:
        """Count what an earlier attempt did to a folder, if there was one."""
        if self.past is None:
            return
        place = self.destination_path(folder.path)
        if place in self.past.made and not folder.was_made:
            self._count_made(folder)
        if place in self._emptied:
            folder.is_touched = True

    def _bring_back(self, folder: Folder, error: StepError) -> None:
        """A folder could not be made: what was in its way goes back to its place."""
        if not folder.moved_aside_to:
            return
        aside = self.destination_path(folder.moved_aside_to)

        def done(failure: StepError | None) -> None:
            if failure is not None:
                error.add(f"What was there is kept as {aside!r}", aside)
            self.left.forget(aside)

        self.rename(folder.moved_aside_to, folder.path, done)

    def _look_at(self, folder: Folder, name: str, source: FileStatus, destination: FileStatus | None) -> None:
        path = folder.child(name)
        refusal = check_name(name, path, self.destination_root)
        if refusal is not None:
            self.tally.fail(path if len(path) <= MAX_SHOWN_CHARACTERS else f"{path[:MAX_SHOWN_CHARACTERS]}…", refusal)
            return
        if self._has_patterns and not self.filter.admits(path, is_folder=source.is_directory):
            return
        if self._is_source_open and not source.is_link:
            self._is_source_open = bool((source.permissions or 0) & WRITABLE_BY_ALL)
            self._has_seen_modes = True
        if source.is_link:
            self._look_at_link(folder, name, destination)
        elif source.is_directory:
            self._look_at_folder(folder, name, source, destination, f"{folder.real_path}/{name}")
        elif source.is_regular:
            self._look_at_file(folder, path, source, destination)
        elif not source.is_kind_told:
            self._fail_untold(path, self.source_path(path))
        else:
            self.tally.warn(f"{path!r} is a device, pipe or socket, and was left out")

    def _fail_untold(self, path: str, place: str) -> None:
        """What may be a directory is neither copied nor replaced nor removed."""
        self.tally.fail(path, kind_untold(place, self.context.peer))

    def _look_at_link(self, folder: Folder, name: str, destination: FileStatus | None) -> None:
        path = folder.child(name)
        if destination is not None and not destination.is_kind_told and self.copy.links == "preserve":
            self._fail_untold(path, self.destination_path(path))
            return
        match self.copy.links:
            case "preserve":
                self.tally.files += 1
                self.copy_link(folder, name, destination)
            case "follow":
                self.follow_link(
                    folder,
                    name,
                    lambda status, real_path: self._see_target(folder, name, status, destination, real_path),
                )
            case "error":
                self.tally.fail(
                    path,
                    FileRefused(f"{path!r} is a symbolic link", hint="'links: error' is set; 'preserve' copies links."),
                )

    def _see_target(
        self, folder: Folder, name: str, target: FileStatus, destination: FileStatus | None, real_path: str
    ) -> None:
        """A link is followed: what it leads to is copied in its place."""
        if not self.filter.admits(folder.child(name), is_folder=target.is_directory):
            return
        if target.is_directory and folder.is_within(real_path):
            path = folder.child(name)
            self.tally.fail(
                path, FileRefused(f"the link {path!r} leads back to a folder that it is in", hint="Exclude it.")
            )
        elif target.is_directory:
            self._look_at_folder(folder, name, target, destination, real_path)
        elif not target.is_kind_told:
            self._fail_untold(folder.child(name), real_path)
        elif target.is_regular:
            self._look_at_file(folder, folder.child(name), target, destination)
        else:
            self.tally.warn(f"{folder.child(name)!r} leads to a device, pipe or socket, and was left out")

    def _look_at_folder(
        self, folder: Folder, name: str, source: FileStatus, destination: FileStatus | None, real_path: str
    ) -> None:
        path = folder.child(name)
        in_the_way = None
        if destination is not None and not destination.is_kind_told:
            self._fail_untold(path, self.destination_path(path))
            return
        if destination is not None and not destination.is_directory and self.changes_types:
            if not self.may_be_written(path, destination):
                return
            in_the_way, destination = destination, None
        if destination is not None and not destination.is_directory:
            self.tally.fail(
                path,
                FileRefused(
                    f"{self.destination_path(path)!r} {self.where} is not a directory, and the source has one there",
                    hint="Remove or rename one of them; 'delete: true' replaces what is there.",
                ),
            )
            return
        self._folder_count += 1
        if self._folder_count > MAX_FOLDERS:
            raise FileRefused(f"the source {self.source_root!r} has more than {MAX_FOLDERS:,} folders", hint=HARM_HINT)
        is_there = destination is not None
        self.enter(
            Folder(path, source, destination, folder, real_path=real_path, is_there=is_there, in_the_way=in_the_way)
        )

    def _look_at_file(self, folder: Folder, path: str, source: FileStatus, destination: FileStatus | None) -> None:
        self.tally.files += 1
        self.tally.bytes += source.size_bytes or 0
        # Of the many files of a tree nearly all are new or right already: for them nothing has to be weighed.
        if destination is None:
            self._begin_copy(folder, path, source, None)
            return
        if self.past is not None and self._recall_file(folder, path, source, destination, self.past):
            return
        if self._is_right(source, destination):
            self._note_right(path)
            return
        if only_hash_tells(self.copy, source, destination):
            if (source.size_bytes or 0) >= RESUME_FROM_BYTES:
                self.large.append((folder, path, source, True))
            else:
                weigh = functools.partial(self._weigh, folder, path, source, destination)
                self._comparison.add(path, source.size_bytes or 0, weigh)
            return
        # Written in place, the new file would come after the folder has gone.
        if destination.is_directory and self.changes_types and self.copy.atomic:
            self.replacements.append(Replacement(folder, path, source))
            return
        self._weigh(folder, path, source, destination, False)

    def _recall_file(
        self, folder: Folder, path: str, source: FileStatus, destination: FileStatus, past: Journal
    ) -> bool:
        """Count what an earlier attempt published, or write anew what it left unfinished; whether it was one of them."""
        place = self.destination_path(path)
        published = past.published.get(place)
        if published is not None:
            self._recall(folder, published)
            if past.find_published(place, source, destination) is not None:
                self.tally.files_changed += 1
                self.tally.bytes_changed += source.size_bytes or 0
                self.tally.note_verified(published.verified)
                self.tally.note_synced(published.is_synced)
                self.tally.are_in_one_step &= published.in_one_step
            else:
                # The source has changed since: what is there was put there by this step.
                self._begin_copy(folder, path, source, destination)
        elif place in past.replaced:
            self._begin_copy(folder, path, source, past.replaced[place])
        else:
            return False
        return True

    def _recall(self, folder: Folder, published: Done) -> None:
        folder.is_touched = True
        self.tally.keep(published.backup)
        for warning in published.warnings:
            self.tally.warn(warning)

    def link_is_right(self, folder: Folder, path: str) -> None:
        """A link leads where it shall; an earlier attempt may have made it."""
        published = self.past.published.get(self.destination_path(path)) if self.past is not None else None
        if published is None:
            self.tally.files_right += 1
        else:
            self.tally.links_changed += 1
            self._recall(folder, published)

    def _note_right(self, path: str) -> None:
        if self.past is not None and self.destination_path(path) in self.past.attributes_set:
            self.tally.files_changed += 1
        else:
            self.tally.files_right += 1

    def link_over_folder(self, folder: Folder, path: str, target: str) -> None:
        """The source has a link where the destination has a folder."""
        if self.changes_types:
            self.replacements.append(Replacement(folder, path, None, target))
            return
        hint = "Remove or rename one of them; 'delete: true' replaces the folder."
        self.tally.fail(path, FileRefused(f"{path!r} is a folder {self.where}, and a link in the source", hint=hint))

    def _weigh(
        self, folder: Folder, path: str, source: FileStatus, destination: FileStatus, has_same_hash: bool
    ) -> None:
        if not destination.is_kind_told:
            self._fail_untold(path, self.destination_path(path))
            return
        if destination.is_link:
            # It is the link that is replaced; its own permissions say nothing.
            destination = destination._replace(permissions=None)
        try:
            decision = decide(
                self.copy,
                source,
                destination,
                where=self.where,
                new_file_permissions=self.new_file_permissions,
                path=self.destination_path(path),
                has_same_hash=has_same_hash,
            )
        except StepError as error:
            self.tally.fail(path, error)
            return
        match decision.action:
            case "nothing":
                for warning in decision.warnings:
                    self.tally.warn(warning)
                self._note_right(path)
            case "leave":
                self.tally.left_alone += 1
            case "chmod":
                for warning in decision.warnings:
                    self.tally.warn(warning)
                self._change_permissions(path, destination, decision.wanted)
            case _:
                self._begin_copy(folder, path, source, destination)

    def _is_right(self, source: FileStatus, destination: FileStatus) -> bool:
        """Whether size, time and permissions are exactly what they shall be; False is no verdict."""
        wanted = source.permissions if self.copy.permissions is None else self.copy.permissions
        return (
            destination.is_regular
            and source.size_bytes == destination.size_bytes
            and (self._is_size_enough or source.modified_at_seconds == destination.modified_at_seconds)
            and destination.permissions == wanted
            and (self._is_size_enough or self.copy.compare == "size_mtime")
            and None not in destination
        )

    def _change_permissions(self, path: str, found: FileStatus, wanted: WantedAttributes) -> None:
        permissions = wanted.permissions
        if permissions is None or not self.may_be_written(path, found):
            return
        self.changes.tell_attributes(path, found, WantedAttributes(permissions, None), is_folder=False)
        if self.context.is_check:
            self.tally.files_changed += 1
            if self.effects is not None:
                self.effects.permissions(path, found, permissions)
            return
        if self.journal is not None:
            self.journal.attributes_set.add(self.destination_path(path))
        self.change_permissions(path, permissions)

    def permissions_changed(
        self, path: str, permissions: int, error: StepError | None, done: AttributesSet = ATTRIBUTES_SET
    ) -> None:
        """A file whose content was right has its permissions, or it was refused to set them. `done` is what came of it."""
        place, peer = self.destination_path(path), self.context.peer
        warning = None
        if error is None:
            try:
                warning = prove_permissions(self.copy, place, WantedAttributes(permissions, None), done.found, peer)
            except PermissionRefused as refusal:
                error = refusal
        if warning is not None:
            self.tally.files_right += 1
            self.tally.warn(warning)
        elif error is None:
            self.tally.files_changed += 1
        elif self.copy.permissions is None and isinstance(error, PermissionRefused | ServerLacksFeature | FileRefused):
            self.tally.files_right += 1
            refused = describe_kept_permissions("files", done) if done.refused_permissions else f"permissions: {error}"
            self.tally.warn(f"the server refused to preserve {refused}")
        else:
            self.tally.fail(path, error)

    def _begin_copy(self, folder: Folder, path: str, source: FileStatus, destination: FileStatus | None) -> None:
        if not self.may_be_written(path, destination):
            return
        folder.is_touched = True
        self.tally.bytes_changed += source.size_bytes or 0
        if self.changes.are_wanted:
            copy = functools.partial(self._copy_now, folder, path, source, destination)
            self.changes.tell_file(path, source, destination, copy)
        else:
            self._copy_now(folder, path, source, destination)

    def _copy_now(self, folder: Folder, path: str, source: FileStatus, destination: FileStatus | None) -> None:
        backup = self.backup_path(folder, path, destination)
        refusal = self.find_refusal(folder, path, destination) if self.context.is_check else None
        if refusal is not None:
            self.tally.fail(path, refusal)
        elif self.context.is_check:
            self.tally.files_changed += 1
            self.tally.keep(backup)
            self.foretell_file(path, source, destination, backup)
        elif source.size_bytes is None or source.size_bytes >= RESUME_FROM_BYTES or not self._trusts_sizes:
            self.large.append((folder, path, source, False))
        else:
            self.begin_copy(Pending(self.source_path(path), self.destination_path(path), source, destination, backup))

    def foretell_file(
        self, path: str, source: FileStatus, destination: FileStatus | None, backup: str | None = None
    ) -> None:
        """With --check: a file would be copied, and what was there be kept."""
        if self.effects is None:
            return
        wanted, _ = wanted_attributes(self.copy, source, destination, self.new_file_permissions)
        if wanted.permissions is None and destination is not None and not self.copy.atomic:
            wanted = wanted._replace(permissions=destination.permissions)
        self.effects.keep_old(backup)
        follows_link = not self.copy.atomic and destination is not None and destination.is_link
        self.effects.file(path, self.source_path(path), source, wanted, follows_link=follows_link)

    def backup_path(self, folder: Folder, path: str, destination: FileStatus | None) -> str | None:
        """Where what is at a path of the destination is to be kept, if it is."""
        if destination is None or not self.copy.backup:
            return None
        if self.past is not None and self.destination_path(path) in self.past.published:
            # What is there is new.
            return None
        return self.destination_path(folder.child(free_name(path.rpartition("/")[2], folder.taken)))

    def backup_of_link(self, folder: Folder, path: str, destination: FileStatus | None) -> str | None:
        """The same for a link of the source: it is a file that is worth keeping, not another link."""
        is_file = destination is not None and not destination.is_link
        return self.backup_path(folder, path, destination) if is_file else None

    def copied(self, outcome: Outcome) -> None:
        """A file of the batch is over."""
        if outcome.error is not None:
            root = self.destination_root
            self.tally.fail(outcome.file.destination_path[len(root) :].lstrip("/"), outcome.error)
            return
        self.tally.files_changed += 1
        self.tally.note_verified(outcome.verified)
        self.tally.note_synced(outcome.is_synced)
        self.tally.are_in_one_step &= outcome.published.in_one_step
        self.tally.keep(outcome.backup)
        for warning in outcome.warnings:
            self.tally.warn(warning)

    def settle_doubts(self) -> bool:
        """Refuse what would take the place of another name's file; whether there is something left to be copied.

        A disk that does not tell `A` from `a` has one of them by now, under both names.
        """
        doubts, self._doubtful = self._doubtful, []
        for folder, name, source in doubts:
            path = folder.child(name)
            if self.is_taken(path):
                self.tally.files += 1
                self.tally.fail(path, same_name(path, self.where))
            else:
                self._settled.append((folder, name, source))
        return bool(self._settled)

    def copy_settled(self, batch: Batch) -> None:
        """Copy what was in doubt and is not."""
        self.batch = batch
        settled, self._settled = self._settled, []
        for folder, name, source in settled:
            self._look_at(folder, name, source, None)
        self.work()

    # What the source lacks; `tree/extras.py` removes it.

    def _find_extras(self, folder: Folder, source: Entries, destination: Entries) -> None:
        # What the source lists under a name that no file can have may be any of those that it seems to lack.
        may_remove = self.copy.delete and all(map(is_proper_name, source))
        for name, status in destination.items():
            self._find_extra(folder, name, status, source, may_remove)

    def _find_extra(self, folder: Folder, name: str, status: FileStatus, source: Entries, may_remove: bool) -> None:
        path = folder.child(name)
        if not is_proper_name(name):
            if self.copy.delete and name not in ("", ".", ".."):
                self.tally.fail(path, improper_name(name))
            return
        own = self.names.read(name) if name not in source else None
        if own is not None:
            self._find_leftover(folder, name, own, status)
        elif may_remove and name not in source and not self.is_protected(path, is_folder=status.is_directory):
            if not status.is_kind_told:
                self._fail_untold(path, self.destination_path(path))
                return
            folder.is_touched = True
            self.extras.append((path, status.is_directory))

    def is_protected(self, path: str, *, is_folder: bool) -> bool:
        """Whether what the source lacks stays all the same: spared by the patterns, kept by an earlier play, or written."""
        name = path.rpartition("/")[2]
        is_kept = (self.copy.backup and is_backup(name)) or (self.names.may_be_one(name) and not is_folder)
        return is_kept or self.filter.protects(path, is_folder=is_folder)

    def _find_leftover(self, folder: Folder, name: str, own: OwnName, status: FileStatus) -> None:
        """A file that some play writes, or wrote: not even `delete` takes it away from one that may be at work."""
        is_ours = own.owner == self.names.owner
        if self.context.is_check or status.is_directory or not status.is_kind_told or not (is_ours or self.copy.delete):
            return
        if is_ours and own.is_abandoned and not own.content and not own.is_aside:
            self.stale.add(folder.child(name))
            self.remove(folder.child(name), is_folder=False)
        elif may_be_left_over(own, status.modified_at_seconds) and not own.is_aside:
            folder.is_touched = True
            self.leftovers.append((folder.path, name))

    def removed(self, path: str, error: StepError | None) -> None:
        """Something was removed, or could not be."""
        if error is None:
            self.left.forget(self.destination_path(path))
            return
        if path in self.stale:
            self.tally.warn(f"an earlier play's temporary file {path!r} could not be removed: {error}")
            return
        self.unremoved.add(path)
        self.tally.removed -= 1
        self.tally.fail(path, error)

    def folder_set(
        self, folder: Folder, wanted: WantedAttributes, error: StepError | None, done: AttributesSet = ATTRIBUTES_SET
    ) -> None:
        """A folder has its modes and times, or `error` says that nothing of it was set; `done` says which were."""
        try:
            warnings = prove_directory(
                self.copy, self.destination_path(folder.path), wanted, done, error, self.context.peer
            )
        except StepError as failure:
            self.tally.fail(folder.path or ".", failure)
            return
        for warning in warnings:
            # Of a file's times the same may have been said, at more length.
            if not any(told.startswith(warning) for told in self.tally.warnings):
                self.tally.warn(warning)
        if error is None and not folder.was_made and not folder.is_touched:
            self.tally.folders_changed += 1

    def source_path(self, path: str) -> str:
        """An entry on the source's side."""
        return f"{self._above_source}{path}" if path else self.source_root

    def destination_path(self, path: str) -> str:
        """An entry on the destination's side."""
        return f"{self._above_destination}{path}" if path else self.destination_root


def _without_slash(path: str) -> str:
    return path.rstrip("/") or ("/" if path.startswith("/") else ".")
