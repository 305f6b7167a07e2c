"""Copies single files of several steps, or of a loop's items, together on the wire, and publishes them in their order.

Everything that such a copy does without surprises is done here, for many at once. The first one that needs more, or that
does not go well, ends it: nothing of it or of those behind it is left, and its step is carried out by itself, as if nobody
had tried. So what is special about a copy is known in one place only, `upload.py` or `download.py`.
"""

from __future__ import annotations

import functools
import os
import posixpath
import resource
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from runner.errors import StepError, VerificationFailed
from runner.plan import CopyFile, CopyFileFromEngine, CopyFileToEngine
from runner.remote_files import NOTHING_WANTED, Batch, FileStatus, RemoteRequest, Written
from runner.results import CopyResult
from runner.transfer.batch import BatchSettings, Download, Outcome, Pending, Upload, running_batch
from runner.transfer.context import CopyContext
from runner.transfer.copy_results import confirm, describe_copied, find_done, summarise
from runner.transfer.decision import Decision, decide
from runner.transfer.local_files import look_at, permissions_by_umask, to_status
from runner.transfer.local_folders import LocalFolders, open_folder
from runner.transfer.requirements import require_local_place
from runner.transfer.resume import RESUME_FROM_BYTES
from runner.transfer.temporary import TemporaryNames

# So many copies are begun together. A download that waits for those ahead of it has a file open here.
MAX_TOGETHER = 1000
MAX_DOWNLOADS_TOGETHER = 500
MAX_BYTES_TOGETHER = 256 * 1024 * 1024


class Member(NamedTuple):
    """One of the copies, and what it needs beside its own description. All are for the same server."""

    copy: CopyFile
    context: CopyContext


# What came of a member, by its position: a result, or why the server did not publish it.
OnDone = Callable[[int, CopyResult | StepError], None]


def may_join(copy: CopyFile) -> bool:
    """Whether a copy does nothing that only its own step can do."""
    return (
        type(copy) in (CopyFileFromEngine, CopyFileToEngine)
        and copy.atomic
        and not (copy.backup or copy.durable)
        and copy.temporary_name is None
        and copy.temporary_directory is None
        and copy.compare != "checksum"
        and copy.verify != "checksum"
    )


def belong_together(first: CopyFile, second: CopyFile) -> bool:
    """Whether two copies may be under way in one batch: those of one direction may."""
    return type(first) is type(second)


def most_together(copy: CopyFile) -> int:
    """How many copies like this one may be begun together."""
    if isinstance(copy, CopyFileFromEngine):
        return MAX_TOGETHER
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MAX_DOWNLOADS_TOGETHER, soft // 2))


def place_of(copy: CopyFile) -> str:
    """What tells one destination from another: of two copies to one place the second has to see what the first has done."""
    return posixpath.normpath(copy.destination)


def copy_together(members: Sequence[Member], on_done: OnDone, *, each_needs_the_last: bool) -> None:
    """Carry out the copies from the first one on; `on_done` is told of each in order, in the calling thread.

    Of those that it was not told of nothing is left. `each_needs_the_last` says that none may be published unless those
    before it have been; otherwise these may have failed as well. Raises a `StepError` that is the session's failure, with
    what may be left behind noted by each member, and `Interrupted`.
    """
    done_count = 0
    for copies in _in_portions(_find_simple(members)):
        tell = functools.partial(_tell_behind, on_done, done_count)
        order = _Order(copies, tell, members[0].context, each_needs_the_last=each_needs_the_last)
        _execute(copies, order)
        if not order.is_done:
            return
        done_count += len(copies)


def _tell_behind(on_done: OnDone, done_count: int, position: int, ending: CopyResult | StepError) -> None:
    on_done(done_count + position, ending)


def _in_portions(copies: Sequence[_Copy]) -> Iterator[list[_Copy]]:
    """The copies in portions of a bounded size: what replaces a file takes its space twice until it is published."""
    portion: list[_Copy] = []
    size_bytes = 0
    for copy in copies:
        if portion and size_bytes + copy.size_bytes > MAX_BYTES_TOGETHER:
            yield portion
            portion, size_bytes = [], 0
        portion.append(copy)
        size_bytes += copy.size_bytes
    if portion:
        yield portion


class _Copy:
    """One of the copies, looked at and decided on."""

    __slots__ = ("decision", "destination", "ending", "is_held", "is_released", "job", "member", "source")

    def __init__(
        self,
        member: Member,
        decision: Decision,
        source: FileStatus,
        destination: FileStatus | None,
        ending: CopyResult | None = None,
    ) -> None:
        self.member = member
        self.decision = decision
        self.source = source
        self.destination = destination
        self.job: Upload | Download | None = None
        self.is_held = self.is_released = False
        # What has come of it; None as long as nothing has.
        self.ending: CopyResult | StepError | None = ending

    @property
    def moves_bytes(self) -> bool:
        return self.decision.action in ("create", "replace")

    @property
    def size_bytes(self) -> int:
        """How much is to be moved."""
        return (self.source.size_bytes or 0) if self.moves_bytes else 0

    @property
    def has_failed(self) -> bool:
        return isinstance(self.ending, StepError)

    def take(self, outcome: Outcome) -> None:
        """What has become of it."""
        member = self.member
        if outcome.error is None:
            self.ending = confirm(describe_copied(member.copy, self.decision, outcome), member.context)
        else:
            self.ending = outcome.error


# Looking.


def _find_simple(members: Sequence[Member]) -> list[_Copy]:
    """The copies up to the first that is not as simple as it looked."""
    context = members[0].context
    if not context.remote.can_rename:
        return []
    is_upload = isinstance(members[0].copy, CopyFileFromEngine)
    there = _look_at_all(members, context, is_upload=is_upload)
    found: list[_Copy] = []
    for member in members:
        try:
            copy = _decide(member, there, is_upload=is_upload)
        except Exception:
            # A bug is its own step's failure: it meets it again by itself, and those ahead of it are done.
            break
        if copy is None:
            break
        found.append(copy)
    return found


def _look_at_all(members: Sequence[Member], context: CopyContext, *, is_upload: bool) -> dict[str, RemoteRequest]:
    """What is at all remote paths, and at the directories that uploads go to."""
    paths = [member.copy.destination if is_upload else member.copy.source for member in members]
    folders = [posixpath.dirname(path) for path in paths] if is_upload else []
    looks = {path: RemoteRequest("look", path, _note) for path in (*paths, *folders) if path}
    with running_batch(context) as batch:
        for look in looks.values():
            batch.run(look)
        while batch.wait():
            pass
    return looks


def _note(look: RemoteRequest, error: StepError | None) -> None:
    if error is not None and not look.is_missing:
        # Why the server does not tell is for the copy's own step to find out.
        look.status, look.answer = None, "refused"


def _decide(member: Member, there: dict[str, RemoteRequest], *, is_upload: bool) -> _Copy | None:
    """What is to be done; None if that is for the step to find out."""
    copy, context = member
    try:
        if is_upload:
            context.memory.links.require_none_on(copy.source)
            source: FileStatus | None = to_status(os.stat(copy.source))
            look = there[copy.destination]
            destination = look.status
            is_told = destination is not None or (
                look.is_missing and _is_folder(there, posixpath.dirname(copy.destination))
            )
            umask_permissions = None
        else:
            context.memory.links.require_none_on(os.path.dirname(copy.destination))
            look = there[copy.source]
            source = look.status
            destination = look_at(copy.destination)
            is_told = os.path.isdir(os.path.dirname(copy.destination) or ".")
            umask_permissions = permissions_by_umask()
        if (
            source is None
            or not is_told
            or not _is_plain(source)
            or not (destination is None or destination.is_kind_told)
        ):
            return None
        done = find_done(copy, source, destination, context)
        if done is not None:
            return _Copy(member, Decision("nothing", NOTHING_WANTED), source, destination, done)
        if context.journal is not None and context.journal.owns(copy.destination):
            return None
        where = f"on {context.peer}" if is_upload else "on this machine"
        decision = decide(copy, source, destination, where=where, new_file_permissions=umask_permissions)
        if decision.action == "chmod":
            return None
        found = _Copy(member, decision, source, destination)
        if found.moves_bytes and not is_upload:
            require_local_place(copy, destination, context)
    except (StepError, OSError):
        return None
    if not found.moves_bytes:
        found.ending = summarise(copy, decision, source, context)
    return found


def _is_folder(there: dict[str, RemoteRequest], path: str) -> bool:
    found = there[path].status if path else None
    return not path or (found is not None and found.is_directory)


def _is_plain(source: FileStatus) -> bool:
    """Whether it is a regular file of a size that is known, and too small to be worth resuming."""
    return source.is_regular and source.size_bytes is not None and source.size_bytes < RESUME_FROM_BYTES


# Copying.


class _Stopped(Exception):
    """One copy has failed, and takes those behind it along."""


class _Order:
    """Has the copies published in their order, and tells of them in that order."""

    def __init__(
        self, copies: Sequence[_Copy], on_done: OnDone, context: CopyContext, *, each_needs_the_last: bool
    ) -> None:
        self._copies = copies
        self._on_done = on_done
        self._remote = context.writer
        self._check = context.cancellation.check
        self._each_needs_the_last = each_needs_the_last
        self._told_count = self._released_count = 0
        # The first that failed before it was published: nothing from there on has an effect.
        self._end = len(copies)
        self._is_given_up = False

    @property
    def is_done(self) -> bool:
        """Whether all of them are told of."""
        return self._told_count == len(self._copies)

    def go_on(self, batch: Batch) -> None:
        """Tell of what is over, and publish what may be. Raises `_Stopped` when all before a failure is done."""
        self._tell()
        if self._told_count == self._end < len(self._copies):
            raise _Stopped
        while self._released_count < self._end:
            copy = self._copies[self._released_count]
            if copy.moves_bytes and not (copy.is_held and self._may_release(copy)):
                return
            self._released_count += 1
            if copy.job is not None:
                copy.is_released = True
                batch.release(copy.job, None)

    def hold(self, copy: _Copy, batch: Batch) -> None:
        """It is proven, and waits for its turn to be published."""
        copy.is_held = True
        if not self._is_given_up:
            self.go_on(batch)

    def take(self, copy: _Copy, batch: Batch, outcome: Outcome) -> None:
        """It is over."""
        if outcome.error is not None:
            if self._is_given_up:
                return  # that is no failure of its own
            # Nor is it if the play is to end.
            self._check()
        copy.take(outcome)
        if self._is_given_up:
            return
        if copy.has_failed and (self._each_needs_the_last or not copy.is_released):
            self._end = min(self._end, self._copies.index(copy))
        self.go_on(batch)

    def give_up(self) -> None:
        """Nothing more is published."""
        self._is_given_up = True

    def conclude(self) -> None:
        """The batch is over: tell of what was published, although nobody was there any more to be told."""
        while self._told_count < self._end:
            copy = self._copies[self._told_count]
            if copy.ending is None and copy.job is not None and copy.job.was_published:
                copy.take(copy.job.describe(None))
            if not isinstance(copy.ending, CopyResult):
                return
            self._told_count += 1
            self._on_done(self._told_count - 1, copy.ending)

    def stop(self) -> None:
        """Behind a failure: what was published too early goes again, and a failure to publish is told of."""
        failed = self._copies[self._end]
        if not isinstance(failed.ending, StepError) or not failed.is_released:
            return
        for copy in self._copies[self._end + 1 :]:
            if isinstance(copy.job, Upload) and (copy.job.was_published or isinstance(copy.ending, CopyResult)):
                self._take_back(copy.member.copy.destination, failed.ending)
        self._on_done(self._end, failed.ending)

    def _take_back(self, path: str, error: StepError) -> None:
        try:
            self._remote.remove(path)
        except StepError as refusal:
            error.add(f"{path!r}, of a later step, is published already and could not be removed: {refusal}", path)

    def _may_release(self, copy: _Copy) -> bool:
        """Whether it may be published although those before it, all released, are not confirmed yet.

        On a server that keeps the order of requests it is published behind them. If one of these fails and must take the
        others along, what is new can be removed again. What replaces a file cannot be taken back.
        """
        if self._told_count == self._released_count:
            return True
        can_overtake = isinstance(copy.job, Download) or not self._remote.keeps_order
        return not can_overtake and (not self._each_needs_the_last or copy.destination is None)

    def _tell(self) -> None:
        while self._told_count < self._end:
            ending = self._copies[self._told_count].ending
            if ending is None:
                return
            self._told_count += 1
            self._on_done(self._told_count - 1, ending)


def _execute(copies: Sequence[_Copy], order: _Order) -> None:
    """Have everything that moves bytes under way together."""
    context = copies[0].member.context
    names = TemporaryNames(context.owner)
    folders = LocalFolders(lambda path: open_folder(path, path, create_parents=False))
    total_bytes = sum(copy.size_bytes for copy in copies)
    try:
        with running_batch(context, lambda done_bytes: context.on_progress(done_bytes, total_bytes)) as batch:
            try:
                order.go_on(batch)
                for copy in copies:
                    if copy.moves_bytes:
                        _begin(copy, order, batch, names, folders)
                while batch.wait():
                    pass
            except BaseException:
                order.give_up()
                raise
    except _Stopped:
        order.stop()
    finally:
        order.conclude()
        for copy in copies:
            if isinstance(copy.job, Download):
                # What waited for its turn when the batch was given up is let go of by nobody else.
                copy.job.discard()
        folders.close()


def _begin(copy: _Copy, order: _Order, batch: Batch, names: TemporaryNames, folders: LocalFolders) -> None:
    options, context = copy.member
    on_outcome = functools.partial(order.take, copy, batch)
    file = Pending(options.source, options.destination, copy.source, copy.destination)
    if isinstance(options, CopyFileFromEngine):
        settings = BatchSettings(options, context, on_outcome, None, names)
        describe = functools.partial(describe_copied, options, copy.decision)
        upload = copy.job = _OrderedUpload(file, settings, describe_output=describe)
        upload.keep = functools.partial(_hold, order, copy, batch)
        batch.send(upload)
    else:
        settings = BatchSettings(options, context, on_outcome, permissions_by_umask(), names)
        download = Download(file, settings, folders, keep=functools.partial(_hold, order, copy, batch))
        # Nobody has listed it a moment ago: what it is when it is open counts.
        download.is_looked_at = True
        copy.job = download
        batch.fetch(download)


def _hold(order: _Order, copy: _Copy, batch: Batch, job: Upload | Download) -> None:
    order.hold(copy, batch)


class _OrderedUpload(Upload):
    """An upload that waits for its turn when it is proven."""

    __slots__ = ()

    def prove(self, written: Written) -> None:
        super().prove(written)
        if self.is_held:
            # It went over several handles of a server that may keep one object for each: its own step looks closer.
            raise VerificationFailed(f"what was written to {self.destination!r} is not proven yet")
        self.is_held = True
