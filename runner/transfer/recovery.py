"""Finds out what became of the requests whose replies an earlier attempt lost, and clears away what it left behind.

What was published under its final name is confirmed in the journal. Otherwise the destination gets back what was there,
and the temporary file goes, so that this attempt begins where the first one did. The session that was lost may still be
alive on the server and carry out late what it was sent: so where the temporary file is still there, it is its removal that
decides. Once that has removed something, nothing can be published from there any more.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from typing import Literal, NamedTuple

from runner.errors import StepError, UnreachableError
from runner.remote_files import Batch, FileStatus, RemoteFiles, RemoteRequest, StatusRefused
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.journal import Journal, Unanswered

# More than these are asked about side by side.
FEW = 4
# Something is there, and the server does not tell what.
UNTOLD = FileStatus(False, True, None, None, None)


class _Request(NamedTuple):
    what: Literal["remove", "look closely", "rename"]
    path: str
    target: str = ""


# What is there, None if nothing is; of a removal: what was there. A refusal is thrown into the generator.
_Inquiry = Generator[_Request, FileStatus | None, None]
_Answer = Generator[_Request, FileStatus | None, FileStatus | None]


def recover(journal: Journal, context: CopyContext) -> None:
    """Resolve what the journal has unanswered. Raises a `StepError` if the session ends; the rest is resolved next time."""
    inquiries = [_resolve(path, asked, journal) for path, asked in journal.unanswered.items()]
    inquiries += [_clear_away(path, journal) for path in journal.leftovers]
    if len(inquiries) <= FEW:
        for inquiry in inquiries:
            _ask_in_turn(inquiry, context.writer)
    else:
        _ask_side_by_side(inquiries, context)


def _resolve(path: str, asked: Unanswered, journal: Journal) -> _Inquiry:
    """Find out whether a publication happened; if not, put back what it was to replace."""
    left = yield from _look(asked.temporary)
    if left is None and asked.is_withdrawn:
        left = UNTOLD
    elif left is not None and not asked.is_source:
        journal.unanswered[path] = asked._replace(is_withdrawn=True)
        # Nothing, if the lost session has published it meanwhile.
        left = yield from _remove(asked.temporary, journal)
    found = yield from _look(path)
    if left is None and found is not None and _may_be_it(found, asked):
        yield from _confirm(path, asked, journal)
    elif asked.aside is not None and not (yield from _bring_back(path, found, asked, journal)):
        # It stays open, so that the next attempt tries again; and is named if there is none.
        return
    journal.unanswered.pop(path, None)
    journal.left.forget(asked.temporary, asked.aside or "")


def _confirm(path: str, asked: Unanswered, journal: Journal) -> _Inquiry:
    done = asked.done
    backup = done.backup
    if backup is not None:
        if (yield from _look(backup)) is not None:
            journal.left.keep(backup)
        else:
            done = done._replace(backup=None)
    elif asked.aside is not None:
        yield from _remove(asked.aside, journal)
    journal.confirm(path, done)
    journal.replaced.setdefault(path, asked.before)


def _bring_back(
    path: str, found: FileStatus | None, asked: Unanswered, journal: Journal
) -> Generator[_Request, FileStatus | None, bool]:
    """What was to be replaced bears another name, or another name as well. False if it could not be given back its own."""
    aside = asked.aside or ""
    if found is None:
        try:
            yield _Request("rename", aside, path)
        except StepError:
            return (yield from _look(aside)) is None
    elif asked.done.backup is not None and (yield from _look(aside)) == found:
        # A second name, given before the file could be replaced.
        yield from _remove(aside, journal)
    return True


def _may_be_it(found: FileStatus, asked: Unanswered) -> bool:
    """Whether what is at a path can be what was to be published there."""
    if asked.is_link:
        return found.is_link or found is UNTOLD
    return None in (asked.size_bytes, found.size_bytes) or found.size_bytes == asked.size_bytes


def _clear_away(path: str, journal: Journal) -> _Inquiry:
    yield from _remove(path, journal)
    journal.leftovers.discard(path)
    journal.left.forget(path)


def _remove(path: str, journal: Journal) -> _Answer:
    """Remove a file; what was there, as far as the server tells. What stays is noted."""
    try:
        return (yield _Request("remove", path))
    except StepError:
        # It forbids that, or so it says of what is not there.
        found = yield from _look(path)
        if found is not None:
            journal.left.leave(path)
        return found


def _look(path: str) -> _Answer:
    return (yield from _try(_Request("look closely", path)))


def _try(request: _Request) -> _Answer:
    try:
        return (yield request)
    except StepError:
        return UNTOLD


def _ask_in_turn(inquiry: _Inquiry, remote: RemoteFiles) -> None:
    answer, refusal = None, None
    while True:
        try:
            request = inquiry.send(answer) if refusal is None else inquiry.throw(refusal)
        except StopIteration:
            return
        answer, refusal = None, None
        try:
            answer = _ask(request, remote)
        except UnreachableError:
            raise
        except StepError as error:
            refusal = error


def _ask(request: _Request, remote: RemoteFiles) -> FileStatus | None:
    match request.what:
        case "remove":
            return UNTOLD if remote.remove(request.path) else None
        case "rename":
            remote.rename(request.path, request.target)
            return None
        case "look closely":
            try:
                return remote.status(request.path, follow=False)
            except StatusRefused:
                return UNTOLD


def _ask_side_by_side(inquiries: Iterable[_Inquiry], context: CopyContext) -> None:
    with running_batch(context) as batch:
        for inquiry in inquiries:
            _advance(inquiry, None, None, batch)
        while batch.wait():
            pass


def _advance(inquiry: _Inquiry, answer: FileStatus | None, refusal: StepError | None, batch: Batch) -> None:
    try:
        request = inquiry.send(answer) if refusal is None else inquiry.throw(refusal)
    except StopIteration:
        return
    batch.run(
        RemoteRequest(
            request.what, request.path, functools.partial(_take_answer, inquiry, batch), target=request.target
        )
    )


def _take_answer(inquiry: _Inquiry, batch: Batch, request: RemoteRequest, error: StepError | None) -> None:
    if request.is_missing:
        _advance(inquiry, None, None, batch)
    else:
        _advance(inquiry, request.status or UNTOLD, error, batch)
