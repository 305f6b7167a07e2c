"""Tells what a copy of a tree is about to change, path by path; for small text files with the difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runner.errors import StepError
from runner.plan import CopyDirectory
from runner.readback import Content, Readback
from runner.remote_files import NOTHING_WANTED, Batch, FileStatus, WantedAttributes
from runner.results import Change, ChangeAction
from runner.transfer.changes import can_be_diffed, diff_texts, explain_attributes, explain_difference, read_local
from runner.transfer.context import CopyContext


class Walk(Protocol):
    """What is asked of the walk whose changes are told."""

    copy: CopyDirectory
    context: CopyContext
    is_upload: bool
    batch: Batch

    def source_path(self, path: str) -> str: ...
    def destination_path(self, path: str) -> str: ...


class TreeChanges:
    """What one walk tells; it costs nothing where nobody wants to know."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._copy = walk.copy
        self._around = walk.context
        self.are_wanted = walk.context.on_change is not None

    def tell(self, action: ChangeAction, path: str, why: str = "") -> None:
        """Something is about to be changed."""
        if self.are_wanted:
            self._around.tell(Change(action, path, why))

    def tell_folder(self, action: ChangeAction, path: str, why: str = "") -> None:
        """The same for a folder."""
        self.tell(action, f"{path or '.'}/", why)

    def tell_attributes(self, path: str, found: FileStatus, wanted: WantedAttributes, *, is_folder: bool) -> None:
        """Permissions or times are about to be changed, and nothing else."""
        if self.are_wanted and wanted != NOTHING_WANTED:
            (self.tell_folder if is_folder else self.tell)("chmod", path, explain_attributes(found, wanted))

    def tell_file(
        self, path: str, source: FileStatus, destination: FileStatus | None, then: Callable[[], None]
    ) -> None:
        """A file is about to be copied, which `then` does, at once or when its old content has been read."""
        if self._around.is_diff and can_be_diffed(source, destination):
            self._diff(path, source, destination, then)
        else:
            self._tell_copy(path, source, destination, "")
            then()

    def _tell_copy(self, path: str, source: FileStatus, destination: FileStatus | None, diff: str) -> None:
        action: ChangeAction = "create" if destination is None else "replace"
        why = explain_difference(self._copy, source, destination)
        self._around.tell(Change(action, path, why, source.size_bytes, diff))

    def _diff(self, path: str, source: FileStatus, destination: FileStatus | None, then: Callable[[], None]) -> None:
        walk = self._walk
        here = walk.source_path(path) if walk.is_upload else walk.destination_path(path)
        local: bytes | None = b""
        if walk.is_upload or destination:
            disk = self._around.disk
            local = read_local(here, follows_links=walk.is_upload) if disk is None else disk.read(here)
        remote_status = destination if walk.is_upload else source

        def compare(remote: bytes | None) -> None:
            old, new = (remote, local) if walk.is_upload else (local, remote)
            self._tell_copy(path, source, destination, diff_texts(old, new, path))
            then()

        if remote_status is None:
            compare(b"")
            return
        there = walk.destination_path(path) if walk.is_upload else walk.source_path(path)
        if self._around.effects is not None and not self._around.effects.server.is_readable(there):
            compare(None)
            return
        content = Content()

        def done(error: StepError | None) -> None:
            compare(bytes(content.data) if error is None else None)

        walk.batch.fetch(Readback(there, remote_status.size_bytes or 0, content, done))
