"""What is suggested for an unknown word: what it means, else what it is a misspelling of, and never something dangerous."""

from __future__ import annotations

import itertools
import string

import pytest

from runner.playbook.validation import connector_keys
from runner.resources import SCHEMA_NAMES, schema_text
from runner.suggestions import find_meant, nearest

MODES = (
    *("copy_file_to_engine", "copy_file_from_engine", "copy_directory_to_engine", "copy_directory_from_engine"),
    *("list", "stats", "remove", "rename", "create_directory"),
)
MODE_KEYS = ("mode_name", "path", "recursive", "missing_ok", "overwrite", "parents", "delete", "max_delete", "atomic")
DESTRUCTIVE = {"remove", "delete", "overwrite", "replace", "recursive"}
# Words that are near to a destructive one by their letters, and mean something else.
OTHER_WORDS = (
    *("move", "mv", "moev", "mvoe", "remote", "remake", "resolve", "removal", "more", "rebase", "rewrite", "rerun"),
    *("delay", "relate", "deflate", "select", "dilate", "elect", "override", "overlay", "write", "place", "replay"),
    *(
        "replicate",
        "report",
        "repeat",
        "reply",
        "relative",
        "receive",
        "archive",
        "deletion_policy",
        "keep",
        "rmove_not",
    ),
)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("move", ["rename"]),
        ("mv", ["rename"]),
        ("MOVE", ["rename"]),
        ("delete", ["remove"]),
        ("rm", ["remove"]),
        ("unlink", ["remove"]),
        ("cp", ["copy_file_from_engine"]),
        ("copy", ["copy_file_from_engine"]),
        ("upload", ["copy_file_from_engine"]),
        ("put", ["copy_file_from_engine"]),
        ("send", ["copy_file_from_engine"]),
        ("download", ["copy_file_to_engine"]),
        ("get", ["copy_file_to_engine"]),
        ("fetch", ["copy_file_to_engine"]),
        ("sync", ["copy_directory_from_engine", "copy_directory_to_engine"]),
        ("mirror", ["copy_directory_from_engine", "copy_directory_to_engine"]),
        ("rsync", ["copy_directory_from_engine", "copy_directory_to_engine"]),
        ("mkdir", ["create_directory"]),
        ("ls", ["list"]),
        ("stat", ["stats"]),
        ("remvoe", ["remove"]),
        ("remov", ["remove"]),
        ("rremove", ["remove"]),
        ("Remove", ["remove"]),
        ("renmae", ["rename"]),
        ("moev", []),
    ],
)
def test_a_mode(word: str, meant: list[str]) -> None:
    assert list(find_meant(word, MODES)) == meant


@pytest.mark.parametrize("word", OTHER_WORDS)
@pytest.mark.parametrize("known", [MODES, MODE_KEYS, ["replace", "skip", "fail"], sorted(DESTRUCTIVE)])
def test_no_other_word_is_answered_with_something_destructive(word: str, known: list[str]) -> None:
    assert DESTRUCTIVE.isdisjoint(find_meant(word, known))


@pytest.mark.parametrize("known", sorted(DESTRUCTIVE))
def test_a_misspelling_of_something_destructive_is_recognised(known: str) -> None:
    letters = string.ascii_lowercase
    for index in range(len(known)):
        left_out = known[:index] + known[index + 1 :]
        swapped = known[: max(index - 1, 0)] + known[max(index - 1, 0) : index + 1][::-1] + known[index + 1 :]
        added = [known[:index] + letter + known[index:] for letter in letters]
        for word in (left_out, swapped, *added):
            assert find_meant(word, [known]) == (known,), word


def test_two_slips_are_not_answered_with_something_destructive() -> None:
    for known in DESTRUCTIVE:
        for first, second in itertools.combinations(range(len(known)), 2):
            word = "".join("x" if index in (first, second) else letter for index, letter in enumerate(known))
            assert find_meant(word, [known]) == ()


def test_what_does_no_harm_comes_first() -> None:
    assert find_meant("ecrypt", ["decrypt", "encrypt"]) == ("encrypt",)


def test_a_meaning_that_is_not_known_here_is_not_suggested() -> None:
    assert find_meant("move", ["host", "port", "remove"]) == ()
    assert nearest("move", ["remove", "port"]) == "Known: port, remove."


def test_several_meanings_are_all_named() -> None:
    assert nearest("sync", MODES) == "Did you mean 'copy_directory_from_engine' or 'copy_directory_to_engine'?"


def test_everything_that_is_meant_exists() -> None:
    from runner.cli.main import COMMANDS
    from runner.suggestions import _MEANINGS

    schema = "".join(map(schema_text, SCHEMA_NAMES))
    for group in itertools.chain.from_iterable(_MEANINGS.values()):
        for one in group:
            word = one.partition(" ")[0]
            assert f'"{word}"' in schema or word in COMMANDS or word.startswith("--"), word


def test_a_long_word_costs_nothing() -> None:
    assert find_meant("x" * 1_000_000, connector_keys()) == ()
