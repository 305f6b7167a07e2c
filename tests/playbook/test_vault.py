"""Ansible Vault's format: what ansible-vault wrote is read, what was altered is not."""

from __future__ import annotations

from binascii import hexlify, unhexlify

import pytest

from runner.playbook import vault
from runner.playbook.vault import VaultProblem, check_format, decrypt, encrypt, is_encrypted
from tests.playbook import vaults
from tests.playbook.vaults import PASSWORD, PLAIN


@pytest.mark.parametrize("name", ["v1.1.vault", "v1.2.vault"])
def test_what_ansible_vault_wrote_is_read(name: str) -> None:
    text = vaults.read(name)

    assert is_encrypted(text) and is_encrypted(text.encode())
    assert decrypt(text, PASSWORD) == f"{PLAIN}\n".encode()
    assert decrypt(text.replace("\n", "\r\n    "), PASSWORD) == f"{PLAIN}\n".encode()


@pytest.mark.parametrize(
    "plain", [b"", b"x", b"x" * 15, b"x" * 16, b"x" * 17, bytes(range(256)) * 300, "ü🙂\0".encode()]
)
def test_what_is_encrypted_comes_back(plain: bytes) -> None:
    assert decrypt(encrypt(plain, "pässword".encode()), "pässword".encode()) == plain


def test_the_header_and_the_lines_are_ansible_s() -> None:
    plain, labelled = encrypt(b"x" * 100, b"p"), encrypt(b"x" * 100, b"p", "prod")

    assert plain.splitlines()[0] == "$ANSIBLE_VAULT;1.1;AES256"
    assert labelled.splitlines()[0] == "$ANSIBLE_VAULT;1.2;AES256;prod"
    assert {len(line) for line in plain.splitlines()[1:-1]} == {80}
    assert plain.endswith("\n")


def test_encrypting_twice_gives_two_texts() -> None:
    assert encrypt(b"x", b"p") != encrypt(b"x", b"p")


def test_a_wrong_password_is_told_and_names_the_label() -> None:
    with pytest.raises(VaultProblem, match="the vault password is not the right one, or") as caught:
        decrypt(vaults.read("v1.1.vault"), b"wrong")
    assert "--vault-password-file" in caught.value.hint
    with pytest.raises(VaultProblem, match="not the right one for the label 'prod'"):
        decrypt(vaults.read("v1.2.vault"), b"wrong")


def _alter(text: str, part: int, position: int) -> str:
    """The text with one digit of its salt (0), signature (1) or ciphertext (2) replaced."""
    header, _, body = text.partition("\n")
    parts = unhexlify("".join(body.split())).split(b"\n")
    changed = bytearray(parts[part])
    changed[position] = ord("0") if changed[position] != ord("0") else ord("1")
    parts[part] = bytes(changed)
    return header + "\n" + hexlify(b"\n".join(parts)).decode()


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("position", [0, 31, -1])
def test_one_altered_digit_is_noticed(part: int, position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> bytes:
        raise AssertionError("decrypted before the signature was checked")

    monkeypatch.setattr(vault, "_apply_cipher", refuse)
    with pytest.raises(VaultProblem, match="altered"):
        decrypt(_alter(vaults.read("v1.1.vault"), part, position), PASSWORD)


BODY = vaults.read("v1.1.vault").partition("\n")[2]
HEADER = "$ANSIBLE_VAULT;1.1;AES256\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an encrypted text"),
        ("hello", "not an encrypted text"),
        ("$ANSIBLE_VAULT", "not an encrypted text"),
        ("$ANSIBLE_VAULT;1.1", "not an encrypted text"),
        (f"$ANSIBLE_VAULTS;1.1;AES256\n{BODY}", "not an encrypted text"),
        (f"$ANSIBLE_VAULT;1.0;AES256\n{BODY}", "unknown version"),
        (f"$ANSIBLE_VAULT;2.0;AES256\n{BODY}", "unknown version"),
        (f"$ANSIBLE_VAULT;1.1;AES\n{BODY}", "unknown cipher"),
        (HEADER, "broken: it is cut off"),
        (HEADER + BODY[:-3], "broken: it is cut off"),
        (HEADER + BODY[:-2], "broken: it is cut off"),
        (HEADER + BODY[:82], "broken: it is cut off"),
        (HEADER + "xyz" + BODY, "broken: it is cut off"),
        (HEADER + "ü" + BODY, "broken: it is cut off"),
        (HEADER + hexlify(b"\n\n").decode(), "broken: a part of it is missing"),
        (HEADER + hexlify(b"00\n" + b"00" * 32 + b"\n").decode(), "broken: a part of it is missing"),
        (HEADER + hexlify(b"00\n" + b"00" * 32 + b"\n" + b"00" * 15).decode(), "broken: a part of it is missing"),
        (HEADER + hexlify(b"00\n" + b"00" * 31 + b"\n" + b"00" * 16).decode(), "broken: a part of it is missing"),
    ],
)
def test_what_is_not_in_the_format_is_told(text: str, message: str) -> None:
    with pytest.raises(VaultProblem, match=message):
        check_format(text)
    with pytest.raises(VaultProblem, match=message):
        decrypt(text, PASSWORD)


def test_a_text_signed_with_a_wrong_padding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = vaults.read("v1.1.vault")
    for padded in (b"\0" * 32, b"\x11" * 32, b"\x01" * 31 + b"\x02"):
        monkeypatch.setattr(vault, "_apply_cipher", lambda *arguments, padded=padded: padded)
        with pytest.raises(VaultProblem, match="padding"):
            decrypt(text, PASSWORD)


def test_what_is_too_large_is_refused_without_reading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "MAX_PLAIN_BYTES", 10)
    monkeypatch.setattr(vault, "MAX_ENCRYPTED_BYTES", 100)

    with pytest.raises(VaultProblem, match="cannot be encrypted"):
        encrypt(b"x" * 11, b"p")
    with pytest.raises(VaultProblem, match="larger than"):
        decrypt(HEADER + "0" * 100, b"p")


@pytest.mark.parametrize("label", ["a b", "a;b", "a\nb", "x" * 101])
def test_a_label_that_would_break_the_header_is_refused(label: str) -> None:
    with pytest.raises(VaultProblem, match="label"):
        encrypt(b"x", b"p", label)
