"""Logs in exactly the way a step says, with no fallback to any other credential.

One method may be split in two by the server: a password may be asked for by keyboard-interactive, and a key may be
followed by a password when the server wants both.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.agent import AgentSSH

from runner.cancellation import Deadline
from runner.errors import AuthenticationRefused, CredentialUnusable
from runner.plan import Endpoint, SshAgent, SshKey, SshKeyFile, UsernamePassword
from runner.public_keys import find_public_key
from runner.ssh.private_keys import parse_private_key, read_private_key

# A password prompt may follow others ("Verification code:"); a server that keeps asking is not given answers for ever.
MAX_PROMPT_ROUNDS = 5
AGENT_TIMEOUT_SECONDS = 10.0


class ExplicitAuthentication(paramiko.AuthStrategy):
    """Authenticates as one endpoint's `authentication` says. `method` tells afterwards how."""

    def __init__(self, endpoint: Endpoint, deadline: Deadline) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._endpoint = endpoint
        self._given = endpoint.authentication
        self._deadline = deadline
        self.method = ""
        # Keys are read before anything is sent, so that an unusable one costs no connection.
        self._keys = self._load_keys()

    def _load_keys(self) -> list[paramiko.PKey]:
        match self._given:
            case SshKey(_, text, passphrase):
                return [parse_private_key(text, passphrase, "the private key in 'ssh_key'")]
            case SshKeyFile(_, path, passphrase, certificate_path):
                return [read_private_key(path, passphrase, certificate_path)]
            case SshAgent(_, public_key):
                return _keys_of_agent(public_key, self._deadline)
        return []

    def authenticate(self, transport: paramiko.Transport) -> Any:
        """Called by the client once the host key is accepted. Raises `AuthenticationRefused`."""
        # Nothing is tried twice: a wrong password must not lock an account.
        if isinstance(self._given, UsernamePassword):
            remaining = self._try_password(transport, self._given.password)
        else:
            remaining = self._try_keys(transport)
        if not transport.is_authenticated():
            self._finish(transport, remaining)
        return paramiko.AuthResult(self)

    def _try_keys(self, transport: paramiko.Transport) -> list[str]:
        allowed: list[str] = []
        for key in self._keys:
            try:
                remaining = transport.auth_publickey(self._given.username, key)
                self.method = "publickey"
                return list(remaining)
            except paramiko.BadAuthenticationType as error:
                allowed = list(error.allowed_types)
                break
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    break
        shown = ", ".join(f"{key.get_name()} {key.fingerprint}" for key in self._keys[:3])
        more = f" and {len(self._keys) - 3} more" if len(self._keys) > 3 else ""
        raise self._refusal(f"the key {shown}{more}", allowed)

    def _try_password(self, transport: paramiko.Transport, password: str) -> list[str]:
        username = self._given.username
        try:
            remaining = transport.auth_password(username, password, fallback=False)
            self.method = (self.method + "+" if self.method else "") + "password"
            return list(remaining)
        except paramiko.BadAuthenticationType as error:
            if "keyboard-interactive" not in error.allowed_types:
                raise self._refusal("the password", list(error.allowed_types)) from error
        except paramiko.AuthenticationException as error:
            raise self._refusal("the password", []) from error
        try:
            remaining = transport.auth_interactive(username, answer_password_prompts(password))
            self.method = (self.method + "+" if self.method else "") + "keyboard-interactive"
            return list(remaining)
        except paramiko.AuthenticationException as error:
            raise self._refusal("the password", []) from error

    def _finish(self, transport: paramiko.Transport, remaining: list[str]) -> None:
        """The server accepted the first factor and wants another one."""
        password = getattr(self._given, "password", None)
        wants_password = {"password", "keyboard-interactive"} & set(remaining)
        if isinstance(self._given, UsernamePassword) or not wants_password or password is None:
            hint = "Add 'password' beside the key." if wants_password else ""
            raise AuthenticationRefused(
                f"{self._who} was asked for more than the step gives: after {self.method} the server also wants "
                f"{' or '.join(remaining) or 'another method'}",
                hint=hint or "Only a key followed by a password is supported.",
            )
        self._try_password(transport, password)
        if not transport.is_authenticated():
            raise self._refusal("a key and a password", [])

    @property
    def _who(self) -> str:
        return f"{self._given.username}@{self._endpoint}"

    def _refusal(self, what: str, allowed: list[str]) -> AuthenticationRefused:
        offers = f"; the server takes {', '.join(allowed)}" if allowed else ""
        hints = {
            UsernamePassword: "Check 'username' and 'password'; after several refusals an account may be locked.",
            SshAgent: "Is the key in the agent (ssh-add -l), and is it in the server's authorized_keys?",
        }
        hint = hints.get(type(self._given), "Is the key's public half in this user's authorized_keys on the server?")
        return AuthenticationRefused(f"{self._who} was not let in: {what} was refused{offers}", hint=hint)


def answer_password_prompts(password: str) -> Callable[[str, str, list[tuple[str, bool]]], list[str]]:
    """A handler for keyboard-interactive that answers hidden prompts with the password, a bounded number of times."""
    rounds = 0

    def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        nonlocal rounds
        rounds += bool(prompts)
        if rounds > MAX_PROMPT_ROUNDS:
            raise paramiko.AuthenticationException("the server keeps asking")
        # What is echoed is no password prompt: the password must not end up on a screen or in a log.
        return ["" if is_echoed else password for _, is_echoed in prompts]

    return answer


def _keys_of_agent(public_key: str | None, deadline: Deadline) -> list[paramiko.PKey]:
    keys: list[paramiko.PKey] = list(_ask_agent(deadline))
    if public_key is not None:
        wanted = find_public_key(public_key)
        keys = [key for key in keys if key.asbytes() == wanted.blob]
        if not keys:
            raise CredentialUnusable(
                f"the SSH agent does not hold the key {wanted.type} {wanted.fingerprint}", hint="Add it with ssh-add."
            )
    if not keys:
        raise CredentialUnusable("the SSH agent holds no key", hint="Add one with ssh-add.")
    return keys


def _ask_agent(deadline: Deadline) -> tuple[paramiko.AgentKey, ...]:
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        raise CredentialUnusable(
            "there is no SSH agent: SSH_AUTH_SOCK is not set", hint="Start one: eval $(ssh-agent); ssh-add."
        )
    agent_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A stale or stopped agent must not hang the play, neither now nor when it is asked to sign.
    agent_socket.settimeout(min(AGENT_TIMEOUT_SECONDS, max(1.0, deadline.remaining_seconds)))
    agent = AgentSSH()
    try:
        agent_socket.connect(path)
        agent._connect(agent_socket)  # paramiko's Agent() dials SSH_AUTH_SOCK itself, without a timeout
    except (OSError, paramiko.SSHException) as error:
        agent_socket.close()
        reason = getattr(error, "strerror", None) or error
        raise CredentialUnusable(
            f"the SSH agent at {path} does not answer: {reason}",
            hint="Check SSH_AUTH_SOCK; is the agent still running?",
        ) from error
    keys: tuple[paramiko.AgentKey, ...] = agent.get_keys()
    return keys
