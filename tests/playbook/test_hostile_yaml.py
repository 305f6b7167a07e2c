"""Playbooks that try to eat the machine or to crash the runner: each ends in a clear error, quickly, in little memory.

The cheap ones run in this process; those that could take it down run in one of their own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Runner
from tests.patience import BUSY_SECONDS
from tests.playbook.bounded_process import run_bounded
from tests.playbook.examples import mode, play, step

MAX_SECONDS = 2.0
MAX_PEAK_BYTES = 400 * 1024 * 1024
MAX_OUTPUT_CHARACTERS = 50_000


def alias_bomb(levels: int) -> str:
    """Ten to the power of `levels` values in a few lines."""
    rows = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *rows]) + "\n"


def merge_bomb(levels: int) -> str:
    rows = [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, levels)]
    return "\n".join(["a0: &a0 {k: v}", *rows]) + "\n"


EXPENSIVE = {
    "aliases that explode": (alias_bomb(9), "more than 50,000 values, aliases expanded"),
    "merge keys that explode": (merge_bomb(9), "more than 50,000 values, aliases expanded"),
    "brackets": ("[" * 100_000, "nested deeper than 50 levels"),
    "brackets, closed": ("[" * 100_000 + "]" * 100_000, "nested deeper than 50 levels"),
    "braces": ('{"a":' * 100_000, "nested deeper than 50 levels"),
    "dashes": ("- " * 100_000 + "x", "nested deeper than 50 levels"),
    "deep blocks": ("".join(" " * depth + "a:\n" for depth in range(1_000)), "nested deeper than 50 levels"),
    "an endless scalar": ("name: " + "x" * 1_000_000, "missing key 'steps'"),
    "an endless quote": ('name: "' + "x " * 500_000, "unexpected end of stream"),
    "an endless block": ("name: |\n" + "  x\n" * 250_000, "missing key 'steps'"),
    "an endless key": ("? " + "x" * 1_000_000 + "\n: y\n", "unknown key 'xxx"),
    "an endless tag": ("- !" + "x" * 1_000_000 + " y\n", "a tag of more than 1,000 characters"),
    "an endless anchor": ("- &" + "x" * 1_000_000 + " y\n", "step 1 must be a mapping"),
    "comments only": ("#\n" * 500_000, "the playbook is empty"),
    "a huge file": ("a" * 3_000_000, "the file is larger than 1 MiB"),
    "a huge number": ("- " + "9" * 900_000, "a number of 900,000 digits"),
    "very many values": ("- 1\n" * 250_000, "more than 50,000 values"),
    "many empty mappings": ("- {}\n" * 49_000, "more than 50,000 values"),
    "many anchors": ("".join(f"- &a{i} x\n" for i in range(49_000)), "more than 50,000 values"),
    "many empty steps": ("- {}\n" * 24_000, "more than 200 problems"),
    "many unknown keys": ("".join(f"k{i}: 1\n" for i in range(24_000)), "more than 200 problems"),
    "many duplicate keys": ("a: 1\n" * 24_000, "more than 200 problems"),
    "many unknown tags": ("- !x y\n" * 49_000, "more than 200 problems"),
}


@pytest.mark.parametrize(("text", "message"), EXPENSIVE.values(), ids=EXPENSIVE.keys())
def test_an_expensive_playbook_is_refused_cheaply(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "play.yaml"
    path.write_text(text, encoding="utf-8")

    assert_refused_cheaply(tmp_path, path, message)


def template(expression: str) -> str:
    """A playbook whose file name is the template."""
    return step(mode=mode(permissions=json.dumps(expression)))


def chain(link: str, levels: int = 40) -> str:
    """Variables each of which uses the next one twice."""
    rows = [f"  v{level}: {link.replace('NEXT', f'v{level + 1}')}\n" for level in range(levels)]
    return play("vars:\n" + "".join(rows) + f"  v{levels}: x\n", step(mode=mode(permissions='"{{ v0 }}"')))


EXPENSIVE_TEMPLATES = {
    "a product": (template("{{ 'a' * 10**10 }}"), "the result is too large"),
    "a product of numbers": (template("{{ ((((9**64)**64)**64)**64)**64 }}"), "too large a number"),
    "a tower of powers": (template("{{ 9 ** (9 ** 9) }}"), "too large a number"),
    "a huge number": (template("{{ ('f' * 1000000)|int(base=16) }}"), "too large a number"),
    "a range": (template("{{ range(10**9)|list }}"), "Range too big"),
    "nested ranges": (
        template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "takes longer than 0.5 s",
    ),
    "nested ranges that print": (
        template("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"),
        "takes longer than 0.5 s",
    ),
    "doubling": (
        template(
            "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
        ),
        "needs too much memory",
    ),
    "a width": (template("{{ '%999999999d' % 1 }}"), "needs too much memory"),
    "a format": (template("{{ '{:9999999999}'.format(1) }}"), "needs too much memory"),
    "a method": (template("{{ 'a'.center(10**10) }}"), "needs too much memory"),
    "a filter": (template("{{ 'x\ny'|indent(10**10) }}"), "needs too much memory"),
    "a replacement": (template("{{ ('a' * 1000000).replace('a', 'b' * 1000) }}"), "needs too much memory"),
    "lorem ipsum": (template("{{ lipsum(n=10000000) }}"), "takes longer than 0.5 s"),
    "a list of lists": (template("{{ [[0] * 1000000] * 1000000 }}"), "template"),
    "an endless macro": (template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "RecursionError"),
    "deep brackets": (template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"), "RecursionError"),
    "very many expressions": (template("{{ 1 }}" * 50_000), "takes longer than 0.5 s"),
    "variables that double": (chain("'{{ NEXT }}{{ NEXT }}'"), "template"),
    "variables that double in expressions": (chain("'{{ NEXT ~ NEXT }}'"), "template"),
    "variables that branch": (chain("['{{ NEXT }}', '{{ NEXT }}']"), "template"),
    "a long chain of variables": (chain("'{{ NEXT }}'", levels=3000), "RecursionError"),
    "many slow templates": (
        step(mode=mode(permissions=json.dumps("{% for a in range(99999) %}{{ range(99999)|sum }}{% endfor %}"))) * 20,
        "takes longer than 0.5 s",
    ),
    "an endless file": (template("{{ lookup('file', '/dev/zero') }}"), "it is a pipe or a device"),
}


@pytest.mark.parametrize(("text", "message"), EXPENSIVE_TEMPLATES.values(), ids=EXPENSIVE_TEMPLATES.keys())
def test_an_expensive_template_is_refused_cheaply(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "play.yaml"
    path.write_text(text, encoding="utf-8")

    assert_refused_cheaply(tmp_path, path, message)


def assert_refused_cheaply(folder: Path, path: Path, message: str) -> None:
    ending = run_bounded(folder, "validate", str(path))

    assert ending.exit_code == 3, ending.output[-2000:]
    assert message in ending.output
    assert f"{path}:" in ending.output
    assert "Traceback" not in ending.output
    assert len(ending.output) < MAX_OUTPUT_CHARACTERS
    assert ending.processor_seconds < MAX_SECONDS
    assert ending.peak_bytes < MAX_PEAK_BYTES


NOT_A_PLAYBOOK = {
    "nothing": (b"", "1:1: the playbook is empty"),
    "a comment": (b"# steps follow\n", "1:1: the playbook is empty"),
    "a document marker": (b"---\n", "1:1: the playbook is empty"),
    "null": (b"null\n", "1:1: the playbook is empty"),
    "a word": (b"hello\n", "1:1: a playbook is a list of steps or a mapping with 'steps', not a string"),
    "a number": (b"42\n", "1:1: a playbook is a list of steps or a mapping with 'steps', not an integer"),
    "an empty list": (b"[]\n", "1:1: the playbook must not be empty"),
    "an empty mapping": (b"{}\n", "1:1: missing key 'steps'"),
    "a list of words": (b"- a\n- b\n", "2:3: step 2 must be a mapping, not a string"),
    "two documents": (b"- a: 1\n---\n- b: 1\n", "2:1: a second YAML document begins here"),
    "latin-1": ("- name: é\n".encode("latin-1"), "1:9: not UTF-8: byte 0xe9 at offset 8"),
    "UTF-16": ("- name: a\n".encode("utf-16"), "1:1: not UTF-8: byte 0xff at offset 0"),
    "UTF-16 without a mark": ("- name: a\n".encode("utf-16-le"), "1:2: the character U+0000 is not allowed in YAML"),
    "a surrogate in UTF-8": (b"- name: \xed\xa0\x80\n", "1:9: not UTF-8: byte 0xed at offset 8"),
    "a program": (b"\x7fELF\x02\x01\x01\x00", "1:1: the character U+007F is not allowed in YAML"),
    "zeros": (b"\0" * 1000, "1:1: the character U+0000 is not allowed in YAML"),
    "YAML 1.1": (b"%YAML 1.1\n---\n- a: 1\n", "2:1: %YAML 1.1 is not supported"),
    "YAML 3": (b"%YAML 3.0\n---\n- a: 1\n", "1:1: not valid YAML: found incompatible YAML document"),
    "YAML of a long version": (b"%YAML 1." + b"1" * 5000 + b"\n---\n- a\n", "1:1: not YAML"),
    "an escape beyond Unicode": (rb'- "\UFFFFFFFF"', "1:1: not YAML"),
    "an anchor in itself": (b"&a [*a]\n", "1:5: this alias refers to itself"),
    "merges in a circle": (b"a: &a {<<: *b}\nb: &b {<<: *a}\n", "1:12: this alias has no anchor before it"),
    "a merge of itself": (b"a: &a\n  <<: *a\n", "2:7: this alias refers to itself"),
    "an alias as a mapping's key": (b"a: &m {x: 1}\n*m : y\n", "2:1: a key must be a string, not a mapping"),
    "a list as a key": (b"? [a, b]\n: c\n", "1:3: a key must be a string, not a list"),
    "an empty key": (b": a\n", "1:1: a key must be a string, not null"),
    "a tag that runs code": (b"- !!python/object/apply:os.system ['id']\n", "1:3: unknown tag"),
    "a wrong standard tag": (b"!!map [a]\n", "1:8: step 1 must be a mapping, not a string"),
}


@pytest.mark.parametrize(("content", "message"), NOT_A_PLAYBOOK.values(), ids=NOT_A_PLAYBOOK.keys())
def test_what_is_not_a_playbook_is_said_to_be_none(runner: Runner, content: bytes, message: str) -> None:
    path = runner.folder / "play.yaml"
    path.write_bytes(content)

    with measured():
        outcome = runner("validate", str(path))

    assert outcome.exit_code == 3, outcome.output
    assert f"{path}:{message}" in outcome.output
    assert "Traceback" not in outcome.output


ESCAPES = {
    "a class": "{{ ''.__class__.__mro__ }}",
    "a class as an item": "{{ ''['__class__'] }}",
    "a class by filter": "{{ ''|attr('__class__') }}",
    "a class by format": "{{ '{0.__class__}'.format('') }}",
    "a function's module": "{{ lookup.__func__.__globals__ }}",
    "a function's object": "{{ lookup.__self__ }}",
    "a global's module": "{{ cycler.__init__.__globals__ }}",
    "the template": "{{ self._TemplateReference__context }}",
    "another file": "{% include '/etc/passwd' %}",
    "another lookup": "{{ lookup('url', 'file:///etc/passwd') }}",
    "a change of a variable": "{{ items.append(1) }}",
}


@pytest.mark.parametrize("expression", ESCAPES.values(), ids=ESCAPES.keys())
def test_a_template_cannot_leave_its_sandbox(runner: Runner, expression: str) -> None:
    path = runner.folder / "play.yaml"
    path.write_text(play("vars: {items: []}\n", template(expression)), encoding="utf-8")

    with measured():
        outcome = runner("validate", str(path))

    assert outcome.exit_code == 3, outcome.output
    assert f"{path}:6:" in outcome.output
    assert outcome.output.endswith("1 problem in the playbook; nothing was contacted\n")


def test_variables_in_a_circle_are_named(runner: Runner) -> None:
    path = runner.folder / "play.yaml"
    circle = "vars:\n  a: '{{ b }}'\n  b: '{{ c }}'\n  c: '{{ a }}'\nname: '{{ b }}'\n"
    path.write_text(play(circle), encoding="utf-8")

    outcome = runner("validate", str(path))

    assert outcome.exit_code == 3
    assert f"{path}:3:6: variables refer to each other in a circle: b → c → a → b" in outcome.output


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing", "unreadable name"])
def test_a_path_that_is_no_file_is_a_usage_error(runner: Runner, kind: str) -> None:
    fifo = runner.folder / "fifo"
    os.mkfifo(fifo)
    paths = {
        "fifo": str(fifo),
        "device": "/dev/zero",
        "folder": str(runner.folder),
        "missing": str(runner.folder / "nope.yaml"),
        "unreadable name": str(runner.folder / ("x" * 300)),
    }

    with measured():
        outcome = runner("validate", paths[kind])

    assert outcome.exit_code == 64
    assert outcome.stderr.startswith(f"error: cannot read the playbook {paths[kind]}: ")


def test_a_pipe_as_a_looked_up_file_is_not_waited_for(runner: Runner) -> None:
    os.mkfifo(runner.folder / "fifo")
    path = runner.folder / "play.yaml"
    path.write_text(template("{{ lookup('file', 'fifo') }}"), encoding="utf-8")

    with measured():
        outcome = runner("validate", str(path))

    assert outcome.exit_code == 3
    assert "lookup('file') cannot read 'fifo': it is a pipe or a device, not a file" in outcome.output


@contextmanager
def measured() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < MAX_SECONDS + BUSY_SECONDS
