"""Copies one file to the server: look, decide, write under a temporary name, verify, publish.

Whatever goes wrong before `_publish`, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import functools
import hashlib
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from runner.cancellation import CleanUpAbandoned
from runner.errors import (
    FileError,
    Interrupted,
    PermissionRefused,
    ServerLacksFeature,
    StepError,
    UnreachableError,
)
from runner.plan import CopyFile
from runner.remote_files import (
    NOTHING_WANTED,
    FileStatus,
    Made,
    Note,
    Published,
    RemoteFiles,
    Source,
    WantedAttributes,
    Written,
)
from runner.results import CopyResult, Verified
from runner.transfer.backup import free_remote_path, is_taken
from runner.transfer.context import CLEAN_UP_SECONDS, Surroundings
from runner.transfer.copy_results import (
    as_first_decided,
    confirm,
    find_done,
    format_message,
    look_at_remote,
    naming_what_is_left,
    same_hash,
    summarise,
    tell_change,
)
from runner.transfer.decision import Decision, decide, only_hash_tells, opening_permissions
from runner.transfer.journal import Done, Unanswered
from runner.transfer.local_files import hash_file
from runner.transfer.local_sources import LocalSource, open_source
from runner.transfer.requirements import (
    explained_by,
    require_backup,
    require_remote_folder,
    require_settable_permissions,
    require_temporary_directory,
)
from runner.transfer.resume import (
    RESUME_FROM_BYTES,
    Claim,
    RemoteClaims,
    partial_of_upload,
)
from runner.transfer.temporary import NAME_TAKEN, TemporaryNames
from runner.transfer.verification import (
    FOLDER_NOT_SYNCED,
    prove_attributes,
    prove_same_hash,
    prove_sent,
)


def upload_file(copy: CopyFile, around: Surroundings) -> CopyResult:
    """Copy one file to the server. Raises as `copy_file` does."""
    around.memory.links.require_none_on(copy.source)
    with open_source(copy.source) as source:
        destination, is_known = look_at_remote(copy.destination, around)
        if not is_known and (copy.if_exists != "replace" or copy.backup):
            option, other = ("backup: true", "false") if copy.backup else (f"if_exists: {copy.if_exists}", "replace")
            raise ServerLacksFeature(
                f"{around.peer} does not tell whether {copy.destination!r} exists, so '{option}' cannot be kept",
                hint=f"Set '{option.partition(':')[0]}: {other}' for this server.",
            )
        done = find_done(copy, source.status, destination, around)
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
            sha256 = same_hash(copy.destination, source.opened_as.st_size, here, around)
        decision = decide(
            copy,
            source.status,
            destination,
            where=f"on {around.peer}",
            has_same_hash=sha256 is not None,
        )
        if not is_known:
            decision = replace(decision, warnings=(*decision.warnings, "the server does not tell what is there"))
        is_copied = decision.action in ("create", "replace")
        if is_copied:
            require_backup(copy, around)
            require_temporary_directory(copy, around)
        if is_copied and destination is None and around.is_check:
            require_remote_folder(copy.destination, around, is_made=copy.create_parents)
        tell_change(copy, decision, source.status, destination, around)
        if decision.action == "chmod":
            return _change_remote_permissions(copy, decision, source.status, around)
        if around.is_check or not is_copied:
            return summarise(copy, as_first_decided(copy, decision, around), source.status, around, sha256)
        if destination is not None:
            return _send(copy, decision, source, destination, around, {})
        with explained_by(lambda: require_remote_folder(copy.destination, around, is_made=copy.create_parents)):
            if not copy.create_parents:
                return _send(copy, decision, source, None, around, {})
            return _send_with_parents(copy, decision, source, around)


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
            message=format_message(self.decision, given.offset, published.backup, self.cleared),
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
    given = Source(
        source.fd,
        source.opened_as.st_size,
        hasher,
        most_channels=copy.most_channels,
        opening_permissions=opening_permissions(copy, destination),
    )
    sent = _Sent(copy, decision, given, list(decision.warnings))
    if copy.atomic and around.remote.can_rename:
        published = _send_beside(sent, source, destination, around, made_folders)
        describe = sent.describe_renamed
    else:
        published = _send_in_place(sent, source, destination, around)
        describe = sent.describe
    if sent.written.is_synced and not _sync_folders([copy.destination, *made_folders], around.remote):
        sent.warnings.append(FOLDER_NOT_SYNCED)
    return confirm(describe(published), around)


def _send_in_place(sent: _Sent, source: LocalSource, destination: FileStatus | None, around: Surroundings) -> Published:
    """Write over what is there."""
    copy, given = sent.copy, sent.given
    if copy.atomic:
        sent.warnings.append("written in place, not atomically: the server offers no way to rename a file")
    if around.journal is not None:
        around.journal.replaced.setdefault(copy.destination, destination)
    with naming_what_is_left(copy.destination):
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
    temporary = _choose_temporary(sent, around)
    claims = RemoteClaims(remote, around.peer, around.cancellation.check)
    tidying_up = functools.partial(_tidying_up, copy, made_folders, around)
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
                    done,
                    claim.path,
                    aside,
                    result.size_bytes,
                    is_source=claim.is_kept or _may_be_others(copy, claim.path),
                    before=destination,
                )

        # This is where the temporary file becomes the destination. A signal between two renames would lose both.
        published = _publish(copy, claim.path, around, note, keeps_old=copy.backup and earlier is None)
    if earlier is not None and earlier.backup is not None:
        # The source has changed since an earlier attempt published it and kept what was there before.
        return published._replace(backup=earlier.backup)
    return published


def _choose_temporary(sent: _Sent, around: Surroundings) -> str:
    """Where the file is written until it is published."""
    names = TemporaryNames.for_copy(sent.copy, around.owner)
    temporary = names.path_beside(sent.copy.destination)
    if not names.are_shared or not is_taken(temporary, around.remote):
        return temporary
    sent.warnings.append(NAME_TAKEN)
    return names.path_of(sent.copy.destination)


def _may_be_others(copy: CopyFile, temporary: str) -> bool:
    """Whether another play may come to a temporary name as well."""
    names = TemporaryNames.for_copy(copy)
    return names.are_shared and temporary == names.path_beside(copy.destination)


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
    if written.size_bytes is None and copy.verify != "none":
        found, _ = look_at_remote(path, around)
        written = written._replace(size_bytes=found.size_bytes if found else None)
    verified = prove_sent(copy, copy.destination, size_bytes, written, around.peer, warnings)
    if given.hasher is None:
        return verified
    found_hash = around.remote.sha256(path, size_bytes)
    prove_same_hash(found_hash.sha256, given.hasher.hexdigest(), around.peer)
    return found_hash.how


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
        return summarise(copy, unchanged, source, around)
    return summarise(copy, decision, source, around)


@contextmanager
def _tidying_up(copy: CopyFile, made_folders: Made, around: Surroundings, claim: Claim) -> Iterator[None]:
    """If the block fails, remove temporary file and new folders, and say so if that fails too.

    A partial file stays for the next attempt when the session has ended or the play was interrupted. So does one whose
    publication was asked for and not confirmed: whether it is there says then what became of that.
    """
    journal, path = around.journal, copy.destination
    if journal is not None and not claim.is_kept and not _may_be_others(copy, claim.path):
        # When the session has ended, what bears a name that others may have is no longer known to be ours.
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
        TemporaryNames.for_copy(copy).explain(error, path)
        _remove(claim.path, made_folders, error, around)
        raise
    if journal is not None:
        journal.leftovers.discard(claim.path)


def _remove(temporary: str, made_folders: Made, error: BaseException, around: Surroundings) -> None:
    try:
        with around.cancellation.shield(CLEAN_UP_SECONDS):
            if not (isinstance(error, StepError) and error.has_created_nothing):
                around.remote.remove(temporary)
            around.remote.remove_folders(list(made_folders))
    except (StepError, CleanUpAbandoned):
        if isinstance(error, StepError):
            error.add(f"The temporary file {temporary!r} on {around.peer} could not be removed")
        return
    made_folders.clear()
    if around.journal is not None:
        around.journal.leftovers.discard(temporary)
