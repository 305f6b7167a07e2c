"""User certificates, from a file and through the agent: let in where the key alone is not; a refusal says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, require_sshd
from tests.servers.keys import KeyPair, generate_key_pair, sign_host_key
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import running_agent
from tests.ssh.logins import agent, assert_failed, assert_let_in, assert_refused_at_once, count_offers, key_file, play


@dataclass(frozen=True, slots=True)
class Authority:
    """An sshd that lets in whoever the authority has signed for, and nobody else."""

    server: OpenSSHServer
    key: KeyPair

    def certify(
        self,
        key: KeyPair,
        *principals: str,
        validity: str = "-1h:+1h",
        is_host: bool = False,
        options: tuple[str, ...] = (),
    ) -> Path:
        """A certificate beside the key, where ssh-add looks for it."""
        public_path = key.path.with_name(f"{key.path.name}.pub")
        sign_host_key(
            self.key, key, public_path, principals, validity=validity, is_for_users=not is_host, options=options
        )
        return key.path.with_name(f"{key.path.name}-cert.pub")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    require_sshd()
    folder = tmp_path_factory.mktemp("authority")
    key = generate_key_pair(folder / "ca")
    trust = f"TrustedUserCAKeys {folder / 'ca.pub'}"
    with OpenSSHServer(folder, extra_config=(trust, "AuthorizedKeysFile none", "LogLevel VERBOSE")) as server:
        yield Authority(server, key)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_in_the_agent_lets_in(
    runner: Runner, authority: Authority, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Named by the key's public half, by its own line, or not named."""
    key = generate_key_pair(tmp_path / "key", kind)
    path = authority.certify(key, authority.server.username)
    with running_agent() as running:
        running.add(key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        for given in (agent(), agent(public_key=key.public_line), agent(public_key=path.read_text())):
            assert_let_in(play(runner, authority.server, remote, given), remote)
            (remote / "file").unlink()
    assert authority.server.wait_for_log("Accepted certificate ID")


def test_a_named_key_is_offered_with_its_certificate_and_nothing_else(
    runner: Runner, authority: Authority, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly the named certificate, or all that there is of the named key."""
    mine, others = generate_key_pair(tmp_path / "mine"), [generate_key_pair(tmp_path / f"{n}") for n in range(3)]
    path = authority.certify(mine, "somebody else")
    for other in others:
        authority.certify(other, authority.server.username)
    with running_agent() as running:
        running.add(*others, mine)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        for line, count in ((mine.public_line, 2), (path.read_text(), 1)):
            outcome = play(runner, authority.server, remote, agent(public_key=line))
            assert_failed(outcome, remote, 4, "AuthenticationRefused", mine.fingerprint)
            assert f"{count - 1} more" not in outcome.step["error"]["message"]
            assert outcome.stderr.count("Authentication (publickey) failed") == count


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"validity": "20200101:20200102"}, "it has expired (2020-01-0"),
    "not valid before": ({"validity": "+2h:+3h"}, "it is not valid before 20"),
    "for others": ({"principals": ("alice", "bob")}, "it is for alice, bob; has the server other names"),
    "for nobody": ({"principals": ()}, "it does not say whom it is for"),
    "for a host": ({"is_host": True}, "it is for a host, not for users"),
    "from elsewhere": ({"options": ("source-address=192.0.2.1/32",)}, "good from certain addresses only"),
}


# Of the others the server may know better.
CERTAIN = ("expired", "not valid before", "for a host")


@pytest.mark.parametrize("way", ["file", "agent"])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_certificate_that_is_refused_says_what_is_wrong_with_it(
    runner: Runner,
    authority: Authority,
    tmp_path: Path,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    way: str,
) -> None:
    wanted, words = REFUSALS[name]
    key = generate_key_pair(tmp_path / "key")
    principals = wanted.get("principals", (authority.server.username,))
    path = authority.certify(key, *principals, **{k: v for k, v in wanted.items() if k != "principals"})
    with running_agent() as running, count_offers(authority.server):
        if way == "file":
            outcome = play(runner, authority.server, remote, key_file(key.path, certificate_file=str(path)))
        else:
            running.add(key)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
            outcome = play(runner, authority.server, remote, agent())
    if way == "file" and name in CERTAIN:
        assert_refused_at_once(outcome, remote, str(path), words)
    else:
        assert_failed(outcome, remote, 4, "AuthenticationRefused", key.fingerprint, words, authority.server.username)
