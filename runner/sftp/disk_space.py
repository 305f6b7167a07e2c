"""How much room a server's file system has: statvfs@openssh.com, OpenSSH's PROTOCOL section 4.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.sftp.packets import MalformedPacket, Reader, Type, encode_path, encode_string
from runner.sftp.session import Refusal, SftpSession

if TYPE_CHECKING:
    from runner.findings import DiskSpace

EXTENSION = "statvfs@openssh.com"


def ask_disk_space(session: SftpSession, folder: str) -> DiskSpace | None:
    """The file system below a folder; None if the server does not tell. Raises when the session ends."""
    if EXTENSION not in session.extensions:
        return None
    try:
        return read_disk_space(
            session.expect(session.submit(Type.EXTENDED, encode_question(folder)), Type.EXTENDED_REPLY)
        )
    except (Refusal, MalformedPacket):
        return None


def encode_question(folder: str) -> bytes:
    """What an extended request asks for the file system below a folder."""
    return encode_string(EXTENSION.encode()) + encode_path(folder)


def read_disk_space(reader: Reader) -> DiskSpace:
    """The answer to it. Raises `MalformedPacket`."""
    # f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail
    block, fragment, blocks, _, available, files, _, free_files = (reader.take_uint64() for _ in range(8))
    # Seldom asked, and not loaded before.
    from runner.findings import DiskSpace

    # POSIX counts blocks in units of f_frsize; some servers leave it 0.
    unit = fragment or block
    return DiskSpace(blocks * unit, available * unit, files, free_files)
