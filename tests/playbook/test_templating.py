"""Templates: types, names, lookups, and whose values are taken literally."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runner._version import VERSION
from runner.plan import CopyFileFromEngine, KnownHosts, UsernamePassword
from runner.program import Play
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import mode, play, step


def quoted(expression: str) -> str:
    """A template as YAML text."""
    return json.dumps(expression)


def password_login(password: str) -> str:
    """The password stands in column 85 of its line."""
    return f"{{authentication_method: username_password, username: u, password: {quoted(password)}}}"


def render_destination(load: Loader, template: str, head: str = "", extra_vars: dict[str, Any] | None = None) -> str:
    """What a template gives where a string is wanted."""
    loaded = load(
        play(head, step(mode=mode().replace("_name: b", f"_name: {quoted(template)}"))), extra_vars=extra_vars
    )
    return loaded.calls[0].mode.places[1].path


def upload_of(loaded: Play) -> CopyFileFromEngine:
    upload = loaded.calls[0].mode
    assert isinstance(upload, CopyFileFromEngine)
    return upload


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ day }}.xml", "monday.xml"),
        ("{{day}}", "monday"),
        ("  {{ day }}  ", "monday"),
        ("{{- day -}}", "monday"),
        ("{{ day }}{# a comment #}", "monday"),
        ("{{ day }}{{ day }}", "mondaymonday"),
        ("{{ '{{' }} {{ day }}", "{{ monday"),
        ("{{ day | upper }}", "MONDAY"),
        ("{% if day == 'monday' %}first{% else %}other{% endif %}", "first"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ nested.list[1] }}", "y"),
        # As in Ansible, and not None.
        ("a{{ none }}b", "ab"),
        ("{% if true %}a{{ none }}b{% endif %}", "ab"),
        ("{{ greeting }}", "hello monday"),
        ("{{ host }}", "sftp.bank.example"),
    ],
)
def test_a_template_gives_its_text(load: Loader, template: str, text: str) -> None:
    head = "vars: {day: monday, greeting: 'hello {{ day }}', nested: {list: [x, y]}}\n"

    assert render_destination(load, template, head) == text


def test_one_whole_expression_keeps_its_type(load: Loader) -> None:
    head = """\
vars:
  port: 2022
  whole: "{{ port + 1 }}"
  kept: [times]
  key: {hostkey_mode: known_hosts_file}
"""
    options = mode(preserve='"{{ kept }}"', atomic='"{{ port == 22 }}"', permissions="\"{{ '0' ~ 640 }}\"")
    loaded = load(play(head, step(port='"{{ whole }}"', hostkey='"{{ key }}"', mode=options)))

    assert loaded.calls[0].endpoint.port == 2023
    assert loaded.calls[0].endpoint.host_key_policy == KnownHosts()
    assert upload_of(loaded).preserve == frozenset({"times"})
    assert upload_of(loaded).atomic is False
    assert upload_of(loaded).permissions == 0o640


def test_a_mapping_made_by_an_expression_is_an_input_like_any_other(load: Loader) -> None:
    made = "{{ {'port_mode': 'port_number', 'port_number': 2022} }}"

    assert load(step(port=quoted(made))).calls[0].endpoint.port == 2022


def test_a_mistake_in_a_mapping_made_by_an_expression_stands_where_the_expression_stands(load: Loader) -> None:
    problem = load.find_problem(step(port=quoted("{{ {'port_mode': 'default_port', 'prot': 22} }}")))

    assert tell(problem) == "5:9 unknown key 'prot'"


def test_a_mistake_inside_a_variable_stands_where_it_is_written(load: Loader) -> None:
    head = "vars:\n  key: {hostkey_mode: known_host, known_hots: x}\n"

    problems = load.find_problems(play(head, step(hostkey='"{{ key }}"')))

    # That 'known_host' is missing is the same mistake.
    assert [tell(one) for one in problems] == ["2:35 unknown key 'known_hots'"]


@pytest.mark.parametrize("name", ["self", "class", "result", "context", "import", "loop"])
def test_a_variable_may_have_any_name(load: Loader, name: str) -> None:
    if name == "self":  # Jinja keeps this one for the template itself
        assert "TemplateReference" in load.find_problem(step(host='"{{ self }}"'), extra_vars={"self": "x"}).message
        return
    assert render_destination(load, f"{{{{ {name} }}}}", extra_vars={name: "x"}) == "x"


@pytest.mark.parametrize(
    ("template", "message", "hint"),
    [
        ("{{ dya }}", "undefined in the template: 'dya' is undefined", "Did you mean 'day'?"),
        (
            "{{ zebra }}",
            "undefined in the template: 'zebra' is undefined",
            "Known: day, group_names, groups, host, hostvars, lookup, now, play_hosts, playbook_dir, "
            "runner_check_mode, runner_version, timedelta.",
        ),
        ("{{ day.nope }}", "a string has no 'nope'", ""),
        ("{{ [zebra] }}", "undefined in the template: 'zebra' is undefined", "Known"),
        ("{{ day", "the template is not valid: ", "Jinja2"),
        ("{{ }}", "the template is not valid: ", "Jinja2"),
        ("{% if %}", "the template is not valid: ", "Jinja2"),
        ("{{ day | nope }}", "the template is not valid: No filter named 'nope'.", "Jinja2"),
        ("{{ 1 / 0 }}", "the template cannot be filled in: ZeroDivisionError", ""),
        ("{{ 1e999 | int }}", "the template cannot be filled in: ", ""),
        ("{{ day + 1 }}", "the template cannot be filled in: TypeError", ""),
        ("{{ now() }}", "the template cannot be filled in: TypeError: the result is a datetime", ""),
        ("{{ day | map('upper') }}", "'destination_file_name' must be a string, not a list", ""),
        ("{{ {1: 2} }}", "the template cannot be filled in: TypeError: a key of a mapping must be a string", ""),
        (r"{{ '\ud800' }}", "the template cannot be filled in: ValueError", ""),
        ("{{ none }}", "'destination_file_name' must be a string, not null", ""),
        ("{{ 2024 }}", "'destination_file_name' must be a string, not an integer", "in a template, add '| string'"),
        ("{{ [1] }}", "'destination_file_name' must be a string, not a list", ""),
        (
            "{{ lookup('url', 'x') }}",
            "unknown lookup 'url'",
            "Known: env, file, fileglob, first_found, pipe, template, vars.",
        ),
        ("{{ lookup() }}", "the template cannot be filled in: TypeError", ""),
        ("{{ lookup('env') }}", "lookup('env') needs a name", "Write lookup('env', '…')."),
        ("{{ lookup('env', 'X', defualt='') }}", "lookup('env') has no option 'defualt'", ""),
        ("{{ lookup('file', 'nope') }}", "lookup('file') cannot read 'nope': No such file or directory", "/nope."),
        ("{{ lookup('file', '~nobody-at-all/x') }}", "lookup('file') cannot read '~nobody-at-all/x'", ""),
        ("{{ lookup('file', '/') }}", "lookup('file') cannot read '/': Is a directory", ""),
    ],
)
def test_a_template_that_gives_nothing_is_told_with_its_line(
    load: Loader, template: str, message: str, hint: str
) -> None:
    text = play("vars: {day: monday}\n", step(mode=mode().replace("_name: b", f"_name: {quoted(template)}")))
    problem = load.find_problem(text)

    assert tell(problem).startswith(f"6:88 {message}")
    assert hint in problem.hint


def test_an_undefined_name_in_a_variable_is_told_where_the_variable_is_written(load: Loader) -> None:
    problem = load.find_problem(play("vars:\n  a: x\n  b: '{{ nope }}'\n", step(host='"{{ b }}"')))

    assert tell(problem) == "3:6 undefined in the template: 'nope' is undefined"


def test_an_undefined_name_in_a_name_is_told_where_the_name_is_written(load: Loader) -> None:
    text = play("name: '{{ nope }}'\n", step(name="'to {{ nowhere }}'"))

    assert [tell(one) for one in load.find_problems(text)] == [
        "1:7 undefined in the template: 'nope' is undefined",
        "7:9 undefined in the template: 'nowhere' is undefined",
    ]


def test_a_step_whose_template_fails_is_checked_as_far_as_it_goes(load: Loader) -> None:
    text = "- host: '{{ nope }}'\n  port: '{{ 22 }}'\n"

    assert [tell(one) for one in load.find_problems(text)] == [
        "1:3 the step has no 'authentication'",
        "1:3 the step has no 'mode'",
        "1:9 undefined in the template: 'nope' is undefined",
    ]


class TestEnvironment:
    def test_a_set_variable_is_taken(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DAY", "monday")

        assert render_destination(load, "{{ lookup('env', 'DAY') }}") == "monday"
        assert render_destination(load, "{{ lookup('env', 'DAY', 'DAY') }}") == "monday,monday"

    def test_an_unset_variable_is_named(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("BANK_PASSWORD", raising=False)
        secret = password_login("{{ lookup('env', 'BANK_PASSWORD') }}")

        problem = load.find_problem(step(authentication=secret))

        assert tell(problem) == "2:85 the environment variable BANK_PASSWORD is not set"
        assert "export BANK_PASSWORD=" in problem.hint

    def test_an_unset_variable_may_have_a_default(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DAY", raising=False)

        assert render_destination(load, "{{ lookup('env', 'DAY', default='x') }}") == "x"

    @pytest.mark.parametrize("value", ["", "  ", "\n"])
    @pytest.mark.parametrize("through_variable", [False, True])
    def test_an_empty_secret_names_the_variable_and_the_line(
        self, load: Loader, monkeypatch: pytest.MonkeyPatch, value: str, through_variable: bool
    ) -> None:
        monkeypatch.setenv("BANK_PASSWORD", value)
        lookup = "{{ lookup('env', 'BANK_PASSWORD') }}"
        head = f"vars: {{secret: {quoted(lookup)}}}\n"
        used = "{{ secret }}" if through_variable else lookup
        secret = password_login(used)

        problem = load.find_problem(play(head, step(authentication=secret)))

        told = "the secret 'password' is empty: the environment variable BANK_PASSWORD is empty"
        assert tell(problem) == f"4:85 {told}"
        assert "CI systems" in problem.hint

    def test_a_literal_empty_secret_is_refused_too(self, load: Loader) -> None:
        secret = "{authentication_method: username_password, username: u, password: ''}"

        assert tell(load.find_problem(step(authentication=secret))) == "2:85 the secret 'password' is empty"

    def test_a_secret_that_is_not_utf_8_is_refused(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BANK_PASSWORD", "caf\udce9-secret")
        secret = password_login("{{ lookup('env', 'BANK_PASSWORD') }}")

        problem = load.find_problem(step(authentication=secret))

        assert tell(problem) == "2:85 'password' is not UTF-8 text"


class TestFiles:
    def test_a_file_is_read_relative_to_the_playbook_without_its_last_line_end(self, load: Loader) -> None:
        (load.folder / "day.txt").write_text("monday\n")

        assert render_destination(load, "{{ lookup('file', 'day.txt') }}") == "monday"
        assert render_destination(load, "{{ lookup('file', 'day.txt', rstrip=false) }}x") == "monday\nx"

    def test_a_file_in_the_home_folder_is_found(self, load: Loader) -> None:
        (Path.home() / "day.txt").write_text("monday")

        assert render_destination(load, "{{ lookup('file', '~/day.txt') }}") == "monday"

    def test_a_large_or_binary_file_is_refused(self, load: Loader) -> None:
        (load.folder / "large").write_bytes(b"x" * (1024 * 1024 + 1))
        (load.folder / "binary").write_bytes(b"\xff\xfe")

        assert "is larger than 1 MiB" in load.find_problem(step(host="\"{{ lookup('file', 'large') }}\"")).message
        assert "is not UTF-8 text" in load.find_problem(step(host="\"{{ lookup('file', 'binary') }}\"")).message


class TestNow:
    def test_all_steps_agree_about_the_time(self, load: Loader) -> None:
        one = step(mode=mode().replace("_name: b", "_name: \"{{ now().strftime('%Y-%m-%d %H:%M:%S.%f') }}\""))
        before = datetime.now()

        loaded = load(one * 50)

        moments = {each.mode.places[1].path for each in loaded.calls}
        assert len(moments) == 1
        assert before <= datetime.fromisoformat(moments.pop()) <= datetime.now()

    def test_now_takes_utc_and_a_format(self, load: Loader) -> None:
        assert render_destination(load, "{{ now(utc=true, fmt='%z') }}") == "+0000"

    def test_a_variable_may_hold_a_moment(self, load: Loader) -> None:
        year = render_destination(load, "{{ today.strftime('%Y') }}", head="vars: {today: '{{ now() }}'}\n")

        assert year == datetime.now().strftime("%Y")


class TestNames:
    def test_yesterday_is_a_day_before(self, load: Loader) -> None:
        from datetime import timedelta

        before = datetime.now()
        found = render_destination(load, "out/pay-{{ (now() - timedelta(days=1)).strftime('%Y%m%d') }}.xml")

        days = {(moment - timedelta(days=1)).strftime("%Y%m%d") for moment in (before, datetime.now())}
        assert found in {f"out/pay-{day}.xml" for day in days}

    def test_a_length_of_time_has_days_first(self, load: Loader) -> None:
        assert render_destination(load, "{{ timedelta(1) == timedelta(hours=24) }}x") == "Truex"

    def test_the_version_is_known(self, load: Loader) -> None:
        assert render_destination(load, "{{ runner_version }}") == VERSION
        assert render_destination(load, "{{ runner_version is version('0.0.1', '>') }}x") == "Truex"

    def test_a_variable_of_the_playbook_wins(self, load: Loader) -> None:
        head = "vars: {runner_version: mine, timedelta: too}\n"

        assert render_destination(load, "{{ runner_version ~ timedelta }}", head) == "minetoo"

    def test_what_map_gives_can_be_used_twice_and_counted(self, load: Loader) -> None:
        head = "vars: {names: [a, b], made: \"{{ names | map('upper') }}\"}\n"

        assert render_destination(load, "{{ made | length }}{{ made | first }}{{ made | join }}", head) == "2AAB"


class TestExtraVars:
    def test_they_win_over_every_variable_of_the_playbook(self, load: Loader) -> None:
        text = play(
            "vars: {day: play}\nconnections: {bank: {vars: {day: connection}}}\n",
            step(connection="bank", vars="{day: step}", mode=mode().replace("_name: b", "_name: '{{ day }}'")),
        )

        assert load(text).calls[0].mode.places[1].path == "step"
        assert load(text, extra_vars={"day": "extra"}).calls[0].mode.places[1].path == "extra"
        assert load(text.replace("{day: step}", "{}")).calls[0].mode.places[1].path == "connection"

    @pytest.mark.parametrize("value", ["{{ 7 * 7 }}", "{% raw %}", "{# x", "{{ lookup('env', 'HOME') }}"])
    def test_they_are_never_templates(self, load: Loader, value: str) -> None:
        assert render_destination(load, "{{ branch }}", extra_vars={"branch": value}) == value
        assert render_destination(load, "a-{{ branch }}", extra_vars={"branch": value}) == f"a-{value}"
        head = "vars: {through: '{{ branch }}'}\n"
        assert render_destination(load, "{{ through }}", head, extra_vars={"branch": value}) == value

    @pytest.mark.parametrize(
        "place", ["port", "hostkey", "mode", "authentication", "connect_timeout", "stall_timeout", "connector_type"]
    )
    def test_text_that_looks_like_a_template_stands_for_nothing_but_text(self, load: Loader, place: str) -> None:
        problem = load.find_problem(step(**{place: '"{{ given }}"'}), extra_vars={"given": "{{ 1 }}"})

        assert f"'{place}' must be " in problem.message

    @pytest.mark.parametrize("place", ["permissions", "atomic", "create_parents", "preserve", "compare"])
    def test_text_that_looks_like_a_template_is_no_copy_option(self, load: Loader, place: str) -> None:
        text = step(mode=mode(**{place: '"{{ given }}"'}))

        assert f"'{place}' must be " in load.find_problem(text, extra_vars={"given": "{{"}).message

    def test_numbers_and_switches_may_come_as_text(self, load: Loader) -> None:
        text = step(
            port='{port_mode: port_number, port_number: "{{ port }}"}',
            connect_timeout='"{{ seconds }}"',
            keepalive_interval='"{{ seconds }}"',
            mode=mode(atomic='"{{ atomic }}"', create_parents='"{{ atomic }}"'),
        )

        loaded = load(text, extra_vars={"port": "2022", "seconds": " 7\n", "atomic": "False"})

        assert loaded.calls[0].endpoint.port == 2022
        assert loaded.calls[0].connect_timeout_seconds == 7
        assert loaded.calls[0].endpoint.keepalive_interval_seconds == 7
        assert upload_of(loaded).atomic is False
        assert upload_of(loaded).create_parents is False

    @pytest.mark.parametrize("value", ["", "22x", "-1", "2.5", "²", "9" * 5000, "0x16"])
    def test_text_that_is_no_number_is_refused(self, load: Loader, value: str) -> None:
        assert "'port' must be" in load.find_problem(step(port='"{{ port }}"'), extra_vars={"port": value}).message

    def test_plain_python_values_can_be_given_by_a_program(self, load: Loader) -> None:
        given = {"authentication_method": "username_password", "username": "u", "password": "p4ssw0rd"}

        loaded = load(step(authentication='"{{ login }}"'), extra_vars={"login": given})

        assert loaded.calls[0].endpoint.authentication == UsernamePassword("u", "p4ssw0rd")
        assert loaded.secrets == frozenset({"p4ssw0rd"})
