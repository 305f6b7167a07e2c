"""Talks to the user's SSH agent, which may be gone, stopped, hostile, or waiting for somebody to touch a key.

The protocol is draft-ietf-sshm-ssh-agent, with OpenSSH's limits. paramiko's own client dials SSH_AUTH_SOCK itself and waits
for ever, believes whatever length and count the agent names, and offers a certificate's key without the certificate.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import CredentialUnusable
from runner.public_keys import CERTIFICATE_SUFFIX, PublicKey, find_user_key, join_fields, read_user_key, split_fields

AGENT_HINT = "Check SSH_AUTH_SOCK; is the agent running and unlocked (ssh-add -l), and does the key wait for a touch?"

# OpenSSH's: MAX_AGENT_REPLY_LEN and MAX_AGENT_IDENTITIES in authfd.c.
MAX_REPLY_BYTES = 256 * 1024
MAX_KEYS = 2048

_FAILURE = 5
_REQUEST_IDENTITIES = 11
_IDENTITIES_ANSWER = 12
_SIGN_REQUEST = 13
_SIGN_RESPONSE = 14
# Without a flag an agent signs with SHA-1 (RFC 8332; draft-ietf-sshm-ssh-agent section 3.6.1).
_SIGN_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentFailure(Exception):
    """The agent did not do what it was asked."""


class AgentKey(NamedTuple):
    """A key that the agent holds: as the agent lists it, and without its certificate if it has one."""

    agent: Agent
    listed: PublicKey
    plain: PublicKey

    def sign(self, data: bytes, algorithm: str | None) -> bytes:
        """The agent's signature, as it comes. Raises `AgentFailure`."""
        wanted = (algorithm or self.plain.type).removesuffix(CERTIFICATE_SUFFIX)
        fields = join_fields([self.listed.blob, data]) + struct.pack(">I", _SIGN_FLAGS.get(wanted, 0))
        signature = self.agent.ask(_SIGN_REQUEST, fields, _SIGN_RESPONSE)
        found = split_fields(signature)
        inner = split_fields(found[0] or b"") if len(found) == 1 else []
        if not inner or inner[0] is None:
            raise AgentFailure("its answer is no signature")
        if wanted in _SIGN_FLAGS and inner[0] != wanted.encode():
            raise AgentFailure(f"it signs with {inner[0][:40]!r}, where {wanted} is wanted: it is too old")
        return found[0] or b""


def find_agent_keys(public_key: str | None, deadline: Deadline, cancellation: Cancellation) -> list[AgentKey]:
    """The keys of the agent that SSH_AUTH_SOCK names, or the one given and certificates for it.

    The conversation with the agent goes on until it is closed. Raises `CredentialUnusable` if there is no agent, if it does
    not answer before the deadline or has no such key, `Interrupted` on a signal.
    """
    agent, keys = _open_agent(deadline, cancellation)
    try:
        return _choose(keys, find_user_key(public_key)) if public_key is not None else _require_some(keys)
    except BaseException:
        agent.close()
        raise


def _choose(keys: list[AgentKey], wanted: PublicKey) -> list[AgentKey]:
    """The key of that name, and before it what is certified of it: that lets in where the key alone does not."""
    found = [key for key in keys if wanted in (key.listed, key.plain)]
    if not found:
        raise CredentialUnusable(
            f"the SSH agent does not hold the key {wanted.type} {wanted.fingerprint}", hint="Add it with ssh-add."
        )
    return sorted(found, key=lambda key: key.listed == key.plain)


def _require_some(keys: list[AgentKey]) -> list[AgentKey]:
    if not keys:
        raise CredentialUnusable(
            "the SSH agent holds no key that a server could accept",
            hint="Add one with ssh-add; `ssh-add -l` lists them.",
        )
    return keys


def _open_agent(deadline: Deadline, cancellation: Cancellation) -> tuple[Agent, list[AgentKey]]:
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        raise CredentialUnusable(
            "there is no SSH agent: SSH_AUTH_SOCK is not set", hint="Start one: eval $(ssh-agent); ssh-add."
        )
    agent_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    agent = Agent(agent_socket, deadline, cancellation)
    try:
        agent_socket.settimeout(POLL_SECONDS)
        agent_socket.connect(path)
        return agent, agent.list_keys()
    except (OSError, AgentFailure) as error:
        agent.close()
        cancellation.check()
        reason = getattr(error, "strerror", None) or error
        raise CredentialUnusable(f"the SSH agent at {path} does not answer: {reason}", hint=AGENT_HINT) from error
    except BaseException:
        agent.close()
        raise


class Agent:
    """A conversation with an agent. It is asked in the transport's thread as well."""

    def __init__(self, connected: socket.socket, deadline: Deadline, cancellation: Cancellation) -> None:
        self._socket = connected
        self._deadline = deadline
        self._must_end = cancellation.make_alarm()

    def list_keys(self) -> list[AgentKey]:
        """The keys that it lists, but for those of types that no server takes. Raises `AgentFailure`."""
        answer = self.ask(_REQUEST_IDENTITIES, b"", _IDENTITIES_ANSWER)
        fields = split_fields(answer[4:])
        # Each key comes with a comment.
        blobs = [blob for blob in fields[::2] if blob is not None]
        if len(answer) < 4 or None in fields or len(fields) != 2 * int.from_bytes(answer[:4], "big"):
            raise AgentFailure("its list of keys cannot be read")
        if len(blobs) > MAX_KEYS:
            raise AgentFailure(f"it lists {len(blobs):,} keys")
        pairs = [pair for pair in map(read_user_key, blobs) if pair is not None]
        return [AgentKey(self, listed, plain) for listed, plain in pairs]

    def ask(self, request: int, fields: bytes, expected: int) -> bytes:
        """The fields of the answer to a request. Raises `AgentFailure`."""
        try:
            self._socket.sendall(struct.pack(">IB", 1 + len(fields), request) + fields)
            length = int.from_bytes(self._receive(4), "big")
            if not 1 <= length <= MAX_REPLY_BYTES:
                raise AgentFailure(f"it announces an answer of {length:,} bytes")
            answer = self._receive(length)
        except OSError as error:
            raise AgentFailure(error.strerror or str(error)) from error
        if answer[0] == _FAILURE:
            raise AgentFailure("it refuses")
        if answer[0] != expected:
            raise AgentFailure(f"it answers with {answer[0]} where {expected} is due")
        return answer[1:]

    def close(self) -> None:
        """End it; harmless when done before."""
        self._socket.close()

    def _receive(self, count_bytes: int) -> bytes:
        """So many bytes. Waits in short turns, so that it ends at the deadline and on a signal."""
        data = bytearray()
        while len(data) < count_bytes:
            if self._deadline.has_passed or self._must_end():
                raise AgentFailure("no answer within connect_timeout")
            try:
                piece = self._socket.recv(count_bytes - len(data))
            except TimeoutError:
                continue
            if not piece:
                raise AgentFailure("it hangs up")
            data += piece
        return bytes(data)
