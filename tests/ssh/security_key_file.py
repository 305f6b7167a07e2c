"""The file that `ssh-keygen -t ed25519-sk` leaves: PROTOCOL.key and PROTOCOL.u2f of OpenSSH. It holds no private key."""

from __future__ import annotations

import base64
import struct
import textwrap

from tests.ssh.fake_agents import SecurityKey, string, take_strings


def write_key_file_text(key: SecurityKey) -> str:
    """The text of the private half's file, not encrypted."""
    fields = b"".join(map(string, take_strings(key.blob))) + b"\1" + string(b"handle of the token") + string(b"")
    private = struct.pack(">II", 99, 99) + fields + string(b"comment")
    padding = bytes(range(1, -len(private) % 8 + 1))
    body = b"openssh-key-v1\0" + string(b"none") * 2 + string(b"") + struct.pack(">I", 1) + string(key.blob)
    text = base64.b64encode(body + string(private + padding)).decode()
    lines = "\n".join(textwrap.wrap(text, 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}\n-----END OPENSSH PRIVATE KEY-----\n"
