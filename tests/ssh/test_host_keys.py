"""Strict host keys in whole plays: what is accepted, what is refused, and that a refused server saw no credential."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, require_sshd, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.keys import generate_key_pair, shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.certified import CertifiedServer, generate_authorities
from tests.ssh.logins import assert_refused_at_once

WRONG = shared_key_pair("ed25519")
WRONG_RSA = shared_key_pair("rsa")
ALL_TYPES = ("ed25519", "ecdsa", "rsa")


@pytest.fixture(scope="module")
def many_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """An sshd with a host key of every type; it shows ed25519 to whoever takes all."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("many-keys"), host_key_types=ALL_TYPES) as server:
        yield server


def pin(*lines: str) -> dict[str, Any]:
    return {"hostkey_mode": "known_host", "known_host": lines[0] if len(lines) == 1 else list(lines)}


def fingerprint(*texts: str) -> dict[str, Any]:
    return {"hostkey_mode": "fingerprint", "fingerprint": texts[0] if len(texts) == 1 else list(texts)}


def known_hosts(path: Path, *lines: str) -> dict[str, Any]:
    path.write_text("".join(f"{line}\n" for line in lines))
    return {"hostkey_mode": "known_hosts_file", "known_hosts_file": str(path)}


def play(runner: Runner, server: Endpoint, remote: Path, hostkey: dict[str, Any] | None) -> Outcome:
    """Upload one file under the given host key input; None leaves it out."""
    (runner.folder / "file").write_text("content")
    only = step(server, upload("file", remote / "file"), hostkey=hostkey)
    if hostkey is None:
        del only["hostkey"]
    return runner.play([only])


def assert_accepted(outcome: Outcome, remote: Path) -> None:
    assert outcome.exit_code == 0, outcome.output
    assert (remote / "file").read_text() == "content"


def assert_refused(outcome: Outcome, server: Endpoint, remote: Path, *words: str) -> None:
    """Exit code 5, an error that names everything needed, nothing written, nobody logged in."""
    assert outcome.exit_code == 5, outcome.output
    assert outcome.statuses == ["failed"]
    error = outcome.step["error"]
    assert error["type"] == "HostKeyRefused"
    for word in words:
        assert word in error["message"], error["message"]
        assert word in outcome.output
    assert f"`runner hostkey {server.host}:{server.port}`" in error["hint"]
    assert list(remote.iterdir()) == []


# --- pinned keys ---


def test_a_pinned_key_is_accepted_bare_with_a_comment_or_as_a_known_hosts_line(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    bare = sshd.known_host_line()
    for line in (bare, f"{bare} root@bank", f"[{sshd.host}]:{sshd.port} {bare}", f"sftp.bank.example  {bare}\r\n"):
        assert_accepted(play(runner, sshd, remote, pin(line)), remote)


def test_a_list_of_pinned_keys_holds_the_old_and_the_new_one(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    assert_accepted(play(runner, sshd, remote, pin(WRONG.public_line, sshd.known_host_line())), remote)


def test_several_lines_in_one_string_hold_the_old_and_the_new_key(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    text = f"# until May\n{WRONG.public_line} old\n\n# from May on\n  {sshd.known_hosts_line()} new\n"
    assert_accepted(play(runner, sshd, remote, pin(text)), remote)


def test_the_output_of_the_hostkey_command_can_be_pinned_as_it_is(
    runner: Runner, many_keys: OpenSSHServer, remote: Path
) -> None:
    printed = runner("hostkey", f"{many_keys.host}:{many_keys.port}").stdout
    assert_accepted(play(runner, many_keys, remote, pin(printed)), remote)


@pytest.mark.parametrize("kind", ALL_TYPES)
def test_only_the_known_type_is_asked_for(runner: Runner, many_keys: OpenSSHServer, remote: Path, kind: str) -> None:
    outcome = play(runner, many_keys, remote, pin(many_keys.known_host_line(kind)))
    assert_accepted(outcome, remote)


def test_another_key_than_the_pinned_one_is_refused(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    outcome = play(runner, asyncssh_server, remote, pin(WRONG.public_line))
    shown = f"showed ssh-ed25519 {asyncssh_server.fingerprint()} (unverified)"
    expected = f"expected ssh-ed25519 {WRONG.fingerprint} (the playbook's hostkey)"
    assert_refused(outcome, asyncssh_server, remote, shown, expected, "no credential was sent")
    assert asyncssh_server.connection_count == 1
    assert asyncssh_server.login_events == []


def test_sshd_sees_no_login_before_its_key_is_accepted(runner: Runner, tmp_path: Path, remote: Path) -> None:
    require_sshd()
    with OpenSSHServer(tmp_path / "sshd") as server:
        outcome = play(runner, server, remote, pin(WRONG.public_line))
        assert_refused(outcome, server, remote, server.fingerprint(), WRONG.fingerprint)
        assert server.wait_for_log("[preauth]")
        assert not server.wait_for_log("userauth", timeout_seconds=0.3)
        assert_accepted(play(runner, server, remote, pin(server.known_host_line())), remote)
        assert server.wait_for_log("userauth")


def test_a_server_without_a_key_of_the_pinned_type_is_refused_and_its_key_is_told(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    outcome = play(runner, asyncssh_server, remote, pin(WRONG_RSA.public_line))
    shown = f"showed ssh-ed25519 {asyncssh_server.fingerprint()} (unverified)"
    assert_refused(outcome, asyncssh_server, remote, shown, f"expected ssh-rsa {WRONG_RSA.fingerprint}")
    assert asyncssh_server.login_events == []


def test_every_pinned_key_is_named_in_a_refusal(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    outcome = play(runner, asyncssh_server, remote, pin(WRONG.public_line, WRONG_RSA.public_line))
    assert_refused(outcome, asyncssh_server, remote, WRONG.fingerprint, " or ssh-rsa " + WRONG_RSA.fingerprint)


def test_a_key_that_was_cut_off_while_copying_is_found_before_anything_is_contacted(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    for line in (asyncssh_server.known_host_line()[:-4], WRONG_RSA.public_line[:-40]):
        outcome = play(runner, asyncssh_server, remote, pin(line))
        assert outcome.exit_code == 3, outcome.output
        assert "cut off" in outcome.stderr
    assert asyncssh_server.connection_count == 0


# --- fingerprints ---


def test_a_fingerprint_is_accepted_alone_and_in_a_list(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    assert_accepted(play(runner, sshd, remote, fingerprint(sshd.fingerprint())), remote)
    assert_accepted(play(runner, sshd, remote, fingerprint(WRONG.fingerprint, sshd.fingerprint())), remote)


@pytest.mark.parametrize("kind", ALL_TYPES)
def test_a_fingerprint_of_any_of_the_servers_keys_is_accepted(
    runner: Runner, many_keys: OpenSSHServer, remote: Path, kind: str
) -> None:
    assert_accepted(play(runner, many_keys, remote, fingerprint(many_keys.fingerprint(kind))), remote)


def test_a_fingerprint_of_none_of_the_servers_keys_is_refused(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, host_key_types=("ed25519", "rsa")) as server:
        outcome = play(runner, server, remote, fingerprint(WRONG.fingerprint))
        shown = f"showed ssh-ed25519 {server.fingerprint()} (unverified)"
        assert_refused(outcome, server, remote, shown, f"expected {WRONG.fingerprint} (the playbook's hostkey)")
        assert server.login_events == []


# --- known_hosts files ---


def test_a_known_hosts_file_beside_the_playbook_is_used(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    known_hosts(runner.folder / "known_hosts", f"junk\n@what is this\n{sshd.known_hosts_line()}")
    hostkey = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "known_hosts"}
    assert_accepted(play(runner, sshd, remote, hostkey), remote)


def test_a_wrong_key_beside_a_right_one_of_another_type_in_known_hosts(
    runner: Runner, many_keys: OpenSSHServer, remote: Path
) -> None:
    """The file knows rsa only: that ed25519 would be another key than anybody knows does not matter."""
    file = runner.folder / "known_hosts"
    hostkey = known_hosts(file, f"other.example {WRONG.public_line}", many_keys.known_hosts_line("rsa"))
    assert_accepted(play(runner, many_keys, remote, hostkey), remote)


def test_another_key_than_in_known_hosts_is_refused_with_the_line_to_look_at(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    name = f"[{asyncssh_server.host}]:{asyncssh_server.port}"
    file = runner.folder / "known_hosts"
    outcome = play(runner, asyncssh_server, remote, known_hosts(file, "# old", f"{name} {WRONG.public_line}"))
    shown = f"showed ssh-ed25519 {asyncssh_server.fingerprint()} (unverified)"
    assert_refused(outcome, asyncssh_server, remote, shown, f"{WRONG.fingerprint} ({file}:2)")
    assert asyncssh_server.login_events == []


def test_an_unknown_host_is_not_even_contacted(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    file = runner.folder / "known_hosts"
    outcome = play(runner, asyncssh_server, remote, known_hosts(file, f"other.example {WRONG.public_line}"))
    assert_refused(outcome, asyncssh_server, remote, "is not known", str(file), "nothing was sent")
    assert asyncssh_server.connection_count == 0


def test_lines_that_could_not_be_read_are_named_when_the_host_is_unknown(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    file = runner.folder / "known_hosts"
    outcome = play(runner, asyncssh_server, remote, known_hosts(file, asyncssh_server.known_hosts_line()[:-8]))
    assert_refused(outcome, asyncssh_server, remote, "is not known", f"{file}:1: line skipped", "cut off")


def test_a_revoked_key_is_refused_although_another_line_knows_it(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        lines = [server.known_hosts_line(), f"@revoked * {server.known_host_line()}"]
        outcome = play(runner, server, remote, known_hosts(tmp_path / "known_hosts", *lines))
        assert_refused(outcome, server, remote, "is not known", "1 marked @revoked")
        other = generate_key_pair(tmp_path / "other").public_line
        lines.append(f"[{server.host}]:{server.port} {other}")
        outcome = play(runner, server, remote, known_hosts(tmp_path / "known_hosts", *lines))
        assert outcome.exit_code == 5, outcome.output
        assert f"revoked host key: ssh-ed25519 {server.fingerprint()}" in outcome.output
        assert server.login_events == []


def test_verbose_output_tells_where_the_key_is_known_from_and_which_lines_were_skipped(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    file = runner.folder / "known_hosts"
    hostkey = known_hosts(file, "junk", sshd.known_hosts_line(), *["h ssh-ed448 A"] * 12)
    steps = [step(sshd, upload("file", remote / name), hostkey=hostkey) for name in ("a", "b")]
    for arguments, is_told in ((["-v"], True), ([], False)):
        outcome = runner.play(steps, *arguments)
        assert outcome.exit_code == 0, outcome.output
        told = f"connected    {sshd.host}:{sshd.port} [{sshd.host}:{sshd.port}]  host key known by {file}:2"
        assert outcome.stdout.count(told) == is_told
        assert outcome.stdout.count(f"warning: {file}:1: line skipped: expected hosts, key type and key") == is_told
        assert outcome.stdout.count("and 3 more warnings") == is_told


def test_a_key_under_an_alias_is_accepted_and_a_refusal_names_the_alias(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    file = runner.folder / "known_hosts"
    hostkey = known_hosts(file, f"bank.example {asyncssh_server.known_host_line()}")
    mode = upload("file", remote / "file")
    outcome = runner.play([step(asyncssh_server, mode, hostkey=hostkey, host_key_alias="other.example")])
    assert outcome.exit_code == 5, outcome.output
    address = f"{asyncssh_server.host}:{asyncssh_server.port}"
    assert f"the host {address} (known as other.example) is not known" in outcome.output
    assert f"`runner hostkey --host-key-alias other.example {address}`" in outcome.output
    assert asyncssh_server.connection_count == 0
    assert_accepted(runner.play([step(asyncssh_server, mode, hostkey=hostkey, host_key_alias="BANK.example")]), remote)


# --- what a refused key looks like ---


def test_a_key_that_is_known_for_another_host_looks_like_another_machine(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    file = runner.folder / "known_hosts"
    name, shown = f"[{asyncssh_server.host}]:{asyncssh_server.port}", asyncssh_server.known_host_line()
    lines = [f"{name} {WRONG.public_line}", f"old.example,10.0.0.1 {shown}"]
    outcome = play(runner, asyncssh_server, remote, known_hosts(file, *lines))
    looks = f"It looks like another machine: this key is known for old.example,10.0.0.1 ({file}:2)"
    assert_refused(outcome, asyncssh_server, remote, looks)


@pytest.mark.parametrize(
    ("pinned", "looks"),
    [
        (
            [WRONG.public_line],
            "like a rotated key, or another machine: the ssh-ed25519 key that is known is another one",
        ),
        (
            [WRONG_RSA.public_line],
            "like another type of key, or another machine: ssh-rsa is known, and ssh-ed25519 is not",
        ),
        ([f"@cert-authority {WRONG.public_line}"], "like a rotated key, or another machine"),
    ],
)
def test_a_refusal_says_what_it_looks_like(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, pinned: list[str], looks: str
) -> None:
    outcome = play(runner, asyncssh_server, remote, pin(*pinned))
    assert_refused(outcome, asyncssh_server, remote, f"It looks {looks}", asyncssh_server.fingerprint())
    assert asyncssh_server.login_events == []


def test_a_host_with_a_certificate_is_accepted_and_a_refused_one_sees_no_login(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    require_sshd()
    authorities = generate_authorities(tmp_path)
    for kind, exit_code in (("good", 0), ("expired", 5)):
        (tmp_path / kind).mkdir()
        with CertifiedServer(tmp_path / kind, kind, authorities) as server:
            outcome = play(runner, server, remote, pin(f"@cert-authority * {server.authority.public_line}"))
            assert outcome.exit_code == exit_code, outcome.output
            assert server.wait_for_log("[preauth]")
            assert server.wait_for_log("userauth", timeout_seconds=0.3) == (exit_code == 0)


def test_a_missing_known_hosts_file_is_refused_by_name(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    hostkey = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "nowhere/known_hosts"}
    outcome = play(runner, asyncssh_server, remote, hostkey)
    file = str(runner.folder / "nowhere/known_hosts")
    assert_refused_at_once(outcome, remote, f"cannot read the known_hosts file {file}", "No such file")
    assert asyncssh_server.connection_count == 0


@pytest.mark.parametrize("hostkey", [None, {"hostkey_mode": "known_hosts_file"}])
@pytest.mark.parametrize("name", ["known_hosts", "known_hosts2"])
def test_without_a_choice_the_users_known_hosts_decide(
    runner: Runner, sshd: OpenSSHServer, remote: Path, home: Path, hostkey: dict[str, Any] | None, name: str
) -> None:
    refused = play(runner, sshd, remote, hostkey)
    assert_refused(refused, sshd, remote, "is not known", "known_hosts")
    (home / ".ssh").mkdir()
    (home / ".ssh" / name).write_text(sshd.known_hosts_line() + "\n")
    assert_accepted(play(runner, sshd, remote, hostkey), remote)


def test_no_known_hosts_file_is_written(runner: Runner, sshd: OpenSSHServer, remote: Path, home: Path) -> None:
    assert_accepted(play(runner, sshd, remote, pin(sshd.known_host_line())), remote)
    assert play(runner, sshd, remote, None).exit_code == 5
    assert list(home.iterdir()) == []
