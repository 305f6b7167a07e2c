"""A local file that is copied: opened, and known again by what it was then; or content that is in no file."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from runner.errors import (
    NotARegularFile,
    SourceChanged,
    SourceMissing,
)
from runner.remote_files import FileStatus
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import to_status


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


@contextmanager
def hold_content(content: bytes) -> Iterator[LocalSource]:
    """The same for content that is in no file, inside the block. It is in memory where the system offers that.

    Elsewhere it is in a file without a name, of which nothing is left whatever happens. Raises `OSError`.
    """
    fd = _open_nameless()
    source = LocalSource("", fd, os.fstat(fd))
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        source.opened_as = os.fstat(fd)
        yield source
    finally:
        source.close()


def _open_nameless() -> int:
    # macOS has no memfd_create, and a container's filter may forbid it.
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return os.memfd_create("content")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def open_local_source(path: str) -> LocalSource:
    """The local source, open. Raises `SourceMissing`, `NotARegularFile`, `PermissionRefused`, `FileRefused`."""
    try:
        # Not blocking, since opening a pipe that nobody writes to would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise source_missing(path) from error
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


def source_missing(path: str) -> SourceMissing:
    """The error for a local source at which nothing is."""
    return SourceMissing(
        f"the source {path!r} does not exist on this machine",
        hint="Relative paths start at workdir, by default the playbook's folder.",
    )


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
