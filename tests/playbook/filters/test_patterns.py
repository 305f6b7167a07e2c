"""Regular expressions end in time, whatever the pattern, and wherever the text comes from."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from runner.playbook.filters import patterns
from runner.playbook.filters.patterns import MAX_TEXT_LENGTH
from runner.playbook.limits import MAX_SECONDS
from tests.playbook.filters.evaluation import evaluate, evaluate_data, find_problem

# What one look for a signal may come too late by: the longest text, passed over some thousand times. See patterns.py.
LATE_SECONDS = 2.0

LONG = "a" * MAX_TEXT_LENGTH
CATASTROPHES = {
    "nested": ("(a+)+$", "a" * 40 + "b"),
    "nested twice": ("((a*)*)*$", "a" * 40 + "b"),
    "alternatives": ("(a|a)*$", "a" * 40 + "b"),
    "a back reference": (r"(a+)\\1+$", "a" * 30_000 + "b"),
    "each position": ("a*b", LONG),
    "each position, any letter": ("[ab]*c", LONG),
    "each position, in any case": ("(?i)[^B]*B", LONG),
    "two at each position": ("a*a*b", LONG),
    "three": (".*.*.*b", LONG),
    "a lookahead": ("(?:a(?=a*b))*c", LONG),
    "a lookbehind": ("(?:a(?<!b))*(?:a(?!a*c))*b", LONG),
    "many counted": ("a{0,4000}a*b", LONG),
    "white space": (r"\\s+$", " " * (MAX_TEXT_LENGTH - 1) + "x"),
    "fields": ("(.*)=(.*);", "a=" * (MAX_TEXT_LENGTH // 2)),
}
USES = {
    "regex_search": "text | regex_search({0})",
    "regex_findall": "text | regex_findall({0})",
    "regex_replace": "text | regex_replace({0}, '')",
    "search": "text is search({0})",
    "match": "text is match({0})",
    "regex": "text is regex({0}, match_type='fullmatch')",
    "select": "[text] | select('search', {0})",
    "map": "[text] | map('regex_replace', {0}, '')",
}


@pytest.mark.parametrize(
    ("name", "use"),
    dict.fromkeys([*((name, "search") for name in CATASTROPHES), *(("each position", use) for use in USES)]),
)
def test_a_catastrophe_ends_in_time(name: str, use: str) -> None:
    pattern, text = CATASTROPHES[name]
    expression = USES[use].format(f"'{pattern}'")
    started = time.process_time()

    try:
        evaluate(expression, {"text": text})
    except Exception as error:
        assert str(error) == f"the template takes longer than {MAX_SECONDS} s"

    assert time.process_time() - started < MAX_SECONDS + LATE_SECONDS


@pytest.mark.parametrize("use", USES)
def test_a_search_of_many_short_tries_ends_in_time(use: str) -> None:
    """Python before 3.11.6 looks for no signal in it: each try is shorter than the steps between two looks."""
    test_a_catastrophe_ends_in_time("many counted", use)


def test_a_search_by_position_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCHES_LOOK_FOR_SIGNALS", False)
    monkeypatch.setattr(patterns, "MAX_UNWATCHED_LENGTH", -1)
    chance = random.Random(11)
    for _ in range(400):
        parts = ["a", "b", "a*", "b?", "(a|)", "(?:|b)", "^", "$", r"\b", "(b)(a)?", "(?<=a)", "(?=b)", "[^a]", "a*?"]
        pattern = "".join(chance.choices(parts, k=chance.randint(1, 3)))
        text = "".join(chance.choices("ab \n", k=chance.randint(0, 9)))
        expression, count = re.compile(pattern), chance.choice([0, 0, 1, 2])
        where = (pattern, text)

        assert patterns.regex_findall(text, pattern) == expression.findall(text), where
        assert patterns.regex_replace(text, pattern, r"<\g<0>>", count=count) == expression.sub(
            r"<\g<0>>", text, count=count
        ), where
        found = expression.search(text)
        assert patterns.regex_search(text, pattern) == (found and found[0]), where
    assert "replacement is wrong" in find_problem(r"'x' | regex_replace('y', '\\1')", {}).message


def test_some_of_them_would_take_long_without_the_bound() -> None:
    for name in ("nested", "each position", "two at each position"):
        pattern, text = CATASTROPHES[name]
        assert "takes longer than" in find_problem(USES["search"].format(f"'{pattern}'"), {"text": text}).message


@pytest.mark.parametrize("use", USES)
def test_a_longer_text_is_refused(use: str) -> None:
    problem = find_problem(USES[use].format("'x'"), {"text": LONG + "a"})

    assert f"the text is longer than {MAX_TEXT_LENGTH:,} characters" in problem.message
    assert "split" in problem.hint


def test_its_lines_are_not() -> None:
    text = "\n".join(f"{index:064x}  file-{index}.csv" for index in range(3000))
    assert len(text) > MAX_TEXT_LENGTH

    found = evaluate("text | split(nl) | map('regex_replace', '^[0-9a-f]+  ', '') | list", {"text": text, "nl": "\n"})

    assert len(found) == 3000 and found[-1] == "file-2999.csv"


@pytest.mark.parametrize(
    "pattern", ["(" * 500 + ")" * 500, "(?:" * 60 + "a" + "{1000})" * 60, "[[a]", "[a--b]", "a{1,99999}"]
)
def test_an_odd_pattern_is_an_error_or_works_and_warns_nobody(pattern: str) -> None:
    started = time.process_time()
    try:
        assert evaluate("'x' is search(pattern)", {"pattern": pattern}) in (True, False)
    except Exception as error:
        assert "regular expression" in str(error) or "takes longer" in str(error) or "memory" in str(error)
    assert time.process_time() - started < MAX_SECONDS + LATE_SECONDS


def test_a_long_pattern_is_refused() -> None:
    assert "is longer than 4,096 characters" in find_problem("'x' is search('a' * 5000)", {}).message


def test_a_backslash_in_quotes_is_one_as_in_ansible() -> None:
    variables: dict[str, Any] = {"text": "ab", "words": "one two"}

    assert evaluate(r"text | regex_replace('(a)(b)', '\2\1')", variables) == "ba"
    assert evaluate(r"text | regex_replace('(a)(b)', '\\2\\1')", variables) == "ba"
    assert evaluate(r"words | regex_findall('\b[a-z]')", variables) == ["o", "t"]
    assert evaluate(r"words | regex_replace('\s', '\n')", variables) == "one\ntwo"
    assert evaluate(r"'\x41\u00fc\t\'\\'", variables) == "Aü\t'\\"
    assert evaluate(r"""'\1' ~ "\1" ~ '{% raw %}\1'""", variables) == r"\1\1{% raw %}\1"


def test_escaped_text_matches_itself_and_nothing_else() -> None:
    chance = random.Random(7)
    for _ in range(60):
        text = "".join(chance.choice("aA.*+?()[]{}|^$\\ -/\n#&~ü🙂") for _ in range(chance.randint(1, 12)))
        assert evaluate_data("text is regex('^' ~ (text | regex_escape) ~ '\\\\Z')", {"text": text}) is True
        assert evaluate_data("('x' ~ text) is match(text | regex_escape)", {"text": text}) is (
            ("x" + text).startswith(text)
        )
