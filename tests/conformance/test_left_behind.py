"""Nothing stays without a word, and an OK is no proof: trials that show each kind, which a sample of the matrix may miss."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.conformance.cases import CASES_BY_NAME
from tests.conformance.plays import (
    NAME,
    OLD_SECONDS,
    PATIENT_SECONDS,
    Stage,
    content_of,
    copy_file,
    copy_tree,
    require_none,
    require_refusal,
    require_right,
    write,
)
from tests.conformance.served import Ask, ConformanceServer, Personality, extensions_without, refuse
from tests.conformance.trials import Dialect, list_trials, record, run
from tests.conftest import Runner
from tests.servers.raw_sftp import PERMISSION_DENIED, Execute, Kind

TRIALS: dict[str, tuple[str, ...]] = {
    "what calls itself OpenSSH is not believed": (
        "up-file|openssh|posix-rename|first|ignored",
        "up-file-backup|openssh|posix-rename|first|ignored",
        "up-file-checksum|openssh|posix-rename|every|ignored",
        "up-file-bare|openssh|RENAME|last|ignored",
        "up-tree|openssh|posix-rename|middle|ignored",
        "up-tree-retried|openssh|posix-rename|last|ignored",
        "up-tree-retried|openssh|RMDIR|first|ignored",
        "up-tree-durable|openssh|MKDIR|middle|ignored",
        "up-tree-backup|openssh|REMOVE|first|ignored",
        "remove|openssh|REMOVE|every|ignored",
        "remove-recursive|openssh|RMDIR|last|ignored",
    ),
    "nor is any other server": (
        "remove|other|REMOVE|first|ignored",
        "remove-recursive|other|RMDIR|last|ignored",
        "up-tree-backup|other|MKDIR|first|ignored",
        "up-tree-bare|other|RMDIR|first|ignored",
        "up-file-bare|other|RENAME|last|ignored",
        "up-file-bare-backup|other|RENAME|last|ignored",
    ),
    "an OPEN that is refused and has been done leaves nothing": (
        "up-file|openssh|OPEN|first|done-refused",
        "up-file-retried|openssh|OPEN|every|done-refused",
        "up-tree|other|OPEN|every|done-refused",
        "up-tree-bare-backup|openssh|OPEN|every|done-refused",
    ),
    "what stepped aside and cannot be removed is named": (
        "up-tree-bare|other|REMOVE|every|refused-4",
        "up-tree-bare-backup|other|REMOVE|last|ignored",
        "up-tree-retried|other|REMOVE|every|ignored",
        "up-tree-always|other|REMOVE|last|refused-4",
    ),
    "what a link was tried out with is named or removed": (
        "up-tree-always|other|SYMLINK|first|done-refused",
        "up-tree-new|other|SYMLINK|first|done-refused",
        "up-tree-always|other|SYMLINK|last|drop-after",
        "up-tree-always|other|RENAME|first|cut-before",
        "up-tree-always|other|REMOVE|middle|cut-after",
        "up-tree-always|other|LSTAT|first|drop-before",
    ),
    "what may be there under an improper name is not replaced": (
        "up-tree-skip|other|READDIR|every|absolute",
        "up-tree-skip|openssh|READDIR|every|absolute",
        "up-tree-bare-backup|openssh|READDIR|every|absolute",
    ),
    "a hash that comes when all is given up is no bug": ("up-tree-checksum|openssh|OPEN|middle|status-ok",),
    "what is longer than its listing says is not the same": ("up-tree-checksum|openssh|READDIR|every|size-0",),
    "where the old file is, in two steps, is told": ("up-tree-bare|openssh|RENAME|middle|done-refused",),
    "backups of what failed are named": (
        "up-file-backup|openssh|hardlink|every|done-refused",
        "up-file-backup|other|hardlink|first|done-refused",
    ),
}


@pytest.mark.parametrize("name", [name for names in TRIALS.values() for name in names])
def test_a_trial_that_once_failed(
    name: str, tmp_path: Path, runner: Runner, servers_by_dialect: dict[Dialect, ConformanceServer]
) -> None:
    case = CASES_BY_NAME[name.partition("|")[0]]
    dialect: Dialect = "openssh" if "|openssh|" in name else "other"
    stage = Stage(tmp_path / "stage", runner, servers_by_dialect[dialect])
    (trial,) = [each for each in list_trials(case, dialect, record(stage, case)) if str(each.name) == name]

    _, violations = run(stage, trial)

    require_none(violations)


def lay_out(stage: Stage, *, count: int = 1) -> None:
    """Files of the source, each with an old one at the destination."""
    for number in range(count):
        name = NAME if number == 0 else f"{number:03}.csv"
        write(stage.source("up") / name, content_of(f"new {number}", 6000))
        write(stage.destination("up") / name, content_of(f"old {number}", 300), seconds=OLD_SECONDS)


class Bare(Personality):
    """Knows no posix-rename, and so replaces in two steps."""

    extensions = extensions_without(b"posix-rename@openssh.com", b"hardlink@openssh.com")


class BreaksOffBehindRenames(Bare):
    """Ends the connection when so many renames are done, and does not remove what has stepped aside."""

    rename_count = 2

    def __init__(self) -> None:
        super().__init__()
        self.renamed = 0

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind == Kind.REMOVE and ask.path.endswith(b".old"):
            return refuse(ask, PERMISSION_DENIED)
        reply = execute()
        self.renamed += ask.is_renaming
        if ask.is_renaming and self.renamed == self.rename_count:
            self.drop()
        return [reply]


def test_what_a_retry_cannot_clear_away_is_named_when_it_goes_well(stage: Stage) -> None:
    """The line broke when the new file had its name; the next attempt finds that, and may not remove the old one."""
    lay_out(stage)

    ending = stage.play(
        BreaksOffBehindRenames(), *copy_file(stage, "up"), limit_seconds=PATIENT_SECONDS, retries=1, delay=0
    )

    (aside,) = stage.destination("up").glob(".*.old")
    require_right(ending)
    assert f"Left behind on the server: {str(aside)!r}" in ending.warnings


class BreaksOffBehindClose(Personality):
    """Answers the first CLOSE, and ends the connection behind the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken_off = False

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        yield execute()
        if ask.kind == Kind.CLOSE and not self.is_broken_off:
            self.is_broken_off = True
            self.drop()


@pytest.mark.parametrize("options", [{}, {"backup": True}, {"durable": True}], ids=str)
def test_a_download_that_was_published_when_the_line_broke_counts(stage: Stage, options: dict[str, Any]) -> None:
    write(stage.source("down") / NAME, content_of("new", 6000))
    write(stage.destination("down") / NAME, content_of("old", 300), seconds=OLD_SECONDS)

    ending = stage.play(
        BreaksOffBehindClose(),
        *copy_file(stage, "down", **options),
        limit_seconds=PATIENT_SECONDS,
        retries=1,
        delay=0,
    )

    require_right(ending)
    assert ending.step["status"] == "changed"
    assert ending.step["message"].startswith("replaced")


class BreaksOffForGood(Personality):
    """Ends the connection at a file's OPEN when others have been published, and opens no session again."""

    published_count = 2

    def __init__(self) -> None:
        super().__init__()
        self.published = 0
        self.is_gone = False

    def accepts_channel(self) -> bool:
        if self.is_gone:
            self.drop()
        return True

    def break_off(self) -> NoReturn:
        self.is_gone = True
        self.drop()

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        reply = execute()
        self.published += ask.is_renaming
        if self.published == self.published_count:
            self.break_off()
        return [reply]


@pytest.mark.parametrize("retries", [0, 1])
def test_all_backups_are_named_also_when_the_next_attempt_never_begins(stage: Stage, retries: int) -> None:
    lay_out(stage, count=4)

    ending = stage.play(
        BreaksOffForGood(),
        *copy_tree(stage, "up", backup=True),
        limit_seconds=PATIENT_SECONDS,
        retries=retries,
        delay=0,
    )

    backups = [path for path in stage.destination("up").iterdir() if path.name.endswith("~")]
    assert backups
    require_refusal(ending)
    assert all(path.name in ending.step["error"]["message"] for path in backups), ending.step["error"]


class RefusesAllRemovals(Bare):
    """Lets nothing be removed: of each file that it replaces the old one stays, under the name it stepped aside to."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, PERMISSION_DENIED) if ask.kind == Kind.REMOVE else [execute()]


def test_the_old_files_of_a_whole_tree_that_cannot_be_removed_are_one_warning(stage: Stage) -> None:
    lay_out(stage, count=6)

    ending = stage.play(RefusesAllRemovals(), *copy_tree(stage, "up"))

    require_right(ending)
    asides = list(stage.destination("up").glob(".*.old"))
    assert len(asides) == 6
    (warning,) = [each for each in ending.result["warnings"] if "Left behind" in each]
    assert all(repr(path.name) in warning for path in asides)
    assert f"in {str(stage.destination('up'))!r}" in warning


class RenamesLate(Personality):
    """Calls itself OpenSSH, and answers a look before it carries out the rename that was asked for first."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Execute] = []

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.extension == b"posix-rename@openssh.com" and not self.waiting:
            self.waiting.append(execute)
            return []
        reply = execute()
        late = [each() for each in self.waiting[:1]] if len(self.waiting) == 1 and ask.kind == Kind.LSTAT else []
        self.waiting += [execute] * len(late)
        return [reply, *late]


def test_a_look_that_comes_too_early_is_no_proof_of_a_lie(
    tmp_path: Path, runner: Runner, servers_by_dialect: dict[Dialect, ConformanceServer]
) -> None:
    stage = Stage(tmp_path / "stage", runner, servers_by_dialect["openssh"])
    stage.clear()
    lay_out(stage)

    require_right(stage.play(RenamesLate(), *copy_file(stage, "up")))
