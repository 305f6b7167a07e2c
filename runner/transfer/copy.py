"""Copies one file: look, decide, write under a temporary name, verify, publish. The same order in both directions.

Whatever goes wrong before `publish`, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from runner.cancellation import Cancellation, CleanUpAbandoned
from runner.errors import (
    FileError,
    FileRefused,
    Interrupted,
    PermissionRefused,
    ServerLacksFeature,
    SourceMissing,
    StepError,
    UnreachableError,
)
from runner.plan import CopyFile, CopyFileFromEngine, CopyFileToEngine
from runner.remote_files import (
    NOTHING_WANTED,
    FileStatus,
    Made,
    Note,
    Published,
    RemoteFiles,
    Source,
    StatusRefused,
    WantedAttributes,
    Written,
)
from runner.results import Change, ChangeAction, CopyResult, Verified
from runner.transfer.backup import backup_names, free_remote_path, is_taken
from runner.transfer.changes import (
    can_be_diffed,
    diff_texts,
    explain_difference,
    explain_permissions,
    read_local,
    read_remote,
)
from runner.transfer.checksums import hash_local
from runner.transfer.decision import Decision, decide, only_hash_tells
from runner.transfer.journal import Done, Journal, Unanswered
from runner.transfer.leftovers import describe_leftovers
from runner.transfer.local_files import (
    LocalFolder,
    LocalSource,
    LocalTarget,
    explain_os_error,
    hash_file,
    look_at,
    open_folder,
    open_source,
    permissions_by_umask,
    require_regular,
    set_attributes,
    set_permissions,
    sync_file,
    writing_to,
)
from runner.transfer.memory import Memory
from runner.transfer.requirements import (
    explained_by,
    require_backup,
    require_local_place,
    require_remote_folder,
    require_settable_permissions,
)
from runner.transfer.resume import (
    RESUME_FROM_BYTES,
    Claim,
    RemoteClaims,
    clear_local_leftovers,
    find_local_prefix,
    partial_of_download,
    partial_of_upload,
)
from runner.transfer.temporary import TemporaryNames
from runner.transfer.verification import (
    FOLDER_NOT_SYNCED,
    NOT_SYNCED_HERE,
    prove_attributes,
    prove_kept,
    prove_received,
    prove_same_hash,
    prove_sent,
)

# How long a server gets to remove a temporary file after a failure or a signal, and to finish a rename after a signal.
# Together well below the ten seconds that containers have between SIGTERM and SIGKILL.
CLEAN_UP_SECONDS = 2.0
NEW_REMOTE_FILE_PERMISSIONS = 0o644


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a copy needs beside its own description. `on_progress` gets done and total bytes.

    `open_local_folder` opens a folder that a download writes into; without it links on the way there are followed, but
    for those that the `memory` knows as received. `step` is what later messages call the step.
    """

    remote: RemoteFiles
    peer: str
    is_check: bool
    on_progress: Callable[[int, int], None]
    cancellation: Cancellation
    # Told of every change before it is made; None if nobody wants to know. With `is_diff` small texts are compared.
    on_change: Callable[[Change], None] | None = None
    is_diff: bool = False
    # Whose the temporary files are: what one play leaves, the next one of the same owner goes on with or clears away.
    owner: str = ""
    open_local_folder: Callable[[str], LocalFolder] | None = None
    memory: Memory = field(default_factory=Memory)
    step: str = "an earlier step"
    # What earlier attempts at the step have done; None if there is only one attempt.
    journal: Journal | None = None

    def report_of(self, given: Source) -> Callable[[int], None]:
        """Reports how far a source is sent."""
        return lambda done_bytes: self.on_progress(done_bytes, given.size_bytes)

    def tell(self, change: Change) -> None:
        """Something is about to be changed."""
        if self.on_change is not None:
            self.on_change(change)


def copy_file(copy: CopyFileFromEngine | CopyFileToEngine, around: Surroundings) -> CopyResult:
    """Carry out one copy. Raises a `StepError` with the destination as it was, or `Interrupted`."""
    if isinstance(copy, CopyFileFromEngine):
        return upload_file(copy, around)
    return download_file(copy, around)


def upload_file(copy: CopyFile, around: Surroundings) -> CopyResult:
    """Copy one file to the server. Raises as `copy_file` does."""
    around.memory.links.require_none_on(copy.source)
    with open_source(copy.source) as source:
        destination, is_known = _look_at_remote(copy.destination, around)
        if not is_known and (copy.if_exists != "replace" or copy.backup):
            option, other = ("backup: true", "false") if copy.backup else (f"if_exists: {copy.if_exists}", "replace")
            raise ServerLacksFeature(
                f"{around.peer} does not tell whether {copy.destination!r} exists, so '{option}' cannot be kept",
                hint=f"Set '{option.partition(':')[0]}: {other}' for this server.",
            )
        done = _find_done(copy, source.status, destination, around)
        if done is not None:
            if done.durable and around.journal is not None:
                # The attempt that published it was cut off before the turn of the directories.
                _sync_folders([copy.destination, *around.journal.made], around.remote)
            return done
        sha256 = None
        if around.journal is not None and around.journal.owns(copy.destination):
            destination = around.journal.before(copy.destination, destination)
        elif only_hash_tells(copy, source.status, destination):
            here = hash_file(source.fd, around.cancellation.check)
            sha256 = _same_hash(copy.destination, source.opened_as.st_size, here, around)
        decision = decide(
            copy,
            source.status,
            destination,
            where=f"on {around.peer}",
            new_file_permissions=NEW_REMOTE_FILE_PERMISSIONS,
            has_same_hash=sha256 is not None,
        )
        if not is_known:
            decision = replace(decision, warnings=(*decision.warnings, "the server does not tell what is there"))
        is_copied = decision.action in ("create", "replace")
        if is_copied:
            require_backup(copy, around)
        if is_copied and destination is None and around.is_check:
            require_remote_folder(copy.destination, around, is_made=copy.create_parents)
        _tell_change(copy, decision, source.status, destination, around)
        if decision.action == "chmod":
            return _change_remote_permissions(copy, decision, source.status, around)
        if around.is_check or not is_copied:
            return _summarise(copy, _as_first_decided(copy, decision, around), source.status, around, sha256)
        if destination is not None:
            return _send(copy, decision, source, destination, around, {})
        with explained_by(lambda: require_remote_folder(copy.destination, around, is_made=copy.create_parents)):
            if not copy.create_parents:
                return _send(copy, decision, source, None, around, {})
            return _send_with_parents(copy, decision, source, around)


def _find_done(
    copy: CopyFile, source: FileStatus, destination: FileStatus | None, around: Surroundings
) -> CopyResult | None:
    """The result of the copy, if an earlier attempt has published it."""
    done = around.journal.find_published(copy.destination, source, destination) if around.journal else None
    return done.output if done is not None and isinstance(done.output, CopyResult) else None


def _as_first_decided(copy: CopyFile, decision: Decision, around: Surroundings) -> Decision:
    """What is right because an earlier attempt has set its permissions was changed by this step."""
    is_ours = around.journal is not None and copy.destination in around.journal.attributes_set
    return replace(decision, action="chmod") if is_ours and decision.action == "nothing" else decision


def _send_with_parents(copy: CopyFile, decision: Decision, source: LocalSource, around: Surroundings) -> CopyResult:
    """Send the source, and make the folders above the destination where they are missing."""
    remote = around.remote
    made: Made = {} if around.journal is None else around.journal.made
    if remote.tells_made_folders and source.opened_as.st_size < RESUME_FROM_BYTES:
        # Nearly always they are there: looking first would cost a round trip for each file.
        try:
            return _send(copy, decision, source, None, around, made)
        except FileError:
            if not remote.create_parents(copy.destination, made):
                raise
    else:
        remote.create_parents(copy.destination, made)
    try:
        return _send(copy, decision, source, None, around, made)
    except FileError:
        # Another play that had made the folder, and failed, may have removed it before anything was in it.
        if not remote.create_parents(copy.destination, made):
            raise
    return _send(copy, decision, source, None, around, made)


_NOT_WRITTEN = Written(None)


@dataclass(slots=True)
class _Sent:
    """An upload under way: what is sent, and what has come of it so far."""

    copy: CopyFile
    decision: Decision
    given: Source
    warnings: list[str]
    written: Written = _NOT_WRITTEN
    verified: Verified | None = None
    # How many leftovers of earlier plays were removed on the way.
    cleared: int = 0

    def describe(self, published: Published) -> CopyResult:
        """The result, if the file is published so."""
        copy, given = self.copy, self.given
        return CopyResult(
            source=copy.source,
            destination=copy.destination,
            size_bytes=given.size_bytes,
            files_changed=1,
            bytes_transferred=given.size_bytes - given.offset,
            message=_message(self.decision, given.offset, published.backup, self.cleared),
            backup=published.backup,
            resumed_at_bytes=given.offset,
            verified=self.verified,
            sha256=given.hasher.hexdigest() if given.hasher else None,
            atomic=published.in_one_step,
            asks_durable=copy.durable,
            durable=self.written.is_synced,
            warnings=tuple(self.warnings),
        )

    def describe_renamed(self, published: Published) -> CopyResult:
        """The same for a file that got its name by being renamed."""
        result = self.describe(published)
        if published.in_one_step:
            return result
        why = "gives no file two names" if published.backup else "cannot replace a file in one (no posix-rename)"
        return replace(result, warnings=(*result.warnings, f"replaced in two steps: the server {why}"))


def _send(
    copy: CopyFile,
    decision: Decision,
    source: LocalSource,
    destination: FileStatus | None,
    around: Surroundings,
    made_folders: Made,
) -> CopyResult:
    """Write the source to the server and publish it. `made_folders` are new, and go again if that fails."""
    hasher = hashlib.sha256() if copy.verify == "checksum" else None
    sent = _Sent(copy, decision, Source(source.fd, source.opened_as.st_size, hasher), list(decision.warnings))
    if copy.atomic and around.remote.can_rename:
        published = _send_beside(sent, source, destination, around, made_folders)
        describe = sent.describe_renamed
    else:
        published = _send_in_place(sent, source, destination, around)
        describe = sent.describe
    if sent.written.is_synced and not _sync_folders([copy.destination, *made_folders], around.remote):
        sent.warnings.append(FOLDER_NOT_SYNCED)
    return _confirm(describe(published), around)


def _send_in_place(sent: _Sent, source: LocalSource, destination: FileStatus | None, around: Surroundings) -> Published:
    """Write over what is there."""
    copy, given = sent.copy, sent.given
    if copy.atomic:
        sent.warnings.append("written in place, not atomically: the server offers no way to rename a file")
    if around.journal is not None:
        around.journal.replaced.setdefault(copy.destination, destination)
    with _naming_what_is_left(copy.destination):
        sent.written = around.remote.write_in_place(
            copy.destination, given, sent.decision.wanted, around.report_of(given), is_durable=copy.durable
        )
        sent.verified = _verify_sent(copy, copy.destination, source, sent.written, given, around, sent.warnings)
    return Published(False)


def _send_beside(
    sent: _Sent, source: LocalSource, destination: FileStatus | None, around: Surroundings, made_folders: Made
) -> Published:
    """Write under a temporary name, verify, and rename over what is there."""
    copy, remote, journal = sent.copy, around.remote, around.journal
    partial = partial_of_upload(copy, source, around.owner) if remote.can_resume else None
    temporary = TemporaryNames(around.owner).path_beside(copy.destination)
    claims = RemoteClaims(remote, around.peer, around.cancellation.check)
    tidying_up = functools.partial(_tidying_up, copy.destination, made_folders, around)
    with claims.claim(partial, source, temporary) as claim, tidying_up(claim):
        _write_beside(sent, source, claim, around)
        earlier = journal.published.get(copy.destination) if journal is not None else None

        def note(published: Published) -> None:
            if journal is not None:
                if destination is None:
                    published = published._replace(backup=None)
                result = sent.describe_renamed(published)
                done = Done(result.verified, result.backup, result.warnings, result)
                aside = published.backup or published.aside
                journal.unanswered[copy.destination] = Unanswered(
                    done, claim.path, aside, result.size_bytes, is_source=claim.is_kept, before=destination
                )

        # This is where the temporary file becomes the destination. A signal between two renames would lose both.
        published = _publish(copy, claim.path, around, note, keeps_old=copy.backup and earlier is None)
    if earlier is not None and earlier.backup is not None:
        # The source has changed since an earlier attempt published it and kept what was there before.
        return published._replace(backup=earlier.backup)
    return published


def _write_beside(sent: _Sent, source: LocalSource, claim: Claim, around: Surroundings) -> None:
    """Write and verify what the temporary file lacks."""
    copy, remote = sent.copy, around.remote
    given = sent.given = _go_on(sent.given, claim, around)
    sent.cleared = claim.cleared
    # What goes on must be resumable until it is proven: only then it gets the permissions that others may use.
    is_set_later = claim.is_kept and given.hasher is not None
    wanted = NOTHING_WANTED if is_set_later else sent.decision.wanted
    write = remote.write_on if claim.exists else remote.write_new
    sent.written = write(claim.path, given, wanted, around.report_of(given), is_durable=copy.durable)
    sent.verified = _verify_sent(copy, claim.path, source, sent.written, given, around, sent.warnings)
    if is_set_later:
        refused = _set_remote_attributes(claim.path, sent.decision.wanted, remote)
        prove_attributes(copy, copy.destination, refused, around.peer, sent.warnings)


def _confirm(result: CopyResult, around: Surroundings) -> CopyResult:
    """The copy is there: no later attempt at the step has to make it again."""
    if around.journal is not None:
        done = Done(result.verified, result.backup, result.warnings, result)
        around.journal.confirm(result.destination, done)
    return result


def _sync_folders(paths: list[str], remote: RemoteFiles) -> bool:
    """Sync the folders that these are in, in which they have got their names; whether the server does that."""
    return all(remote.sync_folder(folder) for folder in dict.fromkeys(map(posixpath.dirname, paths)))


def _go_on(given: Source, claim: Claim, around: Surroundings) -> Source:
    """The source from where an earlier attempt's partial file ends.

    What is put together of two attempts is proven as a whole where that costs no transfer, whatever the step asks for.
    """
    if not claim.offset:
        return given
    is_hashed = given.hasher is not None or around.remote.can_hash
    return given._replace(offset=claim.offset, hasher=claim.hasher if is_hashed else None)


def _publish(copy: CopyFile, temporary: str, around: Surroundings, note: Note, *, keeps_old: bool) -> Published:
    """Rename the temporary file over the destination; the old one is kept under a name that is free, if it is to be."""
    remote = around.remote
    while True:
        kept_as = free_remote_path(copy.destination, remote) if keeps_old else None
        try:
            with around.cancellation.deferred(CLEAN_UP_SECONDS):
                return remote.publish(temporary, copy.destination, kept_as, note)
        except FileError:
            # Another play may have kept the old file under that very name a moment ago.
            if kept_as is None or not is_taken(kept_as, remote):
                raise


def _set_remote_attributes(path: str, wanted: WantedAttributes, remote: RemoteFiles) -> str:
    """Set what is wanted, one by one where the server refuses both together. Says in words what it refused."""
    singles = {
        "permissions": WantedAttributes(wanted.permissions, None),
        "times": WantedAttributes(None, wanted.modified_at_seconds),
    }
    try:
        if wanted != NOTHING_WANTED:
            remote.set_attributes(path, wanted)
        return ""
    except (FileError, ServerLacksFeature) as both:
        reason = both.message
    refused = []
    for name, single in singles.items():
        try:
            if single != NOTHING_WANTED:
                remote.set_attributes(path, single)
        except (FileError, ServerLacksFeature):
            refused.append(name)
    return f"{' and '.join(refused)} ({reason})" if refused else ""


def _message(decision: Decision, offset: int, backup: str | None, cleared: int = 0) -> str:
    done = "created" if decision.action == "create" else "replaced"
    if backup is not None:
        done = f"{done}, the old one kept as {backup.rpartition('/')[2]}"
    told = [done, f"resumed at byte {offset:,}" if offset else "", describe_leftovers(cleared)]
    return ", ".join(part for part in told if part)


def _verify_sent(
    copy: CopyFile,
    path: str,
    source: LocalSource,
    written: Written,
    given: Source,
    around: Surroundings,
    warnings: list[str],
) -> Verified | None:
    """Prove as far as the server allows that `path` is the source. Raises `VerificationFailed`, `SourceChanged`."""
    source.check_unchanged()
    size_bytes = source.opened_as.st_size
    if written.size_bytes is None:
        found, _ = _look_at_remote(path, around)
        written = written._replace(size_bytes=found.size_bytes if found else None)
    verified = prove_sent(copy, copy.destination, size_bytes, written, around.peer, warnings)
    if given.hasher is None:
        return verified
    found_hash = around.remote.sha256(path, size_bytes)
    prove_same_hash(found_hash.sha256, given.hasher.hexdigest(), around.peer)
    return found_hash.how


def _verify_received_checksum(copy: CopyFile, target: LocalTarget, around: Surroundings) -> tuple[Verified, str]:
    """Prove that what is on the disk here has the hash of the source. Raises `VerificationFailed`."""
    # Both sides at the same time: hashing lets other threads run.
    with ThreadPoolExecutor(1) as hashing:
        local = hashing.submit(hash_file, target.fd, around.cancellation.make_check())
        found = around.remote.sha256(copy.source, os.fstat(target.fd).st_size)
        kept = local.result()
    return prove_kept(copy.source, kept, found, around.peer), kept


def download_file(copy: CopyFile, around: Surroundings) -> CopyResult:
    """Copy one file from the server. Raises as `copy_file` does."""
    source, is_known = _look_at_remote(copy.source, around)
    if is_known and source is None:
        raise SourceMissing(
            f"the source {copy.source!r} does not exist on {around.peer}",
            hint="Relative remote paths start at the login directory; servers do not expand '~'.",
        )
    source = source or FileStatus(False, True, None, None, None)
    require_regular(source, copy.source, f"on {around.peer}")
    # A link in the file's own place is replaced, or refused: it is those above it that would be followed.
    around.memory.links.require_none_on(os.path.dirname(copy.destination))
    destination = look_at(copy.destination)
    done = _find_done(copy, source, destination, around)
    if done is not None:
        return done
    sha256 = None
    if around.journal is not None and around.journal.owns(copy.destination):
        destination = around.journal.before(copy.destination, destination)
    elif only_hash_tells(copy, source, destination):
        here = hash_local(copy.destination, around.cancellation.check, follows_links=True)
        sha256 = _same_hash(copy.source, source.size_bytes or 0, here, around)
    decision = decide(
        copy,
        source,
        destination,
        where="on this machine",
        new_file_permissions=permissions_by_umask(),
        has_same_hash=sha256 is not None,
    )
    if decision.action in ("create", "replace"):
        if around.open_local_folder is None:
            require_local_place(copy, destination, around)
        if around.is_check:
            around.remote.require_readable(copy.source)
    _tell_change(copy, decision, source, destination, around)
    if around.is_check or decision.action in ("nothing", "leave"):
        return _summarise(copy, decision, source, around, sha256)
    if decision.action == "chmod":
        _change_local_permissions(copy, decision, around)
        return _summarise(copy, decision, source, around)
    if around.journal is not None and not copy.atomic:
        around.journal.replaced.setdefault(copy.destination, destination)
    return _fetch(copy, decision, source, around)


def _fetch(copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings) -> CopyResult:
    """Read the source from the server and publish it."""

    def report(done_bytes: int) -> None:
        around.on_progress(done_bytes, source.size_bytes or done_bytes)

    verified: Verified | None = None
    sha256: str | None = None
    is_synced: bool | None = None
    in_place = nullcontext() if copy.atomic else _naming_what_is_left(copy.destination)
    remote, cleared = around.remote, 0
    partial = partial_of_download(copy, source, around.owner) if remote.can_resume else None
    target_of_copy = writing_to(
        lambda: _open_local_folder(copy, around),
        copy.destination,
        is_atomic=copy.atomic,
        names=TemporaryNames(around.owner),
        partial_name=partial.name if partial else None,
        permissions=decision.wanted.permissions,
    )
    with in_place, target_of_copy as target:
        try:
            offset = 0
            if target.is_partial:
                offset = find_local_prefix(target, copy, remote, around.peer, around.cancellation.check)
            if partial is not None and not offset:
                cleared = clear_local_leftovers(target.folder, partial, target.fd)
            read = remote.read(copy.source, target.fd, report, offset)
            if offset:
                # What is here already is the beginning of the source that was looked at, and of no other.
                read = read._replace(before=source)
            prove_received(copy.source, read, os.fstat(target.fd).st_size, around.peer)
            if copy.verify == "checksum" or offset:
                # What is put together of two attempts is proven as a whole.
                verified, sha256 = _verify_received_checksum(copy, target, around)
            elif read.before.size_bytes is not None:
                verified = "size"
            set_attributes(target.fd, decision.wanted)
            if copy.durable:
                is_synced = sync_file(target.fd)
        except OSError as error:
            raise explain_os_error(error, "cannot write", copy.destination) from error
        is_atomic, backup, _ = target.publish(keeps_old=copy.backup)
        if is_synced:
            try:
                target.folder.sync()
            except OSError as error:
                raise explain_os_error(error, "cannot sync the folder of", copy.destination) from error
    warnings = decision.warnings
    if is_synced is False:
        warnings = (*warnings, NOT_SYNCED_HERE)
    if copy.atomic and not is_atomic:
        warnings = (*warnings, "replaced in two steps: the file system here gives no file two names")
    result = CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=read.received_bytes,
        files_changed=1,
        bytes_transferred=read.received_bytes - offset,
        message=_message(decision, offset, backup, cleared),
        backup=backup,
        resumed_at_bytes=offset,
        verified=verified,
        sha256=sha256,
        atomic=is_atomic,
        asks_durable=copy.durable,
        durable=is_synced,
        warnings=warnings,
    )
    return _confirm(result, around)


def _open_local_folder(copy: CopyFile, around: Surroundings) -> LocalFolder:
    """The folder that the destination is in, made if need be. Raises `FileError`."""
    folder = os.path.dirname(copy.destination)
    if around.open_local_folder is not None:
        return around.open_local_folder(folder)
    return open_folder(folder, copy.destination, create_parents=copy.create_parents)


def _change_local_permissions(copy: CopyFile, decision: Decision, around: Surroundings) -> None:
    """The content is right, the permissions are not."""
    with closing(_open_local_folder(copy, around)) as folder:
        try:
            if decision.wanted.permissions is not None:
                set_permissions(folder, os.path.basename(copy.destination), decision.wanted.permissions)
        except OSError as error:
            raise explain_os_error(error, "cannot set the permissions of", copy.destination) from error


def _change_remote_permissions(
    copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings
) -> CopyResult:
    """The content is right, the permissions are not."""
    if around.journal is not None:
        around.journal.attributes_set.add(copy.destination)
    try:
        require_settable_permissions(copy.destination, around)
        if not around.is_check:
            around.remote.set_attributes(copy.destination, WantedAttributes(decision.wanted.permissions, None))
    except (PermissionRefused, ServerLacksFeature):
        if copy.permissions is not None:
            raise
        unchanged = Decision("nothing", decision.wanted, ("the server refused to preserve permissions",))
        return _summarise(copy, unchanged, source, around)
    return _summarise(copy, decision, source, around)


def _tell_change(
    copy: CopyFile, decision: Decision, source: FileStatus, destination: FileStatus | None, around: Surroundings
) -> None:
    """Say what is about to be changed, and why, if somebody wants to know."""
    action = decision.action
    if around.on_change is None or action in ("nothing", "leave"):
        return
    if action == "chmod":
        why = explain_permissions(destination.permissions if destination else None, decision.wanted.permissions)
        around.tell(Change("chmod", copy.destination, why))
        return
    diff = ""
    if around.is_diff and can_be_diffed(source, destination):
        is_upload = isinstance(copy, CopyFileFromEngine)
        here = copy.source if is_upload else copy.destination
        there = copy.destination if is_upload else copy.source
        local = b"" if destination is None and not is_upload else read_local(here, follows_links=True)
        remote = b"" if destination is None and is_upload else read_remote(around.remote, there)
        old, new = (remote, local) if is_upload else (local, remote)
        diff = diff_texts(old, new, copy.destination)
    kind: ChangeAction = "create" if action == "create" else "replace"
    around.tell(Change(kind, copy.destination, explain_difference(copy, source, destination), source.size_bytes, diff))


def _same_hash(remote_path: str, size_bytes: int, local_sha256: str | None, around: Surroundings) -> str | None:
    """The SHA-256 that both sides have, None if they differ or one cannot be read: then it is copied, and told there."""
    try:
        return local_sha256 if around.remote.sha256(remote_path, size_bytes).sha256 == local_sha256 else None
    except (PermissionRefused, FileRefused, SourceMissing):
        return None


def _look_at_remote(path: str, around: Surroundings) -> tuple[FileStatus | None, bool]:
    """What is at a remote path, and whether the server tells at all."""
    try:
        return around.remote.status(path), True
    except StatusRefused:
        return None, False


def _summarise(
    copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings, sha256: str | None = None
) -> CopyResult:
    """The result of a copy that moved no bytes."""
    is_change = decision.action in ("create", "replace", "chmod")
    becomes = "would become" if around.is_check else "set to"
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


@contextmanager
def _tidying_up(path: str, made_folders: Made, around: Surroundings, claim: Claim) -> Iterator[None]:
    """If the block fails, remove temporary file and new folders, and say so if that fails too.

    A partial file stays for the next attempt when the session has ended or the play was interrupted. So does one whose
    publication was asked for and not confirmed: whether it is there says then what became of that.
    """
    journal = around.journal
    if journal is not None and not claim.is_kept:
        journal.leftovers.add(claim.path)
    try:
        yield
    except (UnreachableError, Interrupted) as error:
        if journal is not None and journal.is_left_open(path, error):
            journal.leftovers.discard(claim.path)
        elif not claim.is_kept:
            _remove(claim.path, made_folders, error, around)
        elif isinstance(error, StepError):
            error.add(f"What has arrived is kept as {claim.path!r}: the next attempt goes on from there")
        raise
    except BaseException as error:
        if journal is not None:
            journal.unanswered.pop(path, None)
        _remove(claim.path, made_folders, error, around)
        raise
    if journal is not None:
        journal.leftovers.discard(claim.path)


def _remove(temporary: str, made_folders: Made, error: BaseException, around: Surroundings) -> None:
    try:
        with around.cancellation.shield(CLEAN_UP_SECONDS):
            around.remote.remove(temporary)
            around.remote.remove_folders(list(made_folders))
    except (StepError, CleanUpAbandoned):
        if isinstance(error, StepError):
            error.add(f"The temporary file {temporary!r} on {around.peer} could not be removed")
        return
    made_folders.clear()
    if around.journal is not None:
        around.journal.leftovers.discard(temporary)


@contextmanager
def _naming_what_is_left(path: str) -> Iterator[None]:
    """Without a temporary file a failure leaves what has been written so far."""
    try:
        yield
    except StepError as error:
        error.add(f"It was being written in place: {path!r} may be incomplete")
        raise
