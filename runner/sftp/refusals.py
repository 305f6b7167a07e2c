"""What a refused SFTP request means for the user. The protocol has eight status codes, and most errors share one."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence

from runner.errors import (
    DiskFull,
    FileError,
    FileRefused,
    PermissionRefused,
    ServerLacksFeature,
    SourceMissing,
    StepError,
    VerificationFailed,
)
from runner.sftp.disk_space import ask_disk_space
from runner.sftp.packets import StatusCode
from runner.sftp.session import Refusal, SftpSession


def explain_refusal(refusal: Refusal, doing: str, path: str, session: SftpSession) -> StepError:
    """The error for a request about `path` that the server refused. `doing` says what was tried: `cannot write to`."""
    error = _explain(refusal, doing, path, session)
    error.has_created_nothing = doing == "cannot create"
    return error


def _explain(refusal: Refusal, doing: str, path: str, session: SftpSession) -> StepError:
    where = f"{path!r} on {session.peer}"
    match refusal.code:
        case StatusCode.NO_SUCH_FILE if doing in ("cannot list", "cannot look at", "cannot resolve"):
            return SourceMissing(
                f"{doing} {where}: no such file or directory", hint="It may have been removed just now."
            )
        case StatusCode.NO_SUCH_FILE:
            return FileRefused(
                f"{doing} {where}: no such file or folder",
                hint="A folder on the way is missing; 'create_parents: true' makes it.",
            )
        case StatusCode.PERMISSION_DENIED:
            return PermissionRefused(
                f"{doing} {where}: permission denied", hint="Check owner and permissions of the file and its folder."
            )
        case StatusCode.OP_UNSUPPORTED:
            return ServerLacksFeature(
                f"{doing} {where}: the server does not support the request",
                hint="`runner doctor --probe` finds out what it does support, and which options help.",
            )
    return _explain_bare_failure(refusal, doing, path, session)


def knows_no_sync(refusal: Refusal) -> bool:
    """Whether a refusal to sync only says that this cannot be had here. Any other is a disk that did not take the file."""
    return refusal.code in (StatusCode.OP_UNSUPPORTED, StatusCode.PERMISSION_DENIED, StatusCode.BAD_MESSAGE)


def describe_refusal(refusal: Refusal) -> str:
    """A refusal in the protocol's words and the server's."""
    name = StatusCode.name_of(refusal.code) or f"status {refusal.code}"
    return f"{name}: {refusal.text[:200]}" if refusal.text else name


def rename_refused(refusal: Refusal, source: str, destination: str, session: SftpSession) -> FileRefused:
    """The error for a rename that the server refused."""
    hint = "If this server forbids renaming, set 'atomic: false' in the mode: the file is then written in place."
    if posixpath.dirname(source) != posixpath.dirname(destination):
        hint = (
            "Between directories files can be renamed on one file system only: name a 'temporary_directory' on that of the "
            f"destination. {hint}"
        )
    return FileRefused(
        f"{session.peer} refused to rename {source!r} to {destination!r}: {describe_refusal(refusal)}",
        hint=_name_too_long(destination) or hint,
    )


def not_renamed(source: str, destination: str, peer: str) -> VerificationFailed:
    """The error for a rename that the server says it has done, and has not."""
    return VerificationFailed(
        f"{peer} says that {source!r} was renamed to {destination!r}, and it is still there",
        hint="If this server renames nothing, set 'atomic: false' in the mode: the file is then written in place.",
    )


def not_removed(names: Sequence[str]) -> str:
    """The sentence for files of ours that stay although they were to go."""
    return f"Left behind on the server: {', '.join(map(repr, names))}"


def not_done(said: str, path: str, found: str, peer: str) -> VerificationFailed:
    """The error for something that the server says it has done, and has not; `said` is what, `found` what is seen."""
    return VerificationFailed(
        f"{peer} says that it has {said} {path!r}, and {found}",
        hint="The server is broken, or something changes the directory at the same time. "
        "`runner doctor --probe` finds out what the server does.",
    )


def taken_away(temporary: str, peer: str) -> FileRefused:
    """The error for a temporary file that was written whole, closed, and is there no more."""
    return FileRefused(
        f"{temporary!r} on {peer} was written whole and closed, and was gone before it could get its name: something on the "
        "server has probably taken it, under its temporary name",
        hint="Ask its operator what was received. " + _TEMPORARY_OPTIONS,
    )


_TEMPORARY_OPTIONS = (
    "Where a server allows only some names, or takes every file as soon as it is closed, 'temporary_name' or "
    "'temporary_directory' in the mode say what it may be called until it is whole; 'atomic: false' writes it in place."
)


def name_temporary_options(error: StepError) -> None:
    """Add to the hint what helps where the server does not like a temporary name."""
    if not isinstance(error, DiskFull):
        error.hint = f"{error.hint} {_TEMPORARY_OPTIONS}" if error.hint else _TEMPORARY_OPTIONS


def still_there(path: str, peer: str) -> FileRefused:
    """The error for what is to be removed, is said to be missing, and is there."""
    return FileRefused(
        f"cannot remove {path!r} on {peer}: the server says that it is not there, and shows it all the same",
        hint="Nothing that this server says of the path can be relied on: ask its operator what becomes of it.",
    )


def explain_renaming(refusal: Refusal, source: str, destination: str, session: SftpSession) -> StepError:
    """The error for a refused rename that is no part of a copy."""
    what = f"cannot rename {source!r} to {destination!r} on {session.peer}: {describe_refusal(refusal)}"
    match refusal.code:
        case StatusCode.NO_SUCH_FILE:
            return FileRefused(
                what, hint="One of them was taken away meanwhile, or the folder of the second. Play again."
            )
        case StatusCode.PERMISSION_DENIED:
            return PermissionRefused(what, hint="Check owner and permissions of both folders.")
        case StatusCode.OP_UNSUPPORTED:
            return ServerLacksFeature(what, hint="This server renames nothing.")
    hint = (
        "The server gives no reason. The usual ones: another file system, a name that is not allowed or was just taken."
    )
    return FileRefused(what, hint=hint)


def _explain_bare_failure(refusal: Refusal, doing: str, path: str, session: SftpSession) -> FileError:
    """FAILURE is all there is for a full disk, a quota, a name that is too long: look at the most likely causes."""
    where, reason, text = f"{path!r} on {session.peer}", describe_refusal(refusal), refusal.text.lower()
    is_full = _is_full(path, session) if refusal.is_disk_full is None else refusal.is_disk_full
    if "space" in text or "quota" in text or is_full:
        return DiskFull(
            f"{doing} {where}: no space left on the server ({reason})", hint="Make room there, then play again."
        )
    hint = _name_too_long(path)
    if not hint:
        hint = "The server gives no reason. The usual ones: a full disk, a quota, a name that exists or is not allowed."
    return FileRefused(f"{doing} {where}: {reason}", hint=hint)


def _name_too_long(path: str) -> str:
    """The hint for a name that few file systems take; empty if it is none."""
    longest = max(len(part) for part in os.fsencode(path).split(b"/"))
    return f"A name of {longest} bytes is too long for most file systems (255)." if longest > 255 else ""


def _is_full(path: str, session: SftpSession) -> bool:
    """Whether the file system below `path` has no room left, as far as the server tells (statvfs@openssh.com)."""
    try:
        space = ask_disk_space(session, posixpath.dirname(path) or ".")
    except StepError:
        return False
    return space is not None and space.is_full
