"""What the runner uses of paramiko, fabric and invoke without their having promised it: it is there, and as it was.

A new version that moves one of these is told here by name. Everything else of the suite says only that nothing works.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabric
import paramiko
import pytest
from paramiko.auth_handler import AuthHandler, AuthOnlyHandler
from paramiko.auth_strategy import AuthStrategy
from paramiko.kex_gex import KexGexSHA256
from paramiko.kex_group14 import KexGroup14SHA256
from paramiko.packet import Packetizer
from paramiko.transport import ServiceRequestingTransport, Transport

from runner.ssh.packetizer import BulkPacketizer

SSH = Path(__file__).parents[2] / "runner" / "ssh"
LIBRARIES = ("paramiko", "fabric", "invoke")

# Overridden, or called: with these parameters.
METHODS: list[tuple[type, str, str]] = [
    (Transport, "_channel_handler_table", ""),
    (Transport, "_activate_inbound", "(self)"),
    (Transport, "_cipher_info", ""),
    (Transport, "_kex_info", ""),
    (Transport, "_key_info", ""),
    (Transport, "_mac_info", ""),
    (Transport, "_parse_channel_open_failure", "(self, m)"),
    (Transport, "_parse_channel_open_success", "(self, m)"),
    (Transport, "_parse_ext_info", "(self, msg)"),
    (Transport, "_really_parse_kex_init", "(self, m, ignore_first_byte=False)"),
    (Transport, "_sanitize_window_size", "(self, window_size)"),
    (Transport, "_send_message", "(self, data)"),
    (Transport, "_verify_key", "(self, host_key, sig)"),
    (Transport, "preferred_keys", ""),
    (ServiceRequestingTransport, "_parse_service_accept", "(self, m)"),
    (ServiceRequestingTransport, "ensure_session", "(self)"),
    (AuthHandler, "_finalize_pubkey_algorithm", "(self, key_type)"),
    (AuthHandler, "_parse_userauth_failure", "(self, m)"),
    (AuthHandler, "_parse_userauth_info_request", "(self, m)"),
    (AuthHandler, "_get_key_type_and_bits", "(self, key)"),
    (AuthHandler, "wait_for_response", "(self, event)"),
    (AuthOnlyHandler, "auth_publickey", "(self, username, key)"),
    (AuthOnlyHandler, "send_auth_request", "(self, username, method, finish_message=None)"),
    (AuthStrategy, "authenticate", "(self, transport)"),
    (KexGexSHA256, "hash_algo", ""),
    (KexGexSHA256, "name", ""),
    (KexGroup14SHA256, "P", ""),
    (KexGroup14SHA256, "hash_algo", ""),
    (KexGroup14SHA256, "name", ""),
    (paramiko.RSAKey, "HASHES", ""),
    (paramiko.PKey, "asbytes", "(self)"),
    (paramiko.PKey, "get_name", "(self)"),
    (paramiko.PKey, "sign_ssh_data", "(self, data, algorithm=None)"),
    (paramiko.Channel, "_check_add_window", "(self, n)"),
    (paramiko.Channel, "_request_failed", "(self, m)"),
    (paramiko.Channel, "_unlink", "(self)"),
    (
        Packetizer,
        "set_inbound_cipher",
        "(self, block_engine, block_size, mac_engine, mac_size, mac_key, etm=False, aead=False, iv_in=None)",
    ),
    (
        Packetizer,
        "set_outbound_cipher",
        "(self, block_engine, block_size, mac_engine, mac_size, mac_key, sdctr=False, etm=False, aead=False, "
        "iv_out=None)",
    ),
]

# Read or written on an object that has just been made.
CHANNEL_ATTRIBUTES = (
    "chanid closed eof_sent exit_status in_buffer in_stderr_buffer in_window_size in_window_threshold lock out_buffer_cv "
    "out_max_packet_size out_window_size remote_chanid transport"
)
TRANSPORT_ATTRIBUTES = (
    "_channels active agreed_on_strict_kex auth_handler channel_events clear_to_send clear_to_send_lock "
    "host_key_type initial_kex_done local_cipher local_compression local_mac local_version lock packetizer "
    "remote_cipher remote_compression remote_mac remote_version saved_exception sock banner_timeout handshake_timeout"
)


@pytest.fixture
def transport() -> Iterator[Transport]:
    ours, theirs = socket.socketpair()
    made = paramiko.Transport(ours)
    yield made
    made.close()
    ours.close()
    theirs.close()


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS, ids=lambda value: getattr(value, "__name__", None))
def test_a_method_is_there_with_its_parameters(owner: type, name: str, parameters: str) -> None:
    found = inspect.getattr_static(owner, name, None)

    assert found is not None, f"{owner.__name__} has no {name} any more"
    if parameters:
        assert str(inspect.signature(found)) == parameters


def test_attributes_are_there(transport: Transport) -> None:
    channel = paramiko.Channel(1)

    assert [name for name in TRANSPORT_ATTRIBUTES.split() if not hasattr(transport, name)] == []
    assert [name for name in CHANNEL_ATTRIBUTES.split() if not hasattr(channel, name)] == []
    table: Any = inspect.getattr_static(Transport, "_channel_handler_table")
    assert table[paramiko.common.MSG_CHANNEL_FAILURE] is paramiko.Channel._request_failed
    assert transport._channels.get(1) is None
    # What `StrictTransport` puts in their place.
    assert isinstance(inspect.getattr_static(Transport, "preferred_keys"), property)
    assert "saved_exception" not in vars(Transport)


def test_everything_that_the_transport_asks_of_its_packetizer_is_there() -> None:
    """It takes the place of paramiko's own, and of that one's every method that paramiko calls."""
    asked = {
        node.attr
        for name in ("transport", "channel", "auth_handler")
        for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(f"paramiko.{name}"))))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("packetizer")
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        packetizer = BulkPacketizer(ours)

        assert {"read_message", "send_message", "set_inbound_cipher", "readline"} <= asked
        assert sorted(name for name in asked if not hasattr(packetizer, name)) == []


def test_what_fabric_is_given_it_takes() -> None:
    ssh_config = paramiko.SSHConfig()
    connection = inspect.signature(fabric.Connection.__init__).parameters
    connect = inspect.signature(paramiko.SSHClient.connect).parameters

    assert fabric.Config(lazy=True, ssh_config=ssh_config).base_ssh_config is ssh_config
    assert {"user", "port", "config", "connect_kwargs"} <= connection.keys()
    given = {
        "sock",
        "transport_factory",
        "auth_strategy",
        "banner_timeout",
        "auth_timeout",
        "channel_timeout",
        "timeout",
    }
    assert given <= connect.keys()


def test_what_is_put_off_of_invoke_is_where_it_was() -> None:
    """`lean_imports` knows these two by name; were they elsewhere, starting up would only be slower."""
    assert "from unittest.mock import Mock" in inspect.getsource(importlib.import_module("invoke.context"))
    assert importlib.util.find_spec("invoke.vendor.yaml") is not None


def test_the_stand_in_for_package_metadata_gives_what_the_real_one_has() -> None:
    """A package whose version cannot be told from its folder's name, and everything but versions."""
    program = """
import sys
from runner.ssh import lean_imports
with lean_imports._without(*lean_imports._STAND_INS["paramiko"]):
    from importlib import metadata
    assert metadata.__spec__ is None
    found = metadata.version("jsonschema"), metadata.version("ruamel.yaml"), metadata.metadata("jsonschema")["Name"]
from importlib import metadata
assert metadata.__spec__ is not None
assert found == (metadata.version("jsonschema"), metadata.version("ruamel.yaml"), "jsonschema"), found
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr


def test_nothing_else_private_is_used() -> None:
    """A name that is used from now on is to be listed above."""
    listed = {name for _, name, _ in METHODS} | set(CHANNEL_ATTRIBUTES.split()) | set(TRANSPORT_ATTRIBUTES.split())
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SSH.glob("*.py"))}
    own = {name for tree in trees.values() for name in defined_in(tree)}

    used = {f"{file}: {name}" for file, tree in trees.items() for name in used_in(tree, own) if name not in listed}
    replaced = {f"{owner}: {name}" for owner, name in overridden() if name not in listed}

    assert sorted(used) == []
    assert sorted(replaced) == []


def defined_in(tree: ast.Module) -> Iterator[str]:
    """Private names that this module gives to attributes and methods of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def used_in(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Private attributes of others' objects, and all that is asked of a base class."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        whose = ast.unparse(node.value)
        if whose == "super()" or (whose not in ("self", "cls") and node.attr not in {*own, "_replace"}):
            yield node.attr


def overridden() -> Iterator[tuple[str, str]]:
    """What classes of the runner replace of the libraries' classes that they derive from."""
    for path in sorted(SSH.glob("*.py")):
        module = importlib.import_module(f"runner.ssh.{path.stem}")
        for found in vars(module).values():
            if not isinstance(found, type) or found.__module__ != module.__name__:
                continue
            bases = [base for base in found.__mro__ if base.__module__.split(".")[0] in LIBRARIES]
            for name, value in vars(found).items():
                is_special = name.startswith("__") or isinstance(value, types.MemberDescriptorType)
                if not is_special and any(name in vars(base) for base in bases):
                    yield found.__name__, name
