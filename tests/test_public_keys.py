"""Public keys as text: what is a key, what is none, and what its fingerprint is."""

from __future__ import annotations

import base64
import struct
import subprocess
from pathlib import Path

import pytest

from runner.public_keys import KEY_TYPES, find_public_key, is_fingerprint, parse_pinned_key, parse_public_key


def blob(*strings: bytes) -> str:
    return base64.b64encode(b"".join(struct.pack(">I", len(text)) + text for text in strings)).decode()


ED25519 = f"ssh-ed25519 {blob(b'ssh-ed25519', bytes(range(32)))}"
RSA = f"ssh-rsa {blob(b'ssh-rsa', bytes([1, 0, 1]), bytes(1) + bytes([200]) * 256)}"
ECDSA = f"ecdsa-sha2-nistp256 {blob(b'ecdsa-sha2-nistp256', b'nistp256', bytes([4]) + bytes(64))}"


@pytest.mark.parametrize("key", [ED25519, RSA, ECDSA])
@pytest.mark.parametrize(
    "line",
    [
        "KEY",
        "KEY a comment",
        "  KEY\t",
        "host KEY",
        "[host]:2022,192.0.2.1 KEY comment",
        "|1|c2FsdA==|aGFzaA== KEY",
        "KEY\r",
    ],
)
def test_the_key_of_a_line_is_found(key: str, line: str) -> None:
    assert str(find_public_key(line.replace("KEY", key))) == key


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not a public key"),
        ("hello world", "not a public key"),
        ("ssh-ed25519", "not a public key"),
        ("a b c " + ED25519, "not a public key"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "not a public key"),
        ("ssh-ed25519 ???", "is not base64"),
        (ED25519[:-1] + "é", "is not base64"),
        (ED25519[:-2], "is not base64 (cut off while copying?)"),
        (ED25519[:-4], "the ssh-ed25519 key is cut off"),
        (RSA[: len(RSA) // 2 // 4 * 4], "the ssh-rsa key is cut off"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519')}", "the ssh-ed25519 key is cut off"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', bytes(32))[:-4]}AAAAAAAA", "the ssh-ed25519 key is cut off or damaged"),
        ("ssh-rsa " + ED25519.split()[1], "is not a key of that type"),
        ("ssh-ed25519 AAAA", "is not a key of that type"),
        ("@cert-authority *.example " + ED25519, "takes no @cert-authority marker"),
        ("@revoked host " + ED25519, "takes no @revoked marker"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "this is a private key"),
    ],
)
def test_what_is_no_key_is_told_why(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        find_public_key(line)

    assert message in str(caught.value)


@pytest.mark.parametrize("line", [f"@cert-authority {ED25519}", f" @cert-authority\t*.example  {ED25519} ours\r"])
def test_an_authority_is_pinned_by_its_marker(line: str) -> None:
    pinned = parse_pinned_key(line)

    assert (str(pinned.key), pinned.is_authority) == (ED25519, True)


@pytest.mark.parametrize("line", [ED25519, f"host {ED25519} comment"])
def test_a_key_without_a_marker_is_the_hosts_own(line: str) -> None:
    pinned = parse_pinned_key(line)

    assert (str(pinned.key), pinned.is_authority) == (ED25519, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"@revoked host {ED25519}", "takes no @revoked marker"),
        (f"@cert-authority @revoked {ED25519}", "takes no @revoked marker"),
        ("@cert-authority host", "not a public key"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "this is a certificate; expected the plain key"),
        ("host ssh-ed25519-cert-v01@openssh.com AAAA", "this is a certificate"),
    ],
)
def test_what_cannot_be_pinned_is_told_why(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_pinned_key(line)


def test_a_number_of_an_rsa_key_has_one_form_whatever_zeros_stand_before_it() -> None:
    modulus = bytes([200]) * 256
    padded = blob(b"ssh-rsa", bytes([0, 1, 0, 1]), bytes(3) + modulus)

    assert str(parse_public_key("ssh-rsa", padded)) == RSA

    with pytest.raises(ValueError, match="damaged"):
        parse_public_key("ssh-rsa", blob(b"ssh-rsa", bytes([1, 0, 1]), modulus))


@pytest.mark.parametrize("key_type", ["ed25519", "ecdsa", "rsa"])
def test_keys_and_fingerprints_are_those_of_ssh_keygen(tmp_path: Path, key_type: str) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", key_type, "-N", "", "-f", str(path)], check=True)
    listing = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True).stdout
    line = Path(f"{path}.pub").read_text()

    key = find_public_key(line)

    assert key.type in KEY_TYPES
    assert str(key) == " ".join(line.split()[:2])
    assert key.fingerprint == listing.split()[1]
    assert is_fingerprint(key.fingerprint)
    assert parse_public_key(*line.split()[:2]) == key


@pytest.mark.parametrize(
    "text",
    [
        *("", "SHA256:", "SHA256:abc", "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "sha256:" + "a" * 43),
        *("SHA256:" + "a" * 44, "SHA256:" + "a" * 42 + "=", "SHA256:" + "a" * 43 + "\n"),
    ],
)
def test_other_text_is_no_fingerprint(text: str) -> None:
    assert not is_fingerprint(text)
