"""What one step of `--check` would change: gathered while it is foretold, and kept for later steps if it would succeed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from runner.errors import FileRefused, PermissionRefused, SourceMissing
from runner.foretold import Unforetold
from runner.plan import (
    CopyDirectory,
    CopyDirectoryFromEngine,
    CopyFile,
    CopyFileFromEngine,
    CreateFolder,
    CreateLink,
    Endpoint,
    Mode,
    Place,
    RemovePath,
    RenamePath,
    WriteContent,
)
from runner.remote_files import FileStatus, ForetoldStatus, RemoteReader, WantedAttributes
from runner.transfer.decision import Decision
from runner.transfer.foretold.contents import Content, Written
from runner.transfer.foretold.disk import ForetoldDisk
from runner.transfer.foretold.files import Directory, Foretold, MadeFile, MadeLink, join
from runner.transfer.foretold.reader import ForetoldReader
from runner.transfer.foretold.view import View
from runner.transfer.local_files import Check


def forget_real(foretold: Foretold, mode: Mode, remote: RemoteReader, host: Endpoint, check: Check) -> None:
    """A step has really been carried out, although it is a check: what is there now counts."""
    views = ForetoldReader(remote, host, foretold.files_of(host), check), ForetoldDisk(foretold.disk)
    for place in written_places(mode):
        views[place.is_local].forget(place.path)


def written_places(mode: Mode) -> tuple[Place, ...]:
    """What a mode writes to."""
    if isinstance(mode, CopyFile):
        return mode.places[-1:]
    return mode.places if isinstance(mode, RemovePath | RenamePath | CreateFolder | CreateLink) else ()


class StepEffects:
    """What one attempt at a step would change. Nothing of it counts before `apply`."""

    def __init__(self, step: str, server: ForetoldReader, disk: ForetoldDisk) -> None:
        self.step = step
        self.server = server
        self.disk = disk
        self._effects: list[Callable[[], None]] = []

    def apply(self) -> None:
        """All of it counts for later steps."""
        for effect in self._effects:
            effect()
        self._effects.clear()

    def lose(self, mode: Mode) -> None:
        """What the step would change is not known: nor is for later steps what will be there."""
        for place in written_places(mode):
            try:
                self.view(is_local=place.is_local).lose(place.path, self.step)
            except Unforetold:
                # It is below something that is not known either.
                continue

    def view(self, *, is_local: bool) -> View:
        """The files of one side."""
        return self.disk if is_local else self.server

    def add(self, effect: Callable[[], None]) -> None:
        """Something that the step would change."""
        self._effects.append(effect)

    def begin_tree(self, copy: CopyDirectory) -> TreeEffects:
        """What the copy of a tree would change, path by path."""
        return TreeEffects(self, copy)

    def make_directory(self, path: str, *, is_local: bool) -> None:
        """A directory would be made."""
        self.add(functools.partial(self.view(is_local=is_local).make_directory, path))

    def set_mode(self, path: str, mode: int) -> None:
        """A directory of the server would get this mode."""
        self.add(functools.partial(self.server.set_directory, path, mode))

    def rename(self, source: str, destination: str) -> None:
        """What is on the server would get another path."""
        self.add(functools.partial(self.server.move, source, destination, self.step))

    def remove(self, path: str) -> None:
        """What is on the server would be removed, with everything below it."""
        self.add(functools.partial(self.server.remove, path))

    def link(self, path: str, target: str) -> None:
        """A link would be made on the server."""
        self.add(functools.partial(self.server.put_link, path, target))

    def copy_file(self, copy: CopyFile, decision: Decision, source: FileStatus, destination: FileStatus | None) -> None:
        """One file would be copied, or get other permissions, or stay as it is."""
        is_upload, wanted, path = isinstance(copy, CopyFileFromEngine), decision.wanted, copy.destination
        view = self.view(is_local=not is_upload)
        if decision.action == "chmod" and destination is not None and wanted.permissions is not None:
            self.add(functools.partial(view.set_permissions, path, wanted.permissions, destination, self.step))
        if decision.action not in ("create", "replace"):
            return
        is_beside = copy.atomic and (not is_upload or self.server.can_rename)
        is_in_place = destination is not None and not is_beside
        if destination is not None and copy.backup:
            self.add(functools.partial(view.keep_old, path, self.step))
        permissions = wanted.permissions
        if permissions is None and is_in_place and destination is not None:
            permissions = destination.permissions
        status = made_status(source.size_bytes, wanted._replace(permissions=permissions))
        node = MadeFile(status, self._content_of(copy), self.step)
        is_new = destination is None
        self.add(functools.partial(view.put_file, path, node, follow=not is_beside, touches=is_beside or is_new))

    def _content_of(self, copy: CopyFile) -> Content | None:
        if isinstance(copy, WriteContent):
            return Written(copy.content)
        return self.view(is_local=isinstance(copy, CopyFileFromEngine)).find_content(copy.source)

    # Whether two files are the same.

    @property
    def is_all_real(self) -> bool:
        """Whether neither side has anything that an earlier step would have made."""
        return self.server.is_empty and self.disk.is_empty

    def find_same_hash(self, local_path: str, remote_path: str, size_bytes: int) -> str | None:
        """The SHA-256 that both sides have, None if they differ or one cannot be read.

        Raises `Unforetold` if one of them will be there to be read only in the play.
        """
        here, there = self._contents(local_path, remote_path)
        try:
            local = self.server.hash(here, size_bytes).sha256
            return local if self.server.hash(there, size_bytes).sha256 == local else None
        except (PermissionRefused, FileRefused, SourceMissing):
            return None

    def are_same(self, local_path: str, remote_path: str, size_bytes: int) -> bool:
        """Whether both sides hold the same. What comes from the same file need not be read for that."""
        here, there = self._contents(local_path, remote_path)
        if here is not None and here == there:
            return True
        return self.find_same_hash(local_path, remote_path, size_bytes) is not None

    def are_real(self, local_path: str, remote_path: str) -> bool:
        """Whether two files are really there under these paths."""
        return self._contents(local_path, remote_path) == (self.disk.store(local_path), self.server.store(remote_path))

    def _contents(self, local_path: str, remote_path: str) -> tuple[Content | None, Content | None]:
        return self.disk.find_content(local_path), self.server.find_content(remote_path)


def made_status(size_bytes: int | None, wanted: WantedAttributes) -> FileStatus:
    """The status of a file that would be written with these attributes."""
    return ForetoldStatus(False, True, size_bytes, wanted.permissions, wanted.modified_at_seconds)


class _Entry(NamedTuple):
    """What a tree would change at one path; None for the node if that would be removed."""

    path: str
    node: MadeFile | MadeLink | Directory | None
    is_content_kept: bool = False
    follows_link: bool = False


class TreeEffects:
    """What the copy of one tree would change. Of more than a bounded number of paths nothing is kept but that it is much."""

    def __init__(self, effects: StepEffects, copy: CopyDirectory) -> None:
        self._effects = effects
        self._copy = copy
        is_upload = isinstance(copy, CopyDirectoryFromEngine)
        self._view = effects.view(is_local=not is_upload)
        self._source = effects.view(is_local=is_upload)
        self._received_by = "" if is_upload else effects.step
        self._entries: list[_Entry] = []
        self._attributes: list[tuple[str, WantedAttributes]] = []
        self._is_too_much = False

    def file(
        self, path: str, source_path: str, source: FileStatus, wanted: WantedAttributes, *, follows_link: bool
    ) -> None:
        """A file would be written; `follows_link`: to where the link leads that is there."""
        content = self._source.find_content(source_path, follow=self._copy.links == "follow")
        node = MadeFile(made_status(source.size_bytes, wanted), content, self._effects.step)
        self._add(_Entry(path, node, follows_link=follows_link))

    def permissions(self, path: str, found: FileStatus, permissions: int) -> None:
        """A file would get these permissions."""
        status = ForetoldStatus(*found)._replace(permissions=permissions)
        self._add(_Entry(path, MadeFile(status, None, self._effects.step), is_content_kept=True))

    def link(self, path: str, target: str) -> None:
        """A link would be made."""
        self._add(_Entry(path, MadeLink(target, self._received_by)))

    def directory(self, path: str) -> None:
        """A directory would be made, where none is."""
        self._add(_Entry(path, Directory(None)))

    def remove(self, paths: Sequence[str]) -> None:
        """What is at these paths would be removed; what is in a directory comes behind it."""
        for path in reversed(paths):
            self._add(_Entry(path, None))

    def keep_old(self, backup: str | None) -> None:
        """What is replaced would be kept, under a name that only the play will choose."""
        if backup is not None:
            self._effects.add(functools.partial(self._view.keep_old, backup, self._effects.step))

    def set_directory(self, path: str, wanted: WantedAttributes) -> None:
        """A directory would get these attributes, after everything else."""
        if not self._attributes:
            self._effects.add(self._apply_attributes)
        self._attributes.append((path, wanted))

    def _add(self, entry: _Entry) -> None:
        if self._is_too_much:
            return
        if not self._entries:
            # Behind the directories above the root, which are made first.
            self._effects.add(self._apply)
        self._entries.append(entry)
        if not self._view.files.has_room_for(len(self._entries)):
            self._is_too_much = True
            self._entries.clear()

    def _apply(self) -> None:
        if self._is_too_much:
            self._view.lose(self._copy.destination, self._effects.step)
            return
        files = self._view.files
        root = self._view.resolve(self._copy.destination, follow=True).path
        for path, node, is_content_kept, follows_link in self._entries:
            place = join(root, path) if path else root
            if follows_link:
                place = self._view.resolve(place, follow=True).path
            if node is None:
                files.remove(place)
            elif is_content_kept and isinstance(node, MadeFile):
                content = self._view.content_of(files.find(place), place)
                files.put(place, MadeFile(node.status, content, node.step), touches=False)
            else:
                files.put(place, node)

    def _apply_attributes(self) -> None:
        if self._is_too_much:
            return
        root = self._view.resolve(self._copy.destination, follow=True).path
        for path, wanted in self._attributes:
            self._view.files.set_directory(join(root, path) if path else root, wanted)
