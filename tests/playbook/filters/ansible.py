"""What Ansible itself makes of expressions, run as a program. The values of the table were taken from it:

    python -m tests.playbook.filters.ansible "day | regex_replace('^mon', 'sun')" …

prints a line of the table for each expression; without any, what is other than the table says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.playbook.filters.table import CASES, DIFFERENCES, UNORDERED, VARIABLES, Wrong

ROOT = Path(__file__).resolve().parents[3]
GROUP_SIZE = 50

EXPECTED: dict[str, Any] = {expression: value for cases in CASES.values() for expression, value in cases}
EXPECTED |= {expression: difference.ansibles for expression, difference in DIFFERENCES.items()}


def find_program() -> Path | None:
    """`ansible-playbook`: beside this Python, of the benchmark, or in the path."""
    beside = [Path(sys.executable).parent, ROOT / ".venv-ansible" / "bin"]
    found = shutil.which("ansible-playbook", path=os.pathsep.join([*map(str, beside), os.environ.get("PATH", "")]))
    return None if found is None else Path(found)


def find_version(program: Path) -> tuple[int, ...]:
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"core (\d+)\.(\d+)\.(\d+)", output)
    assert found, output
    return int(found[1]), int(found[2]), int(found[3])


def ask(program: Path, groups: list[list[str]], folder: Path) -> list[dict[str, Any]]:
    """What `debug` says to each group of expressions: their values in `msg`, or `failed` if one of them is an error."""
    answers = folder / "answers.json"
    cases = {f"case_{index}": [f"{{{{ {one} }}}}" for one in group] for index, group in enumerate(groups)}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {**VARIABLES, **cases, "ansible_python_interpreter": sys.executable},
        "tasks": [
            {
                "debug": {"msg": "{{ lookup('vars', 'case_' ~ item) }}"},
                "loop": list(range(len(groups))),
                "ignore_errors": True,
                "register": "answers",
            },
            {"copy": {"dest": str(answers), "content": "{{ answers.results | to_json }}"}},
        ],
    }
    (folder / "play.yaml").write_text(json.dumps([play]), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_REMOTE_TMP": str(folder / "remote"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "LC_ALL": "C.UTF-8",
    }
    command = [str(program), "-i", "localhost,", "play.yaml"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert answers.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(answers.read_text(encoding="utf-8"))
    return found


def find_names(program: Path, kind: str, folder: Path) -> set[str]:
    """The names of the filters, tests or lookups that Ansible has by itself."""
    command = [str(program.with_name("ansible-doc")), "-t", kind, "--list", "--json"]
    environment = {**os.environ, "ANSIBLE_HOME": str(folder), "LC_ALL": "C.UTF-8"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    names = (name for name in json.loads(run.stdout) if name.startswith("ansible.builtin."))
    return {name.removeprefix("ansible.builtin.") for name in names}


def ask_all(program: Path, likely_right: list[str], others: list[str], folder: Path) -> dict[str, Any]:
    """The value of each expression, or what is `Wrong` with it. An error ends a group, so `others` are asked one by one."""
    groups = [likely_right[start : start + GROUP_SIZE] for start in range(0, len(likely_right), GROUP_SIZE)]
    groups += [[one] for one in others]
    found: dict[str, Any] = {}
    again: list[str] = []
    for group, answer in zip(groups, ask(program, groups, folder), strict=True):
        if not answer.get("failed"):
            found |= zip(group, answer["msg"], strict=True)
        elif len(group) == 1:
            found[group[0]] = Wrong(answer["msg"])
        else:
            again += group
    return found | (ask_all(program, [], again, folder) if again else {})


def agree(expression: str, expected: Any, found: Any) -> bool:
    """Whether what was found is what is expected, of the same type."""
    if isinstance(expected, Wrong):
        return isinstance(found, Wrong)
    if any(word in expression for word in UNORDERED) and isinstance(expected, list):
        return sorted(map(str, found)) == sorted(map(str, expected))
    return type(found) is type(expected) and bool(found == expected)


def find_differences(program: Path, folder: Path) -> list[tuple[str, Any, Any]]:
    """The expressions of the table of which Ansible makes something else: expression, expected, found."""
    wrong = [expression for expression, expected in EXPECTED.items() if isinstance(expected, Wrong)]
    found = ask_all(program, [one for one in EXPECTED if one not in wrong], wrong, folder)
    return [
        (expression, expected, found[expression])
        for expression, expected in EXPECTED.items()
        if not agree(expression, expected, found[expression])
    ]


def main(expressions: list[str]) -> None:
    program = find_program()
    if program is None:
        sys.exit("ansible-core is not installed")
    print(f"# ansible-core {'.'.join(map(str, find_version(program)))}")
    with tempfile.TemporaryDirectory() as folder:
        if not expressions:
            for expression, expected, found in find_differences(program, Path(folder)):
                print(f"{expression}: expected {expected!r}, found {found!r}")
            return
        for expression, found in ask_all(program, [], expressions, Path(folder)).items():
            print(f"({expression!r}, {f'Wrong({str(found)!r})' if isinstance(found, Wrong) else repr(found)}),")


if __name__ == "__main__":
    main(sys.argv[1:])
