"""Inputs: from where, of which type, and what is wrong with them, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Outcome, Runner
from tests.playbook.conftest import Loader

SHOW = "steps: [{debug: {msg: '{{ x }}'}, when: x is defined}]\n"
TRUE = "true"


def play(runner: Runner, declared: str, *arguments: str, more: str = "") -> Outcome:
    return runner.play(f"inputs: {{x: {{{declared}}}}}\n{more}{SHOW}", *arguments)


def said(outcome: Outcome) -> str:
    assert outcome.exit_code == 0, outcome.output
    return str(outcome.step["message"])


@pytest.mark.parametrize(
    ("declared", "given", "shown"),
    [
        ("type: string", "7", "7"),
        ("", "text", "text"),
        ("type: integer", "7", "7"),
        ("type: integer", " -12 ", "-12"),
        ("type: number", "2.5", "2.5"),
        ("type: number", "2", "2"),
        ("type: boolean", "true", "True"),
        ("type: boolean", "False", "False"),
        ("type: string, enum: [test, live]", "live", "live"),
        ("type: integer, enum: [1, 2]", "2", "2"),
        ("pattern: '[a-z]+'", "abc", "abc"),
    ],
)
def test_a_value_has_the_type_that_is_declared(runner: Runner, declared: str, given: str, shown: str) -> None:
    assert said(play(runner, declared, "-e", f"x={given}")) == shown


def test_lists_and_mappings_come_as_yaml(runner: Runner) -> None:
    assert said(play(runner, "type: list", "-e", "{x: [1, 2]}")) == "[1, 2]"
    assert said(play(runner, "type: mapping", "-e", "{x: {a: 1}}")) == "{'a': 1}"


WRONG = [
    ("type: integer", "seven", "the input 'x' must be an integer, and given with -e is a string: 'seven'"),
    ("type: boolean", "yes", "the input 'x' must be true or false, and given with -e is a string: 'yes'"),
    ("type: list", "a", "the input 'x' must be a list, and given with -e is a string: 'a'"),
    ("enum: [test, live]", "prod", "the input 'x' must be one of test, live, and given with -e is 'prod'"),
    ("pattern: '[a-z]+'", "abc1", "the input 'x' must match '[a-z]+', and given with -e is 'abc1'"),
    ("pattern: '['", "abc1", "'pattern' is no regular expression"),
    ("type: integer, default: x", None, "the input 'x' must be an integer, and its default is a string: 'x'"),
    ("required: true", None, "the input 'x' is missing"),
    ("type: text", "a", "'type' must be string or integer or number or boolean or list or mapping, not 'text'"),
    ("typ: string", "a", "unknown key 'typ'"),
]


@pytest.mark.parametrize(("declared", "given", "message"), WRONG)
def test_what_is_wrong_is_told_before_anything_else(
    runner: Runner, declared: str, given: str | None, message: str
) -> None:
    outcome = play(runner, declared, *(["-e", f"x={given}"] if given is not None else []))

    assert outcome.exit_code == 3
    problems = outcome.report["error"]["problems"]
    assert any(message in one["message"] for one in problems), problems
    assert all(one["location"]["line"] == 1 for one in problems)


def test_all_that_is_wrong_is_told_at_once(load: Loader) -> None:
    text = f"inputs: {{a: {{required: true}}, b: {{type: integer}}, c: {{required: true, env: NOT_SET_HERE}}}}\n{SHOW}"

    problems = load.find_problems(text, extra_vars={"b": "x"})

    assert len([one for one in problems if "the input" in one.message]) == 3
    assert "-e c=…, or the environment variable NOT_SET_HERE" in next(
        one.hint for one in problems if "'c'" in one.message
    )


def test_the_environment_comes_behind_the_command_line_and_before_the_default(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = "type: integer, env: FROM_OUTSIDE, default: 1"
    assert said(play(runner, declared)) == "1"
    monkeypatch.setenv("FROM_OUTSIDE", "2")
    assert said(play(runner, declared)) == "2"
    assert said(play(runner, declared, "-e", "x=3")) == "3"


def test_a_default_may_be_a_template(runner: Runner) -> None:
    assert said(play(runner, "default: '{{ a }}-{{ playbook_dir | length > 1 }}'", more="vars: {a: b}\n")) == "b-True"


def test_inputs_beat_variables_and_facts(runner: Runner) -> None:
    text = "inputs: {x: {default: input}}\nvars: {x: variable}\nsteps: [{set_fact: {x: fact}}, {debug: {msg: '{{ x }}'}}]\n"

    assert runner.play(text).report["steps"][1]["message"] == "input"


def test_an_input_without_a_value_is_undefined(runner: Runner) -> None:
    assert play(runner, "type: string").statuses == ["skipped"]


def test_a_secret_is_masked(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "correct horse")
    outcome = play(runner, "secret: true, env: FROM_OUTSIDE")

    assert said(outcome) == "********"
    wrong = play(runner, "secret: true, env: FROM_OUTSIDE, enum: [a]")
    assert "correct horse" not in outcome.output + wrong.output


def test_a_secret_input_is_not_given_to_commands(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "correct horse")
    text = (
        "inputs: {x: {secret: true, env: FROM_OUTSIDE}}\n"
        "steps: [{debug: {msg: \"{{ lookup('pipe', 'echo ${FROM_OUTSIDE-nothing}') }}\"}}]\n"
    )

    assert runner.play(text).step["message"] == "nothing"


def test_what_comes_from_outside_is_data(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "{{ 6 * 7 }}")
    assert said(play(runner, "env: FROM_OUTSIDE")) == "{{ 6 * 7 }}"
    assert said(play(runner, "", "-e", "x={{ 6 * 7 }}")) == "{{ 6 * 7 }}"


def test_what_comes_from_outside_does_not_leave_a_path(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "../../x")
    text = (
        "inputs: {x: {env: FROM_OUTSIDE}}\nsteps:\n- {host: h, authentication: {authentication_method: ssh_agent, "
        "username: u}, mode: {mode_name: remove, path: 'a/{{ x }}'}}\n"
    )

    assert "the environment variable FROM_OUTSIDE brings '..' into it" in load.find_problem(text).message


class TestWhatTheCommandLineSets:
    def test_is_refused_where_a_playbook_with_inputs_does_not_know_it(self, load: Loader) -> None:
        text = f"inputs: {{stage: {{default: a}}}}\nvars: {{v: 1}}\n{SHOW}"

        load(text, extra_vars={"stage": "x", "v": "2"})
        problem = load.find_problem(text, extra_vars={"stgae": "x"})

        assert problem.message == "the playbook has no input or variable 'stgae'"
        assert problem.hint == "Did you mean 'stage'?"

    def test_is_warned_of_where_nothing_uses_it(self, load: Loader) -> None:
        load("vars: {v: 1}\nsteps: [{debug: {msg: '{{ w }}'}}]\n", extra_vars={"v": "1", "w": "2", "u": "3"})

        assert [one.message for one in load.warnings] == ["nothing in the playbook uses the variable 'u'"]


class TestFilesOfVariables:
    def write(self, load: Loader, **files: Any) -> None:
        for name, text in files.items():
            (load.folder / f"{name}.yaml").write_text(text)

    def path(self, load: Loader, head: str, extra: dict[str, Any] | None = None) -> str:
        text = (
            f"{head}\nsteps:\n- {{host: h, authentication: {{authentication_method: ssh_agent, username: u}}, "
            "mode: {mode_name: stats, path: '{{ v }}'}}\n"
        )
        return load(text, extra_vars=extra).calls[0].mode.subject

    def test_a_later_one_wins_and_the_playbook_over_both(self, load: Loader) -> None:
        self.write(load, one="v: one\nw: w\n", two="v: '{{ w }}2'\n")

        assert self.path(load, "vars_files: one.yaml") == "one"
        assert self.path(load, "vars_files: [one.yaml, two.yaml]") == "w2"
        assert self.path(load, "vars_files: [one.yaml, two.yaml]\nvars: {v: own}") == "own"

    def test_its_name_may_be_a_template(self, load: Loader) -> None:
        self.write(load, live="v: live\n")

        assert self.path(load, "vars_files: ['{{ stage }}.yaml']", {"stage": "live"}) == "live"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot read the variables in 'one.yaml': No such file"),
            ("- a\n", ""),
            ("a-b: 1\n", "cannot be a variable's name"),
            ("a: [", ""),
        ],
    )
    def test_what_is_no_file_of_variables_is_told(self, load: Loader, content: str | None, message: str) -> None:
        if content is not None:
            self.write(load, one=content)

        problems = load.find_problems(f"vars_files: one.yaml\n{SHOW}")

        assert any(message in one.message for one in problems)

    def test_secrets_that_a_file_looks_up_are_kept_from_commands(
        self, load: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FROM_OUTSIDE", "correct horse")
        self.write(load, one="password: \"{{ lookup('env', 'FROM_OUTSIDE') }}\"\n")
        text = (
            "vars_files: one.yaml\nsteps:\n- {host: h, authentication: {authentication_method: username_password, "
            "username: u, password: '{{ password }}'}, mode: {mode_name: stats, "
            "path: \"{{ lookup('pipe', 'echo ${FROM_OUTSIDE-no}') }}\"}}\n"
        )

        assert load(text).calls[0].mode.subject == "no"
