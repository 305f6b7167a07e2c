"""Filters on single values: switches, moments, sizes."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

from runner.playbook.document import shorten
from runner.playbook.filters.misuse import Misuse, need_text, refuse

_TRUE, _FALSE = ("yes", "on", "true", "1"), ("no", "off", "false", "0")

_SIZES = {unit: 1 << 10 * power for power, unit in enumerate("BKMGTPEZY")}
_WORDS = dict(zip("BKMGTPEZY", ("", "kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "yotta"), strict=True))
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)(?:\s*([A-Za-z]+))?\s*")
MAX_NUMBER_LENGTH = 100
MAX_FORMAT_LENGTH = 1000


def to_bool(value: Any) -> bool:
    """What a word means as a switch: `yes`, `on`, `true`, `1` and their opposites, in any case. Raises `Misuse`."""
    word = str(value).lower() if isinstance(value, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    hint = f"It knows {', '.join(_TRUE)} and {', '.join(_FALSE)}. For 'is there something' write … | length > 0."
    raise refuse("bool", "a word for true or false", value, hint)


def ternary(value: Any, true_val: Any, false_val: Any, none_val: Any = None) -> Any:
    """One value or the other; `none_val` for null, if that is given."""
    if value is None and none_val is not None:
        return none_val
    return true_val if value else false_val


def to_datetime(text: Any, format: str = "%Y-%m-%d %H:%M:%S") -> datetime:  # noqa: A002  (Ansible calls it so)
    """The moment that the text names, without a time zone unless the format has one. Raises `Misuse`."""
    try:
        return datetime.strptime(need_text(text, "to_datetime"), need_text(format, "to_datetime"))
    except (ValueError, re.error) as error:
        hint = "Say how it is written: to_datetime('%Y%m%d')."
        raise Misuse(f"'to_datetime': {shorten(str(error))}", hint) from error


def strftime(string_format: Any, second: Any = None, utc: bool = False) -> str:
    """The format filled in with a moment, given in seconds since 1970; with the present one if none is given."""
    if isinstance(string_format, datetime):
        raise refuse(
            "strftime", "the format before it", string_format, "Write MOMENT.strftime('%Y-%m-%d'), with a dot."
        )
    if len(need_text(string_format, "strftime")) > MAX_FORMAT_LENGTH:
        raise Misuse(f"'strftime': the format is longer than {MAX_FORMAT_LENGTH:,} characters")
    try:
        moment = None if second is None else float(second)
        return time.strftime(string_format, time.gmtime(moment) if utc else time.localtime(moment))
    except (TypeError, ValueError, OverflowError, OSError) as error:
        hint = "Seconds since 1970 are a number, as modified_at or MOMENT.timestamp() gives them."
        raise Misuse(
            f"'strftime': {shorten(repr(second))} is no moment, or the format is wrong: {error}", hint
        ) from error


def human_readable(size: Any, isbits: bool = False, unit: str | None = None) -> str:
    """A size for readers: `1.50 KB`. Raises `Misuse`."""
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise refuse("human_readable", "a number", size, "Add '| int' before it." if isinstance(size, str) else "")
    chosen = (unit or "").upper()[:1] if unit else next((one for one in reversed(_SIZES) if size >= _SIZES[one]), "B")
    if unit and (chosen not in _SIZES or len(unit) != 1):
        raise Misuse(f"'human_readable' knows no unit {shorten(repr(unit))}", f"Known: {', '.join(_SIZES)}.")
    whole = "bits" if isbits else "Bytes"
    try:
        return f"{size / _SIZES[chosen]:.2f} {whole if chosen == 'B' else chosen + whole[0]}"
    except OverflowError as error:
        raise Misuse("'human_readable': the number is too large") from error


def human_to_bytes(size: Any, default_unit: str | None = None, isbits: bool = False) -> int:
    """The number of bytes of a size as people write it: `2K`, `1.5 MB`; of bits with `isbits`. Raises `Misuse`."""
    text = str(size)
    found = _SIZE.fullmatch(text) if len(text) <= MAX_NUMBER_LENGTH else None
    if found is None:
        raise Misuse(
            f"'human_to_bytes' cannot read {shorten(repr(text))}", "Sizes are written as 10, 2K, 1.5 MB or 3 GB."
        )
    unit = found[2] or default_unit
    if unit is None:
        return round(float(found[1]))
    letter = str(unit)[:1].upper()
    if letter not in _SIZES:
        raise Misuse(f"'human_to_bytes' knows no unit {shorten(repr(unit))}", f"Known: {', '.join(_SIZES)}.")
    kind, symbol = ("bit", "b") if isbits else ("byte", "B")
    right = symbol if letter == "B" else letter + symbol
    if len(unit) > 1 and unit != right and unit.lower() != _WORDS[letter] + kind:
        hint = f"Write {right}: 'b' is a bit, 'B' a byte."
        raise Misuse(f"'human_to_bytes' cannot read {shorten(repr(text))} as {kind}s", hint)
    return round(float(found[1]) * _SIZES[letter])
