"""What a command loads before it has done anything: each module takes its time of every start-up.

Bounds on modules, not on seconds, since these depend on the machine. What few playbooks need is loaded where they need it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.loaded import loaded_by_cryptography
from tests.conftest import download, step
from tests.servers.openssh import OpenSSHServer

# Counted on the newest dependencies; other versions differ by some.
MOST_OF_OURS = {"help": 22, "validate": 75, "play": 180}
MOST_OF_ALL = {"help": 165, "validate": 300, "play": 555}
# What only some playbooks need, or only what goes wrong.
NEVER_IN_VALIDATE = {
    *("jsonschema", "referencing", "attr", "attrs", "rpds", "jinja2", "fabric", "paramiko", "pathspec"),
    *("rich", "email", "html", "zipfile", "importlib.metadata", "importlib.resources", "statistics"),
    *("runner.playbook.ssh_config.config", "runner.playbook.ansible.answers", "runner.playbook.filters.registry"),
    *("runner.playbook.names", "runner.playbook.item_conditions", "runner.playbook.description"),
}
NEVER_IN_PLAY = (NEVER_IN_VALIDATE - {"fabric", "paramiko"}) | {
    *("runner.ssh.putty_keys", "runner.ssh.proxy", "runner.scp.files"),
    *("runner.transfer.tree.tree", "runner.transfer.filters", "runner.execution.control", "runner.operation_results"),
    *("runner.report.live", "runner.execution.examination", "runner.execution.probing"),
}
LOADED = """
import json, sys
from runner.cli.main import run
try:
    code = run(sys.argv[2:])
except SystemExit as ended:
    code = ended.code
with open(sys.argv[1], "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""


def load(tmp_path: Path, *arguments: str) -> set[str]:
    """The modules that a whole command has loaded in the end."""
    told = tmp_path / "modules.json"
    subprocess.run([sys.executable, "-c", LOADED, str(told), *arguments], cwd=tmp_path, check=True, capture_output=True)
    code, modules = json.loads(told.read_text(encoding="utf-8"))
    assert not code
    return set(modules)


def write(tmp_path: Path, playbook: list[dict[str, Any]]) -> str:
    path = tmp_path / "play.yaml"
    path.write_text(json.dumps(playbook), encoding="utf-8")
    return str(path)


@pytest.fixture
def tiny(sshd: OpenSSHServer, tmp_path: Path) -> str:
    """One small file from the server."""
    (tmp_path / "source").write_bytes(b"x" * 1000)
    return write(tmp_path, [step(sshd, download(tmp_path / "source", "copy"))])


def assert_few(what: str, modules: set[str]) -> None:
    ours = {name for name in modules if name.split(".")[0] == "runner"}
    assert len(ours) <= MOST_OF_OURS[what], sorted(ours)
    # An older version of cryptography loads a few dozen modules more.
    extra = loaded_by_cryptography() if "email" in loaded_by_cryptography() else frozenset[str]()
    assert len(modules - extra) <= MOST_OF_ALL[what], len(modules)


def test_help_loads_little(tmp_path: Path) -> None:
    assert_few("help", load(tmp_path, "--help"))


def test_validating_loads_what_it_needs(tmp_path: Path, tiny: str) -> None:
    modules = load(tmp_path, "validate", tiny)

    assert modules & NEVER_IN_VALIDATE <= loaded_by_cryptography()
    assert_few("validate", modules)


def test_playing_one_tiny_file_loads_what_it_needs(tmp_path: Path, tiny: str) -> None:
    modules = load(tmp_path, "play", tiny)

    assert (tmp_path / "copy").read_bytes() == b"x" * 1000
    assert modules & NEVER_IN_PLAY <= loaded_by_cryptography()
    assert_few("play", modules)
