"""Finds out what a path is where its attributes do not tell: some servers send no mode, or one without type bits.

What is taken for a file is replaced, moved aside or removed, so nothing is taken for one that may be a directory. The other
request for attributes is tried, then those that are granted for a link or a directory only. A server that tells the kind in
its first answer, as OpenSSH's does, is asked for nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from runner.remote_files import FileStatus
from runner.sftp.attributes import to_status
from runner.sftp.batch.file import BatchFile, Stages, ignore
from runner.sftp.packets import Reader, StatusCode, Type, encode_path, encoded_handle
from runner.sftp.session import Refusal

T = TypeVar("T")

# Of something that is there, nothing is known.
KIND_UNTOLD = FileStatus(False, True, None, None, None, is_kind_told=False)
# So many paths are asked about side by side.
LOOKS_IN_FLIGHT = 64
# So many of them may be open at once: servers count, and refuse more (some from 64 on).
OPEN_DIRECTORIES = 4
# Refusals that say nothing of what is there.
_UNTELLING_CODES = frozenset((StatusCode.PERMISSION_DENIED, StatusCode.OP_UNSUPPORTED))


def lacks_something(status: FileStatus) -> bool:
    """Whether a listing leaves out of an entry what a copy needs: its kind, its time, or a file's size."""
    # This is asked for every entry of a tree.
    if status.modified_at_seconds is None or not status.is_kind_told:
        return True
    return status.size_bytes is None and status.is_regular


def look_at_entries(file: BatchFile, folder: str, entries: Mapping[str, FileStatus]) -> Stages[dict[str, FileStatus]]:
    """What entries of a folder are of which its listing does not tell enough, by name; without those that are gone."""
    above = folder.rstrip("/") + "/" if folder else ""
    found: dict[str, FileStatus] = {}
    untold: dict[str, FileStatus] = {}
    for names in _pieces([*entries], LOOKS_IN_FLIGHT):
        looks = {name: _Reply(file) for name in names}
        for name, look in looks.items():
            file.ask(Type.LSTAT, encode_path(above + name), look.take)
        yield
        for name, look in looks.items():
            if look.is_missing:
                continue
            status = found[name] = _merge(entries[name], look.status)
            if not status.is_kind_told:
                untold[above + name] = status
    if untold:
        for path, status in (yield from _find_kinds(file, untold, follows_links=False)).items():
            found[path[len(above) :]] = status
    return found


def find_kind(file: BatchFile, path: str, status: FileStatus, *, follows_links: bool) -> Stages[FileStatus]:
    """What is at a path whose `status`, by STAT if links are followed and by LSTAT if not, does not tell the kind."""
    found = yield from _find_kinds(file, {path: status}, follows_links=follows_links)
    return found[path]


def _find_kinds(
    file: BatchFile, untold: Mapping[str, FileStatus], *, follows_links: bool
) -> Stages[dict[str, FileStatus]]:
    found: dict[str, FileStatus] = {}
    for paths in _pieces([*untold], LOOKS_IN_FLIGHT):
        probes = [_Probe(file, path, untold[path], follows_links=follows_links) for path in paths]
        for probe in probes:
            probe.ask_for_attributes()
        yield
        for probe in probes:
            probe.compare()
        for some in _pieces([probe for probe in probes if not probe.status.is_kind_told], OPEN_DIRECTORIES):
            for probe in some:
                probe.ask_to_list()
            yield
            for probe in some:
                probe.conclude()
        found |= {probe.path: probe.status for probe in probes}
    return found


def _pieces(values: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _merge(status: FileStatus, other: FileStatus | None) -> FileStatus:
    """What two answers about the same path tell together; of what both tell, the first has it."""
    if other is None:
        return status
    kind = status if status.is_kind_told else other
    return FileStatus(
        kind.is_directory,
        kind.is_regular,
        other.size_bytes if status.size_bytes is None else status.size_bytes,
        other.permissions if status.permissions is None else status.permissions,
        other.modified_at_seconds if status.modified_at_seconds is None else status.modified_at_seconds,
        kind.is_link,
        kind.special_bits,
        kind.is_kind_told,
    )


class _Reply:
    """What one request is answered with."""

    __slots__ = ("_file", "has_handle", "is_link", "refusal", "status")

    def __init__(self, file: BatchFile) -> None:
        self._file = file
        self.status: FileStatus | None = None
        self.refusal: Refusal | None = None
        self.is_link = self.has_handle = False

    def take(self, kind: int, body: memoryview) -> None:
        """The answer, unless it is OK. Raises `MalformedPacket`."""
        if kind == Type.ATTRS:
            self.status = to_status(Reader(body).take_attributes())
        elif kind == Type.NAME:
            self.is_link = True
        elif kind == Type.HANDLE:
            self.has_handle = True
            self._file.ask(Type.CLOSE, encoded_handle(body), ignore)
        else:
            self.refusal = self._file.find_refusal(kind, body)

    @property
    def is_missing(self) -> bool:
        return self.refusal is not None and self.refusal.code == StatusCode.NO_SUCH_FILE

    @property
    def is_kept(self) -> bool:
        """Whether the server refuses to say, which speaks neither for nor against anything."""
        return self.refusal is not None and self.refusal.code in _UNTELLING_CODES


class _Probe:
    """One path whose kind is looked for."""

    __slots__ = ("_file", "_follows_links", "_link", "_listing", "_look", "path", "status")

    def __init__(self, file: BatchFile, path: str, status: FileStatus, *, follows_links: bool) -> None:
        self.path = path
        self.status = status
        self._file = file
        self._follows_links = follows_links
        self._look, self._link, self._listing = _Reply(file), _Reply(file), _Reply(file)

    def ask_for_attributes(self) -> None:
        """By the other request than the one that has told nothing; and if links count, whether it is one."""
        path = encode_path(self.path)
        self._file.ask(Type.LSTAT if self._follows_links else Type.STAT, path, self._look.take)
        if not self._follows_links:
            self._file.ask(Type.READLINK, path, self._link.take)

    def compare(self) -> None:
        """Whether that has told it."""
        other = self._look.status
        if self._link.is_link:
            self.status = self.status._replace(is_regular=False, is_link=True, is_kind_told=True)
        elif other is not None and other.is_kind_told and not other.is_link and self._may_be(other):
            self.status = _merge(self.status, other)

    def _may_be(self, followed: FileStatus) -> bool:
        """Whether it is what STAT says, and no link to that. It matters for directories: a link has no content."""
        return self._follows_links or not followed.is_directory or not self._may_be_link

    @property
    def _may_be_link(self) -> bool:
        """Whether it is not known to be no link: a server that does not know READLINK has none."""
        refusal = self._link.refusal
        return refusal is not None and refusal.code == StatusCode.PERMISSION_DENIED

    def ask_to_list(self) -> None:
        """Only a directory can be opened with OPENDIR, or a link to one."""
        self._file.ask(Type.OPENDIR, encode_path(self.path), self._listing.take)

    def conclude(self) -> None:
        """Whether it could be opened. One that may not be opened may still be a directory."""
        if self._listing.has_handle:
            is_told = self._follows_links or not self._may_be_link
            self.status = self.status._replace(is_directory=is_told, is_regular=False, is_kind_told=is_told)
        elif self._listing.refusal is not None and not self._listing.is_kept:
            self.status = self.status._replace(is_kind_told=True)
