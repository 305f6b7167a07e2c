"""Wrong steps as somebody writes them who guesses: each is told once, and what was meant is in the message or its hint."""

from __future__ import annotations

import pytest

from tests.playbook.conftest import Loader

HEAD = """\
connections:
  bank: {host: bank.example, authentication: {authentication_method: ssh_agent, username: acme}}
steps:
"""
LIST = "connection: bank, mode: {mode_name: list, path: in}"
SAY = "debug: {msg: x}"

# A step; where it is told, from its first line on; what is said; what is to be done.
MODE = [
    ("{connection: bank, mode: list, path: in}", "'mode' must be a mapping", "`mode: {mode_name: list, …}`"),
    ("{connection: bank, mode: {mode_name: copy_file_to_engine, src: a, dest: b}}", "'src'", "'source_file_name'"),
    ("{connection: bank, mode: {mode_name: list, path: [a, b]}}", "'path' must be a string, not a list", "use a loop"),
    ("{connection: bank, list: {path: in}}", "unknown key 'list'", "`mode: {mode_name: list, …}`"),
    ("{connection: bank, mode_name: list}", "unknown key 'mode_name'", "write `mode: {mode_name: …}`"),
    ("{connection: bank, path: in, source_file_name: a}", "unknown key 'path'", "`mode: {mode_name: …, path: …}`"),
    ("{connection: bank, mode: {list: in}}", "missing key 'mode_name'", "Write `mode_name: list`."),
    ("{connection: bank, mode: [{mode_name: list, path: in}]}", "'mode' must be a mapping", "a step of each"),
    ("{connection: [bank], mode: {mode_name: list, path: in}}", "'connection' must be a string", "each connection"),
    (
        "{connection: bank, mode: {mode_name: create_directory, path: a, mode: '0755'}}",
        "unknown key 'mode'",
        "'permissions'",
    ),
    (f"{{{LIST[:-1]}, retries: 3}}}}", "unknown key 'retries'", "beside 'mode'"),
    (f"{{{LIST}, sleep: 3}}", "unknown key 'sleep'", "'pause'"),
    (f"{{{LIST}, {SAY}}}", "this one has 'debug' and 'mode'", "a step of each"),
    ("{connection: bank, mode: {mode_name: list, path: \"{{ 'x' | basname }}\"}}", "'basname'", "'basename'"),
]
BLOCK = [
    (f"{{block: {{{SAY}}}}}", "'block' must be a list, not a mapping", "begin each with '- '"),
    ("{block: common.yaml}", "'block' must be a list, not a string", "`include_steps: common.yaml`"),
    (f"{{block: [{{{SAY}}}], except: [{{{SAY}}}]}}", "unknown key 'except'", "'rescue'"),
    (f"{{block: [{{{SAY}}}], finally: [{{{SAY}}}]}}", "unknown key 'finally'", "'always'"),
    (f"{{try: [{{{SAY}}}]}}", "unknown key 'try'", "'block'"),
    (f"{{rescue: [{{{SAY}}}]}}", "'rescue' belongs to a 'block'", "in a 'block'"),
    (f"{{block: [{{{SAY}}}], rescue: {{{SAY}}}}}", "'rescue' must be a list", "begin each with '- '"),
    (f"{{block: [{{{SAY}}}], register: r}}", "'register' means nothing with 'block'", "in the steps"),
    ("{block: []}", "'block' must not be empty", "Add at least one"),
    ("{block: [{block: [{nonsense: 1}]}]}", "unknown key 'nonsense'", "A step has one of mode, block"),
    ("{block: [say it]}", "must be a mapping, not a string", "A step has one of mode, block"),
]
INCLUDE_STEPS = [
    ("{include_steps: [a.yaml]}", "'include_steps' must be a string, not a list", "a step for each file"),
    ("{include_steps: {file: a.yaml}}", "'include_steps' must be a string, not a mapping", "'vars'"),
    ("{include_steps: nowhere.yaml}", "cannot read the included file 'nowhere.yaml'", "relative to the file"),
    ("{include_step: a.yaml}", "unknown key 'include_step'", "'include_steps'"),
    ("{include: a.yaml}", "'include' is an Ansible module", "`include_steps: a.yaml`"),
    ("{include_steps: a.yaml, register: r}", "'register' means nothing with 'include_steps'", "in the steps"),
    (f"{{include_steps: a.yaml, {SAY}}}", "this one has 'include_steps' and 'debug'", "a step of each"),
]
ASSERT = [
    ("{assert: 1 > 3}", "'assert' must be a mapping, not a string", '`assert: {that: "1 > 3"}`'),
    ("{assert: [1 > 3]}", "'assert' must be a mapping, not a list", "into 'that'"),
    ("{assert: {that: '{{ 1 > 3 }}'}}", "an expression without braces", "Write 1 > 3"),
    ("{assert: {that: \"'text'\"}}", "must be true or false, and is a string: 'text'", "bool"),
    ("{assert: {that: 1 = 3}}", "the template is not valid", "compared by '=='"),
    ("{assert: {that: \"'a' is mach('a')\"}}", "No test named 'mach'", "'match'"),
    ("{assert: {that: true, success_message: x}}", "unknown key 'success_message'", "'success_msg'"),
    ("{assert: {fail_msg: x}}", "missing key 'that'", "Add 'that'"),
    ("{assert: {that: true, when: true}}", "unknown key 'when'", "beside 'assert'"),
]
SET_FACT = [
    ("{set_fact: x=1}", "not 'key=value' in one line", '`set_fact: {x: "1"}`'),
    ("{set_fact: [x, 1]}", "'set_fact' must be a mapping, not a list", "`set_fact: {NAME: VALUE}`"),
    ("{set_fact: {a-b: 1}}", "'a-b' cannot be a variable's name", "letters, digits"),
    ("{set_fact: '{{ x }}'}", "'set_fact' must be a mapping, not a string", "before any template"),
    ("{set_facts: {x: 1}}", "unknown key 'set_facts'", "'set_fact'"),
    ("{set_fact: {x: '{{ [1] | sumx }}'}}", "No filter named 'sumx'", "'sum'"),
    ("{set_fact: {x: '{{ nobody }}'}}", "'nobody' is undefined", "Known:"),
]
DEBUG = [
    ("{debug: hello}", "'debug' must be a mapping, not a string", "`debug: {msg: hello}`"),
    ("{debug: {message: hello}}", "unknown key 'message'", "'msg'"),
    ("{debug: {msg: x, var: playbook_dir}}", "takes either 'msg' or 'var'", "a step of each"),
    ("{debug: {}}", "takes 'msg' or 'var'", "`debug: {msg: …}`"),
    ("{debug: {var: '{{ playbook_dir }}'}}", "'var' names variables, without braces", "Write playbook_dir"),
    ("{debug: {var: {x: 1}}}", "'var' must be a string or a list, not a mapping", "`var: NAME`"),
    ("{debug: {msg: [a, b]}}", "'msg' must be a string, not a list", "`var: NAME`"),
    ("{print: hello}", "unknown key 'print'", "'debug'"),
    ('{debug: {msg: "{{ 1 | to_jsn }}"}}', "No filter named 'to_jsn'", "'to_json'"),
]
FAIL = [
    ("{fail: because}", "'fail' must be a mapping, not a string", "`fail: {msg: because}`"),
    ("{fail: {message: x}}", "unknown key 'message'", "'msg'"),
    ("{fail: {msg: x, when: true}}", "unknown key 'when'", "beside 'fail'"),
    ("{fail: {msg: [a]}}", "'msg' must be a string, not a list", "one text"),
    ("{raise: x}", "unknown key 'raise'", "'fail'"),
    ("{fail: }", "'fail' must be a mapping, not null", "Nothing is written"),
]
PAUSE = [
    ("{pause: 3}", "'pause' must be a mapping, not an integer", "`pause: {seconds: 3}`"),
    ("{pause: 2m}", "'pause' must be a mapping, not a string", "`pause: {seconds: 120}`"),
    ("{pause: {seconds: 2m}}", "'seconds' must be a number, not a string", "alone: 120"),
    ("{pause: {minutes: 3}}", "'pause' is written as in Ansible", "`pause: {seconds: 180}`"),
    ("{pause: {second: 3}}", "unknown key 'second'", "'seconds'"),
    ("{sleep: 3}", "unknown key 'sleep'", "'pause'"),
    ("{pause: {seconds: -1}}", "'seconds' must be at least 0, not -1", ""),
]
KEYWORDS = [
    ("{debug: {msg: x}, if: true}", "unknown key 'if'", "'when'"),
    ("{debug: {msg: x}, foreach: [1]}", "unknown key 'foreach'", "'loop'"),
    ("{debug: {msg: x}, loop: {a: 1}}", "'loop' must be a list or a string, not a mapping", "dict2items"),
    ("{debug: {msg: x}, vars: [a, b]}", "'vars' must be a mapping, not a list", "`vars: {NAME: VALUE}`"),
    ("{debug: {msg: x}, ignore_errors: yes}", "must be true or false, not a string", "write true"),
    ("{debug: {msg: x}, register: 'a b'}", "'register' must be a variable's name, not 'a b'", "letters, digits"),
    ("{debug: {msg: x}, register: '{{ x }}'}", "'register' must be a name, not a template", "write it out"),
    (
        "{debug: {msg: x}, loop: [1], loop_control: {extended: '{{ true }}'}}",
        "'extended' must be true or false, not a string",
        "write it out",
    ),
    ("{debug: {msg: x}, loop: [1], loop_control: {loopvar: x}}", "unknown key 'loopvar'", "'loop_var'"),
    ("say it", "step 1 must be a mapping, not a string", "A step has one of mode, block"),
    ("{}", "the step has no 'mode'", "A step has one of mode, block"),
    ("{name: nothing but a name}", "the step has no 'mode'", "A step has one of mode, block"),
]
WRONG = [*MODE, *BLOCK, *INCLUDE_STEPS, *ASSERT, *SET_FACT, *DEBUG, *FAIL, *PAUSE, *KEYWORDS]
# Of these, two things are wrong.
TWICE = ("src: a, dest: b", "path: in, source_file_name", "mode: list, path")


@pytest.mark.parametrize(("step", "message", "hint"), WRONG, ids=[step for step, _, _ in WRONG])
def test_what_was_meant_is_said(load: Loader, step: str, message: str, hint: str) -> None:
    (load.folder / "a.yaml").write_text("- debug: {msg: x}\n")

    problems = load.find_problems(f"{HEAD}- {step}\n")

    assert message in problems[0].message
    assert hint in problems[0].hint
    assert problems[0].location.line == 4
    assert len(problems) == (2 if any(part in step for part in TWICE) else 1), problems


def test_a_step_that_is_called_otherwise_says_nothing_of_what_follows(load: Loader) -> None:
    """Where nobody knows what a step does, nobody knows what it lacks."""
    problem = load.find_problem(f"{HEAD}- blocks:\n  - {SAY}\n")

    assert (problem.message, problem.hint) == ("unknown key 'blocks'", "Did you mean 'block'?")


def test_no_secret_is_in_a_hint(load: Loader) -> None:
    problem = load.find_problem(f"{HEAD}- fail: {{msg: x}}\n  vars: password=hunter2\n")

    assert "hunter2" not in problem.message + problem.hint
