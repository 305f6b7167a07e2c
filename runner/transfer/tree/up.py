"""A tree on its way to the server: the source is this machine's disk, the destination is asked through the batch."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from runner.errors import (
    FileRefused,
    NotARegularFile,
    PermissionRefused,
    SafetyLimitHeld,
    ServerLacksFeature,
    SourceMissing,
    StepError,
)
from runner.plan import CopyDirectory
from runner.remote_files import (
    NOTHING_WANTED,
    Batch,
    FileStatus,
    RemoteRequest,
    StatusRefused,
    WantedAttributes,
    probe_names,
)
from runner.transfer.batch import BatchSettings, Pending, Uploads
from runner.transfer.context import CopyContext
from runner.transfer.decision import asks_for_permissions
from runner.transfer.directory_modes import SET_GID, first_permissions
from runner.transfer.journal import Done, Unanswered
from runner.transfer.leftovers import RemoteLeftovers
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import to_status
from runner.transfer.protected_places import RealPaths, ask_remote_places, find_protected_paths, require_emptiable
from runner.transfer.remote_folders import amend_entry
from runner.transfer.remote_status import look, require_kind, status_refused
from runner.transfer.requirements import (
    explained_by,
    require_no_dangling_link,
    require_remote_folder,
    require_temporary_directory,
)
from runner.transfer.tree.names import Entries, improper_name, is_proper_name, with_slash
from runner.transfer.tree.walk import Folder, OnDone, TreeWalk
from runner.transfer.verification import FOLDER_NOT_SYNCED

if TYPE_CHECKING:
    from runner.transfer.foretold.disk import ForetoldDisk

HINT_WITHOUT_STATUS = (
    "A directory is compared with its copy, and for that the server must let it be looked at (STAT). Check the permissions "
    "of the directories above it; a server that lets nobody look takes single files with 'copy_file_from_engine'."
)
# Until it has its own, a folder is its owner's alone.
PRIVATE_FOLDER_PERMISSIONS = 0o700


class TreeUp(TreeWalk):
    """One upload of a tree."""

    is_upload = True
    # What was not asked for is not sent.
    new_file_permissions = None
    new_folder_permissions = None

    def __init__(self, copy: CopyDirectory, context: CopyContext) -> None:
        super().__init__(copy, context)
        self.where = f"on {context.peer}"
        settings = BatchSettings(copy, context, self.copied, self.new_file_permissions, self.names)
        self._uploads = Uploads(settings, context.remote)
        self._sets_permissions = asks_for_permissions(copy)

    def close(self) -> None:
        pass

    def open_root(self) -> None:
        source, is_empty = self._look_at_source()
        if not source.is_directory:
            raise NotARegularFile(
                f"the source {self.source_root!r} on this machine is not a directory",
                hint="'copy_file_from_engine' copies a single file.",
            )
        if self.copy.delete and is_empty:
            raise empty_source(self.source_root)
        require_temporary_directory(self.copy, self.context)
        take_places = ask_remote_places(self.destination_root, self.context)
        destination = self._claim_root(first_permissions(self.copy, source))
        require_kind(destination, self.destination_root, self.context.peer)
        if destination is not None and not destination.is_directory:
            raise FileRefused(
                f"the destination {self.destination_root!r} {self.where} is not a directory",
                hint="Name a folder, or remove the file that is there.",
            )
        if destination is not None:
            # Another play may have made it behind the question.
            self._look_where_root_is(take_places() or ask_remote_places(self.destination_root, self.context)())
        disk = self.context.disk
        real_path = os.path.realpath(self.source_root) if disk is None else disk.real_path(self.source_root)
        self.root = Folder("", source, destination, real_path=real_path)
        self.claim(destination)
        self.root.is_there = destination is not None or self.root.was_made

    def _look_at_source(self) -> tuple[FileStatus, bool]:
        """What the source is, and whether nothing is in it. Raises a `StepError`."""
        root, disk = self.source_root, self.context.disk
        self.context.memory.links.require_none_on(root)
        try:
            if disk is not None:
                return _look_at_foretold(root, disk)
            source = to_status(os.stat(root))
            return source, source.is_directory and not os.listdir(root)
        except FileNotFoundError as error:
            raise SourceMissing(
                f"the source folder {root!r} does not exist on this machine",
                hint="Relative paths start at workdir, by default the playbook's folder.",
            ) from error
        except OSError as error:
            raise explain_os_error(error, "cannot read", root) from error

    def _look_where_root_is(self, real_paths: RealPaths | None) -> None:
        if self.copy.delete:
            require_emptiable(self.destination_root, real_paths, self.where, "login directory")
        self.protected = find_protected_paths(self.destination_root, real_paths)

    def _claim_root(self, permissions: int | None) -> FileStatus | None:
        """What is at the destination; where nothing is, a folder is there now, unless that is only checked."""
        path, peer = self.destination_root, self.context.peer
        made = self.journal.made if self.journal is not None else None
        if self.copy.create_parents and not self.context.is_check:
            try:
                with explained_by(self._require_place):
                    return self.context.writer.claim_folder(path, permissions, made)
            except StatusRefused as refusal:
                raise status_refused(refusal, path, peer, hint=HINT_WITHOUT_STATUS) from refusal
        destination = look(self.context.remote, path, peer, hint=HINT_WITHOUT_STATUS)
        if destination is None:
            self._require_place()
            if not self.context.is_check:
                self.context.writer.create_folder(path, permissions, made)
        return destination

    def _require_place(self) -> None:
        """Raise `FileRefused` unless the destination can be made."""
        require_no_dangling_link(self.destination_root, self.context)
        require_remote_folder(self.destination_root, self.context, is_made=self.copy.create_parents)

    def copy_all(self, batch: Batch) -> None:
        if self.root.was_made and self._sets_permissions:
            batch.run(RemoteRequest("look", self.destination_root, functools.partial(_note_bits, self.root)))
        super().copy_all(batch)

    def enter(self, folder: Folder) -> None:
        if folder.destination is None:
            self.see_destination(folder, {})
        else:
            self.batch.list(_Listing(self, folder))

    def see_destination(self, folder: Folder, entries: Entries) -> None:
        """The server has listed a folder of the destination."""
        self.see(folder, functools.partial(self._list_source, folder), entries)

    def may_send_unseen(self, error: StepError) -> bool:
        """Whether files may be sent into a folder that could not be listed: nothing that is there need be known."""
        copy = self.copy
        is_refused = isinstance(error, PermissionRefused | ServerLacksFeature | FileRefused)
        return is_refused and copy.if_exists == "replace" and not copy.delete and not copy.backup

    def find_hidden(self, entries: Entries) -> FileRefused | None:
        """Why the entries of a folder may be more than are listed, where it must be known of each whether it is there.

        What is listed under a name that no file can have may be any of those that seem to be missing.
        """
        if self.copy.if_exists == "replace" and not self.copy.backup:
            return None
        return next((improper_name(name) for name in entries if name and not is_proper_name(name)), None)

    def _list_source(self, folder: Folder) -> Entries:
        path = self.source_path(folder.path)
        if self.context.disk is not None:
            return self.context.disk.entries(path)
        try:
            return _LocalEntries(path, os.listdir(path))
        except OSError as error:
            raise explain_os_error(error, "cannot list", path) from error

    def is_taken(self, path: str) -> bool:
        try:
            return self.context.remote.status(self.destination_path(path), follow=False) is not None
        except StatusRefused:
            return False

    def list_names(self, path: str) -> list[str]:
        return list(self.context.remote.names_in(self.destination_path(path)))

    def make_folder(self, folder: Folder) -> None:
        wanted = WantedAttributes(PRIVATE_FOLDER_PERMISSIONS, None) if self._sets_permissions else NOTHING_WANTED

        def done(request: RemoteRequest, error: StepError | None) -> None:
            if error is None and folder.parent is not None and self._sets_permissions:
                self._inherit(folder, folder.parent)
            self._see_made(folder, error)

        self.batch.run(RemoteRequest("make folder", self.destination_path(folder.path), done, wanted))

    def _inherit(self, folder: Folder, parent: Folder) -> None:
        """A new folder may have the set-gid bit of the one above it, which setting its mode would take away."""
        is_old = parent.destination is not None and not parent.was_made
        bits = parent.destination.special_bits if is_old and parent.destination else parent.inherited_bits
        if bits is None or bits & SET_GID:
            path = self.destination_path(folder.path)
            self.batch.run(RemoteRequest("look closely", path, functools.partial(_note_bits, folder)))
        else:
            folder.inherited_bits = 0

    def _see_made(self, folder: Folder, error: StepError | None) -> None:
        """A folder was made. Where it could not be, another play may have made it a moment before."""
        if error is None or folder.path in self.colliding:
            self.made(folder, error)
            return

        def looked(request: RemoteRequest, refusal: StepError | None) -> None:
            is_there = request.status is not None and request.status.is_directory
            # Where nobody may look, what could not be made is taken to be there: what goes into it tells.
            is_untold = refusal is not None and not request.is_missing and not isinstance(error, PermissionRefused)
            self.made(folder, None if is_there or is_untold else error)

        self.batch.run(RemoteRequest("look closely", self.destination_path(folder.path), looked))

    def begin_copy(self, file: Pending) -> None:
        self._uploads.begin(file, self.batch)

    def settle(self) -> bool:
        compared = super().settle()
        return self._uploads.settle(self.batch) or compared

    def copy_link(self, folder: Folder, name: str, destination: FileStatus | None) -> None:
        path = folder.child(name)
        try:
            disk, place = self.context.disk, self.source_path(path)
            target = os.readlink(place) if disk is None else disk.read_link_at(place)
        except OSError as error:
            self.tally.fail(path, explain_os_error(error, "cannot read the link", self.source_path(path)))
            return
        if destination is None or not destination.is_link:
            self._make_link(folder, path, target, destination)
            return

        def compare(request: RemoteRequest, error: StepError | None) -> None:
            if error is None and request.answer == target:
                self.link_is_right(folder, path)
            else:
                self._make_link(folder, path, target, destination)

        self.batch.run(RemoteRequest("read link", self.destination_path(path), compare))

    def _make_link(self, folder: Folder, path: str, target: str, destination: FileStatus | None) -> None:
        if destination is not None and destination.is_directory:
            self.link_over_folder(folder, path, target)
            return
        folder.is_touched = True
        self.changes.tell("link", path, f"→ {target}")
        backup = self.backup_of_link(folder, path, destination)
        if self.context.is_check:
            self.tally.links_changed += 1
            self.tally.keep(backup)
            if self.effects is not None:
                self.effects.keep_old(backup)
                self.effects.link(path, target)
            return
        place = self.destination_path(path)

        done = Done(backup=backup)

        def made(request: RemoteRequest, error: StepError | None) -> None:
            self.left.forget(temporary, aside, *probes)
            self.left.leave(*request.left)
            if self.journal is not None:
                del self.journal.unanswered[place]
                self.journal.leftovers.difference_update(probes)
            if error is not None:
                self.tally.fail(path, error)
                return
            if self.journal is not None:
                self.journal.published[place] = done
            self.tally.links_changed += 1
            self.tally.keep(backup)

        # Whatever is at its place when a link cannot be made is removed: it must be nobody else's.
        temporary = self.names.path_of(place)
        aside, probes = backup or f"{temporary}.old", probe_names(temporary)
        if self.journal is not None:
            self.journal.unanswered[place] = Unanswered(done, temporary, aside, is_link=True)
            self.journal.leftovers.update(probes)
        is_new = destination is None
        self.left.write(temporary, *probes)
        if not is_new:
            self.left.move_aside(place, aside)
        self.batch.run(
            RemoteRequest("make link", place, made, target=target, temporary=temporary, is_new=is_new, backup=backup)
        )

    def follow_link(self, folder: Folder, name: str, see: Callable[[FileStatus, str], None]) -> None:
        path = folder.child(name)
        place = self.source_path(path)
        try:
            self.context.memory.links.require_none_on(place)
            real_path, status = self._follow(place)
        except OSError as error:
            self.tally.fail(path, explain_os_error(error, "cannot follow the link", place))
            return
        except FileRefused as error:
            self.tally.fail(path, error)
            return
        if not is_inside(real_path, self.root.real_path):
            self.tally.fail(path, leads_out_of_source(path, real_path))
            return
        see(status, real_path)

    def _follow(self, place: str) -> tuple[str, FileStatus]:
        """Where a link of the source really leads, and what is there. Raises `OSError`, and `FileRefused`."""
        disk = self.context.disk
        if disk is None:
            real_path = os.path.realpath(place, strict=True)
            return real_path, to_status(os.stat(real_path))
        disk.require_no_received_link(place)
        status = disk.status(place, follow=True)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return disk.real_path(place), status

    def change_permissions(self, path: str, permissions: int) -> None:
        self.batch.run(
            RemoteRequest(
                "set attributes",
                self.destination_path(path),
                lambda request, error: self.permissions_changed(path, permissions, error, request.attributes_set),
                WantedAttributes(permissions, None),
            )
        )

    def set_folder_attributes(self, folder: Folder, wanted: WantedAttributes) -> None:
        self.batch.run(
            RemoteRequest(
                "set attributes",
                self.destination_path(folder.path),
                lambda request, error: self.folder_set(folder, wanted, error, request.attributes_set),
                wanted,
            )
        )

    def sync_folder(self, path: str, *, is_above: bool) -> None:
        def synced(request: RemoteRequest, error: StepError | None) -> None:
            if error is not None and not is_above:
                self.tally.warn(FOLDER_NOT_SYNCED)

        self.batch.run(RemoteRequest("sync folder", path, synced))

    def list_extra(self, path: str, see: Callable[[Entries], None]) -> None:
        self.batch.list(_ExtraListing(self, path, see))

    def clear_leftovers(self) -> int:
        clear = RemoteLeftovers(with_slash(self.destination_root), self.context.owner, self.context.writer)
        for folder, name in self.leftovers:
            clear.remove_old(f"{folder}/{name}" if folder else name)
        return clear.removed

    def remove(self, path: str, *, is_folder: bool) -> None:
        self.batch.run(
            RemoteRequest(
                "remove folder" if is_folder else "remove",
                self.destination_path(path),
                lambda request, error: self.removed(path, error),
            )
        )

    def remove_now(self, path: str) -> None:
        self.context.writer.remove(self.destination_path(path))

    def rename(self, path: str, new_path: str, done: OnDone) -> None:
        target = self.destination_path(new_path)
        self.batch.run(
            RemoteRequest("rename", self.destination_path(path), lambda request, error: done(error), target=target)
        )

    def make_new_link(self, path: str, target: str, done: OnDone) -> None:
        place = self.destination_path(path)
        temporary = self.names.path_of(place)
        probes = probe_names(temporary)

        def made(request: RemoteRequest, error: StepError | None) -> None:
            self.left.forget(temporary, *probes)
            self.left.leave(*request.left)
            done(error)

        self.left.write(temporary, *probes)
        self.batch.run(RemoteRequest("make link", place, made, target=target, temporary=temporary))


def _look_at_foretold(root: str, disk: ForetoldDisk) -> tuple[FileStatus, bool]:
    """The same where earlier steps of a check would have changed something. Raises `FileNotFoundError`, or a `StepError`."""
    disk.require_no_received_link(root)
    source = disk.status(root, follow=True)
    if source is None:
        raise FileNotFoundError(root)
    return source, source.is_directory and not disk.entries(root)


class _LocalEntries(Mapping[str, FileStatus]):
    """A folder of the source. Each entry is looked at in its turn: the first copy does not wait for the last look."""

    def __init__(self, path: str, names: list[str]) -> None:
        self._above = with_slash(path)
        # In place of a set, since it is smaller.
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> FileStatus:
        """Raises a `StepError` for what is there no more, or must not be looked at."""
        if name not in self._names:
            raise KeyError(name)
        path = self._above + name
        try:
            return to_status(os.lstat(path))
        except FileNotFoundError as error:
            raise SourceMissing(
                f"the source {path!r} vanished from this machine while the tree was copied",
                hint="Play again when whatever removes files there has finished.",
            ) from error
        except OSError as error:
            raise explain_os_error(error, "cannot look at", path) from error

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Listing:
    """A folder of the destination; a `runner.remote_files.Listing`."""

    def __init__(self, walk: TreeUp, folder: Folder) -> None:
        self._walk = walk
        self._folder = folder
        self._entries: dict[str, FileStatus] = {}
        self.path = walk.destination_path(folder.path)

    def take(self, name: str, status: FileStatus) -> None:
        self._entries[name] = status

    def amend(self, name: str, status: FileStatus | None) -> None:
        amend_entry(self._entries, name, status)

    def finish(self, error: StepError | None) -> None:
        if error is None:
            error = self._walk.find_hidden(self._entries)
        if error is None:
            self._walk.see_destination(self._folder, self._entries)
        elif self._walk.may_send_unseen(error):
            self._walk.tally.warn(
                f"the server lists no directories ({error.message}): everything was sent, whatever was there before"
            )
            self._walk.see_destination(self._folder, {})
        else:
            self._walk.tally.fail(self._folder.path or ".", error)


class _ExtraListing:
    """A folder of the destination that the source lacks; a `runner.remote_files.Listing`."""

    def __init__(self, walk: TreeUp, path: str, see: Callable[[Entries], None]) -> None:
        self._walk = walk
        self._relative_path = path
        self._see = see
        self._entries: dict[str, FileStatus] = {}
        self.path = walk.destination_path(path)

    def take(self, name: str, status: FileStatus) -> None:
        self._entries[name] = status

    def amend(self, name: str, status: FileStatus | None) -> None:
        amend_entry(self._entries, name, status)

    def finish(self, error: StepError | None) -> None:
        if error is None or isinstance(error, SourceMissing):
            # Another play may have removed it a moment before.
            self._see(self._entries)
        else:
            self._walk.tally.fail(self._relative_path, error)


def _note_bits(folder: Folder, request: RemoteRequest, error: StepError | None) -> None:
    if request.status is not None:
        folder.inherited_bits = request.status.special_bits


def is_inside(path: str, root: str) -> bool:
    """Whether a resolved path is the root or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def leads_out_of_source(path: str, real_path: str) -> FileRefused:
    """The error for a link that is not followed."""
    return FileRefused(
        f"the link {path!r} leads out of the tree, to {real_path!r}",
        hint="Links are followed inside of the source folder only; 'links: preserve' copies the link itself.",
    )


def empty_source(path: str) -> SafetyLimitHeld:
    """The error for a folder that would empty its copy."""
    return SafetyLimitHeld(
        f"the source folder {path!r} is empty, and 'delete: true' would remove everything from its copy",
        hint="Check that the source is the right one; an empty source is never copied with 'delete: true'.",
    )
