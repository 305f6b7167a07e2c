"""The command line itself: what it takes, what it refuses, what it prints on the way, and with which exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner._version import VERSION
from runner.cli.main import COMMANDS
from runner.resources import SCHEMA_NAMES, schema_text
from tests.conftest import Runner
from tests.playbook.examples import STEP, mode, step

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def playbook(runner: Runner) -> str:
    """A playbook whose file name comes from the variable `name`."""
    path = runner.folder / "play.yaml"
    path.write_text(step(mode=mode().replace("_name: b", "_name: '{{ name }}'")), encoding="utf-8")
    return str(path)


def in_quotes(said: str) -> str:
    """As newer versions of click put it; older ones say `No such option: --nope`."""
    return re.sub(r"No such option: ([-\w]+)", r"No such option '\1'", said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["--nope"], "No such option '--nope'"),
        (["validate"], "Missing argument 'FILE...'"),
        (["validate", "--nope"], "No such option '--nope'"),
        (["validate", "x", "-e"], "requires an argument"),
        (["schema", "nope"], "'nope' is not one of 'playbook', 'connector', 'report'"),
        (["schema", "playbook", "report"], "unexpected extra argument"),
        (["play"], "Missing argument 'FILE...'"),
        (["play", "x", "--progress", "loud"], "'loud' is not one of"),
        (["play", "x", "-q", "-v"], "--quiet and --verbose contradict each other"),
        (["doctor"], "Missing argument 'FILE'"),
        (["doctor", "x", "y"], "unexpected extra argument"),
        (["doctor", "x", "-q", "-v"], "--quiet and --verbose contradict each other"),
        (["hostkey"], "Missing argument"),
        (["hostkey", "h:port"], "'h:port' is not HOST[:PORT]"),
        (["hostkey", "h:0"], "'h:0' is not HOST[:PORT]"),
        (["hostkey", "-oProxyCommand=x"], ""),
    ],
)
def test_wrong_usage_ends_with_64_and_says_why(runner: Runner, arguments: list[str], message: str) -> None:
    outcome = runner(*arguments)

    assert outcome.exit_code == 64
    assert message in in_quotes(outcome.stderr).replace("Got unexpected", "unexpected")
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr


def test_without_a_command_the_help_is_shown_as_an_error(runner: Runner) -> None:
    outcome = runner()

    assert (outcome.exit_code, outcome.stdout) == (64, "")
    # As `--help` prints it, and no line of it escaped.
    assert outcome.stderr == runner("--help").stdout


def test_a_command_of_commands_does_the_same(runner: Runner) -> None:
    outcome = runner("vault")

    assert (outcome.exit_code, outcome.stdout) == (64, "")
    assert outcome.stderr == runner("vault", "--help").stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_every_command_examples_and_exit_codes(runner: Runner, flag: str) -> None:
    outcome = runner(flag)

    assert outcome.exit_code == 0
    for word in (*COMMANDS, "runner play --check", "Exit codes", "130, 143"):
        assert word in outcome.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_that_takes_something_has_examples(runner: Runner, command: str) -> None:
    outcome = runner(command, "--help")

    assert outcome.exit_code == 0
    assert f"Usage: runner {command}" in outcome.stdout
    if f"Usage: runner {command} [OPTIONS]\n" not in outcome.stdout:
        assert f"Examples:\n    runner {command} " in outcome.stdout


def test_the_version_is_told(runner: Runner) -> None:
    outcome = runner("--version")

    assert (outcome.exit_code, outcome.stdout) == (0, f"runner, version {VERSION}\n")


def test_python_m_runner_is_the_same_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "runner", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ended.stdout == f"runner, version {VERSION}\n"


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_a_schema_is_printed_as_it_ships(runner: Runner, name: str) -> None:
    outcome = runner("schema", name)

    assert outcome.exit_code == 0
    assert outcome.stdout == schema_text(name)
    assert json.loads(outcome.stdout)["$id"].endswith(f"/{name}.schema.json")


def test_without_a_name_the_playbook_s_schema_is_printed(runner: Runner) -> None:
    assert runner("schema").stdout == schema_text("playbook")


class TestExtraVars:
    @pytest.mark.parametrize(
        "given",
        [
            ["name=b"],
            ["name=a=b"],
            ["name= b"],
            ["name={{ 1 }}"],
            ['{"name": "b"}'],
            ["{name: b}"],
            ["  {name: b, other: 1}"],
            ["name=", "name=b"],
            ["other=1", "name=b"],
        ],
    )
    def test_every_form_sets_a_variable(self, runner: Runner, playbook: str, given: list[str]) -> None:
        options = [word for value in given for word in ("-e", value)]

        assert runner("validate", playbook, *options).exit_code == 0
        assert runner("validate", playbook, *[word.replace("-e", "--extra-vars") for word in options]).exit_code == 0

    def test_a_file_sets_variables(self, runner: Runner, playbook: str) -> None:
        (runner.folder / "vars.yaml").write_text("name: b\n")
        (runner.folder / "vars.json").write_text('{"name": "b"}')

        assert runner("validate", playbook, "-e", f"@{runner.folder}/vars.yaml").exit_code == 0
        assert runner("validate", playbook, "-e", f"@{runner.folder}/vars.json").exit_code == 0

    def test_the_last_one_wins(self, runner: Runner, playbook: str) -> None:
        assert runner("validate", playbook, "-e", "name=b", "-e", "name=").exit_code == 3
        assert runner("validate", playbook, "-e", "name=", "-e", "{name: b}").exit_code == 0

    def test_a_number_stays_a_number_and_is_blamed_where_it_is_used(self, runner: Runner, playbook: str) -> None:
        outcome = runner("validate", playbook, "-e", "{name: 5}")

        assert outcome.exit_code == 3
        assert "4:88: 'destination_file_name' must be a string, not an integer" in outcome.stderr

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("", "'' is not name=value, a mapping or @file"),
            ("name", "'name' is not name=value, a mapping or @file"),
            ("=b", "'=b' is not name=value"),
            ("my-name=b", "'my-name=b' is not name=value"),
            ("[b]", "'[b]' is not name=value"),
            ("{name: ", "--extra-vars:1:8: not valid YAML"),
            ("{name: !x b}", "--extra-vars:1:8: unknown tag"),
            ("{1: b}", "--extra-vars:1:2: a key must be a string"),
            ("@FOLDER/nope", "cannot read the extra vars file FOLDER/nope: No such file or directory"),
            ("@FOLDER", "cannot read the extra vars file FOLDER: Is a directory"),
            ("@/dev/zero", "cannot read the extra vars file /dev/zero: it is a pipe or a device"),
            ("@FOLDER/list", "FOLDER/list: extra vars must be a mapping of names to values"),
            ("@FOLDER/latin-1", "FOLDER/latin-1:1:4: not UTF-8"),
            ("@FOLDER/empty", "FOLDER/empty:1:1: "),
        ],
    )
    def test_any_other_form_is_wrong_usage(self, runner: Runner, playbook: str, given: str, message: str) -> None:
        (runner.folder / "list").write_text("- a\n")
        (runner.folder / "latin-1").write_bytes(b"a: \xe9\n")
        (runner.folder / "empty").write_text("")

        outcome = runner("validate", playbook, "-e", given.replace("FOLDER", str(runner.folder)))

        assert outcome.exit_code == 64
        assert message.replace("FOLDER", str(runner.folder)) in outcome.stderr


class TestClosedOutput:
    """`runner … | head`: whoever read the output has had enough, which is no error of ours."""

    @pytest.mark.parametrize(
        ("arguments", "exit_code"),
        [(["schema"], 0), (["--help"], 0), (["validate", "good.yaml"], 0), (["validate", "bad.yaml"], 3)],
    )
    def test_a_closed_pipe_changes_no_exit_code_and_leaves_no_traceback(
        self, tmp_path: Path, arguments: list[str], exit_code: int
    ) -> None:
        (tmp_path / "good.yaml").write_text(STEP)
        (tmp_path / "bad.yaml").write_text("a: 1\n" * 1000)
        words = [str(tmp_path / word) if word.endswith(".yaml") else word for word in arguments]
        errors = tmp_path / "errors"
        merged = "2>&1" if exit_code else f"2>{errors}"

        ended = subprocess.run(
            [
                "bash",
                "-c",
                f'"$@" {merged} | true; echo ${{PIPESTATUS[0]}}',
                "-",
                sys.executable,
                "-m",
                "runner",
                *words,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )

        assert ended.stdout == f"{exit_code}\n"
        assert ended.stderr == ""
        assert not errors.exists() or errors.read_text() == ""


class TestNearMisses:
    @pytest.mark.parametrize(
        ("arguments", "message", "hint"),
        [
            (["plya"], "No such command 'plya'", "Did you mean 'play'? `runner --help`"),
            (["check", "x.yaml"], "No such command 'check'", "Did you mean 'play --check'? `runner --help`"),
            (["plan", "x.yaml"], "No such command 'plan'", "Did you mean 'play --check'? `runner --help`"),
            (["lint", "x.yaml"], "No such command 'lint'", "Did you mean 'validate'? `runner --help`"),
            (["vault", "ecrypt"], "No such command 'ecrypt'", "Did you mean 'encrypt'? `runner vault --help`"),
            (["vault", "crypt"], "No such command 'crypt'", "Did you mean 'encrypt'? `runner vault --help`"),
            (["play", "--chekc"], "No such option '--chekc'", "Did you mean '--check'? `runner play --help`"),
            (["play", "--dry-run"], "No such option '--dry-run'", "Did you mean '--check'? `runner play --help`"),
            (["play", "--zzz"], "No such option '--zzz'", "`runner play --help`"),
        ],
    )
    def test_what_was_meant_is_suggested(self, runner: Runner, arguments: list[str], message: str, hint: str) -> None:
        outcome = runner(*arguments)

        assert outcome.exit_code == 64
        error, advice = in_quotes(outcome.stderr).splitlines()[:2]
        assert error.startswith(f"error: {message}")
        assert "mean" not in error
        assert advice == f"hint: {hint} shows how it is used."
