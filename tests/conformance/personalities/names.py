"""What becomes of names, directories, links and flags: rows 3, 4, 6, 7, 14, 15 and 16."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tests.conformance.served import (
    APPEND,
    CREATE,
    EXCLUSIVE,
    EXTENSIONS,
    HARDLINK,
    POSIX_RENAME,
    READ,
    TRUNCATE,
    WRITE,
    Ask,
    Personality,
    accept,
    extensions_without,
    refuse,
)
from tests.servers.raw_sftp import (
    FAILURE,
    NO_SUCH_FILE,
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    Execute,
    Fields,
    Kind,
)

# --- 3, 4: OK to what was not done ---


class MkdirSaysYes(Personality):
    """3: answers OK to MKDIR of a directory that exists (`rclone serve sftp`, object stores)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.MKDIR and os.path.isdir(ask.path):
            return accept(ask)
        return [execute()]


class HardlinkSaysYes(Personality):
    """4: answers OK to `hardlink@openssh.com` and makes no link (`rclone serve sftp`)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return accept(ask) if ask.extension == HARDLINK else [execute()]


# --- 6, 7: links ---


class RenameFollowsLinks(Personality):
    """6: follows a symbolic link that is the *source* of RENAME (ProFTPD)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.is_renaming and os.path.islink(ask.path):
            try:
                os.replace(os.path.realpath(ask.path), ask.second_path)
            except OSError:
                return refuse(ask, NO_SUCH_FILE, b"No such file")
            return accept(ask)
        return [execute()]


class RenameFollowsLinksPlainly(RenameFollowsLinks):
    """6: the same without posix-rename."""

    extensions = extensions_without(POSIX_RENAME)


class SwappedSymlink(Personality):
    """7: has SYMLINK's arguments in the draft's order (gesftpserver, Twisted Conch)."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind != Kind.SYMLINK:
            return [execute()]
        # What OpenSSH's clients send as (target, link) is read as (link, target).
        target = _second_string(ask.request.body)
        try:
            os.symlink(target, os.path.join(os.fsencode(self.root), ask.second_path))
        except OSError:
            return refuse(ask, FAILURE, b"File exists")
        return accept(ask)


class AnnouncedSymlinkOrder(SwappedSymlink):
    """7: and says so, as gesftpserver does."""

    extensions = (*EXTENSIONS, (b"symlink-order@rjk.greenend.org.uk", b"linkpath-targetpath"))


class AbsoluteTargets(Personality):
    """7: makes the target of a link absolute."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind != Kind.SYMLINK:
            return [execute()]
        target = os.path.join(os.path.dirname(ask.path), ask.second_path)
        try:
            os.symlink(os.path.normpath(target), ask.path)
        except OSError:
            return refuse(ask, FAILURE, b"File exists")
        return accept(ask)


def _second_string(body: bytes) -> bytes:
    fields = Fields(body)
    fields.string()
    return fields.string()


# --- 14: renaming ---


class RefusesPosixRename(Personality):
    """14: advertises posix-rename and refuses it."""

    def __init__(self, code: int = OP_UNSUPPORTED) -> None:
        super().__init__()
        self.code = code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, self.code) if ask.extension == POSIX_RENAME else [execute()]


class RefusesRename(Personality):
    """14: refuses to rename anything."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, PERMISSION_DENIED) if ask.is_renaming else [execute()]


class RefusesRemove(Personality):
    """14: has no posix-rename, and refuses to remove what stepped aside."""

    extensions = extensions_without(POSIX_RENAME, HARDLINK)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, PERMISSION_DENIED) if ask.kind == Kind.REMOVE else [execute()]


# --- 15: names ---


class NameRules(Personality):
    """15: allows only some names: for new files, and for what is renamed."""

    def __init__(self, pattern: str, code: int = PERMISSION_DENIED) -> None:
        super().__init__()
        self.allowed, self.code = re.compile(os.fsencode(pattern)), code

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        new = ask.path if ask.is_writing and ask.flags & CREATE else ask.second_path if ask.is_renaming else b""
        if new and not self.allowed.fullmatch(os.path.basename(new)):
            return refuse(ask, self.code, b"Name not allowed")
        return [execute()]


NO_DOT_FILES = r"[^.].*"
ONLY_CSV = r"[A-Za-z0-9_-]+\.csv"
ONLY_FILEPART = r"[^.].*\.filepart|[A-Za-z0-9_-]+\.csv"


class OnlyInStaging(Personality):
    """15: takes new files in one directory only; they may be renamed out of it."""

    def __init__(self, staging: Path) -> None:
        super().__init__()
        self.staging = os.fsencode(staging)

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.is_writing and ask.flags & CREATE and os.path.dirname(ask.path) != self.staging:
            return refuse(ask, PERMISSION_DENIED, b"Permission denied")
        return [execute()]


class TakesAtClose(Personality):
    """15: takes a file that was written to at CLOSE, under whatever name it has."""

    def __init__(self, inbox: Path) -> None:
        super().__init__()
        self.inbox = inbox
        self.written: set[bytes] = set()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.WRITE:
            self.written.add(ask.handle)
        reply = execute()
        if ask.kind == Kind.CLOSE and ask.handle in self.written:
            os.rename(ask.path, os.path.join(os.fsencode(self.inbox), os.path.basename(ask.path)))
        return [reply]


# --- 16: flags ---


class CommonFlags(Personality):
    """16: knows only common combinations of OPEN's flags (ssh2's `flagsToString`)."""

    known = frozenset(
        [READ, READ | WRITE]
        + [
            access | CREATE | beginning | exclusive
            for access in (WRITE, READ | WRITE)
            for beginning in (TRUNCATE, APPEND)
            for exclusive in (0, EXCLUSIVE)
        ]
    )

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, FAILURE) if ask.kind == Kind.OPEN and ask.flags not in self.known else [execute()]
