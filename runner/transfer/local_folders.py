"""The local directories that files are written into, held by their descriptors."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterable

from runner.transfer.local_errors import explain_os_error, no_folder_above
from runner.transfer.local_files import sync_file, sync_folder

PRIVATE_MODE = 0o600
# Each time another play must have renamed the file at that very moment.
MAX_OPENINGS = 10


class LocalFolder:
    """A folder, open, so that nobody can put another in its place while files are written into it."""

    def __init__(self, path: str, fd: int, made: tuple[str, ...] = ()) -> None:
        self.path = path
        self.fd = fd
        self.user_count = 0
        self._made = made

    def remove_made(self) -> None:
        """Remove it, and the folders above, as far as they were made for it and are still empty."""
        remove_empty(self._made)

    def sync(self) -> None:
        """Put it to disk, and the folders above that were made for it. Raises `OSError`."""
        sync_file(self.fd)
        for folder in self._made:
            sync_folder(os.path.dirname(folder))

    def open_partial(self, name: str) -> int:
        """An earlier attempt's file, or a new one, which nobody else writes to. Raises `OSError` if there is another."""
        for _ in range(MAX_OPENINGS):
            fd = self._open_locked(name)
            if fd is not None:
                return fd
        raise FileExistsError(errno.EEXIST, "the partial is renamed again and again", name)

    def _open_locked(self, name: str) -> int | None:
        """The file with its lock held; None if it has lost its name meanwhile. Raises `OSError` if it is not ours."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(name, flags, PRIVATE_MODE, dir_fd=self.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(fd)
            if not self._is_named(name, found):
                # Another play has published it between our opening it and locking it: it is the destination now.
                os.close(fd)
                return None
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
            if not is_ours or stat.S_IMODE(found.st_mode) & 0o077:
                raise FileExistsError(errno.EEXIST, "another file has the partial's name", name)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _is_named(self, name: str, found: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.stat(name, dir_fd=self.fd, follow_symlinks=False), found)
        except FileNotFoundError:
            return False

    def remove_unused(self, name: str) -> bool:
        """Remove a partial that nobody writes to; whether it was removed."""
        try:
            fd = self.open_partial(name)
        except OSError:
            return False
        try:
            os.unlink(name, dir_fd=self.fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        os.close(self.fd)


class LocalFolders:
    """The folders that a batch writes into: open as long as files are under way in them, and the last one beyond that."""

    def __init__(self, open_one: Callable[[str], LocalFolder]) -> None:
        self._open_one = open_one
        self._folders: dict[str, LocalFolder] = {}
        self._last: LocalFolder | None = None
        # The transport's thread enters and leaves folders as well.
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of all of them."""
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()
        self._last = None

    def enter(self, path: str) -> LocalFolder:
        """The folder, open until each `enter` has had its `leave`. Raises `FileError`."""
        with self._lock:
            folder = self._folders.get(path)
            if folder is None:
                folder = self._folders[path] = self._open_one(path)
            folder.user_count += 1
            last, self._last = self._last, folder
            if last is not None and last is not folder and last.user_count == 0:
                self._close(last)
            return folder

    def leave(self, folder: LocalFolder) -> None:
        """A file in it is done with."""
        with self._lock:
            folder.user_count -= 1
            if folder.user_count == 0 and folder is not self._last and folder.path in self._folders:
                self._close(folder)

    def _close(self, folder: LocalFolder) -> None:
        folder.close()
        del self._folders[folder.path]


def open_folder(folder: str, path: str, *, create_parents: bool) -> LocalFolder:
    """The folder that `path` shall be created in, made if need be. Raises `FileError`."""
    made: tuple[str, ...] = ()
    try:
        if create_parents:
            made = _make_folders(folder)
        return LocalFolder(folder, os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), made)
    except OSError as error:
        remove_empty(made)
        if isinstance(error, FileNotFoundError) and not create_parents:
            raise no_folder_above(path, folder) from error
        raise explain_os_error(error, "cannot create", path) from error


def _make_folders(path: str) -> tuple[str, ...]:
    """Make a folder and those above it: the ones that were missing, innermost first. Raises `OSError`."""
    missing: list[str] = []
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    os.makedirs(os.path.abspath(path), exist_ok=True)
    return tuple(missing)


def remove_empty(folders: Iterable[str]) -> None:
    """Remove folders, innermost first, as far as they are empty."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            # Somebody else has put something into it.
            return


def set_permissions(folder: LocalFolder, name: str, permissions: int) -> None:
    """Set the permissions of a file in a folder, but not of one that a link leads to. Raises `OSError`."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    try:
        os.fchmod(fd, permissions)
    finally:
        os.close(fd)
