"""The engine's side of a copy: a source opened for reading, a target that appears whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from runner.errors import (
    DiskFull,
    FileError,
    FileRefused,
    Interrupted,
    NotARegularFile,
    PermissionRefused,
    SourceChanged,
    SourceMissing,
    UnreachableError,
)
from runner.remote_files import SPECIAL_BITS, FileStatus, Published, WantedAttributes
from runner.transfer.backup import give_back, keep_old
from runner.transfer.temporary import TemporaryNames

PRIVATE_MODE = 0o600
HASHED_AT_ONCE_BYTES = 1024 * 1024
# Each time another play must have renamed the file at that very moment.
MAX_OPENINGS = 10

# Raises what ends the work at hand: `Cancellation.check`, or for another thread what `Cancellation.make_check` gives.
Check = Callable[[], None]


@dataclass(slots=True)
class LocalSource:
    """A regular file opened for reading, and what it was when it was opened."""

    path: str
    fd: int
    opened_as: os.stat_result

    @property
    def status(self) -> FileStatus:
        return to_status(self.opened_as)

    def check_unchanged(self) -> None:
        """Raise `SourceChanged` if anybody wrote to the file since it was opened."""
        now = os.fstat(self.fd)
        # ctime is left out: a chmod or a new hard link is no other content.
        before = (self.opened_as.st_size, self.opened_as.st_mtime_ns)
        if (now.st_size, now.st_mtime_ns) != before:
            raise SourceChanged(
                f"the source {self.path!r} was written to while it was copied "
                f"({self.opened_as.st_size:,} bytes before, {now.st_size:,} after)",
                hint="Play again when whatever writes it has finished; write to another name and rename to be safe.",
            )

    def close(self) -> None:
        """Let go of the file; harmless when done before."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextmanager
def open_source(path: str) -> Iterator[LocalSource]:
    """The local source, open inside the block. Raises what `open_local_source` does."""
    source = open_local_source(path)
    try:
        yield source
    finally:
        source.close()


def open_local_source(path: str) -> LocalSource:
    """The local source, open. Raises `SourceMissing`, `NotARegularFile`, `PermissionRefused`, `FileRefused`."""
    try:
        # Not blocking, since opening a pipe that nobody writes to would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SourceMissing(
            f"the source {path!r} does not exist on this machine",
            hint="Relative paths start at workdir, by default the playbook's folder.",
        ) from error
    except OSError as error:
        if error.errno == errno.ENXIO:
            # A socket cannot be opened at all.
            require_regular(FileStatus(False, False, None, None, None), path, "on this machine")
        raise explain_os_error(error, "cannot read", path) from error
    try:
        opened_as = os.fstat(fd)
        if not stat.S_ISREG(opened_as.st_mode):
            require_regular(to_status(opened_as), path, "on this machine")
    except BaseException:
        os.close(fd)
        raise
    return LocalSource(path, fd, opened_as)


def require_regular(status: FileStatus, path: str, where: str) -> None:
    """Raise `NotARegularFile` unless `status` is that of a plain file."""
    if status.is_directory:
        raise NotARegularFile(
            f"the source {path!r} {where} is a directory",
            hint="This mode copies one file: name a file, or list the files one step each.",
        )
    if not status.is_regular:
        raise NotARegularFile(
            f"the source {path!r} {where} is a device, pipe or socket", hint="Only regular files can be copied."
        )


def look_at(path: str) -> FileStatus | None:
    """What is at a local path; None if nothing is. Raises `FileError` if that cannot be told.

    A link is a link, since it is replaced and not followed; only one that leads to a folder counts as that folder.
    """
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            # What is behind it may be anybody's: its permissions must not be taken over, nor changed.
            return FileStatus(os.path.isdir(path), False, None, None, None, True)
        return to_status(found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os_error(error, "cannot look at", path) from error


def to_status(found: os.stat_result) -> FileStatus:
    """What the system says of a file."""
    mode = found.st_mode
    kind = stat.S_IFMT(mode)
    # By position: this is made for every file of a tree.
    if kind == stat.S_IFDIR:
        modified_at = found.st_mtime_ns // 1_000_000_000
        return FileStatus(True, False, found.st_size, mode & 0o777, modified_at, False, mode & SPECIAL_BITS)
    return FileStatus(
        False,
        kind == stat.S_IFREG,
        found.st_size,
        mode & 0o777,
        found.st_mtime_ns // 1_000_000_000,
        kind == stat.S_IFLNK,
    )


def set_attributes(path_or_fd: str | int, wanted: WantedAttributes) -> None:
    """Set permissions and modification time of a local file. Raises `OSError`."""
    if wanted.permissions is not None:
        os.chmod(path_or_fd, wanted.permissions)
    if wanted.modified_at_seconds is not None:
        os.utime(path_or_fd, (wanted.modified_at_seconds, wanted.modified_at_seconds))


def set_permissions(folder: LocalFolder, name: str, permissions: int) -> None:
    """Set the permissions of a file in a folder, but not of one that a link leads to. Raises `OSError`."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    try:
        os.fchmod(fd, permissions)
    finally:
        os.close(fd)


def sync_file(fd: int) -> bool:
    """Put an open file, or folder, to disk. False if its file system does not do that. Raises `OSError`."""
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):
            # On macOS fsync leaves it in the drive's cache.
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise
    return True


def sync_folder(path: str) -> None:
    """Put a folder to disk, and so the names that were given in it. Raises `OSError`."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def hash_file(fd: int, check: Check) -> str:
    """The SHA-256 of what an open local file holds, in hexadecimal.

    `check` is called for each MiB, and raises if the work must end: a large file takes minutes. Raises `OSError`.
    """
    hasher = hashlib.sha256()
    space = memoryview(bytearray(HASHED_AT_ONCE_BYTES))
    offset = 0
    while True:
        check()
        count = os.preadv(fd, [space], offset)
        if count == 0:
            return hasher.hexdigest()
        hasher.update(space[:count])
        offset += count


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


def permissions_by_umask() -> int:
    """What a new file of this process gets."""
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


def explain_writing_in_place(path: str, *, is_link: bool) -> FileRefused:
    """The error for a destination that cannot be written in place: a link, or else a device, pipe or socket."""
    if is_link:
        return FileRefused(
            f"the destination {path!r} on this machine is a symbolic link, and is to be written in place",
            hint="Name the file that it leads to; or remove 'atomic: false', and the link is replaced.",
        )
    return FileRefused(
        f"the destination {path!r} on this machine is a device, pipe or socket",
        hint="Only regular files can be written in place.",
    )


def no_folder_above(path: str, folder: str) -> FileRefused:
    """The error for a destination whose directory is missing."""
    return FileRefused(
        f"cannot create {path!r}: the directory {folder!r} does not exist",
        hint="'create_parents: true' makes it.",
    )


def explain_os_error(error: OSError, doing: str, path: str) -> FileError:
    """What an error of the local file system means for the user."""
    reason = error.strerror or str(error)
    message = f"{doing} {path!r} on this machine: {reason}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(message, hint="Make room, then play again; the old destination is untouched.")
        case errno.EFBIG:
            return FileRefused(
                message, hint="The file system, or this process (`ulimit -f`), allows no file of that size."
            )
        case errno.EACCES | errno.EPERM:
            return PermissionRefused(
                message, hint="Check owner and permissions of the file and of the folders above it."
            )
        case errno.ENAMETOOLONG:
            return FileRefused(message, hint="A name may have 255 bytes on most file systems.")
        case errno.ENOTDIR:
            return FileRefused(message, hint="Something on the way to it is a file where a folder is needed.")
        case errno.ELOOP:
            return FileRefused(message, hint="Symbolic links on the way to it lead in a circle.")
    return FileRefused(message, hint="Check the path and the folder it is in.")
