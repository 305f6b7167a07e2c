"""Loads modules while a server is waited for: paramiko, fabric and what follows are a third of what a small copy takes."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence

# No more than a few: later connections find everything loaded.
_threads: list[threading.Thread] = []


def load_meanwhile(names: Sequence[str]) -> None:
    """Begin to load modules. Whoever imports one of them, and holds no other half loaded, waits until it is there."""
    missing = [name for name in names if name not in sys.modules]
    if missing:
        thread = threading.Thread(target=_load, args=(missing,))
        _threads.append(thread)
        thread.start()


def wait_until_loaded() -> None:
    """Wait for what was begun for a connection, which may have failed before it was needed.

    Two threads that load parts of one library at a time may each meet half of it, and some modules cannot be loaded any more
    when the program ends.
    """
    for thread in tuple(_threads):
        thread.join()


def _load(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)
