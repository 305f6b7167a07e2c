"""Opens a connection: dial, key exchange, host key check, log in — in this order, under one deadline."""

from __future__ import annotations

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import fabric
import paramiko

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimedOut,
    CredentialUnusable,
    HostKeyRefused,
    ServerLacksFeature,
    UnreachableError,
)
from runner.plan import Endpoint, Fingerprints, KnownHosts, format_address
from runner.ssh.agent import AGENT_HINT, AgentFailure
from runner.ssh.authentication import ExplicitAuthentication
from runner.ssh.channel import Channel
from runner.ssh.dial import dial
from runner.ssh.host_certificates import ALGORITHMS
from runner.ssh.host_keys import ALL_ALGORITHMS, HostKeyCheck
from runner.ssh.pacing import Pace
from runner.ssh.transport import RECEIVE_WINDOW_BYTES, StrictTransport
from runner.ssh.tunnel import Tunnel, explain_refusal

if TYPE_CHECKING:
    from runner.findings import Algorithms

# How long the goodbyes to all hosts on the way may take.
FAREWELL_SECONDS = 0.5
# How much later than its channels, or what goes through it, a connection may come to know that it is lost.
NOTICE_SECONDS = 0.2

# paramiko logs every failure that we report ourselves, with a traceback; without a handler Python prints them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

LINGER_SECONDS = 2.0
LINGER_POLL_SECONDS = 0.002


class Connection:
    """An authenticated connection to one endpoint whose host key has been accepted.

    It may go through another connection, to a jump host, which then belongs to it. `name` is what messages call it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client: fabric.Connection,
        check: HostKeyCheck,
        method: str,
        via: Connection | None = None,
        name: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.name = name or str(endpoint)
        self._via = via
        self.authentication_method = method
        self.trusted_by = check.trusted_by
        self.known_hosts_warnings = check.warnings
        self.known_hosts_files = check.sources if isinstance(endpoint.host_key_policy, KnownHosts) else ()
        assert check.shown is not None, "a key was accepted that nobody has seen"
        self.host_key = check.shown
        self.host_key_authority = check.authority
        self._client = client
        self._sock: socket.socket | Tunnel = client.transport.sock
        limit = endpoint.bandwidth_limit_bytes_per_second
        self._pace = Pace(limit) if limit else None
        # Dropbear (2022.83) closes a channel that has just been opened when the program of another one ends.
        self._is_hasty = "dropbear" in self.server_version
        self._channels: list[Channel] = []

    @property
    def _way(self) -> Iterator[Connection]:
        """This connection and those that it goes through, the one to the first jump host last."""
        here: Connection | None = self
        while here is not None:
            yield here
            here = here._via

    @property
    def is_alive(self) -> bool:
        """Whether neither this connection nor one that it goes through has ended."""
        return all(one._is_active for one in self._way)

    @property
    def _is_active(self) -> bool:
        return bool(self._client.is_connected and self._client.transport.is_active())

    def find_lost(self) -> str:
        """Which connection on the way, this one included, broke off first, in words; empty if all are well.

        It is asked when something that goes through this connection has broken off, which may be noticed a moment earlier.
        """
        deadline = Deadline.after(NOTICE_SECONDS)
        while True:
            lost = [one.name for one in self._way if not one._is_active]
            if lost or deadline.has_passed:
                return f"the connection to {lost[-1]} was lost" if lost else ""
            time.sleep(NOTICE_SECONDS / 20)

    @property
    def server_version(self) -> str:
        """The server's software, as its banner tells it."""
        return str(self._client.transport.remote_version)

    @property
    def algorithms(self) -> Algorithms:
        """What has been agreed on with the server."""
        agreed: Algorithms = self._client.transport.agreed
        return agreed

    @property
    def peer_address(self) -> str:
        """The IP address and port that were dialled; the endpoint's own words if the connection is gone, or goes through
        a jump host, which alone knows.
        """
        if isinstance(self._sock, Tunnel):
            return str(self.endpoint)
        try:
            host, port = self._sock.getpeername()[:2]
        except OSError:
            return str(self.endpoint)
        return format_address(host, port)

    def end_with(self, alarm: Callable[[], bool]) -> None:
        """Give up a write that the server does not take soon after `alarm` has gone off, in whichever thread it hangs."""
        for one in self._way:
            one._client.transport.packetizer.is_ending = alarm

    def open_tunnel(self, host: str, port: int, deadline: Deadline, cancellation: Cancellation) -> Tunnel:
        """A tunnel to another server, whose name is looked up by this one. Open no other channel meanwhile.

        Raises `ConnectFailed`, `ForwardingRefused`, `ConnectTimedOut`, `ConnectionLost`.
        """
        target = format_address(host, port)
        try:
            ascii_host = host if host.isascii() else host.encode("idna").decode()
        except UnicodeError as error:
            raise ConnectFailed(f"{host!r} cannot be a host name: {error}", hint="Check the spelling.") from error
        unreached = ConnectTimedOut(
            f"no answer from {target} within connect_timeout: {self.name} has not got through to it",
            hint="Is the host up, and does a firewall between the jump host and it drop the packets?",
        )
        with _watch(self._sock, deadline, cancellation, lambda: unreached):
            try:
                self._acknowledge_at_once()
                tunnel: Tunnel = self._client.transport.open_tunnel(
                    ascii_host,
                    port,
                    lambda raw: Tunnel(raw, self.name, cancellation),
                    deadline.remaining_seconds + 1,
                )
                return tunnel
            except paramiko.ChannelException as error:
                raise explain_refusal(error, self._client.transport.refusal_text, self.name, target) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise self._lost() from error

    def open_channel(self, stall_timeout_seconds: float, deadline: Deadline, cancellation: Cancellation) -> Channel:
        """A new channel, nothing started on it yet. Raises `ConnectTimedOut`, `ConnectionLost`, `ServerLacksFeature`."""
        with _watch(self._sock, deadline, cancellation, lambda: self._timed_out("a channel to open")):
            self._let_others_end(cancellation)
            try:
                self._acknowledge_at_once()
                # The deadline is kept by _watch; paramiko's own limit must only not be shorter.
                raw = self._client.transport.open_session(
                    window_size=min(RECEIVE_WINDOW_BYTES, self._pace.down.depth_bytes) if self._pace else None,
                    timeout=deadline.remaining_seconds + 1,
                )
            except paramiko.ChannelException as error:
                raise ServerLacksFeature(
                    f"{self.endpoint} refuses to open a session: {error.text}",
                    hint="The server's MaxSessions may be reached, or the account may only forward ports.",
                ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise self._lost() from error
        for one in self._way:
            one._client.transport.packetizer.give_up_writing_after_seconds = stall_timeout_seconds
        channel = Channel(raw, str(self.endpoint), stall_timeout_seconds, cancellation, self._pace)
        if self._is_hasty:
            self._channels.append(channel)
        return channel

    def _let_others_end(self, cancellation: Cancellation) -> None:
        """Wait a moment until programs that we have hung up on are gone, where the next one would be taken for them."""
        end = Deadline.after(LINGER_SECONDS)
        while any(channel.is_ending for channel in self._channels) and not end.has_passed:
            cancellation.check()
            time.sleep(LINGER_POLL_SECONDS)
        self._channels = [channel for channel in self._channels if not channel.is_closed]

    def start_subsystem(self, channel: Channel, name: str, deadline: Deadline, cancellation: Cancellation) -> None:
        """Start a subsystem on a channel. Raises `ServerLacksFeature` if the server has none of that name."""
        with _watch(self._sock, deadline, cancellation, lambda: self._timed_out(f"the {name} subsystem to start")):
            try:
                channel.start_subsystem(name)
            except (paramiko.SSHException, OSError, EOFError) as error:
                if self._has_ended(channel):
                    raise self._lost() from error
                raise ServerLacksFeature(
                    f"{self.endpoint} has no {name} subsystem",
                    hint="If the server speaks SCP, set connector_type: SCP; otherwise ask its operator to enable SFTP.",
                ) from error

    def start_command(self, channel: Channel, command: bytes, deadline: Deadline, cancellation: Cancellation) -> None:
        """Start a command on a channel. Raises `ServerLacksFeature` if the server runs none."""
        with _watch(self._sock, deadline, cancellation, lambda: self._timed_out("a command to start")):
            try:
                channel.start_command(command)
            except (paramiko.SSHException, OSError, EOFError) as error:
                if self._has_ended(channel):
                    raise self._lost() from error
                raise ServerLacksFeature(
                    f"{self.endpoint} runs no commands for this user",
                    hint="SCP needs a server that runs the scp program; try connector_type: SFTP.",
                ) from error

    def _has_ended(self, channel: Channel) -> bool:
        """Whether a channel that started nothing is one of a connection that broke off, which shows a moment later."""
        deadline = Deadline.after(NOTICE_SECONDS)
        while self.is_alive and not channel.was_refused and not deadline.has_passed:
            time.sleep(NOTICE_SECONDS / 20)
        return not self.is_alive

    def close(self) -> None:
        """End the session, and then those with the jump hosts, the last one first; never raises.

        A server is not waited for, except that the jump hosts have a moment to pass on what was said at the end, unless
        the play must end by now.
        """
        deadline = Deadline.after(FAREWELL_SECONDS)
        for one in self._way:
            one._close_alone(deadline)

    def _close_alone(self, deadline: Deadline) -> None:
        transport = self._client.transport
        with _silenced():
            has_said_goodbye = self._is_active and transport.say_goodbye()
            if has_said_goodbye and isinstance(self._sock, Tunnel) and not transport.packetizer.is_ending():
                # sshd drops what it has not passed on yet when it is left itself.
                self._sock.wait_for_end(deadline)
            self._client.close()

    def _acknowledge_at_once(self) -> None:
        *_, first = self._way
        if isinstance(first._sock, socket.socket):
            _acknowledge_at_once(first._sock)

    def _timed_out(self, awaited: str) -> ConnectTimedOut:
        return _timed_out(self.endpoint, awaited)

    def _lost(self) -> ConnectionLost:
        lost = self._via.find_lost() if self._via is not None else ""
        return ConnectionLost(
            f"the connection to {self.endpoint} broke off{f': {lost}' if lost else ''}",
            hint="The server ended the session, or the network failed.",
        )


def open_connection(
    endpoint: Endpoint,
    deadline: Deadline,
    cancellation: Cancellation,
    via: Connection | None = None,
    name: str = "",
) -> Connection:
    """A connection to `endpoint` under its strict host key policy, through the jump host `via` if there is one.

    `via` is closed with the new connection, and if there will be none.

    A fingerprint does not tell the key's type: when the server's first key does not fit, its keys of other types are
    looked at, each on a connection of its own, before the host is refused. A server that has no key of the known types
    is asked once more, so that the refusal can tell which key it has.

    Raises `ConnectFailed`, `ConnectTimedOut`, `ConnectionLost`, `ForwardingRefused`, `HostKeyRefused`,
    `AuthenticationRefused`, `CredentialUnusable`, `Interrupted`.
    """
    try:
        check = HostKeyCheck(endpoint, via.name if via is not None else "")
        authentication = ExplicitAuthentication(endpoint, deadline, cancellation)
        try:
            return _open_with_known_keys(endpoint, check, authentication, deadline, cancellation, via, name)
        finally:
            authentication.close()
    except BaseException:
        if via is not None:
            via.close()
        raise


def _open_with_known_keys(
    endpoint: Endpoint,
    check: HostKeyCheck,
    authentication: ExplicitAuthentication,
    deadline: Deadline,
    cancellation: Cancellation,
    via: Connection | None,
    name: str,
) -> Connection:
    knows_only_fingerprints = isinstance(endpoint.host_key_policy, Fingerprints)
    algorithms = check.algorithms
    tried: set[str] = set()
    refusal: HostKeyRefused | None = None
    has_seen_key = False
    while True:
        tried |= set(algorithms)
        try:
            return _open_once(endpoint, check, authentication, algorithms, deadline, cancellation, via, name)
        except HostKeyRefused as error:
            shown, check.shown = check.shown, None
            refusal = error if refusal is None or not has_seen_key else refusal
            has_seen_key = has_seen_key or shown is not None
            if shown is None:
                algorithms = tuple(name for name in ALL_ALGORITHMS if name not in tried)
            elif knows_only_fingerprints:
                algorithms = tuple(name for name in algorithms if name not in ALGORITHMS[shown.type])
            else:
                algorithms = ()
            if not algorithms:
                raise refusal from error.__cause__
        except UnreachableError:
            if refusal is None or knows_only_fingerprints:
                raise
            raise refusal from None


def _open_once(
    endpoint: Endpoint,
    check: HostKeyCheck,
    authentication: ExplicitAuthentication,
    algorithms: tuple[str, ...],
    deadline: Deadline,
    cancellation: Cancellation,
    via: Connection | None,
    name: str,
) -> Connection:
    sock: socket.socket | Tunnel
    if via is None:
        sock = dial(endpoint.host, endpoint.port, deadline, cancellation)
    else:
        sock = via.open_tunnel(endpoint.host, endpoint.port, deadline, cancellation)
    client = _make_client(endpoint, sock, check, authentication, algorithms, deadline, via)
    try:
        with _watch(sock, deadline, cancellation, lambda: _timed_out(endpoint, _stage(client))):
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
        with _silenced():
            client.client.close()
        sock.close()
        raise
    return Connection(endpoint, client, check, authentication.method, via, name)


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
            ),
            "auth_strategy": authentication,
            # The deadline is kept by _watch; paramiko's own limits must only not be shorter.
            "banner_timeout": seconds + 1,
            "auth_timeout": seconds + 1,
            "channel_timeout": seconds + 1,
            "timeout": seconds + 1,
        },
    )
    # Fabric has just set AutoAddPolicy, which accepts any key.
    client.client.set_missing_host_key_policy(check)
    return client


@contextmanager
def _watch(
    sock: socket.socket | Tunnel,
    deadline: Deadline,
    cancellation: Cancellation,
    timed_out: Callable[[], ConnectTimedOut],
) -> Iterator[None]:
    """Cut the connection at the deadline or on a signal, which ends whatever paramiko waits for inside the block."""
    finished = threading.Event()
    cut: list[BaseException] = []
    must_end = cancellation.make_alarm()

    def guard() -> None:
        while not finished.wait(POLL_SECONDS):
            if must_end() or deadline.has_passed:
                if deadline.has_passed:
                    cut.append(timed_out())
                _shut_down(sock)
                return

    thread = threading.Thread(target=guard, name="connect watchdog", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        finished.set()
        cancellation.check()
        # An agent that does not sign in time is not the server's silence.
        if cut and not isinstance(error, CredentialUnusable):
            raise cut[0] from error
        raise
    finally:
        finished.set()
    cancellation.check()
    if cut:
        raise cut[0]


def _acknowledge_at_once(sock: socket.socket) -> None:
    """Have the kernel acknowledge what comes next without its usual delay.

    After a login OpenSSH sends several small packets in a row, each held back by Nagle's algorithm until the one before
    it is acknowledged; a delayed acknowledgement costs 40 ms there. The kernel forgets the setting by itself.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _shut_down(sock: socket.socket | Tunnel) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def _silenced() -> Iterator[None]:
    """Closing is best effort: whatever a dead connection has to say about it has been said already."""
    try:
        yield
    except (paramiko.SSHException, OSError, EOFError):
        pass


def _stage(client: fabric.Connection) -> str:
    transport = client.client.get_transport()
    return transport.stage if isinstance(transport, StrictTransport) else "the SSH handshake"


def _timed_out(endpoint: Endpoint, awaited: str) -> ConnectTimedOut:
    return ConnectTimedOut(
        f"{endpoint} did not answer within connect_timeout: waited for {awaited}",
        hint="The host accepts connections but is overloaded or hangs at this stage; raise 'connect_timeout' if it is "
        "only slow.",
    )


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
    if isinstance(error, paramiko.IncompatiblePeer):
        if "host key" in text:
            return check.refuse_negotiation()
        return ConnectFailed(
            f"{endpoint} and the runner have no algorithm in common: {text}",
            hint="The server offers only algorithms that are considered broken; it needs an update.",
        )
    return ConnectFailed(
        f"{endpoint} ended the connection while the runner waited for {_stage(client)}: {text or type(error).__name__}",
        hint="The server's log tells why; a firewall or fail2ban may refuse this machine.",
    )
