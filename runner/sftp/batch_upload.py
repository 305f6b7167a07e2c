"""One upload of a batch: OPEN; WRITE, FSETSTAT, FSTAT and CLOSE together; and once all is proven, the rename."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

from runner.errors import FileRefused, SourceChanged, StepError
from runner.remote_files import NOTHING_WANTED, Sending, Source, WantedAttributes, Written
from runner.sftp.attributes import encode_wanted
from runner.sftp.batch_file import BatchFile, Engine, ignore
from runner.sftp.batch_publish import Publication, ask_to_replace, publish, remove_temporary
from runner.sftp.packets import (
    FSYNC,
    POSIX_RENAME,
    Attributes,
    OpenFlag,
    StatusCode,
    Type,
    encode_path,
    encode_string,
    size_of,
)
from runner.sftp.refusals import describe_refusal, knows_no_sync
from runner.sftp.session import Refusal

PRIVATE_MODE = 0o600

_NEW_FILE = struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE)
_ANY_FILE = struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE)
_PRIVATE = Attributes(mode=PRIVATE_MODE).encode()
_WRITE_START = struct.Struct(">QI").pack
FSYNC_START = encode_string(FSYNC.encode())


class Upload(BatchFile):
    """One upload. Every method runs under the batch's lock."""

    __slots__ = (
        "_is_publishing",
        "_is_synced",
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
        self._is_synced: bool | None = None
        self._is_publishing = self.is_written = False

    @property
    def path(self) -> str:
        return self.job.destination

    def give_up(self) -> None:
        # Between two renames the destination would be missing: what has begun to be published is.
        if not self._is_publishing:
            super().give_up()

    def run(self) -> Iterator[None]:
        opening = self.job.opening_permissions
        attributes = _PRIVATE if opening == PRIVATE_MODE else Attributes(mode=opening).encode()
        self.ask(
            Type.OPEN,
            self._written_path + (_NEW_FILE if self.job.temporary else _ANY_FILE) + attributes,
            self._take_handle,
        )
        yield
        if not self._handle:
            yield from self._open_another(attributes)
        if not self._handle:
            return
        if not self.has_failed:
            self.wait_for_turn()
            yield
        if not self.has_failed:
            self._ask_to_finish()
        else:
            self.ask(Type.CLOSE, self._handle, ignore)
        yield
        self._handle = b""
        if not self.has_failed and self._size is None:
            # Some servers look at names and not at handles.
            self.ask(Type.STAT, self._written_path, self._looked)
            yield
        refused = ""
        if not self.has_failed and self._refused:
            reason, self._refused = self._refused[0], []
            self._ask_to_set_one_by_one()
            yield
            refused = f"{' and '.join(self._refused)} ({reason})" if self._refused else ""
        self._prove(refused)
        if self.job.is_held and not self.has_failed:
            self._engine.hold(self)
            yield
        if not self.has_failed and self.job.temporary is not None:
            self._is_publishing = True
            if self.job.backup is None and POSIX_RENAME in self.session.extensions:
                # What nearly every file comes to: `publish` would do the same, at a cost for each.
                ask_to_replace(self, self.job.temporary, self.job.destination, self._written_path)
                self.part()
                yield
            else:
                yield from publish(self, self._describe(self.job.temporary), self.session.extensions)
        if self.has_failed:
            yield from self._clean_up()

    def _open_another(self, attributes: bytes) -> Iterator[None]:
        """The temporary name was refused, and may be taken, since others may come to it: another one is tried."""
        refusal = self.error
        if (
            not isinstance(refusal, Refusal)
            or refusal.code == StatusCode.NO_SUCH_FILE
            or not self.job.rename_temporary()
        ):
            return
        self.error = None
        self._written_path = encode_path(self.job.temporary or self.job.destination)
        self.ask(Type.OPEN, self._written_path + _NEW_FILE + attributes, self._take_handle)
        yield

    def _describe(self, temporary: str) -> Publication:
        job = self.job
        return Publication(temporary, job.destination, job.is_new, job.backup, self._next_backup)

    def _next_backup(self) -> str | None:
        return self.job.backup if self.job.rename_backup() else None

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot create", kind, body)

    def move_some(self) -> bool:
        try:
            if not self.has_failed and self._source is None:
                self._source, self._wanted = self.job.open()
                self._restrict()
            if not self.has_failed and self._write_some():
                return True
            self.job.close()
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self.fail(FileRefused(f"cannot read the source of {self.path!r} on this machine: {error.strerror}"))
        return False

    def _restrict(self) -> None:
        """Before the first byte: the file that is written over may have been open to those who must not read the new one."""
        if self.job.temporary is None and self._wanted.permissions is not None:
            permissions = WantedAttributes(self._wanted.permissions, None)
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
        body = b"".join((self._handle, _WRITE_START(self._offset, len(piece)), piece))
        self.ask(Type.WRITE, body, self._refuse_write)
        self._offset += len(piece)
        return self._offset < source.size_bytes

    def _refuse_write(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot write to", kind, body)

    def _ask_to_finish(self) -> None:
        if self._wanted.permissions is not None or self._wanted.modified_at_seconds is not None:
            self.ask(Type.FSETSTAT, self._handle + encode_wanted(self._wanted), self._set)
        self.ask(Type.FSTAT, self._handle, self._looked)
        if self.job.is_durable:
            self._is_synced = FSYNC in self.session.extensions
            if self._is_synced:
                self.ask(Type.EXTENDED, FSYNC_START + self._handle, self._refuse_sync)
        # Servers with a quota or a write-behind cache report a lost write only at CLOSE.
        self.ask(Type.CLOSE, self._handle, self._refuse_close)

    def _refuse_sync(self, kind: int, body: memoryview) -> None:
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            self._is_synced = False
            if not knows_no_sync(refusal):
                self.fail(refusal, "cannot sync to disk")

    def _refuse_close(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot finish", kind, body)

    def _set(self, kind: int, body: memoryview) -> None:
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            self._refused.append(describe_refusal(refusal))

    def _looked(self, kind: int, body: memoryview) -> None:
        if kind == Type.ATTRS:
            self._size = size_of(body)
        else:
            # The server does not tell.
            self.find_refusal(kind, body)

    def _ask_to_set_one_by_one(self) -> None:
        """Servers that refuse times may take permissions, and the other way round."""
        singles = {
            "permissions": WantedAttributes(self._wanted.permissions, None),
            "times": WantedAttributes(None, self._wanted.modified_at_seconds),
        }
        for name, single in singles.items():
            if single != NOTHING_WANTED:
                take = functools.partial(self._set_single, name)
                self.ask(Type.SETSTAT, self._written_path + encode_wanted(single), take)

    def _set_single(self, name: str, kind: int, body: memoryview) -> None:
        if self.find_refusal(kind, body) is not None:
            self._refused.append(name)

    def _prove(self, refused: str) -> None:
        """Decide whether what is written may be published."""
        if not self.has_failed:
            try:
                self.job.prove(Written(self._size, refused, self._is_synced))
            except StepError as error:
                self.fail(error)
            self.is_written = True

    def _clean_up(self) -> Iterator[None]:
        """The temporary file is removed. What was written in place stays, and is named."""
        self._is_publishing = False
        if self.job.temporary is not None:
            yield from remove_temporary(self, self.job.temporary)
        elif isinstance(self.error, StepError):
            self.error.add(f"It was being written in place: {self.path!r} may be incomplete")

    def forget(self) -> None:
        with suppress(StepError):
            self.job.close()
        self.job.lose("publishing" if self._is_publishing else "writing")

    def lose(self) -> None:
        if self.error is None:
            self.job.lose("published")
        elif self.job.temporary is None:
            self.job.lose("writing")
