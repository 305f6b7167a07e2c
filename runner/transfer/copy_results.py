"""What comes of the copy of one file, in either direction: foretold, found to be done already, or done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import (
    FileRefused,
    PermissionRefused,
    SourceMissing,
    StepError,
)
from runner.plan import CopyFile, CopyFileFromEngine, WriteContent
from runner.remote_files import (
    FileStatus,
    StatusRefused,
)
from runner.results import Change, ChangeAction, CopyResult
from runner.transfer.backup import backup_names
from runner.transfer.changes import (
    can_be_diffed,
    diff_texts,
    explain_difference,
    explain_permissions,
    read_local,
    read_remote,
)
from runner.transfer.context import CopyContext
from runner.transfer.decision import Decision
from runner.transfer.journal import Done
from runner.transfer.leftovers import describe_leftovers

if TYPE_CHECKING:
    from runner.transfer.batch import Outcome


def find_done(
    copy: CopyFile, source: FileStatus, destination: FileStatus | None, context: CopyContext
) -> CopyResult | None:
    """The result of the copy, if an earlier attempt has published it."""
    done = context.journal.find_published(copy.destination, source, destination) if context.journal else None
    return done.output if done is not None and isinstance(done.output, CopyResult) else None


def as_first_decided(copy: CopyFile, decision: Decision, context: CopyContext) -> Decision:
    """What is right because an earlier attempt has set its permissions was changed by this step."""
    is_ours = context.journal is not None and copy.destination in context.journal.attributes_set
    return replace(decision, action="chmod") if is_ours and decision.action == "nothing" else decision


def confirm(result: CopyResult, context: CopyContext) -> CopyResult:
    """The copy is there: no later attempt at the step has to make it again."""
    if context.journal is not None:
        done = Done(result.verified, result.backup, result.warnings, result, is_synced=result.durable)
        context.journal.confirm(result.destination, done)
    return result


def format_message(decision: Decision, offset: int, backup: str | None, cleared: int = 0) -> str:
    """What was done, for the result: with where it resumed, what was kept, and how many leftovers were cleared away."""
    done = "created" if decision.action == "create" else "replaced"
    if backup is not None:
        done = f"{done}, the old one kept as {backup.rpartition('/')[2]}"
    told = [done, f"resumed at byte {offset:,}" if offset else "", describe_leftovers(cleared)]
    return ", ".join(part for part in told if part)


def describe_copied(
    copy: CopyFile,
    decision: Decision,
    outcome: Outcome,
    *,
    offset: int = 0,
    cleared: int = 0,
    backup: str | None = None,
    warnings: tuple[str, ...] | None = None,
) -> CopyResult:
    """The result of a copy that was published, of which `offset` bytes were there already.

    `backup` is what an earlier attempt has kept, `warnings` are others than those of the decision.
    """
    published = outcome.published
    kept = published.backup or backup
    return CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=outcome.size_bytes,
        files_changed=1,
        bytes_transferred=outcome.size_bytes - offset,
        message=format_message(decision, offset, kept, cleared),
        backup=kept,
        resumed_at_bytes=offset,
        verified=outcome.verified,
        sha256=outcome.sha256,
        atomic=published.in_one_step,
        asks_durable=copy.durable,
        durable=outcome.is_synced,
        warnings=tuple(dict.fromkeys((*(decision.warnings if warnings is None else warnings), *outcome.warnings))),
    )


def summarise(
    copy: CopyFile, decision: Decision, source: FileStatus, context: CopyContext, sha256: str | None = None
) -> CopyResult:
    """The result of a copy that moved no bytes."""
    is_change = decision.action in ("create", "replace", "chmod")
    becomes = "would become" if context.is_check else "set to"
    done = {
        "create": "would be created",
        "replace": "would be replaced",
        "chmod": f"permissions {becomes} {decision.wanted.permissions or 0:04o}",
        "leave": "exists and differs, left alone (if_exists: skip)",
        "nothing": "already right",
    }
    message, backup = done[decision.action], None
    if copy.backup and decision.action == "replace":
        folder, slash, name = copy.destination.rpartition("/")
        backup = folder + slash + next(backup_names(name))
        message = f"{message}, the old one kept under a dated name"
    return CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=source.size_bytes or 0,
        files_changed=int(is_change),
        bytes_transferred=0,
        message=message,
        backup=backup,
        sha256=sha256,
        asks_durable=copy.durable,
        skipped=decision.action == "leave",
        warnings=decision.warnings,
    )


def tell_change(
    copy: CopyFile, decision: Decision, source: FileStatus, destination: FileStatus | None, context: CopyContext
) -> None:
    """Say what is about to be changed, and why, if somebody wants to know; with --check later steps do."""
    action = decision.action
    if context.effects is not None:
        context.effects.copy_file(copy, decision, source, destination)
    if context.on_change is None or action in ("nothing", "leave"):
        return
    if action == "chmod":
        why = explain_permissions(destination.permissions if destination else None, decision.wanted.permissions)
        context.tell(Change("chmod", copy.destination, why))
        return
    diff = ""
    if context.is_diff and can_be_diffed(source, destination):
        is_upload = isinstance(copy, CopyFileFromEngine)
        here = copy.source if is_upload else copy.destination
        there = copy.destination if is_upload else copy.source
        if isinstance(copy, WriteContent):
            local: bytes | None = copy.content
        elif context.disk is not None:
            local = b"" if destination is None and not is_upload else context.disk.read(here)
        else:
            local = b"" if destination is None and not is_upload else read_local(here, follows_links=True)
        remote = b"" if destination is None and is_upload else _read_to_show(there, context)
        old, new = (remote, local) if is_upload else (local, remote)
        diff = diff_texts(old, new, copy.destination)
    kind: ChangeAction = "create" if action == "create" else "replace"
    context.tell(Change(kind, copy.destination, explain_difference(copy, source, destination), source.size_bytes, diff))


def _read_to_show(path: str, context: CopyContext) -> bytes | None:
    """A remote file's content; None if it cannot be read, with --check also if it will be there only in the play."""
    if context.effects is not None and not context.effects.server.is_readable(path):
        return None
    return read_remote(context.remote, path)


def same_hash(remote_path: str, size_bytes: int, local_sha256: str | None, context: CopyContext) -> str | None:
    """The SHA-256 that both sides have, None if they differ or one cannot be read: then it is copied, and told there."""
    try:
        return local_sha256 if context.remote.sha256(remote_path, size_bytes).sha256 == local_sha256 else None
    except (PermissionRefused, FileRefused, SourceMissing):
        return None


def same_content(path: str, content: bytes, context: CopyContext) -> str | None:
    """The SHA-256 of content that a remote file has as well, None if it has other content or cannot be read.

    It is small: to read it takes no longer than to ask for its hash, and needs no shell.
    """
    is_same = read_remote(context.remote, path, len(content)) == content
    return hashlib.sha256(content).hexdigest() if is_same else None


def look_at_remote(path: str, context: CopyContext) -> tuple[FileStatus | None, bool]:
    """What is at a remote path, and whether the server tells at all."""
    try:
        return context.remote.status(path), True
    except StatusRefused:
        return None, False


@contextmanager
def naming_what_is_left(path: str) -> Iterator[None]:
    """Without a temporary file a failure leaves what has been written so far."""
    try:
        yield
    except StepError as error:
        error.add(f"It was being written in place: {path!r} may be incomplete")
        raise
