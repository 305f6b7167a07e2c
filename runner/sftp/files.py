"""The server's files over SFTP: the operations that copying needs, each with every status checked."""

from __future__ import annotations

import hashlib
import itertools
import posixpath
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from runner.errors import (
    FileError,
    ServerLacksFeature,
    SourceMissing,
    StepError,
    UnreachableError,
    VerificationFailed,
)
from runner.readback import PieceHasher, Readback, TakesInOrder, complete
from runner.remote_files import (
    Batch,
    Digest,
    FileStatus,
    Made,
    Note,
    Progress,
    Published,
    RemoteRequest,
    StatusRefused,
    WantedAttributes,
)
from runner.server_traits import CAUTIOUS_OPEN_FILES, Deed
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.batch.privacy import closed_mode
from runner.sftp.packets import (
    FSYNC,
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
from runner.sftp.refusals import explain_refusal, explain_renaming, knows_no_sync, not_done, still_there
from runner.sftp.requests import ask_to_open, take
from runner.sftp.session import Refusal, Reply, SftpSession
from runner.shell.shell import Shell

# In a folder of more names it is not found out by listing it whether one of them is there.
MAX_LOOKED_THROUGH = 2_000
# A folder that was neither made nor seen, and whose server lets nobody look.
UNTOLD_FOLDER = FileStatus(True, False, None, None, None)

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
        return self._session.traits.replaces and POSIX_RENAME in self._session.extensions

    @property
    def renames_links(self) -> bool:
        return self._session.traits.renames_links is True

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
    def keeps_order(self) -> bool:
        return self._session.traits.is_sequential

    @property
    def can_resume(self) -> bool:
        return True

    @property
    def keeps_what_is_there(self) -> bool:
        return self._session.traits.shares_files

    @property
    def can_hash(self) -> bool:
        return self._shell.exists

    def status(self, path: str, *, follow: bool = True) -> FileStatus | None:
        kind = Type.STAT if follow else Type.LSTAT
        found = self._status(path, self._session.submit(kind, encode_path(path)), is_followed=follow)
        if found is not None and not found.is_kind_told:
            found = self._find_kind(path, found, follow=follow)
        return found if found is None or follow else self._find_hidden_link(path, found)

    def _find_hidden_link(self, path: str, found: FileStatus) -> FileStatus:
        """What LSTAT tells, or that there is a link of which it tells only where that leads.

        A link that is taken for a directory would have the directory emptied when it is removed, and a file may be moved
        in a link's place when that is renamed.
        """
        traits = self._session.traits
        if found.is_link and traits.tells_links is None:
            traits.saw("tells_links", True, "LSTAT told of a link")
        if found.is_link or traits.tells_links or not path.strip("/"):
            return found
        try:
            target = self.read_link(path)
        except UnreachableError:
            raise
        except StepError:
            return found
        if target.rstrip("/") == path.rstrip("/"):
            # An answer that any path would have had.
            return found
        return FileStatus(
            is_directory=False,
            is_regular=False,
            size_bytes=None,
            permissions=found.permissions,
            modified_at_seconds=found.modified_at_seconds,
            is_link=True,
        )

    def _find_kind(self, path: str, found: FileStatus, *, follow: bool) -> FileStatus | None:
        """What is at a path whose kind the server has not told: other requests may (`batch/kinds.py`)."""
        look = RemoteRequest("look" if follow else "look closely", path, lambda request, error: None)
        batch = self.start_batch()
        batch.run(look)
        complete(batch)
        return None if look.is_missing else look.status or found

    def _status(self, path: str, look: Reply, *, is_followed: bool = True) -> FileStatus | None:
        try:
            return to_status(self._take(look, Type.ATTRS, Reader.take_attributes))
        except Refusal as refusal:
            if refusal.code == StatusCode.NO_SUCH_FILE:
                return None
            if not self._session.traits.is_sequential:
                return self._find_out(path, refusal, is_followed=is_followed)
            if refusal.code in (StatusCode.PERMISSION_DENIED, StatusCode.OP_UNSUPPORTED):
                raise StatusRefused(refusal.text) from refusal
            raise explain_refusal(refusal, "cannot look at", path, self._session) from refusal

    def _find_out(self, path: str, refusal: Refusal, *, is_followed: bool) -> FileStatus | None:
        """What is at a path that the server refused to look at. Some say FAILURE of what is not there (Twisted Conch)."""
        if is_followed:
            try:
                found = self._stat(Type.LSTAT, encode_path(path))
            except Refusal as other:
                if other.code == StatusCode.NO_SUCH_FILE:
                    return None
            else:
                if not found.is_link:
                    return found
        folder, _, name = path.rstrip("/").rpartition("/")
        try:
            listing = self.names_in(folder or ("/" if path.startswith("/") else "."))
            names = list(itertools.islice(listing, MAX_LOOKED_THROUGH))
            is_complete = next(listing, None) is None
            listing.close()
        except UnreachableError:
            raise
        except StepError:
            raise StatusRefused(refusal.text) from refusal
        if name and is_complete and name not in names:
            return None
        raise StatusRefused(refusal.text) from refusal

    def create_parents(self, path: str, made: Made | None = None) -> list[str]:
        parent = posixpath.dirname(path)
        if parent in ("", "/") or self._is_directory(parent):
            return []
        return self.create_folder(parent, made=made)

    def claim_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> FileStatus | None:
        if not self._session.traits.is_sequential:
            return self._claim_in_turn(path, permissions, made)
        if self._session.is_untouched:
            # That the session was closed while it was idle must come out before anything is changed.
            with suppress(StatusRefused):
                found = self.status(path)
                if found is not None:
                    return found
        # Both in one round trip. Where nothing was seen and the server has made it, it was not there.
        look = self._session.submit(Type.STAT, encode_path(path))
        making = self._session.submit(Type.MKDIR, encode_path(path), Attributes(mode=permissions).encode())
        behind = self._look_behind("made a directory", path)
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
            if is_new:
                self._require_done("made a directory", path, behind)
            # Some servers say OK of a directory that is there already (`rclone serve sftp`): what was seen counts.
            is_made = True
        except VerificationFailed:
            del made[path]
            raise
        except Refusal:
            is_made = False
            if is_new:
                del made[path]
        if problem is not None and not is_made:
            raise problem
        if status is None and not is_made:
            self.create_folder(path, permissions, made)
        if status is not None and not status.is_kind_told:
            return self._find_kind(path, status, follow=True)
        return status

    def _claim_in_turn(self, path: str, permissions: int | None, made: Made | None) -> FileStatus | None:
        """The same where requests may be carried out in another order, and nobody may be let look."""
        try:
            found = self.status(path)
        except StatusRefused:
            found = None
        if found is not None:
            return found
        made = {} if made is None else made
        self.create_folder(path, permissions, made)
        return None if path in made else UNTOLD_FOLDER

    def create_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> list[str]:
        missing = [path]
        made = {} if made is None else made
        # What is seen to be there is not what is missing, whatever a refusal says.
        there = {"", "/"}
        # Nearly always only the last one is missing: it is tried first, since each look at one above takes a round trip.
        while missing:
            folder = missing[-1]
            is_noted = folder in made
            made[folder] = None
            try:
                mode = permissions if folder == path else None
                making = self._session.submit(Type.MKDIR, encode_path(folder), Attributes(mode=mode).encode())
                behind = self._look_behind("made a directory", folder)
                self._session.expect_status(making)
                self._require_done("made a directory", folder, behind)
                self._close_off_folder(folder, mode)
            except VerificationFailed:
                del made[folder]
                self.remove_folders(list(made))
                raise
            except Refusal as refusal:
                parent = posixpath.dirname(folder)
                if not is_noted:
                    del made[folder]
                if parent not in there and self._is_for_want_of(parent, refusal):
                    missing.append(parent)
                    continue
                # Somebody else may have made it in the meantime, or an earlier attempt.
                if not self._is_directory(folder):
                    self.remove_folders(list(made))
                    raise explain_refusal(refusal, "cannot create the folder", folder, self._session) from refusal
            there.add(missing.pop())
        return list(made)

    def _close_off_folder(self, path: str, permissions: int | None) -> None:
        """Have a directory that was just made no more open than it was asked to be, if the server lets that be had."""
        if permissions is None or self._session.traits.is_sequential:
            return
        with suppress(Refusal):
            found = self._take(self._session.submit(Type.LSTAT, encode_path(path)), Type.ATTRS, Reader.take_attributes)
            closed = closed_mode(found.mode, permissions)
            if closed is not None:
                wanted = encode_wanted(WantedAttributes(closed, None))
                self._session.expect_status(self._session.submit(Type.SETSTAT, encode_path(path), wanted))

    def _look_behind(self, deed: Deed, path: str) -> Reply | None:
        """A look, links not followed, in the same flight as a request that is to be seen to be done.

        None if nothing is to be seen, or if requests may be mixed up.
        """
        traits = self._session.traits
        if not traits.is_sequential or traits.believes(deed):
            return None
        return self._session.submit(Type.LSTAT, encode_path(path))

    def _require_done(self, deed: Deed, path: str, behind: Reply | None) -> None:
        """Raise `VerificationFailed` if what the server says it has done contradicts what it says is at a path now.

        `behind` is a look that went out in the same flight, None for none.
        """
        traits = self._session.traits
        if behind is None and traits.is_sequential:
            return
        is_missing = self._is_missing(path, behind)
        if behind is not None and is_missing is (deed == "made a directory"):
            # Too early, perhaps: some servers only call themselves OpenSSH.
            is_missing = self._is_missing(path, None)
            if is_missing is (deed != "made a directory"):
                traits.mixes_up(deed)
        if is_missing is (deed == "made a directory"):
            traits.catch(deed)
            raise not_done(deed, path, "nothing is there" if is_missing else "it is still there", self._session.peer)

    def _is_missing(self, path: str, look: Reply | None) -> bool | None:
        """Whether nothing is at a path, links not followed; None if the server does not tell."""
        try:
            self._take(look or self._session.submit(Type.LSTAT, encode_path(path)), Type.ATTRS, Reader.take_attributes)
        except Refusal as refusal:
            return True if refusal.code == StatusCode.NO_SUCH_FILE else None
        return False

    def _is_for_want_of(self, folder: str, refusal: Refusal) -> bool:
        """Whether something could not be made in a folder because that is missing. Not all servers say so."""
        if refusal.code in (StatusCode.NO_SUCH_FILE, StatusCode.PERMISSION_DENIED, StatusCode.OP_UNSUPPORTED):
            return refusal.code == StatusCode.NO_SUCH_FILE
        return not self._is_directory(folder)

    def remove_folders(self, folders: list[str]) -> None:
        for folder in reversed(folders):
            try:
                self._session.call(Type.RMDIR, encode_path(folder))
            except Refusal:
                # Somebody else has put something into it.
                return

    def create_empty(self, path: str, permissions: int | None) -> None:
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE | OpenFlag.EXCLUSIVE
        try:
            handle = self._open(path, flags, Attributes(mode=permissions))
            self._session.call(Type.CLOSE, encode_string(handle))
        except Refusal as refusal:
            raise explain_refusal(refusal, "cannot create", path, self._session) from refusal

    def require_readable(self, path: str) -> None:
        try:
            self._close_quietly(self._open(path, OpenFlag.READ, Attributes()))
        except Refusal as refusal:
            raise self._explain_reading(refusal, path) from refusal

    def _explain_reading(self, refusal: Refusal, path: str) -> StepError:
        if refusal.code == StatusCode.NO_SUCH_FILE:
            return source_missing(path, self._session.peer)
        return explain_refusal(refusal, "cannot read", path, self._session)

    def sha256(self, path: str, size_bytes: int | None = None) -> Digest:
        digest = self._shell.sha256(path, size_bytes or 0) if self._shell.exists else None
        if digest is not None:
            return Digest(digest, "sha256")
        whole = hashlib.sha256()
        self._read_back(path, size_bytes, whole)
        return Digest(whole.hexdigest(), "readback")

    def sha256_pieces(self, path: str, sizes: Sequence[int]) -> Iterator[str]:
        if self._shell.exists:
            yield from self._shell.sha256_pieces(path, sizes)
            return
        pieces = PieceHasher(sizes)
        self._read_back(path, sum(sizes), pieces, is_exact=False)
        yield from pieces.digests

    def _read_back(self, path: str, size_bytes: int | None, taker: TakesInOrder, *, is_exact: bool = True) -> None:
        failures: list[StepError | None] = []
        batch = self.start_batch()
        batch.fetch(Readback(path, size_bytes, taker, failures.append, is_exact=is_exact))
        complete(batch)
        if failures and failures[0] is not None:
            raise failures[0]

    def sha256_many(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        return self._shell.sha256_of(files) if self._shell.exists else {}

    def names_in(self, folder: str) -> Generator[str, None, None]:
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

    def replace(self, source: str, path: str, note: Note) -> Published:
        ways: list[Published] = []
        failures: list[StepError | None] = []

        def keep(published: Published) -> None:
            ways.append(published)
            note(published)

        def done(request: RemoteRequest, error: StepError | None) -> None:
            failures.append(error)

        batch = self.start_batch()
        batch.run(RemoteRequest("replace", path, done, temporary=source, is_new=False, note=keep))
        complete(batch)
        if failures and failures[0] is not None:
            raise failures[0]
        return ways[-1]

    def sync_folder(self, folder: str) -> bool:
        # OpenSSH's server opens a folder like a file, and syncs what is behind any handle of OPEN.
        if FSYNC not in self._session.extensions:
            return False
        try:
            handle = self._open(folder or ".", OpenFlag.READ, Attributes())
        except Refusal:
            return False
        prefix = encode_string(handle)
        syncing = self._session.submit(Type.EXTENDED, encode_string(FSYNC.encode()), prefix)
        closing = self._session.submit(Type.CLOSE, prefix)
        try:
            self._session.expect_status(closing)
            self._session.expect_status(syncing)
        except Refusal as refusal:
            if knows_no_sync(refusal):
                return False
            raise explain_refusal(refusal, "cannot sync to disk", folder or ".", self._session) from refusal
        return True

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
            removal = self._session.submit(kind, encode_path(path))
            behind = self._look_behind("removed", path)
            self._session.expect_status(removal)
        except Refusal as refusal:
            if refusal.code != StatusCode.NO_SUCH_FILE:
                raise explain_refusal(refusal, doing, path, self._session) from refusal
            # Somebody else may have removed it; or it is there.
            with suppress(StatusRefused):
                if self.status(path, follow=False) is not None:
                    raise still_there(path, self._session.peer) from refusal
            return False
        self._require_done("removed", path, behind)
        return True

    def start_batch(self, on_progress: Progress | None = None, must_end: Callable[[], bool] = lambda: False) -> Batch:
        # What only lists or looks does without it.
        from runner.sftp.batch.batch import SftpBatch

        self._session.settle_limits()
        return SftpBatch(self._session, self._count_files(), self._open_more_channels, on_progress, must_end)

    def _count_files(self) -> int:
        """How many files may be open at once: half of what the server allows, since it counts those it is about to close."""
        handles, traits = self._session.max_open_handles, self._session.traits
        if handles:
            return max(1, min(self._files_in_flight, handles // 2))
        if traits.is_sequential:
            return self._files_in_flight
        return min(self._files_in_flight, traits.max_open_files or CAUTIOUS_OPEN_FILES)

    def _open_more_channels(self, count: int) -> list[SftpSession]:
        if self._open_session is None:
            return []
        # The server may have closed some since they were used.
        self._lanes = [session for session in self._lanes if session.is_open]
        missing = count - len(self._lanes)
        if missing > 0:
            # Each takes several round trips to open: they are opened side by side.
            with ThreadPoolExecutor(missing) as opening:
                self._lanes += [session for session in opening.map(self._try_open_session, range(missing)) if session]
        return self._lanes[:count]

    def _try_open_session(self, number: int) -> SftpSession | None:
        try:
            return self._open_session() if self._open_session else None
        except StepError:
            # The server allows no more sessions; those that are there will do.
            return None

    def _open(self, path: str, flags: int, attributes: Attributes) -> bytes:
        return self._take(ask_to_open(self._session, encode_path(path), flags, attributes), Type.HANDLE, take_handle)

    def _stat(self, kind: int, target: bytes) -> FileStatus:
        return to_status(self._take(self._session.submit(kind, target), Type.ATTRS, Reader.take_attributes))

    def _take(self, reply: Reply, kind: int, take_out: Callable[[Reader], T]) -> T:
        return take(self._session, reply, kind, take_out)

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
        return found is not None and (found.is_directory or not found.is_kind_told)


def source_missing(path: str, peer: str) -> SourceMissing:
    """The error for a remote source that does not exist."""
    return SourceMissing(
        f"the source {path!r} does not exist on {peer}",
        hint="Relative remote paths start at the login directory; '~' is not expanded by servers.",
    )
