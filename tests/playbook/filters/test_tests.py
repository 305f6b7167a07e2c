"""Tests of files, and the words for a filter, a test or an option that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.playbook.filters.registry import FILTER_NAMES, TEST_NAMES
from runner.playbook.filters.strangers import KINDS
from runner.playbook.lookups import LOOKUP_OPTIONS
from tests.playbook.filters.evaluation import PLACE, evaluate, find_problem, make_templates


class TestFiles:
    def test_a_relative_path_starts_at_the_playbook(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.csv").touch()
        (tmp_path / "loose").symlink_to("nowhere")
        (tmp_path / "link").symlink_to("out")

        def holds(test: str) -> bool:
            found = evaluate(test, {}, tmp_path)
            assert isinstance(found, bool)
            return found

        assert holds("'out/a.csv' is file") and holds("'out/a.csv' is exists") and not holds("'out/a.csv' is directory")
        assert holds("'out' is directory") and holds("'link' is directory") and not holds("'out' is file")
        assert not holds("'loose' is exists") and not holds("'' is exists") and not holds("'' is directory")
        assert evaluate("['out', 'nope', 'link'] | select('exists')", {}, tmp_path) == ["out", "link"]

    def test_the_home_is_known(self, tmp_path: Path) -> None:
        (Path.home() / "a.csv").touch()

        assert evaluate("'~/a.csv' is file", {}, tmp_path) is True

    @pytest.mark.parametrize("path", ["'a' * 100000", "'\\u0000'", "'/' * 5000"])
    def test_an_odd_path_is_not_there(self, path: str) -> None:
        assert evaluate(f"({path}) is file", {}) is False


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("day | basname", "the template is not valid: No filter named 'basname'.", "Did you mean 'basename'?"),
        (
            "day | regex_serach('x')",
            "the template is not valid: No filter named 'regex_serach'.",
            "Did you mean 'regex_search'?",
        ),
        ("day is mach('x')", "the template is not valid: No test named 'mach'.", "Did you mean 'match'?"),
        (
            "day | to_nice_yaml",
            "the template is not valid: No filter",
            "Ansible has the filter 'to_nice_yaml', the runner has not. Write … | to_yaml(default_flow_style=false).",
        ),
        (
            "day | password_hash",
            "the template is not valid: No filter",
            "Ansible has the filter 'password_hash', the runner has not.",
        ),
        (
            "day is subset(day)",
            "the template is not valid: No test",
            "Ansible has the test 'subset', the runner has not. Write (a | difference(b)) | length == 0.",
        ),
        ("day | match('x')", "the template is not valid: No filter", "'match' is a test: write … is match."),
        ("day is basename", "the template is not valid: No test", "'basename' is a filter: write … | basename."),
        (
            "[day] | map('basname') | list",
            "the template cannot be filled in: No filter named 'basname'.",
            "Did you mean 'basename'?",
        ),
        (
            "[day] | select('mach') | list",
            "the template cannot be filled in: No test named 'mach'.",
            "Did you mean 'match'?",
        ),
        (
            "day | ansible.builtin.basename",
            "the template is not valid: No filter",
            "Write … | basename, without the name of a",
        ),
        (
            "day is ansible.builtin.match('m')",
            "the template is not valid: No test",
            "Write … is match, without the name of a",
        ),
        (
            "day | community.general.json_query('x')",
            "the template is not valid: No filter",
            "has the filter 'json_query'",
        ),
        (
            "lookup('ansible.builtin.env', 'X')",
            "unknown lookup 'ansible.builtin.env'",
            "Write lookup('env', …), without",
        ),
        ("query('fileglob', '*')", "undefined in the template: 'query' is undefined", "Write lookup(KIND, …)."),
        ("q('fileglob', '*')", "undefined in the template: 'q' is undefined", "Write lookup(KIND, …)."),
        ("missing | default(omit)", "undefined in the template: 'omit' is undefined", "leave the key out"),
        ("inventory_hostname", "undefined in the template: 'inventory_hostname'", "Write host, or connection_name."),
        ("ansible_date_time.date", "undefined in the template: 'ansible_date_time'", "now(fmt='%Y-%m-%d')"),
        (
            "basename(day)",
            "undefined in the template: 'basename' is undefined",
            "'basename' is a filter: write … | basename.",
        ),
        ("dya", "undefined in the template: 'dya' is undefined", "Did you mean 'day'?"),
        ("zebra", "undefined in the template: 'zebra'", "Known: day, lookup, now, runner_version, timedelta."),
        ("lookup('env', 'X', defualt='')", "lookup('env') has no option 'defualt'", "Did you mean 'default'?"),
        ("lookup('first_found', 'x', path='.')", "lookup('first_found') has no option 'path'", "Did you mean 'paths'?"),
        (
            "lookup('url', 'x')",
            "unknown lookup 'url'",
            "Ansible has the lookup 'url', the runner has not. Known: env, ",
        ),
        ("lookup('dict', day)", "unknown lookup 'dict'", "Write … | dict2items."),
        ("lookup('flie', 'x')", "unknown lookup 'flie'", "Did you mean 'file'?"),
        (
            "day | regex_replace('a', 'b', ignore_case=true)",
            "the filter 'regex_replace' has no option 'ignore_case'",
            "Did you mean 'ignorecase'? It is used so: … | regex_replace(pattern='',",
        ),
        (
            "day is version('1', op='<')",
            "the test 'version' has no option 'op'",
            "It is used so: … is version(version, operator='eq',",
        ),
        (
            "day | b64encode(1, 2, 3, 4)",
            "the filter 'b64encode' is called wrongly: too many positional arguments",
            "It is used so",
        ),
        (
            "day | regex_findall",
            "the filter 'regex_findall' is called wrongly: missing a required argument: 'regex'",
            "It is used so",
        ),
        ("missing | basename", "undefined in the template: 'missing' is undefined", "Known: day"),
        ("day | regex_replace(missing, '')", "undefined in the template: 'missing' is undefined", "Known: day"),
        ("[missing] | combine", "undefined in the template: 'missing' is undefined", "Known: day"),
        ("[missing] | flatten", "undefined in the template: 'missing' is undefined", "Known: day"),
        ("missing.deeper.still", "undefined in the template: 'missing' is undefined", "Known: day"),
        ("day is match(missing)", "undefined in the template: 'missing' is undefined", "Known: day"),
        ("day | path_join(1)", "the filter 'path_join' is called wrongly: too many", "It is used so: … | path_join."),
        ("[1, [2]] | human_readable", "'human_readable' needs a number, not a list", ""),
        (
            "now() | strftime",
            "'strftime' needs the format before it, not datetime",
            "Write MOMENT.strftime('%Y-%m-%d'), with a dot.",
        ),
        ("timedelta(day=1)", "timedelta: ", "timedelta(days=1)"),
        ("timedelta(days=10**12)", "timedelta: ", "timedelta(days=1)"),
        ("timedelta.__class__", "the template is not allowed: ", "sandbox"),
        ("timedelta.__globals__", "the template is not allowed: ", "sandbox"),
        ("timedelta(days=1).__class__.__mro__", "the template is not allowed: ", "sandbox"),
    ],
)
def test_a_mistake_is_named_with_what_was_probably_meant(expression: str, message: str, hint: str) -> None:
    problem = find_problem(expression, {"day": "monday"})

    assert problem.location == PLACE
    assert problem.message.startswith(message)
    assert hint in problem.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_near_miss_of_each_is_understood(kind: str) -> None:
    """One letter left out of the middle of a name."""
    names = {"filter": FILTER_NAMES, "test": TEST_NAMES, "lookup": tuple(LOOKUP_OPTIONS)}[kind]
    for name in (name for name in names if len(name) > 4):
        misspelt = name[: len(name) // 2] + name[len(name) // 2 + 1 :]
        expression = {"filter": "day | {}", "test": "day is {}", "lookup": "lookup('{}', 'x')"}[kind].format(misspelt)
        hint = find_problem(expression, {"day": "monday"}).hint
        assert hint.startswith(f"Did you mean '{name}'?"), (misspelt, hint)


@pytest.mark.parametrize("kind", KINDS)
def test_what_ansible_has_and_we_have_not_is_one_message(kind: str) -> None:
    for name in KINDS[kind]:
        expression = {"filter": "day | {}", "test": "day is {}", "lookup": "lookup('{}', 'x')"}[kind].format(name)
        problem = find_problem(expression, {"day": "monday"})
        assert problem.hint.startswith(f"Ansible has the {kind} '{name}', the runner has not."), name


def test_what_is_written_instead_can_be_written() -> None:
    """Each name of ours in a hint exists."""
    environment = make_templates(Path("/"))._environment
    for instead in (text for names in KINDS.values() for text in names.values()):
        assert set(re.findall(r"\| (\w+)", instead)) <= environment.filters.keys(), instead
        assert set(re.findall(r" is (?:not )?(\w+)", f" {instead}")) <= environment.tests.keys(), instead
        assert set(re.findall(r"lookup\('(\w+)'", instead)) <= LOOKUP_OPTIONS.keys(), instead


def test_what_ansible_has_and_we_have_not_is_not_here() -> None:
    environment = make_templates(Path("/"))._environment
    assert not KINDS["filter"].keys() & environment.filters.keys()
    assert not KINDS["test"].keys() & environment.tests.keys()
    assert not KINDS["lookup"].keys() & LOOKUP_OPTIONS.keys()
    assert set(FILTER_NAMES) <= environment.filters.keys() and set(TEST_NAMES) <= environment.tests.keys()
