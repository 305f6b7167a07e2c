"""Servers that are unlike OpenSSH's: right bytes and attributes, or a clear refusal with the option that helps.

The numbers are the rows of the table that the conformance is for. What fails today is listed in `known_faults.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.oracle import Ending, Promise, judge
from tests.conformance.personalities import attributes, names, storage
from tests.conformance.plays import (
    DESTINATION,
    NAME,
    NEW_SECONDS,
    OLD_SECONDS,
    PATIENT_SECONDS,
    SOURCE,
    Direction,
    Stage,
    content_of,
    copy_file,
    copy_tree,
    destination_of,
    require_none,
    require_refusal,
    require_right,
    write,
)
from tests.conformance.served import Personality
from tests.servers.latency import LatencyProxy
from tests.servers.raw_sftp import FAILURE, OP_UNSUPPORTED, PERMISSION_DENIED, Kind

MIB = 1024 * 1024
LARGE_BYTES = 20 * MIB
# What is sent to a partial file first, and is resumed.
RESUMABLE_BYTES = 9 * MIB
ROUND_TRIP_SECONDS = 0.03
NEW, OLD = content_of("new", 20_000), content_of("old", 5_000)
PATIENT: dict[str, Any] = {"stall_timeout": 30, "timeout": 60}

both_directions = pytest.mark.parametrize("direction", ["up", "down"])
Copy = Callable[..., tuple[dict[str, Any], Promise]]
file_and_tree = pytest.mark.parametrize("copy", [copy_file, copy_tree], ids=["file", "tree"])


def lay_out(stage: Stage, direction: Direction = "up", *, old: bytes | None = OLD, count: int = 1) -> None:
    """A source of one file, or of several, and an older file at the destination."""
    write(stage.source(direction) / NAME, NEW)
    for number in range(1, count):
        write(stage.source(direction) / f"sub/{number:03}.csv", content_of(f"file {number}", 2000 + number))
    if old is not None:
        write(stage.destination(direction) / NAME, old, seconds=OLD_SECONDS)


def play_far_away(stage: Stage, personality: Personality, mode: dict[str, Any], promise: Promise) -> Ending:
    """Over a line with 30 ms round trip, where large files take several channels."""
    with LatencyProxy(stage.server.host, stage.server.port, round_trip_seconds=ROUND_TRIP_SECONDS) as proxy:
        place = {"host": proxy.host, "port": proxy.port}
        return stage.play(personality, mode, promise, place=place, limit_seconds=PATIENT_SECONDS, **PATIENT)


# --- 1: object stores ---


@file_and_tree
def test_a_large_file_in_an_object_store(stage: Stage, copy: Copy) -> None:
    write(stage.source("up") / NAME, content_of("large", LARGE_BYTES))

    require_right(play_far_away(stage, storage.ObjectStore(), *copy(stage, "up")))


@file_and_tree
def test_a_small_file_in_an_object_store_that_tells_what_is_closed(stage: Stage, copy: Copy) -> None:
    lay_out(stage)

    require_right(stage.play(storage.ObjectStore(counts_open=False), *copy(stage, "up")))


# --- 2: one handle, one channel ---


@pytest.mark.parametrize("personality", [storage.OneHandle, storage.OneChannel])
def test_a_large_file_where_one_handle_or_channel_is_allowed(
    stage: Stage, personality: Callable[[], Personality]
) -> None:
    write(stage.source("up") / NAME, content_of("large", LARGE_BYTES))

    require_right(play_far_away(stage, personality(), *copy_file(stage, "up")))


@pytest.mark.parametrize("personality", [storage.DropsForSecondHandle, storage.DropsForSecondChannel])
def test_a_large_file_where_a_second_handle_or_channel_ends_the_connection(
    stage: Stage, personality: Callable[[], Personality]
) -> None:
    """A refusal names the option that helps, and the option does."""
    write(stage.source("up") / NAME, content_of("large", LARGE_BYTES))
    ending = play_far_away(stage, personality(), *copy_file(stage, "up"))
    require_none(judge(ending))
    assert ending.is_good or "channels" in ending.step["error"]["hint"], ending.outcome.output

    server = personality()
    require_right(play_far_away(stage, server, *copy_file(stage, "up", channels=1)))
    assert server.session_count == 1


# --- 3: MKDIR says OK ---


def in_existing_tree(stage: Stage) -> None:
    lay_out(stage, count=4)
    write(stage.destination("up") / "sub/001.csv", OLD, seconds=OLD_SECONDS)
    write(stage.destination("up") / "sub/extra.csv", OLD, seconds=OLD_SECONDS)


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
@file_and_tree
def test_existing_files_are_respected_where_mkdir_says_ok(stage: Stage, copy: Copy, if_exists: str) -> None:
    in_existing_tree(stage)
    ending = stage.play(names.MkdirSaysYes(), *copy(stage, "up", if_exists=if_exists))

    require_none(judge(ending))
    assert ending.after.remote[f"{DESTINATION}/{NAME}"].content == OLD
    assert (ending.outcome.exit_code == 0) == (if_exists == "skip"), ending.outcome.output


@file_and_tree
def test_replaced_files_are_kept_where_mkdir_says_ok(stage: Stage, copy: Copy) -> None:
    in_existing_tree(stage)

    require_right(stage.play(names.MkdirSaysYes(), *copy(stage, "up", backup=True)))


def test_what_the_source_lacks_is_removed_where_mkdir_says_ok(stage: Stage) -> None:
    in_existing_tree(stage)
    ending = stage.play(names.MkdirSaysYes(), *copy_tree(stage, "up", delete=True))

    require_right(ending)
    assert ending.result["removed"] == 1


def test_a_check_tells_what_would_change_where_mkdir_says_ok(stage: Stage) -> None:
    in_existing_tree(stage)
    mode, promise = copy_tree(stage, "up", delete=True)
    told = stage.play(names.MkdirSaysYes(), mode, promise_of_check(promise), "--check")
    done = stage.play(names.MkdirSaysYes(), mode, promise, "--diff")

    require_none(judge(told))
    require_right(done)
    assert told.step["status"] == "changed"
    assert sorted(map(str, told.step["changes"])) == sorted(map(str, done.step["changes"]))


def promise_of_check(promise: Promise) -> Promise:
    """The same with nothing to change."""
    return Promise(side=promise.side, wanted=promise.wanted, is_check=True)


# --- 4: hard links ---


@file_and_tree
def test_a_backup_where_a_hard_link_is_only_said_to_be_made(stage: Stage, copy: Copy) -> None:
    lay_out(stage)

    require_right(stage.play(names.HardlinkSaysYes(), *copy(stage, "up", backup=True)))


# --- 5: mailboxes ---


@pytest.mark.parametrize("at_last_byte", [True, False], ids=["last byte", "end of file"])
@file_and_tree
def test_a_file_that_is_handed_out_once(stage: Stage, copy: Copy, at_last_byte: bool) -> None:
    lay_out(stage, "down", old=None)
    mode, promise = copy(stage, "down")
    promise = Promise("local", promise.wanted, may_vanish=frozenset([f"{SOURCE}/{NAME}"]))
    ending = stage.play(storage.Mailbox(at_last_byte=at_last_byte), mode, promise)

    require_right(ending)
    assert ending.after.local[f"{DESTINATION}/{NAME}"].content == NEW
    if f"{SOURCE}/{NAME}" not in ending.after.remote:
        assert ending.result["warnings"], ending.outcome.output


# --- 6: RENAME follows links ---


@pytest.mark.parametrize("personality", [names.RenameFollowsLinks, names.RenameFollowsLinksPlainly])
@pytest.mark.parametrize("has_old", [False, True], ids=["new", "old"])
def test_links_are_sent_where_rename_follows_them(
    stage: Stage, personality: Callable[[], Personality], has_old: bool
) -> None:
    """What the links lead to stays where it is."""
    lay_out(stage, old=None)
    (stage.source("up") / "link").symlink_to(NAME)
    if has_old:
        # What the new link leads to is there already, and right.
        write(stage.destination("up") / NAME, NEW)
        write(stage.destination("up") / "other.csv", OLD)
        (stage.destination("up") / "link").symlink_to("other.csv")
    ending = stage.play(personality(), *copy_tree(stage, "up"))

    require_none(judge(ending))
    assert ending.is_good or has_old, ending.outcome.output


@pytest.mark.parametrize("personality", [names.RenameFollowsLinks, names.RenameFollowsLinksPlainly])
@file_and_tree
def test_a_copy_onto_a_link_where_rename_follows_it(
    stage: Stage, copy: Copy, personality: Callable[[], Personality]
) -> None:
    lay_out(stage, old=None)
    write(stage.destination("up") / "other.csv", OLD)
    (stage.destination("up") / NAME).symlink_to("other.csv")
    ending = stage.play(personality(), *copy(stage, "up"))

    require_none(judge(ending))
    assert ending.after.remote[f"{DESTINATION}/other.csv"].content == OLD


# --- 7: the order of SYMLINK's arguments ---


@pytest.mark.parametrize("personality", [names.SwappedSymlink, names.AnnouncedSymlinkOrder])
@pytest.mark.parametrize("has_old", [False, True], ids=["new", "old"])
def test_links_where_the_arguments_are_swapped(
    stage: Stage, personality: Callable[[], Personality], has_old: bool
) -> None:
    lay_out(stage, old=None)
    (stage.source("up") / "link").symlink_to(NAME)
    (stage.source("up") / "second").symlink_to("nowhere/at/all")
    if has_old:
        (stage.destination("up")).mkdir()
        (stage.destination("up") / "link").symlink_to("other.csv")

    require_right(stage.play(personality(), *copy_tree(stage, "up")))


def test_links_where_targets_are_made_absolute(stage: Stage) -> None:
    lay_out(stage, old=None)
    (stage.source("up") / "link").symlink_to(NAME)
    ending = stage.play(names.AbsoluteTargets(), *copy_tree(stage, "up"))

    require_refusal(ending, "link")
    assert f"{DESTINATION}/link" not in ending.after.remote


# --- 8: workers ---


def test_many_small_files_to_a_server_that_writes_in_workers(stage: Stage) -> None:
    lay_out(stage, count=400)

    require_right(stage.play(storage.Workers(), *copy_tree(stage, "up"), limit_seconds=PATIENT_SECONDS, **PATIENT))


@pytest.mark.parametrize("size", [0, 20_000, RESUMABLE_BYTES])
def test_a_file_to_a_server_that_writes_in_workers(stage: Stage, size: int) -> None:
    write(stage.source("up") / NAME, content_of("any", size))

    require_right(stage.play(storage.Workers(), *copy_file(stage, "up"), limit_seconds=PATIENT_SECONDS, **PATIENT))


# --- 9: discarded because something was refused ---


@file_and_tree
@pytest.mark.parametrize(
    "options", [{"preserve": []}, {"preserve": [], "permissions": "server"}], ids=["nothing", "server"]
)
def test_no_attribute_is_sent_that_was_not_asked_for(stage: Stage, copy: Copy, options: dict[str, Any]) -> None:
    lay_out(stage, old=None)
    server = attributes.DiscardOnRefusal()
    ending = stage.play(server, *copy(stage, "up", **options))

    require_right(ending)
    assert not [ask for ask in server.asked if ask.kind in attributes.SETTING]
    if "permissions" in options:
        assert not [ask for ask in server.asked if ask.is_writing and "mode" in ask.wanted]


@file_and_tree
def test_what_is_discarded_for_a_refusal_is_not_reported_as_copied(stage: Stage, copy: Copy) -> None:
    lay_out(stage)

    require_none(judge(stage.play(attributes.DiscardOnRefusal(), *copy(stage, "up"))))


# --- 10: attributes refused or ignored ---

one_kind = pytest.mark.parametrize("kind", attributes.SETTING, ids=lambda kind: kind.name)
refused_or_ignored = pytest.mark.parametrize(
    "personality", [attributes.RefusesAttributes, attributes.IgnoresAttributes], ids=["refused", "ignored"]
)


@one_kind
@refused_or_ignored
@file_and_tree
@pytest.mark.parametrize("options", [{}, {"permissions": "0640"}], ids=["preserve", "permissions"])
def test_the_other_request_sets_attributes(
    stage: Stage, copy: Copy, personality: type[attributes.RefusesAttributes], kind: Kind, options: dict[str, Any]
) -> None:
    """Exactly right, without a warning. A directory cannot be set by a handle: a warning, or a failure if asked for."""
    lay_out(stage)
    ending = stage.play(personality(kind), *copy(stage, "up", **options))

    if options and copy is copy_tree and kind == Kind.SETSTAT:
        require_refusal(ending, "permissions")
    else:
        require_right(ending)
    found = ending.after.remote[f"{DESTINATION}/{NAME}"]
    wanted = ending.promise.wanted[f"{DESTINATION}/{NAME}"]
    assert wanted is not None
    assert (found.mode, found.modified) == (wanted.mode, wanted.modified), ending.warnings


@refused_or_ignored
@file_and_tree
def test_permissions_that_cannot_be_set_fail_when_asked_for(
    stage: Stage, copy: Copy, personality: type[attributes.RefusesAttributes]
) -> None:
    """Unless OPEN has given the file this mode already."""
    lay_out(stage)
    ending = stage.play(personality(*attributes.SETTING), *copy(stage, "up", permissions="0640"))

    require_none(judge(ending))
    assert not ending.is_good or ending.after.remote[f"{DESTINATION}/{NAME}"].mode == 0o640


@refused_or_ignored
@file_and_tree
def test_permissions_that_cannot_be_kept_are_those_of_the_server_or_are_named(
    stage: Stage, copy: Copy, personality: type[attributes.RefusesAttributes]
) -> None:
    lay_out(stage, old=None, count=3)
    ending = stage.play(personality(*attributes.SETTING), *copy(stage, "up"))

    require_right(ending)
    mode = ending.after.remote[f"{DESTINATION}/{NAME}"].mode
    assert mode == 0o644 or (mode == 0o600 and "0600" in ending.warnings), ending.outcome.output
    if copy is copy_tree:
        folder_mode = ending.after.remote[f"{DESTINATION}/sub"].mode
        assert folder_mode == 0o755 or f"{folder_mode:04o}" in ending.warnings, ending.outcome.output


# --- 11: times ---

TIMES: dict[str, Callable[[], Personality]] = {
    "ignored": lambda: attributes.OwnTimes(attributes.ignored),
    "rounded": lambda: attributes.OwnTimes(attributes.rounded),
    "an hour off": lambda: attributes.OwnTimes(attributes.an_hour_off),
    "ignored by name": lambda: attributes.IgnoresAttributes(*attributes.SETTING),
}


@pytest.mark.parametrize("how", TIMES)
@file_and_tree
def test_one_warning_for_times_that_do_not_stay(stage: Stage, copy: Copy, how: str) -> None:
    lay_out(stage, count=3)
    # A directory of this moment might be off by a second, as if the server rounded.
    for folder in (stage.source("up") / "sub", stage.source("up")):
        os.utime(folder, (NEW_SECONDS, NEW_SECONDS))
    ending = stage.play(TIMES[how](), *copy(stage, "up"))

    require_right(ending)
    about_times = [warning for warning in ending.result["warnings"] if "time" in warning]
    assert len(about_times) == 1, ending.warnings
    for option in ("compare: size", "checksum", "modify_window"):
        assert option in about_times[0]


@file_and_tree
def test_times_that_a_server_sets_at_close_are_set_again_or_told(stage: Stage, copy: Copy) -> None:
    lay_out(stage)

    require_right(stage.play(attributes.TimesAtClose(), *copy(stage, "up")))


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("ignored", {"compare": "size"}),
        ("rounded", {"modify_window": "2s"}),
        ("an hour off", {"modify_window": "1h"}),
    ],
)
@file_and_tree
def test_the_second_play_copies_nothing(stage: Stage, copy: Copy, how: str, options: dict[str, Any]) -> None:
    lay_out(stage, count=3)
    server = TIMES[how]()
    first = stage.play(server, *copy(stage, "up", **options))
    assert first.is_good, first.outcome.output
    # Within the window that the step allows, times are as good as equal.
    require_none([violation for violation in judge(first) if violation.kind != "time"])

    second = stage.play(server, *copy(stage, "up", **options))
    assert second.step["status"] == "ok", second.outcome.output
    assert second.after.remote == first.after.remote


# --- 12: open files ---


@both_directions
@pytest.mark.parametrize("allowed", [64, 128])
@pytest.mark.parametrize("dies", [False, True], ids=["refuses", "dies"])
def test_a_tree_of_300_where_few_files_may_be_open(
    stage: Stage, direction: Direction, allowed: int, dies: bool
) -> None:
    lay_out(stage, direction, count=300)
    server = storage.FewHandles(allowed, dies=dies)

    require_right(
        stage.play(server, *copy_tree(stage, direction), limit_seconds=PATIENT_SECONDS, **PATIENT),
    )


# --- 13: missing paths, refused looks, drop boxes ---


@pytest.mark.parametrize("code", [FAILURE, attributes.UNKNOWN_CODE])
@file_and_tree
def test_the_first_upload_where_missing_has_another_name(stage: Stage, copy: Copy, code: int) -> None:
    lay_out(stage, old=None, count=3)

    require_right(stage.play(attributes.OtherWordsForMissing(code), *copy(stage, "up")))


@pytest.mark.parametrize(
    "kinds",
    [(Kind.STAT,), (Kind.LSTAT,), (Kind.FSTAT,), (Kind.STAT, Kind.LSTAT), attributes.LOOKING],
    ids=lambda kinds: "+".join(kind.name for kind in kinds),
)
@pytest.mark.parametrize("code", [PERMISSION_DENIED, FAILURE, OP_UNSUPPORTED])
@file_and_tree
@both_directions
def test_a_copy_where_looking_is_refused(
    stage: Stage, copy: Copy, direction: Direction, kinds: tuple[Kind, ...], code: int
) -> None:
    """The next request decides. Compared by nothing, and accepted without a size, a copy needs no look.

    Only a file that nothing at all is told about may be refused instead of received.
    """
    lay_out(stage, direction, count=3)
    options = {"compare": "always", "verify": "size"}
    ending = stage.play(attributes.RefusesRequests(*kinds, code=code), *copy(stage, direction, **options))

    require_none(judge(ending))
    may_refuse = direction == "down" and copy is copy_file and kinds == attributes.LOOKING
    assert ending.is_good or may_refuse, ending.outcome.output


@pytest.mark.parametrize("has_old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("code", [PERMISSION_DENIED, FAILURE, OP_UNSUPPORTED])
@file_and_tree
def test_a_copy_into_a_drop_box(stage: Stage, copy: Copy, has_old: bool, code: int) -> None:
    lay_out(stage, old=OLD if has_old else None, count=3)
    stage.destination("up").mkdir(exist_ok=True)
    options = {"compare": "always", "verify": "size"}
    ending = stage.play(attributes.DropBox(code), *copy(stage, "up", **options))

    require_right(ending)
    assert ending.result["warnings"], ending.outcome.output


@pytest.mark.parametrize("code", [PERMISSION_DENIED, FAILURE])
@file_and_tree
def test_a_drop_box_with_the_usual_options_is_refused_with_a_hint(stage: Stage, copy: Copy, code: int) -> None:
    lay_out(stage, old=None, count=3)
    stage.destination("up").mkdir(exist_ok=True)
    ending = stage.play(attributes.DropBox(code), *copy(stage, "up"))

    require_none(judge(ending))
    assert ending.is_good or "verify: size" in ending.said, ending.outcome.output


# --- 14: renaming ---


@pytest.mark.parametrize("code", [OP_UNSUPPORTED, FAILURE, PERMISSION_DENIED])
@pytest.mark.parametrize("has_old", [False, True], ids=["new", "old"])
@file_and_tree
def test_posix_rename_is_advertised_and_refused(stage: Stage, copy: Copy, code: int, has_old: bool) -> None:
    """The next best way; the result says that it was not one step."""
    lay_out(stage, old=OLD if has_old else None)
    ending = stage.play(names.RefusesPosixRename(code), *copy(stage, "up"))

    require_right(ending)
    assert ending.result["atomic"] is not has_old


@pytest.mark.parametrize("has_old", [False, True], ids=["new", "old"])
@file_and_tree
def test_renaming_is_refused(stage: Stage, copy: Copy, has_old: bool) -> None:
    """Another way that is right, or a refusal that names the option which helps."""
    lay_out(stage, old=OLD if has_old else None)
    ending = stage.play(names.RefusesRename(), *copy(stage, "up"))

    require_none(judge(ending))
    assert ending.is_good or "atomic: false" in ending.said, ending.outcome.output
    lay_out(stage, old=OLD if has_old else None)
    require_right(stage.play(names.RefusesRename(), *copy(stage, "up", atomic=False)))


@file_and_tree
def test_what_stepped_aside_cannot_be_removed(stage: Stage, copy: Copy) -> None:
    """The new file is in place: a warning names what stays beside it."""
    lay_out(stage)
    ending = stage.play(names.RefusesRemove(), *copy(stage, "up"))

    require_right(ending)
    assert ending.result["warnings"]


# --- 15: names ---


@pytest.mark.parametrize("code", [PERMISSION_DENIED, FAILURE, OP_UNSUPPORTED])
@pytest.mark.parametrize("rule", [names.NO_DOT_FILES, names.ONLY_CSV], ids=["no dot files", "only csv"])
@file_and_tree
def test_a_name_that_is_not_allowed_has_options_that_help(stage: Stage, copy: Copy, rule: str, code: int) -> None:
    lay_out(stage)
    ending = stage.play(names.NameRules(rule, code), *copy(stage, "up"))

    require_none(judge(ending))
    assert ending.is_good or all(
        option in ending.said for option in ("temporary_name", "temporary_directory", "atomic: false")
    ), ending.outcome.output


@file_and_tree
def test_a_temporary_name_of_ones_own(stage: Stage, copy: Copy) -> None:
    lay_out(stage)
    server = names.NameRules(names.ONLY_FILEPART)

    require_right(stage.play(server, *copy(stage, "up", temporary_name="{name}.filepart")))


@file_and_tree
def test_a_temporary_directory(stage: Stage, copy: Copy) -> None:
    lay_out(stage)
    staging = stage.remote / "staging"
    staging.mkdir()

    require_right(stage.play(names.OnlyInStaging(staging), *copy(stage, "up", temporary_directory=str(staging))))


@file_and_tree
def test_a_file_that_is_taken_under_its_temporary_name(stage: Stage, copy: Copy) -> None:
    """It is with the partner, under a name that they must be told of."""
    lay_out(stage, old=None)
    inbox = stage.folder / "inbox"
    inbox.mkdir()
    ending = stage.play(names.TakesAtClose(inbox), *copy(stage, "up"))

    require_none(judge(ending))
    (taken,) = os.listdir(inbox)
    require_refusal(ending, taken, "taken", "atomic: false")


def test_a_file_that_is_taken_under_its_own_name(stage: Stage) -> None:
    lay_out(stage, old=None)
    inbox = stage.folder / "inbox"
    inbox.mkdir()
    mode, _ = copy_file(stage, "up", atomic=False)
    ending = stage.play(names.TakesAtClose(inbox), mode, Promise("remote", {}, is_copy=False))

    assert ending.outcome.exit_code == 0, ending.outcome.output
    assert (inbox / NAME).read_bytes() == NEW


# --- 16: flags ---


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in place"])
@both_directions
@file_and_tree
def test_only_common_flags_are_needed(stage: Stage, copy: Copy, direction: Direction, atomic: bool) -> None:
    lay_out(stage, direction)

    require_right(stage.play(names.CommonFlags(), *copy(stage, direction, atomic=atomic)))


# --- 18: partial files that cannot be continued ---

PARTIALS: dict[str, Callable[[], Personality]] = {
    "no append": storage.NoAppend,
    "object store": storage.ObjectStore,
    "no look": storage.NoLookAtPartials,
    "common flags": names.CommonFlags,
}


@pytest.mark.parametrize("how", PARTIALS)
@file_and_tree
def test_a_partial_file_that_cannot_be_continued(stage: Stage, copy: Copy, how: str) -> None:
    """Afresh, in the same attempt."""
    write(stage.source("up") / NAME, content_of("resumed", RESUMABLE_BYTES))
    write(stage.destination("up") / NAME, OLD, seconds=OLD_SECONDS)
    mode, promise = copy(stage, "up")
    cut = stage.play(storage.CutsAfter(24), mode, promise, limit_seconds=PATIENT_SECONDS, **PATIENT)
    require_refusal(cut)
    assert [path for path in cut.after.remote if path.endswith(".part")]

    require_right(stage.play(PARTIALS[how](), mode, promise, limit_seconds=PATIENT_SECONDS, **PATIENT))


def test_personalities_are_no_caricatures(stage: Stage, tmp_path: Path) -> None:
    """An honest server passes, so that each failure above is its row's."""
    lay_out(stage, count=4)
    (stage.source("up") / "link").symlink_to(NAME)
    ending = stage.play(Personality(), *copy_tree(stage, "up", backup=True, delete=True))

    require_right(ending)
    assert destination_of(ending)[f"{DESTINATION}/link"].content == os.fsencode(NAME)
