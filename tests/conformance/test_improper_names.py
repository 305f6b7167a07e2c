"""What a server lists by what is no name, and what it says is missing and is not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tests.conformance.oracle import judge
from tests.conformance.plays import (
    DESTINATION,
    NAME,
    OLD_SECONDS,
    SOURCE,
    Stage,
    content_of,
    copy_tree,
    require_none,
    require_refusal,
    write,
)
from tests.conformance.served import Ask, Personality, refuse
from tests.servers.raw_sftp import NO_SUCH_FILE, Execute, Kind


class ListsPaths(Personality):
    """Lists the first file of a directory by a path, which is no name."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        reply = execute()
        return [reply.replace(NAME.encode(), b"x/" + NAME.encode()[2:])] if ask.kind == Kind.READDIR else [reply]


def test_what_has_no_proper_name_in_the_source_is_not_removed_from_the_destination(stage: Stage) -> None:
    write(stage.source("down") / NAME, content_of("new", 6000))
    write(stage.source("down") / "other.csv", content_of("other", 600))
    write(stage.destination("down") / NAME, content_of("old", 300), seconds=OLD_SECONDS)

    ending = stage.play(ListsPaths(), *copy_tree(stage, "down", delete=True))

    require_refusal(ending, "cannot be that of a file")
    assert (stage.destination("down") / NAME).read_bytes() == content_of("old", 300)


def test_what_has_no_proper_name_in_the_destination_is_said_not_to_be_removed(stage: Stage) -> None:
    write(stage.source("up") / "other.csv", content_of("other", 600))
    write(stage.destination("up") / NAME, content_of("extra", 300), seconds=OLD_SECONDS)

    ending = stage.play(ListsPaths(), *copy_tree(stage, "up", delete=True))

    require_none(judge(ending))
    require_refusal(ending, "cannot be that of a file")
    assert (stage.destination("up") / NAME).exists()


@pytest.mark.parametrize("options", [{"if_exists": "skip"}, {"if_exists": "fail"}, {"backup": True}], ids=str)
def test_what_may_be_there_under_an_improper_name_is_not_replaced(stage: Stage, options: dict[str, Any]) -> None:
    """What is not listed by its name seems to be missing: it was replaced, although it was to be kept."""
    write(stage.source("up") / NAME, content_of("new", 6000))
    write(stage.destination("up") / NAME, content_of("old", 300), seconds=OLD_SECONDS)

    ending = stage.play(ListsPaths(), *copy_tree(stage, "up", **options))

    require_refusal(ending, "cannot be that of a file")
    assert (stage.destination("up") / NAME).read_bytes() == content_of("old", 300)
    assert os.listdir(stage.destination("up")) == [NAME]


def test_where_all_is_to_be_replaced_improper_names_do_no_harm(stage: Stage) -> None:
    write(stage.source("up") / NAME, content_of("new", 6000))
    write(stage.destination("up") / NAME, content_of("old", 300), seconds=OLD_SECONDS)

    ending = stage.play(ListsPaths(), *copy_tree(stage, "up"))

    require_none(judge(ending))
    assert ending.outcome.exit_code == 0, ending.outcome.output
    assert (stage.destination("up") / NAME).read_bytes() == content_of("new", 6000)


class MissesEveryParent(Personality):
    """Says of every directory that it could not be made for want of one above it."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return refuse(ask, NO_SUCH_FILE) if ask.kind == Kind.MKDIR else [execute()]


def test_a_directory_that_is_there_is_not_made_again_and_again(stage: Stage) -> None:
    write(stage.source("up") / NAME, content_of("new", 600))
    personality = MissesEveryParent()

    ending = stage.play(personality, *copy_tree(stage, "up"))

    require_refusal(ending, "cannot create the folder", DESTINATION)
    assert personality.names_asked().count("MKDIR") < 4 * len(stage.remote.parts)
    assert (stage.local / SOURCE / NAME).exists()
