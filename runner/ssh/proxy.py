"""Reaches a host through a SOCKS5 proxy (RFC 1928, RFC 1929) or an HTTP proxy that knows CONNECT (RFC 9110 section 9.3.6).

The proxy looks up the host's name. It passes on bytes that it cannot read: whose host key is expected, and who is logged in
to, is the same with and without it. Nothing behind the proxy's own answer is read here: what follows is the server's.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import select
import socket

from runner._version import VERSION
from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut, ForwardingRefused, UnreachableError
from runner.plan import Proxy, format_address
from runner.ssh.dial import WorkingAddresses, connect, greet

# An HTTP proxy's answer up to the empty line. Longer ones are refused, and no body is ever read.
MAX_HEAD_BYTES = 32 * 1024
MAX_QUOTED_CHARACTERS = 200
# RFC 1928 section 5 and RFC 1929 section 2: a name, a user and a password have one byte for their length.
MAX_SOCKS_TEXT_BYTES = 255

_SOCKS_VERSION = 5
_LOGIN_VERSION = 1
_NO_LOGIN, _BY_PASSWORD, _NO_METHOD = 0, 2, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
# RFC 1928 section 6. The first group is a rule of the proxy's, which holds the next time as well.
_RULES = {2: "its rules do not allow it", 7: "it does not know CONNECT", 8: "it does not know this kind of address"}
_FAILURES = {
    1: "general failure",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
}

_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_HTTP_MARK = b"HTTP/"
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_SCHEMES = re.compile(rb"^proxy-authenticate:[ \t]*([!-~]+)", re.IGNORECASE | re.MULTILINE)
# RFC 9110 section 15: what a gateway says of the host behind it, which may pass.
_GATEWAY_STATUSES = range(500, 600)

CREDENTIALS_HINT = "Check 'username' and 'password' under 'proxy'."
RULES_HINT = "Ask the proxy's operator to allow this host and port: many proxies allow port 443 only."


def dial_through(
    proxy: Proxy, host: str, port: int, deadline: Deadline, cancellation: Cancellation, working: WorkingAddresses
) -> socket.socket:
    """A socket that the proxy has connected to the host. The server has been sent our greeting.

    Raises `ConnectFailed` or `ConnectTimedOut`, for the proxy or for the host behind it, `ForwardingRefused` when the proxy
    wants another login or does not allow the connection, and `Interrupted` on a signal.
    """
    target = _Target(host, port)
    try:
        sock = connect(proxy.host, proxy.port, deadline, cancellation, working)
    except UnreachableError as error:
        error.place(f"the {proxy}")
        error.hint = "Check 'host' and 'port' under 'proxy', and that the proxy is up and reachable from this machine."
        raise
    try:
        line = _Line(sock, proxy, target, deadline, cancellation)
        (_ask_socks if proxy.type == "socks5" else _ask_http)(line, proxy, target)
        sock.setblocking(True)
        greet(sock)
    except BaseException:
        sock.close()
        raise
    return sock


class _Target:
    """Where the proxy is to connect to."""

    def __init__(self, host: str, port: int) -> None:
        """Raises `ConnectFailed` for what no proxy can be asked for."""
        self.port = port
        self.shown = format_address(host, port)
        self.address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
        self.name = b""
        try:
            self.address = ipaddress.ip_address(host)
        except ValueError:
            self.name = self._encode(host)
        if isinstance(self.address, ipaddress.IPv6Address) and self.address.scope_id:
            raise ConnectFailed(
                f"cannot ask a proxy for {self.shown}: a zone ('%{self.address.scope_id}') means something here only",
                hint="A link-local address is reached without a proxy: 'proxy: {type: none}'.",
            )

    def _encode(self, host: str) -> bytes:
        try:
            name = host.encode("ascii") if host.isascii() else host.encode("idna")
        except UnicodeError as error:
            raise ConnectFailed(f"{host!r} cannot be a host name: {error}", hint="Check the spelling.") from error
        if len(name) > MAX_SOCKS_TEXT_BYTES:
            raise ConnectFailed(f"a host name of {len(name)} bytes is longer than any can be", hint="Check 'host'.")
        return name

    @property
    def authority(self) -> str:
        """As HTTP writes it."""
        return format_address(str(self.address) if self.address is not None else self.name.decode("ascii"), self.port)


class _Line:
    """The connection to the proxy while it is asked: every wait ends at the deadline or on a signal."""

    def __init__(
        self, sock: socket.socket, proxy: Proxy, target: _Target, deadline: Deadline, cancellation: Cancellation
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._proxy = proxy
        self._target = target
        self._deadline = deadline
        self._cancellation = cancellation
        # What the proxy has said so far, for the error that tells of its silence.
        self._heard = b""

    def send(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            self._wait(select.POLLOUT)
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._broken(error) from error

    def read(self, count: int, what: str) -> bytes:
        """Exactly so many bytes, which are `what` in words."""
        data = b""
        while len(data) < count:
            data += self._receive(count - len(data), what)
        return data

    def peek(self, count: int, what: str) -> bytes:
        """What has come, at least one byte, and stays to be read."""
        return self._receive(count, what, socket.MSG_PEEK)

    def glance(self, count: int) -> bytes:
        """What comes within a moment, if anything does: for an error that quotes it."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        try:
            return self._sock.recv(count) if poller.poll(POLL_SECONDS * 1000) else b""
        except OSError:
            return b""

    def _receive(self, count: int, what: str, flags: int = 0) -> bytes:
        while True:
            self._wait(select.POLLIN)
            try:
                data = self._sock.recv(count, flags)
                break
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._broken(error) from error
        if not data:
            said = f"; it said {quote(self._heard)}" if self._heard else " and said nothing"
            raise self.fail(f"it closed the connection where {what} is due{said}", self._hint_of_silence())
        if not flags:
            self._heard = (self._heard + data)[:MAX_HEAD_BYTES]
        return data

    def _wait(self, event: int) -> None:
        """Wait until the socket is ready."""
        poller = select.poll()
        poller.register(self._sock, event)
        while True:
            self._cancellation.check()
            if self._deadline.has_passed:
                raise self._timed_out()
            if poller.poll(min(POLL_SECONDS, self._deadline.remaining_seconds) * 1000):
                return

    def _broken(self, error: OSError) -> ConnectFailed:
        said = f"; it said {quote(self._heard)}" if self._heard else ""
        return self.fail(f"the connection to it broke off: {error.strerror or error}{said}", self._hint_of_silence())

    def fail(self, reason: str, hint: str) -> ConnectFailed:
        """The error for a host that the proxy has not connected us to; another attempt may do."""
        return ConnectFailed(self._message(reason), hint=hint)

    def refuse(self, reason: str, hint: str) -> ForwardingRefused:
        """The error for what the proxy does not allow."""
        return ForwardingRefused(self._message(reason), hint=hint)

    def _message(self, reason: str) -> str:
        return f"cannot connect to {self._target.shown} through the {self._proxy}: {reason}"

    def _timed_out(self) -> ConnectTimedOut:
        said = (
            f"it has only said {quote(self._heard)}" if self._heard else "it accepted the connection and said nothing"
        )
        return ConnectTimedOut(
            f"no answer from the {self._proxy} within connect_timeout: {said}; it was asked for {self._target.shown}",
            hint=f"The proxy may be waiting for the host itself. {self._hint_of_silence()}",
        )

    def _hint_of_silence(self) -> str:
        return f"Is it a proxy of the type that 'type: {self._proxy.type}' under 'proxy' says?"


def quote(data: bytes) -> str:
    """A proxy's words as an error quotes them: what can be printed, on one line, bounded."""
    text = "".join(character if character.isprintable() else " " for character in data.decode("utf-8", "replace"))
    text = " ".join(text.split())
    if not text:
        return f"the bytes {data[:16].hex(' ')}" if data else "''"
    return repr(text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…")


# --- SOCKS5 ---


def _ask_socks(line: _Line, proxy: Proxy, target: _Target) -> None:
    """Have a SOCKS5 proxy connect us."""
    methods = bytes([_NO_LOGIN] if proxy.username is None else [_NO_LOGIN, _BY_PASSWORD])
    line.send(bytes([_SOCKS_VERSION, len(methods)]) + methods)
    version, method = line.read(2, "the answer to the greeting")
    if version != _SOCKS_VERSION:
        raise _not_socks(line, bytes([version, method]))
    if method == _NO_METHOD:
        raise _login_wanted(line, proxy)
    if method not in methods:
        raise line.fail(f"it chose the login method {method}, which was not offered", "It breaks RFC 1928.")
    if method == _BY_PASSWORD:
        _log_in(line, proxy)
    line.send(bytes([_SOCKS_VERSION, _CONNECT, 0]) + _socks_address(target) + target.port.to_bytes(2, "big"))
    version, reply, _, kind = line.read(4, "the answer to the request")
    if version != _SOCKS_VERSION:
        raise line.fail(f"its answer has the version {version}, not {_SOCKS_VERSION}", "It breaks RFC 1928.")
    if reply:
        raise _explain_reply(line, reply)
    # The address that it connects from, which nobody needs, is read to its end: the server's bytes follow.
    if kind == _NAME:
        line.read(line.read(1, "its own address")[0] + 2, "its own address")
    elif kind in _ADDRESS_BYTES:
        line.read(_ADDRESS_BYTES[kind] + 2, "its own address")
    else:
        raise line.fail(f"its answer holds an address of the unknown kind {kind}", "It breaks RFC 1928.")


def _log_in(line: _Line, proxy: Proxy) -> None:
    username, password = (text.encode() for text in (proxy.username or "", proxy.password or ""))
    line.send(bytes([_LOGIN_VERSION, len(username)]) + username + bytes([len(password)]) + password)
    _, status = line.read(2, "the answer to the login")
    if status:
        raise line.refuse(f"it does not accept the login of {proxy.username!r}", CREDENTIALS_HINT)


def _socks_address(target: _Target) -> bytes:
    if target.address is None:
        return bytes([_NAME, len(target.name)]) + target.name
    return bytes([_IPV4 if target.address.version == 4 else _IPV6]) + target.address.packed


def _not_socks(line: _Line, first: bytes) -> ConnectFailed:
    said = first + line.glance(MAX_QUOTED_CHARACTERS)
    hint = "It speaks another protocol. Check 'type' and 'port' under 'proxy'."
    if said.startswith(_HTTP_MARK):
        hint = "It is an HTTP server or proxy: 'type: http' may be right."
    return line.fail(f"it does not speak SOCKS5; it said {quote(said)}", hint)


def _login_wanted(line: _Line, proxy: Proxy) -> ForwardingRefused:
    if proxy.username is None:
        return line.refuse("it wants a login", "Set 'username' and 'password' under 'proxy'.")
    return line.refuse(
        "it takes neither a username with a password nor no login at all",
        "The runner knows no other login for SOCKS5 (RFC 1929).",
    )


def _explain_reply(line: _Line, reply: int) -> UnreachableError:
    if reply in _RULES:
        return line.refuse(f"it refused: {_RULES[reply]} (reply {reply})", RULES_HINT)
    text = _FAILURES.get(reply, "for a reason that RFC 1928 does not know")
    hint = "The proxy itself looks up the name and connects: check 'host' and 'port', and try them from there."
    return line.fail(f"it cannot reach the host: {text} (reply {reply})", hint)


# --- HTTP CONNECT ---


def _ask_http(line: _Line, proxy: Proxy, target: _Target) -> None:
    """Have an HTTP proxy connect us."""
    lines = [f"CONNECT {target.authority} HTTP/1.1", f"Host: {target.authority}", f"User-Agent: runner/{VERSION}"]
    if proxy.username is not None:
        login = f"{proxy.username}:{proxy.password or ''}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode('ascii')}")
    line.send("\r\n".join([*lines, "", ""]).encode("ascii"))
    head = _read_head(line)
    found = _STATUS_LINE.match(head)
    if found is None:
        raise _not_http(line, head)
    status, reason = int(found[1]), found[2] or b""
    if not 200 <= status < 300:
        raise _explain_status(line, proxy, status, reason, head)


def _read_head(line: _Line) -> bytes:
    """The answer up to its empty line, and not a byte more. Of what does not look like one, the beginning."""
    head = b""
    while True:
        # Looked at before it is taken: what follows the empty line is the server's.
        seen = line.peek(MAX_HEAD_BYTES, "an HTTP answer")
        taken = head[-3:]
        end = _HEAD_END.search(taken + seen)
        head += line.read(end.end() - len(taken) if end else len(seen), "an HTTP answer")
        if end or not (head.startswith(_HTTP_MARK) or _HTTP_MARK.startswith(head)):
            return head
        if len(head) > MAX_HEAD_BYTES:
            raise line.fail(
                f"its answer has more than {MAX_HEAD_BYTES:,} bytes of headers; it begins with {quote(head[:100])}",
                "Is it an HTTP proxy that knows CONNECT?",
            )


def _not_http(line: _Line, head: bytes) -> ConnectFailed:
    hint = "It speaks another protocol. Check 'type' and 'port' under 'proxy'."
    if head[:1] == bytes([_SOCKS_VERSION]):
        hint = "It may be a SOCKS5 proxy: 'type: socks5'."
    return line.fail(f"it does not speak HTTP; it said {quote(head)}", hint)


def _explain_status(line: _Line, proxy: Proxy, status: int, reason: bytes, head: bytes) -> UnreachableError:
    said = f"it said {status} {quote(reason)}" if reason.strip() else f"it said {status}"
    if status == 407:
        return _explain_login(line, proxy, said, head)
    if status in _GATEWAY_STATUSES:
        hint = "The proxy itself looks up the name and connects: check 'host' and 'port', and try them from there."
        return line.fail(f"it cannot reach the host: {said}", hint)
    if status in (400, 404, 405, 501):
        return line.refuse(said, "Is it an HTTP proxy that knows CONNECT, and not a web server?")
    return line.refuse(said, RULES_HINT)


def _explain_login(line: _Line, proxy: Proxy, said: str, head: bytes) -> ForwardingRefused:
    schemes = list(dict.fromkeys(scheme.decode("ascii") for scheme in _SCHEMES.findall(head)))
    if schemes and "basic" not in (scheme.lower() for scheme in schemes):
        hint = "The runner knows Basic only. Ask the proxy's operator for that, or for a login by address."
        return line.refuse(f"{said}: it wants a login by {', '.join(schemes)[:MAX_QUOTED_CHARACTERS]}", hint)
    if proxy.username is None:
        return line.refuse(f"{said}: it wants a login", "Set 'username' and 'password' under 'proxy'.")
    return line.refuse(f"{said}: it does not accept the login of {proxy.username!r}", CREDENTIALS_HINT)
