"""Text that is safe to print, and quantities that people can read."""

from __future__ import annotations

from runner.redaction import escape_unsafe

# What a fact about a server is called stands in a column of this width.
LABEL_WIDTH = 16

_COLOURS = {
    "ok": "32",
    "changed": "33",
    "skipped": "36",
    "failed": "31",
    "unreachable": "31",
    "rescued": "33",
    "ignored": "33",
    "dim": "2",
    "bold": "1",
}


def printable(text: str) -> str:
    """`text` with every control, format and unpaired surrogate character escaped, and with no command for a CI system.

    What servers, file names and banners say goes through here, so that it can neither drive the terminal nor break a
    line in a log.
    """
    return escape_unsafe(text)


def paint(text: str, colour: str, *, is_coloured: bool) -> str:
    """`text` in the colour that stands for a status."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if is_coloured else text


def format_fact(label: str, value: str) -> str:
    """One line of what is known of a server."""
    return f"{label:<{LABEL_WIDTH}} {value}"


def format_trait(value: str, reason: str) -> str:
    """What is held to be true of a server, and why: `set by handle`, `refused (it said so)`."""
    return f"{value} ({reason})" if reason else value


def format_size(count_bytes: float) -> str:
    """A number of bytes in binary units: `512 B`, `12.3 MiB`."""
    if count_bytes < 1024:
        return f"{count_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count_bytes /= 1024
        if count_bytes < 1024:
            return f"{count_bytes:.1f} {unit}"
    return f"{count_bytes / 1024:.1f} TiB"


def format_duration(seconds: float) -> str:
    """A length of time: `0.42 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def format_milliseconds(seconds: float) -> str:
    """A short time: `0.3 ms`, `120 ms`."""
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def format_rate(count_bytes: float, seconds: float) -> str:
    """Bytes a second: `31.2 MiB/s`."""
    return f"{format_size(count_bytes / max(seconds, 0.001))}/s"
