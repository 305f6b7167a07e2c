"""The judgement itself: it accepts what is right, and objects to every wrong ending that is made up here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.oracle import Ending, Entry, Promise, Sides, judge, look
from tests.conftest import Outcome

NEW, OLD, PART = b"new content", b"old", b"new con"
SOURCE, PATH = "out/a.csv", "in/a.csv"
BACKUP = "in/a.csv.2026-11-24T120501Z~"
TEMPORARY = "in/.a.csv.runner-1f0c77ab.5d20e8c1.1a2f.6747a1c53f9c02d1.tmp"
PARTIAL = "in/.a.csv.runner-1f0c77ab-9a8b7c6d5e4f3a2b.part"
FOLDERS = {"out": Entry("directory", b"", 0o755, 1)}
SENT = Entry("file", NEW, 0o640, 50)
WAS = Entry("file", OLD, 0o600, 10)


def report(**changes: Any) -> dict[str, Any]:
    """A report that the schema accepts, on one step that has copied one file."""
    result = {"files_total": 1, "files_changed": 1, "verified": "size", "backup": None, "warnings": []}
    result.update(changes.pop("result", {}))
    step = {
        "index": 1, "name": "copy", "connection": "h:22", "host": "h", "port": 22, "connector_type": "SFTP",
        "mode_name": "copy_file_from_engine", "item": None, "status": "changed", "attempts": 1,
        "started_at": "2026-11-24T12:05:01Z", "duration_seconds": 0.1, "message": "copied",
        "location": {"file": "play.yaml", "line": 1, "column": 1}, "result": result, "error": None,
        **changes,
    }  # fmt: skip
    return {
        "schema_version": "1", "runner_version": "1", "playbook": "play.yaml", "check": False, "status": "ok",
        "exit_code": 0, "started_at": "2026-11-24T12:05:01Z", "finished_at": "2026-11-24T12:05:01Z",
        "duration_seconds": 0.1, "steps": [step], "recap": {},
    }  # fmt: skip


def refusal(exit_code: int = 2, message: str = "cannot write 'in/a.csv'", hint: str = "Do so.") -> Outcome:
    """A play that failed clearly."""
    error = {"type": "FileRefused", "message": message, "hint": hint}
    status = "unreachable" if exit_code == 4 else "failed"
    whole = report(status=status, error=error, result={"files_changed": 0, "verified": None})
    return Outcome(exit_code, "", "", {**whole, "status": "failed", "exit_code": exit_code})


def success(**changes: Any) -> Outcome:
    return Outcome(0, "", "", report(**changes))


def ending(outcome: Outcome, after: dict[str, Entry], **changes: Any) -> Ending:
    """An upload of one file over an older one, with this on the server afterwards."""
    local = {**FOLDERS, SOURCE: SENT}
    promise = Promise("remote", {PATH: SENT}, **changes.pop("promise", {}))
    before = Sides(local, {PATH: WAS})
    whole = Ending(promise, before, Sides(local, after), outcome, 1.0, 10.0)
    return dataclasses.replace(whole, **changes)


def kinds(found: Ending) -> set[str]:
    return {violation.kind for violation in judge(found)}


RIGHT: dict[str, Ending] = {
    "copied": ending(success(), {PATH: SENT}),
    "refused": ending(refusal(), {PATH: WAS}),
    "refused although it is in place": ending(refusal(), {PATH: SENT}),
    "a temporary file is named": ending(refusal(message=f"{TEMPORARY!r} stays"), {PATH: WAS, TEMPORARY: SENT}),
    "a partial file to go on from": ending(refusal(4), {PATH: WAS, PARTIAL: WAS}),
    "the old file is kept as told": ending(refusal(message=f"The old file is kept as {BACKUP!r}"), {BACKUP: WAS}),
    "a backup": ending(
        success(result={"backup": f"/srv/{BACKUP}"}), {PATH: SENT, BACKUP: WAS}, promise={"backup": True}
    ),
    "a mode that was warned of": ending(
        success(result={"warnings": ["permissions stay 0600"]}), {PATH: dataclasses.replace(SENT, mode=0o600)}
    ),
    "a part, in place, and said so": ending(
        refusal(), {PATH: dataclasses.replace(SENT, content=PART)}, promise={"atomic": False}
    ),
    "skipped": ending(success(status="skipped", result={"files_changed": 0, "verified": None}), {PATH: WAS}),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_accepted(name: str) -> None:
    assert judge(RIGHT[name]) == []


def changed_source(content: bytes) -> Ending:
    whole = ending(success(), {PATH: SENT})
    local = {**FOLDERS, SOURCE: dataclasses.replace(SENT, content=content)}
    return dataclasses.replace(whole, after=Sides(local, whole.after.remote))


WRONG: dict[str, tuple[str, Ending]] = {
    "nothing was copied": ("false-ok", ending(success(), {PATH: WAS})),
    "nothing was copied, and it is said to be right": ("false-ok", ending(success(status="ok"), {PATH: WAS})),
    "a part was copied": ("false-ok", ending(success(), {PATH: dataclasses.replace(SENT, content=PART)})),
    "a part, in place": (
        "false-ok",
        ending(success(), {PATH: dataclasses.replace(SENT, content=PART)}, promise={"atomic": False}),
    ),
    "other bytes of the same size": ("false-ok", ending(success(), {PATH: dataclasses.replace(SENT, content=NEW[::-1])})),
    "a failure leaves a part": ("torn", ending(refusal(), {PATH: dataclasses.replace(SENT, content=PART)})),
    "a failure leaves a directory": ("torn", ending(refusal(), {PATH: Entry("directory")})),
    "a skipped file is another": (
        "torn",
        ending(success(status="skipped"), {PATH: dataclasses.replace(SENT, content=PART)}),
    ),
    "the old file is gone": ("lost", ending(refusal(), {})),
    "the old file is gone, and all is said to be well": ("lost", ending(success(), {})),
    "the old file is kept in secret": ("lost", ending(refusal(), {BACKUP: WAS})),
    "something else is kept as told": (
        "lost",
        ending(refusal(message=f"The old file is kept as {BACKUP!r}"), {BACKUP: SENT}),
    ),
    "another file is gone": (
        "lost",
        ending(success(), {PATH: SENT}, before=Sides({**FOLDERS, SOURCE: SENT}, {PATH: WAS, "in/b.csv": WAS})),
    ),
    "a temporary file stays": ("stray", ending(refusal(), {PATH: WAS, TEMPORARY: SENT})),
    "a temporary file stays after success": ("stray", ending(success(), {PATH: SENT, TEMPORARY: SENT})),
    "a temporary file stays after a cut": ("stray-after-cut", ending(refusal(4), {PATH: WAS, TEMPORARY: SENT})),
    "a partial file stays after a refusal": ("stray", ending(refusal(), {PATH: WAS, PARTIAL: WAS})),
    "a link in the login directory": ("stray", ending(success(), {PATH: SENT, "target": Entry("link", b"in/link")})),
    "a secret backup": ("stray-backup", ending(success(), {PATH: SENT, BACKUP: WAS})),
    "no backup": ("backup", ending(success(), {PATH: SENT}, promise={"backup": True})),
    "a backup that is told and not there": (
        "backup",
        ending(success(result={"backup": f"/srv/{BACKUP}"}), {PATH: SENT}, promise={"backup": True}),
    ),
    "a backup of the new file": (
        "backup",
        ending(success(result={"backup": f"/srv/{BACKUP}"}), {PATH: SENT, BACKUP: SENT}, promise={"backup": True}),
    ),
    "a changed source": ("source", changed_source(OLD)),
    "another mode": ("mode", ending(success(), {PATH: dataclasses.replace(SENT, mode=0o600)})),
    "another mode than was demanded": (
        "mode",
        ending(
            success(result={"warnings": ["permissions stay 0600"]}),
            {PATH: dataclasses.replace(SENT, mode=0o600)},
            promise={"demands_mode": True},
        ),
    ),
    "another time": ("time", ending(success(), {PATH: dataclasses.replace(SENT, modified=51)})),
    "a check that changes": ("false-ok", ending(success(), {PATH: SENT}, promise={"is_check": True})),
    "a count too low": ("files_changed", ending(success(result={"files_changed": 0}), {PATH: SENT})),
    "a count too high": ("files_changed", ending(success(result={"files_changed": 2}), {PATH: SENT})),
    "it had to be copied": ("untrue-ok", ending(success(status="ok"), {PATH: SENT})),
    "nothing was verified": ("verified", ending(success(result={"verified": None}), {PATH: SENT})),
    "a size in place of a checksum": ("verified", ending(success(), {PATH: SENT}, promise={"verify": "checksum"})),
    "more was removed than is gone": ("removed", ending(success(result={"removed": 1}), {PATH: SENT})),
    "a traceback": ("traceback", ending(Outcome(1, "", "Traceback (most recent call last):", {}), {PATH: WAS})),
    "no report": ("no-report", ending(Outcome(2, "", "", {}), {PATH: WAS})),
    "no hint": ("no-hint", ending(refusal(hint=""), {PATH: WAS})),
    "no message": ("no-message", ending(refusal(message=""), {PATH: WAS})),
    "a dump for a message": ("no-message", ending(refusal(message="x" * 5000), {PATH: WAS})),
    "another exit code in the report": ("exit-code", ending(Outcome(2, "", "", report()), {PATH: WAS})),
    "a failed step with exit code 0": (
        "exit-code",
        ending(Outcome(0, "", "", {**refusal().report, "exit_code": 0}), {PATH: WAS}),
    ),
    "a success with an error": ("no-error", ending(success(error={"type": "A", "message": "a", "hint": "a"}), {PATH: SENT})),
    "a report of another form": ("bad-report", ending(success(more=1), {PATH: SENT})),
    "an escape character": ("escape", ending(Outcome(0, "\x1b[31m", "", report()), {PATH: SENT})),
    "too late": ("hang", ending(success(), {PATH: SENT}, seconds=11.0)),
    "a listing that lacks a name": (
        "listing",
        ending(success(result={"entries": []}), {PATH: WAS}, promise={"listed": (PATH,)}),
    ),
    "a part of what was to be read": (
        "read",
        ending(success(status="ok", result={"content": "ol"}), {PATH: WAS}, promise={"read": "old", "is_copy": False}),
    ),
    "nothing of what was to be read": (
        "read",
        ending(success(status="ok"), {PATH: WAS}, promise={"read": "old", "is_copy": False}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_objected_to(name: str) -> None:
    kind, found = WRONG[name]
    assert kind in kinds(found)


def test_every_kind_of_objection_is_proven_here() -> None:
    """A new kind needs an ending that it objects to."""
    source = (Path(__file__).parent / "oracle.py").read_text(encoding="utf-8")
    written = {part.split('"')[1] for part in source.split("Violation(")[1:] if part.startswith('"')}
    assert written <= {kind for kind, _ in WRONG.values()}, written


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"other"),
        lambda path: path.chmod(0o600),
        lambda path: os.utime(path, (5, 5)),
        lambda path: path.unlink(),
        lambda path: (path.parent / "more").touch(),
        lambda path: (path.parent / "more").mkdir(),
        lambda path: (path.parent / "more").symlink_to("nowhere"),
    ],
)
def test_a_look_sees_every_change(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    path.chmod(0o644)
    before = look(tmp_path)
    assert look(tmp_path) == before

    damage(path)
    assert look(tmp_path) != before
