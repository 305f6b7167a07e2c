"""The server's files over SCP.

SCP can send a file, take a file, and — by asking for a file and hanging up after its header — tell size, time and mode.
Everything else (renaming, folders, permissions of what is there) needs the account's shell; without one, files are
written in place and the result says so.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from runner.errors import (
    DiskFull,
    FileRefused,
    PermissionRefused,
    ServerLacksFeature,
    SourceMissing,
    StepError,
)
from runner.remote_files import (
    Batch,
    Digest,
    FileStatus,
    Made,
    Note,
    Progress,
    Published,
    Source,
    StatusRefused,
    TakeBytes,
    WantedAttributes,
)
from runner.scp.batch import ScpBatch, copies_single_files_only
from runner.scp.protocol import Header, Refusal, ask_for_file, ask_for_header, receive_file, send_file
from runner.shell.shell import TRIAL_SECONDS, Shell, ShellMemory, StartCommand, quote
from runner.shell.stream import CommandChannel, Stream

PRIVATE_MODE = 0o600
DEFAULT_MODE = 0o644
# Begins what only reads.
_LOOKING = b"scp -p -f "


class ScpFiles:
    """A server's files, each operation a command of its own."""

    def __init__(
        self,
        start_command: StartCommand,
        peer: str,
        memory: ShellMemory | None = None,
        patience_seconds: float = TRIAL_SECONDS,
    ) -> None:
        """`memory` and `patience_seconds` are those of the `Shell`."""
        self._start_command = start_command
        self._peer = peer
        self._shell = Shell(self._start, peer, memory, patience_seconds)
        # Since a step began on a connection that had been idle; None where that does not matter.
        self._command_count: int | None = None

    @property
    def is_open(self) -> bool:
        # Each command has a channel of its own.
        return True

    @property
    def is_untouched(self) -> bool:
        # The first one only looks, and the second is not begun before it has been answered.
        return self._command_count is not None and self._command_count <= 1

    def begin_step(self) -> None:
        self._command_count = 0

    def close(self) -> None:
        pass

    def _start(
        self, command: bytes, prepare: Callable[[CommandChannel], None], patience_seconds: float | None = None, /
    ) -> CommandChannel:
        if self._command_count is not None:
            self._command_count += 1 if command.startswith(_LOOKING) else 2
        return self._start_command(command, prepare, patience_seconds)

    @property
    def can_rename(self) -> bool:
        return self._shell.exists

    @property
    def renames_links(self) -> bool:
        # mv(1) does.
        return True

    @property
    def can_replace(self) -> bool:
        return self._shell.exists

    @property
    def can_create_folders(self) -> bool:
        return self._shell.exists

    @property
    def can_set_permissions(self) -> bool:
        return self._shell.exists

    @property
    def tells_made_folders(self) -> bool:
        return False

    @property
    def keeps_order(self) -> bool:
        return True

    @property
    def can_resume(self) -> bool:
        return False

    @property
    def keeps_what_is_there(self) -> bool:
        return False

    @property
    def can_hash(self) -> bool:
        return self._shell.exists

    def status(self, path: str, *, follow: bool = True) -> FileStatus | None:
        try:
            with self._scp("-f", path) as stream:
                return to_status(ask_for_header(stream))
        except Refusal as refusal:
            text = refusal.text.lower()
            if "no such file" in text or "not found" in text:
                is_link = not follow and self._shell.exists and self._shell.is_link(path)
                return FileStatus(False, False, None, None, None, True) if is_link else None
            if "not a regular file" in text or "is a directory" in text:
                return FileStatus(True, False, None, None, None)
            raise StatusRefused(refusal.text) from refusal

    def create_parents(self, path: str, made: Made | None = None) -> list[str]:
        parent = posixpath.dirname(path)
        if parent not in ("", "/") and self._shell.exists:
            self._shell.create_folder(parent)
        # `mkdir -p` does not tell which folders it made.
        return []

    def claim_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> FileStatus | None:
        raise copies_single_files_only()

    def create_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> list[str]:
        self._shell.create_folder(path)
        return []

    def remove_folders(self, folders: list[str]) -> None:
        pass

    def create_empty(self, path: str, permissions: int | None) -> None:
        raise ServerLacksFeature("SCP reserves no names", hint="Use connector_type: SFTP.")

    def write(
        self,
        path: str,
        source: Source,
        wanted: WantedAttributes,
        opening_permissions: int | None,
        progress: Progress,
        *,
        is_new: bool,
    ) -> None:
        """Write a file: a new one that is its owner's alone until it is there whole, or over what is at `path`."""
        # The protocol has no way to create a file without a mode.
        mode = wanted.permissions
        if mode is None:
            mode = DEFAULT_MODE if opening_permissions is None else opening_permissions
        if is_new:
            self._send(path, source, PRIVATE_MODE, wanted.modified_at_seconds, progress)
            if mode != PRIVATE_MODE:
                self.set_attributes(path, wanted._replace(permissions=mode))
            return
        if wanted.permissions is not None and self._shell.exists:
            # scp leaves the permissions of the file that it writes over as they are until the end.
            self._shell.close_off(path, wanted.permissions)
        self._send(path, source, mode, wanted.modified_at_seconds, progress)

    def real_path(self, path: str) -> str:
        raise ServerLacksFeature("SCP cannot resolve links", hint="Use connector_type: SFTP.")

    def ask_real_paths(self, *paths: str) -> Callable[[], list[str]]:
        raise ServerLacksFeature("SCP cannot resolve links", hint="Use connector_type: SFTP.")

    def names_in(self, folder: str) -> Generator[str, None, None]:
        raise ServerLacksFeature("SCP cannot list a folder", hint="Use connector_type: SFTP.")

    def read(self, path: str, take: TakeBytes, progress: Progress) -> tuple[int, FileStatus]:
        """Read a file: how many bytes came, and what it was like before. Raises `OSError` as `take` does."""
        done_bytes = 0

        def take_next(data: memoryview) -> None:
            nonlocal done_bytes
            take(data, done_bytes)
            done_bytes += len(data)

        try:
            with self._scp("-f", path) as stream:
                header = ask_for_file(stream)
                return receive_file(stream, header, take_next, progress), to_status(header)
        except Refusal as refusal:
            raise self._explain_reading(refusal, path) from refusal

    def require_readable(self, path: str) -> None:
        try:
            with self._scp("-f", path) as stream:
                ask_for_header(stream)
        except Refusal as refusal:
            raise self._explain_reading(refusal, path) from refusal

    def _explain_reading(self, refusal: Refusal, path: str) -> StepError:
        if "no such file" in refusal.text.lower():
            return SourceMissing(
                f"the source {path!r} does not exist on {self._peer}",
                hint="Relative paths start at the login directory.",
            )
        return self._explain(refusal, "cannot read", path)

    def sha256(self, path: str, size_bytes: int | None = None) -> Digest:
        digest = self._shell.sha256(path, size_bytes or 0) if self._shell.exists else None
        if digest is not None:
            return Digest(digest, "sha256")
        hasher = hashlib.sha256()
        try:
            with self._scp("-f", path) as stream:
                header = ask_for_file(stream)
                received = receive_file(stream, header, hasher.update, lambda done_bytes: None)
                if received < header.size_bytes and stream.await_exit() is None:
                    raise stream.channel.lost()
        except Refusal as refusal:
            raise self._explain(refusal, "cannot read back", path) from refusal
        return Digest(hasher.hexdigest(), "readback")

    def sha256_pieces(self, path: str, sizes: Sequence[int]) -> Iterator[str]:
        raise ServerLacksFeature(
            "SCP cannot go on with a file", hint="Set 'resume: false' or use connector_type: SFTP."
        )

    def sha256_many(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        return self._shell.sha256_of(files) if self._shell.exists else {}

    def set_attributes(self, path: str, wanted: WantedAttributes) -> None:
        if wanted.permissions is None:
            return
        if not self._shell.exists:
            raise ServerLacksFeature(
                f"{self._peer} has no shell, so SCP cannot set the permissions of {path!r}",
                hint="Remove 'permissions', or use connector_type: SFTP.",
            )
        self._shell.set_permissions(path, wanted.permissions)

    def publish(self, temporary: str, path: str, backup: str | None) -> Published:
        """Rename a file that is written over what is at `path`, which is kept as `backup` if that is given."""
        if backup is None:
            self._shell.rename(temporary, path)
            return Published(True)
        is_kept = self._shell.replace_keeping(temporary, path, backup)
        return Published(True, backup if is_kept else None)

    def replace(self, source: str, path: str, note: Note) -> Published:
        note(Published(True))
        return self.publish(source, path, None)

    def sync_folder(self, folder: str) -> bool:
        return self.sync(folder or ".")

    def sync(self, path: str) -> bool:
        """Sync a file or folder to disk; False where that cannot be had."""
        return self._shell.exists and self._shell.sync(path)

    def rename(self, source: str, destination: str) -> None:
        raise ServerLacksFeature("SCP renames nothing", hint="Use connector_type: SFTP.")

    def read_link(self, path: str) -> str:
        raise ServerLacksFeature("SCP cannot read links", hint="Use connector_type: SFTP.")

    def remove_folder(self, path: str) -> None:
        raise ServerLacksFeature("SCP removes no folders", hint="Use connector_type: SFTP.")

    def start_batch(self, on_progress: Progress | None = None, must_end: Callable[[], bool] = lambda: False) -> Batch:
        return ScpBatch(self, on_progress)

    def remove(self, path: str) -> bool:
        return self._shell.exists and self._shell.remove(path)

    def _send(self, path: str, source: Source, mode: int, modified_at: int | None, progress: Progress) -> None:
        try:
            with self._scp("-t", path) as stream:
                send_file(stream, source, mode, modified_at, progress)
                # scp reports what went wrong at close only by its exit status.
                status = stream.await_exit()
                if status not in (0, None):
                    raise Refusal(stream.channel.stderr_text or f"scp ended with status {status}")
        except Refusal as refusal:
            raise self._explain(refusal, "cannot write to", path) from refusal

    @contextmanager
    def _scp(self, direction: str, path: str) -> Iterator[Stream]:
        """A running `scp -p -t PATH` or `scp -p -f PATH` on the server."""
        command = f"scp -p {direction} {quote(path)}".encode("utf-8", "surrogateescape")
        streams: list[Stream] = []
        channel = self._start(command, lambda channel: streams.append(Stream(channel)))
        try:
            yield streams[0]
        finally:
            channel.close()

    def _explain(self, refusal: Refusal, doing: str, path: str) -> StepError:
        """SCP has no error codes: the text is all there is."""
        message, text = f"{doing} {path!r} on {self._peer}: {refusal.text}", refusal.text.lower()
        hints: list[tuple[str, Callable[..., StepError], str]] = [
            ("permission denied", PermissionRefused, "Check owner and permissions of the file and its folder."),
            ("no space", DiskFull, "Make room there, then play again."),
            ("quota", DiskFull, "Make room there, then play again."),
            ("no such file", FileRefused, "A folder on the way is missing."),
        ]
        for words, kind, hint in hints:
            if words in text:
                return kind(message, hint=hint)
        return FileRefused(message, hint="The words are the server's; SCP tells no more than them.")


def to_status(header: Header) -> FileStatus:
    """A file's header as the transfer policy sees it."""
    return FileStatus(False, True, header.size_bytes, header.mode & 0o777, header.modified_at_seconds)
