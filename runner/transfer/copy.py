"""Copies one file: look, decide, write under a temporary name, verify, publish. The same order in both directions.

Whatever goes wrong before `publish`, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator
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
    FileStatus,
    Hasher,
    Made,
    Published,
    RemoteFiles,
    Source,
    StatusRefused,
    WantedAttributes,
    Written,
)
from runner.results import Change, ChangeAction, CopyResult, Verified
from runner.transfer.backup import backup_names, free_remote_path
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
from runner.transfer.ledger import Ledger
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
from runner.transfer.requirements import (
    explained_by,
    require_backup,
    require_local_place,
    require_remote_folder,
    require_settable_permissions,
)
from runner.transfer.resume import (
    RESUME_FROM_BYTES,
    Partial,
    find_local_prefix,
    find_remote_prefix,
    partial_of_download,
    partial_of_upload,
    remove_stale_local,
)
from runner.transfer.temporary import TemporaryNames
from runner.transfer.verification import (
    FOLDER_NOT_SYNCED,
    NOT_SYNCED_HERE,
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
    for those that the `ledger` knows as received. `step` is what later messages call the step.
    """

    remote: RemoteFiles
    peer: str
    is_check: bool
    on_progress: Callable[[int, int], None]
    cancellation: Cancellation
    # Told of every change before it is made; None if nobody wants to know. With `is_diff` small texts are compared.
    on_change: Callable[[Change], None] | None = None
    is_diff: bool = False
    open_local_folder: Callable[[str], LocalFolder] | None = None
    ledger: Ledger = field(default_factory=Ledger)
    step: str = "an earlier step"
    # What earlier attempts at the step have done; None if there is only one attempt.
    journal: Journal | None = None

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
    around.ledger.links.require_none_on(copy.source)
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
            sha256 = _same_hash(copy.destination, hash_file(source.fd, around.cancellation.check), around)
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
    return _send(copy, decision, source, None, around, made)


def _send(
    copy: CopyFile,
    decision: Decision,
    source: LocalSource,
    destination: FileStatus | None,
    around: Surroundings,
    made_folders: Made,
) -> CopyResult:
    """Write the source to the server and publish it. `made_folders` are new, and go again if that fails."""
    remote, size, journal = around.remote, source.opened_as.st_size, around.journal
    given = Source(source.fd, size, hashlib.sha256() if copy.verify == "checksum" else None)
    warnings = list(decision.warnings)
    verified: Verified | None = None

    def report(done_bytes: int) -> None:
        around.on_progress(done_bytes, size)

    def verify(path: str, written: Written) -> Verified | None:
        verified = _verify_sent(copy, path, source, written, around, warnings)
        return _verify_sent_checksum(path, given.hasher, around) if given.hasher else verified

    def describe(published: Published) -> CopyResult:
        told = list(warnings)
        if not published.in_one_step and copy.atomic and remote.can_rename:
            why = "gives no file two names" if published.backup else "cannot replace a file in one (no posix-rename)"
            told.append(f"replaced in two steps: the server {why}")
        return CopyResult(
            source=copy.source,
            destination=copy.destination,
            size_bytes=size,
            files_changed=1,
            bytes_transferred=size - given.offset,
            message=_message(decision, given.offset, published.backup),
            backup=published.backup,
            resumed_at_bytes=given.offset,
            verified=verified,
            sha256=given.hasher.hexdigest() if given.hasher else None,
            atomic=published.in_one_step,
            asks_durable=copy.durable,
            durable=written.is_synced,
            warnings=tuple(told),
        )

    def sync_folders() -> None:
        if written.is_synced and not _sync_folders([copy.destination, *made_folders], remote):
            warnings.append(FOLDER_NOT_SYNCED)

    if not (copy.atomic and remote.can_rename):
        if copy.atomic:
            warnings.append("written in place, not atomically: the server offers no way to rename a file")
        if journal is not None:
            journal.replaced.setdefault(copy.destination, destination)
        with _naming_what_is_left(copy.destination):
            written = remote.write_in_place(copy.destination, given, decision.wanted, report, is_durable=copy.durable)
            verified = verify(copy.destination, written)
        sync_folders()
        return _confirm(describe(Published(False)), around)
    partial = partial_of_upload(copy, source, around.peer) if remote.can_resume else None
    temporary = _temporary_path(copy.destination, partial)
    with _tidying_up(copy.destination, temporary, partial, made_folders, around):
        if partial is not None:
            given = _go_on(temporary, partial, source, given, around)
        write = remote.write_on if given.offset else remote.write_new
        written = write(temporary, given, decision.wanted, report, is_durable=copy.durable)
        verified = verify(temporary, written)
        earlier = journal.published.get(copy.destination) if journal is not None else None
        kept_as = free_remote_path(copy.destination, remote) if copy.backup and earlier is None else None

        def note(published: Published) -> None:
            if journal is not None:
                if destination is None:
                    published = published._replace(backup=None)
                result = describe(published)
                done = Done(result.verified, result.backup, result.warnings, result)
                aside = published.backup or (None if remote.can_replace else f"{temporary}.old")
                journal.unanswered[copy.destination] = Unanswered(
                    done, temporary, aside, size, is_source=partial is not None, before=destination
                )

        # This is where the temporary file becomes the destination. A signal between two renames would lose both.
        with around.cancellation.deferred(CLEAN_UP_SECONDS):
            published = remote.publish(temporary, copy.destination, kept_as, note)
    if earlier is not None and earlier.backup is not None:
        # The source has changed since an earlier attempt published it and kept what was there before.
        published = published._replace(backup=earlier.backup)
    sync_folders()
    return _confirm(describe(published), around)


def _confirm(result: CopyResult, around: Surroundings) -> CopyResult:
    """The copy is there: no later attempt at the step has to make it again."""
    if around.journal is not None:
        done = Done(result.verified, result.backup, result.warnings, result)
        around.journal.confirm(result.destination, done)
    return result


def _sync_folders(paths: list[str], remote: RemoteFiles) -> bool:
    """Sync the folders that these are in, in which they have got their names; whether the server does that."""
    return all(remote.sync_folder(folder) for folder in dict.fromkeys(map(posixpath.dirname, paths)))


def _temporary_path(destination: str, partial: Partial | None) -> str:
    if partial is None:
        return TemporaryNames().path_beside(destination)
    folder, slash, _ = destination.rpartition("/")
    return folder + slash + partial.name


def _go_on(path: str, partial: Partial, source: LocalSource, given: Source, around: Surroundings) -> Source:
    """The source from where an earlier attempt's partial ends, if that is proven to hold its beginning."""
    offset, hasher = find_remote_prefix(path, partial, source, around.remote, around.cancellation.check)
    return given._replace(offset=offset, hasher=hasher if offset and given.hasher else given.hasher)


def _message(decision: Decision, offset: int, backup: str | None) -> str:
    done = "created" if decision.action == "create" else "replaced"
    if backup is not None:
        done = f"{done}, the old one kept as {backup.rpartition('/')[2]}"
    return f"{done}, resumed at byte {offset:,}" if offset else done


def _verify_sent(
    copy: CopyFile, path: str, source: LocalSource, written: Written, around: Surroundings, warnings: list[str]
) -> Verified | None:
    """Prove as far as the server allows that `path` is the source. Raises `VerificationFailed`, `SourceChanged`."""
    source.check_unchanged()
    if written.size_bytes is None:
        found, _ = _look_at_remote(path, around)
        written = written._replace(size_bytes=found.size_bytes if found else None)
    return prove_sent(copy, copy.destination, source.opened_as.st_size, written, around.peer, warnings)


def _verify_sent_checksum(path: str, hasher: Hasher, around: Surroundings) -> Verified:
    """Prove that `path` has the hash of what was sent. Raises `VerificationFailed`."""
    found = around.remote.sha256(path)
    prove_same_hash(found.sha256, hasher.hexdigest(), around.peer)
    return found.how


def _verify_received_checksum(copy: CopyFile, target: LocalTarget, around: Surroundings) -> tuple[Verified, str]:
    """Prove that what is on the disk here has the hash of the source. Raises `VerificationFailed`."""
    kept = hash_file(target.fd, around.cancellation.check)
    return prove_kept(copy.source, kept, around.remote.sha256(copy.source), around.peer), kept


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
    around.ledger.links.require_none_on(os.path.dirname(copy.destination))
    destination = look_at(copy.destination)
    done = _find_done(copy, source, destination, around)
    if done is not None:
        return done
    sha256 = None
    if around.journal is not None and around.journal.owns(copy.destination):
        destination = around.journal.before(copy.destination, destination)
    elif only_hash_tells(copy, source, destination):
        here = hash_local(copy.destination, around.cancellation.check, follows_links=True)
        sha256 = _same_hash(copy.source, here, around)
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
    partial = partial_of_download(copy, source, around.peer) if around.remote.can_resume else None
    target_of_copy = writing_to(
        _open_local_folder(copy, around),
        copy.destination,
        is_atomic=copy.atomic,
        partial_name=partial.name if partial else None,
        permissions=decision.wanted.permissions,
    )
    with in_place, target_of_copy as target:
        try:
            offset = (
                find_local_prefix(target, copy, around.remote, around.cancellation.check) if target.is_partial else 0
            )
            if partial is not None and not offset:
                remove_stale_local(target.folder, partial)
            read = around.remote.read(copy.source, target.fd, report, offset)
            if offset:
                # What is here already is the beginning of the source that was looked at, and of no other.
                read = read._replace(before=source)
            prove_received(copy.source, read, os.fstat(target.fd).st_size, around.peer)
            if copy.verify == "checksum":
                verified, sha256 = _verify_received_checksum(copy, target, around)
            elif read.before.size_bytes is not None:
                verified = "size"
            set_attributes(target.fd, decision.wanted)
            if copy.durable:
                is_synced = sync_file(target.fd)
        except OSError as error:
            raise explain_os_error(error, "cannot write", copy.destination) from error
        is_atomic, backup = target.publish(keeps_old=copy.backup)
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
        message=_message(decision, offset, backup),
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


def _same_hash(remote_path: str, local_sha256: str | None, around: Surroundings) -> str | None:
    """The SHA-256 that both sides have, None if they differ or one cannot be read: then it is copied, and told there."""
    try:
        return local_sha256 if around.remote.sha256(remote_path).sha256 == local_sha256 else None
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
def _tidying_up(
    path: str, temporary: str, partial: Partial | None, made_folders: Made, around: Surroundings
) -> Iterator[None]:
    """If the block fails, remove temporary file and new folders, and say so if that fails too.

    A partial file stays for the next attempt when the session has ended or the play was interrupted. So does one whose
    publication was asked for and not confirmed: whether it is there says then what became of that.
    """
    journal = around.journal
    if journal is not None and partial is None:
        journal.leftovers.add(temporary)
    try:
        yield
    except (UnreachableError, Interrupted) as error:
        if journal is not None and journal.is_left_open(path, error):
            journal.leftovers.discard(temporary)
        elif partial is None:
            _remove(temporary, made_folders, error, around)
        elif isinstance(error, StepError):
            error.add(f"What has arrived is kept as {temporary!r}: the next attempt goes on from there")
        raise
    except BaseException as error:
        if journal is not None:
            journal.unanswered.pop(path, None)
        _remove(temporary, made_folders, error, around)
        raise
    if journal is not None:
        journal.leftovers.discard(temporary)


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
