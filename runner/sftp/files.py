"""The server's files over SFTP: the operations that copying needs, each with every status checked."""

from __future__ import annotations

import functools
import hashlib
import posixpath
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from runner.errors import ConnectionLost, FileError, FileRefused, ServerLacksFeature, SourceMissing, StepError
from runner.remote_files import (
    Batch,
    Digest,
    FileStatus,
    Made,
    Note,
    Progress,
    Published,
    ReadFile,
    Source,
    StatusRefused,
    WantedAttributes,
    Written,
)
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.packets import (
    FSYNC,
    HARDLINK,
    POSIX_RENAME,
    Attributes,
    MalformedPacket,
    OpenFlag,
    Reader,
    StatusCode,
    Type,
    encode_path,
    encode_string,
    take_handle,
)
from runner.sftp.pipelines import InOrder, Lane, PieceHasher, TakesBytes, read_piece, read_whole, write_at, write_whole
from runner.sftp.refusals import (
    describe_refusal,
    explain_refusal,
    explain_renaming,
    knows_no_sync,
    rename_refused,
)
from runner.sftp.session import Refusal, Reply, SftpSession
from runner.shell.shell import Shell

# OpenSSH takes 2 MiB a channel before it acknowledges: 40 MiB/s at 50 ms. Each further channel adds as much.
MAX_LANES = 6
ROUND_TRIP_PER_LANE_SECONDS = 0.008
MANY_LANES_BYTES = 16 * 1024 * 1024

T = TypeVar("T")


class SftpFiles:
    """A server's files, over one SFTP session."""

    def __init__(
        self,
        session: SftpSession,
        shell: Shell,
        open_session: Callable[[], SftpSession] | None = None,
        files_in_flight: int = 256,
    ) -> None:
        self._files_in_flight = files_in_flight
        self._session = session
        self._shell = shell
        self._open_session = open_session
        self._lanes: list[SftpSession] = []

    @property
    def is_open(self) -> bool:
        return self._session.is_open

    @property
    def is_untouched(self) -> bool:
        return self._session.is_untouched

    def begin_step(self) -> None:
        self._session.is_untouched = True

    def close(self) -> None:
        for session in (self._session, *self._lanes):
            session.close()
        self._lanes = []

    @property
    def can_rename(self) -> bool:
        return True

    @property
    def can_replace(self) -> bool:
        return POSIX_RENAME in self._session.extensions

    @property
    def can_create_folders(self) -> bool:
        return True

    @property
    def can_set_permissions(self) -> bool:
        return True

    @property
    def tells_made_folders(self) -> bool:
        return True

    @property
    def can_resume(self) -> bool:
        return True

    @property
    def can_hash(self) -> bool:
        return self._shell.exists

    def status(self, path: str, *, follow: bool = True) -> FileStatus | None:
        return self._status(path, self._session.submit(Type.STAT if follow else Type.LSTAT, encode_path(path)))

    def _status(self, path: str, look: Reply) -> FileStatus | None:
        try:
            return to_status(self._take(look, Type.ATTRS, Reader.take_attributes))
        except Refusal as refusal:
            if refusal.code == StatusCode.NO_SUCH_FILE:
                return None
            if refusal.code in (StatusCode.PERMISSION_DENIED, StatusCode.OP_UNSUPPORTED):
                raise StatusRefused(refusal.text) from refusal
            raise explain_refusal(refusal, "cannot look at", path, self._session) from refusal

    def create_parents(self, path: str, made: Made | None = None) -> list[str]:
        parent = posixpath.dirname(path)
        if parent in ("", "/") or self._is_directory(parent):
            return []
        return self.create_folder(parent, made=made)

    def claim_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> FileStatus | None:
        if self._session.is_untouched:
            # That the session was closed while it was idle must come out before anything is changed.
            with suppress(StatusRefused):
                found = self.status(path)
                if found is not None:
                    return found
        # Both in one round trip. Where the server has made it, it was not there, whatever came of the look.
        look = self._session.submit(Type.STAT, encode_path(path))
        making = self._session.submit(Type.MKDIR, encode_path(path), Attributes(mode=permissions).encode())
        made = {} if made is None else made
        try:
            status, problem = self._status(path, look), None
        except (StatusRefused, FileError, ServerLacksFeature) as error:
            status, problem = None, error
        is_new = status is None and problem is None and path not in made
        if is_new:
            made[path] = None
        try:
            self._session.expect_status(making)
            return None
        except Refusal:
            if is_new:
                del made[path]
        if problem is not None:
            raise problem
        if status is None:
            self.create_folder(path, permissions, made)
        return status

    def create_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> list[str]:
        missing = [path]
        made = {} if made is None else made
        has_made = False
        # Nearly always only the last one is missing: it is tried first, since each look at one above takes a round trip.
        while missing:
            folder = missing[-1]
            is_noted = folder in made
            made[folder] = None
            try:
                mode = permissions if folder == path else None
                self._session.call(Type.MKDIR, encode_path(folder), Attributes(mode=mode).encode())
                has_made = True
            except Refusal as refusal:
                parent = posixpath.dirname(folder)
                if not is_noted:
                    del made[folder]
                if not has_made and parent not in ("", "/") and self._is_for_want_of(parent, refusal):
                    missing.append(parent)
                    continue
                # Somebody else may have made it in the meantime, or an earlier attempt.
                if not self._is_directory(folder):
                    self.remove_folders(list(made))
                    raise explain_refusal(refusal, "cannot create the folder", folder, self._session) from refusal
            missing.pop()
        return list(made)

    def _is_for_want_of(self, folder: str, refusal: Refusal) -> bool:
        """Whether something could not be made in a folder because that is missing. Not all servers say so."""
        if refusal.code == StatusCode.FAILURE:
            return not self._is_directory(folder)
        return refusal.code == StatusCode.NO_SUCH_FILE

    def remove_folders(self, folders: list[str]) -> None:
        for folder in reversed(folders):
            try:
                self._session.call(Type.RMDIR, encode_path(folder))
            except Refusal:
                # Somebody else has put something into it.
                return

    def write_new(
        self, path: str, source: Source, wanted: WantedAttributes, progress: Progress, *, is_durable: bool = False
    ) -> Written:
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE
        return self._write(path, flags, source.opening_permissions, source, wanted, progress, is_durable)

    def write_on(
        self, path: str, source: Source, wanted: WantedAttributes, progress: Progress, *, is_durable: bool = False
    ) -> Written:
        return self._write(path, OpenFlag.WRITE, None, source, wanted, progress, is_durable)

    def write_in_place(
        self, path: str, source: Source, wanted: WantedAttributes, progress: Progress, *, is_durable: bool = False
    ) -> Written:
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE
        mode = source.opening_permissions if wanted.permissions is None else wanted.permissions
        return self._write(path, flags, mode, source, wanted, progress, is_durable)

    def read(
        self, path: str, target_fd: int, progress: Progress, offset: int = 0, *, trusts_size: bool = True
    ) -> ReadFile:
        try:
            handle = self._open(path, OpenFlag.READ, Attributes())
            try:
                before = self._stat(Type.FSTAT, encode_string(handle))
                keep = functools.partial(write_at, target_fd)
                size_bytes = before.size_bytes if trusts_size else None
                received = read_whole(self._session, handle, size_bytes, keep, progress, offset)
                after = self._stat(Type.FSTAT, encode_string(handle)) if trusts_size else None
                return ReadFile(received, before, after)
            finally:
                self._close_quietly(handle)
        except Refusal as refusal:
            raise self._explain_reading(refusal, path) from refusal

    def require_readable(self, path: str) -> None:
        try:
            self._close_quietly(self._open(path, OpenFlag.READ, Attributes()))
        except Refusal as refusal:
            raise self._explain_reading(refusal, path) from refusal

    def _explain_reading(self, refusal: Refusal, path: str) -> StepError:
        if refusal.code == StatusCode.NO_SUCH_FILE:
            return source_missing(path, self._session.peer)
        return explain_refusal(refusal, "cannot read", path, self._session)

    def sha256(self, path: str, size_bytes: int = 0) -> Digest:
        digest = self._shell.sha256(path, size_bytes) if self._shell.exists else None
        if digest is not None:
            return Digest(digest, "sha256")
        whole = hashlib.sha256()
        self._read_back(path, whole, None)
        return Digest(whole.hexdigest(), "readback")

    def sha256_pieces(self, path: str, sizes: Sequence[int]) -> Iterator[str]:
        if self._shell.exists:
            yield from self._shell.sha256_pieces(path, sizes)
            return
        pieces = PieceHasher(sizes)
        self._read_back(path, pieces, sum(sizes))
        yield from pieces.digests

    def _read_back(self, path: str, hasher: TakesBytes, count_bytes: int | None) -> None:
        ordered = InOrder(hasher, count_bytes)
        try:
            handle = self._open(path, OpenFlag.READ, Attributes())
            try:
                size = count_bytes or self._stat(Type.FSTAT, encode_string(handle)).size_bytes
                read_whole(self._session, handle, size, ordered.take, lambda done_bytes: None)
            finally:
                self._close_quietly(handle)
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot read back", path, self._session) from refusal

    def sha256_many(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        return self._shell.sha256_many(files) if self._shell.exists else {}

    def names_in(self, folder: str) -> Iterator[str]:
        try:
            handle = self._take(self._session.submit(Type.OPENDIR, encode_path(folder)), Type.HANDLE, take_handle)
            try:
                self._session.expect_names()
                while names := self._read_names(handle):
                    yield from (name for name in names if name not in (".", ".."))
            finally:
                self._session.expect_answers()
                self._close_quietly(handle)
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot list", folder, self._session) from refusal

    def real_path(self, path: str) -> str:
        return self._ask_for_path(Type.REALPATH, path, "cannot resolve")

    def ask_real_paths(self, *paths: str) -> Callable[[], list[str]]:
        replies = [(path, self._session.submit(Type.REALPATH, encode_path(path))) for path in paths]
        return lambda: [self._take_path(reply, path, "cannot resolve") for path, reply in replies]

    def read_link(self, path: str) -> str:
        return self._ask_for_path(Type.READLINK, path, "cannot read the link")

    def _ask_for_path(self, kind: int, path: str, doing: str) -> str:
        return self._take_path(self._session.submit(kind, encode_path(path)), path, doing)

    def _take_path(self, reply: Reply, path: str, doing: str) -> str:
        try:
            reader = self._session.expect(reply, Type.NAME)
        except Refusal as refusal:
            raise explain_refusal(refusal, doing, path, self._session) from refusal
        try:
            return reader.take_names()[0][0]
        except MalformedPacket as error:
            raise self._session.malformed_field(error) from error

    def _read_names(self, handle: bytes) -> list[str]:
        """The next names of a folder that is open; none at its end."""
        try:
            reader = self._session.expect(self._session.submit(Type.READDIR, encode_string(handle)), Type.NAME)
        except Refusal as refusal:
            if refusal.code == StatusCode.EOF:
                return []
            raise
        try:
            return [name for name, _ in reader.take_names()]
        except MalformedPacket as error:
            raise self._session.malformed_field(error) from error

    def set_attributes(self, path: str, wanted: WantedAttributes) -> None:
        try:
            self._session.call(Type.SETSTAT, encode_path(path), encode_wanted(wanted))
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot set permissions or times of", path, self._session) from refusal

    def publish(self, temporary: str, path: str, backup: str | None = None, note: Note | None = None) -> Published:
        note = note or _note_nothing
        # Two plays may have one partial's name, and an earlier one may have left its old file under the same.
        aside = f"{temporary}.{secrets.token_hex(4)}.old"
        note(Published(self.can_replace, backup, None if self.can_replace else aside))
        is_kept = backup is not None and self.can_replace and self._give_second_name(path, backup)
        if backup is not None and not is_kept and not self._lstat_exists(path):
            backup = None
        if backup is not None and not is_kept and self._lstat_exists(backup):
            # Some servers would replace what another play has kept there.
            raise FileRefused(f"{backup!r} on {self._session.peer} is there already", hint="Play again.")
        if self.can_replace and (backup is None or is_kept):
            note(Published(True, backup))
            try:
                self._rename(Type.EXTENDED, encode_string(POSIX_RENAME.encode()), temporary, path)
            except StepError as error:
                if backup is not None:
                    self._take_second_name(backup, error)
                raise
            return Published(True, backup)
        if backup is not None or self._lstat_exists(path):
            note(Published(False, backup, aside))
            return self._publish_in_two_steps(temporary, path, backup, aside)
        note(Published(True))
        self._rename(Type.RENAME, b"", temporary, path)
        return Published(True)

    def _give_second_name(self, path: str, name: str) -> bool:
        """A hard link, which fails if there is something of that name. False where the server or the disk knows none."""
        if HARDLINK not in self._session.extensions:
            return False
        try:
            self._session.call(Type.EXTENDED, encode_string(HARDLINK.encode()), encode_path(path), encode_path(name))
        except Refusal:
            return False
        return True

    def _take_second_name(self, name: str, error: StepError) -> None:
        try:
            self.remove(name)
        except StepError:
            error.add(f"The old file has a second name now, {name!r}")

    def sync_folder(self, folder: str) -> bool:
        # OpenSSH's server opens a folder like a file, and syncs what is behind any handle of OPEN.
        try:
            handle = self._open(folder or ".", OpenFlag.READ, Attributes())
        except Refusal:
            return False
        syncing = self._ask_to_sync(handle)
        closing = self._session.submit(Type.CLOSE, encode_string(handle))
        try:
            self._session.expect_status(closing)
            return self._was_synced(syncing)
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot sync to disk", folder or ".", self._session) from refusal

    def rename(self, source: str, destination: str) -> None:
        try:
            self._session.call(Type.RENAME, encode_path(source), encode_path(destination))
        except Refusal as refusal:
            raise explain_renaming(refusal, source, destination, self._session) from refusal

    def remove(self, path: str) -> bool:
        return self._remove(Type.REMOVE, "cannot remove", path)

    def remove_folder(self, path: str) -> None:
        self._remove(Type.RMDIR, "cannot remove the folder", path)

    def _remove(self, kind: int, doing: str, path: str) -> bool:
        try:
            self._session.call(kind, encode_path(path))
        except Refusal as refusal:
            if refusal.code != StatusCode.NO_SUCH_FILE:
                raise explain_refusal(refusal, doing, path, self._session) from refusal
            return False
        return True

    def start_batch(self) -> Batch:
        """A batch of copies; while it lives, nothing else may be asked of these files."""
        # A single file does without it.
        from runner.sftp.batch import SftpBatch

        self._session.settle_limits()
        handles = self._session.max_open_handles
        # Half of what the server allows: it counts handles that it is about to close.
        return SftpBatch(self._session, min(self._files_in_flight, handles // 2 or self._files_in_flight))

    def _publish_in_two_steps(self, temporary: str, path: str, backup: str | None, aside: str) -> Published:
        """Without posix-rename nothing replaces a file in one step: the old one steps aside, and comes back on failure.

        The same where nothing can have two names for a moment.
        """
        aside = backup or aside
        self._rename(Type.RENAME, b"", path, aside)
        try:
            self._rename(Type.RENAME, b"", temporary, path)
        except StepError as error:
            try:
                self._rename(Type.RENAME, b"", aside, path)
            except StepError:
                error.add(f"The old file is kept as {aside!r}")
            raise
        if backup is None:
            self.remove(aside)
        return Published(False, backup)

    def _rename(self, kind: int, prefix: bytes, source: str, destination: str) -> None:
        try:
            self._session.call(kind, prefix, encode_path(source), encode_path(destination))
        except Refusal as refusal:
            raise rename_refused(refusal, source, destination, self._session) from refusal

    def _write(
        self,
        path: str,
        flags: int,
        mode: int | None,
        source: Source,
        wanted: WantedAttributes,
        progress: Progress,
        is_durable: bool,
    ) -> Written:
        try:
            handle = self._open(path, flags, Attributes(mode=mode))
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot create", path, self._session) from refusal
        if flags & OpenFlag.TRUNCATE:
            self._close_off(handle, wanted)
        self._session.settle_limits()
        if source.size_bytes - source.offset <= self._session.write_bytes:
            return self._write_at_once(path, handle, source, wanted, progress, is_durable)
        doing = "cannot write to"
        try:
            self._write_on_lanes(path, handle, source, progress)
            setting = self._ask_to_set(handle, wanted)
            look = self._session.submit(Type.FSTAT, encode_string(handle))
            syncing = self._ask_to_sync(handle) if is_durable else None
            refused = self._see_what_was_refused(Type.FSETSTAT, encode_string(handle), wanted, setting)
            written_bytes = self._size_in(look)
            doing = "cannot sync to disk"
            is_synced = self._was_synced(syncing) if is_durable else None
        except Refusal as refusal:
            self._close_quietly(handle)
            raise explain_refusal(refusal, doing, path, self._session) from refusal
        except BaseException:
            self._close_quietly(handle)
            raise
        try:
            # Servers with a quota or a write-behind cache tell of a lost write only here.
            self._session.call(Type.CLOSE, encode_string(handle))
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot finish", path, self._session) from refusal
        return Written(written_bytes, refused, is_synced)

    def _write_at_once(
        self,
        path: str,
        handle: bytes,
        source: Source,
        wanted: WantedAttributes,
        progress: Progress,
        is_durable: bool,
    ) -> Written:
        """What fits into one request, and everything that follows it, in one round trip."""
        try:
            piece = read_piece(source)
        except BaseException:
            self._close_quietly(handle)
            raise
        prefix = encode_string(handle)
        start = struct.pack(">QI", source.offset, len(piece))
        writing = self._session.submit(Type.WRITE, prefix, start, piece) if piece else None
        setting = self._ask_to_set(handle, wanted)
        look = self._session.submit(Type.FSTAT, prefix)
        syncing = self._ask_to_sync(handle) if is_durable else None
        closing = self._session.submit(Type.CLOSE, prefix)
        try:
            doing = "cannot write to"
            if writing is not None:
                self._session.expect_status(writing)
            doing = "cannot sync to disk"
            is_synced = self._was_synced(syncing) if is_durable else None
            # Servers with a quota or a write-behind cache tell of a lost write only here.
            doing = "cannot finish"
            self._session.expect_status(closing)
        except Refusal as refusal:
            raise explain_refusal(refusal, doing, path, self._session) from refusal
        progress(source.size_bytes)
        refused = self._see_what_was_refused(Type.SETSTAT, encode_path(path), wanted, setting)
        return Written(self._size_in(look), refused, is_synced)

    def _ask_to_sync(self, handle: bytes) -> Reply | None:
        """Ask for what is behind a handle to be put to disk, behind all that was asked for before. None if none can ask."""
        if FSYNC not in self._session.extensions:
            return None
        return self._session.submit(Type.EXTENDED, encode_string(FSYNC.encode()), encode_string(handle))

    def _was_synced(self, syncing: Reply | None) -> bool:
        """Whether it is on the disk; False where the server cannot do that. Raises `Refusal` if the disk failed."""
        if syncing is None:
            return False
        try:
            self._session.expect_status(syncing)
        except Refusal as refusal:
            if knows_no_sync(refusal):
                return False
            raise
        return True

    def _close_off(self, handle: bytes, wanted: WantedAttributes) -> None:
        """Before the first byte: the file that is written over may have been open to those who must not read the new one."""
        if wanted.permissions is not None:
            permissions = WantedAttributes(wanted.permissions, None)
            try:
                self._session.call(Type.FSETSTAT, encode_string(handle), encode_wanted(permissions))
            except Refusal:
                # It will be refused once more in the end, and told then.
                return

    def _write_on_lanes(self, path: str, handle: bytes, source: Source, progress: Progress) -> None:
        """Write over as many channels as the line needs: at a long round trip the server's window for each is too small."""
        lanes = [Lane(self._session, handle)]
        try:
            # All are asked before the first answer is waited for: one round trip, not one for each.
            sessions = self._more_sessions(source)
            openings = [_ask_idle_to_open(session, path) for session in sessions]
            for session, opening in zip(sessions, openings, strict=True):
                further = _take_from_idle(session, opening)
                if further is not None:
                    lanes.append(Lane(session, further))
            write_whole(lanes, source, progress)
            closings = [lane.session.submit(Type.CLOSE, encode_string(lane.handle)) for lane in lanes[1:]]
            for lane, closing in zip(lanes[1:], closings, strict=True):
                lane.session.expect_status(closing)
        except BaseException:
            for lane in lanes[1:]:
                SftpFiles(lane.session, self._shell)._close_quietly(lane.handle)
            raise

    def _more_sessions(self, source: Source) -> list[SftpSession]:
        most = source.most_channels or MAX_LANES
        wanted = min(most - 1, int(self._session.round_trip_seconds / ROUND_TRIP_PER_LANE_SECONDS))
        if source.size_bytes < MANY_LANES_BYTES or wanted < 1 or self._open_session is None:
            return []
        # The server may have closed some since they were used.
        self._lanes = [session for session in self._lanes if session.is_open]
        missing = wanted - len(self._lanes)
        if missing > 0:
            # Each takes several round trips to open: they are opened side by side.
            with ThreadPoolExecutor(missing) as opening:
                self._lanes += [session for session in opening.map(self._try_open_session, range(missing)) if session]
        return self._lanes[:wanted]

    def _try_open_session(self, number: int) -> SftpSession | None:
        try:
            return self._open_session() if self._open_session else None
        except StepError:
            # The server allows no more sessions; those that are there will do.
            return None

    def _open(self, path: str, flags: int, attributes: Attributes) -> bytes:
        return self._take(ask_to_open(self._session, path, flags, attributes), Type.HANDLE, take_handle)

    def _stat(self, kind: int, target: bytes) -> FileStatus:
        return to_status(self._take(self._session.submit(kind, target), Type.ATTRS, Reader.take_attributes))

    def _take(self, reply: Reply, kind: int, take_out: Callable[[Reader], T]) -> T:
        return take(self._session, reply, kind, take_out)

    def _ask_to_set(self, handle: bytes, wanted: WantedAttributes) -> Reply | None:
        if wanted.permissions is None and wanted.modified_at_seconds is None:
            return None
        return self._session.submit(Type.FSETSTAT, encode_string(handle), encode_wanted(wanted))

    def _see_what_was_refused(self, kind: int, prefix: bytes, wanted: WantedAttributes, setting: Reply | None) -> str:
        """Set what is wanted one by one where the server refused them together. Says in words what it refused."""
        if setting is None:
            return ""
        try:
            self._session.expect_status(setting)
            return ""
        except Refusal as both:
            reason = describe_refusal(both)
        refused = []
        singles = {
            "permissions": WantedAttributes(wanted.permissions, None),
            "times": WantedAttributes(None, wanted.modified_at_seconds),
        }
        for name, single in singles.items():
            if single.permissions is None and single.modified_at_seconds is None:
                continue
            try:
                self._session.call(kind, prefix, encode_wanted(single))
            except Refusal:
                refused.append(name)
        return f"{' and '.join(refused)} ({reason})" if refused else ""

    def _size_in(self, look: Reply) -> int | None:
        try:
            return to_status(self._take(look, Type.ATTRS, Reader.take_attributes)).size_bytes
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


def _note_nothing(published: Published) -> None:
    """No one listens."""


def ask_to_open(session: SftpSession, path: str, flags: int, attributes: Attributes) -> Reply:
    """Ask for a handle of a file, without waiting for it."""
    return session.submit(Type.OPEN, encode_path(path), struct.pack(">I", flags), attributes.encode())


def _ask_idle_to_open(session: SftpSession, path: str) -> Reply | None:
    """Ask for a further handle of a file, on a channel that may have been closed while it was idle: None if it was."""
    try:
        return ask_to_open(session, path, OpenFlag.WRITE, Attributes())
    except ConnectionLost:
        return None


def _take_from_idle(session: SftpSession, opening: Reply | None) -> bytes | None:
    """The handle. None if the channel is closed: nothing has gone through it, and the others will do."""
    try:
        return None if opening is None else take(session, opening, Type.HANDLE, take_handle)
    except ConnectionLost:
        if session.channel.is_cut_off:
            raise
        return None


def take(session: SftpSession, reply: Reply, kind: int, take_out: Callable[[Reader], T]) -> T:
    """Wait for a reply and take out what it holds. Raises `Refusal`, and `ConnectionLost` for one that is malformed."""
    try:
        return take_out(session.expect(reply, kind))
    except MalformedPacket as error:
        raise session.malformed_field(error) from error


def source_missing(path: str, peer: str) -> SourceMissing:
    """The error for a remote source that does not exist."""
    return SourceMissing(
        f"the source {path!r} does not exist on {peer}",
        hint="Relative remote paths start at the login directory; '~' is not expanded by servers.",
    )
