"""An authenticated connection, and what can be started on it. `opening.py` makes it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import paramiko

from runner.cancellation import Cancellation, Deadline
from runner.errors import ChannelRefused, ConnectFailed, ConnectionLost, ConnectTimedOut, ServerLacksFeature
from runner.plan import Endpoint, KnownHosts, format_address
from runner.server_traits import ServerTraits
from runner.ssh.channel import Channel
from runner.ssh.host_keys import HostKeyCheck
from runner.ssh.pacing import Pace
from runner.ssh.tunnel import Tunnel, explain_refusal
from runner.ssh.watchdog import silenced, timed_out, watch
from runner.ssh.window import RECEIVE_WINDOW_BYTES, SHORT_OPENING_SECONDS

if TYPE_CHECKING:
    import fabric

    from runner.findings import Algorithms

# How long the goodbyes to all hosts on the way may take.
FAREWELL_SECONDS = 0.5
# How much later than its channels, or what goes through it, a connection may come to know that it is lost.
NOTICE_SECONDS = 0.2
# How long programs that were hung up on may take to end, where that matters.
LINGER_SECONDS = 2.0
LINGER_POLL_SECONDS = 0.002
# How long a server that refuses a channel may take to end those that we have closed.
ROOM_SECONDS = 10.0
ROOM_POLL_SECONDS = 0.01
MAX_ROOM_POLL_SECONDS = 0.5
MAX_CHANNELS_KEPT = 64


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
        self.traits = ServerTraits(self.server_version)
        self._channels: list[Channel] = []
        # How long it took to get here, from the first packet to the login.
        self.opened_in_seconds = 0.0
        # Closes channels that are open and not in use, where the server has no room for another one. Whether there were any.
        self.make_room: Callable[[], bool] = lambda: False

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

    @property
    def _is_ending(self) -> bool:
        """Whether the connection broke off although it still counts as active.

        paramiko ends the channels first (Transport.run), so that connections through them may be seen to end earlier.
        """
        return isinstance(self._client.transport.saved_exception, EOFError | OSError)

    def find_lost(self) -> str:
        """Which connection on the way, this one included, broke off first, in words; empty if all are well.

        It is asked when something that goes through this connection has broken off, which may be noticed a moment earlier.
        """
        deadline = Deadline.after(NOTICE_SECONDS)
        *_, first = self._way
        while True:
            lost = [one for one in self._way if not one._is_active or one._is_ending]
            # One that goes through another may come to know it earlier than the one that is to blame.
            if first in lost or deadline.has_passed:
                return f"the connection to {lost[-1].name} was lost" if lost else ""
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
    def weaknesses(self) -> tuple[str, ...]:
        """What is weak about the connection because the playbook allows it, in sentences."""
        allowed = self.endpoint.legacy_algorithms
        if not allowed:
            return ()
        used = self._client.transport.legacy_used
        rests = f"the connection to {self.name} rests on {', '.join(used)}, which" if used else ""
        idle = ", ".join(name for name in allowed if name not in used)
        allows = f"'legacy_algorithms' allows {idle} for {self.name} without need" if idle else ""
        return (
            *([f"{rests} {'are' if len(used) > 1 else 'is'} broken or weak ('legacy_algorithms')"] if used else []),
            *([f"{allows}: remove {'them' if ',' in idle else 'it'}"] if idle else []),
        )

    @property
    def peer_address(self) -> str:
        """The IP address and port that were dialled; the endpoint's own words if the connection is gone, or goes through
        a jump host or a proxy, which alone knows.
        """
        if isinstance(self._sock, Tunnel) or self.endpoint.proxy is not None:
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
        with watch(self._sock, deadline, cancellation, lambda: unreached):
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

    def open_channel(
        self,
        stall_timeout_seconds: float,
        deadline: Deadline,
        cancellation: Cancellation,
        width_bytes: int = RECEIVE_WINDOW_BYTES,
    ) -> Channel:
        """A new channel, nothing started on it yet. Raises `ConnectTimedOut`, `ConnectionLost`, `ChannelRefused`.

        `width_bytes` is how far the server may be ahead where that is known to help: OpenSSH's, on a short line. Elsewhere
        the window is as wide as it gets.
        """
        started = time.monotonic()
        is_gathering = self.traits.is_sequential and width_bytes < RECEIVE_WINDOW_BYTES
        if not is_gathering:
            width_bytes = RECEIVE_WINDOW_BYTES
        with watch(self._sock, deadline, cancellation, lambda: self._timed_out("a channel to open")):
            if self.traits.is_hasty:
                self._let_others_end(Deadline.after(LINGER_SECONDS), cancellation)
            raw = self._open_raw_channel(width_bytes, deadline, cancellation)
        for one in self._way:
            one._client.transport.packetizer.give_up_writing_after_seconds = stall_timeout_seconds
        channel = Channel(raw, str(self.endpoint), stall_timeout_seconds, cancellation, self._pace)
        if not is_gathering or time.monotonic() - started > SHORT_OPENING_SECONDS:
            channel.keep_window_wide()
        # Those that the server has closed as well, and not just now, take up no room there.
        self._channels = [one for one in self._channels if not one.is_closed or one.is_ending][-MAX_CHANNELS_KEPT:]
        self._channels.append(channel)
        return channel

    def _open_raw_channel(self, width_bytes: int, deadline: Deadline, cancellation: Cancellation) -> paramiko.Channel:
        """A channel as the library has it. Raises `ChannelRefused` if the server has no room for it.

        A server that allows few of them (MaxSessions 1) counts those whose programs have not ended yet, and closes them a
        while after we have: it is asked again then. So it is where what is not in use can be closed for it.
        """
        last = Deadline.after(ROOM_SECONDS)
        pause_seconds = ROOM_POLL_SECONDS
        while True:
            try:
                self._acknowledge_at_once()
                # The deadline is kept by the watchdog; paramiko's own limit must only not be shorter.
                raw: paramiko.Channel = self._client.transport.open_session(
                    window_size=min(RECEIVE_WINDOW_BYTES, self._pace.down.depth_bytes) if self._pace else width_bytes,
                    timeout=deadline.remaining_seconds + 1,
                )
                return raw
            except paramiko.ChannelException as error:
                has_hope = self.make_room() or any(channel.is_closed for channel in self._channels)
                if not has_hope or last.has_passed or deadline.has_passed:
                    # They were waited for in vain, and are not waited for again.
                    self._channels = [channel for channel in self._channels if not channel.is_closed]
                    raise ChannelRefused(
                        f"{self.endpoint} refuses to open a session: {error.text}",
                        hint="The server's MaxSessions may be reached, or the account may only forward ports.",
                    ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise self._lost() from error
            # The server may have confirmed the end of a channel a moment before it counts one less.
            self._let_others_end(last, cancellation)
            cancellation.check()
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, MAX_ROOM_POLL_SECONDS)

    def _let_others_end(self, end: Deadline, cancellation: Cancellation) -> None:
        """Wait until programs that we have hung up on are gone, but not past `end`."""
        while any(channel.is_ending for channel in self._channels) and not end.has_passed:
            cancellation.check()
            time.sleep(LINGER_POLL_SECONDS)

    def start_subsystem(self, channel: Channel, name: str, deadline: Deadline, cancellation: Cancellation) -> None:
        """Start a subsystem on a channel. Raises `ServerLacksFeature` if the server has none of that name."""
        with watch(self._sock, deadline, cancellation, lambda: self._timed_out(f"the {name} subsystem to start")):
            try:
                channel.start_subsystem(name)
            except (paramiko.SSHException, OSError, EOFError) as error:
                if self._has_ended(channel):
                    raise self._lost() from error
                raise ServerLacksFeature(
                    f"{self.endpoint} has no {name} subsystem",
                    hint="If the server speaks SCP, set connector_type: SCP; otherwise ask its operator to enable SFTP.",
                ) from error

    def start_command(
        self,
        channel: Channel,
        command: bytes,
        deadline: Deadline,
        cancellation: Cancellation,
        *,
        is_trial: bool = False,
    ) -> None:
        """Start a command on a channel. Raises `ServerLacksFeature` if the server runs none.

        If it is not answered by the deadline, that is the end of the connection; of a trial, that of the channel only.
        """
        awaited = _Hanging(channel) if is_trial else self._sock
        with watch(awaited, deadline, cancellation, lambda: self._timed_out("a command to start")):
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
        with silenced():
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
        return timed_out(self.endpoint, awaited)

    def _lost(self) -> ConnectionLost:
        lost = self._via.find_lost() if self._via is not None else ""
        return ConnectionLost(
            f"the connection to {self.endpoint} broke off{f': {lost}' if lost else ''}",
            hint="The server ended the session, or the network failed.",
        )


class _Hanging:
    """A channel that is closed where a connection would be cut."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def shutdown(self, how: int, /) -> None:
        self._channel.close()


def _acknowledge_at_once(sock: socket.socket) -> None:
    """Have the kernel acknowledge what comes next without its usual delay.

    After a login OpenSSH sends several small packets in a row, each held back by Nagle's algorithm until the one before
    it is acknowledged; a delayed acknowledgement costs 40 ms there. The kernel forgets the setting by itself.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
