"""Texts that ansible-vault (core 2.19) has encrypted, kept so that the format is tested where it is not installed."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
PASSWORD_FILE = FOLDER / "password.txt"
PASSWORD = b"vault-password-of-the-tests"
PLAIN = "correct horse battery"


def read(name: str) -> str:
    """One of the texts: `v1.1.vault` and `v1.2.vault` (with a last newline), `string.yaml` (without one)."""
    return (FOLDER / name).read_text(encoding="ascii")
