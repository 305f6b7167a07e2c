"""What a copy of a tree adds up to: its counts, its failures, and the result or the error they make."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.errors import SafetyLimitHeld, StepError, TreeIncomplete
from runner.plan import CopyDirectory
from runner.results import MAX_BACKUPS_TOLD, CopyResult, Verified
from runner.transfer.failures import join_hints, tell_failures
from runner.transfer.left_behind import LeftBehind
from runner.transfer.leftovers import describe_leftovers

MAX_FAILURES_KEPT = 1000
MAX_FAILURES_TOLD = 5
MAX_WARNINGS = 20
_STRENGTH: tuple[Verified, ...] = ("size", "readback", "sha256")


@dataclass(slots=True)
class Tally:
    """What the walk has found and done so far, and what it could not do."""

    copy: CopyDirectory
    is_check: bool
    left: LeftBehind = field(default_factory=LeftBehind)

    files: int = 0
    bytes: int = 0
    files_changed: int = 0
    files_right: int = 0
    bytes_changed: int = 0
    folders_changed: int = 0
    links_changed: int = 0
    links_left_out: int = 0
    left_alone: int = 0
    removed: int = 0
    verified: Verified | None = None
    is_synced: bool | None = None
    # Whether everything that was replaced was replaced in one step.
    are_in_one_step: bool = True
    # Temporary files of earlier plays.
    cleared: int = 0
    backups_total: int = 0
    backups: list[str] = field(default_factory=list)
    failures: list[tuple[str, StepError]] = field(default_factory=list)
    failure_count: int = 0
    warnings: list[str] = field(default_factory=list)

    def fail(self, path: str, error: StepError) -> None:
        """Note what could not be done. What ends the session is raised by the batch instead."""
        self.failure_count += 1
        # The message has room for some failures only.
        self.left.write(*error.left_behind)
        if len(self.failures) < MAX_FAILURES_KEPT:
            self.failures.append((path, error))

    def note_verified(self, verified: Verified | None) -> None:
        """Note how far one file's copy was proven: all are as good as the least."""
        if verified is None or verified == self.verified:
            return
        if self.verified is None or _STRENGTH.index(verified) < _STRENGTH.index(self.verified):
            self.verified = verified

    def note_synced(self, is_synced: bool | None) -> None:
        """Note whether one file was synced before it was published: all are, or not all."""
        if is_synced is not None:
            self.is_synced = is_synced and self.is_synced is not False

    def warn(self, warning: str) -> None:
        """Note something, once."""
        if warning not in self.warnings and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(warning)

    def keep(self, backup: str | None) -> None:
        """Note where a file that was replaced is kept, if it is."""
        if backup is not None:
            self.backups_total += 1
            if not self.is_check:
                self.left.keep(backup)
            if len(self.backups) < MAX_BACKUPS_TOLD:
                self.backups.append(backup)

    def conclude(self, refusal: SafetyLimitHeld | None) -> CopyResult:
        """The result. Raises `TreeIncomplete` or the refusal if anything was left undone."""
        if self.failure_count:
            raise self._incomplete()
        if refusal is not None:
            refusal.message = f"{refusal.message}; {self.describe()}"
            raise refusal
        return CopyResult(
            source=self.copy.source,
            destination=self.copy.destination,
            size_bytes=self.bytes,
            files_changed=self.files_changed,
            bytes_transferred=0 if self.is_check else self.bytes_changed,
            message=self.describe(),
            files_total=self.files,
            verified=self.verified,
            atomic=self.copy.atomic and self.are_in_one_step if self.files_changed else None,
            asks_durable=self.copy.durable,
            durable=self.is_synced,
            folders_changed=self.folders_changed,
            links_changed=self.links_changed,
            removed=self.removed,
            backups=tuple(self.backups),
            backups_total=self.backups_total,
            warnings=tuple(self.warnings),
        )

    def _incomplete(self) -> TreeIncomplete:
        # By name, whatever was met first: --check looks at some of it sooner than the copy.
        failures = sorted(self.failures, key=lambda failure: failure[0])
        told = tell_failures(failures, self.failure_count)
        codes = {error.exit_code for _, error in self.failures}
        return TreeIncomplete(
            f"{self.failure_count:,} of what is in {self.copy.source!r} could not be copied: {told}"
            f". The rest is done: {self.describe()}",
            hint=join_hints(failures, "Play again when it is fixed: what is right already is not copied again."),
            exit_code=codes.pop() if len(codes) == 1 else 2,
        )

    def describe(self) -> str:
        """The counts in words: `copied 3 of 5 files, made 1 link`."""
        parts = [
            (self.files_changed, "copied", "copy", f"{self.files_changed:,} of {_count(self.files, 'file')}"),
            (self.links_changed, "made", "make", _count(self.links_changed, "link")),
            (self.folders_changed, "changed", "change", _count(self.folders_changed, "folder")),
            (self.removed, "removed", "remove", f"{self.removed:,}"),
            (self.backups_total, "kept", "keep", _count(self.backups_total, "old file")),
            (self.links_left_out, "left out", "leave out", _count(self.links_left_out, "link")),
            (self.left_alone, "left alone", "leave alone", f"{_count(self.left_alone, 'file')} (if_exists: skip)"),
        ]
        told = [f"{verb if self.is_check else done} {what}" for count, done, verb, what in parts if count]
        done = ("would " if self.is_check else "") + ", ".join(told) if told else self._nothing_to_do()
        return f"{done}, {describe_leftovers(self.cleared)}" if self.cleared else done

    def _nothing_to_do(self) -> str:
        return f"{_count(self.files, 'file')}, nothing to do"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
