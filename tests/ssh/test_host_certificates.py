"""Host certificates: which are accepted, which are refused and why, and that damaged ones are refused as well."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import paramiko
import pytest

from runner.cancellation import Cancellation, Deadline
from runner.errors import AuthenticationRefused, HostKeyRefused
from runner.plan import Endpoint, KnownHosts, PinnedKeys, UsernamePassword
from runner.ssh.host_certificates import parse_certificate
from runner.ssh.host_keys import HostKeyCheck
from runner.ssh.opening import open_connection
from runner.ssh.transport import StrictTransport
from tests.conftest import require_sshd
from tests.servers.keys import KeyPair, generate_key_pair, sign_host_key
from tests.ssh.certified import ALIAS, GOOD, KINDS, CertifiedServer, generate_authorities

StartServer = Callable[[str], CertifiedServer]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, KeyPair]:
    return generate_authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(scope="module")
def start_server(
    tmp_path_factory: pytest.TempPathFactory, authorities: dict[str, KeyPair]
) -> Iterator[Callable[[str], CertifiedServer]]:
    """A server with a certificate of that kind, and an RSA key without one."""
    require_sshd()
    running: dict[str, CertifiedServer] = {}
    with ExitStack() as stack:

        def start(kind: str) -> CertifiedServer:
            if kind not in running:
                server = CertifiedServer(tmp_path_factory.mktemp("certified"), kind, authorities, ("rsa",))
                running[kind] = stack.enter_context(server)
            return running[kind]

        yield start


def connect(server: CertifiedServer, policy: KnownHosts | PinnedKeys, alias: str | None = None) -> None:
    """Raises `HostKeyRefused`; a server whose key is accepted is then shown a password that it does not take."""
    endpoint = Endpoint(
        server.host, server.port, UsernamePassword(server.username, "wrong"), policy, host_key_alias=alias
    )
    with pytest.raises(AuthenticationRefused):
        open_connection(endpoint, Deadline.after(10), Cancellation())


def refuse(server: CertifiedServer, policy: KnownHosts | PinnedKeys, alias: str | None = None) -> str:
    endpoint = Endpoint(
        server.host, server.port, UsernamePassword(server.username, "wrong"), policy, host_key_alias=alias
    )
    with pytest.raises(HostKeyRefused) as caught:
        open_connection(endpoint, Deadline.after(10), Cancellation())
    return caught.value.message


def write(folder: Path, *lines: str) -> KnownHosts:
    file = folder / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return KnownHosts((str(file),))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("good")])
@pytest.mark.parametrize("hosts", ["127.0.0.1", "[127.0.0.1]:{port}", "127.0.0.*,!127.0.0.2"])
def test_a_certificate_of_a_known_authority_is_accepted(
    start_server: StartServer, tmp_path: Path, kind: str, hosts: str
) -> None:
    server = start_server(kind)
    connect(server, write(tmp_path, f"@cert-authority {hosts.format(port=server.port)} {server.authority.public_line}"))


@pytest.mark.parametrize("hosts", ["", "*.bank.example ", "127.0.0.1 "])
def test_an_authority_can_be_pinned_in_the_playbook(start_server: StartServer, hosts: str) -> None:
    server = start_server("good")
    connect(server, PinnedKeys((f"@cert-authority {hosts}{server.authority.public_line} our authority",)))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("for the alias only", f"it is for {ALIAS}, not for 127.0.0.1"),
        ("for other hosts", "it is for other.example, 127.0.0.1.example, not for 127.0.0.1"),
        ("for everybody", "it is for no host at all"),
        ("for a wildcard", "it is for *, not for"),
        ("expired", "it has expired ("),
        ("not yet valid", "it is not valid before "),
        ("for users", "it is a certificate for users"),
        ("with a critical option", "it has critical options, and none is defined for hosts: colour"),
        ("signed with SHA-1", "it is signed with ssh-rsa, which is not accepted"),
    ],
)
def test_a_certificate_that_does_not_count_is_refused_with_the_reason(
    start_server: StartServer, tmp_path: Path, kind: str, reason: str
) -> None:
    server = start_server(kind)
    policy = write(tmp_path, f"@cert-authority * {server.authority.public_line}")
    message = refuse(server, policy)
    assert f"showed ssh-ed25519 {server.fingerprint()} (unverified) with a certificate that does not count: " in message
    assert reason in message
    authority = f"{server.authority.algorithm} {server.authority.fingerprint}"
    assert f"expected a certificate signed by {authority} ({policy.paths[0]}:1)" in message
    needs_another = "It looks like a host of this authority that needs another certificate"
    assert (needs_another in message) == (kind != "signed with SHA-1")
    assert server.wait_for_log("[preauth]")
    assert not server.wait_for_log("userauth", timeout_seconds=0.05)


def test_an_unknown_extension_does_no_harm(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("with an unknown extension")
    connect(server, write(tmp_path, f"@cert-authority * {server.authority.public_line}"))


def test_a_certificate_of_another_authority_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("good")
    other = generate_key_pair(tmp_path / "other").public_line
    message = refuse(server, write(tmp_path, f"@cert-authority * {other}"))
    assert f"it is signed by ssh-ed25519 {server.authority.fingerprint}, which is no known authority" in message
    assert "It looks like a rotated key, or another machine" in message


@pytest.mark.parametrize("kind", ["good", "expired", "for other hosts", "for users"])
def test_the_key_in_a_certificate_may_be_known_by_itself(start_server: StartServer, tmp_path: Path, kind: str) -> None:
    server = start_server(kind)
    other = generate_key_pair(tmp_path / "other").public_line
    for authority in (server.authority.public_line, other):
        connect(server, write(tmp_path, f"@cert-authority * {authority}", server.known_hosts_line("ed25519")))


def test_a_revoked_authority_is_refused_even_if_the_key_is_known(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("good")
    other = generate_key_pair(tmp_path / "other").public_line
    revoked = f"@revoked * {server.authority.public_line}"
    lines = [f"@cert-authority * {server.authority.public_line}", revoked]
    assert "is not known" in refuse(server, write(tmp_path, *lines))
    lines += [f"@cert-authority * {other}", server.known_hosts_line("ed25519")]
    message = refuse(server, write(tmp_path, *lines))
    assert f"a revoked authority: ssh-ed25519 {server.fingerprint()} (unverified), signed by ssh-ed25519 " in message
    assert message.count(f"{tmp_path}/known_hosts:2") == 1


@pytest.mark.parametrize("form", ["key", "certificate"])
def test_a_revoked_key_is_refused_inside_a_certificate(start_server: StartServer, tmp_path: Path, form: str) -> None:
    server = start_server("good")
    revoked = server.known_host_line("ed25519")
    if form == "certificate":
        revoked = server.certificate_path.read_text()
    message = refuse(
        server, write(tmp_path, f"@cert-authority * {server.authority.public_line}", f"@revoked * {revoked}")
    )
    assert f"showed a revoked host key: ssh-ed25519 {server.fingerprint()} ({tmp_path}/known_hosts:2)" in message


def test_a_server_without_certificates_is_refused_where_only_an_authority_is_known(
    tmp_path: Path, authorities: dict[str, KeyPair], start_server: StartServer
) -> None:
    server = start_server("good")
    server_rsa_only = server.known_host_line("rsa")
    # The RSA key has no certificate, and it is known: the certificate of the other key is asked for first all the same.
    wrong_authority = f"@cert-authority * {authorities['rsa'].public_line}"
    message = refuse(server, write(tmp_path, wrong_authority, f"[127.0.0.1]:{server.port} {server_rsa_only}"))
    assert f"showed ssh-ed25519 {server.fingerprint()} (unverified) with a certificate" in message
    connect(server, write(tmp_path, f"[127.0.0.1]:{server.port} {server_rsa_only}"))


@pytest.mark.parametrize("kind", ["good", "for the alias only"])
def test_a_certificate_is_for_the_alias_if_there_is_one(start_server: StartServer, tmp_path: Path, kind: str) -> None:
    server = start_server(kind)
    policy = write(tmp_path, f"@cert-authority *.bank.example {server.authority.public_line}")
    connect(server, policy, alias=ALIAS)
    connect(server, policy, alias=ALIAS.upper())
    assert "is not known" in refuse(server, policy)
    everywhere = write(tmp_path, f"@cert-authority * {server.authority.public_line}")
    assert f"not for x.{ALIAS}" in refuse(server, everywhere, alias=f"x.{ALIAS}")


# --- damaged certificates ---


def test_no_bit_of_a_certificate_can_be_changed(tmp_path: Path, authorities: dict[str, KeyPair]) -> None:
    for key_type in ("ed25519", "ecdsa"):
        key = generate_key_pair(tmp_path / key_type, key_type)
        path = sign_host_key(authorities[key_type], key, tmp_path / f"{key_type}-c", GOOD.principals)
        blob = base64.b64decode(path.read_text().split()[1])
        assert parse_certificate(blob).is_signed()
        # The authority's own key is looked up among the known ones.
        authority = base64.b64decode(authorities[key_type].public_line.split()[1])
        for position in range(len(blob)):
            damaged = bytearray(blob)
            damaged[position] ^= 1
            try:
                certificate = parse_certificate(bytes(damaged))
                is_accepted = certificate.is_signed() and certificate.authority_blob == authority
            except ValueError:
                continue
            assert not is_accepted, position


def test_a_certificate_that_is_cut_off_or_too_long_is_none(tmp_path: Path, authorities: dict[str, KeyPair]) -> None:
    path = sign_host_key(authorities["ecdsa"], authorities["rsa"], tmp_path / "c", GOOD.principals)
    blob = base64.b64decode(path.read_text().split()[1])
    assert parse_certificate(blob).find_fault(ALIAS, time.time()) == ""
    for damaged in [*(blob[:length] for length in range(len(blob))), blob + b"\0"]:
        with pytest.raises(ValueError, match="certificate"):
            parse_certificate(damaged)


@pytest.mark.parametrize("change", ["its signature", "a byte behind it", "its end", "a signature of nothing"])
def test_a_damaged_certificate_is_refused_even_if_the_key_in_it_is_known(
    start_server: StartServer, tmp_path: Path, change: str
) -> None:
    server = start_server("good")
    blob = base64.b64decode(server.certificate_path.read_text().split()[1])
    damaged = {
        "its signature": blob[:-1] + bytes([blob[-1] ^ 1]),
        "a byte behind it": blob + b"\0",
        "its end": blob[:-1],
        "a signature of nothing": blob[:-68] + bytes(68),
    }[change]
    policy = write(tmp_path, f"@cert-authority * {server.authority.public_line}", server.known_hosts_line("ed25519"))
    endpoint = Endpoint(server.host, server.port, UsernamePassword("u", "p"), policy)
    for certificate, is_refused in ((blob, False), (damaged, True)):
        check = HostKeyCheck(endpoint)
        try:
            check.missing_host_key(None, "", paramiko.Ed25519Key(data=certificate))
        except HostKeyRefused as error:
            assert is_refused
            assert "a certificate that is damaged or forged" in error.message
        assert bool(check.trusted_by) != is_refused


@pytest.mark.parametrize(
    ("agreed", "is_certificate_sent"),
    [("ssh-ed25519", True), ("ssh-ed25519-cert-v01@openssh.com", False)],
)
def test_a_key_is_no_answer_to_a_question_for_a_certificate_nor_the_other_way_round(
    start_server: StartServer, agreed: str, is_certificate_sent: bool
) -> None:
    """paramiko takes either for the other."""
    server = start_server("good")
    line = server.certificate_path.read_text() if is_certificate_sent else server.known_host_line("ed25519")
    with closing(socket.socket()) as sock:
        transport = StrictTransport(sock, (agreed,))
        transport.host_key_type = agreed
        with pytest.raises(paramiko.SSHException, match=f"not {agreed}"):
            transport._verify_key(base64.b64decode(line.split()[1]), b"")
