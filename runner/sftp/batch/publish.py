"""Gives what is written under a temporary name its final one: the one place where that is decided for every file.

In one step where the server can (posix-rename); else what is replaced steps aside first, and comes back on failure. What is
to be kept gets a second name (a hard link), so that there is a file at every moment; where that cannot be, it is renamed.
Servers announce what they do not do, and refuse what they announce: the next best way is tried, and noted.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import FileRefused
from runner.remote_files import UNPUBLISHED, Note, Published, probe_names
from runner.sftp.batch.deeds import (
    add_remark,
    look_behind,
    look_behind_rename,
    remove_own,
    require_renamed,
)
from runner.sftp.batch.file import Answer, BatchFile, Stages, look
from runner.sftp.batch.kinds import KIND_UNTOLD, find_kind
from runner.sftp.batch.symlinks import ask_for_link, learn_links, make_link_directly, read_link
from runner.sftp.packets import HARDLINK, POSIX_RENAME, StatusCode, Type, encode_path, encode_string
from runner.sftp.refusals import describe_refusal, not_removed, not_renamed, rename_refused, taken_away
from runner.sftp.session import Refusal, SftpSession

_POSIX_RENAME_START = encode_string(POSIX_RENAME.encode())
_HARDLINK_START = encode_string(HARDLINK.encode())


@dataclass(slots=True)
class Publication:
    """What is to be published. `is_new` says that nothing is there yet; `backup` is the name for what is replaced.

    `note` is told how it is done, before each request that does it.
    """

    temporary: str
    destination: str
    is_new: bool
    aside: str
    note: Note
    backup: str | None = None
    # Chooses another name for the backup when that is taken; None if there is none left.
    next_backup: Callable[[], str | None] = lambda: None
    # Why it could not be done in one step: what is told if it cannot be done in another way either.
    first_refusal: Refusal | None = None
    # What was found under the temporary name behind the request that took it away, where that was looked at.
    found: Answer | None = None
    # How it is being done, as it was noted last.
    way: Published = UNPUBLISHED

    def tell(self, way: Published) -> None:
        """Note how it is done from here on."""
        self.way = way._replace(left=self.way.left)
        self.note(self.way)

    def leave(self, name: str) -> None:
        """Note that something of ours could not be removed."""
        self.way = self.way._replace(left=(*self.way.left, name))
        self.note(self.way)


def can_replace(session: SftpSession) -> bool:
    """Whether a rename puts one file into the place of another in one step."""
    return session.traits.replaces and POSIX_RENAME in session.extensions


def publish(file: BatchFile, publication: Publication) -> Stages[None]:
    """Rename; `file.error` tells whether that went well. After a failure the destination is as it was, or is named."""
    yield from give_name(file, publication)
    yield from require_renamed(file, publication.temporary, publication.destination, publication.found)


def give_name(file: BatchFile, publication: Publication) -> Stages[None]:
    """The same, and the server is believed that it has renamed: somebody else looks."""
    yield from _give_name(file, publication)
    if file.has_failed and publication.way.left:
        add_remark(file, not_removed(publication.way.left), *publication.way.left)


def _give_name(file: BatchFile, publication: Publication) -> Stages[None]:
    traits = file.session.traits
    if not publication.is_new and not traits.renames_links:
        # Not by LSTAT: ProFTPD's tells of what a link leads to.
        target = yield from read_link(file, publication.destination)
        if target is not None:
            if not (yield from _learn_links(file, publication)):
                return
            if not traits.renames_links:
                yield from _replace_link(file, publication, target)
                return
    if publication.backup is not None:
        yield from _publish_keeping(file, publication)
    elif can_replace(file.session):
        publication.tell(Published(True))
        refused = ask_to_replace(file, publication.temporary, publication.destination)
        publication.found = look_behind_rename(file, publication.temporary)
        file.part()
        yield
        if refused.refusal is not None:
            yield from replace_otherwise(file, publication, refused.refusal)
    elif publication.is_new:
        yield from _give_free_name(file, publication)
    else:
        yield from _step_aside(file, publication)


def _learn_links(file: BatchFile, publication: Publication) -> Stages[bool]:
    """Try out what the server does with links, if that is not known yet."""
    traits = file.session.traits
    if traits.link_order is not None and traits.renames_links is not None:
        return True
    # Should the session end meanwhile, these may be left.
    aside = publication.aside
    publication.tell(Published(False, probes=(aside, *probe_names(aside))))
    return (yield from learn_links(file, aside, publication.leave))


def replace_otherwise(
    file: BatchFile, publication: Publication, refusal: Refusal, backup: str | None = None
) -> Stages[None]:
    """The server has refused to replace in one step. Unless it must be right, see what else it takes.

    `backup` is the free name that the old file is to be kept under, if it is.
    """
    if file.session.traits.is_sequential and refusal.code != StatusCode.OP_UNSUPPORTED:
        yield from _fail(file, publication, refusal)
        return
    found = yield from look(file, publication.destination)
    if found.is_directory:
        yield from _fail(file, publication, refusal)
        return
    publication.backup, publication.first_refusal = backup, refusal
    if found.is_missing or (publication.is_new and found.mode is None):
        yield from _give_free_name(file, publication)
    else:
        yield from _step_aside(file, publication)
    if not file.has_failed:
        why = f"it refused posix-rename ({describe_refusal(refusal)})"
        file.session.traits.saw("replaces", False, why)


def _publish_keeping(file: BatchFile, publication: Publication) -> Stages[None]:
    is_suspect = False
    while (backup := publication.backup) is not None:
        if is_suspect and (yield from look(file, backup)).mode is not None:
            publication.backup = publication.next_backup()
            continue
        # The second name is given before anything is replaced: a later attempt that looks what became of it must know it.
        publication.tell(Published(can_replace(file.session), backup, backup))
        if can_replace(file.session) and (yield from _give_second_name(file, publication.destination, backup)):
            yield from _replace_kept(file, publication, backup)
            return
        old = yield from look(file, publication.destination)
        if old.is_missing:
            # Somebody has removed it meanwhile: nothing is left to be kept.
            publication.backup, publication.is_new = None, True
            yield from _give_name(file, publication)
            return
        # Some servers would replace what has the name.
        taken = yield from look(file, backup)
        if taken.mode is None:
            yield from _step_aside(file, publication)
            return
        if taken.is_like(old):
            # Another play has kept the same file a moment before; or the server has made the link that it refused.
            publication.leave(backup)
            if is_suspect:
                file.session.traits.saw("gives_second_names", False, "it refused to make a hard link, and had made it")
            is_suspect = True
        publication.backup = publication.next_backup()
    hint = "The server says so of each of them, which is hardly true."
    file.fail(FileRefused(f"no name is free under which the old {file.path!r} could be kept", hint=hint))


def _give_second_name(file: BatchFile, path: str, name: str) -> Stages[bool]:
    """A hard link, which fails if there is something of that name. False where there is none afterwards."""
    traits = file.session.traits
    if HARDLINK not in file.session.extensions or not traits.gives_second_names:
        return False
    linking, found = Answer(file), Answer(file)
    file.ask(Type.EXTENDED, _HARDLINK_START + encode_path(path) + encode_path(name), linking.take)
    if not traits.is_sequential:
        yield
    # `rclone serve sftp` (1.60) answers OK and makes none.
    file.ask(Type.LSTAT, encode_path(name), found.take)
    yield
    if linking.refusal is None and found.is_missing:
        # Should it be there all the same.
        yield from remove_own(file, name)
        traits.saw("gives_second_names", False, "it said that it had made a hard link, and there was none")
        return False
    return linking.refusal is None


def _replace_kept(file: BatchFile, publication: Publication, backup: str) -> Stages[None]:
    publication.tell(Published(True, backup))
    refused = ask_to_replace(file, publication.temporary, publication.destination)
    publication.found = look_behind_rename(file, publication.temporary)
    yield
    if refused.refusal is None:
        if publication.found is None and not file.session.traits.is_sequential:
            publication.found = yield from look(file, publication.temporary)
        yield from require_renamed(file, publication.temporary, publication.destination, publication.found)
        if file.has_failed and not (yield from remove_own(file, backup)):
            add_remark(file, f"The old file has a second name now, {backup!r}", backup)
        return
    # Some servers refuse what they have done: then the second name is all that is left of the old file.
    is_done = (yield from look(file, publication.temporary)).is_missing
    if is_done or not (yield from remove_own(file, backup)):
        file.fail(rename_refused(refused.refusal, publication.temporary, publication.destination, file.session))
        add_remark(file, f"The old file has a second name now, {backup!r}", backup)
        return
    publication.backup = None
    yield from replace_otherwise(file, publication, refused.refusal, backup)


def _give_free_name(file: BatchFile, publication: Publication) -> Stages[None]:
    """Nothing has the name, as far as is known. RENAME replaces nothing, by the protocol."""
    publication.tell(Published(True))
    refused = _ask_to_rename(file, publication.temporary, publication.destination)
    publication.found = look_behind_rename(file, publication.temporary)
    file.part()
    yield
    if refused.refusal is None:
        return
    publication.found = None
    if not (yield from look(file, publication.destination)).is_missing:
        # It is there after all, or the server does not tell.
        yield from _step_aside(file, publication)
        return
    # Where renaming is forbidden, a second name and the removal of the first come to the same.
    if (yield from _give_second_name(file, publication.temporary, publication.destination)):
        yield from remove_temporary(file, publication.temporary)
        return
    yield from _fail(file, publication, refused.refusal)


def _step_aside(file: BatchFile, publication: Publication) -> Stages[None]:
    aside = publication.backup or publication.aside
    if not file.session.traits.is_sequential and (yield from _is_directory(file, publication.destination)):
        file.fail(
            FileRefused(
                f"{publication.destination!r} on {file.session.peer} is a directory, or the server does not tell that it is "
                "none",
                hint="Name a file in it.",
            )
        )
        return
    publication.tell(Published(False, publication.backup, aside))
    refused = _ask_to_rename(file, publication.destination, aside)
    yield
    if refused.refusal is not None:
        if publication.first_refusal is None:
            file.fail(rename_refused(refused.refusal, publication.destination, aside, file.session))
        else:
            yield from _fail(file, publication, refused.refusal)
        yield from _name_aside(file, publication, aside)
        return
    if publication.backup is not None and (yield from look(file, publication.destination)).mode is not None:
        # Some servers would replace it now, and it would be kept nowhere.
        file.session.traits.catch("renamed")
        file.fail(not_renamed(publication.destination, aside, file.session.peer))
        return
    yield from _take_place(file, publication, aside)


def _take_place(file: BatchFile, publication: Publication, aside: str) -> Stages[None]:
    """The old file has stepped aside: it comes back, or is named, unless the new one is seen to be in its place."""
    refused = _ask_to_rename(file, publication.temporary, publication.destination)
    publication.found = yield from look_behind(file, publication.temporary)
    if refused.refusal is not None or publication.found.mode is not None:
        restored = _ask_to_rename(file, aside, publication.destination)
        yield
        if refused.refusal is not None:
            yield from _fail(file, publication, refused.refusal)
        else:
            yield from require_renamed(file, publication.temporary, publication.destination, publication.found)
        if restored.refusal is not None:
            add_remark(file, f"The old file is kept as {aside!r}", aside)
        else:
            yield from _name_aside(file, publication, aside)
    elif publication.backup is None and not (yield from remove_own(file, aside)):
        publication.leave(aside)


def _name_aside(file: BatchFile, publication: Publication, aside: str) -> Stages[None]:
    """Behind a failure: the old file is where it was, or is named. Some servers refuse what they do, or do nothing."""
    if not (yield from look(file, publication.destination)).is_missing:
        return
    if (yield from look(file, aside)).mode is not None:
        destination = publication.destination
        add_remark(file, f"The old file is kept as {aside!r}: rename it to {destination!r} to have it back", aside)


def _is_directory(file: BatchFile, path: str) -> Stages[bool]:
    """Whether a directory is at a path, or may be: where no request tells, nothing is moved aside."""
    found = yield from look(file, path)
    if found.mode is None or stat.S_IFMT(found.mode):
        return found.is_directory
    status = yield from find_kind(file, path, KIND_UNTOLD, follows_links=False)
    return status.is_directory or not status.is_kind_told


def _replace_link(file: BatchFile, publication: Publication, target: str) -> Stages[None]:
    """Put a file into the place of a symbolic link, on a server whose renames may follow links: remove it first.

    ProFTPD (1.3.8) renames what a link leads to, on either side of RENAME.
    """
    destination, backup = publication.destination, publication.backup
    publication.tell(Published(False, backup))
    if backup is not None and not (yield from make_link_directly(file, target, backup)):
        return
    removal = Answer(file)
    file.ask(Type.REMOVE, encode_path(destination), removal.take)
    yield
    if removal.refusal is not None:
        file.fail(removal.refusal, "cannot replace the link")
        return
    refused = _ask_to_rename(file, publication.temporary, destination)
    publication.found = yield from look_behind(file, publication.temporary)
    if refused.refusal is not None:
        yield from _fail(file, publication, refused.refusal)
    yield from require_renamed(file, publication.temporary, destination, publication.found)
    if file.has_failed:
        restored = Answer(file)
        ask_for_link(file, target, destination, restored.take)
        yield
        if restored.refusal is not None:
            add_remark(file, f"The link that was there is removed: it led to {target!r}")


def _fail(file: BatchFile, publication: Publication, refusal: Refusal) -> Stages[None]:
    """The rename was refused. Some servers take a file away as soon as it is closed, whatever it is called."""
    told = publication.first_refusal or refusal
    error = rename_refused(told, publication.temporary, publication.destination, file.session)
    if not file.session.traits.is_sequential and (yield from look(file, publication.temporary)).is_missing:
        error = taken_away(publication.temporary, file.session.peer)
    file.fail(error)


def ask_to_replace(file: BatchFile, temporary: str, destination: str, encoded_temporary: bytes = b"") -> Answer:
    """Rename in one step over what is there. This is where a temporary file becomes the destination."""
    answer = Answer(file)
    paths = (encoded_temporary or encode_path(temporary)) + encode_path(destination)
    file.ask(Type.EXTENDED, _POSIX_RENAME_START + paths, answer.take)
    return answer


def _ask_to_rename(file: BatchFile, source: str, destination: str) -> Answer:
    answer = Answer(file)
    file.ask(Type.RENAME, encode_path(source) + encode_path(destination), answer.take)
    return answer


def remove_temporary(file: BatchFile, temporary: str) -> Stages[None]:
    """Remove what was not published; a failure to do so is added to the file's error."""
    if not (yield from remove_own(file, temporary)):
        add_remark(file, f"The temporary file {temporary!r} on {file.session.peer} could not be removed", temporary)
