"""What a step may leave behind is noted in one place, and told once, by name."""

from __future__ import annotations

import pytest

from runner.errors import ConnectionLost
from runner.operation_results import Renaming
from runner.results import CopyResult
from runner.transfer.left_behind import MAX_KEPT, MAX_NAMED, LeftBehind, name_some

PATH, TEMPORARY, ASIDE, BACKUP = "in/a.csv", "in/.a.csv.tmp", "in/.a.csv.tmp.old", "in/a.csv.2026~"


def make_result(**options: object) -> CopyResult:
    """The result of a step that has copied one file."""
    return CopyResult("out/a.csv", PATH, 3, 1, 3, "created", **options)  # type: ignore[arg-type]


def test_nothing_is_said_of_what_has_gone() -> None:
    left = LeftBehind()
    left.write(TEMPORARY)
    left.move_aside(PATH, ASIDE)
    left.forget(TEMPORARY, ASIDE)
    error = ConnectionLost("broke off")

    left.add_to(error)

    assert error.message == "broke off"
    assert left.warn(make_result()) == make_result()


def test_each_kind_is_named_in_an_error() -> None:
    left = LeftBehind()
    left.write(TEMPORARY)
    left.move_aside(PATH, ASIDE)
    left.keep(BACKUP)
    left.leave("in/stuck")
    error = ConnectionLost("broke off")

    left.add_to(error)

    assert f"Old files are kept as {BACKUP!r}" in error.message
    assert (
        f"The old {PATH!r} may be called {ASIDE!r} by now: if nothing is at its place, rename it back" in error.message
    )
    assert "Left behind on the server: 'in/stuck'" in error.message
    assert f"What may be left: {TEMPORARY!r}" in error.message


def test_what_an_error_names_itself_is_not_said_twice() -> None:
    left = LeftBehind()
    left.write(TEMPORARY)
    left.keep(BACKUP)
    error = ConnectionLost(f"{TEMPORARY!r} and {BACKUP!r} are there")

    left.add_to(error)

    assert error.message == f"{TEMPORARY!r} and {BACKUP!r} are there"


def test_a_result_that_has_a_backup_is_warned_of_what_is_left_and_not_of_the_backup() -> None:
    left = LeftBehind()
    left.keep(BACKUP)
    left.leave(ASIDE)

    result = left.warn(make_result(backup=BACKUP, warnings=("first",)))

    assert result.warnings == ("first", f"Left behind on the server: {ASIDE!r}")


def test_what_copies_nothing_is_warned_as_well() -> None:
    left = LeftBehind()
    left.leave(ASIDE)

    renaming = Renaming(message="renamed", is_change=True, source="in/b.csv", destination=PATH)

    assert left.warn(renaming).warnings == (f"Left behind on the server: {ASIDE!r}",)


def test_what_is_certain_to_be_left_is_not_said_to_be_possible_too() -> None:
    left = LeftBehind()
    left.write(TEMPORARY)
    left.leave(TEMPORARY)

    assert left.describe("") == [f"Left behind on the server: {TEMPORARY!r}"]


@pytest.mark.parametrize("count", [MAX_NAMED, MAX_NAMED + 5])
def test_a_message_has_room_for_some_names(count: int) -> None:
    left = LeftBehind()
    left.leave(*(f"in/{number}" for number in range(count)))
    error = ConnectionLost("broke off")

    left.add_to(error)

    names = ", ".join(repr(str(number)) for number in range(MAX_NAMED))
    assert f"Left behind on the server: {names} in 'in'" in error.message
    assert ("and 5 more" in error.message) == (count > MAX_NAMED)


def test_each_directory_is_named_once() -> None:
    assert name_some(["/in/a", "/in/b", "/c", "/in/sub/d"]) == "'a', 'b' in '/in'; '/c'; '/in/sub/d'"


def test_a_server_that_removes_nothing_costs_no_memory_without_end() -> None:
    left = LeftBehind()
    left.leave(*(f"in/{number}" for number in range(MAX_KEPT + 100)))

    assert f"and {MAX_KEPT - MAX_NAMED:,} more" in left.describe("")[0]
