"""`runner validate`: everything that is wrong, in one go, without contacting or importing anything that could."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.loaded import loaded_by_cryptography
from tests.conftest import Runner
from tests.playbook import vaults
from tests.playbook.bounded_process import run_bounded
from tests.playbook.examples import STEP, step

ROOT = Path(__file__).resolve().parents[2]

TWELVE_MISTAKES = """\
name: Twelve mistakes
workdirs: data
vars: {day-of-week: monday}
connections:
  bank:
    host: sftp.bank.example
    hostkey: {hostkey_mode: fingerprint, fingerprint: "MD5:00:11"}
    authentication: {authentication_method: ssh_agent, username: acme}
steps:
  - name: One
    connection: bnak
    mode: {mode_name: copy_file_to_engine, source_file_name: a, destination_file_name: b}
  - name: Two
    connection: bank
    port: "2022"
    mode: {mode_name: copy_file_to_engine, source_file_name: a, destination_file_name: b, permissions: 0644}
  - name: Three
    connection: bank
    connect_timeout: 0
    mode: {mode_name: copy_files_to_engine}
  - name: Four
    connection: bank
    mode: {mode_name: copy_file_from_engine, source_file_name: "{{ dya }}", destination_file_name: in/}
  - name: Five
    connection: bank
    conection: bank
"""

TOLD = """\
play.yaml:2:1: unknown key 'workdirs'
  hint: Did you mean 'workdir'?
play.yaml:3:8: 'day-of-week' cannot be a variable's name
  hint: Use letters, digits and '_', not beginning with a digit.
play.yaml:7:55: 'MD5:00:11' is not a SHA256 fingerprint
  hint: Expected 'SHA256:' and 43 characters, as `ssh-keygen -lf KEY.pub` prints it; MD5 is not accepted.
play.yaml:11:17: no connection is called 'bnak'
  hint: Did you mean 'bank'?
play.yaml:15:11: 'port' must be a mapping with 'port_mode' or an integer, not a string
  hint: Remove the quotes.
play.yaml:16:104: 'permissions' must be a string, not an integer
  hint: Put the octal digits in quotes, as in "0644": YAML 1.2 reads an unquoted 0644 as the decimal number 644.
play.yaml:19:22: 'connect_timeout' must be at least 1, not 0
play.yaml:20:23: 'mode_name' must be copy_file_to_engine, copy_file_from_engine, copy_directory_to_engine, \
copy_directory_from_engine, list, stats, remove, rename, create_directory, write_file, read_file, create_link or wait_for, \
not 'copy_files_to_engine'
  hint: Did you mean 'copy_file_to_engine'?
play.yaml:23:64: undefined in the template: 'dya' is undefined
  hint: Known: connection_name, day-of-week, group_names, groups, host, hostvars, lookup, now, play_hosts, playbook_dir, \
runner_check_mode, runner_version, timedelta.
play.yaml:23:100: 'destination_file_name' names a directory: 'in/'
  hint: Write the file's full name, for example 'inbox/report.csv'.
play.yaml:24:5: the step has no 'mode'
  hint: Set it in the step, in the connection it names, or in the playbook's defaults.
play.yaml:26:5: unknown key 'conection'
  hint: Did you mean 'connection'?
12 problems in the playbook; nothing was contacted
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, so that messages name files as the user does."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_twelve_mistakes_are_told_in_one_go(runner: Runner, folder: Path) -> None:
    (folder / "play.yaml").write_text(TWELVE_MISTAKES)

    outcome = runner("validate", "play.yaml")

    assert outcome.stderr == TOLD
    assert outcome.stdout == ""
    assert outcome.exit_code == 3


def test_a_valid_playbook_is_told_with_its_number_of_steps(runner: Runner, folder: Path) -> None:
    (folder / "one.yaml").write_text(STEP)
    (folder / "three.yaml").write_text(STEP * 3)

    outcome = runner("validate", "one.yaml", "three.yaml")

    assert outcome.stdout == "one.yaml: valid, 1 step\nthree.yaml: valid, 3 steps\n"
    assert outcome.stderr == ""
    assert outcome.exit_code == 0


def test_the_problems_of_several_files_are_told_together(runner: Runner, folder: Path) -> None:
    (folder / "b.yaml").write_text(step(port="0", hots="x"))
    (folder / "good.yaml").write_text(STEP)
    (folder / "a.yaml").write_text(step(connect_timeout="0"))

    outcome = runner("validate", "b.yaml", "good.yaml", "a.yaml")

    assert [line.split(" ")[0] for line in outcome.stderr.splitlines() if line.startswith(("a", "b", "g"))] == [
        "b.yaml:5:9:",
        "b.yaml:6:3:",
        "a.yaml:5:20:",
    ]
    assert outcome.stderr.endswith("3 problems in the playbook; nothing was contacted\n")
    assert outcome.exit_code == 3


def test_a_missing_file_is_a_usage_error(runner: Runner, folder: Path) -> None:
    outcome = runner("validate", "nope.yaml")

    assert (
        outcome.stderr
        == "error: cannot read the playbook nope.yaml: No such file or directory\nhint: Check the path.\n"
    )
    assert outcome.exit_code == 64


def test_a_file_name_cannot_drive_the_terminal(runner: Runner, folder: Path) -> None:
    good, bad = "good\x1b[2J\n.yaml", "bad\x1b[2J\n.yaml"
    (folder / good).write_text(STEP)
    (folder / bad).write_text("- 1\n")

    valid, invalid, missing = runner("validate", good), runner("validate", bad), runner("validate", "\x1b[2J")

    assert valid.stdout == "good\\x1b[2J\\n.yaml: valid, 1 step\n"
    assert invalid.stderr.startswith("bad\\x1b[2J\\n.yaml:1:3: step 1 must be")
    assert "\x1b" not in missing.output


def test_what_a_playbook_says_cannot_drive_the_terminal(runner: Runner, folder: Path) -> None:
    (folder / "play.yaml").write_text(step(connector_type=r'"\e[2J\n::error::x"', connection=r'"\e[2J"'))

    outcome = runner("validate", "play.yaml")

    assert outcome.exit_code == 3
    assert "\x1b" not in outcome.output
    assert not any(line.startswith("::") for line in outcome.output.splitlines())


def test_a_secret_in_the_playbook_does_not_reach_the_output(runner: Runner, folder: Path) -> None:
    login = "{authentication_method: username_password, username: u, password: hunter2-hunter2}"
    (folder / "play.yaml").write_text(step(authentication=login) + step(connection="hunter2-hunter2"))

    outcome = runner("validate", "play.yaml")

    assert "8:15: no connection is called '********'" not in outcome.output
    assert "9:15: no connection is called '********'" in outcome.output
    assert "hunter2" not in outcome.output


def test_the_workdir_option_is_taken(runner: Runner, folder: Path) -> None:
    (folder / "play.yaml").write_text(STEP)

    assert runner("validate", "play.yaml", "--workdir", "elsewhere").exit_code == 0


WATCHED = """
import sys

def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.system", "os.exec")):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
from runner.cli.main import run
code = run(sys.argv[1:])
heavy = {"fabric", "invoke", "paramiko", "rich", "asyncssh", "cryptography", "socket"}
if hasattr(sys.modules.get("jsonschema.validators"), "urlopen"):
    heavy.remove("socket")  # jsonschema has loaded an HTTP client, as it did before 4.26
print("imported:", *sorted(heavy & sys.modules.keys()))
raise SystemExit(code)
"""


def watch(*arguments: str) -> tuple[int, str]:
    """Run `runner` where touching the network or starting a program ends the process; say what it imported."""
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["validate", "--help"], ["schema", "connector"], ["play", "--help"]]
)
def test_helping_imports_nothing_that_connects(arguments: list[str]) -> None:
    exit_code, output = watch(*arguments)

    assert output.endswith("imported:\n"), output
    assert exit_code == 0


def test_nothing_of_paramiko_is_loaded_before_the_server_is_dialled() -> None:
    """It takes as long as a server to greet: it is loaded while that does."""
    program = """
import sys
import runner.cli.play, runner.execution.run, runner.ssh.opening, runner.ssh.private_keys
print({"paramiko", "fabric", "invoke"} & sys.modules.keys())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, "set()\n"), ended.stderr


def test_connecting_imports_neither_test_doubles_nor_a_mail_parser() -> None:
    """invoke wants a test double, and a YAML parser for configuration it is not let read; paramiko wants its own version."""
    program = """
import sys
import runner.ssh.handshake
unwanted = {"asyncio", "unittest.mock", "invoke.vendor.yaml.loader", "importlib.metadata", "email.parser"}
print("fabric" in sys.modules, unwanted & sys.modules.keys())
from invoke.config import yaml
from unittest.mock import Mock
from importlib import metadata
import paramiko
assert yaml.safe_load("a: 1") == {"a": 1}
assert Mock().anything
assert paramiko.__version__ == metadata.version("paramiko")
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, "True set()\n"), ended.stderr


def test_validating_imports_nothing_that_connects(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(step(name="'at {{ now() }}'"))
    (tmp_path / "bad.yaml").write_text(TWELVE_MISTAKES)

    valid_code, valid_output = watch("validate", str(tmp_path / "good.yaml"))
    invalid_code, invalid_output = watch("validate", str(tmp_path / "bad.yaml"))

    assert (valid_code, invalid_code) == (0, 3)
    assert valid_output.endswith("valid, 1 step\nimported:\n"), valid_output
    assert "imported:\n" in invalid_output


def test_validating_runs_no_command_and_decrypts_only_what_is_encrypted(tmp_path: Path) -> None:
    option = ("--vault-password-file", str(vaults.PASSWORD_FILE))
    (tmp_path / "commands.yaml").write_text(step(name="\"{{ lookup('pipe', 'touch ran') }}\""))
    (tmp_path / "vault.yaml").write_text(
        "vars:\n  " + vaults.read("string.yaml").replace("\n", "\n  ") + f"\nsteps:\n{STEP}"
    )

    assert watch("validate", str(tmp_path / "commands.yaml"), *option)[1].endswith("valid, 1 step\nimported:\n")
    assert watch("play", "--syntax-check", str(tmp_path / "commands.yaml"))[1].endswith("valid, 1 step\nimported:\n")
    imported = "cryptography socket" if "socket" in loaded_by_cryptography() else "cryptography"
    assert watch("validate", str(tmp_path / "vault.yaml"), *option)[1].endswith(f"1 step\nimported: {imported}\n")
    assert not (tmp_path / "ran").exists()


@pytest.mark.timeout(600)
def test_two_thousand_steps_are_validated_in_three_seconds(tmp_path: Path) -> None:
    head = "vars: {day: monday}\nconnections:\n  bank:\n    " + "\n    ".join(
        line[2:] for line in STEP.splitlines()[:3]
    )
    steps = [
        f"- name: Send {index}\n  connection: bank\n  mode:\n    mode_name: copy_file_from_engine\n"
        f'    source_file_name: "out/{{{{ day }}}}-{index}.xml"\n    destination_file_name: /inbox/{index}.xml\n'
        for index in range(2000)
    ]

    def measure(count: int) -> float:
        path = tmp_path / f"{count}.yaml"
        path.write_text(f"{head}\nsteps:\n{''.join(steps[:count])}")
        ending = run_bounded(tmp_path, "validate", str(path))
        assert ending.output == f"{path}: valid, {count} steps\n"
        assert ending.exit_code == 0
        return ending.processor_seconds

    # Two seconds on a core of its own. On a busy machine everything takes longer: there it must not grow faster than
    # the playbook does, the start of Python included.
    assert (spent_seconds := measure(2000)) < 3 or spent_seconds < 8 * measure(200)
