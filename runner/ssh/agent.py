"""Talks to the user's SSH agent, which may be gone, stopped, or waiting for somebody to touch a key."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

import paramiko
from paramiko.agent import AgentSSH

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import CredentialUnusable
from runner.public_keys import find_public_key

AGENT_FAILURE = 5
AGENT_HINT = "Check SSH_AUTH_SOCK; is the agent running and unlocked (ssh-add -l), and does the key wait for a touch?"


class AgentFailure(paramiko.SSHException):
    """The agent did not do what it was asked."""


def find_agent_keys(public_key: str | None, deadline: Deadline, cancellation: Cancellation) -> list[paramiko.AgentKey]:
    """The keys of the agent that SSH_AUTH_SOCK names, or the one given; they sign by asking it again.

    Give them to `close_agent` in the end. Raises `CredentialUnusable` if there is no agent, if it does not answer before
    the deadline or has no such key, `Interrupted` on a signal.
    """
    agent = _open_agent(deadline, cancellation)
    keys = list(agent.get_keys())
    try:
        if public_key is not None:
            wanted = find_public_key(public_key)
            keys = [key for key in keys if key.asbytes() == wanted.blob]
            if not keys:
                raise CredentialUnusable(
                    f"the SSH agent does not hold the key {wanted.type} {wanted.fingerprint}",
                    hint="Add it with ssh-add.",
                )
        if not keys:
            raise CredentialUnusable("the SSH agent holds no key", hint="Add one with ssh-add.")
    except BaseException:
        agent._close()
        raise
    return keys


def close_agent(keys: Iterable[paramiko.PKey]) -> None:
    """End the conversation with the agent that the keys are from, if they are from one."""
    for key in keys:
        if isinstance(key, paramiko.AgentKey):
            key.agent._close()


def _open_agent(deadline: Deadline, cancellation: Cancellation) -> _Agent:
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        raise CredentialUnusable(
            "there is no SSH agent: SSH_AUTH_SOCK is not set", hint="Start one: eval $(ssh-agent); ssh-add."
        )
    agent_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    agent_socket.settimeout(POLL_SECONDS)
    try:
        agent_socket.connect(path)
        # paramiko's Agent() dials SSH_AUTH_SOCK itself, and waits for ever.
        agent = _Agent()
        agent._connect(_PatientSocket(agent_socket, deadline, cancellation))
    except (OSError, paramiko.SSHException) as error:
        agent_socket.close()
        cancellation.check()
        reason = getattr(error, "strerror", None) or error
        raise CredentialUnusable(f"the SSH agent at {path} does not answer: {reason}", hint=AGENT_HINT) from error
    except BaseException:
        agent_socket.close()
        raise
    return agent


class _Agent(AgentSSH):
    """Tells an agent's failure from a server's: both end in the transport's thread, where a key is asked to sign."""

    def _send_message(self, message: Any) -> Any:
        try:
            kind, reply = super()._send_message(message)
        except (OSError, paramiko.SSHException) as error:
            raise AgentFailure(str(error)) from error
        if kind == AGENT_FAILURE:
            raise AgentFailure("it refuses")
        return kind, reply


class _PatientSocket:
    """A socket whose `recv` waits in short turns, so that it ends at the deadline and on a signal."""

    def __init__(self, inner: socket.socket, deadline: Deadline, cancellation: Cancellation) -> None:
        self._inner = inner
        self._deadline = deadline
        # It is asked in the transport's thread as well.
        self._must_end = cancellation.make_alarm()
        self.send = inner.sendall
        self.close = inner.close

    def recv(self, count_bytes: int) -> bytes:
        while not self._deadline.has_passed and not self._must_end():
            try:
                return self._inner.recv(count_bytes)
            except TimeoutError:
                continue
        raise TimeoutError("no answer within connect_timeout")
