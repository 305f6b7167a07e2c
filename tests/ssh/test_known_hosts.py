"""known_hosts files: which lines speak about a host, and the verdict of the real `ssh` on the same files."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import HostKeyRefused
from runner.ssh.known_hosts import KnownHostsFile, find_entries, read_known_hosts
from tests.conftest import require_sshd
from tests.servers.keys import KeyPair, generate_key_pair, shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.endpoints import connect_knowing

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
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True, timeout=10)
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
    ],
)
def test_a_line_that_is_not_understood_is_skipped_with_a_warning(file: Path, line: str, complaint: str) -> None:
    texts = {"{key}": KEY, "{cut key}": KEY[:-8], "{cut rsa}": RSA[:-8], "{rsa blob}": RSA.split()[1]}
    for placeholder, text in texts.items():
        line = line.replace(placeholder, text)
    known = read(file, f"a {KEY}\n{line}\nz {RSA}\n")
    assert [entry.patterns for entry in known.entries] == ["a", "z"]
    [warning] = known.warnings
    assert warning.startswith(f"{file}:2: line skipped: ")
    assert complaint in warning


def test_a_certificate_authority_is_no_host_key_and_no_warning(file: Path) -> None:
    assert read(file, f"@cert-authority * {KEY}\n@cert-authority\t* {RSA}\n") == KnownHostsFile((), ())


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


# --- the oracle ---

# The last one has a key that is known and revoked, beside a good one of another type.
SEEDS = (*range(47), 398)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    require_sshd()
    folder = tmp_path_factory.mktemp("oracle")
    with OpenSSHServer(folder, host_key_types=("ed25519", "ecdsa", "rsa")) as running:
        yield running


@pytest.fixture(scope="module")
def wrong_keys(tmp_path_factory: pytest.TempPathFactory) -> list[KeyPair]:
    folder = tmp_path_factory.mktemp("wrong")
    return [generate_key_pair(folder / kind, kind) for kind in ("ed25519", "ecdsa", "rsa")]


def generate_file(seed: int, server: OpenSSHServer, wrong_keys: list[KeyPair]) -> bytes:
    """A known_hosts file of a few lines, most of them nearly about the server."""
    dice = random.Random(seed)
    right = [key.public_line for key in server.host_keys]
    wrong = [key.public_line for key in wrong_keys]
    return b"".join(generate_line(dice, server, right, wrong) for _ in range(dice.randint(1, 5)))


def generate_line(dice: random.Random, server: OpenSSHServer, right: list[str], wrong: list[str]) -> bytes:
    bare, full = server.host, f"[{server.host}]:{server.port}"
    name = dice.choice([bare, full, full, full])
    exact = [name, name, name, hash_name(dice, name), f"other.example,{name}", f"{name},!{bare}", f"!{full},{name}"]
    wild = ["127.0.*", "127.0.0.?", "[127.0.0.*]:*", "*", f"*,!{full}", f"!{full},*", "!127.*", "[1]27.0.0.1"]
    hosts = dice.choice([*exact, *wild, f"[{bare}]:1"])
    key = dice.choice(
        [dice.choice(right)] * 5 + [dice.choice(wrong)] * 3 + [right[0][:-4], right[2][:-8], "ssh-ed25519"]
    )
    if dice.random() < 0.1:
        key = key.replace("ssh-", "sch-").replace("ecdsa-", "sk-ecdsa-")
    gap = dice.choice([" ", " ", " ", "  ", "\t", " \t "])
    marker = dice.choice([""] * 7 + ["@revoked ", "@revoked  ", "@cert-authority ", "@nonsense "])
    comment = dice.choice(["", "", " a comment", "\tme@here"])
    lead = dice.choice(["", "", "", " ", "#"])
    end = dice.choice(["\n", "\n", "\r\n", "\n\n", "\n# words\n"])
    return f"{lead}{marker}{hosts}{gap}{key.replace(' ', gap)}{comment}{end}".encode()


def hash_name(dice: random.Random, name: str) -> str:
    salt = dice.randbytes(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def does_ssh_accept(server: OpenSSHServer, file: Path, *options: str) -> bool:
    given = [
        f"UserKnownHostsFile={file}",
        "GlobalKnownHostsFile=none",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        *options,
    ]
    command = ["ssh", "-F", "none", "-p", str(server.port), "-i", str(server.user_key_path)]
    command += [part for option in given for part in ("-o", option)]
    done = subprocess.run(
        [*command, f"{server.username}@{server.host}", "true"], capture_output=True, timeout=10, check=False
    )
    assert done.returncode in (0, 255), done.stderr
    refusals = (b"Host key verification failed", b"REVOKED")
    assert done.returncode == 0 or any(words in done.stderr for words in refusals), done.stderr
    return done.returncode == 0


def find_accepted_type(server: OpenSSHServer, file: Path) -> str | None:
    """The type of the key by which the product accepts the server, None if it refuses."""
    try:
        connection = connect_knowing(server, file)
    except HostKeyRefused:
        return None
    connection.close()
    line = file.read_text().split("\n")[int(connection.trusted_by.rpartition(":")[2]) - 1]
    return next(key.algorithm for key in server.host_keys if key.public_line.split()[1] in line)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_verdict_on_a_file_is_that_of_ssh(
    file: Path, server: OpenSSHServer, wrong_keys: list[KeyPair], seed: int
) -> None:
    file.write_bytes(generate_file(seed, server, wrong_keys))
    accepted_type = find_accepted_type(server, file)
    if accepted_type is None:
        assert not does_ssh_accept(server, file), file.read_text()
        return
    # ssh offers all types and takes the server's choice, which may be one that the file does not know;
    # we offer only those that it knows. So ssh is asked about the very key that was accepted.
    algorithms = {"ssh-rsa": "rsa-sha2-512,rsa-sha2-256"}.get(accepted_type, accepted_type)
    assert does_ssh_accept(server, file, f"HostKeyAlgorithms={algorithms}"), file.read_text()


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("{full} {right}", True),
        ("{bare} {right}", True),
        ("{full} {wrong}\n{full} {right}", True),
        ("{full} {wrong}\n{bare} {right}", False),
        ("@revoked {full} {right}\n{full} {right}", False),
        ("{full} {right}\n@revoked * {right}", False),
        ("@revoked {full} {right}\n{bare} {right}", False),
        ("@revoked {full} {wrong}\n{bare} {right}", True),
        ("@revoked {bare} {right}\n{full} {right}", True),
        ("{full} {cut}\n{bare} {right}", True),
        ("@cert-authority * {right}", False),
        ("@cert-authority {full} {wrong}\n{bare} {right}", True),
    ],
)
def test_port_and_bare_name_play_together_as_in_ssh(
    file: Path, server: OpenSSHServer, wrong_keys: list[KeyPair], text: str, is_accepted: bool
) -> None:
    right = server.known_host_line("ed25519")
    names = {"full": f"[{server.host}]:{server.port}", "bare": server.host, "cut": right[:-4]}
    file.write_text(text.format(right=right, wrong=wrong_keys[0].public_line, **names) + "\n")
    assert does_ssh_accept(server, file, "HostKeyAlgorithms=ssh-ed25519") == is_accepted
    assert (find_accepted_type(server, file) is not None) == is_accepted


def test_the_generated_files_are_of_both_kinds(file: Path, server: OpenSSHServer, wrong_keys: list[KeyPair]) -> None:
    verdicts = []
    for seed in SEEDS[:24]:
        file.write_bytes(generate_file(seed, server, wrong_keys))
        verdicts.append(find_accepted_type(server, file))
    assert verdicts.count(None) >= 6
    assert len({kind for kind in verdicts if kind}) >= 2
