"""Logins in whole plays: every way in, every refusal, no fallback, and no secret in any output."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from tests.conftest import Runner, require_sshd
from tests.patience import BUSY_SECONDS
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.keys import KeyPair, generate_key_pair, shared_key_pair
from tests.servers.login import Login
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import running_agent, silent_agent, stale_agent
from tests.ssh.logins import (
    PASSPHRASE,
    PASSWORD,
    agent,
    assert_failed,
    assert_let_in,
    assert_not_told,
    assert_refused_at_once,
    authorize,
    key_file,
    key_text,
    password,
    play,
    write_key,
)

STRANGER = shared_key_pair("ed25519")


# --- passwords ---


def test_a_password_lets_in(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    outcome = play(runner, asyncssh_server, remote, password())
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD)
    assert [event.method for event in asyncssh_server.login_events] == ["password"]


def test_a_wrong_password_is_tried_exactly_once(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    outcome = play(runner, asyncssh_server, remote, password("hunter two"))
    who = f"{asyncssh_server.username}@{asyncssh_server.host}:{asyncssh_server.port}"
    assert_failed(outcome, remote, 4, "AuthenticationRefused", who, "the password was refused")
    assert outcome.statuses == ["unreachable"]
    assert_not_told(outcome, "hunter two")
    assert [event.method for event in asyncssh_server.login_events] == ["password"]
    assert asyncssh_server.connection_count == 1


def test_a_password_for_a_server_that_takes_keys_only_is_refused_with_what_it_takes(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    outcome = play(runner, sshd, remote, password())
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the server takes publickey")


@pytest.mark.parametrize(
    "questions",
    [
        (("Password: ", PASSWORD),),
        (("Password: ", PASSWORD), ("Password again: ", PASSWORD)),
    ],
)
def test_a_password_answers_the_questions_of_a_keyboard_interactive_server(
    runner: Runner, tmp_path: Path, remote: Path, questions: tuple[tuple[str, str], ...]
) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, keyboard_interactive=questions) as server:
        outcome = play(runner, server, remote, password())
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD)


class AskingLogin(Login):
    """Asks one round of questions after the other, each prompt a (text, is echoed)."""

    rounds: tuple[tuple[tuple[str, bool], ...], ...] = ()
    answers: list[list[str]]

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        type(self).answers = []
        return "", "", "", list(self.rounds[0])

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        self.answers.append(list(responses))
        if len(self.answers) < len(self.rounds):
            return "", "", "", list(self.rounds[len(self.answers)])
        return PASSWORD in self.answers[-1] or PASSWORD in self.answers[0]


def ask(folder: Path, root: Path, *rounds: tuple[tuple[str, bool], ...]) -> tuple[AsyncsshServer, type[AskingLogin]]:
    """A server that asks these rounds, and the class that keeps the answers."""
    asking = type("Asking", (AskingLogin,), {"rounds": rounds, "answers": []})
    server = AsyncsshServer(folder, root=root, keyboard_interactive=(("unused", ""),))
    server.login_class = asking
    return server, asking


def test_only_hidden_questions_get_the_password(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, asking = ask(tmp_path / "server", remote, (("Your department: ", True), ("Password: ", False)))
    with server:
        outcome = play(runner, server, remote, password())
    assert_let_in(outcome, remote)
    assert asking.answers == [["", PASSWORD]]


def test_an_announcement_and_an_echoed_question_may_come_first(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, asking = ask(tmp_path / "server", remote, (), (("Department: ", True),), (("Password: ", False),))
    with server:
        outcome = play(runner, server, remote, password())
    assert_let_in(outcome, remote)
    assert asking.answers == [[], [""], [PASSWORD]]


def test_a_server_that_asks_again_is_not_given_the_password_twice(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, asking = ask(tmp_path / "server", remote, *[(("Password: ", False),)] * 4)
    with server:
        outcome = play(runner, server, remote, password("hunter two"))
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the password was refused")
    assert_not_told(outcome, "hunter two")
    assert asking.answers == [["hunter two"]]


def test_a_server_that_asks_for_ever_is_left(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, asking = ask(tmp_path / "server", remote, *[(("More? ", True),)] * 50)
    with server:
        outcome = play(runner, server, remote, password())
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "refused")
    assert len(asking.answers) < 10


# --- keys ---


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.strip().replace("\n", "\\n"),
        lambda text: text.replace("\n", "\\n"),
        lambda text: text.replace("\n", "\n    "),
        lambda text: text.replace("\n", " "),
        lambda text: f"\n\n  {text}\n\n",
    ],
    ids=["as it is", "CRLF", "no last newline", "one line", "one line with an end", "indented", "spaces", "surrounded"],
)
def test_a_keys_text_survives_what_ci_systems_do_to_it(
    runner: Runner, sshd: OpenSSHServer, remote: Path, change: Any
) -> None:
    text = change(sshd.user_key_text)
    outcome = play(runner, sshd, remote, key_text(text))
    assert_let_in(outcome, remote)
    assert_not_told(outcome, text)


@pytest.mark.parametrize("end", ["\r\n", ""])
def test_a_key_file_may_have_windows_line_ends_or_no_last_one(
    runner: Runner, sshd: OpenSSHServer, remote: Path, end: str
) -> None:
    lines = sshd.user_key_text.splitlines()
    write_key(runner.folder / "key", (end or "\n").join(lines) + end)
    assert_let_in(play(runner, sshd, remote, key_file(Path("key"))), remote)


FORMATS = {"openssh": [], "pem": ["-m", "PEM"], "pkcs8": ["-m", "PKCS8"]}
KINDS = ["ed25519", "ecdsa 256", "ecdsa 384", "ecdsa 521", "rsa 2048"]


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE], ids=["plain", "encrypted"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_and_format_of_key_lets_in(
    runner: Runner, keyring: OpenSSHServer, remote: Path, tmp_path: Path, kind: str, form: str, passphrase: str
) -> None:
    if kind == "ed25519" and form != "openssh":
        key = convert_ed25519(tmp_path / "key", passphrase)
    else:
        key = make_key(tmp_path / "key", kind, form, passphrase)
    authorize(keyring, key)
    more = {"passphrase": passphrase} if passphrase else {}
    outcome = play(runner, keyring, remote, key_file(key.path, **more))
    assert_let_in(outcome, remote)
    assert_not_told(outcome, *more.values())
    (remote / "file").unlink()
    outcome = play(runner, keyring, remote, key_text(key.private_text, **more))
    assert_let_in(outcome, remote)
    assert_not_told(outcome, key.private_text, *more.values())


def make_key(path: Path, kind: str, form: str, passphrase: str) -> KeyPair:
    name, _, bits = kind.partition(" ")
    command = ["ssh-keygen", "-q", "-t", name, "-N", passphrase, "-f", str(path), *FORMATS[form]]
    command += (["-b", bits] if bits else []) + (["-a", "1"] if passphrase else [])
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    return KeyPair(path, passphrase)


def to_pkcs8(key: PrivateKeyTypes, passphrase: str) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def convert_ed25519(path: Path, passphrase: str) -> KeyPair:
    """ssh-keygen writes ed25519 keys in its own format only; openssl's way is PKCS#8."""
    key = ed25519.Ed25519PrivateKey.generate()
    write_key(path, to_pkcs8(key, passphrase).decode())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_name(f"{path.name}.pub").write_bytes(public)
    return KeyPair(path, passphrase)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa 256", "rsa 2048"])
def test_an_encrypted_key_needs_the_right_passphrase(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, tmp_path: Path, kind: str, form: str
) -> None:
    key = make_key(tmp_path / "key", kind, form, PASSPHRASE)
    outcome = play(runner, asyncssh_server, remote, key_file(key.path))
    assert_refused_at_once(outcome, remote, str(key.path), "no passphrase is given", "'passphrase'")
    outcome = play(runner, asyncssh_server, remote, key_file(key.path, passphrase="wrong wrong"))
    assert_refused_at_once(outcome, remote, str(key.path), "the passphrase is wrong")
    assert_not_told(outcome, "wrong wrong")
    outcome = play(runner, asyncssh_server, remote, key_text(key.private_text, passphrase="wrong wrong"))
    assert_refused_at_once(outcome, remote, "'ssh_key'", "the passphrase is wrong")
    assert_not_told(outcome, "wrong wrong", key.private_text)
    assert asyncssh_server.connection_count == 0


@pytest.mark.parametrize("form", FORMATS)
def test_a_passphrase_that_is_not_needed_does_no_harm(
    runner: Runner, keyring: OpenSSHServer, remote: Path, tmp_path: Path, form: str
) -> None:
    key = make_key(tmp_path / "key", "rsa 2048", form, "")
    authorize(keyring, key)
    assert_let_in(play(runner, keyring, remote, key_file(key.path, passphrase=PASSPHRASE)), remote)


def damage(text: str) -> str:
    """The text with other letters in the middle of the key."""
    middle = len(text) // 2
    return (
        text[:middle]
        + "".join("B" if letter == "A" else "A" for letter in text[middle : middle + 9])
        + text[middle + 9 :]
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda key: key.private_text[:120], "cannot be read"),
        (lambda key: damage(key.private_text), "cannot be read"),
        (lambda key: "\n".join(key.private_text.splitlines()[1:-1]), "is not a private key"),
        (lambda key: key.public_line, "is a public key"),
        (lambda key: "PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"),
        (lambda key: "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "DSA"),
        (lambda key: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (lambda key: "-----BEGIN OPENSSH PRIVATE KEY-----\n\n-----END OPENSSH PRIVATE KEY-----\n", "cannot be read"),
        (lambda key: "\0\1\2\3", "is not a private key"),
    ],
    ids=["cut", "damaged", "no frame", "public", "putty", "dsa", "junk", "empty", "binary"],
)
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_what_is_no_usable_key_is_told_before_anything_is_contacted(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, kind: str, change: Any, complaint: str
) -> None:
    text = change(shared_key_pair(kind))
    write_key(runner.folder / "key", text)
    outcome = play(runner, asyncssh_server, remote, key_file(Path("key")))
    assert_refused_at_once(outcome, remote, str(runner.folder / "key"), complaint)
    assert_not_told(outcome, text)
    assert asyncssh_server.connection_count == 0


def test_a_key_of_a_kind_that_ssh_does_not_use_is_no_bug(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    for kind in (x25519.X25519PrivateKey, ed448.Ed448PrivateKey):
        write_key(runner.folder / "key", to_pkcs8(kind.generate(), "").decode())
        outcome = play(runner, asyncssh_server, remote, key_file(Path("key")))
        assert_refused_at_once(outcome, remote, "no ed25519, ecdsa or rsa key in it")


def test_a_key_file_that_cannot_be_read_is_named(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    for name, reason in (("missing", "No such file"), (".", "Is a directory")):
        outcome = play(runner, asyncssh_server, remote, key_file(Path(name)))
        assert_refused_at_once(outcome, remote, str(runner.folder / name), reason, "workdir")


# --- certificates ---


@pytest.fixture(scope="module")
def trusting_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenSSHServer, KeyPair]]:
    """An sshd that lets in whoever the authority has signed for, and the authority."""
    require_sshd()
    folder = tmp_path_factory.mktemp("authority")
    authority = generate_key_pair(folder / "ca")
    trust = f"TrustedUserCAKeys {folder / 'ca.pub'}"
    with OpenSSHServer(folder, extra_config=(trust, "AuthorizedKeysFile none")) as server:
        yield server, authority


def sign(authority: KeyPair, key: KeyPair, principal: str, *options: str) -> Path:
    command = [
        "ssh-keygen",
        "-q",
        "-s",
        str(authority.path),
        "-I",
        "test",
        "-n",
        principal,
        *options,
        f"{key.path}.pub",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return key.path.with_name(f"{key.path.name}-cert.pub")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_lets_in_and_only_it(
    runner: Runner, trusting_authority: tuple[OpenSSHServer, KeyPair], tmp_path: Path, remote: Path, kind: str
) -> None:
    server, authority = trusting_authority
    key = generate_key_pair(tmp_path / "key", kind)
    certificate = sign(authority, key, server.username)
    # A certificate that lies beside the key is not taken unasked.
    refused = play(runner, server, remote, key_file(key.path))
    assert_failed(refused, remote, 4, "AuthenticationRefused", key.fingerprint)
    assert_let_in(play(runner, server, remote, key_file(key.path, certificate_file=str(certificate))), remote)


def test_an_expired_certificate_is_refused(
    runner: Runner, trusting_authority: tuple[OpenSSHServer, KeyPair], tmp_path: Path, remote: Path
) -> None:
    server, authority = trusting_authority
    key = generate_key_pair(tmp_path / "key")
    certificate = sign(authority, key, server.username, "-V", "20200101:20200102")
    outcome = play(runner, server, remote, key_file(key.path, certificate_file=str(certificate)))
    assert_refused_at_once(outcome, remote, str(certificate), "it has expired")


def test_a_certificate_for_another_key_is_told_before_anything_is_contacted(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path
) -> None:
    mine, other, rsa = (generate_key_pair(tmp_path / name, name[3:]) for name in ("my-ed25519", "ot-ed25519", "rs-rsa"))
    authority = generate_key_pair(tmp_path / "ca")
    (tmp_path / "junk").write_text("junk")
    for path in (sign(authority, other, "me"), sign(authority, rsa, "me"), Path(f"{mine.path}.pub"), tmp_path / "junk"):
        outcome = play(runner, asyncssh_server, remote, key_file(mine.path, certificate_file=str(path)))
        assert_refused_at_once(outcome, remote, str(path), "does not fit", str(mine.path))
    outcome = play(runner, asyncssh_server, remote, key_file(mine.path, certificate_file="nowhere"))
    assert_refused_at_once(outcome, remote, "cannot read the certificate file", "nowhere")
    assert asyncssh_server.connection_count == 0


# --- a key and a password ---


@pytest.fixture(params=["password", "keyboard-interactive"])
def two_factors(request: pytest.FixtureRequest, tmp_path: Path, remote: Path) -> Iterator[AsyncsshServer]:
    """A server that wants its key, and after it the password by one of the two methods."""
    questions = (("Password: ", PASSWORD),) if request.param == "keyboard-interactive" else None
    given: dict[str, Any] = {"password": PASSWORD, "require_key_and_password": True, "keyboard_interactive": questions}
    with AsyncsshServer(tmp_path / "two", root=remote, **given) as server:
        yield server


def test_a_key_followed_by_a_password_lets_in(runner: Runner, two_factors: AsyncsshServer, remote: Path) -> None:
    outcome = play(runner, two_factors, remote, key_file(two_factors.user_key_path, password=PASSWORD))
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD)
    assert two_factors.login_events[0].method == "publickey"


def test_a_key_alone_is_not_enough_there(runner: Runner, two_factors: AsyncsshServer, remote: Path) -> None:
    outcome = play(runner, two_factors, remote, key_file(two_factors.user_key_path))
    words = ("after publickey the server also wants", "Add 'password' beside the key")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    # What questions there are is asked, and none is answered.
    assert [event.method for event in two_factors.login_events] in (
        ["publickey"],
        ["publickey", "keyboard-interactive"],
    )
    assert two_factors.requests == []


def test_a_password_alone_is_not_even_looked_at_there(
    runner: Runner, two_factors: AsyncsshServer, remote: Path
) -> None:
    outcome = play(runner, two_factors, remote, password())
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the server takes publickey")


def test_a_wrong_second_password_is_tried_once_and_blamed(runner: Runner, tmp_path: Path, remote: Path) -> None:
    options: dict[str, Any] = {"password": PASSWORD, "require_key_and_password": True}
    with AsyncsshServer(tmp_path / "two", root=remote, **options) as server:
        outcome = play(runner, server, remote, key_file(server.user_key_path, password="hunter two"))
        assert_failed(outcome, remote, 4, "AuthenticationRefused", "the password was refused", "'password'")
        assert [event.method for event in server.login_events] == ["publickey", "password"]
    assert_not_told(outcome, "hunter two")


# --- no fallback ---


def test_a_refused_key_is_the_end(
    runner: Runner, tmp_path: Path, remote: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the password beside it, nor a default key, nor the agent, all of which would be accepted."""
    with (
        AsyncsshServer(tmp_path / "server", root=remote, password=PASSWORD) as server,
        running_agent() as running,
    ):
        put_default_key(home, server)
        running.add(server.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        for given in (key_file(STRANGER.path, password=PASSWORD), key_text(STRANGER.private_text, password=PASSWORD)):
            outcome = play(runner, server, remote, given)
            assert_failed(outcome, remote, 4, "AuthenticationRefused", STRANGER.fingerprint, "authorized_keys")
        assert [event.method for event in server.login_events] == ["publickey"] * 2


def test_a_refused_password_is_the_end(
    runner: Runner,
    asyncssh_server: AsyncsshServer,
    remote: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_default_key(home, asyncssh_server)
    with running_agent() as running:
        running.add(asyncssh_server.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, asyncssh_server, remote, password("hunter two"))
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the password was refused")
    assert [event.method for event in asyncssh_server.login_events] == ["password"]


def put_default_key(home: Path, server: Endpoint) -> None:
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "id_ed25519").write_text(server.user_key_text)
    (folder / "id_ed25519").chmod(0o600)
    (folder / "id_ed25519.pub").write_text(server.user_key.public_line)


# --- the agent ---


def test_a_key_of_the_agent_lets_in(
    runner: Runner, keyring: OpenSSHServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("ed25519", "rsa", "ecdsa"):
        key = generate_key_pair(tmp_path / kind, kind)
        authorize(keyring, key)
        with running_agent() as running:
            running.add(key)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
            assert_let_in(play(runner, keyring, remote, agent()), remote)
        (remote / "file").unlink()


def test_the_agents_keys_are_offered_in_turn(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent() as running:
        running.add(STRANGER, asyncssh_server.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        assert_let_in(play(runner, asyncssh_server, remote, agent()), remote)
    assert [event.method for event in asyncssh_server.login_events] == ["publickey"] * 2


def test_with_public_key_only_that_key_is_offered(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent() as running:
        running.add(STRANGER, asyncssh_server.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        chosen = f"{asyncssh_server.user_key.public_line} me@here"
        assert_let_in(play(runner, asyncssh_server, remote, agent(public_key=chosen)), remote)
        assert len(asyncssh_server.login_events) == 1
        (remote / "file").unlink()
        outcome = play(runner, asyncssh_server, remote, agent(public_key=STRANGER.public_line))
        assert_failed(outcome, remote, 4, "AuthenticationRefused", STRANGER.fingerprint)
        assert len(asyncssh_server.login_events) == 2


def test_too_many_keys_in_the_agent_end_with_the_way_out(
    runner: Runner, keyring: OpenSSHServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent() as running:
        running.add(*(generate_key_pair(tmp_path / f"key{number}") for number in range(7)), keyring.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, keyring, remote, agent())
        words = ("and 5 more was refused", "the server ended the connection", "'public_key'")
        assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
        assert_let_in(play(runner, keyring, remote, agent(public_key=keyring.user_key.public_line)), remote)


def test_an_agent_without_the_key_or_without_keys_is_told(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent() as running:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, asyncssh_server, remote, agent())
        assert_failed(outcome, remote, 2, "CredentialUnusable", "holds no key", "ssh-add")
        running.add(asyncssh_server.user_key)
        outcome = play(runner, asyncssh_server, remote, agent(public_key=STRANGER.public_line))
        assert_failed(outcome, remote, 2, "CredentialUnusable", "does not hold the key", STRANGER.fingerprint)
    assert asyncssh_server.connection_count == 0


def test_no_agent_and_a_stale_socket_are_told(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = play(runner, asyncssh_server, remote, agent())
    assert_failed(outcome, remote, 2, "CredentialUnusable", "SSH_AUTH_SOCK is not set")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    outcome = play(runner, asyncssh_server, remote, agent())
    assert_failed(outcome, remote, 2, "CredentialUnusable", str(tmp_path / "nothing"), "No such file")
    with stale_agent() as stale:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(stale))
        outcome = play(runner, asyncssh_server, remote, agent())
    assert_failed(outcome, remote, 2, "CredentialUnusable", str(stale), "refused")
    assert asyncssh_server.connection_count == 0


def test_an_agent_that_never_answers_costs_no_more_than_connect_timeout(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_agent() as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        started = time.monotonic()
        outcome = play(runner, asyncssh_server, remote, agent(), connect_timeout=1)
        assert time.monotonic() - started < 1 + BUSY_SECONDS
    assert_failed(outcome, remote, 2, "CredentialUnusable", str(path), "no answer within connect_timeout")


def test_an_agent_that_is_stopped_costs_no_more_than_connect_timeout(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent() as running:
        running.add(asyncssh_server.user_key)
        running.pause()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        started = time.monotonic()
        outcome = play(runner, asyncssh_server, remote, agent(), connect_timeout=1)
        assert time.monotonic() - started < 1 + BUSY_SECONDS
    assert_failed(outcome, remote, 2, "CredentialUnusable", "no answer within connect_timeout")


def test_an_agent_that_falls_silent_when_asked_to_sign_is_blamed_for_it(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_agent(asyncssh_server.user_key) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        started = time.monotonic()
        outcome = play(runner, asyncssh_server, remote, agent(), connect_timeout=1)
        assert time.monotonic() - started < 1 + BUSY_SECONDS
    assert_failed(outcome, remote, 2, "CredentialUnusable", "the SSH agent did not sign", "SSH_AUTH_SOCK")


def test_an_agent_that_refuses_to_sign_is_blamed_for_it(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent() as running:
        running.add(asyncssh_server.user_key, confirm=True)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, asyncssh_server, remote, agent())
    assert_failed(outcome, remote, 2, "CredentialUnusable", "the SSH agent did not sign", "it refuses")
