"""What is found out about conditions, loops and results before anything is contacted, and where it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.playbook.conftest import Loader

CONNECTIONS = """\
connections:
  bank:
    host: bank.example
    authentication: {authentication_method: ssh_agent, username: acme}
"""
LIST = "{connection: bank, mode: {mode_name: list, path: in}, register: l}"
REMOVE = "{connection: bank, mode: {mode_name: remove, path: '{{ l.message }}',"
STATS = "{mode_name: stats, path: in}"


def steps(*items: str, head: str = "") -> str:
    return f"{head}{CONNECTIONS}steps:\n" + "".join(f"- {item}\n" for item in items)


def told(load: Loader, text: str) -> list[tuple[int, str, str]]:
    return [(one.location.line, one.message, one.hint) for one in load.find_problems(text)]


FIRST, SECOND = 6, 7
MISTAKES: list[tuple[list[str], int, str, str]] = [
    # Names.
    (["{debug: {msg: '{{ l }}'}}", LIST], FIRST, "undefined in the template: 'l' is undefined", "Known: "),
    ([LIST, "{debug: {msg: '{{ l.result.entriess }}'}}"], SECOND, "'l' has no 'entriess'", "Did you mean 'entries'?"),
    ([LIST, "{debug: {msg: '{{ l.result[\"pth\"] }}'}}"], SECOND, "'l' has no 'pth'", "Did you mean 'path'?"),
    ([LIST, "{debug: {msg: '{{ l.stat }}'}}"], SECOND, "'l' has no 'stat'", "Did you mean 'status'?"),
    ([LIST, "{debug: {msg: '{{ l.results }}'}}"], SECOND, "'l' has no 'results'", "Did you mean 'result'?"),
    ([LIST, "{debug: {msg: '{{ l.changed }} {{ lst }}'}}"], SECOND, "'lst' is undefined", ""),
    ([LIST, "{debug: {var: l.error.mesage}}"], SECOND, "'l' has no 'mesage'", "Did you mean 'message'?"),
    ([LIST, "{debug: {msg: x}, when: ll.changed}"], SECOND, "'ll' is undefined", "Did you mean 'l'?"),
    ([f"{{connection: bank, mode: {STATS}, until: result.exist}}"], FIRST, "'result' has no 'exist'", "'exists'"),
    ([f"{{connection: bank, mode: {STATS}, failed_when: r.result.exists}}"], FIRST, "'r' is undefined", ""),
    (
        ["{block: [{debug: {msg: x}}], rescue: [{debug: {msg: '{{ failed_step.errer }}'}}]}"],
        FIRST,
        "no 'errer'",
        "'error'",
    ),
    (["{debug: {msg: '{{ failed_step }}'}}"], FIRST, "'failed_step' is undefined", "'rescue' and 'always'"),
    (["{debug: {msg: '{{ item }}'}}"], FIRST, "'item' is undefined", "in steps with a 'loop'"),
    (["{debug: {msg: '{{ host }}'}}"], FIRST, "'host' is undefined", "in steps with a 'connection'"),
    (["{debug: {msg: '{{ connection_name }}'}}"], FIRST, "'connection_name' is undefined", "with a 'connection'"),
    ([LIST, "{debug: {msg: '{{ result }}'}}"], SECOND, "'result' is undefined", "`register: NAME`"),
    (
        ["{debug: {msg: '{{ loop.index }}'}, loop: [1]}"],
        FIRST,
        "'loop' is undefined",
        "`loop_control: {extended: true}`",
    ),
    (["{debug: {msg: x}, when: copied is changed}"], FIRST, "'copied' is undefined", ""),
    (
        ["{connection: bnk, debug: {msg: '{{ nobody }}'}, when: nobody}"],
        FIRST,
        "no connection is called 'bnk'",
        "'bank'",
    ),
    (["{debug: {msg: '{{ nobody }}'}, loop: []}"], FIRST, "'nobody' is undefined", ""),
    (["{debug: {msg: '{{ nobody }}'}, when: false}"], FIRST, "'nobody' is undefined", ""),
    # Conditions.
    (["{debug: {msg: x}, when: '{{ true }}'}"], FIRST, "a condition is an expression without braces", "Write true"),
    (["{debug: {msg: x}, when: no}"], FIRST, "must be true or false, not 'no'", "write false"),
    (["{debug: {msg: x}, when: \"'text'\"}"], FIRST, "must be true or false, and is a string: 'text'", "bool"),
    (["{debug: {msg: x}, when: '[1]'}"], FIRST, "must be true or false, and is a list", "[1] | length > 0"),
    (["{debug: {msg: x}, when: '3'}"], FIRST, "must be true or false, and is a", "3 > 0"),
    (["{debug: {msg: x}, when: 'a ='}"], FIRST, "the template is not valid", ""),
    (["{debug: {msg: x}, when: 'true true'}"], FIRST, "the template is not valid", ""),
    (["{assert: {that: [true, 'nobody']}}"], FIRST, "'nobody' is undefined", ""),
    (["{debug: {msg: x}, when: [true, 7]}"], FIRST, "entry 2 of 'when'", ""),
    # Loops.
    (["{debug: {msg: x}, loop: files}"], FIRST, "'loop' must be a list, not a string", 'Write "{{ files }}"'),
    (
        ["{debug: {msg: x}, vars: {m: {a: 1}}, loop: '{{ m }}'}"],
        FIRST,
        "must be a list, not a mapping",
        "m | dict2items",
    ),
    (["{debug: {msg: x}, loop: '{{ 7 }}'}"], FIRST, "must be a list, not", ""),
    (["{debug: {msg: x}, loop: [1], loop_control: {label: '{{ itm }}'}}"], FIRST, "'itm' is undefined", "'item'"),
    (["{debug: {msg: x}, loop: [1, 2], loop_control: {pause: '{{ \"x\" }}'}}"], FIRST, "'pause' must be a number", ""),
    # One thing at a time.
    (["{debug: {msg: x}, fail: {}}"], FIRST, "a step does one thing, and this one has 'debug' and 'fail'", ""),
    ([f"{{connection: bank, mode: {STATS}, assert: {{that: true}}}}"], FIRST, "one has 'assert' and 'mode'", ""),
    (["{debug: {msg: x}, rescue: [{debug: {msg: x}}]}"], FIRST, "'rescue' belongs to a 'block'", ""),
    (["{debug: {msg: x}, retries: 3}"], FIRST, "'retries' means nothing with 'debug'", ""),
    (["{debug: {msg: x}, host: h}"], FIRST, "'host' means nothing with 'debug'", ""),
    (["{block: [{debug: {msg: x}}], register: r}"], FIRST, "'register' means nothing with 'block'", ""),
    (["{block: [{debug: {msg: x}}], failed_when: true}"], FIRST, "'failed_when' means nothing with 'block'", ""),
    (["{block: [{debug: {msg: x}}], changed_when: true}"], FIRST, "'changed_when' means nothing with 'block'", ""),
    (["{pause: {seconds: '{{ -1 }}'}}"], FIRST, "'seconds' must be a number of seconds from 0", ""),
    (["{debug: {msg: x}, ignore_errors: '{{ 3 }}'}"], FIRST, "'ignore_errors' must be true or false, not 3", ""),
    # The fence.
    (
        [LIST, f"{{connection: bank, port: '{{{{ l.attempts }}}}', mode: {STATS}}}"],
        SECOND,
        "'port' must not depend on",
        "packet",
    ),
    (
        [LIST, f"{{connection: bank, host: '{{{{ l.message }}}}', mode: {STATS}}}"],
        SECOND,
        "'host' must not depend on",
        "",
    ),
    (
        [
            "{set_fact: {p: secret}}",
            "{host: h, authentication: {authentication_method: username_password, username: u, password: '{{ p }}'}, "
            f"mode: {STATS}}}",
        ],
        SECOND,
        "'authentication' must not depend on what step 1 sets as 'p'",
        "packet",
    ),
    (
        [
            LIST,
            "{connection: bank, loop: '{{ l.result.entries }}', mode: {mode_name: copy_file_to_engine, "
            "source_file_name: '{{ item.path }}', destination_file_name: x, verify: '{{ item.type }}'}}",
        ],
        SECOND,
        "'verify' must not depend on an item of the loop",
        "",
    ),
    (
        [LIST, "{connection: bank, mode: {mode_name: '{{ l.message }}', path: x}}"],
        SECOND,
        "'mode_name' must not depend",
        "",
    ),
    # What stands beside an open value is checked.
    (
        [LIST, "{connection: bank, mode: {mode_name: remove, path: '{{ l.message }}', recursiv: true}}"],
        SECOND,
        "'recursiv'",
        "",
    ),
    (
        [LIST, "{connection: bank, mode: {mode_name: remove, path: '{{ l.message }}', recursive: 7}}"],
        SECOND,
        "'recursive'",
        "",
    ),
    ([LIST, f"{{connection: bnk, mode: {STATS}, when: l.changed}}"], SECOND, "no connection is called 'bnk'", "'bank'"),
]


@pytest.mark.parametrize(("items", "line", "message", "hint"), MISTAKES, ids=[str(n) for n in range(len(MISTAKES))])
def test_a_mistake_is_told_where_it_stands(load: Loader, items: list[str], line: int, message: str, hint: str) -> None:
    problems = told(load, steps(*items))

    assert len(problems) == 1, problems
    assert problems[0][0] == line
    assert message in problems[0][1]
    assert hint in problems[0][2]


GOOD: list[list[str]] = [
    ["{debug: {msg: x}, vars: {y: true}, when: y}"],
    [LIST, "{debug: {msg: '{{ l.result.entries | length }} {{ l.anything | default(1) }}'}}"],
    [
        LIST,
        "{debug: {msg: x}, when: l is changed}",
        "{debug: {msg: x}, when: l.result is defined and nobody is not defined}",
    ],
    ["{debug: {msg: '{{ nobody | default(3) }}'}}"],
    [LIST, "{debug: {msg: '{% for one in l.result.entries %}{{ one.path }}{{ loop.index }}{% endfor %}'}}"],
    [LIST, "{set_fact: {n: '{{ l.result.entries | length }}'}}", "{debug: {msg: '{{ n + 1 }}'}, when: n > 3}"],
    [LIST, "{debug: {msg: \"{{ hostvars['bank'].l.result.path }}\"}}"],
    ["{debug: {msg: '{{ item }}'}, loop: [1, 2], register: r}", "{debug: {msg: '{{ r.results | length }}'}}"],
    [
        "{block: [{debug: {msg: x}, register: inner}], always: [{debug: {msg: '{{ inner.status }}'}}]}",
        "{assert: {that: inner.ok | default(true)}}",
    ],
    [f"{{host: h, mode: {STATS}, when: false}}"],
]


@pytest.mark.parametrize("items", GOOD, ids=[str(n) for n in range(len(GOOD))])
def test_what_is_right_is_valid(load: Loader, items: list[str]) -> None:
    load(steps(*items))


def test_a_step_whose_condition_is_false_needs_no_secret(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    login = "{authentication_method: username_password, username: u, password: \"{{ lookup('env', 'NOT_THERE') }}\"}"
    item = f"{{host: h, authentication: {login}, mode: {STATS}, when: stage == 'live'}}"

    play = load(steps(item, head="vars: {stage: test}\n"))

    assert play.calls == ()
    assert len(told(load, steps(item, head="vars: {stage: live}\n"))) == 1


def test_values_of_a_static_loop_are_checked_one_by_one(load: Loader) -> None:
    item = "{connection: bank, loop: [a, '', ../b], mode: {mode_name: remove, path: '{{ item }}'}}"

    problems = told(load, steps(item))

    assert [line for line, _, _ in problems] == [FIRST] * len(problems)
    assert any("must not be empty" in message for _, message, _ in problems)


PRECEDENCE: list[tuple[str, dict[str, Any]]] = [
    ("playbook", {}),
    ("connection", {"connection": "v: connection"}),
    ("outer", {"outer": "v: outer"}),
    ("inner", {"inner": "v: inner"}),
    ("step", {"step": "v: step"}),
    ("loop", {"loop": "loop: [loop], loop_control: {loop_var: v}, "}),
    ("fact", {"fact": "{set_fact: {v: fact}}"}),
    ("command line", {"extra": {"v": "command line"}}),
]


@pytest.mark.parametrize("most", range(len(PRECEDENCE)), ids=[name for name, _ in PRECEDENCE])
def test_the_last_of_these_wins(load: Loader, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Each level beats all before it."""
    given: dict[str, Any] = {}
    for _, part in PRECEDENCE[: most + 1]:
        given |= part
    head = (
        "vars: {v: playbook}\nconnections:\n  c:\n    host: h\n    authentication: {authentication_method: ssh_agent, "
        f"username: u}}\n    vars: {{{given.get('connection', '')}}}\nsteps:\n"
    )
    fact = f"- {given['fact'][:-1]}, connection: c}}\n" if "fact" in given else ""
    body = (
        f"- connection: c\n  vars: {{{given.get('outer', '')}}}\n  block:\n"
        f"  - vars: {{{given.get('inner', '')}}}\n    block:\n"
        f"    - {{{given.get('loop', '')}vars: {{{given.get('step', '')}}}, debug: {{msg: '{{{{ v }}}}'}}}}\n"
    )
    from tests.conftest import Runner

    runner = Runner(load.folder, capsys)
    extra = [part for name, value in given.get("extra", {}).items() for part in ("-e", f"{name}={value}")]
    outcome = runner.play(head + fact + body, *extra)

    assert outcome.report["steps"][-1]["message"] == PRECEDENCE[most][0], outcome.output


class TestIncludedSteps:
    def test_problems_point_into_the_file(self, load: Loader) -> None:
        (load.folder / "part.yaml").write_text("- debug: {msg: x}\n- {debug: {msg: '{{ nobody }}'}}\n")

        (problem,) = load.find_problems("- include_steps: part.yaml\n")

        assert problem.location.file.endswith("part.yaml")
        assert (problem.location.line, problem.location.column) == (2, 17)

    def test_a_mapping_may_have_variables_which_the_step_s_beat(self, load: Loader) -> None:
        (load.folder / "part.yaml").write_text(
            "vars: {a: 1, b: 1}\nsteps:\n- {host: h, mode: {mode_name: stats, path: '{{ a }}{{ b }}{{ c }}'}, "
            "authentication: {authentication_method: ssh_agent, username: u}}\n"
        )

        play = load("vars: {c: 0}\nsteps:\n- {include_steps: part.yaml, vars: {b: 2, c: 3}}\n")

        assert play.calls[0].mode.subject == "123"

    def test_paths_are_relative_to_the_file_that_includes(self, load: Loader) -> None:
        (load.folder / "a/b").mkdir(parents=True)
        (load.folder / "a/one.yaml").write_text("- include_steps: b/two.yaml\n")
        (load.folder / "a/b/two.yaml").write_text("- include_steps: ../three.yaml\n")
        (load.folder / "a/three.yaml").write_text("- debug: {msg: here}\n")

        assert [step.kind for step in load("- include_steps: a/one.yaml\n").steps] == ["debug"]

    def test_a_circle_is_told_with_its_files(self, load: Loader) -> None:
        (load.folder / "a.yaml").write_text("- include_steps: b.yaml\n")
        (load.folder / "b.yaml").write_text("- include_steps: a.yaml\n")

        (problem,) = load.find_problems("- include_steps: a.yaml\n")

        assert "circle" in problem.message
        assert problem.message.count("a.yaml") == 2
        assert problem.location.file.endswith("b.yaml")

    def test_there_are_not_too_many_levels(self, load: Loader) -> None:
        for number in range(25):
            (load.folder / f"{number}.yaml").write_text(f"- include_steps: {number + 1}.yaml\n")

        (problem,) = load.find_problems("- include_steps: 0.yaml\n")

        assert "more than 20 levels deep" in problem.message

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot read the included file 'part.yaml': No such file"),
            ("a: [", ""),
            ("other: 1\n", "unknown key 'other'"),
            ("- 7\n", "step 1 must be"),
            ("text", ""),
        ],
    )
    def test_what_is_no_file_of_steps_is_told(self, load: Loader, content: str | None, message: str) -> None:
        if content is not None:
            (load.folder / "part.yaml").write_text(content)

        assert any(message in one.message for one in load.find_problems("- include_steps: part.yaml\n"))

    def test_what_comes_from_outside_chooses_no_other_file(self, load: Loader) -> None:
        (load.folder / "x.yaml").write_text("- debug: {msg: here}\n")
        text = "- include_steps: 'sub/{{ name }}.yaml'\n"

        (problem,) = load.find_problems(text, extra_vars={"name": "../x"})

        assert "the extra variable 'name' brings '..' into it" in problem.message

    def test_files_that_are_read_are_the_play_s_own(self, load: Loader) -> None:
        (load.folder / "part.yaml").write_text("- debug: {msg: here}\n")

        assert str(load.folder / "part.yaml") in load("- include_steps: part.yaml\n").files


def test_a_hostile_number_of_steps_is_refused(load: Loader) -> None:
    (load.folder / "many.yaml").write_text("- debug: {msg: x}\n" * 3000)
    names = "".join("- include_steps: many.yaml\n" for _ in range(10))

    problems = load.find_problems(names)

    assert [one.message for one in problems] == ["the playbook has more than 20,000 steps"]


def test_a_block_is_numbered_in_the_order_of_its_steps(load: Loader) -> None:
    block = "{block: [{debug: {msg: a}}], rescue: [{debug: {msg: b}}], always: [{debug: {msg: c}}]}"

    play = load(steps(block, "{debug: {msg: d}}"))

    assert [step.index for step in play.steps] == [1, 2, 3, 4]


def test_the_schema_s_page_is_not_in_the_way(tmp_path: Path) -> None:
    """A block in a block in a block is as valid as one."""
    from runner.playbook.document import parse
    from runner.playbook.validation import validate_playbook

    text = "{debug: {msg: x, zebra: 1}}"
    for _ in range(10):
        text = f"{{block: [{text}]}}"

    assert [one.message for one in validate_playbook(parse(f"- {text}", str(tmp_path)))] == ["unknown key 'zebra'"]
