"""known_hosts files: which lines speak about a host, and the verdict of the real `ssh` on the same files."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from runner.ssh.known_hosts import KnownHostsFile, find_entries, read_known_hosts
from tests.servers.keys import generate_key_pair, shared_key_pair

KEY = shared_key_pair("ed25519").public_line
RSA = shared_key_pair("rsa").public_line
ECDSA = shared_key_pair("ecdsa").public_line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def knows(file: Path, text: str, host: str, port: int = 22) -> bool:
    """Whether a file with this text has a line about the host."""
    file.write_bytes(text.encode())
    return bool(find_entries(read_known_hosts(str(file)).entries, host, port))


def read(file: Path, text: str) -> KnownHostsFile:
    file.write_bytes(text.encode())
    return read_known_hosts(str(file))


# --- which host ---


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("bank.example", "bank.example", 22),
        ("other.example,bank.example,10.0.0.1", "bank.example", 22),
        ("bank.example", "BANK.Example", 22),
        ("Bank.EXAMPLE", "bank.example", 22),
        ("[bank.example]:2022", "bank.example", 2022),
        ("bank.example", "bank.example", 2022),
        ("*.example", "bank.example", 22),
        ("b?nk.example", "bank.example", 22),
        ("[*.example]:2022", "bank.example", 2022),
        ("[bank.example]:*", "bank.example", 2022),
        ("*", "bank.example", 2022),
        ("!other.example,*.example", "bank.example", 22),
        ("2001:db8::10", "2001:db8::10", 22),
        ("[2001:db8::10]:2022", "2001:DB8::10", 2022),
    ],
)
def test_a_line_is_about_the_host(file: Path, hosts: str, host: str, port: int) -> None:
    assert knows(file, f"{hosts} {KEY}\n", host, port)


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("bank.example", "bank.example.org", 22),
        ("bank.example", "xbank.example", 22),
        ("[bank.example]:2022", "bank.example", 22),
        ("[bank.example]:2022", "bank.example", 2023),
        ("*.example", "example", 22),
        ("b?nk.example", "bnk.example", 22),
        ("!bank.example,*.example", "bank.example", 22),
        ("*.example,!bank.example", "bank.example", 22),
        ("!bank.example", "other.example", 22),
        ("[a-z]ank.example", "bank.example", 22),
        ("", "bank.example", 22),
    ],
)
def test_a_line_is_about_another_host(file: Path, hosts: str, host: str, port: int) -> None:
    assert not knows(file, f"{hosts} {KEY}\n", host, port)


def test_names_hashed_by_ssh_keygen_are_found(file: Path) -> None:
    file.write_text(f"bank.example {KEY}\n[bank.example]:2022 {RSA}\n10.0.0.1 {ECDSA}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True, timeout=60)
    assert "bank" not in file.read_text()
    entries = read_known_hosts(str(file)).entries
    found = {
        (host, port): [str(entry.key) for entry in find_entries(entries, host, port)]
        for host, port in (("BANK.example", 22), ("bank.example", 2022), ("10.0.0.1", 22), ("10.0.0.2", 22))
    }
    assert found == {
        ("BANK.example", 22): [KEY],
        ("bank.example", 2022): [RSA],
        ("10.0.0.1", 22): [ECDSA],
        ("10.0.0.2", 22): [],
    }


def test_the_bare_name_counts_on_another_port_only_when_the_port_has_no_key(file: Path) -> None:
    both = read(file, f"bank.example {KEY}\n[bank.example]:2022 {RSA}\n").entries
    assert [str(entry.key) for entry in find_entries(both, "bank.example", 2022)] == [RSA]
    assert [str(entry.key) for entry in find_entries(both, "bank.example", 2023)] == [KEY]


def test_a_key_revoked_for_the_port_stays_revoked_when_the_bare_name_counts(file: Path) -> None:
    entries = read(file, f"@revoked [bank.example]:2022 {KEY}\nbank.example {RSA}\n").entries
    found = find_entries(entries, "bank.example", 2022)
    assert [(str(entry.key), entry.is_revoked) for entry in found] == [(KEY, True), (RSA, False)]


def test_all_keys_of_a_host_are_found_in_the_order_of_the_file(file: Path) -> None:
    second = generate_key_pair(file.with_name("second")).public_line
    entries = read(file, f"h {KEY}\nx {ECDSA}\nh {RSA}\nh {second}\n").entries
    found = find_entries(entries, "h", 22)
    assert [str(entry.key) for entry in found] == [KEY, RSA, second]
    assert [entry.origin for entry in found] == [f"{file}:1", f"{file}:3", f"{file}:4"]


# --- what a line may look like ---


@pytest.mark.parametrize(
    "line",
    [
        "h {key}",
        "h {key} a comment with words",
        "h  {key}",
        "h\t{key}",
        " \t h \t {key} \t ",
        "h {key}\r",
        "h {key} comment\r",
        "# a comment\n\n   \n\th {key}",
        "h {key}\n\0",
        "h {key}\0junk",
        "h {key} a\rb",
    ],
)
def test_spaces_tabs_comments_and_windows_line_ends_do_no_harm(file: Path, line: str) -> None:
    known = read(file, line.replace("{key}", KEY) + "\n")
    assert [str(entry.key) for entry in find_entries(known.entries, "h", 22)] == [KEY]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("h", "expected hosts, key type and key"),
        ("h ssh-ed25519", "expected hosts, key type and key"),
        ("h ssh-ed25519 !!!!", "not base64"),
        ("h ssh-ed25519 {rsa blob}", "not a key of that type"),
        ("h {cut rsa}", "cut off"),
        ("h {cut key}", "cut off"),
        ("h {key}AAAA", "cut off or damaged"),
        ("h {key}AAAAAAAAAAAAAAAA", "cut off or damaged"),
        ("h ssh-ed448 AAAA", "unsupported key type ssh-ed448"),
        ("h 1024 35 1234567890", "unsupported key type"),
        ("@nonsense h {key}", "unknown marker @nonsense"),
        ("|1|AAAA|BBBB {key}", "cut off"),
        ("|1|AAAA|AAAAAAAAAAAAAAAAAAAAAAAAAAA= {key}", "cut off"),
        ("|1|*|* {key}", "not base64"),
        ("|2|AAAA|BBBB {key}", "unknown kind of hashed host name"),
        ("h\x0b{key} comment", "unsupported key type"),
        ("h\xa0{key} comment", "unsupported key type"),
        ("h\r{key}", "expected hosts, key type and key"),
        ("@cert-authority\th {key}", "a space must follow @cert-authority"),
        ("@revoked @cert-authority h {key}", "only one marker is allowed"),
        ("@cert-authority h ssh-ed25519-cert-v01@openssh.com AAAA", "by its key, not by a certificate"),
        ("h {key end}", "not base64"),
        ("h {short rsa}", "less than 1024 bits"),
    ],
)
def test_a_line_that_is_not_understood_is_skipped_with_a_warning(file: Path, line: str, complaint: str) -> None:
    texts = {"{key}": KEY, "{cut key}": KEY[:-8], "{cut rsa}": RSA[:-8], "{rsa blob}": RSA.split()[1]}
    # The last character of a padded text holds bits that belong to no byte.
    texts["{key end}"] = RSA[:-3] + chr(ord(RSA[-3]) + 1) + "==" if RSA.endswith("==") else ECDSA[:-2] + "B="
    short = b"\0\0\0\7ssh-rsa\0\0\0\3\1\0\1\0\0\0\x41\0" + b"\xff" * 64
    texts["{short rsa}"] = f"ssh-rsa {base64.b64encode(short).decode()}"
    for placeholder, text in texts.items():
        line = line.replace(placeholder, text)
    known = read(file, f"a {KEY}\n{line}\nz {RSA}\n")
    assert [entry.patterns for entry in known.entries] == ["a", "z"]
    [warning] = known.warnings
    assert warning.startswith(f"{file}:2: line skipped: ")
    assert complaint in warning


def test_a_certificate_authority_is_marked_as_one(file: Path) -> None:
    known = read(file, f"@cert-authority * {KEY}\n@cert-authority  h\t{RSA}\n")
    assert [(entry.patterns, entry.marker) for entry in known.entries] == [
        ("*", "@cert-authority"),
        ("h", "@cert-authority"),
    ]
    assert known.warnings == ()


def test_a_key_of_a_type_that_cannot_be_verified_is_told_and_still_keeps_the_bare_name_out(file: Path) -> None:
    known = read(file, f"[h]:2022 ssh-dss AAAAB3NzaC1kc3M=\nh {KEY}\n")
    assert known.warnings == (f"{file}:1: line skipped: unsupported key type ssh-dss",)
    assert [entry.key.type for entry in find_entries(known.entries, "h", 2022)] == ["ssh-dss"]


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_a_revoked_line_is_marked(file: Path, separator: str) -> None:
    [entry] = read(file, f"@revoked{separator}h {KEY}\n").entries
    assert entry.is_revoked
    assert entry.patterns == "h"


def test_bytes_that_are_no_text_spoil_only_their_line(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00 junk\n" + f"h {KEY}\n".encode())
    known = read_known_hosts(str(file))
    assert [entry.patterns for entry in known.entries] == ["h"]
    assert len(known.warnings) == 1


def test_a_hostile_pattern_ends_in_no_time(file: Path) -> None:
    assert not knows(file, f"{'*a' * 200}b {KEY}\n", "a" * 250)
