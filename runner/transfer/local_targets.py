"""A local file that is written: it appears whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runner.errors import (
    FileError,
    Interrupted,
    UnreachableError,
)
from runner.remote_files import Published
from runner.transfer.backup import give_back, keep_old
from runner.transfer.local_errors import explain_os_error, explain_writing_in_place
from runner.transfer.local_folders import MAX_OPENINGS, PRIVATE_MODE, LocalFolder
from runner.transfer.temporary import TemporaryNames


class LocalTarget:
    """A local file being written. Unless `publish` is called, `close` removes every trace of it.

    Atomic: the bytes go to a temporary name in the destination's folder, made exclusively with mode 0600 and reached
    through the folder's descriptor, so that nobody can slip a link in between. Not atomic: they go straight to the
    destination, which must be no link, and which whoever the `permissions` keep out cannot read any more by then.
    """

    __slots__ = (
        *("_existed", "_folder", "_is_atomic", "_is_kept", "_is_published", "_name", "_partial_name", "_path"),
        *("_permissions", "_written_name", "fd"),
    )

    def __init__(
        self,
        folder: LocalFolder,
        path: str,
        *,
        is_atomic: bool,
        names: TemporaryNames,
        partial_name: str | None = None,
        permissions: int | None = None,
    ) -> None:
        self._folder = folder
        self._permissions = permissions
        self._partial_name = partial_name
        self._is_kept = False
        self._path = path
        self._is_atomic = is_atomic
        self._name = path.rpartition("/")[2]
        self._written_name = names.of(self._name) if is_atomic else self._name
        self._existed = False
        self._is_published = False
        self.fd = -1

    def open(self) -> None:
        """Create the file, or go on with a partial one if there is one and a name for it. Raises `FileError`."""
        if self._partial_name is not None:
            try:
                self.fd = self._folder.open_partial(self._partial_name)
            except OSError:
                # Another play is at it, or a file that is not ours bears its name: a name of our own will do.
                self._partial_name = None
            else:
                self._written_name = self._partial_name
                return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            if self._is_atomic:
                self.fd = os.open(self._written_name, flags | os.O_EXCL, PRIVATE_MODE, dir_fd=self._folder.fd)
            else:
                self._open_in_place(flags | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise explain_writing_in_place(self._path, is_link=True) from error
            raise explain_os_error(error, "cannot create", self._path) from error

    def _open_in_place(self, flags: int) -> None:
        self._existed = os.path.lexists(self._path)
        self.fd = os.open(self._written_name, flags, PRIVATE_MODE, dir_fd=self._folder.fd)
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            raise explain_writing_in_place(self._path, is_link=False)
        mode = stat.S_IMODE(found.st_mode)
        if self._permissions is not None and mode & ~self._permissions:
            # Before the first byte: what was open to others may become a private file.
            os.fchmod(self.fd, mode & self._permissions)
        os.ftruncate(self.fd, 0)

    def publish(self, *, keeps_old: bool = False) -> Published:
        """Give the file its final name, replacing what is there in one step. Raises `FileError`.

        With `keeps_old` that is kept beside it, under a dated name.
        """
        published = Published(self._is_atomic)
        if self._is_atomic:
            folder_fd = self._folder.fd
            try:
                if keeps_old:
                    published = keep_old(folder_fd, self._path)
                # This is where the temporary file becomes the destination.
                os.replace(self._written_name, self._name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            except OSError as error:
                give_back(folder_fd, self._name, published)
                raise explain_os_error(error, "cannot replace", self._path) from error
        self._is_published = True
        return published

    def close(self) -> None:
        """Let go of the file, and remove it unless it was published."""
        if self.fd < 0:
            return
        try:
            # A file that was there before cannot be brought back once it is written over: that is what atomic is for.
            if self.was_made_in_vain:
                # Before the lock is given back: the next one to have it may be a play that publishes the file.
                with suppress(FileNotFoundError):
                    os.unlink(self._written_name, dir_fd=self._folder.fd)
        finally:
            os.close(self.fd)
            self.fd = -1

    @property
    def was_made_in_vain(self) -> bool:
        """Whether nothing has come of it, so that folders made for it may go."""
        return not self._is_published and not self._existed and not self._is_kept

    @property
    def folder(self) -> LocalFolder:
        return self._folder

    @property
    def is_partial(self) -> bool:
        """Whether a later attempt can go on with it."""
        return self._partial_name is not None

    def keep(self) -> int:
        """Leave what has been written for a later attempt, if it has a name for that. Returns how many bytes are kept."""
        size_bytes = os.fstat(self.fd).st_size if self.is_partial and self.fd >= 0 else 0
        self._is_kept = size_bytes > 0
        return size_bytes


@contextmanager
def writing_to(
    open_its_folder: Callable[[], LocalFolder],
    path: str,
    *,
    is_atomic: bool,
    names: TemporaryNames,
    partial_name: str | None,
    permissions: int | None,
) -> Iterator[LocalTarget]:
    """A target for one file in the folder that is opened for it, which is closed in the end.

    Leaving the block unpublished removes the file, and folders that were made for it. A partial one is kept when the
    session ended or the play was interrupted.
    """

    def make(folder: LocalFolder) -> LocalTarget:
        return LocalTarget(
            folder, path, is_atomic=is_atomic, names=names, partial_name=partial_name, permissions=permissions
        )

    target = _open_target(open_its_folder, make)
    try:
        yield target
    except (UnreachableError, Interrupted) as error:
        kept_bytes = target.keep()
        if kept_bytes and isinstance(error, UnreachableError):
            error.add(f"What has arrived is kept beside {path!r}: the next attempt goes on from there")
        raise
    finally:
        target.close()
        _leave(target)


def _open_target(open_its_folder: Callable[[], LocalFolder], make: Callable[[LocalFolder], LocalTarget]) -> LocalTarget:
    """A target that is open. Raises `FileError`.

    Another play that had made the folder, and failed, may remove it before anything is in it: then it is made again.
    """
    for _ in range(MAX_OPENINGS):
        target = make(open_its_folder())
        try:
            target.open()
            return target
        except FileError as error:
            _leave(target)
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            gone = error
        except BaseException:
            _leave(target)
            raise
    raise gone


def _leave(target: LocalTarget) -> None:
    if target.was_made_in_vain:
        target.folder.remove_made()
    target.folder.close()
