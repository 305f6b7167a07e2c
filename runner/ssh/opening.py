"""Opens a connection: what is known of the host, credentials, dial, handshake — in this order, under one deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectionLost, ConnectTimedOut, HostKeyRefused, UnreachableError
from runner.plan import Endpoint, Fingerprints
from runner.ssh.credentials import find_credentials, let_go
from runner.ssh.dial import WorkingAddresses, dial
from runner.ssh.host_keys import HostKeyCheck
from runner.ssh.loading import load_meanwhile, wait_until_loaded

if TYPE_CHECKING:
    from runner.ssh.connection import Connection
    from runner.ssh.tunnel import Tunnel


def open_connection(
    endpoint: Endpoint,
    deadline: Deadline,
    cancellation: Cancellation,
    via: Connection | None = None,
    name: str = "",
    needed_next: Sequence[str] = (),
    working: WorkingAddresses | None = None,
) -> Connection:
    """A connection to `endpoint` under its strict host key policy, through the jump host `via` if there is one.

    `via` is closed with the new connection, and if there will be none. While the server is waited for, the modules
    `needed_next` are loaded. `working` is what is known of the addresses of host names.

    A host of which no key is known is refused before it is dialled. A fingerprint does not tell the key's type: when the
    server's first key does not fit, its keys of other types are looked at, each on a connection of its own, before the
    host is refused. A server that has no key of the known types is asked once more, so that the refusal can tell which key
    it has.

    Raises `ConnectFailed`, `NoCommonAlgorithm`, `ConnectTimedOut`, `ConnectionLost`, `ForwardingRefused`, `HostKeyRefused`,
    `AuthenticationRefused`, `CredentialUnusable`, `Interrupted`.
    """
    try:
        started_seconds = time.monotonic()
        opening = _Opening(endpoint, deadline, cancellation, via, name, working or WorkingAddresses())
        load_meanwhile(("runner.ssh.handshake", *needed_next))
        try:
            connection = opening.open()
            connection.opened_in_seconds = time.monotonic() - started_seconds
            return connection
        finally:
            opening.close()
    except BaseException:
        # Whatever is done next may load parts of the same libraries.
        wait_until_loaded()
        if via is not None:
            via.close()
        raise


class _Opening:
    """The attempts to open one connection; most need one."""

    def __init__(
        self,
        endpoint: Endpoint,
        deadline: Deadline,
        cancellation: Cancellation,
        via: Connection | None,
        name: str,
        working: WorkingAddresses,
    ) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._cancellation = cancellation
        self._via = via
        self._name = name
        self._working = working
        self._check = HostKeyCheck(endpoint, via.name if via is not None else "")
        # A host that is not known is refused before a credential is looked for, and both before anything is contacted.
        self._algorithms = self._check.algorithms
        self._credentials = find_credentials(endpoint.authentication, deadline, cancellation)

    def open(self) -> Connection:
        knows_only_fingerprints = isinstance(self._endpoint.host_key_policy, Fingerprints)
        algorithms = self._algorithms
        tried: set[str] = set()
        refusal: HostKeyRefused | None = None
        has_seen_key = False
        while True:
            tried |= set(algorithms)
            try:
                return self._open_once(algorithms)
            except HostKeyRefused as error:
                shown, self._check.shown = self._check.shown, None
                refusal = error if refusal is None or not has_seen_key else refusal
                has_seen_key = has_seen_key or shown is not None
                if shown is None:
                    algorithms = tuple(name for name in self._check.every_algorithm if name not in tried)
                elif knows_only_fingerprints:
                    proven = self._check.algorithms_of(shown.type)
                    algorithms = tuple(name for name in algorithms if name not in proven)
                else:
                    algorithms = ()
                if not algorithms:
                    raise refusal from error.__cause__
            except UnreachableError:
                if refusal is None or knows_only_fingerprints:
                    raise
                raise refusal from None

    def _open_once(self, algorithms: tuple[str, ...]) -> Connection:
        sock = self._reach()
        from runner.ssh.handshake import shake_hands

        try:
            return shake_hands(
                self._endpoint,
                sock,
                self._check,
                self._credentials,
                algorithms,
                self._deadline,
                self._cancellation,
                self._via,
                self._name,
            )
        except UnreachableError as error:
            proxy = self._endpoint.proxy
            self._working.forget(self._endpoint.host if proxy is None else proxy.host)
            if proxy is not None and isinstance(error, ConnectFailed | ConnectTimedOut | ConnectionLost):
                # The proxy has said that the host is reached; what answers there may be something of its own.
                error.add(f"The connection goes through the {proxy}")
            raise

    def _reach(self) -> socket.socket | Tunnel:
        host, port, proxy = self._endpoint.host, self._endpoint.port, self._endpoint.proxy
        if self._via is not None:
            return self._via.open_tunnel(host, port, self._deadline, self._cancellation)
        if proxy is not None:
            # Few connections have one.
            from runner.ssh.proxy import dial_through

            return dial_through(proxy, host, port, self._deadline, self._cancellation, self._working)
        return dial(host, port, self._deadline, self._cancellation, self._working)

    def close(self) -> None:
        """No login will follow."""
        let_go(self._credentials)
