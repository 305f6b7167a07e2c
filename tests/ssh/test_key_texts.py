"""Private keys as CI systems, YAML, editors and PuTTY hand them over: read, or explained without a word of them."""

from __future__ import annotations

import base64
import importlib
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import CredentialUnusable
from runner.ssh import putty_keys
from runner.ssh.private_keys import parse_private_key, read_private_key
from tests.conftest import Runner
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.keys import KeyPair, shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.logins import (
    assert_let_in,
    assert_not_told,
    assert_refused_at_once,
    key_file,
    key_text,
    play,
    write_key,
)
from tests.ssh.putty_files import FILES, PASSPHRASE, PuttyFile
from tests.ssh.test_authentication import make_key

# Not in every version of cryptography that is allowed.
ARGON2 = "cryptography.hazmat.primitives.kdf.argon2"


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def in_lines(text: str) -> str:
    return base64.encodebytes(text.encode()).decode()


# What a key's text looks like when it arrives.
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "old line ends": lambda text: text.replace("\n", "\r"),
    "no last line end": lambda text: text.rstrip("\n"),
    "surrounded": lambda text: f"\n \t{text}\n\n\n",
    "indented": lambda text: text.replace("\n", "\n    "),
    "trailing spaces": lambda text: text.replace("\n", "  \n"),
    "folded by YAML": lambda text: " ".join(text.split("\n")),
    "blank lines between": lambda text: text.replace("\n", "\n\n"),
    "literal line ends": lambda text: text.replace("\n", "\\n"),
    "literal Windows line ends": lambda text: text.replace("\n", "\\r\\n"),
    "literal and real ones": lambda text: text.replace("\n", "\\n") + "\n",
    "in quotes": lambda text: f'"{text}"',
    "in quotes, on one line": lambda text: "'" + text.replace("\n", "\\n") + "'",
    "a mark in front": lambda text: f"\ufeff{text}",
    "base64": encode,
    "base64 in lines": in_lines,
    "base64 without its end": lambda text: encode(text).rstrip("="),
    "base64 in quotes": lambda text: f'"{encode(text)}"',
    "base64 of literal line ends": lambda text: encode(text.replace("\n", "\\n")),
    "base64 of base64": lambda text: encode(in_lines(text)),
}


@pytest.fixture(scope="module", params=["openssh", "pem", "pkcs8"])
def formats(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[KeyPair, str]]:
    """A plain and an encrypted key of a format, each with its passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    found = []
    for kind in ("rsa 2048", "ecdsa 256"):
        for passphrase in ("", PASSPHRASE):
            path = folder / f"{kind}-{bool(passphrase)}"
            found.append((make_key(path, kind, request.param, passphrase), passphrase))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_read_in_every_form(formats: list[tuple[KeyPair, str]], form: str) -> None:
    for key, passphrase in formats:
        read = parse_private_key(FORMS[form](key.private_text), passphrase, "the key")

        assert read.public.fingerprint == key.fingerprint


@pytest.mark.parametrize("form", FORMS)
def test_a_key_of_putty_is_read_in_every_form(form: str) -> None:
    for name in ("ed25519, version 2, encrypted", "rsa, version 2", "ed25519, version 3"):
        file = FILES[name]
        if form == "folded by YAML" or "\n" in file.text:
            read = parse_private_key(FORMS[form](file.text), PASSPHRASE, "the key")
            assert str(read.public) == file.public_line


def has_derivation(file: PuttyFile) -> bool:
    if not file.derivation.startswith("Argon2"):
        return True
    try:
        return hasattr(importlib.import_module(ARGON2), file.derivation)
    except ImportError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_every_version_and_type_of_putty_is_read(name: str) -> None:
    file = FILES[name]
    if not has_derivation(file):
        with pytest.raises(CredentialUnusable, match="no Argon2") as caught:
            parse_private_key(file.text, PASSPHRASE, "the key")
        assert "cryptography 44" in caught.value.hint and "puttygen" in caught.value.hint
        return
    assert str(parse_private_key(file.text, PASSPHRASE, "the key").public) == file.public_line
    if not file.derivation:
        assert str(parse_private_key(file.text, None, "the key").public) == file.public_line
        return
    for passphrase, complaint in ((None, "no passphrase is given"), ("wrong", "the passphrase is wrong")):
        with pytest.raises(CredentialUnusable, match=complaint) as caught:
            parse_private_key(file.text, passphrase, "the key")
        assert caught.value.about == "passphrase"


def test_a_derivation_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """cryptography 42 and 43 have none."""
    monkeypatch.setitem(sys.modules, ARGON2, None)
    text = FILES["ed25519, version 3, encrypted"].text

    with pytest.raises(CredentialUnusable, match="no Argon2") as caught:
        parse_private_key(text, f"{PASSPHRASE}, another", "the key")

    assert "cryptography 44" in caught.value.hint


@pytest.mark.parametrize(("memory", "passes"), [("99999999", "13"), ("8192", "999999"), ("-1", "13"), ("8192", "0")])
def test_a_derivation_that_would_take_for_ever_is_refused(memory: str, passes: str) -> None:
    text = FILES["ed25519, version 3, encrypted"].text
    for name, value in (("Memory", memory), ("Passes", passes)):
        start = text.index(f"Argon2-{name}: ")
        text = text[:start] + f"Argon2-{name}: {value}" + text[text.index("\n", start) :]

    with pytest.raises(CredentialUnusable, match="key derivation"):
        parse_private_key(text, PASSPHRASE, "the key")


@pytest.mark.parametrize("name", ["ed25519, version 2", "rsa, version 2", "ecdsa 521, version 3"])
def test_a_key_of_putty_that_was_changed_is_not_used(name: str) -> None:
    """Its MAC covers everything: type, comment, and both halves."""
    text = FILES[name].text
    kind = text.split()[1]
    other = "ssh-rsa" if kind != "ssh-rsa" else "ssh-ed25519"
    lines = text.splitlines()
    changes = [
        text.replace(kind, other, 1),
        text.replace("Comment: ", "Comment: x", 1),
        text.replace("Encryption: none", "Encryption: rot13"),
        *(
            "\n".join([*lines[:at], swap_letter(lines[at]), *lines[at + 1 :]])
            for at in (4, len(lines) - 2, len(lines) - 1)
        ),
    ]
    for changed in changes:
        assert changed != text
        with pytest.raises(CredentialUnusable, match="PuTTY key that cannot be read"):
            parse_private_key(changed, PASSPHRASE, "the key")


def swap_letter(line: str) -> str:
    """The line with another letter of base64, or of hexadecimal, at its end but two."""
    return line[:-3] + ("b" if line[-3] != "b" else "c") + line[-2:]


def test_putty_keys_that_no_login_is_made_with_are_told_apart() -> None:
    dsa = "PuTTY-User-Key-File-2: ssh-dss\nEncryption: none\nComment: \nPublic-Lines: 1\nAAAA\n"
    for text, complaint in (
        (dsa, "is a DSA key"),
        ("PuTTY-User-Key-File-1: ssh-rsa\nEncryption: none\n", "another version"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "has no"),
    ):
        with pytest.raises(CredentialUnusable, match=complaint):
            parse_private_key(text, None, "the key")


# --- in plays ---


@pytest.mark.parametrize("name", ["ed25519, version 2", "ecdsa 256, version 2, encrypted", "rsa, version 2"])
def test_a_key_of_putty_lets_in(
    runner: Runner, keyring: OpenSSHServer, tmp_path: Path, remote: Path, name: str
) -> None:
    file = FILES[name]
    with keyring.user_key_path.with_suffix(".authorized_keys").open("a") as authorized:
        authorized.write(f"{file.public_line}\n")
    for given in (
        key_text(file.text, passphrase=PASSPHRASE),
        key_text(encode(file.text), passphrase=PASSPHRASE),
        key_file(write_key(tmp_path / "key.ppk", file.text.replace("\n", "\r\n")), passphrase=PASSPHRASE),
    ):
        outcome = play(runner, keyring, remote, given)
        assert_let_in(outcome, remote)
        assert_not_told(outcome, file.text, PASSPHRASE)
        (remote / "file").unlink()


@pytest.mark.parametrize("form", ["base64", "literal Windows line ends", "folded by YAML", "blank lines between"])
def test_a_key_in_a_variable_and_in_a_file_lets_in(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, remote: Path, form: str
) -> None:
    text = FORMS[form](sshd.user_key_text)
    for given in (key_text(text), key_file(write_key(tmp_path / "key", text))):
        outcome = play(runner, sshd, remote, given)
        assert_let_in(outcome, remote)
        assert_not_told(outcome, text, sshd.user_key_text)
        (remote / "file").unlink()


def test_a_file_of_powershell_is_read(tmp_path: Path) -> None:
    key = shared_key_pair()
    path = tmp_path / "key"
    path.touch(mode=0o600)
    for encoding in ("utf-16", "utf-8-sig"):
        path.write_bytes(key.private_text.replace("\n", "\r\n").encode(encoding))
        assert read_private_key(str(path), None, None).public.fingerprint == key.fingerprint


@pytest.mark.parametrize("form", ["base64", "literal line ends", "putty"])
def test_a_file_that_others_may_read_is_refused_in_every_form(tmp_path: Path, form: str) -> None:
    text = FILES["ed25519, version 3"].text if form == "putty" else FORMS[form](shared_key_pair().private_text)
    path = write_key(tmp_path / "key", text)
    path.chmod(0o644)
    with pytest.raises(CredentialUnusable, match="open to others"):
        read_private_key(str(path), None, None)


# --- what is explained ---


@pytest.mark.parametrize(
    "name",
    ["/run/secrets/key", "~/.ssh/id_ed25519", "./key", "../ci/key", "there", "C:\\Users\\new\\id_rsa", "\\\\host\\key"],
)
def test_a_path_in_the_place_of_a_key_is_explained_by_validate(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(runner.folder)
    write_key(runner.folder / "there", shared_key_pair().private_text)
    for text in (name, f' "{name}"\n'):
        outcome = play(runner, asyncssh_server, remote, key_text(text))
        assert_refused_at_once(outcome, remote, "is a path, not a key", "ssh_key_file")
        assert_not_told(outcome, name)
    validated = runner("validate", str(runner.folder / "play.yaml"))
    assert validated.exit_code == 3
    assert "is a path, not a key" in validated.output
    assert asyncssh_server.connection_count == 0


def test_what_is_no_private_key_is_explained(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    key = shared_key_pair()
    for text, complaint in (
        (key.public_line, "is a public key"),
        (encode(key.public_line), "is a public key"),
        (encode("secret-" * 20), "is not a private key"),
        (encode(encode(encode(encode(key.private_text)))), "is not a private key"),
        (f"{key.private_text[:200]}", "cannot be read"),
        (encode(key.private_text)[:200], "cannot be read"),
        ("x" * 200, "is not a private key"),
    ):
        outcome = play(runner, asyncssh_server, remote, key_text(text))
        assert_refused_at_once(outcome, remote, "'ssh_key'", complaint)
        assert_not_told(outcome, text, key.private_text)


def test_nothing_that_is_done_to_a_key_ends_in_another_error(tmp_path: Path) -> None:
    """And no error quotes it."""
    chance = random.Random(13)
    plain = make_key(tmp_path / "plain", "ecdsa 256", "openssh", "").private_text
    pem = make_key(tmp_path / "pem", "ecdsa 256", "pem", PASSPHRASE).private_text
    texts = [plain, pem, FILES["ed25519, version 2"].text, FILES["ecdsa 256, version 2, encrypted"].text]
    letters = "\n\r\t \\\"'=-:+/A0z\0\ufeff\u2028é"
    for trial in range(400):
        text = texts[trial % len(texts)]
        for _ in range(chance.randint(1, 3)):
            at, end = sorted(chance.randint(0, len(text)) for _ in range(2))
            cut = chance.choice(["", chance.choice(letters), text[at:end][::-1]])
            text = text[:at] + cut + text[min(end, at + chance.randint(0, 40)) :]
        form = chance.choice(list(FORMS.values()))
        try:
            parse_private_key(form(text), chance.choice([None, PASSPHRASE]), "the key")
        except CredentialUnusable as error:
            told = f"{error.message} {error.hint}"
            assert not any(line in told for line in text.split() if len(line) > 20), told


def test_the_memory_of_a_derivation_is_bounded() -> None:
    assert putty_keys.MAX_MEMORY_KIB * 1024 <= 1 << 30
