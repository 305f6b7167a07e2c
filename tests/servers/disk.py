"""A file system that can really be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_COMMAND_SECONDS = 60


class NotAvailable(Exception):
    """This process may not mount; the message says what `mount` said, and makes a good reason to skip."""


@contextlib.contextmanager
def small_filesystem(size_bytes: int) -> Iterator[Path]:
    """A tmpfs of `size_bytes` (rounded up to whole pages), empty, gone afterwards; or `NotAvailable`."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as folder:
        _mount(folder, size_bytes)
        try:
            yield Path(folder)
        finally:
            # Lazily: a server still holding a file open must not make the clean-up fail.
            subprocess.run(["umount", "--lazy", folder], check=True, timeout=_COMMAND_SECONDS)


def _mount(folder: str, size_bytes: int) -> None:
    if os.geteuid() != 0:
        raise NotAvailable("only root can mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", folder]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except FileNotFoundError:
        raise NotAvailable("no mount command on this machine") from None
    except subprocess.CalledProcessError as error:
        first_line = error.stderr.strip().partition("\n")[0]
        raise NotAvailable(f"cannot mount a tmpfs: {first_line}") from None
