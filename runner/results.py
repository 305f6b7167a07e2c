"""What came out: the output of a copy, the result of a step and of a play. The shapes of `schema/report.schema.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from runner.plan import ControlStep, Step
from runner.problems import Problem
from runner.values import dataclass

Status = Literal["ok", "changed", "skipped", "failed", "unreachable"]
STATUSES: tuple[Status, ...] = ("ok", "changed", "skipped", "failed", "unreachable")
# How a step counts: a failure that the play went on behind is none of the others.
Count = Literal["ok", "changed", "skipped", "failed", "unreachable", "rescued", "ignored"]
COUNTS: tuple[Count, ...] = (*STATUSES, "rescued", "ignored")
Verified = Literal["size", "sha256", "readback"]
EntryType = Literal["file", "directory", "link", "other"]
EXIT_BUG = 1
# Of the old files that a tree's copy has kept, so many are named.
MAX_BACKUPS_TOLD = 100


class Entry(NamedTuple):
    """What a server tells of one path; None for what it does not tell. `target` is where a link leads, as it says."""

    path: str
    type: EntryType
    size_bytes: int | None
    permissions: int | None
    modified_at_seconds: int | None
    target: str | None = None

    @property
    def modified_at(self) -> datetime | None:
        """When it was last written, UTC; None also for a moment that is on no calendar."""
        return moment(self.modified_at_seconds)

    def facts(self) -> dict[str, Any]:
        """The entry as the connector's output has it."""
        facts = {
            "path": self.path,
            "type": self.type,
            "size_bytes": self.size_bytes,
            "permissions": format_permissions(self.permissions),
            "modified_at": format_moment(self.modified_at_seconds),
        }
        return facts if self.type != "link" else {**facts, "target": self.target}


class ForetoldEntry(Entry):
    """With --check: an entry of what an earlier step would have made. What it lacks, only the play will show."""

    __slots__ = ()


ChangeAction = Literal["create", "replace", "chmod", "link", "mkdir", "rename", "delete"]


class Change(NamedTuple):
    """One thing that is changed on the destination's side, or with --check would be.

    `path` is relative to the destination of a tree, and as the step has it otherwise; a folder's ends in a slash. `why`
    is what was found; `diff` a unified diff, of small text files and only where it is asked for.
    """

    action: ChangeAction
    path: str
    why: str = ""
    size_bytes: int | None = None
    diff: str = ""

    def facts(self) -> dict[str, Any]:
        """The change as the report has it."""
        return {"action": self.action, "path": self.path, "why": self.why, "size_bytes": self.size_bytes}


def format_permissions(permissions: int | None) -> str | None:
    """`0644`."""
    return None if permissions is None else f"{permissions:04o}"


def format_moment(seconds: int | None) -> str | None:
    """Seconds since 1970 as ISO 8601 writes them, UTC; None for a moment that is on no calendar."""
    at = moment(seconds)
    return None if at is None else at.isoformat(timespec="seconds")


def moment(seconds: int | None) -> datetime | None:
    """Seconds since 1970 on the calendar; None for a moment that is not on it: before the year 1, or after 9999."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class Output(Protocol):
    """What the outputs of all modes have in common.

    `size_bytes` is the size of what the step is about, if it is one thing. `entries` is what there is to list. `proof`
    says how a copy was verified. `skipped` is true for what was left alone because the step says so, or, with `is_unknown`,
    for what --check cannot foretell: then there is no result.
    """

    @property
    def message(self) -> str: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def is_unknown(self) -> bool: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def bytes_transferred(self) -> int: ...
    @property
    def proof(self) -> str: ...
    @property
    def entries(self) -> tuple[Entry, ...]: ...

    @property
    def is_change(self) -> bool:
        """Whether anything was, or with --check would be, changed."""
        ...

    def facts(self) -> dict[str, Any]:
        """The connector's documented output: `result` of the report."""
        ...


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The connector's documented output for a copy, and how the runner got there.

    `verified` is the strongest check the copy passed, None when nothing was copied or the server answers no question
    about it. `warnings` are things the user asked for that this server could not give.
    """

    source: str
    destination: str
    size_bytes: int
    files_changed: int
    bytes_transferred: int
    message: str
    files_total: int = 1
    resumed_at_bytes: int = 0
    verified: Verified | None = None
    sha256: str | None = None
    atomic: bool | None = None
    # Whether what was copied was synced to disk before it was published. Told only where the step asks for it.
    asks_durable: bool = False
    durable: bool | None = None
    skipped: bool = False
    is_unknown: ClassVar[bool] = False
    # Of a folder: what else was made, changed or removed.
    folders_changed: int = 0
    links_changed: int = 0
    removed: int = 0
    warnings: tuple[str, ...] = ()
    # The names under which old files were kept: a single file's, or some of a folder's and how many there are.
    backup: str | None = None
    backups: tuple[str, ...] = ()
    backups_total: int = 0

    entries = ()

    @property
    def is_change(self) -> bool:
        """Whether anything was, or with --check would be, changed."""
        return bool(self.files_changed or self.folders_changed or self.links_changed or self.removed)

    @property
    def proof(self) -> str:
        """How the copy was verified, and the hash if one was computed."""
        return f"{self.verified} {self.sha256}" if self.verified and self.sha256 else self.verified or ""

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        facts: dict[str, Any] = {"source": self.source} if self.source else {}
        facts |= {
            "destination": self.destination,
            "size_bytes": self.size_bytes,
            "files_total": self.files_total,
            "files_changed": self.files_changed,
            "bytes_transferred": self.bytes_transferred,
            "folders_changed": self.folders_changed,
            "links_changed": self.links_changed,
            "removed": self.removed,
            "resumed_at_bytes": self.resumed_at_bytes,
            "verified": self.verified,
            "sha256": self.sha256,
            "atomic": self.atomic,
            "backup": self.backup,
            "backups": list(self.backups),
            "backups_total": self.backups_total,
            "warnings": list(self.warnings),
        }
        return {**facts, "durable": self.durable} if self.asks_durable else facts


class StepFailure(NamedTuple):
    """An error as the report tells it: the class's name, the message, the way out.

    `problems` are the values of the playbook that turned out to be wrong when the step's turn came.
    """

    type: str
    message: str
    hint: str
    exit_code: int
    problems: tuple[Problem, ...] = ()


class StepResult(NamedTuple):
    """The end of one step on one host, or of one item of its loop."""

    step: Step | ControlStep
    status: Status
    started_at: datetime
    duration_seconds: float
    message: str
    attempts: int = 1
    output: Output | None = None
    # What was changed, None if nobody wants to know: the first of it, and how many there were.
    changes: tuple[Change, ...] | None = None
    changes_total: int = 0
    failure: StepFailure | None = None
    # What is weak about the connections that it used.
    warnings: tuple[str, ...] = ()
    # What is shown of the item of a loop that it was done with; None outside of loops.
    item: str | None = None
    # Whether --check has only foretold it.
    is_foretold: bool = False
    # Of a failure: whether the play went on because the step, or a `rescue`, says so.
    is_ignored: bool = False
    is_rescued: bool = False

    @property
    def counts_as(self) -> Count:
        """What it counts as in the recap."""
        return "rescued" if self.is_rescued else "ignored" if self.is_ignored else self.status

    @property
    def lasting_failure(self) -> StepFailure | None:
        """The failure, unless the play was told to go on behind it."""
        return None if self.is_rescued or self.is_ignored else self.failure


class SkippedItems(Sequence[StepResult]):
    """Items of one loop, one behind the other, that its condition leaves out.

    There may be very many of them: what came of each is made when somebody asks for it, by `make`.
    """

    __slots__ = ("_count", "_make", "step")

    def __init__(self, step: Step | ControlStep, count: int, make: Callable[[int], StepResult]) -> None:
        self.step = step
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        positions = range(self._count)[index]
        return tuple(map(self._make, positions)) if isinstance(positions, range) else self._make(positions)

    def __iter__(self) -> Iterator[StepResult]:
        return map(self._make, range(self._count))


class StepResults(Sequence[StepResult]):
    """What came of the steps of a play, in order. In `parts`, items that were skipped one behind the other are one."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[StepResult | SkippedItems] = ()) -> None:
        self.parts = list(parts)

    def add(self, part: StepResult | SkippedItems) -> None:
        """Something more has ended."""
        self.parts.append(part)

    @property
    def lasting_failures(self) -> list[StepFailure]:
        """The failures that the play was not told to go on behind."""
        ended = (part.lasting_failure for part in self.parts if isinstance(part, StepResult))
        return [failure for failure in ended if failure is not None]

    def __len__(self) -> int:
        return sum(1 if isinstance(part, StepResult) else len(part) for part in self.parts)

    def __iter__(self) -> Iterator[StepResult]:
        for part in self.parts:
            if isinstance(part, StepResult):
                yield part
            else:
                yield from part

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]


class PlayResult(NamedTuple):
    """The end of a play: every step's result, in order, and the exit code they add up to."""

    file: str
    name: str
    is_check: bool
    started_at: datetime
    finished_at: datetime
    duration_seconds: float
    exit_code: int
    interrupted_by: int | None = None
    steps: StepResults | tuple[StepResult, ...] = ()
    # What went wrong outside of the steps, an observer's bug; they may all have ended well.
    failure: StepFailure | None = None

    @property
    def status(self) -> Literal["ok", "failed", "interrupted"]:
        if self.interrupted_by is not None:
            return "interrupted"
        return "ok" if self.exit_code == 0 else "failed"

    @property
    def recap(self) -> dict[str, dict[Count, int]]:
        """How many steps of each host ended how; hosts in the order of their first step."""
        counts: dict[str, dict[Count, int]] = {}
        for part in self.steps.parts if isinstance(self.steps, StepResults) else self.steps:
            host = counts.setdefault(part.step.host_label, dict.fromkeys(COUNTS, 0))
            if isinstance(part, StepResult):
                host[part.counts_as] += 1
            else:
                host["skipped"] += len(part)
        return counts


def combine_exit_codes(failures: Iterable[StepFailure | None]) -> int:
    """The exit code of several steps: 0 if none of them failed, else as `combine_codes` says."""
    return combine_codes(failure.exit_code for failure in failures if failure is not None)


def combine_codes(codes: Iterable[int]) -> int:
    """0 if all are; 1 if a bug is among them; the one that all failures share; 2 for failures of several kinds."""
    failures = set(codes) - {0}
    if not failures:
        return 0
    if EXIT_BUG in failures:
        return EXIT_BUG
    return failures.pop() if len(failures) == 1 else 2
