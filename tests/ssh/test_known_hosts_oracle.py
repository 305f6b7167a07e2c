"""The real `ssh` as oracle: of hundreds of generated known_hosts files, none makes us accept a server that it refuses.

It may refuse what we accept for one reason: it asks for keys of all types, we only for those that are known, so that it is
shown another key. Then it is asked again for the types that we ask for. What we refuse although ssh accepts it is listed
in docs/host-keys.md, and `find_documented_reason` knows how to tell.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.cancellation import Cancellation, Deadline
from runner.errors import AuthenticationRefused, HostKeyRefused
from runner.plan import Endpoint, KnownHosts, UsernamePassword
from runner.ssh.host_keys import HostKeyCheck
from runner.ssh.opening import open_connection
from tests.conftest import require_sshd
from tests.servers.keys import KeyPair, generate_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.certified import ALIAS, KINDS, CertifiedServer, generate_authorities

CASE_COUNT = 400
CASES_A_TEST = 20
ALL_TYPES = ("ed25519", "ecdsa", "rsa")
PLAIN_ALGORITHMS = "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"


@dataclass(frozen=True, slots=True)
class World:
    """The servers, by what their certificates are like, and the keys of others."""

    servers: dict[str, OpenSSHServer]
    wrong_keys: tuple[KeyPair, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One question: does a client with these files, at `~/.ssh`, accept this server?"""

    kind: str
    server: OpenSSHServer
    texts: tuple[bytes, ...]
    alias: str | None

    def write(self, home: Path, texts: Sequence[bytes] = ()) -> list[Path]:
        folder = home / ".ssh"
        folder.mkdir(exist_ok=True)
        files = [folder / name for name in ("known_hosts", "known_hosts2")][: len(self.texts)]
        for file, text in zip(files, texts or self.texts, strict=True):
            file.write_bytes(text)
        return files


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_sshd()
    folder = tmp_path_factory.mktemp("oracle")
    authorities = generate_authorities(folder)
    wrong_keys = tuple(generate_key_pair(folder / f"wrong_{kind}", kind) for kind in ALL_TYPES)
    servers: dict[str, OpenSSHServer] = {
        "plain": OpenSSHServer(folder / "plain", host_key_types=ALL_TYPES),
        "plain ed25519": OpenSSHServer(folder / "plain_ed25519"),
    }
    for number, kind in enumerate(KINDS):
        more_types = ("rsa", "ed25519") if number % 2 else ()
        servers[kind] = CertifiedServer(folder / kind.replace(" ", "_"), kind, authorities, more_types)
    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server)
        yield World(servers, wrong_keys)


# --- generating ---


def generate_case(seed: int, world: World) -> Case:
    dice = random.Random(seed)
    kind = dice.choice(["plain", "plain", "plain", "plain ed25519", "good", "good", *world.servers])
    server = world.servers[kind]
    alias = dice.choice([None, None, None, ALIAS, ALIAS.upper(), "other.example", server.host])
    lines = [generate_line(dice, server, alias, world.wrong_keys) for _ in range(dice.randint(1, 6))]
    if dice.random() < 0.7:
        return Case(kind, server, (b"".join(lines),), alias)
    middle = dice.randint(0, len(lines))
    return Case(kind, server, (b"".join(lines[:middle]), b"".join(lines[middle:])), alias)


def generate_line(dice: random.Random, server: OpenSSHServer, alias: str | None, wrong: Sequence[KeyPair]) -> bytes:
    """A line of a known_hosts file that is nearly about the server, and nearly right."""
    authority = server.authority.public_line if isinstance(server, CertifiedServer) else wrong[0].public_line
    likely_markers = {True: ["@cert-authority"] * 3 + ["@revoked"], False: [""] * 7 + ["@revoked"]}
    is_about_authority = dice.random() < (0.45 if isinstance(server, CertifiedServer) else 0.1)
    marker = dice.choice(likely_markers[is_about_authority])
    if dice.random() < 0.06:
        marker = dice.choice(["@nonsense", "@revoked @cert-authority", "@cert-authority", "@revoked", ""])
    key = generate_key(dice, server, authority if is_about_authority else "", [pair.public_line for pair in wrong])
    gap = dice.choice([" ", " ", " ", " ", "  ", "\t", " \t "])
    marker_end = dice.choice([" "] * 9 + ["  ", "\t"]) if marker else ""
    comment = dice.choice(["", "", " a comment", "\tme@here", " # words"])
    lead = dice.choice([""] * 12 + [" ", "\t", "#"])
    end = dice.choice(["\n", "\n", "\n", "\r\n", "\n\n", "\n# words\n", "\0\n", "\r\n\r\n"])
    hosts = generate_hosts(dice, server, alias)
    return f"{lead}{marker}{marker_end}{hosts}{gap}{key.replace(' ', gap)}{comment}{end}".encode()


def generate_hosts(dice: random.Random, server: OpenSSHServer, alias: str | None) -> str:
    bare, full = server.host, f"[{server.host}]:{server.port}"
    name = dice.choice([bare, full, full, full, *([alias] * 6 if alias else [ALIAS])])
    exact = [name] * 4 + [hash_name(dice, name), hash_name(dice, name).replace("=", "", 1), f"other.example,{name}"]
    exact += [f"{name},!{bare}", f"!{full},{name}", name.upper(), f"{name}, ", f",{name},", f"x{name}", f"{name}?"]
    wild = ["127.0.*", "127.0.0.?", "[127.0.0.*]:*", "*", "*", f"*,!{full}", f"!{full},*", "!127.*", "[1]27.0.0.1"]
    wild += ["*.bank.example", "s?tp.*", "!*.example,*", "*" * 1100, f"{'a' * 1100},{name}", f"[{bare}]:1", "!!*"]
    return dice.choice(exact + exact + wild).strip()


def generate_key(dice: random.Random, server: OpenSSHServer, authority: str, wrong: Sequence[str]) -> str:
    right = [pair.public_line for pair in server.host_keys]
    if authority:
        return dice.choice([authority] * 6 + [*wrong[:2], right[0], authority[:-4]])
    key = dice.choice([dice.choice(right)] * 6 + [dice.choice(wrong)] * 4)
    if dice.random() < 0.8:
        return key
    odd = [key[:-4], key[:-1], key + "AAAA", "ssh-ed25519", "ssh-ed448 AAAA", "1024 35 12345", make_security_key()]
    odd += [key.replace("ssh-", "sch-"), key.replace("ssh-rsa ", "rsa-sha2-512 "), key[:50] + "\r" + key[50:]]
    odd += [key[:40] + "\v\f" + key[40:], key.replace("ssh-rsa", "ssh-dss"), key.lower(), key.replace(" ", "\r")]
    odd += [pad_modulus(key) if key.startswith("ssh-rsa") else key + "\0", key.replace("ecdsa-", "sk-ecdsa-")]
    if isinstance(server, CertifiedServer):
        odd += [" ".join(server.certificate_path.read_text().split()[:2])] * 4
    return dice.choice(odd)


def make_security_key() -> str:
    fields = (b"sk-ssh-ed25519@openssh.com", bytes(range(32)), b"ssh:")
    blob = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()}"


def pad_modulus(line: str) -> str:
    """The same RSA key, with zeros in front of its modulus."""
    blob = base64.b64decode(line.split()[1])
    start = 4 + len("ssh-rsa")
    start += 4 + int.from_bytes(blob[start : start + 4], "big")
    size = int.from_bytes(blob[start : start + 4], "big")
    padded = blob[:start] + (size + 2).to_bytes(4, "big") + b"\0\0" + blob[start + 4 :]
    return f"ssh-rsa {base64.b64encode(padded).decode()}"


def hash_name(dice: random.Random, name: str) -> str:
    salt = dice.randbytes(20)
    digest = hmac.new(salt, name.lower().encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


# --- asking ---


def ask_ssh(case: Case, files: Sequence[Path], alias: str | None, *options: str) -> bool:
    """Whether ssh accepts the server. It has no credential: a server that is accepted then refuses the login."""
    given = [
        f"UserKnownHostsFile={' '.join(str(file) for file in files)}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "PreferredAuthentications=password",
        "KexAlgorithms=curve25519-sha256",
        *options,
    ]
    given += [f"HostKeyAlias={alias}"] if alias else []
    command = ["ssh", "-F", "/dev/null", "-p", str(case.server.port)]
    command += [part for option in given for part in ("-o", option)]
    address = f"{case.server.username}@{case.server.host}"
    done = subprocess.run([*command, address, "true"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 255, done.stderr
    is_accepted = b"Permission denied" in done.stderr
    refusals = (b"Host key verification failed", b"no matching host key type")
    assert is_accepted or any(words in done.stderr for words in refusals), done.stderr
    return is_accepted


def is_accepted_by_us(endpoint: Endpoint) -> bool:
    try:
        open_connection(endpoint, Deadline.after(10), Cancellation()).close()
    except HostKeyRefused:
        return False
    except AuthenticationRefused:
        return True
    raise AssertionError("the server takes no password")


def find_documented_reason(case: Case, home: Path) -> str | None:
    """Why we may refuse what ssh accepts: the file is changed, or ssh asked otherwise, so that it must refuse as well."""
    lines = [text.split(b"\n") for text in case.texts]

    def refuses_with(edited: list[list[bytes]], *options: str, alias: str | None = case.alias) -> bool:
        files = case.write(home, [b"\n".join(one) for one in edited])
        return not ask_ssh(case, files, alias, *options)

    def is_revoked(line: bytes) -> bool:
        return line.lstrip().startswith(b"@revoked")

    tabs = [[line.replace(b"@revoked\t", b"@revoked ", 1) for line in one] for one in lines]
    if refuses_with(tabs):
        return "a tab after @revoked"
    by_certificate = "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com"
    if case.kind == "for everybody" and not refuses_with(lines, by_certificate):
        return "a certificate without principals"
    # Under the bare name alone, and with all keys known, ssh refuses only what is revoked there.
    bare = case.server.host
    known = [f"{bare} {pair.public_line}".encode() for pair in case.server.host_keys]
    revoked = [[*(line for line in one if is_revoked(line)), *known] for one in tabs]
    if case.alias is None and refuses_with(revoked, alias=bare):
        return "a key revoked under the bare name"
    if case.alias is None and refuses_with(lines, f"HostKeyAlgorithms={PLAIN_ALGORITHMS}"):
        return "a key of the bare name that came in a certificate"
    return None


def judge(case: Case, home: Path) -> str:
    """Both verdicts in a word. Raises `AssertionError` if they differ in a way that is not documented."""
    files = case.write(home)
    policy = KnownHosts((str(files[0]),) if len(files) == 1 else ())
    login = UsernamePassword(case.server.username, "wrong")
    endpoint = Endpoint(case.server.host, case.server.port, login, policy, host_key_alias=case.alias)
    is_accepted = is_accepted_by_us(endpoint)
    if is_accepted == ask_ssh(case, files, case.alias):
        return "both accept" if is_accepted else "both refuse"
    if is_accepted:
        offered = ",".join(HostKeyCheck(endpoint).algorithms)
        assert ask_ssh(case, files, case.alias, f"HostKeyAlgorithms={offered}"), "ssh refuses what we accept"
        return "ssh was shown a key of another type"
    reason = find_documented_reason(case, home)
    assert reason, "we refuse what ssh accepts"
    return reason


@pytest.mark.parametrize("first_seed", range(0, CASE_COUNT, CASES_A_TEST))
def test_nothing_is_accepted_that_ssh_refuses(world: World, home: Path, first_seed: int) -> None:
    verdicts: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CASES_A_TEST):
        case = generate_case(seed, world)
        try:
            verdicts[judge(case, home)] += 1
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\nserver: {case.kind}\nalias: {case.alias}\nfiles: {case.texts}")
    # Files that are always refused would show nothing.
    assert verdicts["both accept"] >= 1
    assert verdicts["both refuse"] >= 1


# What ssh says of each, and what we say.
@pytest.mark.parametrize(
    ("text", "does_ssh_accept", "do_we_accept"),
    [
        ("{full} {right}", True, True),
        ("{bare} {right}", True, True),
        ("{full} {wrong}\n{full} {right}", True, True),
        ("{full} {wrong}\n{bare} {right}", False, False),
        ("{full} {security_key}\n{bare} {right}", False, False),
        ("{full} {padded}", True, True),
        ("{full} {sha2}", True, True),
        ("@revoked {full} {right}\n{full} {right}", False, False),
        ("@revoked {full} {padded}\n{full} {rsa}", False, False),
        ("@revoked {full} {sha2}\n{full} {rsa}", False, False),
        ("{full} {right}\n@revoked * {right}", False, False),
        ("@revoked {full} {right}\n{bare} {right}", False, False),
        ("@revoked {full} {wrong}\n{bare} {right}", True, True),
        ("@revoked {bare} {right}\n{full} {right}", True, False),
        ("@revoked\t{full} {right}\n{full} {right}", True, False),
        ("{full} {cut}\n{bare} {right}", True, True),
        ("@cert-authority * {right}", False, False),
        ("@cert-authority {full} {wrong}\n{bare} {right}", True, True),
    ],
)
def test_names_markers_and_odd_keys_play_together(
    world: World, home: Path, text: str, does_ssh_accept: bool, do_we_accept: bool
) -> None:
    server = world.servers["plain"]
    rsa, right = server.known_host_line("rsa"), server.known_host_line("ed25519")
    keys = {"right": right, "cut": right[:-4], "wrong": world.wrong_keys[0].public_line, "rsa": rsa}
    keys |= {"security_key": make_security_key(), "padded": pad_modulus(rsa)}
    keys["sha2"] = rsa.replace("ssh-rsa ", "rsa-sha2-512 ")
    line = text.format(full=f"[{server.host}]:{server.port}", bare=server.host, **keys) + "\n"
    case = Case("plain", server, (line.encode(),), None)
    files = case.write(home)
    is_about_rsa = any(name in text for name in ("{rsa}", "{padded}", "{sha2}"))
    algorithm = "rsa-sha2-512" if is_about_rsa else "ssh-ed25519"
    assert ask_ssh(case, files, None, f"HostKeyAlgorithms={algorithm}") == does_ssh_accept
    login = UsernamePassword(server.username, "wrong")
    endpoint = Endpoint(server.host, server.port, login, KnownHosts((str(files[0]),)))
    assert is_accepted_by_us(endpoint) == do_we_accept


@pytest.mark.parametrize(
    ("alias", "text", "is_accepted"),
    [
        ("bank", "bank {right}", True),
        ("BANK", "bank {right}", True),
        ("bank", "BANK {right}", True),
        ("bank", "[bank]:{port} {right}", False),
        ("bank", "{full} {right}\n{bare} {right}", False),
        ("[bank]:7", "[bank]:7 {right}", True),
        ("bank", "bank {wrong}\n{full} {right}", False),
        ("bank", "@revoked {full} {right}\nbank {right}", True),
        ("bank", "@revoked * {right}\nbank {right}", False),
    ],
)
def test_an_alias_is_looked_up_instead_of_host_and_port(
    world: World, home: Path, alias: str, text: str, is_accepted: bool
) -> None:
    server = world.servers["plain ed25519"]
    names = {"full": f"[{server.host}]:{server.port}", "bare": server.host, "port": server.port}
    line = text.format(right=server.known_host_line(), wrong=world.wrong_keys[0].public_line, **names) + "\n"
    case = Case("plain ed25519", server, (line.encode(),), alias)
    files = case.write(home)
    assert ask_ssh(case, files, alias) == is_accepted
    login = UsernamePassword(server.username, "wrong")
    policy = KnownHosts((str(files[0]),))
    assert is_accepted_by_us(Endpoint(server.host, server.port, login, policy, host_key_alias=alias)) == is_accepted
