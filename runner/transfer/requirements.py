"""What a step needs of the place that it writes to.

Each `require_…` is asked by --check and by the step itself: beforehand where asking costs nothing, and otherwise after the
server has refused, to say why. So both say the same. With --check, what earlier steps would have made counts as there.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from runner.errors import FileError, FileRefused, ServerLacksFeature
from runner.plan import CopyFile
from runner.remote_files import FileStatus, RemoteReader, StatusRefused
from runner.transfer.local_errors import explain_os_error, explain_writing_in_place, no_folder_above

if TYPE_CHECKING:
    from runner.transfer.foretold.disk import ForetoldDisk
    from runner.transfer.foretold.effects import StepEffects

CREATE_PARENTS_HINT = "'create_parents: true' makes it."
IN_THE_WAY_HINT = "Remove what is in the way, or name another path."


class Context(Protocol):
    """What is asked of the surroundings of a step (`runner.transfer.context.CopyContext`)."""

    @property
    def remote(self) -> RemoteReader: ...
    @property
    def peer(self) -> str: ...
    @property
    def effects(self) -> StepEffects | None: ...
    @property
    def disk(self) -> ForetoldDisk | None: ...


def require_remote_folder(
    path: str, context: Context, *, is_made: bool, hint: str = CREATE_PARENTS_HINT
) -> tuple[str, ...]:
    """Raise `FileRefused` unless the directory that `path` shall be in is on the server, or `is_made` and can be.

    Returns those that are to be made, outermost first. What the server does not tell is taken for good.
    """
    missing: list[str] = []
    above = posixpath.dirname(path.rstrip("/"))
    while above not in ("", "/", "."):
        what = f"{above!r}, where {path!r} shall be,"
        try:
            found = context.remote.status(above)
            is_link = found is None and context.remote.status(above, follow=False) is not None
        except StatusRefused:
            above = posixpath.dirname(above)
            continue
        if found is not None and (found.is_directory or not found.is_kind_told):
            break
        if found is not None or is_link:
            kind = "is a symbolic link that leads nowhere" if is_link else "is not a directory"
            raise FileRefused(f"{what} {kind} on {context.peer}", hint=IN_THE_WAY_HINT)
        if not is_made:
            raise FileRefused(f"{what} does not exist on {context.peer}", hint=hint)
        if not context.remote.can_create_folders:
            raise FileRefused(
                f"{what} does not exist on {context.peer}, and SCP cannot make it without a shell",
                hint="Make it there, or use connector_type: SFTP.",
            )
        missing.append(above)
        above = posixpath.dirname(above)
    missing.reverse()
    for folder in missing:
        foretell_folder(folder, context, is_local=False)
    return tuple(missing)


def require_temporary_directory(copy: CopyFile, context: Context) -> None:
    """Raise `FileRefused` unless the `temporary_directory` is there, if the step names one. It takes a round trip then."""
    path = copy.temporary_directory
    if path is None:
        return
    try:
        found = context.remote.status(path)
    except StatusRefused:
        return
    if found is None or (found.is_kind_told and not found.is_directory):
        what = "does not exist" if found is None else "is not a directory"
        raise FileRefused(
            f"the 'temporary_directory' {path!r} {what} on {context.peer}",
            hint="Make it there, on the file system of the destination, or name another one.",
        )


@contextmanager
def explained_by(require: Callable[[], object]) -> Iterator[None]:
    """If something is refused inside the block, raise what `require` finds to be wrong, or else the refusal as it is."""
    try:
        yield
    except FileError as error:
        try:
            require()
        except FileError as reason:
            raise reason from error
        raise


def require_no_dangling_link(path: str, context: Context) -> None:
    """Raise `FileRefused` if a path of the server, at which nothing is when links are followed, is a link."""
    try:
        if context.remote.status(path, follow=False) is None:
            return
    except StatusRefused:
        return
    raise FileRefused(
        f"{path!r} on {context.peer} is a symbolic link that leads nowhere",
        hint="Remove it, or name another directory.",
    )


def require_outside(source: str, destination: str, context: Context) -> None:
    """Raise `FileRefused` if a directory of the server would be moved into itself, by way of a link."""
    try:
        inner = context.remote.real_path(posixpath.dirname(destination) or ".")
        outer = context.remote.real_path(source)
    except FileError:
        # The rename itself will be refused if anything is wrong with them.
        return
    if f"{inner}/".startswith(f"{outer}/"):
        raise FileRefused(
            f"{destination!r} on {context.peer} lies inside of {source!r}, which cannot be moved into itself",
            hint=f"The directory above it is {inner!r}. Give another path.",
        )


def require_backup(copy: CopyFile, context: Context) -> None:
    """Raise `ServerLacksFeature` if what an upload replaces is to be kept, and the server cannot do that."""
    if copy.backup and not context.remote.can_rename:
        raise ServerLacksFeature(
            f"{context.peer} offers no way to rename a file, so the old {copy.destination!r} cannot be kept",
            hint="Remove 'backup', or use connector_type: SFTP.",
        )


def require_settable_permissions(path: str, context: Context) -> None:
    """Raise `ServerLacksFeature` if the permissions of a file on the server cannot be changed."""
    if not context.remote.can_set_permissions:
        raise ServerLacksFeature(
            f"{context.peer} has no shell, so SCP cannot set the permissions of {path!r}",
            hint="Remove 'permissions', or use connector_type: SFTP.",
        )


def require_local_folder(path: str, doing: str, context: Context, *, is_made: bool) -> None:
    """Raise a `FileError` unless something can be made at a local path, after the directories above if `is_made`."""
    here, missing = os.path.dirname(path) or ".", list[str]()
    if context.disk is not None:
        _require_foretold_folder(path, doing, context, context.disk, is_made=is_made)
        return
    while True:
        try:
            found = os.stat(here)
            break
        except FileNotFoundError as error:
            if os.path.lexists(here):
                raise explain_os_error(_os_error(errno.EEXIST), doing, here) from error
            if not is_made:
                raise no_folder_above(path, here) from error
            missing.append(here)
            here = os.path.dirname(os.path.abspath(here))
        except OSError as error:
            raise explain_os_error(error, doing, path) from error
    if not stat.S_ISDIR(found.st_mode):
        raise explain_os_error(_os_error(errno.ENOTDIR), doing, path)
    if (refusal := find_write_refusal(here)) is not None:
        raise explain_os_error(refusal, doing, path)
    for folder in reversed(missing):
        foretell_folder(folder, context, is_local=True)


def _require_foretold_folder(path: str, doing: str, context: Context, disk: ForetoldDisk, *, is_made: bool) -> None:
    """The same of a disk that earlier steps of a check would have changed."""
    here, missing = os.path.dirname(path) or ".", list[str]()
    while (found := disk.status(here, follow=True)) is None:
        if disk.status(here, follow=False) is not None:
            raise explain_os_error(_os_error(errno.EEXIST), doing, here)
        if not is_made:
            raise no_folder_above(path, here)
        missing.append(here)
        here = os.path.dirname(os.path.abspath(here))
    if not found.is_directory:
        raise explain_os_error(_os_error(errno.ENOTDIR), doing, path)
    real = disk.find_real(here)
    if real is not None and (refusal := find_write_refusal(real)) is not None:
        raise explain_os_error(refusal, doing, path)
    for folder in reversed(missing):
        foretell_folder(folder, context, is_local=True)


def require_local_place(copy: CopyFile, destination: FileStatus | None, context: Context) -> None:
    """Raise a `FileError` unless a download can write to its destination, at which that is now."""
    if copy.atomic or destination is None:
        require_local_folder(copy.destination, "cannot create", context, is_made=copy.create_parents)
    else:
        disk = context.disk
        if disk is None or destination.is_link or disk.find_real(copy.destination) is not None:
            require_in_place(copy.destination, destination)


def require_in_place(path: str, found: FileStatus, folder_fd: int | None = None) -> None:
    """Raise a `FileError` unless a local file can be written over in place. A name alone is one in an open directory."""
    if found.is_link or not found.is_regular:
        raise explain_writing_in_place(path, is_link=found.is_link)
    name = path if folder_fd is None else os.path.basename(path)
    if not os.access(name, os.R_OK | os.W_OK, dir_fd=folder_fd, effective_ids=_KNOWS_EFFECTIVE_IDS):
        raise explain_os_error(_os_error(errno.EACCES), "cannot create", path)


def find_write_refusal(folder: str | int) -> OSError | None:
    """Why nothing can be made in a local directory, given by path or descriptor; None if nothing is in the way."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return _os_error(errno.EROFS)
    where, fd = (folder, None) if isinstance(folder, str) else (".", folder)
    if not os.access(where, os.W_OK | os.X_OK, dir_fd=fd, effective_ids=_KNOWS_EFFECTIVE_IDS):
        return _os_error(errno.EACCES)
    return None


def foretell_folder(path: str, context: Context, *, is_local: bool) -> None:
    """With --check: the step would make a directory."""
    if context.effects is not None:
        context.effects.make_directory(path, is_local=is_local)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


_KNOWS_EFFECTIVE_IDS = os.access in os.supports_effective_ids
