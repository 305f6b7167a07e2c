"""Encrypted values and files in playbooks: what they give, where a mistake stands, and that they stay secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid, UsageError
from runner.plan import CopyFile, SshKey, UsernamePassword
from runner.playbook.build import load_play
from runner.playbook.vault import encrypt
from runner.playbook.vault_password import Vault, read_password
from runner.problems import Problem
from runner.program import Play
from runner.redaction import MASK, Redactor
from tests.playbook import vaults
from tests.playbook.bounded_process import is_gone
from tests.playbook.conftest import tell
from tests.playbook.examples import STEP, mode, play, step
from tests.playbook.vaults import PASSWORD, PASSWORD_FILE, PLAIN

SECRET = "s3cr3t-of-the-vault"


def encrypted(plain: str, password: bytes = PASSWORD, indent: int = 10) -> str:
    """A value as `encrypt-string` prints it."""
    lines = encrypt(plain.encode(), password).splitlines()
    return "!vault |\n" + "".join(f"{' ' * indent}{line}\n" for line in lines)


class VaultLoader:
    """Loads playbooks with the tests' vault password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redactor = Redactor()

    def __call__(self, text: str, password_file: str | None = str(PASSWORD_FILE)) -> Play:
        path = self.folder / "play.yaml"
        path.write_text(text, encoding="utf-8")
        return load_play(str(path), vault=Vault(password_file, self.redactor))

    def find_problems(self, text: str, password_file: str | None = str(PASSWORD_FILE)) -> list[Problem]:
        with pytest.raises(PlaybookInvalid) as caught:
            self(text, password_file)
        return list(caught.value.problems)


@pytest.fixture
def load(tmp_path: Path) -> VaultLoader:
    return VaultLoader(tmp_path)


def login(value: str) -> str:
    """A step whose password stands on a line of its own, in column 15."""
    return step(
        authentication=f"\n    authentication_method: username_password\n    username: u\n    password: {value}"
    )


def password_of(loaded: Play) -> str:
    authentication = loaded.calls[0].endpoint.authentication
    assert isinstance(authentication, UsernamePassword)
    return authentication.password


class TestValues:
    def test_a_value_that_ansible_vault_encrypted_is_a_variable(self, load: VaultLoader) -> None:
        head = "vars:\n  " + vaults.read("string.yaml").replace("\n", "\n  ").rstrip() + "\n"

        assert password_of(load(play(head, login('"{{ bank_password }}"')))) == PLAIN
        assert load.redactor.redact(f"<{PLAIN}>") == f"<{MASK}>"

    def test_a_value_may_stand_where_the_secret_stands(self, load: VaultLoader) -> None:
        assert password_of(load(login(encrypted(SECRET)))) == SECRET

    def test_key_and_passphrase_may_be_encrypted(self, load: VaultLoader) -> None:
        key = "-----BEGIN X-----\nKEYKEYKEYKEY\n-----END X-----\n"
        written = (
            "\n    authentication_method: ssh_key\n    username: u"
            f"\n    ssh_key: {encrypted(key)}    passphrase: {encrypted('phrase of the key')}"
        )

        authentication = load(step(authentication=written)).calls[0].endpoint.authentication

        assert authentication == SshKey("u", key, "phrase of the key", None)
        assert load.redactor.redact("KEYKEYKEYKEY, phrase of the key") == f"{MASK}, {MASK}"

    def test_numbers_and_switches_may_be_encrypted(self, load: VaultLoader) -> None:
        loaded = load(
            step(
                port=encrypted("2022").rstrip(),
                mode="\n"
                + "    "
                + mode()[1:-1].replace(", ", "\n    ")
                + "\n    atomic: "
                + encrypted("false").rstrip(),
            )
        )

        assert loaded.calls[0].endpoint.port == 2022
        made = loaded.calls[0].mode
        assert isinstance(made, CopyFile) and made.atomic is False

    @pytest.mark.parametrize(
        "value", ["{{ nope }}", "{% raw %}", "a{#b", "{{ lookup('env', 'HOME') }}", "true", "12", "null"]
    )
    def test_a_value_is_data_whatever_it_looks_like(self, load: VaultLoader, value: str) -> None:
        assert password_of(load(login(encrypted(value)))) == value
        head = f"vars:\n  pw: {encrypted(value)}  through: '{{{{ pw }}}}'\n"
        assert password_of(load(play(head, login('"{{ through }}"')))) == value
        assert password_of(load(play(head, login('"x{{ pw }}"')))) == f"x{value}"

    def test_a_value_that_nobody_uses_is_a_secret_all_the_same(self, load: VaultLoader) -> None:
        load(play(f"vars:\n  unused: {encrypted(SECRET)}"))

        assert SECRET not in load.redactor.redact(f"x {SECRET} y")

    def test_an_alias_to_a_value_is_decrypted_once(self, load: VaultLoader) -> None:
        head = f"vars:\n  one: &it {encrypted(SECRET)}  two: *it\n"

        assert password_of(load(play(head, login('"{{ two }}"')))) == SECRET

    def test_a_playbook_needs_no_password_as_long_as_nothing_is_encrypted(self, load: VaultLoader) -> None:
        assert load(STEP, "/nowhere/password").steps


class TestMistakes:
    def test_every_value_that_cannot_be_decrypted_is_told_with_its_place(self, load: VaultLoader) -> None:
        good, bad = encrypted("good"), encrypted("bad", b"another password")
        broken = "!vault |\n          $ANSIBLE_VAULT;1.1;AES256\n          6162\n"

        problems = load.find_problems(f"vars:\n  a: {good}  b: {bad}  c: {broken}  d: !vault x\nsteps:\n{STEP}")

        lines = {
            name: 2 + sum(text.count("\n") for text in texts)
            for name, texts in {"b": [good], "c": [good, bad], "d": [good, bad, broken]}.items()
        }
        assert [tell(one) for one in problems] == [
            f"{lines['b']}:6 the vault password is not the right one, or the encrypted text was altered",
            f"{lines['c']}:6 the encrypted text is broken: it is cut off or has other characters in it",
            f"{lines['d']}:6 not an encrypted text: it does not begin with '$ANSIBLE_VAULT;1.1;AES256'",
        ]

    def test_a_missing_password_is_told_once(self, load: VaultLoader) -> None:
        [problem] = load.find_problems(play(f"vars:\n  a: {encrypted('a')}  b: {encrypted('b')}"), None)

        assert tell(problem) == "2:6 this is encrypted, and no vault password is given"
        assert "--vault-password-file FILE, or RUNNER_VAULT_PASSWORD_FILE" in problem.hint

    def test_a_key_cannot_be_encrypted(self, load: VaultLoader) -> None:
        problems = load.find_problems(f"vars:\n  ? {encrypted(SECRET)}  : x\nsteps: []\n")

        assert [one.message for one in problems] == ["a key cannot be encrypted"]

    def test_an_empty_secret_is_told(self, load: VaultLoader) -> None:
        [problem] = load.find_problems(login(encrypted("")))

        assert tell(problem) == "5:15 the secret 'password' is empty"

    def test_what_is_not_text_is_told(self, load: VaultLoader) -> None:
        lines = encrypt(b"\xff\xfe", PASSWORD).splitlines()
        value = "!vault |\n" + "".join(f"          {line}\n" for line in lines)

        assert "5:15 what was encrypted is not UTF-8 text" in [tell(one) for one in load.find_problems(login(value))]

    def test_a_decrypted_value_is_not_quoted_in_a_problem(self, load: VaultLoader) -> None:
        long = "L0ng-" * 30
        text = play(
            f"vars:\n  pw: {encrypted(SECRET)}  long: {encrypted(long)}",
            step(port='"{{ pw }}"', connector_type='"{{ long }}"')
            + step(host='"{{ {}[pw] }}"')
            + step(connection=SECRET),
        )

        problems = load.find_problems(text)

        assert len(problems) == 4
        assert SECRET not in repr(problems)
        assert "L0ng" not in repr(problems)

    def test_too_many_values_are_refused_before_they_cost_time(
        self, load: VaultLoader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("runner.playbook.document.MAX_ENCRYPTED_VALUES", 2)
        values = "".join(f"  a{index}: {encrypted('x')}" for index in range(3))

        [problem] = load.find_problems(f"vars:\n{values}steps: []\n")

        assert problem.message == "more than 2 encrypted values"


class TestFiles:
    def test_a_playbook_may_be_encrypted_as_a_whole(self, load: VaultLoader) -> None:
        text = play("vars: {token: t0ken-t0ken, port: 2022, pin: 12345678}\n", step(name="'{{ token }}'"))

        loaded = load(encrypt(text.encode(), PASSWORD))

        assert loaded.calls[0].name == "t0ken-t0ken"
        assert (
            load.redactor.redact("t0ken-t0ken 12345678 2022 sftp.bank.example")
            == f"{MASK} {MASK} 2022 sftp.bank.example"
        )

    def test_a_problem_of_an_encrypted_playbook_stands_where_it_stands_in_its_text(self, load: VaultLoader) -> None:
        [problem] = load.find_problems(encrypt((STEP + "  prot: 1\n").encode(), PASSWORD))

        assert tell(problem) == "5:3 unknown key 'prot'"

    def test_an_encrypted_playbook_without_a_password_is_told(self, load: VaultLoader) -> None:
        [problem] = load.find_problems(encrypt(STEP.encode(), PASSWORD), None)

        assert tell(problem) == "1:1 this is encrypted, and no vault password is given"

    def test_a_file_that_is_looked_up_is_decrypted(self, load: VaultLoader) -> None:
        (load.folder / "secret").write_text(vaults.read("v1.2.vault"))

        loaded = load(step(name="\"{{ lookup('file', 'secret') }}\""))

        assert loaded.calls[0].name == PLAIN
        assert load.redactor.redact(PLAIN) == MASK

    def test_a_file_that_is_looked_up_and_cannot_be_decrypted_is_told(self, load: VaultLoader) -> None:
        (load.folder / "secret").write_text(encrypt(b"x", b"another"))
        text = step(name="\"{{ lookup('file', 'secret') }}\"")

        [wrong] = load.find_problems(text)
        [missing] = load.find_problems(text, None)

        assert tell(wrong).startswith("5:9 lookup('file'): 'secret': the vault password is not the right one")
        assert tell(missing) == "5:9 lookup('file'): 'secret': this is encrypted, and no vault password is given"


class TestPasswordFile:
    @pytest.mark.parametrize("content", ["word", "word\n", "  word \r\n\n"])
    def test_a_file_holds_the_password_and_white_space_around_it(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "password"
        path.write_bytes(content.encode())

        assert read_password(str(path)) == b"word"

    def test_a_program_prints_the_password(self, tmp_path: Path) -> None:
        assert read_password(str(program(tmp_path, "echo ' a word '; echo noise >&2"))) == b" a word "

    def test_the_home_folder_is_expanded(self) -> None:
        (Path.home() / "password").write_text("word")

        assert read_password("~/password") == b"word"

    def test_a_program_has_no_standard_input(self, tmp_path: Path) -> None:
        assert read_password(str(program(tmp_path, "cat; echo word"))) == b"word"

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("exit 3", "gave no password: it failed with status 3 and said nothing"),
            ("echo 'no such entry' >&2; exit 1", "gave no password: it failed with status 1: no such entry"),
            ("kill -9 $$", "gave no password: it was ended by signal 9"),
            ("true", "gives an empty password"),
            ("echo '$ANSIBLE_VAULT;1.1;AES256'", "is itself encrypted"),
            ("head -c 70000 /dev/zero", "gives more than 64 KiB"),
            ("yes", "gave no password: it wrote more than 1 MiB"),
        ],
    )
    def test_a_program_that_gives_none_is_told(self, tmp_path: Path, script: str, message: str) -> None:
        path = program(tmp_path, script)

        with pytest.raises(UsageError) as caught:
            read_password(str(path))

        assert f"{path} {message}" in caught.value.message

    def test_a_program_that_does_not_end_is_ended_with_all_it_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pid_path = tmp_path / "pid"
        path = program(tmp_path, f"sleep 60 & echo $! > {pid_path}; wait")
        monkeypatch.setattr(
            "runner.playbook.commands.run_command.__kwdefaults__",
            {"folder": None, "environment": None, "timeout_seconds": 2.0},
        )

        with pytest.raises(UsageError, match=r"it did not end within 2 s"):
            read_password(str(path))

        assert is_gone(int(pid_path.read_text()))

    def test_an_executable_file_that_is_no_program_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "password"
        path.write_text("word")
        path.chmod(0o700)

        with pytest.raises(UsageError, match="it cannot be started: Exec format error") as caught:
            read_password(str(path))
        assert "take the right to execute it away" in caught.value.hint

    def test_a_file_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for name, reason in (("nope", "No such file"), (".", "Is a directory"), ("fifo", "it is a pipe or a device")):
            with pytest.raises(UsageError, match="cannot read the vault password file") as caught:
                read_password(str(tmp_path / name))
            assert reason in caught.value.message

    def test_the_password_is_a_secret(self, load: VaultLoader) -> None:
        load(login(encrypted(SECRET)))

        assert load.redactor.redact(PASSWORD.decode()) == MASK
        assert json.dumps(PASSWORD.decode()) not in load.redactor.redact(json.dumps({"p": PASSWORD.decode()}))


def program(folder: Path, script: str) -> Path:
    path = folder / "password"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path
