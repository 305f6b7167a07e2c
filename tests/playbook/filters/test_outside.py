"""No filter makes text from outside the playbook's own: what comes of it in a path is still held to the rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runner.playbook.filters.registry import FILTER_NAMES
from runner.playbook.paths import find_path_fault
from runner.playbook.provenance import Origin, Source, Traced, find_outside, find_parts, mark_outside, origin_of
from runner.playbook.templating import COMMAND_LINE, TemplateProblem
from tests.playbook.conftest import Loader
from tests.playbook.filters.evaluation import PLACE, make_templates
from tests.playbook.test_paths import playbook
from tests.playbook.test_templating import render_destination

SERVER = Source("a file's name on web1", Origin.SERVER)

# An expression for each filter, and what somebody outside puts in, of which `..` comes out of it.
LEADING_OUT: dict[str, tuple[str, Any]] = {
    "basename": ("given | basename", "a/.."),
    "dirname": ("given | dirname", "../x"),
    "splitext": ("(given | splitext)[0]", "../a.x"),
    "path_join": ("['a', given] | path_join", ".."),
    "split": ("given | split(',') | last", "a,.."),
    "quote": ("given | quote", "../a"),
    "b64decode": ("given | b64decode", "Li4vYQ=="),
    "regex_replace": ("given | regex_replace('x', '.')", "x./a"),
    "regex_search": ("given | regex_search('[.]+')", "a..b"),
    "regex_findall": ("given | regex_findall('[.]+') | first", "a..b"),
    "regex_escape": ("given | regex_escape | replace('\\\\', '')", "../a"),
    "to_json": ("[given] | to_json | regex_replace('[^./]', '')", "../.."),
    "to_nice_json": ("([given] | to_nice_json | split('\"'))[1]", "../a"),
    "from_json": ("(given | from_json)[0]", '["../a"]'),
    "to_yaml": ("[given] | to_yaml | regex_replace('[^./]', '')", "../.."),
    "from_yaml": ("(given | from_yaml).k", "k: ../a"),
    "ternary": ("true | ternary(given, 'x')", "../a"),
    "mandatory": ("given | mandatory", "../a"),
    "default": ("missing | default(given)", "../a"),
    "combine": ("({'k': 'x'} | combine({'k': given})).k", "../a"),
    "dict2items": ("({'k': given} | dict2items)[0].value", "../a"),
    "items2dict": ("([{'key': 'k', 'value': given}] | items2dict).k", "../a"),
    "flatten": ("[['x', [given]]] | flatten | last", "../a"),
    "zip": ("(['x'] | zip([given]) | first)[1]", "../a"),
    "union": ("['x'] | union([given]) | last", "../a"),
    "intersect": ("[given] | intersect([given]) | first", "../a"),
    "difference": ("[given] | difference(['x']) | first", "../a"),
    "unique": ("[given] | unique | first", "../a"),
    "subelements": ("([{'k': [given]}] | subelements('k') | first)[1]", "../a"),
    "strftime": ("given | strftime(0)", "../%Y"),
    "to_datetime": ("(given | to_datetime('%Y')).strftime('../%Y')", "2024"),
    "map": ("[given] | map('regex_replace', 'x', 'y') | first", "../a"),
    "select": ("[given] | select('search', 'a') | first", "../a"),
    "dictionary": ("{given: 1} | list | first", "../a"),
    "timedelta": ("given ~ timedelta(days=1).days", "../a"),
}
# What they give leads nowhere by itself: a checksum, a number, a word.
HARMLESS = {
    "b64encode": "given | b64encode",
    "hash": "given | hash",
    "human_readable": "given | length | human_readable",
    "human_to_bytes": "given | length | human_to_bytes",
    "bool": "given | length | bool",
}


def test_every_filter_is_here() -> None:
    assert {*FILTER_NAMES, "default"} <= {*LEADING_OUT, *HARMLESS}


@pytest.mark.parametrize("way", ["{}", "{} | trim", "{} ~ ''"])
@pytest.mark.parametrize("name", LEADING_OUT)
def test_what_comes_of_it_does_not_lead_out(load: Loader, name: str, way: str) -> None:
    expression, given = LEADING_OUT[name]

    path = f"srv/{{{{ {way.format(f'({expression})')} }}}}/x"
    problem = load.find_problem(playbook(path, "vars: {}\n"), extra_vars={"given": given})

    assert "the extra variable 'given' brings '..' into it" in problem.message


@pytest.mark.parametrize("name", LEADING_OUT)
def test_through_a_variable_neither(load: Loader, name: str) -> None:
    expression, given = LEADING_OUT[name]
    head = f"vars: {{made: {quote(expression)}}}\n"

    problem = load.find_problem(playbook("srv/{{ made }}/x", head), extra_vars={"given": given})

    assert "the extra variable 'given' brings '..' into it" in problem.message


def quote(expression: str) -> str:
    return json.dumps(f"{{{{ {expression} }}}}")


@pytest.mark.parametrize("name", [*LEADING_OUT, "b64encode", "hash"])
def test_the_result_knows_the_server_that_had_a_part_in_it(name: str) -> None:
    expression, given = LEADING_OUT.get(name) or (HARMLESS[name], "../a")

    found = render(f"{{{{ {expression} }}}}", mark_outside(given, SERVER))

    assert origin_of(find_outside(found)) is Origin.SERVER, found


def render(text: str, given: Any, **more: Any) -> Any:
    scope = {name: (value, PLACE) for name, value in {"given": given, **more}.items()}
    return make_templates(Path("/")).render(text, PLACE, scope)


def test_what_a_server_says_is_not_lost_beside_what_others_say() -> None:
    templates = make_templates(Path("/"))
    scope = {"given": (mark_outside("x", SERVER), PLACE), "other": ("y", COMMAND_LINE)}
    for text in (
        "{{ other ~ given }}",
        "{{ [other, given] | join }}",
        "{{ (other + given) | upper }}",
        "{{ (other ~ given)[1:] }}",
    ):
        found = templates.render(text, PLACE, scope)
        assert origin_of(find_outside(found)) is Origin.SERVER, text


def test_parts_put_together_are_still_whose_they_were(load: Loader) -> None:
    join = "{{ ['/srv', given, 'x'] | path_join }}"

    made = load(playbook(join, "vars: {}\n"), extra_vars={"given": "main/a"})
    assert made.calls[0].mode.places[1].path == "/srv/main/a/x"
    for given, fault in (("/etc", "brings a '/' at its beginning"), ("../x", "brings '..'"), ("", "is empty")):
        problem = load.find_problem(playbook(join, "vars: {}\n"), extra_vars={"given": given})
        assert f"the extra variable 'given' {fault}" in problem.message, given


def test_a_part_of_the_playbooks_own_may_begin_anew(load: Loader) -> None:
    made = load(playbook("{{ ['a', '/b', given] | path_join }}", "vars: {}\n"), extra_vars={"given": "c"})

    assert made.calls[0].mode.places[1].path == "/b/c"


@pytest.mark.parametrize("text", ["{{ v | first }}", "{{ v[0] }}", "{{ v | map('lower') | first }}", "{{ v | join }}"])
@pytest.mark.parametrize(
    "variable",
    ["{{ [given] | map('lower') }}", "{{ {'k': given}.values() }}", "{{ [given] | select }}", "{{ given.split(',') }}"],
)
def test_a_list_that_is_made_when_it_is_asked_for_hides_nobody(variable: str, text: str) -> None:
    found = render(text, mark_outside("../a", SERVER), v=variable)

    assert found == "../a"
    assert origin_of(find_outside(found)) is Origin.SERVER


def test_a_variable_that_is_called_like_a_name_of_the_language_is_from_outside_too(load: Loader) -> None:
    problem = load.find_problem(playbook("srv/{{ now | lower }}", "vars: {}\n"), extra_vars={"now": "../x"})

    assert "the extra variable 'now' brings '..'" in problem.message


def test_an_item_can_be_chosen_by_data_and_is_the_playbooks(load: Loader) -> None:
    chosen = "srv/{{ (given == 'live') | ternary('../live', 'test') }}"

    made = load(playbook(chosen, "vars: {}\n"), extra_vars={"given": "live"})

    assert made.calls[0].mode.places[1].path == "srv/../live"


class TestLookups:
    """What a server says is no part of a lookup, and what extra vars say of none that reads or runs something."""

    EVERYWHERE = ("env", "file", "fileglob", "first_found", "pipe", "template", "vars")
    WAYS = (
        "{{ lookup('KIND', given) }}",
        "{{ lookup('KIND', 'a' ~ given) }}",
        "{{ lookup('KIND', 'a' + given) }}",
        "{{ lookup('KIND', given | lower) }}",
        "{{ lookup('KIND', given.lower()) }}",
        "{{ lookup('KIND', given[:2]) }}",
        "{{ lookup('KIND', '%s' | format(given)) }}",
        "{{ lookup('KIND', [given, 'x'] | join) }}",
        "{{ lookup('KIND', [given] | map('upper') | first) }}",
        "{{ lookup('KIND', through) }}",
        "{{ lookup('KIND', 'x' if false else given) }}",
        "{{ lookup('KIND', 'x', given) }}",
        "{{ lookup('KIND', (given | to_json | from_json)) }}",
        "{% set x = given | lower %}{{ lookup('KIND', x) }}",
        "{% set x %}{{ given }}{% endset %}{{ lookup('KIND', x) }}",
        "{% macro m() %}{{ given }}{% endmacro %}{{ lookup('KIND', m()) }}",
        "{% for x in [given] | map('lower') %}{{ lookup('KIND', x) }}{% endfor %}",
        "a {{ lookup('KIND', given | trim) }} b",
        # A lookup that stands inside of something is held to it as well.
        "{{ lookup('KIND', given | lower) | trim }}",
        "{{ lookup('KIND', 'a' ~ given) | default('x') | trim }}",
        "{{ lookup('KIND', given.lower()).strip() }}",
        "{{ '%s' % lookup('KIND', given | lower) }}",
        "{{ {'k': lookup('KIND', given | lower)} | to_json }}",
        "{{ [lookup('KIND', given | lower)] | map('trim') | first }}",
        "{{ 'x' is match(lookup('KIND', given | lower)) }}",
        "{% if true %}{{ lookup('KIND', given | lower) }}{% endif %}",
        "{% filter trim %}{{ lookup('KIND', given | lower) }}{% endfilter %}",
        "{% macro m(x) %}{{ lookup('KIND', x) }}{% endmacro %}{{ m(given | lower) }}",
        "{% set x %}{{ lookup('KIND', given | lower) }}{% endset %}{{ x }}",
        "{% with x = given | lower %}{{ lookup('KIND', x) }}{% endwith %}",
        # Whatever it is handed on in.
        "{{ lookup('KIND', *[given | lower]) }}",
        "{{ lookup(*['KIND', given | lower]) }}",
        "{% set x = [given | lower] %}{{ lookup('KIND', *x) }}",
        "{{ lookup('KIND', namespace(x=given | lower).x) }}",
        "{% set n = namespace(x='') %}{% set n.x = given | lower %}{{ lookup('KIND', n.x) }}",
        "{% set n = namespace(x='') %}{% for c in given %}{% set n.x = n.x ~ c %}{% endfor %}{{ lookup('KIND', n.x) }}",
        "{{ lookup('KIND', {given: 1} | list | first) }}",
        "{{ lookup('KIND', [{'k': given}] | groupby('k') | map(attribute='grouper') | first) }}",
        "{{ lookup('KIND', held.x) }}",
        "{{ lookup('KIND', method()) }}",
        "{{ lookup('KIND', given is string and given | lower) }}",
        "{{ lookup('KIND', given | lower, 'x') }}",
        "{{ lookup('KIND', lookup('vars', 'through')) }}",
        "{{ lookup('KIND', lookup('vars', 'through') | lower) }}",
        "{% if true %}{{ lookup('KIND', lookup('vars', 'lowered')) }}{% endif %}",
        "{{ lookup('KIND', vague) }}",
    )
    HELD = {
        "through": "{{ given }}",
        "lowered": "{{ given | lower }}",
        "held": "{{ namespace(x=given | lower) }}",
        "method": "{{ given.lower }}",
        # Text that statements make of what is looked up.
        "vague": "{% if true %}{{ lookup('vars', 'through') }}{% endif %}",
    }

    @pytest.mark.parametrize("kind", EVERYWHERE)
    @pytest.mark.parametrize(
        "way", [*WAYS, "{{ lookup('KIND', given | trusted_path) }}", "{{ lookup('KIND', given | quote) }}"]
    )
    def test_a_server_has_no_part_in_it(self, kind: str, way: str) -> None:
        with pytest.raises(TemplateProblem) as caught:
            render(way.replace("KIND", kind), mark_outside("HOME", SERVER), **self.HELD)

        [problem] = caught.value.problems
        assert problem.message.startswith(f"lookup('{kind}') takes nothing that comes from a server: ")
        assert "a file's name on web1" in problem.message
        assert problem.location == PLACE

    @pytest.mark.parametrize("kind", ["env", "file", "pipe", "template"])
    @pytest.mark.parametrize("way", WAYS)
    def test_extra_vars_have_none_in_what_reads_or_runs_something(self, kind: str, way: str) -> None:
        scope = {"given": ("HOME", COMMAND_LINE), **{name: (text, PLACE) for name, text in self.HELD.items()}}
        with pytest.raises(TemplateProblem) as caught:
            make_templates(Path("/")).render(way.replace("KIND", kind), PLACE, scope)

        [problem] = caught.value.problems
        assert problem.message.startswith(f"lookup('{kind}') takes nothing from outside: the ")
        assert "the extra variable 'given'" in problem.message
        assert problem.hint

    @pytest.mark.parametrize(
        "text",
        [
            "{{ [lookup][0]('file', given) }}",
            "{% set find = lookup %}{{ find('file', given | lower) }}",
            "{{ find('file', given | lower) }}",
            "{{ dict(f=lookup).f('file', given | lower) }}",
            "{% call lookup('file', given | lower) %}{% endcall %}",
        ],
    )
    def test_under_another_name_nothing_is_looked_up(self, load: Loader, text: str) -> None:
        (load.folder / "home").write_text("found")
        with pytest.raises(TemplateProblem) as caught:
            render(text, mark_outside("HOME", SERVER), find="{{ lookup }}")

        assert caught.value.problems[0].message == "'lookup' is called under another name"

    @pytest.mark.parametrize("name", ["lookup", "mark", "quoted", "concatenate"])
    def test_what_expressions_are_rewritten_to_cannot_be_written(self, name: str) -> None:
        for text in (f"{{{{ ['file'] | map('runner {name}', 'x') }}}}", f"{{{{ 'file' | runner {name}('x') }}}}"):
            with pytest.raises(TemplateProblem) as caught:
                render(text, "x")
            assert re.search("No filter named|is not valid", caught.value.problems[0].message)

    @pytest.mark.parametrize("option", ["files", "paths"])
    def test_options_are_held_to_it(self, option: str) -> None:
        for text in (
            "{{ lookup('first_found', 'x', OPTION=[given | lower]) | trim }}",
            "{% set x = [given | lower] %}{{ lookup('first_found', 'x', OPTION=x) }}",
            "{% macro m() %}{{ lookup('first_found', 'x', OPTION=[given]) }}{% endmacro %}{{ m() }}",
            "{{ lookup('first_found', 'x', **{'OPTION': [given]}) }}",
            "{{ lookup('first_found', {'OPTION': [given]}) }}",
        ):
            with pytest.raises(TemplateProblem) as caught:
                render(text.replace("OPTION", option), mark_outside("x", SERVER))
            assert "takes nothing that comes from a server" in caught.value.problems[0].message

    def test_who_chose_the_pattern_has_a_part_in_the_files_that_it_matches(self, load: Loader) -> None:
        (load.folder / "live.txt").write_text("x")
        text = "{{ lookup('file', lookup('fileglob', given ~ '*') | first) }}"

        problem = load.find_problem(playbook(text, "vars: {}\n"), extra_vars={"given": "live"})

        assert problem.message == ("lookup('file') takes nothing from outside: a file that 'live*' matches")

    def test_what_is_looked_up_of_a_server_s_is_the_server_s(self) -> None:
        for text in (
            "{{ lookup('vars', 'through') | upper }}",
            "{{ lookup('vars', 'through') ~ 'x' }}",
            "{{ [lookup('vars', 'through')] | join }}",
            "{% if true %}{{ lookup('vars', 'through') }}{% endif %}",
            "{{ lookup('vars', 'vague') | lower }}",
        ):
            found = render(text, mark_outside("x", SERVER), **self.HELD)
            assert origin_of(find_outside(found)) is Origin.SERVER, text

    def test_a_long_list_hides_nobody(self) -> None:
        found = render("{{ (['x'] * 30000 + [given] + ['x'] * 30000) | join }}", mark_outside("y", SERVER))

        assert origin_of(find_outside(found)) is Origin.SERVER

    def test_they_may_be_a_word_in_a_command(self, load: Loader) -> None:
        head = "vars: {word: '{{ given | quote }}', command: 'echo {{ given | quote }}'}\n"
        for command in ("'echo ' ~ (given | quote)", "'echo ' + (given | quote)", "'echo ' ~ word", "command"):
            found = render_destination(load, f"{{{{ lookup('pipe', {command}) }}}}", head, extra_vars={"given": "a; b"})
            assert found == "a; b"

    @pytest.mark.parametrize("command", ["'echo ' ~ (given | quote | lower)", "'echo ' ~ (given | quote) ~ given"])
    def test_not_what_was_quoted_and_changed(self, load: Loader, command: str) -> None:
        problem = load.find_problem(playbook(f"{{{{ lookup('pipe', {command}) }}}}"), extra_vars={"given": "a"})

        assert "takes nothing from outside" in problem.message

    def test_they_may_name_a_file_that_is_meant(self, load: Loader) -> None:
        (load.folder / "live.txt").write_text("x")
        text = "{{ lookup('file', (given ~ '.txt') | trusted_path) }}"

        assert render_destination(load, text, extra_vars={"given": "live"}) == "x"

    @pytest.mark.parametrize(
        "text",
        [
            "{{ lookup('env', {'test': 'DAY', 'live': 'NIGHT'}[given]) }}",
            "{% if true %}{{ lookup('env', {'test': 'DAY', 'live': 'NIGHT'}[given]) }}{% endif %}",
            "{{ lookup('env', 'DAY' if given == 'test' else 'NIGHT') | trim }}",
        ],
    )
    def test_they_may_choose_among_names_that_are_written(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("DAY", "monday")

        assert make_templates(Path("/")).render(text, PLACE, {"given": ("test", COMMAND_LINE)}) == "monday"

    def test_what_this_machine_says_may_be_looked_up(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WHICH", "b.txt")
        (load.folder / "b.txt").write_text("x")

        assert render_destination(load, "{{ lookup('file', lookup('env', 'WHICH')) }}") == "x"

    def test_what_is_looked_up_by_names_is_still_whose_it_was(self) -> None:
        scope = {"given": ("../a", COMMAND_LINE), "named": ("{{ given }}", PLACE)}
        found = make_templates(Path("/")).render("{{ lookup('vars', 'named') }}", PLACE, scope)

        assert isinstance(found, Traced)
        assert origin_of(find_outside(found)) is Origin.EXTRA_VARS

    def test_a_condition_on_it_is_no_part_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DAY", "monday")

        found = render("{{ lookup('env', 'DAY' if given == 'x' else 'NIGHT') }}", mark_outside("x", SERVER))

        assert found == "monday"


def test_a_source_says_where_it_is_on_every_way() -> None:
    whole = mark_outside({"a": ["x", {"b": "y"}]}, SERVER)

    assert {origin_of(part.source) for part in find_parts(whole)} == {Origin.SERVER}
    assert find_path_fault(str(whole["a"][0])) is None
