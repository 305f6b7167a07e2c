"""Gives what is written under a temporary name its final one: the one place where that is decided for everything in a batch.

In one step where the server can (posix-rename); else what is replaced steps aside first, and comes back on failure. What is
to be kept gets a second name (a hard link), so that there is a file at every moment; where that cannot be, it is renamed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runner.errors import FileRefused, StepError
from runner.sftp.batch_file import BatchFile, ignore
from runner.sftp.packets import HARDLINK, POSIX_RENAME, StatusCode, Type, encode_path, encode_string
from runner.sftp.refusals import rename_refused

_POSIX_RENAME_START = encode_string(POSIX_RENAME.encode())
_HARDLINK_START = encode_string(HARDLINK.encode())


@dataclass(slots=True)
class Publication:
    """What is to be published. `is_new` says that nothing is there yet; `backup` is the name for what is replaced."""

    temporary: str
    destination: str
    is_new: bool
    backup: str | None = None
    # Chooses another name for the backup when that is taken; None if there is none left.
    next_backup: Callable[[], str | None] = lambda: None


def publish(file: BatchFile, publication: Publication, extensions: dict[str, bytes]) -> Iterator[None]:
    """Rename; `file.error` tells whether that went well. After a failure the destination is as it was, or is named."""
    if publication.backup is not None:
        yield from _publish_keeping(file, publication, extensions)
    elif POSIX_RENAME in extensions:
        ask_to_replace(file, publication.temporary, publication.destination)
        file.part()
        yield
    elif publication.is_new:
        _rename(file, publication.temporary, publication.destination)
        file.part()
        yield
    else:
        yield from _step_aside(file, publication)


def _publish_keeping(file: BatchFile, publication: Publication, extensions: dict[str, bytes]) -> Iterator[None]:
    old = encode_path(publication.destination)
    while (backup := publication.backup) is not None:
        if {POSIX_RENAME, HARDLINK} <= extensions.keys():
            refusals: list[int] = []
            note = functools.partial(_note_kind, refusals)
            file.ask(Type.EXTENDED, _HARDLINK_START + old + encode_path(backup), note)
            yield
            if not refusals:
                yield from _replace_kept(file, publication, backup)
                return
        found: list[int] = []
        # Some servers would replace what has the name.
        file.ask(Type.LSTAT, encode_path(backup), functools.partial(_note_kind, found))
        yield
        if Type.ATTRS not in found:
            yield from _step_aside(file, publication)
            return
        publication.backup = publication.next_backup()
    hint = "The server says so of each of them, which is hardly true."
    file.fail(FileRefused(f"no name is free under which the old {file.path!r} could be kept", hint=hint))


def _replace_kept(file: BatchFile, publication: Publication, backup: str) -> Iterator[None]:
    ask_to_replace(file, publication.temporary, publication.destination)
    yield
    if file.has_failed:
        file.ask(Type.REMOVE, encode_path(backup), ignore)
        yield


def _step_aside(file: BatchFile, publication: Publication) -> Iterator[None]:
    aside = publication.backup or f"{publication.temporary}.old"
    _rename(file, publication.destination, aside)
    yield
    if not file.has_failed:
        yield from _take_its_place(file, publication, aside)


def _take_its_place(file: BatchFile, publication: Publication, aside: str) -> Iterator[None]:
    _rename(file, publication.temporary, publication.destination)
    yield
    if file.has_failed:
        paths = encode_path(aside) + encode_path(publication.destination)
        file.ask(Type.RENAME, paths, functools.partial(_note_restored, file, aside))
        yield
    elif publication.backup is None:
        file.ask(Type.REMOVE, encode_path(aside), ignore)
        yield


def ask_to_replace(file: BatchFile, temporary: str, destination: str, encoded_temporary: bytes = b"") -> None:
    """Rename in one step over what is there. This is where a temporary file becomes the destination."""
    paths = (encoded_temporary or encode_path(temporary)) + encode_path(destination)
    take = functools.partial(_refuse_rename, file, temporary, destination)
    file.ask(Type.EXTENDED, _POSIX_RENAME_START + paths, take)


def _rename(file: BatchFile, source: str, destination: str) -> None:
    take = functools.partial(_refuse_rename, file, source, destination)
    file.ask(Type.RENAME, encode_path(source) + encode_path(destination), take)


def _refuse_rename(file: BatchFile, source: str, destination: str, kind: int, body: memoryview) -> None:
    refusal = file.find_refusal(kind, body)
    if refusal is not None:
        file.fail(rename_refused(refusal, source, destination, file.session))


def _note_restored(file: BatchFile, aside: str, kind: int, body: memoryview) -> None:
    if file.find_refusal(kind, body) is not None and isinstance(file.error, StepError):
        file.error.add(f"The old file is kept as {aside!r}")


def _note_kind(kinds: list[int], kind: int, body: memoryview) -> None:
    kinds.append(kind)


def remove_temporary(file: BatchFile, temporary: str) -> Iterator[None]:
    """Remove what was not published; a failure to do so is added to the file's error."""
    file.ask(Type.REMOVE, encode_path(temporary), functools.partial(_note_removal, file, temporary))
    yield


def _note_removal(file: BatchFile, temporary: str, kind: int, body: memoryview) -> None:
    refusal = file.find_refusal(kind, body)
    if refusal is not None and refusal.code != StatusCode.NO_SUCH_FILE and isinstance(file.error, StepError):
        file.error.add(f"The temporary file {temporary!r} on {file.session.peer} could not be removed")
