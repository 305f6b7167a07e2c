"""What is pasted from Ansible: one problem a thing, where it stands, and a translation that is valid here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner.playbook.ansible.names import explain_name, find_names
from runner.playbook.ansible.writing import LEFT_OPEN, write_pair
from runner.playbook.document import PositionedMap, parse
from runner.playbook.validation import play_keys, step_keys
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import STEP, play, step

GOLDEN = Path(__file__).with_name("pasted_from_ansible.txt")
PAGE = Path(__file__).parents[2] / "docs" / "from-ansible.md"


class Pasted(NamedTuple):
    """What somebody pastes, and the problems and hints that come of it."""

    name: str
    text: str
    told: list[tuple[str, str]]


def read_pasted() -> Iterator[Pasted]:
    for part in GOLDEN.read_text(encoding="utf-8").split("\n## ")[1:]:
        name, _, rest = part.partition("\n")
        text, *told = rest.rstrip("\n").split("=> ")
        pairs = [one.rstrip("\n").split("\n   ") for one in told]
        yield Pasted(name, text, [(where, hint) for where, hint in pairs])


ALL = list(read_pasted())


@pytest.mark.parametrize("pasted", ALL, ids=[one.name for one in ALL])
def test_each_thing_of_ansible_s_is_one_problem_with_its_translation(load: Loader, pasted: Pasted) -> None:
    problems = load.find_problems(pasted.text)

    assert [tell(one) for one in problems] == [where for where, _ in pasted.told]
    assert [one.hint for one in problems] == [hint for _, hint in pasted.told]


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 60
    assert len([one for one in ALL if "hosts:" in one.text]) >= 6


# --- what a hint says to write, pasted into a playbook ---------------------------------------------------------------

# Names that the translations use, which the reader gives.
VARIABLES = {
    **dict.fromkeys(("version", "day", "site", "dir", "user", "distribution", "os_family"), "x"),
    **{name: ["x"] for name in ("a", "b", "files")},
    "users": {"x": 1},
}
AUTHENTICATION = {"authentication_method": "ssh_agent", "username": "acme"}
CONNECTION = {"host": "sftp.bank.example", "authentication": AUTHENTICATION}
MODE = {"mode_name": "copy_file_from_engine", "source_file_name": "a", "destination_file_name": "b"}
KINDS = ("block", "include_steps", "assert", "debug", "fail", "pause", "set_fact")
COPY = {"connection": "web", "mode": MODE}
# Names that the translations use, which an earlier step gives.
REGISTERED = {
    "st": {"mode_name": "stats", "path": "x"},
    **{name: {"mode_name": "list", "path": "x"} for name in ("l", "old", "found")},
    **dict.fromkeys(("statement", "result", "copied", "copy_the_site", "copy_config", "NAME"), MODE),
}
# What a hint says to write in a mode, and not beside it.
MODE_KEYS = {"permissions"}


class Playbook(NamedTuple):
    """A playbook of ours, and the values of its inputs."""

    text: str
    extra_vars: dict[str, str]


def fragments(hint: str) -> Iterator[PositionedMap]:
    """The keys with their values that a hint says to write."""
    for text in re.findall(r"`([a-z_]+: .*?)`(?=[\s,.;:]|$)", hint):
        filled = text.replace("authentication: …", f"authentication: {json.dumps(AUTHENTICATION)}").replace("…", "x")
        data = parse(f"{{{filled}}}", "hint")
        assert isinstance(data, PositionedMap) and len(data) == 1, text
        yield data


def paste(fragment: PositionedMap, folder: Path) -> Playbook:
    """A playbook of ours with the fragment in it, and all that it needs around it."""
    (key, value), *_ = fragment.items()
    written = json.dumps(value)
    variables = {**VARIABLES, **({"users": [{"keys": ["x"]}]} if "subelements" in written else {})}
    playbook: dict[str, Any] = {"vars": variables, "connections": {"web": CONNECTION, "db1": CONNECTION}}
    whole: dict[str, Any] = {"connection": "web", **({} if key in KINDS else {"mode": MODE})}
    if key == "loop_control" or re.search(r"(?<![\w.])item\b", written):
        whole["loop"] = ["x"]
    extra_vars: dict[str, str] = {}
    if key in MODE_KEYS:
        whole["mode"] = {**MODE, key: value}
    elif key == "connections":
        playbook[key] |= {name: {**CONNECTION, **one, "authentication": AUTHENTICATION} for name, one in value.items()}
    elif key in play_keys() - step_keys():
        playbook[key] = value
    else:
        assert key in step_keys(), key
        whole[key] = [COPY] if key == "block" else value
    if key == "inputs":
        extra_vars = {name: "x" for name, one in value.items() if one.get("required")}
    for name in [value] if key == "connection" else value if key == "proxy_jump" else ():
        playbook["connections"].setdefault(name, CONNECTION)
    if "failed_step" in written:
        whole = {"block": [COPY], "rescue": [whole]}
    earlier = [register(name) for name in REGISTERED if re.search(rf"(?<![\w.]){name}\b", written)]
    playbook["steps"] = [*earlier, *playbook.get("steps", [whole])]
    write_files(playbook, folder)
    return Playbook(json.dumps(playbook), extra_vars)


def register(name: str) -> dict[str, Any]:
    """The step that a name has its result from."""
    return {"connection": "web", "mode": REGISTERED[name], "register": name}


def write_files(playbook: dict[str, Any], folder: Path) -> None:
    """What the playbook reads."""
    for name in playbook.get("vars_files", ()):
        (folder / name).write_text("a: 1\n", encoding="utf-8")
    for one in playbook["steps"]:
        if "include_steps" in one:
            (folder / one["include_steps"]).write_text(json.dumps([COPY]), encoding="utf-8")
    for name in re.findall(r"lookup\('pipe', 'cat ([\w.]+)'", json.dumps(playbook)):
        (folder / name).write_text("x", encoding="utf-8")
    for terms in re.findall(r"lookup\('(?:template|file|first_found)', ([^)]*)\)", json.dumps(playbook)):
        for name in re.findall(r"'([^']+)'", terms):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("x", encoding="utf-8")


@pytest.mark.parametrize("pasted", ALL, ids=[one.name for one in ALL])
def test_what_a_hint_says_to_write_is_valid(load: Loader, pasted: Pasted) -> None:
    for problem in load.find_problems(pasted.text):
        for fragment in fragments(problem.hint):
            playbook = paste(fragment, load.folder)
            assert load(playbook.text, extra_vars=playbook.extra_vars).steps, problem.hint


def test_the_translations_are_looked_at() -> None:
    """What is checked above is most of what is said: the test would not notice a hint without one."""
    translated = [one for pasted in ALL for _, hint in pasted.told for one in fragments(hint)]
    modes = [one for one in translated if "mode" in one]

    assert len(translated) >= 100
    assert len(modes) >= 60


# --- no noise, and nothing for a playbook of ours --------------------------------------------------------------------


def test_a_playbook_of_ours_does_not_load_what_knows_ansible(tmp_path: Path) -> None:
    path = tmp_path / "play.yaml"
    path.write_text(STEP, encoding="utf-8")
    code = (
        "import sys\nfrom runner.playbook.build import check_play\n"
        f"assert check_play({str(path)!r}) == 1\n"
        "print(sorted(name for name in sys.modules if name.startswith('runner.playbook.ansible')))\n"
    )

    printed = run_python(code)

    assert printed.strip() == "['runner.playbook.ansible', 'runner.playbook.ansible.detection']"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout


MISSPELT = [
    (step(hots="x"), "5:3 unknown key 'hots'", "Did you mean 'host'?"),
    # A step that logs in by itself has a host, and no hosts.
    (
        step().replace("- host: sftp.bank.example\n", "- hosts: sftp.bank.example\n"),
        "1:3 unknown key 'hosts'",
        "Did you mean 'host'?",
    ),
    (play("step: 1\n"), "1:1 unknown key 'step'", "Did you mean 'steps'?"),
    (step(zebra="{a: 1}"), "5:3 unknown key 'zebra'", "Besides what it does"),
]


@pytest.mark.parametrize(("text", "told", "hint"), MISSPELT, ids=[told for _, told, _ in MISSPELT])
def test_what_is_only_misspelt_is_not_taken_for_ansible_s(load: Loader, text: str, told: str, hint: str) -> None:
    problem = load.find_problem(text)

    assert tell(problem) == told
    assert problem.hint.startswith(hint)


def test_other_mistakes_beside_ansible_s_are_told_as_well(load: Loader) -> None:
    text = step(become="true", port="0") + step(mode="{mode_name: copy_file_from_engine, source_file_name: a}")

    assert [tell(one) for one in load.find_problems(text)] == [
        "5:3 'become' is an Ansible keyword",
        "6:9 'port' must be at least 1, not 0",
        "10:9 missing key 'destination_file_name'",
    ]


def test_a_variable_of_the_playbook_s_own_is_none_of_ansible_s(load: Loader) -> None:
    text = play("vars: {ansible_user: acme}\n", step(name="For {{ ansible_user }}", become="true"))

    assert [tell(one) for one in load.find_problems(text)] == ["8:3 'become' is an Ansible keyword"]


# --- what is told is no other mistake besides, where the rest of the playbook is ours ---------------------------------

WEB = """\
connections:
  web: {host: h.example, authentication: {authentication_method: ssh_agent, username: acme}}
"""
# The steps begin on line 4, each as one that names its connection.
BESIDES = {
    "a name in a condition, and another that is undefined": (
        "- {connection: web, become: yes, when: ansible_os_family == 'x' and vresion, debug: {msg: a}}\n",
        [
            "4:21 'become' is an Ansible keyword",
            "4:40 'ansible_os_family' is an Ansible variable",
            "4:40 undefined in the template: 'vresion' is undefined",
        ],
    ),
    "the names of a block": (
        "- {connection: web, become: yes, when: ansible_os_family == 'x', block: [{debug: {msg: a}}]}\n",
        ["4:21 'become' is an Ansible keyword", "4:40 'ansible_os_family' is an Ansible variable"],
    ),
    "a statement in one line": (
        "- {connection: web, debug: \"msg='{{ ansible_os_family }} {{ inventory_hostname }}'\"}\n",
        [
            "4:21 'debug' is a mapping, not 'key=value' in one line",
            "4:28 'ansible_os_family' is an Ansible variable",
        ],
    ),
    "the variable that debug names": (
        "- {connection: web, debug: {var: inventory_hostname, verbosity: 1}}\n",
        ["4:21 'debug' is written as in Ansible"],
    ),
    "what assert is given": (
        "- {connection: web, assert: {that: [ansible_os_family == 'x', ansible_host != 'y'], quiet: true}}\n",
        ["4:21 'assert' is written as in Ansible", "4:37 'ansible_os_family' is an Ansible variable"],
    ),
    "the item of a loop": (
        "- {connection: web, copy: {src: a, dest: b}, with_items: [a], name: '{{ item }}', when: item != 'b'}\n",
        ["4:21 'copy' is an Ansible module", "4:46 'with_items' is an Ansible loop"],
    ),
    "the result of a module": (
        "- {connection: web, stat: path=/a, register: st, until: st.stat.exists}\n"
        "- {connection: web, debug: {msg: '{{ st.result.exists }}'}, when: not st.result.exists}\n",
        ["4:21 'stat' is an Ansible module", "4:57 'st.stat.exists' is a result of an Ansible module"],
    ),
    "the result of a module, in what is translated": (
        "- {connection: web, stat: path=/a, register: st}\n- {connection: web, debug: 'msg={{st.stat.exists}}'}\n",
        [
            "4:21 'stat' is an Ansible module",
            "5:21 'debug' is a mapping, not 'key=value' in one line",
        ],
    ),
    "what is in a fact": (
        "- {connection: web, set_fact: {login: {user: '{{ ansible_host }}'}, cacheable: true}}\n"
        "- {connection: web, debug: {msg: '{{ login.user }}'}}\n",
        ["4:21 'set_fact' is written as in Ansible"],
    ),
    "variables of an included file": (
        "- include_vars: x.yml\n- {connection: web, debug: {msg: '{{ y }}'}, when: y == 1}\n",
        ["4:3 'include_vars' is an Ansible module"],
    ),
    "facts of included tasks": (
        "- include_tasks: x.yml\n- {connection: web, debug: {msg: '{{ y }}'}, when: false}\n",
        ["4:3 'include_tasks' is an Ansible module"],
    ),
}


@pytest.mark.parametrize(("steps", "told"), BESIDES.values(), ids=BESIDES)
def test_what_is_told_is_not_reported_again(load: Loader, steps: str, told: list[str]) -> None:
    assert [tell(one) for one in load.find_problems(play(WEB, steps))] == told


def test_what_is_asked_for_is_not_reported_as_undefined(load: Loader) -> None:
    text = play("vars_prompt: [{name: version}]\n" + WEB, "- {connection: web, debug: {msg: '{{ version }}'}}\n")

    assert [tell(one) for one in load.find_problems(text)] == ["1:1 'vars_prompt' is an Ansible keyword"]


def test_variables_of_all_plays_are_known(load: Loader) -> None:
    text = (
        "- {hosts: a, vars: {x: 1}, tasks: []}\n"
        "- {hosts: b, vars: {y: 2}, connection: ssh, tasks: [{debug: {msg: '{{ x }} {{ y }}'}}]}\n"
        "- {hosts: c, vars: [1], tasks: []}\n"
    )

    told = [tell(one) for one in load.find_problems(text)]

    assert all(" is an Ansible keyword" in one or "is Ansible's" in one for one in told), told


def test_included_steps_are_answered_where_they_stand(load: Loader) -> None:
    (load.folder / "more.yml").write_text(
        "- copy: {src: a, dest: '/b/{{ inventory_hostname }}'}\n"
        "  become: yes\n"
        "- stat: path=/a\n"
        "  register: st\n"
        "- {connection: web, debug: {msg: '{{ own }} {{ ansible_user }}'}, become: yes}\n",
        encoding="utf-8",
    )
    steps = "- {include_steps: more.yml, vars: {own: a}}\n- {connection: web, debug: {msg: '{{ st.result.exists }}'}}\n"

    # The name is the including file's own.
    problems = load.find_problems(play("vars: {ansible_user: x}\n" + WEB, steps))

    assert {Path(one.location.file).name for one in problems} == {"more.yml"}
    assert [tell(one) for one in problems] == [
        "1:3 'copy' is an Ansible module",
        "2:3 'become' is an Ansible keyword",
        "3:3 'stat' is an Ansible module",
        "5:67 'become' is an Ansible keyword",
    ]
    assert 'destination_file_name: "/b/{{ connection_name }}"' in problems[0].hint


FIELDS = {
    "r.stat.exists": "Write `r.result.exists`.",
    "r.stat.size": "Write `r.result.size_bytes`.",
    "r['stat']['isdir']": "Write `r.result.type == 'directory'`.",
    "r.stat": "Write `r.result`.",
    "r.msg": "Write `r.message`.",
    "r.rc": "No command is run on a host, and so nothing is printed there.",
    "r.stdout_lines": "No command is run on a host, and so nothing is printed there.",
    # Those of other modes are not there.
    "r.dest": "Did you mean 'result'?",
}


@pytest.mark.parametrize(("field", "hint"), FIELDS.items(), ids=FIELDS)
def test_a_field_of_ansible_s_in_a_result_of_ours_is_said_what_it_is_here(load: Loader, field: str, hint: str) -> None:
    begin = "- {connection: web, mode: {mode_name: stats, path: a}, register: r"

    later = load.find_problem(play(WEB, f'{begin}}}\n- debug: {{msg: "{{{{ {field} }}}}"}}\n'))
    until = load.find_problem(play(WEB, f'{begin}, until: "{field}"}}\n'))

    for problem in (later, until):
        assert problem.message.startswith("undefined in the template: 'r' has no '")
        assert problem.hint == hint


def test_a_field_of_ansible_s_is_not_promised_where_a_loop_has_none(load: Loader) -> None:
    steps = (
        "- {connection: web, loop: [a], mode: {mode_name: stats, path: a}, register: r}\n"
        "- {debug: {msg: '{{ r.stat.exists }}'}}\n"
    )

    problem = load.find_problem(play(WEB, steps))

    assert tell(problem) == "5:17 undefined in the template: 'r' has no 'stat'"
    assert "r.result" not in problem.hint


def test_a_name_of_ansible_s_beside_one_that_waits_for_the_play_has_its_hint(load: Loader) -> None:
    steps = (
        "- {connection: web, mode: {mode_name: stats, path: a}, register: r}\n"
        "- {debug: {msg: '{{ r.result.exists }} {{ ansible_date_time.date }} {{ query(r) }}'}}\n"
    )

    hints = [one.hint for one in load.find_problems(play(WEB, steps))]

    assert hints == [
        "Ansible's 'ansible_date_time.date' is `now(fmt='%Y-%m-%d')` here.",
        "Write `lookup(…)`; `lookup('fileglob', …)` gives a list.",
    ]


# --- names in templates of a playbook of ours ------------------------------------------------------------------------

NAMES = {
    "inventory_hostname": "`connection_name`",
    "inventory_hostname_short": "`connection_name`",
    "ansible_host": "`host`",
    "ansible_hostname": "`host`",
    "ansible_fqdn": "`host`",
    "ansible_date_time.date": "`now(fmt='%Y-%m-%d')`",
    "ansible_date_time.iso8601": "`now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ')`",
    "ansible_date_time.epoch": "`now(fmt='%s')`",
    "ansible_facts.date_time.date": "`now(fmt='%Y-%m-%d')`",
    "ansible_facts['date_time']['year']": "`now(fmt='%Y')`",
    "ansible_env.HOME": "`lookup('env', 'HOME')`",
    "ansible_env['HOME']": "`lookup('env', 'HOME')`",
    "ansible_check_mode": "`runner_check_mode`",
    "ansible_version.full": "`runner_version`",
    "ansible_play_hosts": "`play_hosts`",
    "ansible_play_hosts_all": "`groups.all`",
    "ansible_loop.index": "`loop.index`",
    "ansible_failed_task.name": "`failed_step.name`",
    "ansible_failed_result.msg": "`failed_step.error.message`",
    "role_path": "`playbook_dir`",
    "inventory_dir": "`playbook_dir`",
    "ansible_user": "`vars: {user: acme}`",
    "ansible_password": "lookup('env', 'PASSWORD')",
    "ansible_os_family": "`vars: {os_family: …}`",
    "ansible_default_ipv4.address": "`vars: {default_ipv4: …}`",
    "ansible_facts['os_family']": "`vars: {os_family: …}`",
    "omit": "leave the key out",
    "query('fileglob', '*')": "`lookup(…)`",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_ansible_s_is_undefined_and_said_what_it_is_here(load: Loader, name: str) -> None:
    problem = load.find_problem(step(name=json.dumps(f"For {{{{ {name} }}}}")))

    assert tell(problem).startswith("5:9 undefined in the template: ")
    assert NAMES[name] in problem.hint


@pytest.mark.parametrize(
    "name", [name for name, hint in NAMES.items() if re.match(r"`(now|lookup|host|conn|play.dir)", hint)]
)
def test_what_is_written_for_a_name_can_be_filled_in(load: Loader, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/acme")
    (found,) = find_names(f"{{{{ {name} }}}}")
    text = step(name=json.dumps(f"{{{{ {found.expression} }}}}"), connection="web")

    if found.expression == "lookup":
        return
    assert load(play("connections: {web: {}}\n", text)).steps[0].name


def test_text_that_looks_like_a_name_is_none() -> None:
    assert list(find_names("ansible_host is text here, and {{ 'ansible_host' }} too, and {{ my.ansible_host }}")) == []
    assert explain_name("ansibel", "{{ ansibel }}") == ""


# --- habits of Ansible's YAML ------------------------------------------------------------------------------------------

HABITS = [
    ("yes", "YAML 1.2 reads yes as text: write true."),
    ("Yes", "YAML 1.2 reads Yes as text: write true."),
    ("on", "YAML 1.2 reads on as text: write true."),
    ("no", "YAML 1.2 reads no as text: write false."),
    ("OFF", "YAML 1.2 reads OFF as text: write false."),
]


@pytest.mark.parametrize(("word", "hint"), HABITS)
def test_old_booleans_are_text_and_said_to_be(load: Loader, word: str, hint: str) -> None:
    mode = f"{{mode_name: copy_file_from_engine, source_file_name: a, destination_file_name: b, atomic: {word}}}"

    problem = load.find_problem(step(mode=mode))

    assert tell(problem) == "4:99 'atomic' must be true or false, not a string"
    assert problem.hint == hint


def test_key_value_in_one_line_is_shown_as_a_mapping(load: Loader) -> None:
    problem = load.find_problem(step(mode="mode_name=remove path='/srv/a b' recursive=true"))

    assert tell(problem) == "4:9 'mode' must be a mapping with 'mode_name', not a string"
    assert '`mode: {mode_name: remove, path: /srv/a b, recursive: "true"}`' in problem.hint


def test_a_secret_in_one_line_is_not_shown(load: Loader) -> None:
    text = step(authentication="authentication_method=username_password username=u password=hunter2")

    problem = load.find_problem(text)

    assert 'username: u, password: "…"' in problem.hint
    assert "hunter2" not in problem.hint


SECRETS = [
    "- hosts: web\n  vars: {ansible_password: hunter2, ansible_ssh_pass: hunter2, ansible_become_password: hunter2}\n",
    "- hosts: web\n  tasks: [{set_fact: 'db_password=hunter2'}]\n",
    "- hosts: web\n  tasks: [{debug: {msg: a, verbosity: 1}, environment: {TOKEN: hunter2}}]\n",
    "- hosts: web\n  vars_prompt: [{name: password, default: hunter2}]\n",
    "- hosts: web\n  tasks: [{get_url: {url: x, dest: /a, url_password: hunter2}}]\n",
    "- hosts: web\n  tasks: [{user: {name: x, password: hunter2}}]\n",
    "- hosts: web\n  tasks: [{set_fact: {cacheable: true, login: {api_token: hunter2}}}]\n",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_hint_shows_a_value_that_a_secret_s_name_holds(load: Loader, text: str) -> None:
    problems = load.find_problems(text)

    assert problems
    assert not any("hunter2" in one.message + one.hint for one in problems)


def test_what_is_written_in_a_hint_is_bounded(load: Loader) -> None:
    long = "x" * 100_000
    problems = load.find_problems(
        f"- copy: {{content: {long}, dest: {long}}}\n  with_items: [{', '.join(['a'] * 2000)}]\n"
    )

    assert len(problems) == 2
    assert all(len(one.message) + len(one.hint) < 2000 for one in problems)


HOSTILE = {
    "tasks without an end": "- hosts: web\n  tasks:\n" + "    - copy: {src: '{{ item }}', dest: /b/}\n" * 4000,
    "templates that do not end": '- copy: "' + "{{ " * 150_000 + '"\n',
    "a command of them": '- shell: "' + "{{ " * 150_000 + '"\n',
    "quotes that do not end": '- debug: "msg={{ ansible_x' + "\\\"'" * 100_000 + '"\n',
    "words in quotes": '- copy: "' + "'a\\\" " * 100_000 + '"\n',
    "hosts without an end": '- hosts: "' + "a:" * 200_000 + '"\n',
    "a path of many names": '- copy: {src: "' + "a/" * 200_000 + '", dest: b/}\n',
    "a loop over templates": '- with_nested: "' + "{{ " * 100_000 + '"\n  copy: {src: a, dest: b}\n',
    "templates without quotes": "a: [" + "{{x}}, " * 9000 + "]\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_playbook_is_answered_in_bounded_time(load: Loader, text: str) -> None:
    began = time.process_time()
    problems = load.find_problems(text)

    assert 1 <= len(problems) <= 201
    assert all(len(one.message) + len(one.hint) < 3000 for one in problems)
    # Some tenths of a second; what grows with the square of the length takes minutes.
    assert time.process_time() - began < 20


def test_a_name_that_needs_quotes_gets_them() -> None:
    assert write_pair("path", "a: b") == 'path: "a: b"'
    assert write_pair("path", "no") == 'path: "no"'
    assert write_pair("path", "0644") == 'path: "0644"'
    assert write_pair("path", "1e3") == 'path: "1e3"'
    assert write_pair("path", "- a") == 'path: "- a"'
    assert write_pair("path", "a #b") == 'path: "a #b"'
    assert write_pair("path", "a,b") == 'path: "a,b"'
    assert write_pair("path", "") == 'path: ""'
    assert write_pair("path", "a b/c-1.2_x") == "path: a b/c-1.2_x"
    assert write_pair("password", "hunter2") == f'password: "{LEFT_OPEN}"'


# --- the page ------------------------------------------------------------------------------------------------------------


def page_rows() -> list[tuple[str, str]]:
    """The rows of the page's tables: what is written in Ansible, and what is written here, each as one line of YAML."""
    rows = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if line.startswith("| `") and len(cells) == 2:
            rows.append((unquote(cells[0]), unquote(cells[1])))
    return rows


def unquote(cell: str) -> str:
    found = re.match(r"(`+) ?(.*?) ?\1", cell)
    return (found[2] if found else "").replace("\\|", "|")


def test_the_page_has_its_rows() -> None:
    assert len(page_rows()) >= 40


@pytest.mark.parametrize(("theirs", "ours"), page_rows(), ids=[theirs for theirs, _ in page_rows()])
def test_a_row_of_the_page_is_what_the_program_says(load: Loader, theirs: str, ours: str) -> None:
    is_play = re.match(r"(hosts|tasks|roles|vars_prompt|gather_facts|import_playbook|remote_user|handlers):", theirs)
    text = f"- {{{theirs}}}\n"
    if is_play:
        text = f"- {{{theirs}}}\n" if "hosts" in theirs else f"- {{hosts: web, {theirs}}}\n"
    name = re.match(r"\{\{ (\w+)", theirs)
    if name and name[1] in REGISTERED:
        text = json.dumps(
            {"connections": {"web": CONNECTION}, "steps": [register(name[1]), {"debug": {"msg": theirs}}]}
        )
    elif name:
        text = step(name=json.dumps(theirs))
    elif not is_play and re.match(r"with_|become|delegate_to|notify|environment|async", theirs):
        text = f"- {{{theirs}, debug: {{msg: x}}}}\n"

    problems = [one for one in load.find_problems(text) if "'hosts'" not in one.message or "hosts" in theirs]

    assert len({one.location for one in problems}) == 1, problems
    if ours:
        assert any(ours in one.hint for one in problems), problems


@pytest.mark.parametrize("ours", sorted({ours for _, ours in page_rows() if re.match(r"[a-z_]+: ", ours)}))
def test_what_the_page_says_to_write_is_valid(load: Loader, ours: str) -> None:
    (fragment,) = fragments(f"`{ours}`")

    playbook = paste(fragment, load.folder)

    assert load(playbook.text, extra_vars=playbook.extra_vars).steps


RESULTS = [(theirs, ours) for theirs, ours in page_rows() if ours and re.match(r"\{\{ (st|found|copied)\.", theirs)]


@pytest.mark.parametrize(("theirs", "ours"), RESULTS)
def test_what_the_page_says_of_a_result_is_there(load: Loader, theirs: str, ours: str) -> None:
    steps = [register(ours.partition(".")[0]), {"debug": {"msg": f"{{{{ {ours} }}}}"}}]

    assert len(load(json.dumps({"connections": {"web": CONNECTION}, "steps": steps})).steps) == 2


def test_results_are_on_the_page() -> None:
    assert len(RESULTS) >= 6
