"""What a server is held to be, and what it takes to hold it to be otherwise."""

from __future__ import annotations

from runner.server_traits import SAMPLE_SIZE, ServerTraits

OPENSSH = "SSH-2.0-OpenSSH_9.2p1"


def test_the_first_requests_of_a_kind_are_looked_at_also_on_openssh() -> None:
    traits = ServerTraits(OPENSSH)

    looks = [not traits.believes("renamed") for _ in range(SAMPLE_SIZE + 10)]

    assert looks == [True] * SAMPLE_SIZE + [False] * 10
    assert not traits.believes("removed"), "each kind has looks of its own"


def test_what_does_not_call_itself_openssh_is_never_taken_at_its_word() -> None:
    traits = ServerTraits("SSH-2.0-Go")

    assert not any(traits.believes("renamed") for _ in range(100 * SAMPLE_SIZE))


def test_a_server_that_was_caught_is_looked_at_from_then_on() -> None:
    traits = ServerTraits(OPENSSH)
    for _ in range(SAMPLE_SIZE):
        traits.believes("removed")

    traits.catch("removed")

    assert not traits.believes("removed")
    assert not traits.shares_files
    assert traits.renames_links is None
    assert traits.reasons["is_sequential"] == "it answered OK, and had not removed"


def test_a_server_that_mixes_requests_up_is_waited_for() -> None:
    traits = ServerTraits(OPENSSH)

    traits.mixes_up("renamed")

    assert not traits.is_sequential
