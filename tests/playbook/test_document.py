"""YAML text to positioned data: what scalars mean, where values stand, and what aliases and '<<' do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.errors import PlaybookInvalid
from runner.playbook.document import PositionedList, PositionedMap, locate, parse
from runner.problems import Location


def parse_map(text: str) -> PositionedMap:
    data = parse(text, "f")
    assert isinstance(data, PositionedMap)
    return data


def at(line: int, column: int) -> Location:
    return Location("f", line, column)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yes", "yes"),  # YAML 1.1's booleans are text
        ("off", "off"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("", None),
        ("''", ""),
        ("22", 22),
        ("'22'", "22"),
        ("0640", 640),
        ("0o640", 0o640),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),  # YAML 1.1's base 60
        ("2024-05-01", "2024-05-01"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("1.2.3", "1.2.3"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("!!int 5", 5),
        ("n", "n"),
        ("🙂", "🙂"),
        ('"\\u00e9"', "é"),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(written: str, meant: object) -> None:
    value = parse_map(f"key: {written}")["key"]

    assert value == meant
    assert type(value) is type(meant)


def test_every_key_and_value_knows_its_place() -> None:
    data = parse_map("a: 1\nb:\n  - x\n  -  {c: d}\n")

    assert data.key_locations["b"] == at(2, 1)
    assert data.value_locations["a"] == at(1, 4)
    assert locate(data, ["b", 0]) == at(3, 5)
    assert locate(data, ["b", 1]) == at(4, 6)
    assert locate(data, ["b", 1, "c"]) == at(4, 10)


def test_a_path_that_leads_nowhere_is_located_at_the_nearest_place() -> None:
    data = parse_map("a:\n  b: [x]\n")

    assert locate(data, ["a", "b", 7]) == at(2, 6)
    assert locate(data, ["nope"]) == data.location


def test_columns_count_characters_not_bytes() -> None:
    assert parse_map("é: ü\n").value_locations["é"] == at(1, 4)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_with_every_line_end(line_end: str) -> None:
    assert parse_map(f"a: 1{line_end}b: 2{line_end}").key_locations["b"] == at(2, 1)


def test_an_alias_stands_where_it_is_used_and_its_content_where_it_was_written() -> None:
    data = parse_map("a: &a {x: 1}\nb: *a\n")

    assert data["b"] == {"x": 1}
    assert data.value_locations["b"] == at(2, 4)
    assert data["b"].value_locations["x"] == at(1, 11)


def test_merged_keys_keep_the_place_they_were_written_at() -> None:
    data = parse_map("base: &base {x: 1, y: 2}\nuser:\n  <<: *base\n  y: 3\n")

    assert data["user"] == {"x": 1, "y": 3}
    assert data["user"].value_locations["x"] == at(1, 17)
    assert data["user"].value_locations["y"] == at(4, 6)


@pytest.mark.parametrize("order", ["<<: *b\n  x: own", "x: own\n  <<: *b"])
def test_a_key_of_its_own_wins_over_a_merged_one_in_either_order(order: str) -> None:
    assert parse_map(f"b: &b {{x: base}}\nc:\n  {order}\n")["c"] == {"x": "own"}


def test_the_first_of_several_merged_mappings_wins() -> None:
    data = parse_map("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n")

    assert data["c"] == {"x": 1, "y": 2}


def test_an_alias_may_stand_for_a_key() -> None:
    assert parse_map("&k name: x\nother: {*k : y}\n") == {"name": "x", "other": {"name": "y"}}


def test_json_is_yaml() -> None:
    data: dict[str, Any] = {"a": [1, 2.5, None, True, 'é\n"🙂'], "b": {"c": ""}}

    assert parse_map(json.dumps(data, indent=1)) == data


def test_a_byte_of_a_file_name_in_no_encoding_can_be_written_as_its_surrogate_escape() -> None:
    assert parse_map(r'name: "caf\udce9"')["name"] == "caf\udce9"


def test_a_list_can_be_the_whole_document() -> None:
    data = parse("- a\n- b\n", "f")

    assert isinstance(data, PositionedList)
    assert data.item_locations == [at(1, 3), at(2, 3)]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("a: 1\na: 2\n", 2, 1, "duplicate key 'a'", "It is already set on line 1; keep one."),
        ("x: {a: 1, a: 2}\n", 1, 11, "duplicate key 'a'", "It is already set on line 1; keep one."),
        ("a: *nope\n", 1, 4, "this alias has no anchor before it", "quotes"),
        ("a: &a [*a]\n", 1, 8, "this alias refers to itself", "quotes"),
        ("a: &a {<<: *a}\n", 1, 12, "this alias refers to itself", "quotes"),
        ("a: !secret x\n", 1, 4, "unknown tag", "Remove the '!…'"),
        ("a: !vault x\n", 1, 4, "this is encrypted, and no vault password is given", "--vault-password-file FILE"),
        ("a: !vault [x]\n", 1, 4, "'!vault' stands before an encrypted text, not a mapping or a list", "whole file"),
        ("a: !vault {b: c}\n", 1, 4, "'!vault' stands before an encrypted text, not a mapping or a list", "whole file"),
        ("a: !!python/object:os.system x\n", 1, 4, "unknown tag", "Remove the '!…'"),
        ("1: a\n", 1, 1, "a key must be a string, not an integer", "Put it in quotes"),
        ("~: a\n", 1, 1, "a key must be a string, not null", "Put it in quotes"),
        ("? [a]\n: b\n", 1, 3, "a key must be a string, not a list", "Put it in quotes"),
        ("a: {{ day }}\n", 1, 4, "an unquoted '{{' begins a mapping in YAML", 'in quotes: "{{ day }}".'),
        ("a: 1\nb: {{ x }}/y\n", 2, 4, "an unquoted '{{' begins a mapping in YAML", 'in quotes: "{{ x }}/y".'),
        ("- a: {{ x }} == 1\n", 1, 6, "an unquoted '{{' begins a mapping in YAML", 'in quotes: "{{ x }} == 1".'),
        ("- {{ x }}\n", 1, 3, "an unquoted '{{' begins a mapping in YAML", 'in quotes: "{{ x }}".'),
        ("a: {b: {{ x }}, c: 1}\n", 1, 8, "an unquoted '{{' begins a mapping in YAML", 'in quotes: "{{ x }}".'),
        ("a: {{ f('b', 1) }}\n", 1, 4, "an unquoted '{{' begins a mapping in YAML", "quotes: \"{{ f('b', 1) }}\"."),
        ('a: {{ f("b", 1) }}\n', 1, 4, "an unquoted '{{' begins a mapping in YAML", "quotes: '{{ f(\"b\", 1) }}'."),
        # What stands beside a template for a secret may be a part of it.
        ("password: {{ x }}hunter2\n", 1, 11, "an unquoted '{{' begins a mapping in YAML", 'in quotes: "{{ … }}".'),
        ("a:\n\tb: 1\n", 2, 1, "not valid YAML", "spaces, not tabs"),
        ("a: b: c\n", 1, 5, "not valid YAML", "must be quoted"),
        ("a: 'x\n", 2, 1, "not valid YAML", "quotes"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second YAML document begins here", "remove the '---'"),
        ("%YAML 1.1\n---\na: 1\n", 2, 1, "%YAML 1.1 is not supported: playbooks are YAML 1.2", "Remove"),
        ("a: b\0c\n", 1, 5, "the character U+0000 is not allowed in YAML", "Remove it."),
        ("a: 1\nb: \x1b[2J\n", 2, 4, "the character U+001B is not allowed in YAML", "Remove it."),
        ("<<: text\n", 1, 5, "'<<' merges mappings, not a string", "<<: *name"),
        (r'a: "\ud83d"', 1, 4, r"an escape \uD800 … \uDFFF without its other half", "the character itself"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_a_way_out(
    text: str, line: int, column: int, message: str, hint: str
) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        parse(text, "f")

    problem = next(one for one in caught.value.problems if one.location == at(line, column))
    assert problem.message.startswith(message)
    assert hint in problem.hint


def test_mistakes_that_do_not_end_the_parse_are_told_together() -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        parse("a: 1\na: 2\nb: !x y\n5: c\n", "f")

    assert [one.location.line for one in caught.value.problems] == [2, 3, 4]


@pytest.mark.parametrize("password", ["*hunter2", "!hunter2", "!hunter2!hunter2"])
def test_an_unquoted_password_that_yaml_takes_for_syntax_is_not_shown(password: str) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        parse(f"password: {password}\n", "f")

    assert "hunter2" not in repr(caught.value.problems)
