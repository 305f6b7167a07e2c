"""The modes that copy nothing: what each does, and `rename` and `create_directory` themselves."""

from __future__ import annotations

from runner.errors import (
    DestinationExists,
    DestinationIsDirectory,
    FileRefused,
    PermissionRefused,
    SourceMissing,
    StepError,
    UnreachableError,
    VerificationFailed,
)
from runner.operation_results import FolderCreation, Renaming
from runner.plan import (
    CreateFolder,
    CreateLink,
    ListFolder,
    LookAtPath,
    Operation,
    ReadContent,
    RemovePath,
    RenamePath,
    WaitForPath,
)
from runner.remote_files import FileStatus, Made, Note, Published, StatusRefused, WantedAttributes
from runner.results import Change, Output
from runner.transfer.changes import explain_permissions
from runner.transfer.context import CLEAN_UP_SECONDS, CopyContext
from runner.transfer.directory_modes import asked_for_mode, mode_of
from runner.transfer.journal import Done, Unanswered
from runner.transfer.link_creation import create_link, require_link_renamed
from runner.transfer.listing import list_folder, look, look_at_path
from runner.transfer.protected_places import ask_remote_places, refuse_protected
from runner.transfer.reading import read_content
from runner.transfer.remote_status import require_kind
from runner.transfer.removal import remove_path
from runner.transfer.requirements import (
    explained_by,
    foretell_folder,
    require_no_dangling_link,
    require_outside,
    require_remote_folder,
)
from runner.transfer.waiting import wait_for_path


def operate(mode: Operation, context: CopyContext) -> Output:
    """Carry out a mode that copies nothing. Raises a `StepError`, or `Interrupted`."""
    match mode:
        case ListFolder():
            return list_folder(mode, context)
        case LookAtPath():
            return look_at_path(mode, context)
        case RemovePath():
            return remove_path(mode, context)
        case RenamePath():
            return rename_path(mode, context)
        case CreateFolder():
            return create_folder(mode, context)
        case CreateLink():
            return create_link(mode, context)
        case ReadContent():
            return read_content(mode, context)
        case WaitForPath():
            return wait_for_path(mode, context)


def rename_path(mode: RenamePath, context: CopyContext) -> Renaming:
    """Rename, unless that has been done: the source gone and the destination there is what a second play finds.

    Raises `SourceMissing`, `DestinationExists`, `DestinationIsDirectory`, `FileRefused`, and `SafetyLimitHeld` if one of
    the two is the root, the login directory, or a directory above it.
    """
    journal = context.journal
    source, destination = (look(path, context, follow=False) for path in (mode.source, mode.destination))
    done = journal.published.get(mode.destination) if journal is not None and source is None else None
    if done is not None and isinstance(done.output, Renaming):
        return done.output
    if source is None:
        if destination is None:
            raise SourceMissing(
                f"neither {mode.source!r} nor {mode.destination!r} exists on {context.peer}",
                hint="Relative remote paths start at the login directory; servers do not expand '~'.",
            )
        return Renaming(message="already renamed", source=mode.source, destination=mode.destination)
    for path, found in ((mode.source, source), (mode.destination, destination)):
        if found is not None and (found.is_directory or not found.is_kind_told):
            _require_movable(path, context, "renamed" if path == mode.source else "replaced")
    # An earlier attempt may have cleared the way.
    before = destination if journal is None else journal.before(mode.destination, destination)
    if destination is None and before is None:
        hint = "'mode_name: create_directory' makes it."
        require_remote_folder(mode.destination, context, is_made=False, hint=hint)
    elif destination is not None:
        require_kind(destination, mode.destination, context.peer)
        _require_replaceable(mode, source, destination, context)
    if source.is_directory or not source.is_kind_told:
        require_outside(mode.source, mode.destination, context)
    context.tell(Change("rename", mode.source, f"→ {mode.destination}"))
    if context.is_check:
        if context.effects is not None:
            context.effects.rename(mode.source, mode.destination)
        return _renamed(mode, "would be renamed", destination, None)

    def note(published: Published) -> None:
        if journal is not None:
            done = Done(output=_renamed(mode, "renamed", before, published))
            size = source.size_bytes if source.is_regular else None
            journal.unanswered[mode.destination] = Unanswered(done, mode.source, published.aside, size, is_source=True)

    require_link_renamed(mode.source, source, context)
    with context.cancellation.deferred(CLEAN_UP_SECONDS):
        published = _rename(mode, destination, before, context, note)
    renamed = _renamed(mode, "renamed", before, published)
    if journal is not None:
        journal.confirm(mode.destination, Done(output=renamed))
    # Two names of the same file: POSIX then has nothing to do, and says that all went well.
    if look(mode.source, context, follow=False) is not None:
        raise VerificationFailed(
            f"{context.peer} says that {mode.source!r} was renamed to {mode.destination!r}, but it is still there",
            hint="Both may be names of the same file (hard links): remove one of them.",
        )
    return renamed


def _require_movable(path: str, context: CopyContext, never: str) -> None:
    real_paths = ask_remote_places(path, context)()
    # A server that resolves nothing has had the path checked as it is written, by `playbook/modes.py`.
    if real_paths is not None:
        refuse_protected(path, real_paths, f"on {context.peer}", "login directory", never)


def _rename(
    mode: RenamePath, destination: FileStatus | None, before: FileStatus | None, context: CopyContext, note: Note
) -> Published:
    remote = context.writer
    if destination is None:
        published = Published(before is None)
        note(published)
        # Should something have come there in the meantime, this request fails where the other one would replace it.
        remote.rename(mode.source, mode.destination)
        return published
    if remote.can_replace or not destination.is_directory:
        return _replace(mode, context, note)
    if context.journal is not None:
        context.journal.replaced[mode.destination] = destination
    remote.remove_folder(mode.destination)
    note(Published(False))
    try:
        remote.rename(mode.source, mode.destination)
    except StepError as error:
        error.add(f"The empty folder {mode.destination!r} was removed for it")
        raise
    return Published(False)


def _replace(mode: RenamePath, context: CopyContext, note: Note) -> Published:
    """Rename over what is there. What may be left of it is noted before each request, should its answer not come."""
    left = context.left
    names: list[str] = []

    def follow(published: Published) -> None:
        names.extend((published.aside or "", *published.probes))
        left.leave(*published.left)
        left.write(*published.probes)
        if published.aside is not None:
            left.move_aside(mode.destination, published.aside)
        note(published)

    try:
        published = context.writer.replace(mode.source, mode.destination, follow)
    except UnreachableError:
        raise
    except StepError as error:
        # It says itself where the old file is.
        left.forget(*names)
        if isinstance(error, FileRefused):
            error.hint = "The usual reasons: another file system, or no right to write to one of the folders."
        raise
    left.forget(*names)
    return published


def _renamed(mode: RenamePath, verb: str, destination: FileStatus | None, published: Published | None) -> Renaming:
    message = verb if destination is None else f"{verb}, replacing what was there"
    warnings: tuple[str, ...] = ()
    if published is not None and not published.in_one_step:
        warnings = ("replaced in two steps: for a moment there was nothing of that name",)
    return Renaming(
        message=message,
        is_change=True,
        source=mode.source,
        destination=mode.destination,
        atomic=published.in_one_step if published else None,
        warnings=warnings,
    )


def _require_replaceable(mode: RenamePath, source: FileStatus, destination: FileStatus, context: CopyContext) -> None:
    """Raise unless the step allows the destination to be replaced, and a rename can do it."""
    place = f"{mode.destination!r} on {context.peer}"
    if not mode.overwrite:
        raise DestinationExists(
            f"both {mode.source!r} and {place} exist, so nothing was renamed",
            hint="'overwrite: true' replaces what is there.",
        )
    if destination.is_directory and not source.is_directory:
        name = mode.source.rpartition("/")[2]
        raise DestinationIsDirectory(
            f"{place} is a folder, and {mode.source!r} is none",
            hint=f"Name the file in it: {mode.destination}/{name}",
        )
    if source.is_directory and not destination.is_directory:
        raise FileRefused(
            f"{place} is not a directory, and {mode.source!r} is one", hint="Remove it first, with 'mode_name: remove'."
        )
    if destination.is_directory and next(context.remote.names_in(mode.destination), None) is not None:
        raise FileRefused(
            f"the folder {place} is not empty, and only an empty one is replaced",
            hint="Remove it first, with 'mode_name: remove' and 'recursive: true'.",
        )


def create_folder(mode: CreateFolder, context: CopyContext) -> FolderCreation:
    """Make a folder, and give it the permissions if they are given. Raises `FileRefused`, `PermissionRefused`."""
    path = mode.path.rstrip("/") or mode.path[:1]
    found = look(path, context, follow=True)
    if found is not None and context.journal is not None and path in context.journal.made:
        return _finish_creation(mode, path, context.journal.made, context)
    if found is None:
        return _create(mode, path, context)
    require_kind(found, path, context.peer)
    if not found.is_directory:
        raise FileRefused(
            f"{path!r} on {context.peer} is there already and no folder", hint="Name another one, or remove it first."
        )
    wanted = None if mode.permissions is None else asked_for_mode(mode.permissions, found.special_bits)
    # An earlier attempt may have set them.
    is_set = context.journal is not None and path in context.journal.attributes_set
    if wanted is None or (mode_of(found) == wanted and not is_set):
        return FolderCreation(message="already there", path=mode.path)
    context.tell(Change("chmod", f"{path}/", explain_permissions(mode_of(found), wanted)))
    becomes = "would become" if context.is_check else "set to"
    if context.effects is not None:
        context.effects.set_mode(path, wanted)
    if not context.is_check:
        if context.journal is not None:
            context.journal.attributes_set.add(path)
        _set_mode(path, wanted, context)
    return FolderCreation(message=f"permissions {becomes} {wanted:04o}", path=mode.path, is_change=True)


def _create(mode: CreateFolder, path: str, context: CopyContext) -> FolderCreation:
    require_no_dangling_link(path, context)
    if context.is_check or not mode.parents:
        hint = "'parents: true' makes it as well."
        missing = require_remote_folder(path, context, is_made=mode.parents, hint=hint)
    if context.is_check:
        created = (*missing, path)
        _tell_created(created, context)
        foretell_folder(path, context, is_local=False)
        if context.effects is not None and mode.permissions is not None:
            context.effects.set_mode(path, asked_for_mode(mode.permissions, 0))
        return FolderCreation(message="would be created", path=mode.path, created=created, is_change=True)
    made: Made = context.journal.made if context.journal is not None else {}
    permissions = None if mode.permissions is None else asked_for_mode(mode.permissions, 0)
    with explained_by(lambda: require_remote_folder(path, context, is_made=mode.parents)):
        context.writer.create_folder(path, permissions, made)
    return _finish_creation(mode, path, made, context)


def _finish_creation(mode: CreateFolder, path: str, made: Made, context: CopyContext) -> FolderCreation:
    """The folder is there; `made` are those that this step made."""
    _tell_created(tuple(made), context)
    if mode.permissions is not None:
        try:
            _complete_mode(path, mode.permissions, context)
        except StepError as error:
            is_tried_again = context.journal is not None and context.journal.has_next_attempt and error.may_pass
            if not is_tried_again:
                context.writer.remove_folders(list(made))
            raise
    return FolderCreation(message="created", path=mode.path, created=tuple(made), is_change=True)


def _complete_mode(path: str, permissions: int, context: CopyContext) -> None:
    """Give a new directory what the server's umask has taken away, and leave it the set-gid bit of the one above it."""
    try:
        found = context.remote.status(path)
    except StatusRefused:
        found = None
    wanted = asked_for_mode(permissions, found.special_bits if found else 0)
    if found is None or mode_of(found) != wanted:
        _set_mode(path, wanted, context)


def _set_mode(path: str, wanted: int, context: CopyContext) -> None:
    """Set a folder's mode, and see that it is set: some servers say OK and set none. Raises `PermissionRefused`."""
    context.writer.set_attributes(path, WantedAttributes(wanted, None))
    try:
        found = context.remote.status(path)
    except StatusRefused:
        return
    mode = mode_of(found) if found is not None else None
    if mode is not None and mode != wanted:
        raise PermissionRefused(
            f"{context.peer} said that it has set the permissions {wanted:04o} of {path!r}, and keeps {mode:04o}",
            hint="Remove 'permissions' from the mode if the server's own choice will do.",
        )


def _tell_created(folders: tuple[str, ...], context: CopyContext) -> None:
    for folder in folders:
        context.tell(Change("mkdir", f"{folder}/"))
