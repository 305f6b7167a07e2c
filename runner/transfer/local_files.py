"""The engine's side of a copy: a source opened for reading, a target that appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from runner.errors import (
    DiskFull,
    FileError,
    FileRefused,
    NotARegularFile,
    PermissionRefused,
    SourceChanged,
    SourceMissing,
)
from runner.remote_files import FileStatus, WantedAttributes
from runner.transfer.temporary import temporary_name

PRIVATE_MODE = 0o600
HASHED_AT_ONCE_BYTES = 1024 * 1024


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
    """What is at a local path, links followed; None if nothing is. Raises `FileError` if that cannot be told."""
    try:
        return to_status(os.stat(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os_error(error, "cannot look at", path) from error


def to_status(found: os.stat_result) -> FileStatus:
    return FileStatus(
        is_directory=stat.S_ISDIR(found.st_mode),
        is_regular=stat.S_ISREG(found.st_mode),
        size_bytes=found.st_size,
        permissions=stat.S_IMODE(found.st_mode) & 0o777,
        modified_at_seconds=found.st_mtime_ns // 1_000_000_000,
    )


def set_attributes(path_or_fd: str | int, wanted: WantedAttributes) -> None:
    """Set permissions and modification time of a local file. Raises `OSError`."""
    if wanted.permissions is not None:
        os.chmod(path_or_fd, wanted.permissions)
    if wanted.modified_at_seconds is not None:
        os.utime(path_or_fd, (wanted.modified_at_seconds, wanted.modified_at_seconds))


def hash_file(fd: int) -> str:
    """The SHA-256 of what an open local file holds, in hexadecimal. Raises `OSError`."""
    hasher = hashlib.sha256()
    space = memoryview(bytearray(HASHED_AT_ONCE_BYTES))
    offset = 0
    while count := os.preadv(fd, [space], offset):
        hasher.update(space[:count])
        offset += count
    return hasher.hexdigest()


class LocalTarget:
    """A local file being written. Unless `publish` is called, leaving the block removes every trace of it.

    Atomic: the bytes go to a temporary name in the destination's folder, made exclusively with mode 0600 and reached
    through the folder's descriptor, so that nobody can slip a link in between. Not atomic: they go straight to the
    destination.
    """

    def __init__(self, path: str, *, is_atomic: bool, create_parents: bool) -> None:
        self._path = path
        self._is_atomic = is_atomic
        folder, self._name = os.path.split(path)
        self._folder = folder or "."
        self._create_parents = create_parents
        self._written_name = temporary_name(self._name) if is_atomic else self._name
        self._folder_fd = -1
        self._made_folders: list[str] = []
        self._existed = False
        self._is_published = False
        self.fd = -1

    def __enter__(self) -> LocalTarget:
        try:
            if self._create_parents:
                self._make_folders()
            self._folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            if self._is_atomic:
                flags |= os.O_EXCL | os.O_NOFOLLOW
            else:
                self._existed = os.path.lexists(self._path)
                flags |= os.O_TRUNC
            self.fd = os.open(self._written_name, flags, PRIVATE_MODE, dir_fd=self._folder_fd)
        except OSError as error:
            self._close()
            self._remove_made_folders()
            if isinstance(error, FileNotFoundError) and not self._create_parents:
                raise FileRefused(
                    f"cannot create {self._path!r}: the folder {self._folder!r} does not exist",
                    hint="'create_parents: true' makes it.",
                ) from error
            raise explain_os_error(error, "cannot create", self._path) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # A file that was there before cannot be brought back once it is written over: that is what atomic is for.
            if not self._is_published and not self._existed:
                os.unlink(self._written_name, dir_fd=self._folder_fd)
                self._remove_made_folders()
        except FileNotFoundError:
            pass
        finally:
            self._close()

    def publish(self) -> None:
        """Give the file its final name, replacing what is there in one step. Raises `FileError`."""
        if self._is_atomic:
            try:
                # This is where the temporary file becomes the destination.
                os.replace(self._written_name, self._name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
            except OSError as error:
                raise explain_os_error(error, "cannot replace", self._path) from error
        self._is_published = True

    def _make_folders(self) -> None:
        missing: list[str] = []
        folder = os.path.abspath(self._folder)
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        os.makedirs(self._folder, exist_ok=True)
        self._made_folders = missing

    def _remove_made_folders(self) -> None:
        for folder in self._made_folders:
            try:
                os.rmdir(folder)
            except OSError:
                # Somebody else has put something into it.
                return

    def _close(self) -> None:
        for fd in (self.fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._folder_fd = -1


def explain_os_error(error: OSError, doing: str, path: str) -> FileError:
    """What an error of the local file system means for the user."""
    reason = error.strerror or str(error)
    message = f"{doing} {path!r} on this machine: {reason}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(message, hint="Make room, then play again; the old destination is untouched.")
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
