"""The modes that only look: `list` and `stats`."""

from __future__ import annotations

import functools
import os
from collections import Counter, deque
from operator import attrgetter

from runner.errors import FileRefused, SourceMissing, StepError
from runner.operation_results import Listing, Stats
from runner.plan import ListFolder, LookAtPath
from runner.remote_files import Batch, FileStatus, ForetoldStatus, RemoteRequest
from runner.results import Entry, EntryType, ForetoldEntry
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.failures import Failures
from runner.transfer.remote_folders import Allowance, FolderEntries
from runner.transfer.remote_status import look as look_or_raise
from runner.transfer.tree.names import improper_name, is_proper_name, join

_NOUNS: dict[EntryType, str] = {"file": "files", "directory": "directories", "link": "links", "other": "others"}


def list_folder(mode: ListFolder, context: CopyContext) -> Listing:
    """What is in a folder, links not followed but the folder's own.

    Raises `SourceMissing`, `FileRefused` if it is not a directory or holds too much, `TreeIncomplete` if some of the folders
    below it cannot be listed.
    """
    found = look(mode.path, context, follow=True)
    if found is None:
        raise missing(mode.path, context)
    if found.is_kind_told and not found.is_directory:
        raise FileRefused(
            f"{mode.path!r} on {context.peer} is not a directory, so it cannot be listed",
            hint="'mode_name: stats' tells of a single file.",
        )
    walk = _Walk(mode, context)
    with running_batch(context) as batch:
        walk.walk(batch)
    walk.failures.raise_any(f"Listed were {describe(walk.entries)}.")
    entries = tuple(sort_entries(walk.entries))
    return Listing(message=describe(entries), path=mode.path, entries=entries)


def sort_entries(entries: list[Entry]) -> list[Entry]:
    """The entries in the order of their paths' bytes, sorted in place."""
    # Of ASCII alone that is the order of the texts, and no further one is made of each.
    is_plain = all(entry.path.isascii() for entry in entries)
    entries.sort(key=attrgetter("path") if is_plain else lambda entry: os.fsencode(entry.path))
    return entries


def look_at_path(mode: LookAtPath, context: CopyContext) -> Stats:
    """What is at a path, a link itself. That nothing is there is an answer too."""
    found = look(mode.path, context, follow=False)
    if found is None:
        return Stats(message="does not exist", path=mode.path, entry=None)
    entry = to_entry(mode.path, found)
    if found.is_link:
        entry = entry._replace(target=context.remote.read_link(mode.path))
    return Stats(message=entry.type, path=mode.path, entry=entry, size_bytes=entry.size_bytes)


def look(path: str, context: CopyContext, *, follow: bool) -> FileStatus | None:
    """What is at a path, None if nothing is. Raises `PermissionRefused` if the server keeps it."""
    return look_or_raise(context.remote, path, context.peer, follow=follow)


def missing(path: str, context: CopyContext) -> SourceMissing:
    """The error for a path at which something should be."""
    return SourceMissing(
        f"{path!r} does not exist on {context.peer}",
        hint="Relative remote paths start at the login directory; servers do not expand '~'.",
    )


def to_entry(path: str, status: FileStatus) -> Entry:
    """What a server tells of a path, as the output has it. Of all sizes only a file's means the same everywhere."""
    kind: EntryType = "other"
    if status.is_link:
        kind = "link"
    elif status.is_directory:
        kind = "directory"
    elif status.is_regular and status.is_kind_told:
        kind = "file"
    size_bytes = status.size_bytes if kind == "file" else None
    make = ForetoldEntry if isinstance(status, ForetoldStatus) else Entry
    return make(path, kind, size_bytes, status.permissions, status.modified_at_seconds)


def describe(entries: tuple[Entry, ...] | list[Entry]) -> str:
    """`3 entries: 2 files, 1 directory`."""
    if not entries:
        return "no entries"
    counts = Counter(entry.type for entry in entries)
    told = ", ".join(f"{counts[one]:,} {one if counts[one] == 1 else _NOUNS[one]}" for one in _NOUNS if counts[one])
    return f"{len(entries):,} {'entry' if len(entries) == 1 else 'entries'}: {told}"


class _Walk:
    """One listing; lives as long as the step."""

    def __init__(self, mode: ListFolder, context: CopyContext) -> None:
        self.entries: list[Entry] = []
        self.failures = Failures(mode.path, "listed")
        self._root = mode.path.rstrip("/") or mode.path[:1]
        self._is_recursive = mode.recursive
        self._around = context
        self._allowance = Allowance(mode.path, context.peer)
        self._ready: deque[tuple[str, dict[str, FileStatus]]] = deque()
        self._batch: Batch

    def walk(self, batch: Batch) -> None:
        """List the folder, and with it those below if that is asked for."""
        self._batch = batch
        self._enter(self._root)
        while True:
            while self._ready:
                self._around.cancellation.check()
                self._visit(*self._ready.popleft())
            if not batch.wait() and not self._ready:
                return

    def _enter(self, path: str) -> None:
        self._batch.list(FolderEntries(path, self._allowance, functools.partial(self._see, path)))

    def _see(self, path: str, entries: dict[str, FileStatus], error: StepError | None) -> None:
        if error is not None:
            self.failures.add(path, error)
        else:
            self._ready.append((path, entries))

    def _visit(self, folder: str, entries: dict[str, FileStatus]) -> None:
        # What is listed is let go of on the way: a long list would be there twice.
        for name in list(entries):
            path, status = join(folder, name), entries.pop(name)
            if not is_proper_name(name):
                self.failures.add(path, improper_name(name))
            else:
                self._note(path, status)

    def _note(self, path: str, status: FileStatus) -> None:
        entry = to_entry(path, status)
        if status.is_link:
            # The target is known when the request is answered; a link that cannot be read is listed without one.
            self._batch.run(
                RemoteRequest(
                    "read link", path, lambda request, error: self._note_link(entry, "" if error else request.answer)
                )
            )
            return
        self.entries.append(entry)
        if status.is_directory and self._is_recursive:
            self._enter(path)

    def _note_link(self, entry: Entry, target: str) -> None:
        self._allowance.spend(len(target))
        self.entries.append(entry._replace(target=target or None))
