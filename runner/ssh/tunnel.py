"""A tunnel through a jump host: a channel that takes the place of a TCP socket below the next connection.

What arrives is put aside in the thread of the jump host's transport, which never waits for anybody, and taken by the
thread of the next transport. The channel's window bounds how much lies in between, so that a slow reader slows down the
sender and nobody else. It has neither a thread nor a file descriptor of its own.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque

import paramiko

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectionLost, ForwardingRefused, UnreachableError
from runner.ssh.channel import Channel

# How long a write may hang before a step has said how long.
PATIENCE_SECONDS = 60.0
# Room for the messages that end a session.
FAREWELL_BYTES = 1024
MAX_REASON_LENGTH = 200

# RFC 4254 section 5.1
_PROHIBITED = 1
_CONNECT_FAILED = 2


class Tunnel:
    """Behaves like a connected socket, as far as paramiko and the packetizer use one.

    One thread receives; any thread may do the rest. Make it in the thread of the jump host's transport.
    """

    def __init__(self, raw: paramiko.Channel, hop: str, cancellation: Cancellation) -> None:
        self._raw = raw
        self._arrival = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._held_bytes = 0
        self._window_bytes: int = raw.in_window_size
        self._has_ended = False
        self._is_cut = False
        # By this name paramiko asks a socket.
        self._closed = False
        self._timeout_seconds = 0.0
        self._channel = Channel(raw, hop, PATIENCE_SECONDS, cancellation)
        self._channel.is_consumed_later = True
        self._channel.on_pause = self._wake
        self._channel.on_end = self._end
        self._channel.listen(self._put_aside)

    def settimeout(self, seconds: float) -> None:
        """How long `recv_into` and `send` wait before they raise `TimeoutError`."""
        self._timeout_seconds = seconds

    def recv_into(self, space: memoryview) -> int:
        """Take what has arrived, as far as it fits; 0 at the end. Raises `TimeoutError`."""
        # It may have been impossible to say so when it was consumed.
        self._channel.note_consumed(0)
        with self._arrival:
            if not self._pieces and not self._has_ended:
                self._arrival.wait(self._timeout_seconds)
            count = 0 if self._is_cut else self._take(space)
            if not count and not self._has_ended:
                raise TimeoutError
        self._channel.note_consumed(count)
        return count

    def send(self, data: memoryview) -> int:
        """Send as much as the jump host has room for, and return how much. Raises `TimeoutError`, `OSError`."""
        deadline = Deadline.after(self._timeout_seconds)
        while True:
            if self._is_cut:
                raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
            try:
                sent_bytes = self._channel.send_some(data)
            except ConnectionLost as error:
                raise OSError(errno.ECONNRESET, error.message) from error
            if sent_bytes:
                return sent_bytes
            if deadline.has_passed:
                raise TimeoutError
            self._channel.wait_for_room(len(data))

    def shutdown(self, how: int) -> None:
        """Cut the whole way, down to the TCP socket: a write may hang anywhere on it. Ends every wait."""
        self._cut()
        try:
            self._raw.transport.sock.shutdown(how)
        except OSError:
            pass

    def close(self) -> None:
        """End the tunnel; the connection to the jump host goes on. Never waits."""
        if self._closed:
            return
        self._closed = True
        self._cut()
        if self._is_hop_ready:
            self._channel.close()
        else:
            self._raw.transport.packetizer.divert(self._raw.chanid, None)
            self._raw._unlink()

    def wait_for_end(self, deadline: Deadline) -> None:
        """Wait until the other side has ended the tunnel, but not past the deadline."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._has_ended, deadline.remaining_seconds)

    @property
    def can_write_at_once(self) -> bool:
        """Whether a short message can be written without waiting."""
        return bool(self._raw.out_window_size >= FAREWELL_BYTES and self._is_hop_ready)

    @property
    def _is_hop_ready(self) -> bool:
        return bool(self._raw.transport.clear_to_send.is_set() and self._raw.transport.can_write_at_once)

    @property
    def departed_bytes(self) -> int:
        """Grows whenever bytes leave this machine, and when the jump host has passed some on."""
        return int(self._raw.transport.packetizer.departed_bytes) + self._channel.granted_bytes

    def _put_aside(self, data: memoryview) -> bool:
        if self._held_bytes + len(data) > self._window_bytes:
            # What is not consumed has not been granted again. Only a hostile server sends it all the same.
            raise paramiko.SSHException("the server sends more through a tunnel than it may")
        with self._arrival:
            if not self._is_cut:
                self._pieces.append(memoryview(bytes(data)))
                self._held_bytes += len(data)
        # The reader is woken by the pause after what has come, not for each packet.
        return False

    def _take(self, space: memoryview) -> int:
        taken_bytes = 0
        while self._pieces and taken_bytes < len(space):
            piece = self._pieces.popleft()
            count = min(len(piece), len(space) - taken_bytes)
            space[taken_bytes : taken_bytes + count] = piece[:count]
            taken_bytes += count
            if count < len(piece):
                self._pieces.appendleft(piece[count:])
        self._held_bytes -= taken_bytes
        return taken_bytes

    def _wake(self) -> None:
        with self._arrival:
            self._arrival.notify_all()

    def _end(self) -> None:
        with self._arrival:
            self._has_ended = True
            self._arrival.notify_all()

    def _cut(self) -> None:
        with self._arrival:
            self._is_cut = self._has_ended = True
            self._pieces.clear()
            self._held_bytes = 0
            self._arrival.notify_all()


def explain_refusal(error: paramiko.ChannelException, words: str, hop: str, target: str) -> UnreachableError:
    """The error for a tunnel that a jump host did not open; `words` are its own."""
    said = " ".join(words.split())[:MAX_REASON_LENGTH] or error.text
    if error.code == _PROHIBITED:
        return ForwardingRefused(
            f"cannot connect to {target}: {hop} does not forward connections to it ({said})",
            hint="On the jump host sshd's AllowTcpForwarding and PermitOpen must let this user through, and the key's line "
            "in authorized_keys must not say 'restrict' or 'no-port-forwarding'.",
        )
    if error.code == _CONNECT_FAILED:
        return ConnectFailed(
            f"cannot connect to {target}: {hop} cannot reach it: {said}",
            hint="Check host and port. The jump host itself looks up the name and connects: try it from there.",
        )
    return ConnectFailed(
        f"cannot connect to {target}: {hop} did not open a way to it: {said}",
        hint="The jump host's log tells why.",
    )
