"""Puts into words what is about to change: why a file is copied, and how a small text file differs."""

from __future__ import annotations

import difflib
import os

from runner.errors import StepError
from runner.plan import CopyFile
from runner.readback import Content, Readback, complete
from runner.remote_files import FileStatus, RemoteReader, WantedAttributes
from runner.results import moment
from runner.transfer.directory_modes import mode_of

# A larger file's difference is told by its size alone.
MAX_DIFF_BYTES = 64 * 1024
_CONTEXT_LINES = 3


def explain_difference(copy: CopyFile, source: FileStatus, destination: FileStatus | None) -> str:
    """Why the destination is not right."""
    if destination is None:
        return ""
    if destination.is_link:
        return "is a link"
    if not destination.is_regular:
        return "is no regular file"
    if source.size_bytes != destination.size_bytes:
        return f"size {_show(destination.size_bytes)} → {_show(source.size_bytes)}"
    if copy.compare == "checksum":
        return "other content"
    if copy.compare == "always":
        return "compare: always"
    if source.size_bytes is None:
        return "size not known"
    modified = f"modified {_show_time(destination.modified_at_seconds)} → {_show_time(source.modified_at_seconds)}"
    return f"{modified}, further apart than modify_window" if copy.modify_window_seconds else modified


def explain_permissions(found: int | None, wanted: int | None) -> str:
    """What becomes of permissions."""
    return f"permissions {'?' if found is None else f'{found:04o}'} → {'?' if wanted is None else f'{wanted:04o}'}"


def explain_attributes(found: FileStatus, wanted: WantedAttributes) -> str:
    """What becomes of permissions and times."""
    told = []
    found_mode = mode_of(found)
    if wanted.permissions is not None and wanted.permissions != found_mode:
        told.append(explain_permissions(found_mode, wanted.permissions))
    if wanted.modified_at_seconds is not None and wanted.modified_at_seconds != found.modified_at_seconds:
        told.append(f"modified {_show_time(found.modified_at_seconds)} → {_show_time(wanted.modified_at_seconds)}")
    return ", ".join(told)


def can_be_diffed(source: FileStatus, destination: FileStatus | None) -> bool:
    """Whether both sides are small enough."""
    sizes = [source.size_bytes] if destination is None else [source.size_bytes, destination.size_bytes]
    is_file = destination is None or destination.is_regular
    return is_file and all(size is not None and size <= MAX_DIFF_BYTES for size in sizes)


def diff_texts(old: bytes | None, new: bytes | None, path: str) -> str:
    """A unified diff; empty if one of the two cannot be read or is no text."""
    texts = [decode_text(content) for content in (old, new)]
    if texts[0] is None or texts[1] is None:
        return ""
    before, after = (text.splitlines(keepends=True) for text in texts if text is not None)
    lines = difflib.unified_diff(before, after, f"old {path}", f"new {path}", n=_CONTEXT_LINES)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def decode_text(content: bytes | None) -> str | None:
    """The content as text; None for anything else."""
    if content is None or b"\0" in content or len(content) > MAX_DIFF_BYTES:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def read_local(path: str, *, follows_links: bool) -> bytes | None:
    """A small local file's content; None if it cannot be read."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
        try:
            return os.pread(fd, MAX_DIFF_BYTES + 1, 0)
        finally:
            os.close(fd)
    except OSError:
        return None


def read_remote(remote: RemoteReader, path: str, expected_bytes: int = MAX_DIFF_BYTES) -> bytes | None:
    """A remote file's content, or its beginning if it has more than is expected; None if it cannot be read."""
    content, failures = Content(), list[StepError | None]()
    batch = remote.start_batch()
    batch.fetch(Readback(path, expected_bytes + 1, content, failures.append, is_exact=False))
    complete(batch)
    return None if failures[0] is not None else bytes(content.data)


def _show(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes:,}"


def _show_time(seconds: int | None) -> str:
    if seconds is None:
        return "?"
    at = moment(seconds)
    return f"{seconds:,} s after 1970" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
