"""Asks a server for its host keys, without trusting them: for `runner hostkey`."""

from __future__ import annotations

import paramiko

from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut
from runner.public_keys import KEY_TYPES, PublicKey
from runner.ssh.dial import dial
from runner.ssh.host_certificates import ALGORITHMS
from runner.ssh.transport import StrictTransport


def scan_host_keys(host: str, port: int, timeout_seconds: float) -> list[PublicKey]:
    """Every host key that the server at `host`:`port` holds, one connection for each type; nothing is verified.

    Raises `ConnectFailed` or `ConnectTimedOut` when the server cannot be asked.
    """
    deadline = Deadline.after(timeout_seconds)
    keys: list[PublicKey] = []
    failure: Exception | None = None
    for type_name in KEY_TYPES:
        sock = dial(host, port, deadline, Cancellation())
        transport = StrictTransport(sock, ALGORITHMS[type_name])
        transport.banner_timeout = transport.handshake_timeout = max(1.0, deadline.remaining_seconds)
        try:
            transport.start_client(timeout=max(0.1, deadline.remaining_seconds))
            shown = transport.get_remote_server_key()
            keys.append(PublicKey(shown.get_name(), shown.asbytes()))
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
    if not keys:
        raise ConnectFailed(f"{host}:{port} has no host key of a type the runner supports: {', '.join(KEY_TYPES)}")
    return keys
