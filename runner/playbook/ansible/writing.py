"""Values as one line of YAML, for hints that show what to write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runner.playbook.document import Decrypted, Unfilled, resolve_plain_scalar

# What stands for a value that is not known, or not shown.
LEFT_OPEN = "…"
MAX_TEXT_LENGTH = 300
MAX_ENTRIES = 30

_PLAIN = re.compile(r"[A-Za-z0-9_./~+-](?:[\w./~@%+= -]*[\w./~@%+=-])?", re.ASCII)
# YAML 1.1 takes them for booleans.
_OLD_BOOLEANS = {"y", "n", "yes", "no", "on", "off"}
_SECRET = re.compile(r"pass(word|phrase|wd)?(_|$)|passw|secret|token|private_key$|ssh_key$|credential|api_?key", re.I)


def write_pair(key: str, value: Any) -> str:
    """`key: value` in YAML's flow style, on one line."""
    return f"{write(key)}: {write(LEFT_OPEN if is_secret_name(key) and _holds_text(value) else value)}"


def write(value: Any) -> str:
    """A value in YAML's flow style, on one line and bounded in length. What a secret's name holds is not shown."""
    match value:
        case Decrypted() | Unfilled():
            return json.dumps(LEFT_OPEN, ensure_ascii=False)
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int() | float():
            return str(value)
        case Mapping():
            return "{" + ", ".join(write_pair(str(key), item) for key, item in list(value.items())[:MAX_ENTRIES]) + "}"
        case list() | tuple():
            return "[" + ", ".join(write(item) for item in value[:MAX_ENTRIES]) + "]"
    return _write_text(str(value))


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is one that no message may show."""
    return bool(_SECRET.search(name))


def join_names(names: Iterable[str], word: str = "and") -> str:
    """`'a', 'b' and 'c'`."""
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {word} {quoted[-1]}"


def _holds_text(value: Any) -> bool:
    # A template shows where the secret comes from, and nothing of it.
    return isinstance(value, str) and not re.fullmatch(r"\s*\{\{[^{}]*\}\}\s*", value)


def _write_text(text: str) -> str:
    if len(text) > MAX_TEXT_LENGTH:
        text = text[: MAX_TEXT_LENGTH - 1] + LEFT_OPEN
    is_plain = _PLAIN.fullmatch(text) and not text.startswith("- ") and text.lower() not in _OLD_BOOLEANS
    if is_plain and text != "-" and _means_itself(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _means_itself(text: str) -> bool:
    try:
        return resolve_plain_scalar(text) == text
    except ValueError:
        return False
