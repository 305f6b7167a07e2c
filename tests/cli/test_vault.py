"""`runner vault`: files in place, values to paste, and the same format as ansible-vault's, both ways."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.playbook.build import load_play
from runner.playbook.vault import decrypt, is_encrypted
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from tests.conftest import Runner, snapshot
from tests.playbook import vaults
from tests.playbook.examples import STEP, play
from tests.playbook.vaults import PASSWORD, PASSWORD_FILE, PLAIN

ROOT = Path(__file__).resolve().parents[2]
OPTION = ("--vault-password-file", str(PASSWORD_FILE))


@pytest.fixture
def secret(runner: Runner) -> Path:
    path = runner.folder / "secrets.yaml"
    path.write_bytes(b"token: t0ken\n\xff\0")
    return path


class TestFiles:
    def test_encrypting_and_decrypting_gives_the_file_back(self, runner: Runner, secret: Path) -> None:
        before = secret.read_bytes()

        assert runner("vault", "encrypt", str(secret), *OPTION).output == ""
        assert is_encrypted(secret.read_bytes())
        assert decrypt(secret.read_text(), PASSWORD) == before
        assert runner("vault", "decrypt", str(secret), *OPTION).exit_code == 0
        assert secret.read_bytes() == before
        assert list(snapshot(runner.folder)) == ["secrets.yaml"]

    @pytest.mark.parametrize("mode", [0o644, 0o600, 0o440])
    def test_a_file_keeps_its_permissions(self, runner: Runner, secret: Path, mode: int) -> None:
        secret.chmod(mode)
        for verb in ("encrypt", "decrypt"):
            assert runner("vault", verb, str(secret), *OPTION).exit_code == 0
            assert secret.stat().st_mode & 0o777 == mode

    def test_a_link_stays_one(self, runner: Runner, secret: Path) -> None:
        link = runner.folder / "link"
        link.symlink_to(secret)

        assert runner("vault", "encrypt", str(link), *OPTION).exit_code == 0
        assert link.is_symlink()
        assert is_encrypted(secret.read_bytes())

    def test_view_prints_and_changes_nothing(self, runner: Runner) -> None:
        path = runner.folder / "v"
        path.write_text(vaults.read("v1.2.vault"))
        before = snapshot(runner.folder)

        done = run_alone("vault", "view", str(path), *OPTION)

        assert (done.returncode, done.stdout, done.stderr) == (0, f"{PLAIN}\n".encode(), b"")
        assert snapshot(runner.folder) == before

    def test_output_goes_to_a_file_that_only_its_owner_reads(self, runner: Runner, secret: Path) -> None:
        before, other = secret.read_bytes(), runner.folder / "other"

        assert (
            runner("vault", "encrypt", str(secret), "--output", str(other), "--label", "prod", *OPTION).exit_code == 0
        )

        assert other.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n")
        assert other.stat().st_mode & 0o777 == 0o600
        assert secret.read_bytes() == before

    def test_standard_input_and_output_are_taken(self, secret: Path) -> None:
        encrypted = run_alone("vault", "encrypt", "-", *OPTION, given=b"x\n")
        decrypted = run_alone("vault", "decrypt", "-", *OPTION, given=encrypted.stdout)
        shown = run_alone("vault", "decrypt", "--output", "-", "-", *OPTION, given=encrypted.stdout)

        assert encrypted.stdout.startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
        assert decrypted.stdout == shown.stdout == b"x\n"

    def test_several_files_are_converted_or_none(self, runner: Runner, secret: Path) -> None:
        other = runner.folder / "other"
        other.write_bytes(b"other")
        assert runner("vault", "encrypt", str(secret), str(other), *OPTION).exit_code == 0
        before = snapshot(runner.folder)

        other.write_text(other.read_text().replace("1", "2"))
        damaged = snapshot(runner.folder)
        assert runner("vault", "decrypt", str(secret), str(other), *OPTION).exit_code == 64
        assert snapshot(runner.folder) == damaged
        assert damaged.keys() == before.keys()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["encrypt", "ENCRYPTED"], "is encrypted already"),
            (["encrypt", "PLAIN", "ENCRYPTED"], "is encrypted already"),
            (["decrypt", "PLAIN"], "not an encrypted text"),
            (["view", "PLAIN"], "not an encrypted text"),
            (["encrypt", "nope"], "cannot read nope: No such file or directory"),
            (["encrypt", "/"], "cannot read /: Is a directory"),
            (["encrypt", "PLAIN", "PLAIN"], "named twice"),
            (["decrypt", "PLAIN", "ENCRYPTED", "--output", "x"], "--output takes the result of one file only"),
            (["encrypt", "PLAIN", "--label", "a;b"], "a label has neither white space nor ';'"),
            (["encrypt", "PLAIN", "--output", "/nowhere/x"], "cannot write /nowhere/x: No such file or directory"),
            (["encrypt-string", "x", "--name", "a b"], "--name 'a b' cannot be a key"),
            (["encrypt-string", ""], "the value is empty"),
            (["encrypt"], "Missing argument 'FILE...'"),
            (["nope"], "No such command 'nope'"),
        ],
    )
    def test_wrong_usage_changes_nothing(
        self, runner: Runner, secret: Path, arguments: list[str], message: str
    ) -> None:
        encrypted = runner.folder / "encrypted"
        encrypted.write_text(vaults.read("v1.1.vault"))
        before = snapshot(runner.folder)
        paths = {"ENCRYPTED": str(encrypted), "PLAIN": str(secret)}
        options = OPTION if len(arguments) > 1 else ()

        outcome = runner("vault", *(paths.get(word, word) for word in arguments), *options)

        assert outcome.exit_code == 64
        assert message in outcome.stderr
        assert outcome.stdout == ""
        assert snapshot(runner.folder) == before

    def test_a_wrong_password_is_told(self, runner: Runner) -> None:
        path, password = runner.folder / "v", runner.folder / "password"
        path.write_text(vaults.read("v1.2.vault"))
        password.write_text("an0ther")

        outcome = runner("vault", "view", str(path), "--vault-password-file", str(password))

        assert outcome.exit_code == 64
        assert outcome.stderr.startswith(f"error: {path}: the vault password is not the right one for the label 'prod'")


class TestPassword:
    @pytest.mark.parametrize(
        ("option", "ours", "ansible_s", "exit_code"),
        [
            ("good", "bad", "bad", 0),
            (None, "good", "bad", 0),
            (None, None, "good", 0),
            (None, "", "good", 0),
            ("bad", "good", "good", 64),
            (None, "bad", "good", 64),
        ],
    )
    def test_the_option_wins_over_the_environment_and_ours_over_ansible_s(
        self,
        runner: Runner,
        monkeypatch: pytest.MonkeyPatch,
        option: str | None,
        ours: str | None,
        ansible_s: str | None,
        exit_code: int,
    ) -> None:
        path = runner.folder / "v"
        path.write_text(vaults.read("v1.1.vault"))
        (runner.folder / "good").write_bytes(PASSWORD)
        (runner.folder / "bad").write_text("wrong")
        for name, value in (("RUNNER", ours), ("ANSIBLE", ansible_s)):
            if value is not None:
                monkeypatch.setenv(f"{name}_VAULT_PASSWORD_FILE", value and str(runner.folder / value))
        given = ["--vault-password-file", str(runner.folder / option)] if option else []

        assert runner("vault", "decrypt", str(path), *given).exit_code == exit_code

    def test_without_a_terminal_nobody_is_asked(self, secret: Path) -> None:
        done = run_alone("vault", "encrypt", str(secret))

        assert done.returncode == 64
        assert done.stderr.startswith(
            b"error: no vault password is given, and standard input is no terminal to ask at\n"
        )
        assert b"--vault-password-file FILE, or RUNNER_VAULT_PASSWORD_FILE" in done.stderr

    def test_on_a_terminal_a_new_password_is_asked_for_twice_and_not_shown(self, secret: Path) -> None:
        before = secret.read_bytes()

        assert_typed(["vault", "encrypt", str(secret)], ["typed-word", "typed-word"], 0)
        assert decrypt(secret.read_text(), b"typed-word") == before
        assert_typed(["vault", "decrypt", str(secret)], ["typed-word"], 0)
        assert secret.read_bytes() == before

    def test_on_a_terminal_a_value_is_asked_for_and_not_shown(self) -> None:
        shown = assert_typed(["vault", "encrypt-string", "--name", "pw", *OPTION], ["typed-word", "typed-word"], 0)

        assert "pw: !vault |" in shown

    def test_on_a_terminal_a_play_asks_for_nothing(self, runner: Runner) -> None:
        path = runner.folder / "play.yaml"
        path.write_text(vaults.read("v1.1.vault"))

        shown = assert_typed(["play", str(path)], [], 3)

        assert "1:1: this is encrypted, and no vault password is given" in shown


class TestEncryptString:
    def test_the_output_is_a_value_of_a_playbook(self, runner: Runner) -> None:
        printed = run_alone(
            "vault", "encrypt-string", "--name", "token", *OPTION, given=b"t0ken-t0ken\n"
        ).stdout.decode()

        assert re.fullmatch(r"token: !vault \|\n {10}\$ANSIBLE_VAULT;1\.1;AES256\n( {10}[0-9a-f]{1,80}\n)+", printed)
        path = runner.folder / "play.yaml"
        path.write_text(play(f"vars:\n  {printed}name: '{{{{ token }}}}'\n"))
        redactor = Redactor()
        loaded = load_play(str(path), vault=Vault(str(PASSWORD_FILE), redactor))
        assert loaded.name == "t0ken-t0ken"

    @pytest.mark.parametrize(
        ("arguments", "given", "plain"),
        [
            (["-"], b"x\n", b"x"),
            (["-"], b"x\r\n", b"x"),
            ([], b"x\n\n", b"x\n"),
            ([], b" x", b" x"),
            (["on the line\n"], b"", b"on the line\n"),
        ],
    )
    def test_one_line_end_closes_what_is_read(self, arguments: list[str], given: bytes, plain: bytes) -> None:
        done = run_alone("vault", "encrypt-string", *arguments, *OPTION, given=given)

        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(b"!vault |\n")
        assert decrypt(done.stdout.decode().partition("\n")[2], PASSWORD) == plain

    def test_it_may_go_to_a_file(self, runner: Runner) -> None:
        path = runner.folder / "value"

        assert run_alone("vault", "encrypt-string", "--output", str(path), *OPTION, given=b"x").stdout == b""
        assert path.read_text().startswith("!vault |\n")
        assert path.stat().st_mode & 0o777 == 0o600


class TestInPlays:
    def test_extra_vars_may_hold_encrypted_values_or_be_encrypted(self, runner: Runner) -> None:
        (runner.folder / "play.yaml").write_text(STEP + "  name: '{{ bank_password }}'\n")
        (runner.folder / "vars.yaml").write_text(vaults.read("string.yaml"))
        (runner.folder / "all.yaml").write_text(f"bank_password: {PLAIN}\n")
        assert runner("vault", "encrypt", str(runner.folder / "all.yaml"), *OPTION).exit_code == 0

        for name in ("vars.yaml", "all.yaml"):
            # The password file may stand anywhere on the line.
            given = ["-e", f"@{runner.folder / name}", *OPTION, str(runner.folder / "play.yaml")]
            assert runner("validate", *given).exit_code == 0
            outcome = runner("play", "--list-steps", *given)
            assert "1  ******** [sftp.bank.example:22]" in outcome.stdout
            assert PLAIN not in outcome.output

    def test_extra_vars_that_cannot_be_decrypted_are_wrong_usage(self, runner: Runner) -> None:
        (runner.folder / "play.yaml").write_text(STEP)
        for name in ("string.yaml", "v1.1.vault"):
            outcome = runner("validate", str(runner.folder / "play.yaml"), "-e", f"@{vaults.FOLDER / name}")

            assert outcome.exit_code == 64
            assert "this is encrypted, and no vault password is given" in outcome.stderr

    def test_a_password_file_that_is_of_no_use_is_wrong_usage(self, runner: Runner) -> None:
        path = runner.folder / "play.yaml"
        path.write_text(vaults.read("v1.1.vault"))

        outcome = runner("play", str(path), "--vault-password-file", str(runner.folder / "nope"))

        assert outcome.exit_code == 64
        assert outcome.stderr.startswith("error: cannot read the vault password file ")


def run_alone(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `runner` in a process of its own: it reads and writes bytes."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=ROOT,
        input=given,
        capture_output=True,
        check=False,
        timeout=30,
    )


def assert_typed(arguments: list[str], answers: list[str], exit_code: int) -> str:
    """Run `runner` on a terminal and answer each prompt. What was typed must not be shown; what was is returned."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "runner", *arguments])
    shown, waiting, deadline = "", list(answers), time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            chunk = os.read(terminal, 65536).decode()
        except OSError:  # the other side has ended
            break
        if not chunk:
            break
        shown += chunk
        if waiting and chunk.rstrip(" ").endswith(":"):
            # getpass throws away what was typed before it turned the echo off.
            time.sleep(0.2)
            os.write(terminal, f"{waiting.pop(0)}\n".encode())
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == exit_code, shown
    assert not waiting, shown
    assert not any(answer in shown for answer in answers), shown
    return shown


ANSIBLE_VAULT = shutil.which(
    "ansible-vault", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)


class TestInterchange:
    """With the real ansible-vault."""

    @pytest.fixture(autouse=True)
    def _require_ansible_vault(self) -> None:
        if ANSIBLE_VAULT is None:
            pytest.skip("ansible-vault is not installed")

    def ansible_vault(self, folder: Path, *arguments: str, given: bytes = b"") -> bytes:
        environment = {**os.environ, "HOME": str(folder), "ANSIBLE_LOCAL_TEMP": str(folder / "ansible-tmp")}
        done = subprocess.run(
            [str(ANSIBLE_VAULT), *arguments, *OPTION],
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_files_are_exchanged_both_ways(self, runner: Runner, secret: Path) -> None:
        before = secret.read_bytes()

        assert runner("vault", "encrypt", str(secret), "--label", "prod", *OPTION).exit_code == 0
        self.ansible_vault(runner.folder, "decrypt", str(secret))
        assert secret.read_bytes() == before
        self.ansible_vault(runner.folder, "encrypt", str(secret))
        assert runner("vault", "decrypt", str(secret), *OPTION).exit_code == 0
        assert secret.read_bytes() == before

    def test_values_are_exchanged_both_ways(self, runner: Runner) -> None:
        printed = run_alone("vault", "encrypt-string", "--name", "x", *OPTION, given=PLAIN.encode()).stdout.decode()
        theirs = self.ansible_vault(runner.folder, "encrypt_string", "--stdin-name", "x", given=PLAIN.encode()).decode()

        def shape(text: str) -> list[str]:
            return [re.sub("[0-9a-f]{8,}", "0", line) for line in text.splitlines()]

        assert shape(printed) == shape(theirs)
        value = runner.folder / "value"
        value.write_text("\n".join(line.strip() for line in printed.splitlines()[1:]))
        assert self.ansible_vault(runner.folder, "decrypt", "--output", "-", str(value)) == PLAIN.encode()
        assert decrypt(theirs.partition("\n")[2], PASSWORD) == PLAIN.encode()
