"""One upload of a batch: OPEN; WRITE, FSETSTAT, FSTAT and CLOSE together; and once all is proven, the rename."""

from __future__ import annotations

import functools
import os
import struct
from contextlib import suppress

from runner.errors import FileRefused, SourceChanged, StepError
from runner.remote_files import NOTHING_WANTED, Sending, Source, WantedAttributes, Written
from runner.sftp.attributes import encode_wanted
from runner.sftp.batch_file import BatchFile, Engine, ignore
from runner.sftp.packets import (
    HARDLINK,
    POSIX_RENAME,
    Attributes,
    OpenFlag,
    StatusCode,
    Type,
    encode_path,
    encode_string,
    size_of,
)
from runner.sftp.refusals import describe_refusal, rename_refused
from runner.sftp.session import Refusal

PRIVATE_MODE = 0o600

_NEW_FILE = struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE)
_ANY_FILE = struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE)
_PRIVATE = Attributes(mode=PRIVATE_MODE).encode()
_WRITE_START = struct.Struct(">QI").pack
_POSIX_RENAME_START = encode_string(POSIX_RENAME.encode())
HARDLINK_START = encode_string(HARDLINK.encode())


class Upload(BatchFile):
    """The state machine of one upload. Every method runs under the batch's lock."""

    __slots__ = (
        "_in_flight_bytes",
        "_is_publishing",
        "_offset",
        "_refused",
        "_size",
        "_source",
        "_wanted",
        "_written_path",
        "is_written",
        "job",
    )

    job: Sending

    def __init__(self, engine: Engine, job: Sending) -> None:
        super().__init__(engine, job)
        self._written_path = encode_path(job.temporary or job.destination)
        self._source: Source | None = None
        self._wanted = NOTHING_WANTED
        self._offset = 0
        self._size: int | None = None
        self._refused: list[str] = []
        self._is_publishing = self.is_written = False

    @property
    def path(self) -> str:
        return self.job.destination

    def give_up(self) -> None:
        # Between two renames the destination would be missing: what has begun to be published is.
        if not self._is_publishing:
            super().give_up()

    def begin(self) -> None:
        if self.is_written:
            self._publish_or_remove()
            return
        self._then = self._after_open
        flags = _NEW_FILE if self.job.temporary else _ANY_FILE
        self.ask(Type.OPEN, self._written_path + flags + _PRIVATE, self._take_handle)

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot create", kind, body)

    def _after_open(self) -> None:
        if not self._handle:
            self.finish()
        elif self.error is not None:
            self._tidy_up()
        else:
            self._engine.move(self)

    def move_some(self) -> bool:
        try:
            if self.error is None and self._source is None:
                self._source, self._wanted = self.job.open()
                self._close_off()
            if self.error is None and self._write_some():
                return True
            self.job.close()
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self.fail(FileRefused(f"cannot read the source of {self.path!r} on this machine: {error.strerror}"))
        if self.error is not None:
            self._tidy_up()
        else:
            self._end()
        return False

    def _close_off(self) -> None:
        """Before the first byte: the file that is written over may have been open to those who must not read the new one."""
        if self.job.temporary is None and self._wanted.permissions is not None:
            permissions = WantedAttributes(self._wanted.permissions, None)
            self._then = self._while_writing
            self.ask(Type.FSETSTAT, self._handle + encode_wanted(permissions), ignore)

    def _write_some(self) -> bool:
        """Send the next piece. False when there is no more."""
        source = self._source
        if source is None or self._offset >= source.size_bytes:
            return False
        wanted = min(self._engine.session.write_bytes, source.size_bytes - self._offset)
        piece = os.pread(source.fd, wanted, self._offset)
        if not piece:
            raise SourceChanged(
                f"the source of {self.path!r} became shorter while it was read",
                hint="Something still writes to it. Play again when it is finished.",
            )
        if source.hasher is not None:
            source.hasher.update(memoryview(piece))
        self._in_flight_bytes += len(piece)
        self._engine.bytes_in_flight += len(piece)
        self._then = self._while_writing
        self.ask(
            Type.WRITE, b"".join((self._handle, _WRITE_START(self._offset, len(piece)), piece)), self._refuse_write
        )
        self._offset += len(piece)
        return self._offset < source.size_bytes

    def _refuse_write(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot write to", kind, body)

    def _while_writing(self) -> None:
        """All that was sent is acknowledged, and more is to come."""

    def _end(self) -> None:
        self._then = self._after_close
        if self._wanted.permissions is not None or self._wanted.modified_at_seconds is not None:
            self.ask(Type.FSETSTAT, self._handle + encode_wanted(self._wanted), self._set)
        self.ask(Type.FSTAT, self._handle, self._looked)
        # Servers with a quota or a write-behind cache tell of a lost write only at CLOSE.
        self.ask(Type.CLOSE, self._handle, self._refuse_close)

    def _refuse_close(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot finish", kind, body)

    def _set(self, kind: int, body: memoryview) -> None:
        try:
            self._engine.session.check_status(kind, body)
        except Refusal as refusal:
            self._refused.append(describe_refusal(refusal))

    def _looked(self, kind: int, body: memoryview) -> None:
        if kind == Type.ATTRS:
            self._size = size_of(body)
        else:
            self.take_no_status(kind, body)

    def take_no_status(self, kind: int, body: memoryview) -> None:
        """A status in the place of something better: the server does not tell."""
        try:
            self._engine.session.check_status(kind, body)
        except Refusal:
            return

    def _after_close(self) -> None:
        self._handle = b""
        if self.error is not None:
            self._remove()
        elif self._size is None:
            # Some servers look at names and not at handles.
            self._then = self._after_second_look
            self.ask(Type.STAT, self._written_path, self._looked)
        else:
            self._after_second_look()

    def _after_second_look(self) -> None:
        if self._refused:
            self._set_one_by_one()
        else:
            self._publish_if_proven("")

    def _set_one_by_one(self) -> None:
        """Servers that refuse times may take permissions, and the other way round."""
        reason, self._refused = self._refused[0], []
        self._then = lambda: self._publish_if_proven(
            f"{' and '.join(self._refused)} ({reason})" if self._refused else ""
        )
        singles = {
            "permissions": WantedAttributes(self._wanted.permissions, None),
            "times": WantedAttributes(None, self._wanted.modified_at_seconds),
        }
        for name, single in singles.items():
            if single != WantedAttributes(None, None):
                self.ask(
                    Type.SETSTAT,
                    self._written_path + encode_wanted(single),
                    functools.partial(self._set_single, name),
                )

    def _set_single(self, name: str, kind: int, body: memoryview) -> None:
        try:
            self._engine.session.check_status(kind, body)
        except Refusal:
            self._refused.append(name)

    def _publish_if_proven(self, refused: str) -> None:
        if self.error is None:
            try:
                self.job.prove(Written(self._size, refused))
            except StepError as error:
                self.fail(error)
        self.is_written = True
        if self.job.is_held and self.error is None:
            self._engine.hold(self)
        else:
            self._publish_or_remove()

    def _publish_or_remove(self) -> None:
        if self.error is not None:
            self._remove()
        elif self.job.temporary is None:
            self.finish()
        else:
            self._publish(self.job.temporary)

    def _publish(self, temporary: str) -> None:
        """This is where the temporary file becomes the destination."""
        self._is_publishing = True
        backup = self.job.backup
        if backup is not None:
            self._keep_old(temporary, backup)
            return
        self._then = self._after_rename
        destination = encode_path(self.job.destination)
        if POSIX_RENAME in self._engine.session.extensions:
            self.ask(Type.EXTENDED, _POSIX_RENAME_START + self._written_path + destination, self._refuse_publishing)
            self._engine.part(self)
        elif self.job.is_new:
            self.ask(Type.RENAME, self._written_path + destination, self._refuse_publishing)
            self._engine.part(self)
        else:
            self._step_aside(temporary)

    def _keep_old(self, temporary: str, backup: str) -> None:
        """Give the old file a second name, so that there is one at every moment; where that cannot be, rename it."""
        extensions = self._engine.session.extensions
        if not {POSIX_RENAME, HARDLINK} <= extensions.keys():
            self._keep_old_aside(temporary, backup)
            return
        old, kept = encode_path(self.job.destination), encode_path(backup)
        refusals: list[int] = []

        def replace() -> None:
            if refusals:
                self._keep_old_aside(temporary, backup)
                return
            self._then = tidy
            self.ask(Type.EXTENDED, _POSIX_RENAME_START + self._written_path + old, self._refuse_publishing)

        def tidy() -> None:
            if self.error is None:
                self.finish()
                return
            self._then = self._remove
            self.ask(Type.REMOVE, kept, ignore)

        self._then = replace
        self.ask(Type.EXTENDED, HARDLINK_START + old + kept, lambda kind, body: refusals.append(kind))

    def _keep_old_aside(self, temporary: str, backup: str) -> None:
        """Rename the old file, unless its new name is taken: some servers would replace what has it."""
        found: list[int] = []

        def go_on() -> None:
            if Type.ATTRS not in found:
                self._step_aside(temporary, backup)
            elif self.job.rename_backup():
                self._keep_old(temporary, self.job.backup or "")
            else:
                hint = "The server says so of each of them, which is hardly true."
                self.fail(FileRefused(f"no name is free under which the old {self.path!r} could be kept", hint=hint))
                self._remove()

        self._then = go_on
        self.ask(Type.LSTAT, encode_path(backup), lambda kind, body: found.append(kind))

    def _step_aside(self, temporary: str, backup: str | None = None) -> None:
        """Without posix-rename nothing replaces a file in one step: the old one goes aside, and comes back on failure."""
        aside = backup or f"{temporary}.old"
        old, new = encode_path(self.job.destination), encode_path(aside)

        def replace() -> None:
            if self.error is not None:
                self._remove()
                return
            self._then = tidy
            self.ask(Type.RENAME, self._written_path + old, self._refuse_publishing)

        def tidy() -> None:
            if self.error is not None:
                self._then = self._remove
                self.ask(Type.RENAME, new + old, functools.partial(self._restored, aside))
                return
            if backup is not None:
                self.finish()
                return
            self._then = self.finish
            self.ask(Type.REMOVE, new, ignore)

        self._then = replace
        self.ask(Type.RENAME, old + new, functools.partial(self._refuse_rename, self.job.destination, aside))

    def _refuse_publishing(self, kind: int, body: memoryview) -> None:
        self._refuse_rename(self.job.temporary or "", self.job.destination, kind, body)

    def _refuse_rename(self, source: str, destination: str, kind: int, body: memoryview) -> None:
        try:
            self._engine.session.check_status(kind, body)
        except Refusal as refusal:
            self.fail(rename_refused(refusal, source, destination, self._engine.session))

    def _restored(self, aside: str, kind: int, body: memoryview) -> None:
        try:
            self._engine.session.check_status(kind, body)
        except Refusal:
            if isinstance(self.error, StepError):
                self.error.add(f"The old file is kept as {aside!r}")

    def _after_rename(self) -> None:
        if self.error is not None:
            self._remove()
        else:
            self.finish()

    def _tidy_up(self) -> None:
        """The handle is still open."""
        self._then = self._remove
        self.ask(Type.CLOSE, self._handle, ignore)

    def _remove(self) -> None:
        """The temporary file goes. What was written in place stays, and is named."""
        temporary = self.job.temporary
        if temporary is None:
            if isinstance(self.error, StepError):
                self.error.add(f"It was being written in place: {self.path!r} may be incomplete")
            self.finish()
            return
        self._then = self.finish
        self.ask(Type.REMOVE, self._written_path, functools.partial(self._removed, temporary))

    def _removed(self, temporary: str, kind: int, body: memoryview) -> None:
        try:
            self._engine.session.check_status(kind, body)
        except Refusal as refusal:
            if refusal.code != StatusCode.NO_SUCH_FILE and isinstance(self.error, StepError):
                self.error.add(f"The temporary file {temporary!r} on {self._engine.session.peer} could not be removed")

    def forget(self) -> None:
        with suppress(StepError):
            self.job.close()
