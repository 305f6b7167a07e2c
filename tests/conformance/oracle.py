"""What a play may leave: one judgement, which knows nothing of how the runner works.

It sees both sides as they were before and as they are afterwards, what was asked for, and what the runner said of it: exit
code, report, output. Right bytes and attributes with a true report, or a clear refusal with nothing lost and nothing stray.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jsonschema

from tests.conftest import Outcome

FileKind = Literal["file", "directory", "link", "other"]

_PARTIAL = re.compile(r"\..+\.runner-[0-9a-f]{8}-[0-9a-f]{16}.*\.part", re.DOTALL)
_BACKUP = re.compile(r".+\.\d{4}-\d\d-\d\dT\d{6}Z(\.\d+)?~", re.DOTALL)
_OWN = re.compile(r"\..+\.runner-[0-9a-f]{8}.*\.(tmp|part)(\..*)?", re.DOTALL)
_SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "report.schema.json").read_text(encoding="utf-8"))
_REPORT_SCHEMA = jsonschema.Draft202012Validator(_SCHEMA)
# What a play over a line that works may end with; 4 is a host that cannot be reached or breaks off.
_EXIT_CODES = (0, 2, 4, 5, 6)
_LONGEST_MESSAGE = 1500
_SIDES = ("local", "remote")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path: a file's content or a link's target, the nine bits, and the time in whole seconds."""

    kind: FileKind
    content: bytes = b""
    mode: int | None = None
    modified: int | None = None

    def is_same(self, other: Entry | None) -> bool:
        """Whether kind and content are the same."""
        return other is not None and (self.kind, self.content) == (other.kind, other.content)


Snapshot = Mapping[str, Entry]


class Sides(NamedTuple):
    """Both sides at one moment. Paths are relative to the play's own directory on that side."""

    local: Snapshot
    remote: Snapshot


def look(folder: Path) -> dict[str, Entry]:
    """Everything below a directory, links not followed."""
    found: dict[str, Entry] = {}
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(folder)))] = _entry(path)
    return found


def _entry(path: bytes) -> Entry:
    status = os.lstat(path)
    mode, modified = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        return Entry("link", os.readlink(path))
    if stat.S_ISDIR(status.st_mode):
        return Entry("directory", b"", mode, modified)
    if not stat.S_ISREG(status.st_mode):
        return Entry("other")
    with open(path, "rb") as file:
        return Entry("file", file.read(), mode, modified)


@dataclass(frozen=True, slots=True)
class Promise:
    """What a play was asked for.

    `wanted` says of each path at the destination that is to change what is to be there: None for nothing. A mode or a time
    of None is one that nobody asked for. With `demands_mode` the modes were given with `permissions`.
    """

    side: Literal["local", "remote"]
    wanted: Mapping[str, Entry | None]
    is_copy: bool = True
    demands_mode: bool = False
    verify: Literal["auto", "checksum", "size", "none"] = "auto"
    backup: bool = False
    atomic: bool = True
    is_check: bool = False
    listed: tuple[str, ...] | None = None
    # What is to be in the result of a play that only reads.
    read: str | None = None
    # Paths of the source that are the server's to remove (mailboxes).
    may_vanish: frozenset[str] = frozenset()


class Violation(NamedTuple):
    """One thing that is not as it must be. The kinds are what faults are grouped by."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Everything there is to judge."""

    promise: Promise
    before: Sides
    after: Sides
    outcome: Outcome
    seconds: float = 0.0
    limit_seconds: float = 60.0

    @property
    def step(self) -> dict[str, Any]:
        """What is reported of the step; of the items of a loop, of all of them together."""
        steps: list[dict[str, Any]] = self.outcome.report.get("steps") or [{}]
        return steps[0] if len(steps) == 1 else _sum_up(steps)

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.step.get("result") or {}
        return result

    @property
    def warnings(self) -> str:
        return "\n".join(self.result.get("warnings", []))

    @property
    def is_good(self) -> bool:
        """Whether the play says that all is as it was asked for."""
        return self.outcome.exit_code == 0 and self.step.get("status") in ("ok", "changed")

    @property
    def said(self) -> str:
        """All that was said, as one text."""
        return json.dumps(self.outcome.report, ensure_ascii=False) + self.outcome.output

    def names(self, path: str) -> bool:
        """Whether what was said names a path's last part."""
        name = os.path.basename(path)
        return name in self.said or json.dumps(name)[1:-1] in self.said


def _sum_up(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The items of a loop as if one step had copied all of it."""
    failed = next((step for step in steps if step.get("error")), None)
    results = [step["result"] for step in steps if step.get("result")]
    proofs = [result.get("verified") for result in results if result.get("files_changed")]
    whole = {
        "files_changed": sum(result.get("files_changed", 0) for result in results),
        "warnings": [warning for result in results for warning in result.get("warnings", [])],
        "backups": [result["backup"] for result in results if result.get("backup")],
        "verified": None if None in proofs or not proofs else proofs[0],
    }
    status = "changed" if any(step.get("status") == "changed" for step in steps) else steps[0].get("status")
    return {**(failed or {"status": status, "error": None, "message": ""}), "result": whole}


def judge(ending: Ending) -> list[Violation]:
    """Everything about an ending that is not as it must be; nothing if all is well."""
    checks = (_judge_words, _judge_time, _judge_source, _judge_destination, _judge_attributes, _judge_report)
    return [violation for check in checks for violation in check(ending)]


def _judge_time(ending: Ending) -> Iterator[Violation]:
    if ending.seconds > ending.limit_seconds:
        yield Violation("hang", f"took {ending.seconds:.1f} s, expected {ending.limit_seconds:.0f} s at most")


def _judge_words(ending: Ending) -> Iterator[Violation]:
    """The report is valid and says what the exit code says; a failure is explained; nothing crashed."""
    outcome, step = ending.outcome, ending.step
    if "Traceback" in outcome.output or "InternalError" in ending.said:
        yield Violation("traceback", outcome.output[-1500:])
        return
    if "\x1b" in outcome.output:
        yield Violation("escape", "an escape character was printed")
    if not outcome.report or not step:
        yield Violation("no-report", outcome.output)
        return
    wrong = next(_REPORT_SCHEMA.iter_errors(outcome.report), None)
    if wrong is not None:
        yield Violation("bad-report", f"{wrong.json_path}: {wrong.message[:300]}")
    if outcome.report.get("exit_code") != outcome.exit_code or outcome.exit_code not in _EXIT_CODES:
        yield Violation("exit-code", f"{outcome.exit_code}; the report says {outcome.report.get('exit_code')}")
    yield from _judge_error(outcome.exit_code, step)


def _judge_error(exit_code: int, step: dict[str, Any]) -> Iterator[Violation]:
    status, error = step.get("status"), step.get("error")
    expected = ("ok", "changed", "skipped") if exit_code == 0 else ("unreachable",) if exit_code == 4 else ("failed",)
    if status not in expected:
        yield Violation("exit-code", f"{exit_code} for a step that is {status}")
    if (error is None) != (exit_code == 0):
        yield Violation("no-error", f"exit code {exit_code}, error {error}")
    elif error is not None:
        if not error.get("message") or len(error["message"]) > _LONGEST_MESSAGE:
            yield Violation("no-message", f"{error}")
        if not error.get("hint"):
            yield Violation("no-hint", error.get("message", ""))


def _judge_source(ending: Ending) -> Iterator[Violation]:
    """The other side is as it was, attributes included."""
    for name, before, after in zip(_SIDES, ending.before, ending.after, strict=True):
        if name == ending.promise.side:
            continue
        for path in sorted(before.keys() | after.keys()):
            old, now = _without_folder_time(before.get(path)), _without_folder_time(after.get(path))
            if old == now or (now is None and path in ending.promise.may_vanish):
                continue
            yield Violation("source", f"{name} {path!r}: {_tell(old)} became {_tell(now)}")


def _without_folder_time(entry: Entry | None) -> Entry | None:
    return replace(entry, modified=None) if entry is not None and entry.kind == "directory" else entry


def _judge_destination(ending: Ending) -> Iterator[Violation]:
    """Each path is as it was or as it is to be, and as it is to be if the play says so."""
    promise = ending.promise
    before, after = _destination(ending)
    for path in sorted(before.keys() | after.keys() | promise.wanted.keys()):
        old, now = before.get(path), after.get(path)
        new = old if promise.is_check else promise.wanted.get(path, old)
        if _is(now, new):
            continue
        is_old = _is(now, old)
        if is_old and ending.is_good:
            yield Violation(
                "false-ok", f"{path!r} is {_tell(now)}, not {_tell(new)}, and the play says {_status(ending)}"
            )
        elif is_old:
            continue
        elif old is None and new is None and now is not None:
            yield from _judge_stray(ending, path, now)
        elif now is None:
            yield from _judge_loss(ending, path, old, new)
        elif promise.atomic or ending.is_good:
            kind = "false-ok" if ending.is_good else "torn"
            yield Violation(kind, f"{path!r} is {_tell(now)}: neither {_tell(old)} nor {_tell(new)}; {_status(ending)}")


def _destination(ending: Ending) -> tuple[Snapshot, Snapshot]:
    is_local = ending.promise.side == "local"
    return (ending.before.local, ending.after.local) if is_local else (ending.before.remote, ending.after.remote)


def _is(now: Entry | None, other: Entry | None) -> bool:
    return now is other is None or (now is not None and now.is_same(other))


def _judge_stray(ending: Ending, path: str, now: Entry) -> Iterator[Violation]:
    """What nobody asked for is named; a partial file may be kept to go on from when the line breaks off."""
    if ending.names(path):
        return
    is_cut_off = ending.outcome.exit_code == 4
    if is_cut_off and _PARTIAL.fullmatch(os.path.basename(path)):
        return
    is_own = _OWN.fullmatch(os.path.basename(path)) is not None
    kind = "stray-after-cut" if is_cut_off and is_own else "stray-backup" if _BACKUP.fullmatch(path) else "stray"
    yield Violation(kind, f"{path!r}, {_tell(now)}, is not named")


def _judge_loss(ending: Ending, path: str, old: Entry | None, new: Entry | None) -> Iterator[Violation]:
    """What is gone is kept under another name, which was told."""
    _, after = _destination(ending)
    if old is None or _OWN.fullmatch(os.path.basename(path)):
        # What was to be made is not there and was not before, or what an earlier play has left was used or cleared away.
        return
    kept = [other for other, entry in after.items() if entry.is_same(old) and ending.names(other)]
    if ending.is_good or not kept:
        yield Violation("lost", f"{path!r} is gone: {_tell(old)}, to be {_tell(new)}; the play says {_status(ending)}")


def _judge_attributes(ending: Ending) -> Iterator[Violation]:
    """Modes and times are what was asked for, or a warning says that they are not; never if they were demanded."""
    if not ending.is_good or ending.promise.is_check:
        return
    _, after = _destination(ending)
    for path, new in sorted(ending.promise.wanted.items()):
        now = after.get(path)
        if new is None or now is None or now.kind != new.kind:
            continue
        if None not in (new.mode, now.mode) and new.mode != now.mode:
            is_warned = re.search(r"permission|mode", ending.warnings) is not None
            if ending.promise.demands_mode or not is_warned:
                yield Violation(
                    "mode", f"{path!r} has mode {now.mode:o}, not {new.mode:o}; warnings: {ending.warnings}"
                )
        # Directories are made while the play begins: a second that has just passed is no other time.
        slack_seconds = 2 if now.kind == "directory" else 0
        is_off = (
            None not in (new.modified, now.modified) and abs((new.modified or 0) - (now.modified or 0)) > slack_seconds
        )
        if is_off and "time" not in ending.warnings:
            yield Violation("time", f"{path!r} has time {now.modified}, not {new.modified}; no warning")


def _judge_report(ending: Ending) -> Iterator[Violation]:
    if not ending.step:
        return
    if ending.promise.listed is not None and ending.is_good:
        yield from _judge_listing(ending)
    if ending.promise.read is not None and ending.is_good and ending.result.get("content") != ending.promise.read:
        yield Violation("read", f"{ending.result.get('content')!r:.100}, not {ending.promise.read!r:.100}")
    if ending.promise.is_copy:
        yield from _judge_backups(ending)
        if ending.is_good and not ending.promise.is_check:
            yield from _judge_counts(ending)
            yield from _judge_proof(ending)
    elif ending.is_good and "removed" in ending.result:
        yield from _judge_removed(ending)


def _changed_files(ending: Ending) -> list[str]:
    """The files that are other than they were, in content or attributes."""
    before, after = _destination(ending)
    wanted = ending.promise.wanted
    return [
        path
        for path, new in wanted.items()
        if new is not None and new.kind == "file" and before.get(path) != after.get(path)
    ]


def _judge_counts(ending: Ending) -> Iterator[Violation]:
    changed, said = _changed_files(ending), ending.result.get("files_changed")
    total = sum(1 for new in ending.promise.wanted.values() if new is not None and new.kind == "file")
    if said is None or not len(changed) <= said <= total:
        yield Violation("files_changed", f"{said} of {total}; {len(changed)} are other than before")
    if ending.step["status"] == "ok" and changed:
        yield Violation("untrue-ok", f"{changed} changed, and the play says that nothing had to")
    if "removed" in ending.result:
        yield from _judge_removed(ending)


def _judge_removed(ending: Ending) -> Iterator[Violation]:
    before, after = _destination(ending)
    gone = [path for path in before if path not in after and ending.promise.wanted.get(path, before[path]) is None]
    if ending.result["removed"] != len(gone) and not ending.promise.is_check:
        yield Violation("removed", f"says {ending.result['removed']}, and {gone} are gone")


def _judge_proof(ending: Ending) -> Iterator[Violation]:
    before, after = _destination(ending)
    verified = ending.result.get("verified")
    has_content = any(not _is(after.get(path), before.get(path)) for path in _changed_files(ending))
    if has_content and verified is None and ending.promise.verify in ("auto", "checksum"):
        yield Violation("verified", "null although something was copied")
    if has_content and ending.promise.verify == "checksum" and verified not in ("sha256", "readback"):
        yield Violation("verified", f"{verified}, and a checksum was asked for")


def _judge_backups(ending: Ending) -> Iterator[Violation]:
    """A backup that is told of is there and is the old file; where one was asked for, each replaced file has one."""
    before, after = _destination(ending)
    told = [*ending.result.get("backups", []), *([ending.result["backup"]] if ending.result.get("backup") else [])]
    contents = [_find(after, path) for path in told]
    if ending.promise.is_check:
        return
    for path, kept in zip(told, contents, strict=True):
        if kept is None or not any(kept.is_same(old) for old in before.values()):
            yield Violation("backup", f"{path!r} is told to be kept, and is {_tell(kept)}")
    if not (ending.promise.backup and ending.is_good):
        return
    for path, new in ending.promise.wanted.items():
        old, now = before.get(path), after.get(path)
        is_replaced = old is not None and old.kind == "file" and new is not None and new.kind == "file"
        if is_replaced and not _is(now, old) and not any(_is(kept, old) for kept in contents):
            yield Violation("backup", f"{path!r} was replaced and is kept nowhere that is told")


def _find(after: Snapshot, told: str) -> Entry | None:
    """What is at a path that the report names: it ends in one of ours."""
    return next((entry for path, entry in after.items() if told == path or told.endswith("/" + path)), None)


def _judge_listing(ending: Ending) -> Iterator[Violation]:
    _, after = _destination(ending)
    told = {os.path.basename(each["path"]): each for each in ending.result.get("entries", [])}
    expected = ending.promise.listed or ()
    if sorted(told) != sorted(map(os.path.basename, expected)):
        yield Violation("listing", f"{sorted(told)}, not {sorted(expected)}")
        return
    for path in expected:
        entry, said = after[path], told[os.path.basename(path)]
        if said["type"] != entry.kind:
            yield Violation("listing", f"{path!r} is a {entry.kind}, and is told to be a {said['type']}")
        if entry.kind == "file" and said["size_bytes"] not in (None, len(entry.content)):
            yield Violation("listing", f"{path!r} has {len(entry.content)} bytes, not {said['size_bytes']}")


def _status(ending: Ending) -> str:
    error = ending.step.get("error") or {}
    return f"{ending.step.get('status')}: {error.get('message') or ending.step.get('message')}"


def _tell(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    if entry.kind == "directory":
        return f"a directory {entry.mode or 0:o}"
    content = entry.content if len(entry.content) < 40 else entry.content[:20] + b"..."
    return f"a {entry.kind} of {len(entry.content)} bytes {content!r}"
