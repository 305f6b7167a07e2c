"""The modes that copy nothing: what each does, and `rename` and `create_directory` themselves."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from runner.errors import (
    DestinationExists,
    DestinationIsDirectory,
    FileRefused,
    SourceMissing,
    StepError,
    VerificationFailed,
)
from runner.operation_results import FolderCreation, Renaming
from runner.plan import CreateFolder, ListFolder, LookAtPath, Operation, RemovePath, RenamePath
from runner.remote_files import FileStatus, Published, StatusRefused, WantedAttributes
from runner.results import Change, Output
from runner.transfer.changes import explain_permissions
from runner.transfer.copy import CLEAN_UP_SECONDS, Surroundings
from runner.transfer.directory_modes import asked_for_mode, mode_of
from runner.transfer.listing import list_folder, look, look_at_path
from runner.transfer.protected_places import ask_remote_places, refuse_protected
from runner.transfer.removal import remove_path


def operate(mode: Operation, around: Surroundings) -> Output:
    """Carry out a mode that copies nothing. Raises a `StepError`, or `Interrupted`."""
    match mode:
        case ListFolder():
            return list_folder(mode, around)
        case LookAtPath():
            return look_at_path(mode, around)
        case RemovePath():
            return remove_path(mode, around)
        case RenamePath():
            return rename_path(mode, around)
        case CreateFolder():
            return create_folder(mode, around)


def rename_path(mode: RenamePath, around: Surroundings) -> Renaming:
    """Rename, unless that has been done: the source gone and the destination there is what a second play finds.

    Raises `SourceMissing`, `DestinationExists`, `DestinationIsDirectory`, `FileRefused`, and `SafetyLimitHeld` if one of
    the two is the root, the login directory, or a directory above it.
    """
    source, destination = (look(path, around, follow=False) for path in (mode.source, mode.destination))
    if source is None:
        if destination is None:
            raise SourceMissing(
                f"neither {mode.source!r} nor {mode.destination!r} exists on {around.peer}",
                hint="Relative remote paths start at the login directory; servers do not expand '~'.",
            )
        return Renaming(message="already renamed", source=mode.source, destination=mode.destination)
    for path, found in ((mode.source, source), (mode.destination, destination)):
        if found is not None and found.is_directory:
            _require_movable(path, around, "renamed" if path == mode.source else "replaced")
    warnings: tuple[str, ...] = ()
    if destination is None:
        warnings = _require_folder_above(mode.destination, around, "'mode_name: create_directory' makes it.")
    else:
        _require_replaceable(mode, source, destination, around)
    around.tell(Change("rename", mode.source, f"→ {mode.destination}"))
    if around.is_check:
        return replace(_renamed(mode, "would be renamed", destination, None), warnings=warnings)
    with around.cancellation.deferred(CLEAN_UP_SECONDS):
        published = _rename(mode, destination, around)
    # Two names of the same file: POSIX then has nothing to do, and says that all went well.
    if look(mode.source, around, follow=False) is not None:
        raise VerificationFailed(
            f"{around.peer} says that {mode.source!r} was renamed to {mode.destination!r}, but it is still there",
            hint="Both may be names of the same file (hard links): remove one of them.",
        )
    return _renamed(mode, "renamed", destination, published)


def _require_movable(path: str, around: Surroundings, never: str) -> None:
    real_paths = ask_remote_places(path, around)()
    # A server that resolves nothing has had the path checked as it is written, by `playbook/modes.py`.
    if real_paths is not None:
        refuse_protected(path, real_paths, f"on {around.peer}", "login directory", never)


def _rename(mode: RenamePath, destination: FileStatus | None, around: Surroundings) -> Published:
    remote = around.remote
    if destination is None:
        # Should something have come there in the meantime, this request fails where the other one would replace it.
        remote.rename(mode.source, mode.destination)
        return Published(True)
    if remote.can_replace or not destination.is_directory:
        try:
            return remote.publish(mode.source, mode.destination)
        except FileRefused as error:
            error.hint = "The usual reasons: another file system, or no right to write to one of the folders."
            raise
    remote.remove_folder(mode.destination)
    try:
        remote.rename(mode.source, mode.destination)
    except StepError as error:
        error.add(f"The empty folder {mode.destination!r} was removed for it")
        raise
    return Published(False)


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


def _require_replaceable(mode: RenamePath, source: FileStatus, destination: FileStatus, around: Surroundings) -> None:
    """Raise unless the step allows the destination to be replaced, and a rename can do it."""
    place = f"{mode.destination!r} on {around.peer}"
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
            f"{place} is no folder, and {mode.source!r} is one", hint="Remove it first, with 'mode_name: remove'."
        )
    if destination.is_directory and next(around.remote.names_in(mode.destination), None) is not None:
        raise FileRefused(
            f"the folder {place} is not empty, and only an empty one is replaced",
            hint="Remove it first, with 'mode_name: remove' and 'recursive: true'.",
        )


def create_folder(mode: CreateFolder, around: Surroundings) -> FolderCreation:
    """Make a folder, and give it the permissions if they are given. Raises `FileRefused`, `PermissionRefused`."""
    path = mode.path.rstrip("/") or mode.path[:1]
    found = look(path, around, follow=True)
    if found is None:
        return _create(mode, path, around)
    if not found.is_directory:
        raise FileRefused(
            f"{path!r} on {around.peer} is there already and no folder", hint="Name another one, or remove it first."
        )
    wanted = None if mode.permissions is None else asked_for_mode(mode.permissions, found.special_bits)
    if wanted is None or mode_of(found) == wanted:
        return FolderCreation(message="already there", path=mode.path)
    around.tell(Change("chmod", f"{path}/", explain_permissions(mode_of(found), wanted)))
    becomes = "would become" if around.is_check else "set to"
    if not around.is_check:
        around.remote.set_attributes(path, WantedAttributes(wanted, None))
    return FolderCreation(message=f"permissions {becomes} {wanted:04o}", path=mode.path, is_change=True)


def _create(mode: CreateFolder, path: str, around: Surroundings) -> FolderCreation:
    if look(path, around, follow=False) is not None:
        raise FileRefused(
            f"{path!r} on {around.peer} is a symbolic link that leads nowhere",
            hint="Remove it, or name another folder.",
        )
    warnings: tuple[str, ...] = ()
    if not mode.parents:
        warnings = _require_folder_above(path, around, "'parents: true' makes it as well.")
    if around.is_check:
        created = _missing_folders(path, around) if mode.parents else (path,)
        _tell_created(created, around)
        return FolderCreation(
            message="would be created", path=mode.path, created=created, is_change=True, warnings=warnings
        )
    made = around.remote.create_folder(path, None if mode.permissions is None else asked_for_mode(mode.permissions, 0))
    _tell_created(tuple(made), around)
    if mode.permissions is not None:
        try:
            _complete_mode(path, mode.permissions, around)
        except StepError:
            around.remote.remove_folders(made)
            raise
    return FolderCreation(message="created", path=mode.path, created=tuple(made), is_change=True)


def _complete_mode(path: str, permissions: int, around: Surroundings) -> None:
    """Give a new directory what the server's umask has taken away, and leave it the set-gid bit of the one above it."""
    try:
        found = around.remote.status(path)
    except StatusRefused:
        found = None
    wanted = asked_for_mode(permissions, found.special_bits if found else 0)
    if found is None or mode_of(found) != wanted:
        around.remote.set_attributes(path, WantedAttributes(wanted, None))


def _tell_created(folders: tuple[str, ...], around: Surroundings) -> None:
    for folder in folders:
        around.tell(Change("mkdir", f"{folder}/"))


def _missing_folders(path: str, around: Surroundings) -> tuple[str, ...]:
    """A folder that is not there, and those above it that are not there either, outermost first."""
    folders = [path]
    while (above := posixpath.dirname(folders[-1])) not in ("", "/") and look(above, around, follow=True) is None:
        folders.append(above)
    _require_folder_above(folders[-1], around, "Remove what is in the way, or name another path.")
    return tuple(reversed(folders))


def _require_folder_above(path: str, around: Surroundings, hint: str) -> tuple[str, ...]:
    """Raise `FileRefused` unless the folder that `path` shall be in is there.

    With --check, an earlier step may be the one that makes it: that it is missing is a warning then.
    """
    above = posixpath.dirname(path) or "."
    found = look(above, around, follow=True)
    if found is not None and found.is_directory:
        return ()
    what = f"{above!r}, where {path!r} shall be, {'does not exist' if found is None else 'is no folder'}"
    if found is None and around.is_check:
        return (f"{what} yet on {around.peer}: unless an earlier step makes it, this one will fail",)
    raise FileRefused(f"{what} on {around.peer}", hint=hint)
