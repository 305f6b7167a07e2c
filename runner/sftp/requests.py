"""Single requests and what their replies hold, waited for."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from runner.sftp.packets import Attributes, MalformedPacket, Reader, Type
from runner.sftp.session import Reply, SftpSession

T = TypeVar("T")


def ask_to_open(session: SftpSession, encoded_path: bytes, flags: int, attributes: Attributes) -> Reply:
    """Ask for a handle of a file, without waiting for it."""
    return session.submit(Type.OPEN, encoded_path, struct.pack(">I", flags), attributes.encode())


def take(session: SftpSession, reply: Reply, kind: int, take_out: Callable[[Reader], T]) -> T:
    """Wait for a reply and take out what it holds. Raises `Refusal`, and `ConnectionLost` for one that is malformed."""
    try:
        return take_out(session.expect(reply, kind))
    except MalformedPacket as error:
        raise session.malformed_field(error) from error
