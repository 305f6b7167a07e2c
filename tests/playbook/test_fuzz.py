"""Valid playbooks, damaged at random: whatever is left is either valid or told to be invalid, and never a crash."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid, UsageError
from runner.playbook.build import load_play
from tests.playbook.examples import FINGERPRINT, mode, play, step

SEEDS = range(40)
MUTATIONS_PER_SEED = 25

PLAYBOOKS = [
    step(port="{port_mode: port_number, port_number: 2022}", connect_timeout="10"),
    play(
        """\
name: Nightly {{ day }}
vars: {day: "{{ now().strftime('%Y') }}", list: [1, 2.5, ~, true]}
defaults: &defaults {connect_timeout: 10, stall_timeout: 5}
connections:
  bank:
    <<: *defaults
    host: sftp.bank.example
    vars: {inbox: /in}
workdir: data
""",
        step(
            connection="bank",
            name="Send {{ day }}",
            hostkey=f"{{hostkey_mode: fingerprint, fingerprint: ['{FINGERPRINT}']}}",
        )
        + step(
            vars="{x: '{{ day }}-{{ inbox|default(1) }}'}",
            mode=mode(permissions='"0640"', preserve="[times]", atomic="'{{ true }}'"),
        ),
    ),
    json.dumps(
        [
            {
                "host": "h",
                "authentication": {"authentication_method": "ssh_agent", "username": "{{ lookup('env', 'HOME') }}"},
                "mode": {"mode_name": "copy_file_to_engine", "source_file_name": "a", "destination_file_name": "🙂"},
            }
        ],
        indent=1,
    ),
]

PIECES = [
    *"{}[]:,-?&*!|>'\"%@`#~ \n\t",
    *("{{", "}}", "{%", "%}", "{#", "<<", "---", "...", "null", "true", "0644", "1e9", ".nan", "\\ud800", "\\0", "é"),
    *(
        "- ",
        ": ",
        "&a ",
        "*a",
        "!!int ",
        "!x ",
        "[]",
        "{}",
        "''",
        "host",
        "mode",
        "vars",
        "mode_name",
        "authentication",
    ),
    *("{{ x }}", "{{ {} }}", "{{ [] }}", "{{ 1/0 }}", "{{ host.x }}", "{{ now }}", "{{ lookup }}", "{{ vars }}"),
]


def mutate(text: str, chance: random.Random) -> str:
    """`text` with one to four small damages."""
    for _ in range(chance.randint(1, 4)):
        words = list(re.finditer(r"[\w./{}'\"-]+", text))
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 1, 1, 2, 5, 20, 80]))
        match chance.randrange(6):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:start] + chance.choice(PIECES) + text[start:]
            case 2 if words:
                word = chance.choice(words)
                text = text[: word.start()] + chance.choice(PIECES) + text[word.end() :]
            case 3 if len(words) > 1:
                one, other = sorted(chance.sample(words, 2), key=lambda found: found.start())
                text = text[: one.start()] + other[0] + text[one.end() : other.start()] + one[0] + text[other.end() :]
            case 4:
                lines = text.splitlines(keepends=True) or [""]
                lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
                text = "".join(lines)
            case _:
                lines = text.splitlines(keepends=True) or [""]
                index = chance.randrange(len(lines))
                lines[index] = chance.choice(["  ", "    ", "- "]) + lines[index]
                text = "".join(lines)
    return text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_playbook_is_valid_or_told_to_be_invalid(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "play.yaml"
    for _ in range(MUTATIONS_PER_SEED):
        text = mutate(chance.choice(PLAYBOOKS), chance)
        path.write_text(text, encoding="utf-8")
        try:
            load_play(str(path), extra_vars={"x": "{{ x }}"})
        except PlaybookInvalid as error:
            lines = text.splitlines() or [""]
            for problem in error.problems:
                assert problem.message, text
                assert 1 <= problem.location.line <= len(lines) + 1, text
        except Exception as error:
            raise AssertionError(f"not a PlaybookInvalid for:\n{text}") from error


@pytest.mark.parametrize("seed", range(10))
def test_damaged_bytes_are_valid_or_told_to_be_invalid(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "play.yaml"
    for _ in range(MUTATIONS_PER_SEED):
        content = bytearray(chance.choice(PLAYBOOKS).encode())
        for _ in range(chance.randint(1, 3)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            load_play(str(path))
        except PlaybookInvalid as error:
            assert error.problems
        except UsageError as error:
            raise AssertionError(f"a readable file was not read: {bytes(content)!r}") from error


def test_the_playbooks_that_are_damaged_are_valid(tmp_path: Path) -> None:
    for text in PLAYBOOKS:
        (tmp_path / "play.yaml").write_text(text, encoding="utf-8")
        assert load_play(str(tmp_path / "play.yaml")).steps
