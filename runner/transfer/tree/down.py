"""A tree on its way from the server: the source is asked through the batch, the destination is this machine's disk.

The server may list anything. Every folder of the destination is reached from the root's descriptor, one name at a time and
without following links, so that nothing it says can lead outside.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import FileRefused, NotARegularFile, SourceMissing, StepError, UnreachableError
from runner.plan import CopyDirectory
from runner.remote_files import (
    SPECIAL_BITS,
    Batch,
    FileStatus,
    Published,
    RemoteRequest,
    StatusRefused,
    WantedAttributes,
)
from runner.transfer.backup import give_back, keep_old
from runner.transfer.batch import BatchSettings, Downloads, Pending
from runner.transfer.context import CopyContext
from runner.transfer.directory_modes import first_permissions
from runner.transfer.journal import Done
from runner.transfer.leftovers import clear_old_local
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import look_at_entries, permissions_by_umask, sync_file, sync_folder, to_status
from runner.transfer.local_folders import LocalFolder, LocalFolders, open_folder
from runner.transfer.protected_places import find_local_places, find_protected_paths, require_emptiable
from runner.transfer.remote_folders import amend_entry
from runner.transfer.remote_status import require_kind, status_refused
from runner.transfer.requirements import find_write_refusal, require_in_place, require_local_folder
from runner.transfer.tree.links import check_target, find_way_out, leads_out, show_target
from runner.transfer.tree.names import Entries, fold
from runner.transfer.tree.up import PRIVATE_FOLDER_PERMISSIONS, empty_source, is_inside, leads_out_of_source
from runner.transfer.tree.walk import Folder, OnDone, TreeWalk

if TYPE_CHECKING:
    from runner.transfer.foretold.disk import ForetoldDisk

HINT_WITHOUT_STATUS = (
    "A directory is looked at (STAT) before it is copied. Check the permissions of the directories above it; a server that "
    "lets nobody look gives single files with 'copy_file_to_engine'."
)


class TreeDown(TreeWalk):
    """One download of a tree."""

    is_upload = False
    where = "on this machine"

    def __init__(self, copy: CopyDirectory, context: CopyContext) -> None:
        super().__init__(copy, replace(context, open_local_folder=self._open_folder))
        self.new_file_permissions = permissions_by_umask()
        self.new_folder_permissions = self.new_file_permissions | (self.new_file_permissions & 0o444) >> 2
        self._root: LocalFolder | None = None
        # What the play itself rests on, relative to the root; folded, since the disk may take `A` for `a`.
        self._own_files: frozenset[str] = frozenset()
        # Links to be made: what they are in, path, target, and what is there.
        self._links: list[tuple[Folder, str, str, FileStatus | None]] = []
        # From links of the destination that are replaced to the target of what replaces them; None for a file.
        self._coming: dict[str, str | None] = {}
        self._folders_open = LocalFolders(self._open_folder)
        settings = BatchSettings(copy, context, self.copied, self.new_file_permissions, self.names)
        self._downloads = Downloads(settings, context.remote, self._folders_open)

    def close(self) -> None:
        self._folders_open.close()
        if self._root is not None:
            self._root.close()
            self._root = None

    def open_root(self) -> None:
        source = self._look_at_source()
        if source is None:
            raise SourceMissing(
                f"the source folder {self.source_root!r} does not exist on {self.context.peer}",
                hint="Relative remote paths start at the login directory; servers do not expand '~'.",
            )
        require_kind(source, self.source_root, self.context.peer)
        if not source.is_directory:
            raise NotARegularFile(
                f"the source {self.source_root!r} on {self.context.peer} is not a directory",
                hint="'copy_file_to_engine' copies a single file.",
            )
        if self.copy.delete and next(self.context.remote.names_in(self.source_root), None) is None:
            raise empty_source(self.source_root)
        destination = self._look_at_root()
        if destination is not None and not destination.is_directory:
            raise FileRefused(
                f"the destination {self.destination_root!r} on this machine is not a directory",
                hint="Name a folder, or remove the file that is there.",
            )
        self.root = Folder("", source, destination, is_there=destination is not None or not self.context.is_check)
        if destination is None:
            require_local_folder(
                self.destination_root, "cannot create the folder", self.context, is_made=self.copy.create_parents
            )
        if destination is None and self.context.is_check:
            return
        if destination is None:
            self._make_root(first_permissions(self.copy, source))
        else:
            real_paths = find_local_places(self.destination_root)
            if self.context.disk is not None:
                real_paths = real_paths._replace(path=self.context.disk.real_path(self.destination_root))
            if self.copy.delete:
                require_emptiable(self.destination_root, real_paths, self.where, "home directory")
            self.protected = find_protected_paths(self.destination_root, real_paths)
        self.claim(destination)
        if self.context.disk is not None:
            return
        # The root itself may be a link: the user has named it.
        self._root = open_folder(self.destination_root, self.destination_root, create_parents=False)

    def _look_at_source(self) -> FileStatus | None:
        """What the source is. Where nobody may look at names, a folder shows by being listed."""
        remote, path = self.context.remote, self.source_root
        try:
            return remote.status(path)
        except StatusRefused as refusal:
            try:
                with closing(remote.names_in(path)) as names:
                    next(names, None)
            except UnreachableError:
                raise
            except StepError:
                raise status_refused(refusal, path, self.context.peer, hint=HINT_WITHOUT_STATUS) from refusal
        return FileStatus(True, False, None, None, None)

    def _look_at_root(self) -> FileStatus | None:
        self.context.memory.links.require_none_on(self.destination_root)
        own_files = self.context.memory.own_files_below(self.destination_root)
        self._own_files = frozenset(map(fold, own_files))
        if self.context.disk is not None:
            return self._look_at_foretold(self.context.disk)
        try:
            return to_status(os.stat(self.destination_root))
        except FileNotFoundError as error:
            if os.path.lexists(self.destination_root):
                raise self._leads_nowhere() from error
            return None
        except OSError as error:
            raise explain_os_error(error, "cannot look at", self.destination_root) from error

    def _look_at_foretold(self, disk: ForetoldDisk) -> FileStatus | None:
        """The same where earlier steps of a check would have changed something."""
        disk.require_no_received_link(self.destination_root)
        found = disk.status(self.destination_root, follow=True)
        if found is None and disk.status(self.destination_root, follow=False) is not None:
            raise self._leads_nowhere()
        return found

    def _leads_nowhere(self) -> FileRefused:
        return FileRefused(
            f"the destination {self.destination_root!r} on this machine is a symbolic link that leads nowhere",
            hint="Remove it, or name another directory.",
        )

    def _make_root(self, permissions: int | None) -> None:
        try:
            make = os.makedirs if self.copy.create_parents else os.mkdir
            make(self.destination_root, 0o777 if permissions is None else permissions)
        except FileExistsError:
            # Another play has made it a moment before. What else may be there is found when it is opened.
            pass
        except OSError as error:
            raise explain_os_error(error, "cannot create the folder", self.destination_root) from error

    def copy_all(self, batch: Batch) -> None:
        if self.copy.links == "follow":
            self.root.real_path = self.context.remote.real_path(self.source_root)
        super().copy_all(batch)

    def enter(self, folder: Folder) -> None:
        self.batch.list(_Listing(self, folder))

    def local_entries(self, folder: Folder) -> Entries:
        """What is in a folder of the destination. Raises `FileError`."""
        if folder.destination is None:
            return {}
        if self.context.disk is not None:
            return self.context.disk.entries(self.destination_path(folder.path))
        opened = self._folders_open.enter(self.destination_path(folder.path))
        try:
            return look_at_entries(opened.fd)
        except OSError as error:
            raise explain_os_error(error, "cannot list", self.destination_path(folder.path)) from error
        finally:
            self._folders_open.leave(opened)

    def is_taken(self, path: str) -> bool:
        if self.context.disk is not None:
            return self.context.disk.status(self.destination_path(path), follow=False) is not None
        folder, name = self._split(path)
        try:
            opened = self._folders_open.enter(folder)
        except StepError:
            return False
        try:
            os.lstat(name, dir_fd=opened.fd)
        except OSError:
            return False
        finally:
            self._folders_open.leave(opened)
        return True

    def list_names(self, path: str) -> list[str]:
        return list(self.local_entries(Folder(path, self.root.source, self.root.source)))

    def make_folder(self, folder: Folder) -> None:
        parent, name = self._split(folder.path)
        try:
            opened = self._folders_open.enter(parent)
            try:
                if folder.path in self.colliding:
                    os.mkdir(name, PRIVATE_FOLDER_PERMISSIONS, dir_fd=opened.fd)
                else:
                    _make_directory(name, opened.fd)
            finally:
                self._folders_open.leave(opened)
        except OSError as error:
            self.made(folder, explain_os_error(error, "cannot create the folder", self.destination_path(folder.path)))
        except StepError as error:
            self.made(folder, error)
        else:
            self.made(folder, None)

    def may_be_written(self, path: str, destination: FileStatus | None) -> bool:
        if self._own_files and fold(path) in self._own_files:
            self.tally.fail(path, _own_file(self.destination_path(path)))
            return False
        if destination is not None and destination.is_link:
            self._coming[path] = None
        return True

    def find_refusal(self, folder: Folder, path: str, destination: FileStatus | None) -> StepError | None:
        if folder.destination is None:
            return None
        place = self.destination_path(path)
        if self.context.disk is not None:
            return self._find_foretold_refusal(self.context.disk, folder, place, destination)
        try:
            opened = self._folders_open.enter(self.destination_path(folder.path))
            try:
                if destination is not None and not self.copy.atomic:
                    require_in_place(place, destination, opened.fd)
                elif (refusal := find_write_refusal(opened.fd)) is not None:
                    raise explain_os_error(refusal, "cannot create", place)
            finally:
                self._folders_open.leave(opened)
        except StepError as error:
            return error
        return None

    def _find_foretold_refusal(
        self, disk: ForetoldDisk, folder: Folder, place: str, destination: FileStatus | None
    ) -> StepError | None:
        """The same where earlier steps of a check would have changed something."""
        try:
            if destination is not None and not self.copy.atomic:
                if destination.is_link or disk.find_real(place) is not None:
                    require_in_place(place, destination)
            else:
                real = disk.find_real(self.destination_path(folder.path))
                if real is not None and (refusal := find_write_refusal(real)) is not None:
                    return explain_os_error(refusal, "cannot create", place)
        except StepError as error:
            return error
        return None

    def is_protected(self, path: str, *, is_folder: bool) -> bool:
        is_own = bool(self._own_files) and fold(path) in self._own_files
        return is_own or super().is_protected(path, is_folder=is_folder)

    def begin_copy(self, file: Pending) -> None:
        self._downloads.begin(file, self.batch)

    def settle(self) -> bool:
        compared = super().settle()
        return self._downloads.settle(self.batch) or compared or self._settle_links()

    def copy_link(self, folder: Folder, name: str, destination: FileStatus | None) -> None:
        path = folder.child(name)

        def take(request: RemoteRequest, error: StepError | None) -> None:
            error = error or check_target(path, request.answer)
            if error is not None:
                self.tally.fail(path, error)
            elif leads_out(path, request.answer):
                self._leave_out_link(path, f"it leads out of the tree, to {show_target(request.answer)}")
            else:
                self._links.append((folder, path, request.answer, destination))

        self.batch.run(RemoteRequest("read link", self.source_path(path), take))

    def _settle_links(self) -> bool:
        """Make the links whose targets have come, once everything is there that they may lead through."""
        links, self._links = sorted(self._links, key=lambda link: link[1]), []
        self._coming |= {path: target for _, path, target, found in links if found is not None and found.is_link}
        has_root = self._root is not None or self.context.disk is not None
        for folder, path, target, destination in links:
            self.context.cancellation.check()
            through = find_way_out(self._read_link_at, path, target, self._coming) if has_root else None
            if through is None:
                try:
                    self._settle_link(folder, path, target, destination)
                except StepError as error:
                    self.tally.fail(path, error)
            else:
                what = f"its target {show_target(target)} leads through {through!r}"
                self._leave_out_link(path, f"{what}, a link out of the tree that was there before")
        return bool(links)

    def _read_link_at(self, path: str) -> str:
        """Where a link of the destination leads. Raises `OSError` for anything else."""
        if self.context.disk is not None:
            return self.context.disk.read_link_at(self.destination_path(path))
        assert self._root is not None
        return os.readlink(path, dir_fd=self._root.fd)

    def _settle_link(self, folder: Folder, path: str, target: str, destination: FileStatus | None) -> None:
        if destination is not None and destination.is_link and self._is_same_link(path, target):
            self.link_is_right(folder, path)
        elif destination is not None and destination.is_directory:
            self.link_over_folder(folder, path, target)
        elif self.may_be_written(path, None):
            folder.is_touched = True
            self.changes.tell("link", path, f"→ {target}")
            self._make_link(path, target, self.backup_of_link(folder, path, destination))

    def _leave_out_link(self, path: str, why: str) -> None:
        self.tally.links_left_out += 1
        self.tally.warn(f"the link {path!r} was left out: {why}")

    def _is_same_link(self, path: str, target: str) -> bool:
        """Whether the destination has that link already. Then it counts as received: an earlier play may have made it."""
        if self.context.disk is not None:
            return self._is_same_foretold_link(self.context.disk, path, target)
        folder, name = self._split(path)
        opened = self._folders_open.enter(folder)
        try:
            is_same = os.readlink(name, dir_fd=opened.fd) == target
            if is_same:
                self._note_received(name, opened.fd)
            return is_same
        except OSError:
            return False
        finally:
            self._folders_open.leave(opened)

    def _is_same_foretold_link(self, disk: ForetoldDisk, path: str, target: str) -> bool:
        place = self.destination_path(path)
        is_same = disk.read_link(place) == target
        real = disk.resolve(place, follow=False)
        if is_same and real.is_real and real.origin is not None:
            self.context.memory.links.note(os.lstat(real.origin), self.context.step)
        return is_same

    def _note_received(self, name: str, folder_fd: int) -> None:
        """A link that the server has sent is at a name in an open folder. Raises `OSError`."""
        self.context.memory.links.note(os.stat(name, dir_fd=folder_fd, follow_symlinks=False), self.context.step)

    def _make_link(self, path: str, target: str, backup: str | None) -> None:
        self.tally.links_changed += 1
        if self.context.is_check:
            self.tally.keep(backup)
            if self.effects is not None:
                self.effects.keep_old(backup)
                self.effects.link(path, target)
            return
        folder, name = self._split(path)
        temporary = self.names.of(name)
        try:
            opened = self._folders_open.enter(folder)
            kept = Published(True)
            try:
                os.symlink(target, temporary, dir_fd=opened.fd)
                self._note_received(temporary, opened.fd)
                if backup is not None:
                    kept = keep_old(opened.fd, self.destination_path(path))
                os.replace(temporary, name, src_dir_fd=opened.fd, dst_dir_fd=opened.fd)
                self.tally.keep(kept.backup)
                if self.journal is not None:
                    self.journal.published[self.destination_path(path)] = Done(backup=kept.backup)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=opened.fd)
                give_back(opened.fd, name, kept)
                raise
            finally:
                self._folders_open.leave(opened)
        except (OSError, StepError) as error:
            self.tally.links_changed -= 1
            self.tally.fail(path, self._explain(error, "cannot create the link", path))

    def follow_link(self, folder: Folder, name: str, see: Callable[[FileStatus, str], None]) -> None:
        path = folder.child(name)

        def resolved(request: RemoteRequest, error: StepError | None) -> None:
            if error is not None:
                self.tally.fail(path, error)
            elif not is_inside(request.answer, self.root.real_path):
                self.tally.fail(path, leads_out_of_source(path, request.answer))
            else:
                self.batch.run(RemoteRequest("look", request.answer, looked, answer=request.answer))

        def looked(request: RemoteRequest, error: StepError | None) -> None:
            if error is not None or request.status is None:
                self.tally.fail(path, error or FileRefused(f"the server does not tell what the link {path!r} leads to"))
            else:
                see(request.status, request.path)

        self.batch.run(RemoteRequest("resolve", self.source_path(path), resolved))

    def change_permissions(self, path: str, permissions: int) -> None:
        error = self._set(path, WantedAttributes(permissions, None))
        self.permissions_changed(path, permissions, error)

    def set_folder_attributes(self, folder: Folder, wanted: WantedAttributes) -> None:
        self.folder_set(folder, wanted, self._set(folder.path, wanted, is_folder=True))

    def _set(self, path: str, wanted: WantedAttributes, *, is_folder: bool = False) -> StepError | None:
        folder, name = self._split(path)
        try:
            opened = self._folders_open.enter(folder)
            try:
                # Opened without following: a link in its place is left alone.
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=opened.fd)
                try:
                    if wanted.permissions is not None:
                        # A new folder may have the set-gid bit of the one above it.
                        kept_bits = os.fstat(fd).st_mode & SPECIAL_BITS if is_folder else 0
                        os.fchmod(fd, wanted.permissions | kept_bits)
                    if wanted.modified_at_seconds is not None:
                        os.utime(fd, (wanted.modified_at_seconds, wanted.modified_at_seconds))
                finally:
                    os.close(fd)
            finally:
                self._folders_open.leave(opened)
        except (OSError, StepError) as error:
            return self._explain(error, "cannot set permissions or times of", path)
        return None

    def sync_folder(self, path: str, *, is_above: bool) -> None:
        try:
            if is_above:
                sync_folder(path)
                return
            opened = self._folders_open.enter(path)
            try:
                sync_file(opened.fd)
            finally:
                self._folders_open.leave(opened)
        except (OSError, StepError) as error:
            if not is_above:
                relative = path[len(self.destination_root) :].strip("/")
                self.tally.fail(relative or ".", self._explain(error, "cannot sync to disk", relative))

    def list_extra(self, path: str, see: Callable[[Entries], None]) -> None:
        try:
            see(self.local_entries(Folder(path, self.root.source, self.root.source)))
        except StepError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                # Another play may have removed it a moment before.
                see({})
            else:
                self.tally.fail(path, error)

    def clear_leftovers(self) -> int:
        removed = 0
        for path, name in self.leftovers:
            with suppress(StepError, OSError):
                opened = self._folders_open.enter(self.destination_path(path))
                try:
                    removed += clear_old_local(opened.fd, name, self._now, opened.remove_unused)
                finally:
                    self._folders_open.leave(opened)
        return removed

    @functools.cached_property
    def _now(self) -> float:
        """The disk's time, as it dates a file that is written now. Raises `OSError`."""
        assert self._root is not None
        name = self.names.of("clock")
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._root.fd)
        try:
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)
            os.unlink(name, dir_fd=self._root.fd)

    def remove(self, path: str, *, is_folder: bool) -> None:
        folder, name = self._split(path)
        try:
            opened = self._folders_open.enter(folder)
            try:
                with suppress(FileNotFoundError):
                    (os.rmdir if is_folder else os.unlink)(name, dir_fd=opened.fd)
            finally:
                self._folders_open.leave(opened)
        except (OSError, StepError) as error:
            if isinstance(error.__cause__, FileNotFoundError):
                # It went with its folder, by another play.
                return
            self.removed(path, self._explain(error, "cannot remove", path))

    def remove_now(self, path: str) -> None:
        self.remove(path, is_folder=False)

    def rename(self, path: str, new_path: str, done: OnDone) -> None:
        folder, name = self._split(path)
        new_name = self._split(new_path)[1]

        def act(fd: int) -> None:
            os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=fd)

        done(self._do_in(folder, act, "cannot rename", path))

    def make_new_link(self, path: str, target: str, done: OnDone) -> None:
        folder, name = self._split(path)

        def make(fd: int) -> None:
            os.symlink(target, name, dir_fd=fd)
            self._note_received(name, fd)

        done(self._do_in(folder, make, "cannot create the link", path))

    def _do_in(self, folder: str, act: Callable[[int], None], doing: str, path: str) -> StepError | None:
        """Do something in an open folder of the destination; what went wrong, if anything did."""
        try:
            opened = self._folders_open.enter(folder)
            try:
                act(opened.fd)
            finally:
                self._folders_open.leave(opened)
        except (OSError, StepError) as error:
            return self._explain(error, doing, path)
        return None

    def _explain(self, error: OSError | StepError, doing: str, path: str) -> StepError:
        if isinstance(error, StepError):
            return error
        return explain_os_error(error, doing, self.destination_path(path))

    def _split(self, path: str) -> tuple[str, str]:
        """The folder that an entry of the destination is in, and its name there."""
        folder, _, name = path.rpartition("/")
        return self.destination_path(folder), name or "."

    def _open_folder(self, path: str) -> LocalFolder:
        """A folder of the destination, reached from the root without following links. Raises `FileError`."""
        if self._root is None:
            raise FileRefused(f"{path!r} does not exist")
        relative = path[len(self.destination_root) :].strip("/")
        fd = os.dup(self._root.fd)
        try:
            for name in relative.split("/") if relative else ():
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError as error:
            os.close(fd)
            raise explain_os_error(error, "cannot open the folder", path) from error
        return LocalFolder(path, fd)


def _own_file(path: str) -> FileRefused:
    return FileRefused(
        f"{path!r} differs from the source, and is a file that this command itself rests on: a playbook, a file that one "
        "looks up, a known_hosts file, or a key",
        hint="No server may change what decides whom to trust. Give the copy a directory of its own, or exclude the file.",
    )


def _make_directory(name: str, folder_fd: int) -> None:
    """Make a folder, unless another play has made it a moment before. Raises `OSError`."""
    try:
        os.mkdir(name, PRIVATE_FOLDER_PERMISSIONS, dir_fd=folder_fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            raise


class _Listing:
    """A folder of the source; a `runner.remote_files.Listing`."""

    def __init__(self, walk: TreeDown, folder: Folder) -> None:
        self._walk = walk
        self._folder = folder
        self._entries: dict[str, FileStatus] = {}
        self.path = walk.source_path(folder.path)

    def take(self, name: str, status: FileStatus) -> None:
        self._entries[name] = status

    def amend(self, name: str, status: FileStatus | None) -> None:
        amend_entry(self._entries, name, status)

    def finish(self, error: StepError | None) -> None:
        try:
            if error is not None:
                raise error
            self._walk.see(self._folder, lambda: self._entries, self._walk.local_entries(self._folder))
        except StepError as failure:
            self._walk.tally.fail(self._folder.path or ".", failure)
