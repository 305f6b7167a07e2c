"""Asks a server for its host keys, without trusting them: for `runner hostkey`."""

from __future__ import annotations

from dataclasses import dataclass

import paramiko

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut
from runner.plan import Proxy
from runner.public_keys import KEY_TYPES, PublicKey
from runner.ssh.dial import WorkingAddresses, dial
from runner.ssh.host_certificates import ALGORITHMS, parse_certificate
from runner.ssh.host_keys import CERTIFICATE_ALGORITHMS
from runner.ssh.proxy import dial_through
from runner.ssh.transport import StrictTransport


@dataclass(frozen=True, slots=True)
class ShownKeys:
    """What a server shows: its keys, and the authority of its first certificate if it has one. Nothing is verified."""

    keys: tuple[PublicKey, ...]
    authority: PublicKey | None


def scan_host_keys(host: str, port: int, timeout_seconds: float, proxy: Proxy | None = None) -> ShownKeys:
    """Every host key that the server at `host`:`port` holds, one connection for each type; nothing is verified.

    Raises `ConnectFailed`, `ConnectTimedOut` or `ForwardingRefused` when the server cannot be asked.
    """
    deadline = Deadline.after(timeout_seconds)
    working = WorkingAddresses()
    keys: list[PublicKey] = []
    for type_name in KEY_TYPES:
        shown = _ask(host, port, ALGORITHMS[type_name], deadline, timeout_seconds, working, proxy)
        if shown is not None:
            keys.append(PublicKey(shown.get_name(), shown.asbytes()))
    if not keys:
        raise ConnectFailed(f"{host}:{port} has no host key of a type the runner supports: {', '.join(KEY_TYPES)}")
    certified = _ask(host, port, CERTIFICATE_ALGORITHMS, deadline, timeout_seconds, working, proxy)
    return ShownKeys(tuple(keys), _find_authority(certified) if certified is not None else None)


def _ask(
    host: str,
    port: int,
    algorithms: tuple[str, ...],
    deadline: Deadline,
    timeout_seconds: float,
    working: WorkingAddresses,
    proxy: Proxy | None,
) -> paramiko.PKey | None:
    """The key that the server shows when it is asked for these types, None if it has none of them."""
    if proxy is None:
        sock = dial(host, port, deadline, Cancellation(), working)
    else:
        sock = dial_through(proxy, host, port, deadline, Cancellation(), working)
    transport = StrictTransport(sock, algorithms, is_greeted=True)
    transport.banner_timeout = transport.handshake_timeout = max(1.0, deadline.remaining_seconds)
    failure: Exception | None = None
    shown: paramiko.PKey | None = None
    try:
        transport.start_client(timeout=max(0.1, deadline.remaining_seconds))
        shown = transport.get_remote_server_key()
    except paramiko.IncompatiblePeer as error:
        if "host key" not in str(error):
            failure = error
    except (paramiko.SSHException, OSError, EOFError) as error:
        failure = error
    finally:
        transport.close()
    if deadline.has_passed:
        raise ConnectTimedOut(
            f"{host}:{port} did not answer within {timeout_seconds:g} s: waited for {transport.stage}",
            hint="The host accepts connections but is overloaded or hangs at this stage.",
        ) from failure
    if failure is not None:
        raise ConnectFailed(
            f"{host}:{port} does not answer as an SSH server: {' '.join(str(failure).split())}",
            hint="Check host and port.",
        ) from failure
    return shown


def _find_authority(certified: paramiko.PKey) -> PublicKey | None:
    try:
        return parse_certificate(certified.public_blob.key_blob).authority
    except ValueError:
        # It is damaged; `runner play` would refuse it.
        return None
