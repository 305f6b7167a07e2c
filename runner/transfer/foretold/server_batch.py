"""Many questions at once about a server whose files earlier steps of `--check` would have changed.

They are answered in waves: where the paths lead is found out for all of them together, then what is for the server to tell
is asked together. While an answer is taken no batch of the server's is under way, so that anything else may be asked too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from runner.errors import StepError
from runner.foretold import needs_what_step_makes
from runner.readback import complete
from runner.remote_files import Batch, Fetching, FileStatus, Listing, ReadFile, RemoteRequest, Sending
from runner.transfer.foretold.contents import Stored, Written
from runner.transfer.foretold.files import Directory, MadeLink, Node, Spot, Untold, join
from runner.transfer.foretold.server import ServerView, require_listed, unreadable
from runner.transfer.foretold.view import advance
from runner.transfer.local_sources import open_source

READING = frozenset({"read link", "resolve", "look", "look closely"})
_PIECE_BYTES = 256 * 1024


class _List(NamedTuple):
    listing: Listing


class _Fetch(NamedTuple):
    download: Fetching


_Request = _List | _Fetch | RemoteRequest


class _Asked(NamedTuple):
    """What was asked about a path, and whether a link at its end is followed for that."""

    path: str
    follow: bool
    request: _Request


def require_reading(request: RemoteRequest) -> None:
    """Raise `AssertionError` for a request that would change something: to ask for it is a bug."""
    if request.what not in READING:
        raise AssertionError(f"--check must change nothing, but was to {request.what} {request.path!r}")


class ForetoldBatch:
    """A `runner.remote_files.Batch` that sends nothing."""

    def __init__(self, view: ServerView, start: Callable[[], Batch]) -> None:
        """`start` starts a batch on the server itself."""
        self._view = view
        self._start = start
        self._waiting: list[_Asked] = []
        self._merged: list[MergedListing] = []

    done_bytes = 0

    def send(self, upload: Sending) -> None:
        raise AssertionError("--check must change nothing, but was to send a file")

    def release(self, copy: Sending | Fetching, error: StepError | None) -> None:
        raise AssertionError("--check must change nothing, but was to publish a file")

    def list(self, folder: Listing) -> None:
        self._waiting.append(_Asked(folder.path, True, _List(folder)))

    def fetch(self, download: Fetching) -> None:
        self._waiting.append(_Asked(download.source, True, _Fetch(download)))

    def run(self, request: RemoteRequest) -> None:
        require_reading(request)
        self._waiting.append(_Asked(request.path, request.what in ("look", "resolve"), request))

    def wait(self) -> bool:
        """Answer what has been asked; False if that was nothing."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return False
        spots = self._resolve(waiting)
        batch = self._start()
        self._merged = []
        here = [
            (asked, spot)
            for asked, spot in zip(waiting, spots, strict=True)
            if not self._ask(batch, asked.request, asked.path, spot)
        ]
        complete(batch)
        for listing in self._merged:
            listing.conclude(self._view)
        for asked, spot in here:
            self._answer(asked.request, asked.path, spot)
        return True

    def complete(self) -> None:
        while self.wait():
            pass

    def abandon(self) -> None:
        self._waiting.clear()

    # Where the paths lead.

    def _resolve(self, waiting: Sequence[_Asked]) -> Sequence[Spot]:
        view = self._view
        view.learn_home()
        resolutions = [view.files.resolve(asked.path, follow=asked.follow) for asked in waiting]
        steps = [advance(resolution, None) for resolution in resolutions]
        while True:
            questions = {step for step in steps if isinstance(step, str)}
            if not questions:
                return [step for step in steps if isinstance(step, Spot)]
            answers = self._read_links(questions)
            for index, step in enumerate(steps):
                if isinstance(step, str):
                    steps[index] = advance(resolutions[index], answers[step])

    def _read_links(self, paths: set[str]) -> dict[str, str | None]:
        """Where these links lead, None for what is none."""
        targets = self._view.files.targets
        answers = {path: targets[path] for path in paths if path in targets}

        def take(request: RemoteRequest, error: StepError | None) -> None:
            answers[request.path] = None if error is not None else request.answer
            self._view.note_target(request.path, answers[request.path])

        missing = paths - answers.keys()
        if missing:
            batch = self._start()
            for path in missing:
                batch.run(RemoteRequest("read link", path, take))
            complete(batch)
        return answers

    # What is for the server to tell.

    def _ask(self, batch: Batch, request: _Request, path: str, spot: Spot) -> bool:
        """Ask the server, if it is for it to tell."""
        if isinstance(request, RemoteRequest):
            return self._ask_request(batch, request, path, spot)
        if isinstance(request, _Fetch):
            content = self._view.content_of(spot, path)
            if not isinstance(content, Stored) or content.host != self._view.host:
                return False
            request.download.source = content.path
            batch.fetch(request.download)
            return True
        listing = request.listing
        if isinstance(spot.node, Directory) and spot.node.origin is not None:
            self._merged.append(MergedListing(listing, require_listed(spot.node), spot.node.origin))
            batch.list(self._merged[-1])
        elif spot.is_real:
            listing.path = self._view.real(spot, path)
            batch.list(listing)
        else:
            return False
        return True

    def _ask_request(self, batch: Batch, request: RemoteRequest, path: str, spot: Spot) -> bool:
        is_look = request.what.startswith("look")
        if isinstance(spot.node, Directory) and spot.node.origin is not None and is_look:
            directory, origin = spot.node, spot.node.origin
        elif spot.is_real:
            directory, origin = None, self._view.real(spot, path)
            if request.what == "resolve" and not spot.is_plain:
                return False
        else:
            return False

        def take(inner: RemoteRequest, error: StepError | None) -> None:
            request.answer, request.is_missing, request.status = inner.answer, inner.is_missing, inner.status
            if directory is not None and error is None:
                request.status = directory.amend(inner.status)
            request.finish(error)

        batch.run(replace(request, path=origin, done=take))
        return True

    # What is known here.

    def _answer(self, request: _Request, path: str, spot: Spot) -> None:
        if isinstance(request, RemoteRequest):
            self._answer_request(request, path, spot)
        elif isinstance(request, _Fetch):
            self._answer_fetching(request.download, path, spot)
        elif isinstance(spot.node, Directory):
            for name, node in require_listed(spot.node).children.items():
                give_entry(self._view, request.listing, name, node)
            request.listing.finish(None)
        else:
            request.listing.finish(self._view.not_listed(spot, path))

    def _answer_request(self, request: RemoteRequest, path: str, spot: Spot) -> None:
        error: StepError | None = None
        if request.what == "read link":
            if isinstance(spot.node, MadeLink):
                request.answer = spot.node.target
            else:
                error = self._view.no_link(path)
        elif request.what == "resolve":
            request.answer = spot.path
        else:
            request.status = self._view.find_status(spot)
            request.is_missing = request.status is None
            error = self._view.missing(path) if request.is_missing else None
        request.finish(error)

    def _answer_fetching(self, download: Fetching, path: str, spot: Spot) -> None:
        content = self._view.content_of(spot, path)
        if spot.node is None and spot.origin is None:
            download.finish(self._view.missing(path))
            return
        if content is None or (isinstance(content, Stored) and content.host is not None):
            raise unreadable(content)
        error: StepError | None = None
        try:
            take, received_bytes = download.open(), 0
            for piece in self._read(content):
                take(memoryview(piece), received_bytes)
                received_bytes += len(piece)
            status = self._view.find_status(spot)
            download.prove(ReadFile(received_bytes, status, status))
            download.publish()
        except StepError as failure:
            error = failure
        except OSError as failure:
            error = download.explain(failure)
        download.discard()
        download.finish(error)

    def _read(self, content: Written | Stored) -> Iterator[bytes]:
        if isinstance(content, Written):
            yield content.data
            return
        with open_source(content.path) as source:
            while piece := self._next(source.fd):
                yield piece

    def _next(self, fd: int) -> bytes:
        self._view.check()
        return os.read(fd, _PIECE_BYTES)


class MergedListing:
    """A directory that really is there and that earlier steps would have changed; a `runner.remote_files.Listing`."""

    def __init__(self, listing: Listing, directory: Directory, origin: str) -> None:
        self._listing = listing
        self._directory = directory
        self._given: set[str] = set()
        self._error: StepError | None = None
        self.path = origin

    def take(self, name: str, status: FileStatus) -> None:
        node = self._directory.children.get(name)
        if node is None:
            self._listing.take(name, status)
        elif isinstance(node, Directory) and node.origin == join(self.path, name):
            self._given.add(name)
            self._listing.take(name, node.amend(status))

    def amend(self, name: str, status: FileStatus | None) -> None:
        if name not in self._directory.children:
            self._listing.amend(name, status)

    def finish(self, error: StepError | None) -> None:
        self._error = error

    def conclude(self, view: ServerView) -> None:
        """Give what the server does not list, when nothing is under way on it."""
        if self._error is None:
            for name, node in self._directory.children.items():
                if name not in self._given:
                    give_entry(view, self._listing, name, node)
        self._listing.finish(self._error)


def give_entry(view: ServerView, listing: Listing, name: str, node: Node) -> None:
    """One entry of a directory as earlier steps would have left it."""
    if isinstance(node, Untold):
        raise needs_what_step_makes(node.step)
    status = view.find_status(Spot(name, node, None))
    if status is not None:
        listing.take(name, status)
