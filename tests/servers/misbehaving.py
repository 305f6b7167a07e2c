"""SFTP servers with one fault each, for `AsyncsshServer(sftp_factory=…)`.

A fault with a parameter is bound with `functools.partial`: `partial(FailingWrite, number=3)`. SCP goes
through the same servers. Faults start afresh with each session; `fail_first_sessions` ends them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
import unicodedata
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

import asyncssh

from tests.servers.file_session import Channel, FileServer, SFTPFactory

_LATER_SECONDS = 10  # SFTP counts whole seconds: less would not show in an mtime


def fail_first_sessions(count: int, faulty: SFTPFactory, honest: SFTPFactory = FileServer) -> SFTPFactory:
    """A factory for tests of retries: `count` faulty sessions, then honest ones."""
    numbers = itertools.count(1)
    return lambda channel, root, chroot: (faulty if next(numbers) <= count else honest)(channel, root, chroot)


class FailingWrite(FileServer):
    """Write number `number` of a session fails with FAILURE; the others succeed."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, number: int = 1) -> None:
        super().__init__(channel, root, chroot)
        self.writes_left = number

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        self.writes_left -= 1
        if self.writes_left == 0:
            self.fail_write()
        return _write(file_obj, offset, data)

    def fail_write(self) -> None:
        """What happens instead of the write."""
        raise asyncssh.SFTPFailure("Failure")


class BrokenConnection(FailingWrite):
    """At write number `number` the connection breaks without a word."""

    def fail_write(self) -> None:
        self.connection.abort()
        raise asyncssh.SFTPFailure("unheard")


class FullDisk(FileServer):
    """Each file has room for `capacity` bytes: like a disk, it takes what fits and then fails."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, capacity: int = 0) -> None:
        super().__init__(channel, root, chroot)
        self.capacity = capacity

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        fitting = data[: max(0, self.capacity - offset)]
        _write(file_obj, offset, fitting)
        if len(fitting) < len(data):
            self.refuse_rest()
        return len(data)

    def refuse_rest(self) -> None:
        """Say that the rest did not fit. SFTP version 3 has no code for it but FAILURE."""
        raise asyncssh.SFTPFailure("No space left on device")


class DroppedWrites(FullDisk):
    """What does not fit is acknowledged all the same: the file stays short."""

    def refuse_rest(self) -> None:
        pass


class FailingClose(FileServer):
    """Closing a file after writing to it fails, as on a network file system over its quota."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False) -> None:
        super().__init__(channel, root, chroot)
        self.written: set[int] = set()

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        self.written.add(id(file_obj))
        return _write(file_obj, offset, data)

    def close(self, file_obj: object) -> None:
        super().close(file_obj)
        if id(file_obj) in self.written:
            self.written.remove(id(file_obj))
            raise asyncssh.SFTPFailure("Disk quota exceeded")


class EarlyEnd(FileServer):
    """Reading ends after `length` bytes although stat promises more."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, length: int = 0) -> None:
        super().__init__(channel, root, chroot)
        self.length = length

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return _read(file_obj, offset, min(size, max(0, self.length - offset)))


class ShortReads(FileServer):
    """Each read gives half of what was asked, one byte at least, although more is there."""

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return _read(file_obj, offset, (size + 1) // 2)


class RefusedSetstat(FileServer):
    """Modes and times cannot be changed, neither by path nor by handle."""

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")

    lsetstat = setstat

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")


class RefusedStat(FileServer):
    """Existing files cannot be examined; missing ones are reported missing, folders can be examined."""

    def stat(self, path: bytes) -> os.stat_result:
        return self.examine(path, follow_symlinks=True)

    def lstat(self, path: bytes) -> os.stat_result:
        return self.examine(path, follow_symlinks=False)

    def fstat(self, file_obj: object) -> os.stat_result:
        raise asyncssh.SFTPPermissionDenied("Permission denied")

    def examine(self, path: bytes, *, follow_symlinks: bool) -> os.stat_result:
        """Fail for anything that exists and is no folder."""
        real = Path(os.fsdecode(self.map_path(path)))
        result = real.stat(follow_symlinks=follow_symlinks)
        if not real.is_dir():
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        return result


class RefusedRename(FileServer):
    """Nothing can be renamed, by neither request."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")

    posix_rename = rename


class EndlessListing(FileServer):
    """Every folder has names without an end."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for number in itertools.count():
            yield asyncssh.SFTPName(b"n%d" % number, "", asyncssh.SFTPAttrs())


class PlainRenameOnly(FileServer):
    """No posix-rename extension, neither advertised nor served; plain rename fails if the new name exists."""

    hidden_extensions: ClassVar[frozenset[bytes]] = frozenset([b"posix-rename@openssh.com"])

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        # Hiding is not enough: paramiko sends the request without looking at what is advertised.
        raise asyncssh.SFTPOpUnsupported("Operation unsupported")


class SlowServer(FileServer):
    """Each read and write takes `seconds`; they add up, as a session's requests are served one by one."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, seconds: float = 0.05) -> None:
        super().__init__(channel, root, chroot)
        self.seconds = seconds

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        await asyncio.sleep(self.seconds)
        return _read(file_obj, offset, size)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        await asyncio.sleep(self.seconds)
        return _write(file_obj, offset, data)


class ChangingSource(FileServer):
    """A file changes right after the first read of a session; subclasses say how."""

    changed = False

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        data = _read(file_obj, offset, size)
        if not self.changed:
            self.changed = True
            self.change(Path(os.fsdecode(cast(BinaryIO, file_obj).name)))
        return data

    def change(self, path: Path) -> None:
        """Change the file."""
        raise NotImplementedError


class GrowingSource(ChangingSource):
    """Something is appended."""

    def change(self, path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"one more line\n")


class TouchedSource(ChangingSource):
    """Size and content stay, the modification time moves."""

    def change(self, path: Path) -> None:
        _move_mtime(path, _LATER_SECONDS)


class ReplacedSource(ChangingSource):
    """Every byte is replaced by another one, in place; the size stays.

    With `keep_mtime` the modification time stays too: then only the content tells.
    """

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, keep_mtime: bool = False) -> None:
        super().__init__(channel, root, chroot)
        self.keep_mtime = keep_mtime

    def change(self, path: Path) -> None:
        before = path.stat()
        with path.open("r+b") as file:  # "wb" would cut the file short for a moment
            inverted = bytes(byte ^ 0xFF for byte in file.read())
            file.seek(0)
            file.write(inverted)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        if not self.keep_mtime:
            _move_mtime(path, _LATER_SECONDS)


def _read(file_obj: object, offset: int, size: int) -> bytes:
    file = cast(BinaryIO, file_obj)
    file.seek(offset)
    return file.read(size)


def _write(file_obj: object, offset: int, data: bytes) -> int:
    file = cast(BinaryIO, file_obj)
    file.seek(offset)
    return file.write(data)


def _move_mtime(path: Path, seconds: int) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


class HostileListing(FileServer):
    """Every folder lists `name` besides what is in it, as a file of one byte."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, name: bytes = b"../x") -> None:
        super().__init__(channel, root, chroot)
        self.name = name

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield entry
        yield asyncssh.SFTPName(self.name, "", asyncssh.SFTPAttrs(size=1, permissions=0o100644, atime=1, mtime=1))


class CaselessDisk(FileServer):
    """The disk takes names for the same that differ in case or in Unicode's form only, and keeps the first spelling."""

    def map_path(self, path: bytes) -> bytes:
        real = super().map_path(path)
        found = b"/"
        for part in real.split(b"/"):
            found = os.path.join(found, _find_spelling(found, part))
        return found


def _find_spelling(folder: bytes, name: bytes) -> bytes:
    """The entry of a folder that a caseless disk takes for `name`, or the name itself."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return name
    return next((each for each in names if fold_name(each) == fold_name(name)), name)


def fold_name(name: bytes) -> str:
    return unicodedata.normalize("NFD", os.fsdecode(name)).casefold()


class OtherTimes(FileServer):
    """Modification times are set to others than asked for, and all is said to be well; `change` says to which."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, change: Callable[[int], int]) -> None:
        super().__init__(channel, root, chroot)
        self.change = change

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        super().setstat(path, self._change_times(attrs))

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        super().fsetstat(file_obj, self._change_times(attrs))

    def _change_times(self, attrs: asyncssh.SFTPAttrs) -> asyncssh.SFTPAttrs:
        if attrs.mtime is not None:
            attrs.mtime = self.change(attrs.mtime)
        return attrs


class OtherSizes(FileServer):
    """Each file that is no folder is told to be `more` bytes larger than what it holds, as record files may be."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, more: int) -> None:
        super().__init__(channel, root, chroot)
        self.more = more

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return self._change_size(os.stat(self.map_path(path)))

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return self._change_size(os.lstat(self.map_path(path)))

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        file = cast(BinaryIO, file_obj)
        file.flush()
        return self._change_size(os.fstat(file.fileno()))

    def _change_size(self, found: os.stat_result) -> asyncssh.SFTPAttrs:
        attributes = asyncssh.SFTPAttrs.from_local(found)
        if stat.S_ISREG(found.st_mode):
            attributes.size = max(0, found.st_size + self.more)
        return attributes

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            entry.attrs = self.lstat(os.path.join(path, cast(bytes, entry.filename)))
            yield entry
