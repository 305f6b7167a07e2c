"""What the attempts at one step have changed: a retry counts it as done, and does not do it twice.

A connection that breaks takes replies with it, and whether a request was carried out is then open. So it is noted before
a request that publishes, makes or removes something goes out. The next attempt first asks the server what became of what
was not answered (`recovery.py`). After that it looks and decides as the first one did, but for what is noted here.

A step without `retries` has no journal, and pays nothing for it.
"""

from __future__ import annotations

from typing import NamedTuple

from runner.errors import StepError
from runner.remote_files import FileStatus
from runner.results import Output, Verified
from runner.transfer.left_behind import LeftBehind


class Done(NamedTuple):
    """A file or a link that got its final name, and what there is to report of it.

    `output` is the whole result of a step that is about this one path.
    """

    verified: Verified | None = None
    backup: str | None = None
    warnings: tuple[str, ...] = ()
    output: Output | None = None
    in_one_step: bool = True
    # Whether it was synced to disk before; None if that was not asked for.
    is_synced: bool | None = None


class Unanswered(NamedTuple):
    """A publication that was asked for, and not confirmed.

    What is published leaves the name `temporary`, and has `size_bytes` if that says anything. What was there before is
    called `aside` for a moment, or for good if that is the backup in `done`. `is_source` says that what is at
    `temporary` must stay if it was not published: the source of a rename, a file from which the copy can be resumed, or one
    of a name that another play may have taken meanwhile.
    """

    done: Done
    temporary: str
    aside: str | None = None
    size_bytes: int | None = None
    is_source: bool = False
    is_link: bool = False
    # What was at the path.
    before: FileStatus | None = None
    # The temporary file is about to be removed: that it is gone no longer says that it was published.
    is_withdrawn: bool = False


class Journal:
    """What one step has changed so far, over all of its attempts. All paths are those of the destination's side."""

    def __init__(self, left: LeftBehind | None = None) -> None:
        # Whether an earlier attempt may have changed something.
        self.is_retry = False
        # Whether another attempt follows if this one fails for a reason that may pass.
        self.has_next_attempt = False
        # Confirmed, and to be asked about.
        self.published: dict[str, Done] = {}
        self.unanswered: dict[str, Unanswered] = {}
        # Temporary files that may be there, of no use to anybody.
        self.leftovers: set[str] = set()
        # What was at a path before this step wrote over it or cleared it away; the path itself says it no more.
        self.replaced: dict[str, FileStatus | None] = {}
        # Directories that were not there, outermost first.
        self.made: dict[str, None] = {}
        # Where permissions or times alone were changed.
        self.attributes_set: set[str] = set()
        self.removed: set[str] = set()
        # What all attempts may leave behind.
        self.left = left or LeftBehind()

    def begin_attempt(self, number: int, attempts_allowed: int) -> None:
        """Attempt `number` of a step begins, counted from 1."""
        # What was begun together with other steps, and broke off, may have changed something before the first attempt.
        self.is_retry = number > 1 or self.is_retry
        self.has_next_attempt = number < attempts_allowed

    def take_over(self, other: Journal) -> None:
        """What another step has changed is this one's to find out about. What either may leave stays noted with it."""
        self.published |= other.published
        self.unanswered |= other.unanswered
        self.leftovers |= other.leftovers
        self.replaced |= other.replaced

    def confirm(self, path: str, done: Done) -> None:
        """What was to be published at `path` is there."""
        self.unanswered.pop(path, None)
        self.published[path] = done

    def is_left_open(self, path: str, error: BaseException) -> bool:
        """Whether the next attempt is to find out what became of the publication of `path`."""
        is_tried_again = self.has_next_attempt and isinstance(error, StepError) and error.may_pass
        return is_tried_again and path in self.unanswered

    def find_published(self, path: str, source: FileStatus, destination: FileStatus | None) -> Done | None:
        """What this step published at `path`; None unless the destination is still a copy of the source, by its size."""
        done = self.published.get(path)
        if done is None or destination is None:
            return None
        sizes = (source.size_bytes, destination.size_bytes)
        return done if None in sizes or sizes[0] == sizes[1] else None

    def before(self, path: str, found: FileStatus | None) -> FileStatus | None:
        """What was at `path` before this step changed it, if it has, else what was `found` there."""
        return self.replaced.get(path, found)

    def owns(self, path: str) -> bool:
        """Whether this step has written what is at `path`, in whole or in part."""
        return path in self.published or path in self.replaced
