"""Asks a server for its host keys, without trusting them: for `runner hostkey`."""

from __future__ import annotations

from dataclasses import dataclass

import paramiko

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut, UsageError
from runner.plan import Proxy
from runner.public_keys import KEY_TYPES, PublicKey
from runner.ssh.dial import WorkingAddresses, dial
from runner.ssh.host_certificates import ALGORITHMS, parse_certificate
from runner.ssh.host_keys import CERTIFICATE_ALGORITHMS, RSA
from runner.ssh.legacy import NAMES
from runner.ssh.negotiation import HOST_KEY, explain_mismatches
from runner.ssh.proxy import dial_through
from runner.ssh.transport import StrictTransport


@dataclass(frozen=True, slots=True)
class ShownKeys:
    """What a server shows: its keys, and the authority of its first certificate if it has one. Nothing is verified."""

    keys: tuple[PublicKey, ...]
    authority: PublicKey | None


def scan_host_keys(
    host: str,
    port: int,
    timeout_seconds: float,
    legacy_algorithms: tuple[str, ...] = (),
    proxy: Proxy | None = None,
) -> ShownKeys:
    """Every host key that the server at `host`:`port` holds, one connection for each type; nothing is verified.

    `legacy_algorithms` are offered behind all others. Raises `UsageError` for one that is not known; `ConnectFailed`,
    `NoCommonAlgorithm`, `ForwardingRefused` or `ConnectTimedOut` when the server cannot be asked.
    """
    if unknown := [name for name in legacy_algorithms if name not in NAMES]:
        raise UsageError(f"no legacy algorithm is called '{unknown[0]}'", hint=f"Known: {', '.join(sorted(NAMES))}.")
    deadline = Deadline.after(timeout_seconds)
    working = WorkingAddresses()
    keys: list[PublicKey] = []
    for type_name in KEY_TYPES:
        sha1 = tuple(name for name in legacy_algorithms if name == type_name == RSA)
        algorithms = ALGORITHMS[type_name] + sha1
        shown = _ask(host, port, algorithms, legacy_algorithms, deadline, timeout_seconds, working, proxy)
        if shown is not None:
            keys.append(PublicKey(shown.get_name(), shown.asbytes()))
    if not keys:
        raise ConnectFailed(
            f"{host}:{port} has no host key of a type the runner supports: {', '.join(KEY_TYPES)}",
            hint=""
            if RSA in legacy_algorithms
            else "An old server may prove an RSA key with SHA-1 only: `--legacy-algorithms ssh-rsa`.",
        )
    certified = _ask(host, port, CERTIFICATE_ALGORITHMS, legacy_algorithms, deadline, timeout_seconds, working, proxy)
    return ShownKeys(tuple(keys), _find_authority(certified) if certified is not None else None)


def _ask(
    host: str,
    port: int,
    algorithms: tuple[str, ...],
    legacy_algorithms: tuple[str, ...],
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
    transport = StrictTransport(sock, algorithms, is_greeted=True, legacy_algorithms=legacy_algorithms)
    transport.banner_timeout = transport.handshake_timeout = max(1.0, deadline.remaining_seconds)
    failure: Exception | None = None
    shown: paramiko.PKey | None = None
    try:
        transport.start_client(timeout=max(0.1, deadline.remaining_seconds))
        shown = transport.get_remote_server_key()
    except paramiko.IncompatiblePeer as error:
        mismatches = [one for one in transport.mismatches if one.kind != HOST_KEY]
        if mismatches:
            refusal = explain_mismatches(f"{host}:{port}", mismatches, legacy_algorithms)
            if all(one.needed for one in mismatches):
                names = ",".join([*legacy_algorithms, *(one.needed for one in mismatches)])
                refusal.hint = f"{refusal.hint} Here: `--legacy-algorithms {names}`."
            raise refusal from error
        if not transport.mismatches:
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
