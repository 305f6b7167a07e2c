"""What a server says before the protocol begins: start-up files that print, greetings, refusals in plain text."""

from __future__ import annotations

# How much is kept of it, and how much an error quotes.
MAX_NOISE_BYTES = 1024
MAX_QUOTED_CHARACTERS = 200

NOISE_HINT = (
    "It comes from the account's start-up files (.bashrc, .profile, .cshrc), from the system's, from a forced command or a "
    "program in the shell's place. If it is a greeting, print it on terminals only: put `[ -t 1 ] || return` in front of "
    "it. If it is a refusal, ask the server's operator."
)


def quote_noise(data: bytes) -> str:
    """The readable beginning of what was said, on one line, bounded, and in quotes."""
    # Behind a NUL the protocol may have begun after all: no text has one.
    text = data[:MAX_NOISE_BYTES].partition(b"\0")[0].decode("utf-8", "replace")
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if not text:
        return repr(data[:16])[1:]
    return repr(text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…")


def has_whole_line(data: bytes | bytearray) -> bool:
    """Whether enough has come to be quoted: a line that says something, or more than will be."""
    return b"\n" in data.lstrip() or len(data) >= MAX_NOISE_BYTES
