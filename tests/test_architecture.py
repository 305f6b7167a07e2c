"""The rules of the house, read from the imports: who may know whom, and each library behind one door."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "runner").rglob("*.py"))
}

# The door of each third-party library: the only modules, or folders of modules, that import it.
DOORS = {
    "ruamel": ["runner.playbook.document", "runner.playbook.yaml_text"],
    "jsonschema": ["runner.playbook.validation"],
    "referencing": ["runner.playbook.validation"],
    "jinja2": [
        "runner.playbook.templating",
        "runner.playbook.tracing",
        "runner.playbook.names",
        "runner.playbook.item_conditions",
    ],
    "fabric": ["runner.ssh"],
    "invoke": ["runner.ssh"],
    "paramiko": ["runner.ssh"],
    "cryptography": ["runner.ssh", "runner.playbook.vault"],
    "rich": ["runner.report.live"],
    "pathspec": ["runner.transfer.filters"],
    "click": ["runner.cli"],
    "asyncssh": ["runner.demo"],
}

# Values: they know nobody but each other.
VALUES = {
    *("errors", "problems", "plan", "results", "events", "cancellation", "remote_files", "public_keys", "redaction"),
    *("received_files", "readback", "server_traits", "program", "interpreter", "tags", "foretold"),
    *("findings", "operation_results", "suggestions", "hexadecimal", "logins", "one_time_codes", "_version", "values"),
}

# What each part may import besides itself and the values. `play`, `execution` and `cli` wire the others together.
PARTS = {
    "playbook": {"resources"},
    "ssh": set[str](),
    "shell": set[str](),
    "sftp": {"shell"},
    "scp": {"shell"},
    "transfer": set[str](),
    "report": set[str](),
    "execution": {"ssh", "sftp", "scp", "shell", "transfer"},
}


def imports_of(module: str) -> set[str]:
    """The full names of the modules that a module imports, wherever in it."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            # `from runner import plan` names a module, `from runner.plan import Play` does not.
            names |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return names


IMPORTS = {module: imports_of(module) for module in MODULES}


def part_of(module: str) -> str:
    """`playbook` for `runner.playbook.build`, `plan` for `runner.plan`."""
    return module.split(".")[1] if "." in module else ""


def is_below(module: str, door: str) -> bool:
    return module == door or module.startswith(f"{door}.")


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 40
    assert "fabric" in IMPORTS["runner.ssh.handshake"]
    parts = {part_of(module) for module in MODULES}
    assert parts >= VALUES
    assert parts >= PARTS.keys()


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_used_behind_its_door_only(library: str) -> None:
    users = {module for module, names in IMPORTS.items() if any(is_below(name, library) for name in names)}

    outside = {module for module in users if not any(is_below(module, door) for door in DOORS[library])}
    assert outside == set()


def test_every_library_has_a_door() -> None:
    roots = {name.split(".")[0] for names in IMPORTS.values() for name in names}

    assert roots - set(sys.stdlib_module_names) - {"runner"} <= DOORS.keys()


@pytest.mark.parametrize("value", sorted(VALUES))
def test_a_value_knows_only_other_values(value: str) -> None:
    known = {part_of(name) for name in IMPORTS[f"runner.{value}"] if is_below(name, "runner")}

    assert known <= VALUES


@pytest.mark.parametrize("part", PARTS)
def test_a_part_knows_itself_and_the_values(part: str) -> None:
    known = {
        part_of(name)
        for module, names in IMPORTS.items()
        if part_of(module) == part
        for name in names
        if is_below(name, "runner")
    }

    assert known - VALUES - {part} <= PARTS[part]


def test_only_the_command_line_imports_the_command_line() -> None:
    users = {module for module, names in IMPORTS.items() if any(is_below(name, "runner.cli") for name in names)}

    assert {module for module in users if not is_below(module, "runner.cli")} == {"runner.__main__"}


def test_no_module_imports_itself_through_others() -> None:
    def reaches(module: str, goal: str, seen: set[str]) -> bool:
        for name in IMPORTS.get(module, ()):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                if reaches(name, goal, seen):
                    return True
        return False

    # Imports for type checking count as well: what needs each other's types belongs together.
    circular = {module for module in MODULES if reaches(module, module, set())}
    assert circular == set()


def test_only_reports_and_the_command_line_print() -> None:
    printing = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (
            isinstance(node, ast.Attribute)
            and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__")
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
        )
    }

    assert printing
    assert {module for module in printing if part_of(module) not in ("report", "cli")} == set()


def test_only_the_command_line_ends_the_process() -> None:
    ending = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("exit", "_exit")
        and ast.unparse(node.value) in ("sys", "os")
    }

    assert {module for module in ending if part_of(module) != "cli"} == set()
