"""The arguments of an Ansible module: mappings, `key=value` in one line, booleans and modes as Ansible reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner.playbook.document import Decrypted, PositionedMap

# The words of a line that are no `key=value`.
FREE_FORM = "_raw_params"

# A template, or a whole text that is one, with what is in it. None of them looks further than the next one's beginning.
TEMPLATE = r"\{\{(?:(?!\{\{|\}\})[\s\S])*\}\}"
_WHOLE = re.compile(r"\s*\{\{\s*((?:(?!\{\{|\}\})[\s\S])*?)\s*\}\}\s*")

_TOKEN = re.compile(rf"""(?:{TEMPLATE}|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"]|['"])+""")
_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_TRUE = {"yes", "true", "on", "1", "y", "t"}
_SYMBOLIC = re.compile(r"([ugoa]+)=([rwx]*)")
_BITS = {"r": 4, "w": 2, "x": 1}
_DIGITS = re.compile(r"(?:0o)?[0-7]{3,5}")

SPECIAL_BITS_NOTE = "Set-uid, set-gid and sticky bits are never set"
NUMERIC_MODE_NOTE = "'permissions' takes octal digits in quotes"


def read_arguments(value: Any) -> dict[str, Any]:
    """The arguments by name. `key=value` text is taken apart; its other words are kept under `FREE_FORM`."""
    if isinstance(value, PositionedMap):
        return dict(value)
    if not isinstance(value, str):
        return {}
    arguments: dict[str, Any] = {}
    words = []
    for token in _TOKEN.findall(value):
        found = _PAIR.fullmatch(token)
        if found:
            arguments[found[1]] = _unquote(found[2])
        else:
            words.append(token)
    if words:
        arguments[FREE_FORM] = " ".join(words)
    return arguments


def read_pairs(value: object) -> dict[str, str] | None:
    """`key=value` text as a mapping; None if it is something else."""
    if not isinstance(value, str) or isinstance(value, Decrypted) or "=" not in value:
        return None
    found = read_arguments(value)
    return found if found and FREE_FORM not in found else None


def read_template(text: str) -> str:
    """The expression of a text that is one template; empty for any other."""
    found = _WHOLE.fullmatch(text)
    return found[1] if found else ""


def is_true(value: Any) -> bool:
    """What Ansible makes of a value where it wants a boolean."""
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in _TRUE)


def is_false(value: Any) -> bool:
    """Whether the value is there and means no."""
    return value is not None and not is_true(value) and not _is_template(value)


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def read_permissions(value: Any) -> tuple[str | None, str]:
    """The octal digits that a module's `mode` means, and a note about what of it is lost. None if there are none."""
    if value is None or value == "preserve":
        return None, ""
    if _is_template(value):
        return str(value), ""
    if isinstance(value, str) and (symbolic := _read_symbolic(value)):
        return symbolic, ""
    # An unquoted 0644 is the number 644 in YAML 1.2; its digits are what was written.
    digits = str(value).removeprefix("0o") if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not _DIGITS.fullmatch(digits.zfill(3)):
        return None, NUMERIC_MODE_NOTE
    special = digits.zfill(4)[:-3].strip("0")
    return f"0{digits.zfill(3)[-3:]}", SPECIAL_BITS_NOTE if special else ""


def _read_symbolic(text: str) -> str | None:
    bits = {"u": 0, "g": 0, "o": 0}
    for part in text.split(","):
        found = _SYMBOLIC.fullmatch(part.strip())
        if not found:
            return None
        for who in found[1].replace("a", "ugo"):
            bits[who] = sum(_BITS[one] for one in set(found[2]))
    return f"0{bits['u']}{bits['g']}{bits['o']}"


def last_name(path: str) -> str:
    """The last name of a path, a template if it is made by one."""
    tail = _last_part(path.rstrip("/"))
    inside = read_template(tail)
    if not inside:
        return tail
    expression = inside if re.fullmatch(r"[\w.\[\]']+", inside) else f"({inside})"
    return f"{{{{ {expression} | basename }}}}"


def _last_part(path: str) -> str:
    """What is behind the last '/' that is not inside a template."""
    start = 0
    for found in re.finditer(rf"{TEMPLATE}|/", path):
        start = found.end() if found[0] == "/" else start
    return path[start:]


def join_path(directory: str, name: str) -> str:
    """`directory/name` with one slash between them."""
    return f"{directory.rstrip('/')}/{name}"


def text_of(arguments: dict[str, Any], *names: str) -> str | None:
    """The first of the arguments that is there, as text."""
    for name in names:
        value = arguments.get(name)
        if value is not None and not isinstance(value, dict | list):
            return str(value) if not isinstance(value, bool) else str(value).lower()
    return None


def texts_of(value: Any) -> Iterator[str]:
    """The texts of a list, or of text with commas."""
    if isinstance(value, list):
        yield from (str(one) for one in value if isinstance(one, str | int | float))
    elif isinstance(value, str):
        yield from (one.strip() for one in value.split(",") if one.strip())


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
