"""Finds what an endpoint's `authentication` names, before anything is contacted: what is unusable costs no connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from runner.cancellation import Cancellation, Deadline
from runner.plan import Authentication, SshAgent, SshKey, SshKeyFile
from runner.ssh.agent import AgentKey, find_agent_keys

if TYPE_CHECKING:
    from runner.ssh.private_keys import PrivateKey

    Credential = PrivateKey | AgentKey


def find_credentials(given: Authentication, deadline: Deadline, cancellation: Cancellation) -> list[Credential]:
    """The keys that a login is tried with, in this order; none for a password. Give them to `let_go` in the end.

    Raises `CredentialUnusable`, and `Interrupted` on a signal.
    """
    match given:
        case SshKey(_, text, passphrase):
            from runner.ssh.private_keys import INLINE_KEY, parse_private_key

            return [parse_private_key(text, passphrase, INLINE_KEY)]
        case SshKeyFile(_, path, passphrase, certificate_path):
            from runner.ssh.private_keys import read_private_key

            return [read_private_key(path, passphrase, certificate_path)]
        case SshAgent(_, public_key):
            return list(find_agent_keys(public_key, deadline, cancellation))
    return []


def let_go(credentials: Iterable[Credential]) -> None:
    """No login will follow: end the conversation with the agent, if there is one."""
    for one in credentials:
        if isinstance(one, AgentKey):
            one.agent.close()
