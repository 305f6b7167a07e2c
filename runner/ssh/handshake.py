"""The handshake over a socket: key exchange, host key check, log in — in this order, under the watchdog.

This is where fabric and paramiko begin: `opening.py` dials before it loads them.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import fabric
import paramiko

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectionLost, CredentialUnusable, HostKeyRefused, UnreachableError
from runner.plan import Endpoint
from runner.ssh.agent import AGENT_HINT, AgentFailure
from runner.ssh.authentication import ExplicitAuthentication
from runner.ssh.connection import Connection
from runner.ssh.host_keys import HostKeyCheck
from runner.ssh.negotiation import HOST_KEY, explain_mismatches
from runner.ssh.transport import StrictTransport
from runner.ssh.tunnel import Tunnel
from runner.ssh.watchdog import silenced, timed_out, watch

if TYPE_CHECKING:
    from runner.ssh.credentials import Credential


def shake_hands(
    endpoint: Endpoint,
    sock: socket.socket | Tunnel,
    check: HostKeyCheck,
    credentials: Iterable[Credential],
    algorithms: tuple[str, ...],
    deadline: Deadline,
    cancellation: Cancellation,
    via: Connection | None = None,
    name: str = "",
) -> Connection:
    """The connection over a socket to `endpoint`, once the host key is accepted and we are logged in.

    `algorithms` are those of the host keys that the server may show. A failure closes the socket, but not `via`, the jump
    host that it goes through. Raises what `open_connection` raises.
    """
    authentication = ExplicitAuthentication(endpoint, credentials, _make_wait(deadline, cancellation))
    client = _make_client(endpoint, sock, check, authentication, algorithms, deadline, via)
    try:
        with watch(sock, deadline, cancellation, lambda: timed_out(endpoint, _stage(client))):
            try:
                client.open()
            except AgentFailure as error:
                raise CredentialUnusable(
                    f"the SSH agent did not sign the login to {endpoint}: {error}", hint=AGENT_HINT
                ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise _explain_failure(endpoint, client, check, error) from error
        if endpoint.keepalive_interval_seconds:
            client.transport.set_keepalive(endpoint.keepalive_interval_seconds)
        # From here on the server is known, and may send packets of full size.
        client.transport.packetizer.is_logged_in = True
    except BaseException:
        with silenced():
            client.client.close()
        sock.close()
        raise
    return Connection(endpoint, client, check, authentication.method, via, name)


def _make_wait(deadline: Deadline, cancellation: Cancellation) -> Callable[[float], bool]:
    """What waits for so many seconds, in another thread than this one, unless there are not so many until the deadline."""
    must_end = cancellation.make_alarm()

    def wait(seconds: float) -> bool:
        end = Deadline.after(seconds)
        if deadline.remaining_seconds < seconds:
            return False
        while not end.has_passed:
            if must_end() or deadline.has_passed:
                return False
            time.sleep(min(POLL_SECONDS, end.remaining_seconds))
        return True

    return wait


def _make_client(
    endpoint: Endpoint,
    sock: socket.socket | Tunnel,
    check: HostKeyCheck,
    authentication: ExplicitAuthentication,
    algorithms: tuple[str, ...],
    deadline: Deadline,
    via: Connection | None,
) -> fabric.Connection:
    """A Fabric connection that reads no configuration of the user's and trusts no key but what `check` accepts."""
    seconds = max(1.0, deadline.remaining_seconds)
    client = fabric.Connection(
        endpoint.host,
        user=endpoint.authentication.username,
        port=endpoint.port,
        # A lazy configuration with an empty ssh_config runs neither ~/.fabric.py nor 'Match exec' of ~/.ssh/config.
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        connect_kwargs={
            "sock": sock,
            "transport_factory": functools.partial(
                StrictTransport,
                host_key_algorithms=algorithms,
                find_lost_hop=via.find_lost if via is not None else lambda: "",
                is_greeted=via is None,
                legacy_algorithms=endpoint.legacy_algorithms,
            ),
            "auth_strategy": authentication,
            # The deadline is kept by the watchdog; paramiko's own limits must only not be shorter.
            "banner_timeout": seconds + 1,
            "auth_timeout": seconds + 1,
            "channel_timeout": seconds + 1,
            "timeout": seconds + 1,
        },
    )
    # Fabric has just set AutoAddPolicy, which accepts any key.
    client.client.set_missing_host_key_policy(check)
    return client


def _stage(client: fabric.Connection) -> str:
    transport = client.client.get_transport()
    return transport.stage if isinstance(transport, StrictTransport) else "the SSH handshake"


def _explain_failure(
    endpoint: Endpoint, client: fabric.Connection, check: HostKeyCheck, error: Exception
) -> UnreachableError | HostKeyRefused:
    """What paramiko's error means."""
    transport = client.client.get_transport()
    lost = transport.find_lost_hop() if isinstance(transport, StrictTransport) else ""
    if lost:
        return ConnectionLost(
            f"the connection to {endpoint} broke off while the runner waited for {_stage(client)}: {lost}",
            hint="The jump host ended the session, or the network failed.",
        )
    text = " ".join(str(error).split())
    if any(words in text for words in ("protocol banner", "Indecipherable protocol version", "Incompatible version")):
        return ConnectFailed(
            f"{endpoint} does not speak SSH 2: {text}", hint="Is this the port of the SSH server? SFTP is not FTP."
        )
    if isinstance(error, paramiko.IncompatiblePeer) and isinstance(transport, StrictTransport):
        mismatches = transport.mismatches
        if mismatches and mismatches[0].kind == HOST_KEY and not mismatches[0].needed:
            return check.refuse_negotiation(mismatches[0].theirs)
        if mismatches:
            return explain_mismatches(str(endpoint), mismatches, endpoint.legacy_algorithms)
    return ConnectFailed(
        f"{endpoint} ended the connection while the runner waited for {_stage(client)}: {text or type(error).__name__}",
        hint="The server's log tells why; a firewall or fail2ban may refuse this machine.",
    )
