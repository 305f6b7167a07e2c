"""Endpoints of test servers for `open_connection`, and a connection of one call."""

from __future__ import annotations

from pathlib import Path

from runner.cancellation import Cancellation, Deadline
from runner.plan import Endpoint, HostKeyPolicy, KnownHosts, SshKeyFile
from runner.ssh.connection import Connection
from runner.ssh.opening import open_connection
from tests.servers.endpoint import Endpoint as Server

LOGIN_SECONDS = 10


def make_endpoint(server: Server, policy: HostKeyPolicy) -> Endpoint:
    """The server with the key that it lets in, under a host key policy."""
    return Endpoint(server.host, server.port, SshKeyFile(server.username, str(server.user_key_path)), policy)


def connect_knowing(server: Server, known_hosts: Path, cancellation: Cancellation | None = None) -> Connection:
    """A connection to a server whose key must be in a known_hosts file."""
    endpoint = make_endpoint(server, KnownHosts((str(known_hosts),)))
    return open_connection(endpoint, Deadline.after(LOGIN_SECONDS), cancellation or Cancellation())
