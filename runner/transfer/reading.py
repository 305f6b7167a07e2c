"""Reads a small remote file into the result of a step: `read_file`. What comes is bounded, whatever the server announces."""

from __future__ import annotations

import base64
import errno
import hashlib
import os

from runner.errors import FileRefused, StepError
from runner.operation_results import Reading
from runner.plan import CopyFileToEngine, ReadContent
from runner.readback import Content, InOrder
from runner.remote_files import FileStatus, ReadFile, TakeBytes
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.copy_results import look_at_remote
from runner.transfer.listing import missing
from runner.transfer.local_sources import require_regular
from runner.transfer.verification import prove_received


def read_content(mode: ReadContent, context: CopyContext) -> Reading:
    """What a file holds, read whole and proven as a download is.

    Raises `SourceMissing`, `NotARegularFile`, `FileRefused` if it is larger than the step allows or no UTF-8, and
    `SourceChanged` if it was written to meanwhile.
    """
    found, is_known = look_at_remote(mode.path, context)
    if is_known and found is None:
        raise missing(mode.path, context)
    found = found or FileStatus(False, True, None, None, None)
    require_regular(found, mode.path, f"on {context.peer}")
    if (found.size_bytes or 0) > mode.max_bytes:
        raise _too_large(mode, found.size_bytes, context)
    data = _read(mode, found, context)
    return Reading(
        message="read",
        source=mode.path,
        content=base64.b64encode(data).decode("ascii") if mode.encoding == "base64" else _decode(data, mode, context),
        encoding=mode.encoding,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _read(mode: ReadContent, found: FileStatus, context: CopyContext) -> bytes:
    fetching = _ContentFetch(mode, found, context)
    with running_batch(context) as batch:
        batch.fetch(fetching)
        while batch.wait():
            pass
    if fetching.error is not None:
        raise fetching.error
    return bytes(fetching.content.data)


def _decode(data: bytes, mode: ReadContent, context: CopyContext) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"{mode.path!r} on {context.peer} is no UTF-8 text: byte {error.start:,} is 0x{data[error.start]:02x}",
            hint="'encoding: base64' gives its bytes, whatever they are.",
        ) from error


def _too_large(mode: ReadContent, size_bytes: int | None, context: CopyContext) -> FileRefused:
    size = "more than that" if size_bytes is None else f"{size_bytes:,} bytes"
    return FileRefused(
        f"{mode.path!r} on {context.peer} is larger than 'max_bytes' ({mode.max_bytes:,}): it has {size}",
        hint="Raise 'max_bytes', or copy it with 'mode_name: copy_file_to_engine'.",
    )


class _ContentFetch:
    """The file while it is read; a `runner.remote_files.Fetching`."""

    offset = 0
    is_held = is_durable = False
    is_looked_at = trusts_size = True

    def __init__(self, mode: ReadContent, found: FileStatus, context: CopyContext) -> None:
        self.source = mode.path
        self.size_bytes = found.size_bytes
        self.content = Content()
        self.error: StepError | None = None
        self._mode = mode
        self._found = found
        self._around = context

    def open(self) -> TakeBytes:
        in_order = InOrder(self.content)

        def take(data: memoryview, offset: int) -> None:
            if offset + len(data) > self._mode.max_bytes:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            in_order.take(data, offset)

        return take

    def prove(self, read: ReadFile) -> None:
        read = read._replace(before=read.before or self._found)
        # The same proof as that of a copy.
        copy = CopyFileToEngine(source=self.source, destination="")
        prove_received(copy, self.source, read, len(self.content.data), self._around.peer)

    def hold(self) -> None:
        """Nothing is proven further."""

    def publish(self) -> None:
        """It is published nowhere."""

    def explain(self, error: OSError) -> StepError:
        return _too_large(self._mode, None, self._around)

    def discard(self) -> None:
        """Nothing was made that could be removed."""

    def finish(self, error: StepError | None) -> None:
        self.error = error
