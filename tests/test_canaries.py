"""Secrets stay in: whatever goes wrong, none of them is in the output, the report, the log or the list of processes.

The canaries come in by every way there is: environment, command, vault, password file. They are looked for as they are, in
base64, as URLs and Python write them, and line by line. The search does not use the code that it tests.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest

from runner.playbook.vault import encrypt
from tests.conftest import Runner, connection, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.keys import generate_key_pair
from tests.servers.mute import MuteServer, closed_port


@dataclass(frozen=True, slots=True)
class Canaries:
    """One secret for each way in, and what logs in with all of them."""

    password: str
    passphrase: str
    key: str
    from_vault: str
    vault_password: str
    totp_secret: str
    answer: str

    @property
    def marks(self) -> dict[str, str]:
        """What must not be found, by name: the secrets, and the lines of the key between its frame."""
        whole = {"password": self.password, "passphrase": self.passphrase, "vault": self.from_vault}
        lines = {f"key line {number}": line for number, line in enumerate(self.key.splitlines()) if "-----" not in line}
        others = {"vault password": self.vault_password, "totp secret": self.totp_secret, "answer": self.answer}
        return {**whole, **others, **lines}


LOGIN = {
    "authentication_method": "ssh_key",
    "username": "u",
    "ssh_key": "{{ lookup('env', 'CANARY_KEY') }}",
    "passphrase": "{{ lookup('pipe', 'cat passphrase.txt') }}",
    "password": "{{ lookup('env', 'CANARY_PASSWORD') }}",
    "totp_secret": "{{ lookup('env', 'CANARY_TOTP') }}",
    "answers": {"*colour*": "{{ lookup('env', 'CANARY_ANSWER') }}"},
}


@pytest.fixture
def canaries(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Canaries:
    def make(name: str) -> str:
        return f"{name} ä&\"/'+% {secrets.token_hex(8)}"

    passphrase = make("passphrase")
    key = generate_key_pair(runner.folder / "keys" / "canary", passphrase=passphrase).private_text
    totp_secret = base64.b32encode(secrets.token_bytes(20)).decode()
    vault_password = f"vault-password-{secrets.token_hex(8)}"
    made = Canaries(make("password"), passphrase, key, make("vault"), vault_password, totp_secret, make("answer"))
    monkeypatch.setenv("CANARY_TOTP", totp_secret)
    monkeypatch.setenv("CANARY_ANSWER", made.answer)
    monkeypatch.setenv("CANARY_KEY", key)
    monkeypatch.setenv("CANARY_PASSWORD", made.password)
    (runner.folder / "passphrase.txt").write_text(passphrase)
    (runner.folder / "vault-password").write_text(made.vault_password)
    vault_text = encrypt(json.dumps({"from_vault": made.from_vault}).encode(), made.vault_password.encode())
    (runner.folder / "vars.yaml").write_text(vault_text)
    return made


def options(runner: Runner) -> list[str]:
    return ["--vault-password-file", str(runner.folder / "vault-password"), "-e", f"@{runner.folder / 'vars.yaml'}"]


def spellings(text: str) -> Iterator[str]:
    """Everything that a reader could make of a text."""
    yield text
    squeezed = re.sub(r"\s*(\\r|\\n|\n)+\s*", "", text)
    yield squeezed
    for each in (text, squeezed):
        yield unquote_plus(each)
        yield (
            each.replace('\\"', '"')
            .replace("\\'", "'")
            .replace("\\\\", "\\")
            .replace("&amp;", "&")
            .replace("&quot;", '"')
        )
        yield re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), each).replace('\\"', '"')
        yield re.sub(
            r"((?:\\x[0-9a-f]{2})+)",
            lambda found: bytes.fromhex(found[1].replace("\\x", "")).decode("utf-8", "replace"),
            each,
        )
        for run in re.findall(r"[A-Za-z0-9+/_-]{12,}", each):
            standard = run.replace("-", "+").replace("_", "/")
            for offset in range(4):
                part = standard[offset:]
                yield base64.b64decode(part[: len(part) // 4 * 4]).decode("utf-8", "replace")


def find_canaries(text: str, canaries: Canaries) -> list[str]:
    """The names of those that a text gives away, the larger part of one included."""
    parts = {name: mark[: max(12, len(mark) * 2 // 3)] for name, mark in canaries.marks.items()}
    parts |= {f"end of {name}": mark[-12:] for name, mark in canaries.marks.items() if len(mark) >= 16}
    every = "\0".join(spellings(text))
    return sorted(name for name, part in parts.items() if part in every)


def assert_none_is_told(text: str, canaries: Canaries) -> None:
    found = find_canaries(text, canaries)
    assert not found, f"{found}\n{text}"


@pytest.mark.parametrize("name", ["password", "passphrase", "from_vault", "vault_password", "key"])
def test_the_search_finds_what_is_there(canaries: Canaries, name: str) -> None:
    canary = getattr(canaries, name)
    raw = canary.encode()
    for shown in (
        canary,
        repr(canary),
        repr(raw),
        json.dumps(canary),
        quote(canary),
        quote(canary, safe=""),
        *(base64.b64encode(b"x" * offset + raw + b"yy").decode() for offset in range(3)),
        base64.urlsafe_b64encode(raw).decode(),
        "\n".join(re.findall(".{1,20}", base64.b64encode(raw).decode())),
    ):
        assert find_canaries(f"error: {shown}, sorry", canaries), shown


TOLD = "{{ from_vault }} {{ lookup('env', 'CANARY_PASSWORD') }}"

# What goes wrong: the step's inputs that differ, and the exit codes that may come of it.
FAILURES: dict[str, tuple[dict[str, Any], set[int]]] = {
    "the key is not accepted": ({}, {4}),
    "the password is not accepted": (
        {"authentication": {"authentication_method": "username_password", "username": "u", "password": TOLD}},
        {4},
    ),
    "the passphrase is wrong": ({"authentication": {**LOGIN, "passphrase": "{{ from_vault }}"}}, {3}),
    "the key is damaged": ({"authentication": {**LOGIN, "ssh_key": "{{ lookup('env', 'CANARY_KEY')[:-60] }}"}}, {3}),
    "the key is no key": ({"authentication": {**LOGIN, "ssh_key": "{{ from_vault }}"}}, {3}),
    "the host key is another": (
        {
            "hostkey": {
                "hostkey_mode": "fingerprint",
                "fingerprint": "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8",
            }
        },
        {5},
    ),
    "the host key is a secret": ({"hostkey": {"hostkey_mode": "known_host", "known_host": "{{ from_vault }}"}}, {3}),
    "nothing listens": ({"port": "CLOSED"}, {4}),
    "the host is a secret": ({"host": "{{ from_vault }}"}, {3, 4}),
    "the user is a secret": ({"authentication": {**LOGIN, "username": "{{ from_vault }}"}}, {4}),
    "the template fails": ({"host": "{{ {}[from_vault] }}"}, {3}),
    "the template of the secret fails": (
        {"authentication": {**LOGIN, "passphrase": "{{ {}[lookup('pipe', 'cat passphrase.txt')] }}"}},
        {3},
    ),
    "the template divides by a key": ({"host": "{{ 1 / lookup('env', 'CANARY_KEY') }}"}, {3}),
    "the type is wrong": (
        {"port": "{{ from_vault }}", "connect_timeout": "{{ lookup('env', 'CANARY_PASSWORD') }}"},
        {3},
    ),
    "the key is where a word is due": ({"connector_type": "{{ lookup('env', 'CANARY_KEY') }}"}, {3}),
    "the connection is a secret": ({"connection": "PASSWORD"}, {3}),
    "a key of the playbook is a secret": ({"PASSWORD": 1}, {3}),
    "a command tells": ({"host": "{{ lookup('pipe', 'cat passphrase.txt vault-password >&2; exit 1') }}"}, {3}),
    "a command is given a secret": ({"host": "{{ lookup('pipe', 'echo ' ~ from_vault) }}"}, {3}),
    "a file is missing": ({"host": "{{ lookup('file', from_vault) }}"}, {3}),
    "a name is a secret": (
        {"name": TOLD + " {{ from_vault | urlencode }} {{ from_vault | tojson }} {{ [from_vault] }}"},
        {4},
    ),
    "the source is missing": ({"mode": upload("{{ from_vault }}/x", "{{ lookup('env', 'CANARY_PASSWORD') }}")}, {2, 4}),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_tells_a_secret(
    runner: Runner, asyncssh_server: AsyncsshServer, canaries: Canaries, failure: str
) -> None:
    given, exit_codes = FAILURES[failure]
    port = closed_port()
    texts: dict[str, Any] = {"CLOSED": port, "PASSWORD": canaries.password}
    inputs = {texts.get(key, key): texts.get(str(value), value) for key, value in given.items()}
    step = {**connection(asyncssh_server, authentication=LOGIN), "mode": upload("a", "a"), **inputs}
    # A good step before it: what is secret in one is secret in the other.
    good = {**connection(asyncssh_server, authentication=LOGIN), "mode": upload("a", "a"), "port": port}
    outcome = runner.play([good, step] if 3 in exit_codes else [step], *options(runner), "-vvv")

    assert outcome.exit_code in exit_codes, outcome.output
    assert_none_is_told(outcome.output, canaries)
    assert_none_is_told(json.dumps(outcome.report, ensure_ascii=False), canaries)
    assert_none_is_told((runner.folder / "report.json").read_text(), canaries)

    outcome = runner("doctor", str(runner.folder / "play.yaml"), "--json", "-", *options(runner), "-vvv")
    # It tells of each server by itself: a key that cannot be used is no reason to look at none.
    assert outcome.exit_code in (exit_codes | {2} if 3 in exit_codes else exit_codes), outcome.output
    assert_none_is_told(outcome.output, canaries)


@pytest.mark.parametrize("stage", ["banner", "authentication", "sftp_init"])
def test_no_timeout_tells_a_secret(runner: Runner, canaries: Canaries, tmp_path: Path, stage: Any) -> None:
    with MuteServer(stage, tmp_path / "mute", password=canaries.password) as server:
        login = {**LOGIN, "authentication_method": "username_password"}
        del login["ssh_key"], login["passphrase"]
        step = {
            **connection(server, authentication=login),
            "mode": upload("a", "a"),
            "connect_timeout": 1,
            "name": TOLD,
        }
        outcome = runner.play([step], *options(runner), "-vvv")

    assert outcome.exit_code == 4
    assert "********" in outcome.output
    assert_none_is_told(outcome.output + (runner.folder / "report.json").read_text(), canaries)


@pytest.mark.parametrize("place", ["runner.execution.modes.copy_file", "runner.playbook.binding.read_mode"])
def test_no_traceback_of_a_bug_tells_a_secret(
    runner: Runner, asyncssh_server: AsyncsshServer, canaries: Canaries, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*arguments: object) -> None:
        encoded = base64.b64encode(canaries.password.encode())
        told = [canaries.from_vault, canaries.vault_password, canaries.passphrase.encode()]
        raise ZeroDivisionError(canaries.password, canaries.key, encoded, told) from ValueError(
            quote(canaries.password)
        )

    monkeypatch.setattr(place, fail)
    with_secrets = {**connection(asyncssh_server, authentication=LOGIN), "port": closed_port()}
    steps = [with_secrets | {"mode": upload("a", "a")}, {**connection(asyncssh_server), "mode": upload("a", "a")}]

    outcome = runner.play(steps, *options(runner), "-vvv")

    assert outcome.exit_code == 1
    assert "ZeroDivisionError: ('********', " in outcome.stderr
    assert_none_is_told(outcome.output, canaries)


@pytest.mark.parametrize("verb", ["--list-steps", "--list-hosts", "--check", "-q"])
def test_what_goes_well_tells_none_either(
    runner: Runner, asyncssh_server: AsyncsshServer, canaries: Canaries, verb: str
) -> None:
    (runner.folder / "a").write_text("x")
    login = {**connection(asyncssh_server)["authentication"], "password": "{{ lookup('env', 'CANARY_PASSWORD') }}"}
    step = {**connection(asyncssh_server, authentication=login), "mode": upload("a", "a"), "name": TOLD}
    step["connection"] = canaries.from_vault
    playbook = {"name": TOLD, "connections": {canaries.from_vault: {}}, "steps": [step]}

    outcome = runner.play(playbook, verb, *options(runner))

    assert outcome.exit_code == 0, outcome.output
    assert_none_is_told(outcome.output + json.dumps(outcome.report, ensure_ascii=False), canaries)

    outcome = runner("doctor", str(runner.folder / "play.yaml"), "--json", "-", *options(runner), "-v")
    assert outcome.exit_code == 0, outcome.output
    assert_none_is_told(outcome.output, canaries)


SPY = """
import os, pathlib, sys
seen = []
for folder in pathlib.Path("/proc").iterdir():
    try:
        seen.append((folder / "cmdline").read_bytes())
    except OSError:
        pass
seen.append(pathlib.Path("/proc/self/environ").read_bytes())
seen.append(pathlib.Path(f"/proc/{os.getppid()}/environ").read_bytes() if "sh" in sys.argv[1:] else b"")
pathlib.Path("seen").write_bytes(b"\\n".join(seen).replace(b"\\0", b"\\n"))
"""


def test_no_secret_is_in_the_list_of_processes_or_given_to_a_command(
    runner: Runner, asyncssh_server: AsyncsshServer, canaries: Canaries
) -> None:
    (runner.folder / "spy.py").write_text(SPY)
    # Read last: the secrets are known by then.
    spy = {"name": f"{{{{ lookup('pipe', '{sys.executable} spy.py sh') }}}}"}
    step = {**connection(asyncssh_server, authentication=LOGIN), "mode": upload("a", "a"), **spy}

    outcome = runner.play([step], *options(runner))

    assert outcome.exit_code == 4, outcome.output
    seen = (runner.folder / "seen").read_text(errors="replace")
    assert "PATH=" in seen and "spy.py" in seen
    assert "CANARY_KEY" not in seen
    assert_none_is_told(seen, canaries)
