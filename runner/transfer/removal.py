"""The mode `remove`: one path, or a folder with all that is in it.

A recursive removal goes folder by folder through the batch: each is listed, what is in it removed, and when all of that is
gone, the folder itself. Links are removed, never followed. SFTP version 3 names everything by its whole path, so that
somebody else on the server could put a link into a folder's place while we are in it. Each folder is therefore looked at
once more between its listing and the removal of what it holds: it must still be a folder, and really be where it was found.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass

from runner.errors import FileRefused, SourceMissing, StepError
from runner.operation_results import Removal
from runner.plan import RemovePath
from runner.remote_files import Batch, FileStatus, RemoteRequest
from runner.results import Change
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.failures import Failures
from runner.transfer.listing import look, missing
from runner.transfer.protected_places import require_removable
from runner.transfer.remote_folders import Allowance, FolderEntries
from runner.transfer.remote_status import kind_untold, require_kind
from runner.transfer.tree.names import Entries, improper_name, is_proper_name, join


def remove_path(mode: RemovePath, context: CopyContext) -> Removal:
    """Remove what is at a path; a folder only if it is empty, or with `recursive`.

    Raises `SafetyLimitHeld` for the root, the login directory and the folders above it, `SourceMissing` unless
    `missing_ok`, `FileRefused`, and `TreeIncomplete` if something of a folder had to stay.
    """
    path = mode.path
    found = look(path, context, follow=False)
    removed = context.journal.removed if context.journal is not None else set()
    if found is None and removed:
        # By an earlier attempt.
        return _conclude(path, len(removed), context)
    if found is None:
        if not mode.missing_ok:
            raise missing(path, context)
        return Removal(message="not there", path=path, removed=0)
    require_kind(found, path, context.peer)
    if not found.is_directory:
        context.tell(Change("delete", path))
        if not context.is_check:
            removed.add(path)
            context.writer.remove(path)
        return _conclude(path, 1, context)
    real_path = require_removable(path, context, "removed")
    if mode.recursive:
        return _remove_tree(path, real_path, context)
    if next(context.remote.names_in(path), None) is not None:
        raise FileRefused(
            f"the folder {path!r} on {context.peer} is not empty, so it was not removed",
            hint="'recursive: true' removes it with all that is in it.",
        )
    context.tell(Change("delete", f"{path.rstrip('/')}/"))
    if not context.is_check:
        removed.add(path)
        context.writer.remove_folder(path)
    return _conclude(path, max(1, len(removed)), context)


def _remove_tree(path: str, real_path: str, context: CopyContext) -> Removal:
    sweep = _Sweep(path, real_path, context)
    with running_batch(context) as batch:
        sweep.run(batch)
    done = f"{sweep.removed:,} would be removed" if context.is_check else f"{sweep.removed:,} were removed"
    sweep.failures.raise_any(f"Of the rest, {done}.")
    return _conclude(path, sweep.removed, context)


def _conclude(path: str, removed: int, context: CopyContext) -> Removal:
    if context.effects is not None:
        context.effects.remove(path)
    what = "" if removed == 1 else f"{removed:,} files and folders "
    verb = "would be removed" if context.is_check else "removed"
    return Removal(message=f"{what}{verb}", path=path, removed=removed, is_change=True)


@dataclass(eq=False, slots=True)
class _Folder:
    """A folder that shall go, as soon as nothing is left in it. `left` counts what is."""

    path: str
    parent: _Folder | None
    left: int = 0
    must_stay: bool = False


class _Sweep:
    """One recursive removal; lives as long as the step."""

    def __init__(self, path: str, real_path: str, context: CopyContext) -> None:
        self._removed_count = 0
        # What was removed, by earlier attempts as well, or is about to be.
        self._noted = context.journal.removed if context.journal is not None else None
        self.failures = Failures(path, "removed")
        self._root = _Folder(path, None)
        self._real_root = real_path
        self._around = context
        self._allowance = Allowance(path, context.peer)
        self._ready: deque[tuple[_Folder, Entries]] = deque()
        self._batch: Batch

    def run(self, batch: Batch) -> None:
        """Remove everything that can be removed."""
        self._batch = batch
        self._enter(self._root)
        while True:
            while self._ready:
                self._around.cancellation.check()
                self._visit(*self._ready.popleft())
            if not batch.wait() and not self._ready:
                return

    @property
    def removed(self) -> int:
        """How many files and folders are gone."""
        return self._removed_count if self._noted is None else len(self._noted)

    def _enter(self, folder: _Folder) -> None:
        self._batch.list(FolderEntries(folder.path, self._allowance, functools.partial(self._listed, folder)))

    def _listed(self, folder: _Folder, entries: Entries, error: StepError | None) -> None:
        if error is not None:
            self._leave_out(folder, error)
            return

        def looked(request: RemoteRequest, error: StepError | None) -> None:
            if error is None and (request.status is None or not request.status.is_directory):
                error = self._swapped(folder)
            if error is not None:
                self._leave_out(folder, error)
            else:
                self._batch.run(RemoteRequest("resolve", folder.path, resolved))

        def resolved(request: RemoteRequest, error: StepError | None) -> None:
            if error is None and request.answer != self._real_root + folder.path[len(self._root.path) :]:
                error = self._swapped(folder)
            if error is not None:
                self._leave_out(folder, error)
            else:
                self._ready.append((folder, entries))

        self._batch.run(RemoteRequest("look closely", folder.path, looked))

    def _leave_out(self, folder: _Folder, error: StepError) -> None:
        """A folder cannot be looked into. Another play may have removed it a moment before; or it is there."""

        def looked(request: RemoteRequest, refusal: StepError | None) -> None:
            if request.is_missing:
                self._one_less(folder.parent)
            else:
                self._stay(folder.parent, folder.path, refusal or self._contradicted(folder))

        if isinstance(error, SourceMissing):
            self._batch.run(RemoteRequest("look closely", folder.path, looked))
        else:
            self._stay(folder.parent, folder.path, error)

    def _contradicted(self, folder: _Folder) -> FileRefused:
        return FileRefused(
            f"cannot list {folder.path!r} on {self._around.peer}: the server says that it is not there, and shows it all "
            "the same",
            hint="Nothing that this server says of the path can be relied on: ask its operator what becomes of it.",
        )

    def _swapped(self, folder: _Folder) -> FileRefused:
        return FileRefused(
            f"{folder.path!r} became another folder, or a link, while it was being removed",
            hint="Somebody else changes the folder at the same time. What is behind the link was left alone.",
        )

    def _visit(self, folder: _Folder, entries: Entries) -> None:
        # One more, so that it does not go before all of it has been looked at.
        folder.left = len(entries) + 1
        for name, status in entries.items():
            path = join(folder.path, name)
            if not is_proper_name(name):
                self._stay(folder, path, improper_name(name))
            elif status.is_kind_told:
                self._remove(folder, path, status)
            else:
                self._stay(folder, path, kind_untold(path, self._around.peer))
        self._one_less(folder)

    def _remove(self, folder: _Folder, path: str, status: FileStatus) -> None:
        if status.is_directory:
            self._enter(_Folder(path, folder))
            return
        self._around.tell(Change("delete", path))
        if self._around.is_check:
            self._gone(folder)
        else:
            self._note(path)
            self._batch.run(RemoteRequest("remove", path, functools.partial(self._removed, folder)))

    def _note(self, path: str) -> None:
        if self._noted is not None:
            self._noted.add(path)

    def _removed(self, folder: _Folder, request: RemoteRequest, error: StepError | None) -> None:
        if error is not None:
            self._stay(folder, request.path, error)
        else:
            self._gone(folder)

    def _gone(self, folder: _Folder | None) -> None:
        """Something in a folder is gone, or the root itself."""
        self._removed_count += 1
        self._one_less(folder)

    def _stay(self, folder: _Folder | None, path: str, error: StepError) -> None:
        """Something in a folder cannot be removed, so that the folder has to stay as well."""
        self.failures.add(path, error)
        if self._noted is not None:
            self._noted.discard(path)
        if folder is not None:
            folder.must_stay = True
        self._one_less(folder)

    def _one_less(self, folder: _Folder | None) -> None:
        """Nothing more is to be done about something in a folder. With the last of it the folder itself is due."""
        while folder is not None:
            folder.left -= 1
            if folder.left:
                return
            if folder.must_stay:
                if folder.parent is not None:
                    folder.parent.must_stay = True
            else:
                self._around.tell(Change("delete", f"{folder.path.rstrip('/')}/"))
                if not self._around.is_check:
                    done = functools.partial(self._folder_removed, folder)
                    self._note(folder.path)
                    self._batch.run(RemoteRequest("remove folder", folder.path, done))
                    return
                self._removed_count += 1
            folder = folder.parent

    def _folder_removed(self, folder: _Folder, request: RemoteRequest, error: StepError | None) -> None:
        if error is not None:
            self._stay(folder.parent, folder.path, error)
        else:
            self._gone(folder.parent)
