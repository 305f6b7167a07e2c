"""Makes a symbolic link on the server, or switches one in a single step: `create_link`.

A link is replaced by a link, and by nothing else is anything replaced: what stands in its place and is a file or a
directory was put there by somebody, and no link brings it back.
"""

from __future__ import annotations

import posixpath
from contextlib import suppress

from runner.errors import (
    DestinationExists,
    DestinationIsDirectory,
    FileError,
    FileRefused,
    StepError,
    UnreachableError,
    VerificationFailed,
)
from runner.operation_results import LinkCreation
from runner.plan import CreateLink
from runner.remote_files import FileStatus, Published, RemoteRequest, probe_names
from runner.results import Change
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.journal import Done, Unanswered
from runner.transfer.listing import look
from runner.transfer.remote_status import require_kind
from runner.transfer.requirements import explained_by, require_remote_folder
from runner.transfer.temporary import TemporaryNames

_FOLDER_HINT = "'mode_name: create_directory' makes it."


def create_link(mode: CreateLink, context: CopyContext) -> LinkCreation:
    """Have a link at a path that leads to the target; nothing is done if it does already.

    Raises `DestinationExists` for another link without `overwrite`, and for anything that is no link;
    `DestinationIsDirectory`; `FileError` if nothing tells what is there, or the server refuses; `VerificationFailed` if it
    says OK and there is none.
    """
    old_target = _read_target(mode.path, context)
    found = None if old_target is not None else look(mode.path, context, follow=False)
    is_link = old_target is not None or (found is not None and found.is_link)
    if old_target == mode.target:
        done = context.journal.published.get(mode.path) if context.journal is not None else None
        if done is not None and isinstance(done.output, LinkCreation):
            return done.output
        return LinkCreation(message="already right", path=mode.path, target=mode.target, previous_target=mode.target)
    if is_link or found is not None:
        _require_replaceable(mode, found, old_target, context)
    why = f"→ {mode.target}" if old_target is None else f"→ {mode.target}, was → {old_target}"
    if context.is_check and not is_link:
        require_remote_folder(mode.path, context, is_made=False, hint=_FOLDER_HINT)
    context.tell(Change("link", mode.path, why))
    if context.is_check:
        if context.effects is not None:
            context.effects.link(mode.path, mode.target)
        return _describe(mode, old_target, is_new=not is_link, published=None, is_check=True)
    with explained_by(lambda: require_remote_folder(mode.path, context, is_made=False, hint=_FOLDER_HINT)):
        return _Making(mode, old_target, is_new=not is_link, context=context).make()


def _read_target(path: str, context: CopyContext) -> str | None:
    """Where the link at a path leads; None if none is there, or the server does not tell.

    It is asked first: ProFTPD's LSTAT tells of what a link leads to.
    """
    try:
        return context.remote.read_link(path)
    except UnreachableError:
        raise
    except StepError:
        return None


def _require_replaceable(
    mode: CreateLink, found: FileStatus | None, old_target: str | None, context: CopyContext
) -> None:
    """Raise unless what is there is a link that the step lets be replaced."""
    place = f"{mode.path!r} on {context.peer}"
    require_kind(found, mode.path, context.peer)
    if found is not None and found.is_directory:
        raise DestinationIsDirectory(
            f"{place} is a directory, which a link never replaces",
            hint="Remove or rename it first, if that is meant; or name the link in it.",
        )
    if found is not None and not found.is_link:
        raise DestinationExists(
            f"{place} is no link, and a link never replaces anything else",
            hint="Remove or rename it first, if that is meant: 'mode_name: remove' or 'rename'.",
        )
    if not mode.overwrite:
        leads = "elsewhere" if old_target is None else f"to {old_target!r}"
        raise DestinationExists(
            f"{place} is a link that leads {leads}, not to {mode.target!r}",
            hint="'overwrite: false' is set; 'true' would switch it.",
        )


def require_link_renamed(path: str, found: FileStatus, context: CopyContext) -> None:
    """See that a link at a path is itself renamed by a rename, on a server that may rename what it leads to.

    It is tried out with links of ours beside it. Raises `FileRefused` if the server does otherwise, or does not show it.
    """
    if not found.is_link or context.remote.renames_links:
        return
    temporary = TemporaryNames(context.owner).path_of(path)
    names = (temporary, *probe_names(temporary))
    context.left.write(*names)
    request = RemoteRequest("learn links", path, _ignore, temporary=temporary)
    with running_batch(context) as batch:
        batch.run(request)
        while batch.wait():
            pass
    context.left.forget(*names)
    context.left.leave(*request.left)
    if not context.remote.renames_links:
        raise FileRefused(
            f"{context.peer} is not known to rename the link {path!r} itself, and not what it leads to",
            hint="Nothing was renamed. 'mode_name: create_link' makes a link of the new name, 'remove' removes the old one.",
        )


class _Making:
    """A link that is made under a temporary name and renamed to its own."""

    def __init__(self, mode: CreateLink, old_target: str | None, *, is_new: bool, context: CopyContext) -> None:
        self._mode = mode
        self._old_target = old_target
        self._is_new = is_new
        self._around = context
        self._temporary = TemporaryNames(context.owner).path_of(mode.path)
        # Everything that is ours until it is published: a link may have been tried out under these names.
        self._names = (self._temporary, *probe_names(self._temporary))
        self._published = Published(is_new)
        # What the old link may be called for a moment.
        self._asides: list[str] = []

    def make(self) -> LinkCreation:
        """Make it. After a failure what was there is there, and what could not be removed is named."""
        self._expect()
        failure = self._ask()
        self._settle(failure)
        target, left = _look_afterwards(self._mode, self._names, self._around)
        self._around.left.leave(*left)
        if failure is not None:
            raise failure
        _require_made(self._mode, target, self._around)
        return self._describe()

    def _ask(self) -> StepError | None:
        """Have it made and published: why it was not."""
        outcomes: list[StepError | None] = []
        request = RemoteRequest(
            "make link",
            self._mode.path,
            lambda _, error: outcomes.append(error),
            target=self._mode.target,
            temporary=self._temporary,
            is_new=self._is_new,
            note=self._note,
        )
        with running_batch(self._around) as batch:
            batch.run(request)
            while batch.wait():
                pass
        self._around.left.leave(*request.left)
        return outcomes[0]

    def _expect(self) -> None:
        """Note what a session that is lost may have left, and for a retry what it may have done, even without a rename."""
        self._around.left.write(*self._names)
        if self._around.journal is not None:
            self._note(self._published)
            self._around.journal.leftovers.update(self._names)

    def _note(self, published: Published) -> None:
        """It is about to be published in this way."""
        self._published = published
        self._around.left.leave(*published.left)
        if published.aside is not None:
            self._asides.append(published.aside)
            self._around.left.move_aside(self._mode.path, published.aside)
        if self._around.journal is not None:
            unanswered = Unanswered(Done(output=self._describe()), self._temporary, published.aside, is_link=True)
            self._around.journal.unanswered[self._mode.path] = unanswered

    def _settle(self, failure: StepError | None) -> None:
        """The server has answered. It is noted before it is asked more, which its session may not live to answer."""
        self._around.left.forget(*self._names, *self._asides)
        journal = self._around.journal
        if journal is None:
            return
        journal.unanswered.pop(self._mode.path, None)
        journal.leftovers.difference_update(self._names)
        if failure is None:
            journal.confirm(self._mode.path, Done(output=self._describe()))

    def _describe(self) -> LinkCreation:
        return _describe(self._mode, self._old_target, is_new=self._is_new, published=self._published)


def _look_afterwards(
    mode: CreateLink, temporary_names: tuple[str, ...], context: CopyContext
) -> tuple[str | None, list[str]]:
    """Where the link leads now, None if the server does not say, and which of the temporary names are still there."""
    reading = RemoteRequest("read link", mode.path, _ignore)
    looks = [RemoteRequest("look closely", name, _ignore) for name in temporary_names]
    with running_batch(context) as batch:
        for request in (reading, *looks):
            batch.run(request)
        while batch.wait():
            pass
    return reading.answer or None, [request.path for request in looks if request.status is not None]


def _ignore(request: RemoteRequest, error: StepError | None) -> None:
    """What there is to know stands in the request."""


def _require_made(mode: CreateLink, target: str | None, context: CopyContext) -> None:
    """An OK is a claim. Raises `VerificationFailed` if the link does not lead where it shall."""
    if target == mode.target:
        return
    if target is None:
        with suppress(FileError):
            found = look(mode.path, context, follow=False)
            if found is not None and found.is_link:
                # Where it leads is not told.
                return
    elif target.startswith("/") and posixpath.basename(target) == posixpath.basename(mode.target):
        # ProFTPD (1.3.8) tells a whole path, however the link is written.
        return
    says = "there is none" if target is None else f"it leads to {target!r}"
    raise VerificationFailed(
        f"{context.peer} says that it has made the link {mode.path!r} to {mode.target!r}, and {says}",
        hint="Something else may be writing there; else this server makes no links that can be relied on.",
    )


def _describe(
    mode: CreateLink,
    old_target: str | None,
    *,
    is_new: bool,
    published: Published | None,
    is_check: bool = False,
) -> LinkCreation:
    verb = "created" if is_new else "switched"
    warnings: tuple[str, ...] = ()
    if published is not None and not published.in_one_step:
        warnings = ("switched in two steps: for a moment there was no link",)
    return LinkCreation(
        message=f"would be {verb}" if is_check else verb,
        is_change=True,
        path=mode.path,
        target=mode.target,
        previous_target=old_target,
        atomic=published.in_one_step if published is not None else None,
        warnings=warnings,
    )
