"""The server's files over SFTP: the operations that copying needs, each with every status checked."""

from __future__ import annotations

import os
import posixpath
import stat
import struct
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from runner.errors import (
    ConnectionLost,
    DiskFull,
    FileError,
    FileRefused,
    PermissionRefused,
    ServerLacksFeature,
    SourceChanged,
    SourceMissing,
    StepError,
    VerificationFailed,
)
from runner.remote_files import FileStatus, Progress, ReadFile, StatusRefused, WantedAttributes, Written
from runner.sftp.packets import Attributes, MalformedPacket, OpenFlag, Reader, StatusCode, Type, encode_string
from runner.sftp.session import Refusal, Reply, SftpSession

# 255 KiB each: enough to fill a line of 4 MiB, few enough to stop quickly.
WRITES_IN_FLIGHT = 16
READS_IN_FLIGHT = 32
MAX_HANDLE_BYTES = 256
PRIVATE_MODE = 0o600

T = TypeVar("T")


class SftpFiles:
    """A server's files, over one SFTP session."""

    def __init__(self, session: SftpSession, peer: str) -> None:
        self._session = session
        self._peer = peer

    @property
    def can_rename(self) -> bool:
        return True

    def status(self, path: str) -> FileStatus | None:
        try:
            return self._stat(Type.STAT, encode_path(path))
        except Refusal as refusal:
            if refusal.code == StatusCode.NO_SUCH_FILE:
                return None
            if refusal.code in (StatusCode.PERMISSION_DENIED, StatusCode.OP_UNSUPPORTED):
                raise StatusRefused(refusal.text) from refusal
            raise self._explain(refusal, "cannot look at", path) from refusal

    def create_parents(self, path: str) -> list[str]:
        parent = posixpath.dirname(path)
        missing: list[str] = []
        while parent not in ("", "/") and not self._is_directory(parent):
            missing.append(parent)
            parent = posixpath.dirname(parent)
        missing.reverse()
        for folder in missing:
            try:
                self._session.call(Type.MKDIR, encode_path(folder), Attributes().encode())
            except Refusal as refusal:
                # Somebody else may have made it in the meantime.
                if not self._is_directory(folder):
                    raise self._explain(refusal, "cannot create the folder", folder) from refusal
        return missing

    def remove_folders(self, folders: list[str]) -> None:
        for folder in reversed(folders):
            try:
                self._session.call(Type.RMDIR, encode_path(folder))
            except Refusal:
                # Somebody else has put something into it.
                return

    def write_new(
        self, path: str, source_fd: int, size_bytes: int, wanted: WantedAttributes, progress: Progress
    ) -> Written:
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE
        return self._write(path, flags, PRIVATE_MODE, source_fd, size_bytes, wanted, progress)

    def write_in_place(
        self, path: str, source_fd: int, size_bytes: int, wanted: WantedAttributes, progress: Progress
    ) -> Written:
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE
        mode = PRIVATE_MODE if wanted.permissions is None else wanted.permissions
        return self._write(path, flags, mode, source_fd, size_bytes, wanted, progress)

    def read(self, path: str, target_fd: int, progress: Progress) -> ReadFile:
        try:
            handle = self._open(path, OpenFlag.READ, Attributes())
            try:
                return self._read_all(path, handle, target_fd, progress)
            finally:
                self._close_quietly(handle)
        except Refusal as refusal:
            if refusal.code == StatusCode.NO_SUCH_FILE:
                raise source_missing(path, self._peer) from refusal
            raise self._explain(refusal, "cannot read", path) from refusal

    def set_attributes(self, path: str, wanted: WantedAttributes) -> None:
        try:
            self._session.call(Type.SETSTAT, encode_path(path), encode_wanted(wanted))
        except Refusal as refusal:
            raise self._explain(refusal, "cannot set permissions or times of", path) from refusal

    def publish(self, temporary: str, path: str) -> bool:
        if "posix-rename@openssh.com" in self._session.extensions:
            self._rename(Type.EXTENDED, encode_string(b"posix-rename@openssh.com"), temporary, path)
            return True
        if self._lstat_exists(path):
            return self._publish_in_two_steps(temporary, path)
        self._rename(Type.RENAME, b"", temporary, path)
        return True

    def remove(self, path: str) -> None:
        try:
            self._session.call(Type.REMOVE, encode_path(path))
        except Refusal as refusal:
            if refusal.code != StatusCode.NO_SUCH_FILE:
                raise self._explain(refusal, "cannot remove", path) from refusal

    def _publish_in_two_steps(self, temporary: str, path: str) -> bool:
        """Without posix-rename nothing replaces a file in one step: the old one steps aside, and comes back on failure."""
        aside = f"{temporary}.old"
        self._rename(Type.RENAME, b"", path, aside)
        try:
            self._rename(Type.RENAME, b"", temporary, path)
        except StepError:
            self._rename(Type.RENAME, b"", aside, path)
            raise
        self.remove(aside)
        return False

    def _rename(self, kind: Type, prefix: bytes, source: str, destination: str) -> None:
        try:
            self._session.call(kind, prefix, encode_path(source), encode_path(destination))
        except Refusal as refusal:
            raise FileRefused(
                f"{self._peer} refused to rename {source!r} to {destination!r}: {describe(refusal)}",
                hint="If this server forbids renaming, set 'atomic: false' in the mode: the file is then written in place.",
            ) from refusal

    def _write(
        self,
        path: str,
        flags: OpenFlag,
        mode: int,
        source_fd: int,
        size_bytes: int,
        wanted: WantedAttributes,
        progress: Progress,
    ) -> Written:
        try:
            handle = self._open(path, flags, Attributes(mode=mode))
        except Refusal as refusal:
            raise self._explain(refusal, "cannot create", path) from refusal
        try:
            self._write_all(path, handle, source_fd, size_bytes, progress)
            refused = self._set_attributes_of_handle(handle, wanted)
            written_bytes = self._size_of_handle(handle)
        except BaseException:
            self._close_quietly(handle)
            raise
        try:
            # Servers with a quota or a write-behind cache tell of a lost write only here.
            self._session.call(Type.CLOSE, encode_string(handle))
        except Refusal as refusal:
            raise self._explain(refusal, "cannot finish", path) from refusal
        return Written(written_bytes, refused)

    def _write_all(self, path: str, handle: bytes, source_fd: int, size_bytes: int, progress: Progress) -> None:
        """Write the source's bytes, several requests under way, every status checked."""
        prefix = encode_string(handle)
        in_flight: deque[tuple[Reply, int]] = deque()
        offset = 0
        try:
            while offset < size_bytes or in_flight:
                while offset < size_bytes and len(in_flight) < WRITES_IN_FLIGHT:
                    chunk = os.pread(source_fd, min(self._session.write_bytes, size_bytes - offset), offset)
                    if not chunk:
                        raise SourceChanged(
                            f"the source became shorter while it was read: {size_bytes:,} bytes expected, {offset:,} found",
                            hint="Something still writes to it. Play again when it is finished.",
                        )
                    header = struct.pack(">QI", offset, len(chunk))
                    offset += len(chunk)
                    in_flight.append((self._session.submit(Type.WRITE, prefix, header, chunk), offset))
                reply, written_to = in_flight.popleft()
                self._session.expect_status(reply)
                progress(written_to)
        except Refusal as refusal:
            raise self._explain(refusal, "cannot write to", path) from refusal

    def _read_all(self, path: str, handle: bytes, target_fd: int, progress: Progress) -> ReadFile:
        before = self._stat(Type.FSTAT, encode_string(handle))
        size = before.size_bytes
        prefix = encode_string(handle)
        in_flight: deque[tuple[Reply, int, int]] = deque()

        def request(offset: int, count: int) -> None:
            in_flight.append(
                (self._session.submit(Type.READ, prefix, struct.pack(">QI", offset, count)), offset, count)
            )

        asked = received = 0
        end_at: int | None = None
        while True:
            # One request beyond the announced size proves that the file ends there.
            limit = size + 1 if size is not None else None
            while len(in_flight) < READS_IN_FLIGHT and end_at is None and (limit is None or asked < limit):
                count = self._session.read_bytes if limit is None else min(self._session.read_bytes, limit - asked)
                request(asked, count)
                asked += count
            if not in_flight:
                break
            reply, offset, count = in_flight.popleft()
            data = self._expect_data(reply, count)
            if data is None:
                end_at = offset if end_at is None else min(end_at, offset)
                continue
            _write_at(target_fd, data, offset)
            received += len(data)
            progress(received)
            if len(data) < count:
                # A short reply is no end of file: ask for the rest.
                request(offset + len(data), count - len(data))
        after = self._stat(Type.FSTAT, prefix)
        if end_at is not None and received != end_at:
            raise VerificationFailed(
                f"{self._peer} sent {path!r} with a gap: the file ends at byte {end_at:,}, {received:,} bytes came",
                hint="Another program is writing to the source, or the server is broken.",
            )
        return ReadFile(received, before, after)

    def _expect_data(self, reply: Reply, count: int) -> memoryview | None:
        """The bytes of a READ's reply, None at the end of the file."""
        try:
            data = self._session.expect(reply, Type.DATA).take_string()
        except Refusal as refusal:
            if refusal.code == StatusCode.EOF:
                return None
            raise
        except MalformedPacket as error:
            raise self._session.malformed_field(error) from error
        if not 0 < len(data) <= count:
            raise ConnectionLost(
                f"{self._peer} broke the SFTP protocol: {len(data):,} bytes of data where {count:,} were asked for",
                hint="The session cannot be trusted on.",
            )
        return data

    def _open(self, path: str, flags: OpenFlag, attributes: Attributes) -> bytes:
        reply = self._session.submit(Type.OPEN, encode_path(path), struct.pack(">I", flags), attributes.encode())
        handle = self._take(reply, Type.HANDLE, lambda reader: bytes(reader.take_string()))
        if not 0 < len(handle) <= MAX_HANDLE_BYTES:
            raise self._session.malformed_field(MalformedPacket(f"a handle of {len(handle)} bytes"))
        return handle

    def _stat(self, kind: Type, target: bytes) -> FileStatus:
        return to_status(self._take(self._session.submit(kind, target), Type.ATTRS, Reader.take_attributes))

    def _take(self, reply: Reply, kind: Type, take: Callable[[Reader], T]) -> T:
        try:
            return take(self._session.expect(reply, kind))
        except MalformedPacket as error:
            raise self._session.malformed_field(error) from error

    def _set_attributes_of_handle(self, handle: bytes, wanted: WantedAttributes) -> str:
        """Set what is wanted, one by one where the server refuses them together. Says in words what it refused."""
        if wanted.permissions is None and wanted.modified_at_seconds is None:
            return ""
        prefix = encode_string(handle)
        try:
            self._session.call(Type.FSETSTAT, prefix, encode_wanted(wanted))
            return ""
        except Refusal as both:
            reason = describe(both)
        refused = []
        singles = {
            "permissions": WantedAttributes(wanted.permissions, None),
            "times": WantedAttributes(None, wanted.modified_at_seconds),
        }
        for name, single in singles.items():
            if single.permissions is None and single.modified_at_seconds is None:
                continue
            try:
                self._session.call(Type.FSETSTAT, prefix, encode_wanted(single))
            except Refusal:
                refused.append(name)
        return f"{' and '.join(refused)} ({reason})" if refused else ""

    def _size_of_handle(self, handle: bytes) -> int | None:
        try:
            return self._stat(Type.FSTAT, encode_string(handle)).size_bytes
        except Refusal:
            return None

    def _close_quietly(self, handle: bytes) -> None:
        """Close a handle whose file is given up, or was only read: the outcome changes nothing."""
        try:
            self._session.call(Type.CLOSE, encode_string(handle))
        except (Refusal, StepError):
            pass

    def _is_directory(self, path: str) -> bool:
        try:
            found = self.status(path)
        except StatusRefused:
            return True
        return found is not None and found.is_directory

    def _lstat_exists(self, path: str) -> bool:
        try:
            self._stat(Type.LSTAT, encode_path(path))
        except Refusal:
            return False
        return True

    def _explain(self, refusal: Refusal, doing: str, path: str) -> StepError:
        """What a refused request means for the user."""
        where = f"{path!r} on {self._peer}"
        match refusal.code:
            case StatusCode.NO_SUCH_FILE:
                return FileRefused(
                    f"{doing} {where}: no such file or folder",
                    hint="A folder on the way is missing; 'create_parents: true' makes it.",
                )
            case StatusCode.PERMISSION_DENIED:
                return PermissionRefused(
                    f"{doing} {where}: permission denied",
                    hint="Check owner and permissions of the file and its folder.",
                )
            case StatusCode.OP_UNSUPPORTED:
                return ServerLacksFeature(f"{doing} {where}: the server does not support the request")
        if self._is_full(path):
            return DiskFull(f"{doing} {where}: no space left on the server", hint="Make room there, then play again.")
        return self._explain_bare_failure(refusal, doing, path)

    def _explain_bare_failure(self, refusal: Refusal, doing: str, path: str) -> FileError:
        """FAILURE is all the protocol has for most errors: look at the most likely causes."""
        where, reason = f"{path!r} on {self._peer}", describe(refusal)
        text = refusal.text.lower()
        if "space" in text or "quota" in text:
            return DiskFull(f"{doing} {where}: {reason}", hint="Make room there, then play again.")
        longest = max(len(part) for part in os.fsencode(path).split(b"/"))
        hint = (
            "The server gives no reason: a full disk, a quota, an existing name or an unusable one are the usual ones."
        )
        if longest > 255:
            hint = f"A name of {longest} bytes is too long for most file systems (255)."
        return FileRefused(f"{doing} {where}: {reason}", hint=hint)

    def _is_full(self, path: str) -> bool:
        """Whether the file system below `path` has no room left, as far as the server tells (statvfs@openssh.com)."""
        if "statvfs@openssh.com" not in self._session.extensions:
            return False
        folder = posixpath.dirname(path) or "."
        try:
            name = encode_string(b"statvfs@openssh.com")
            reader = self._session.expect(
                self._session.submit(Type.EXTENDED, name, encode_path(folder)), Type.EXTENDED_REPLY
            )
            # f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail
            _, _, blocks, _, available, files, _, free_files = (reader.take_uint64() for _ in range(8))
        except (Refusal, StepError, MalformedPacket):
            return False
        return (blocks > 0 and available == 0) or (files > 0 and free_files == 0)


def source_missing(path: str, peer: str) -> SourceMissing:
    """The error for a remote source that does not exist."""
    return SourceMissing(
        f"the source {path!r} does not exist on {peer}",
        hint="Relative remote paths start at the login directory; '~' is not expanded by servers.",
    )


def encode_path(path: str) -> bytes:
    """A remote path on the wire. Bytes that are not UTF-8 travel as surrogate escapes inside the program."""
    return encode_string(path.encode("utf-8", "surrogateescape"))


def encode_wanted(wanted: WantedAttributes) -> bytes:
    return Attributes(mode=wanted.permissions, modified_at_seconds=wanted.modified_at_seconds).encode()


def to_status(attributes: Attributes) -> FileStatus:
    """SFTP's attributes as the transfer policy sees them. A server that tells no mode is taken to speak of a file."""
    mode = attributes.mode
    return FileStatus(
        is_directory=mode is not None and stat.S_ISDIR(mode),
        is_regular=mode is None or stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0,
        size_bytes=attributes.size_bytes,
        permissions=None if mode is None else mode & 0o777,
        modified_at_seconds=attributes.modified_at_seconds,
    )


def describe(refusal: Refusal) -> str:
    """A refusal in the server's words and the protocol's."""
    try:
        name = StatusCode(refusal.code).name
    except ValueError:
        name = f"status {refusal.code}"
    return f"{name}: {refusal.text[:200]}" if refusal.text else name


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
