"""Finds secrets that a text shows in hexadecimal."""

from __future__ import annotations

import re

# A secret in hexadecimal is found by stretches of this length; one that is shorter than the least could be any number.
HEX_WINDOW_BYTES = 8
MIN_HEX_BYTES = 4

# `6a75`, `6A:75`, `6a 75`, `0x6a, 0x75`, `\x6a\x75`, also over the ends of lines.
_HEX_GAP = r"(?:[\s:,;-]|\\[rn]|\\x|0[xX]|%){0,8}+"
_HEX_RUN = re.compile(rf"[0-9A-Fa-f](?:{_HEX_GAP}[0-9A-Fa-f]){{{MIN_HEX_BYTES * 2 - 1},}}+")
_HEX_ONLY = re.compile("[0-9A-Fa-f]+")
# A `0` before an `x` is no digit of it.
_HEX_DIGIT = re.compile(r"(?!0[xX])[0-9A-Fa-f]")
# Between the digits of a dump's line and the same bytes as text.
_DUMP_GAP = re.compile(r"[ \t|]*")


class HexSearch:
    """Finds secrets in hexadecimal, in whatever groups and lines `xxd`, `od`, `openssl` and programmers write it.

    A text is searched once for runs of hexadecimal digits, whatever the number of secrets; in a run every stretch of eight
    bytes of a secret is found, so that offsets and line ends between them do not matter. A shorter secret is found whole.
    """

    def __init__(self) -> None:
        self._new: list[str] = []
        # By their length, the stretches to look for, and what all of them look like.
        self._windows: dict[int, set[str]] = {}
        self._firsts: dict[int, set[str]] = {}
        self._filters: dict[int, re.Pattern[str]] = {}

    def add(self, secret: str) -> None:
        """Look for this secret from now on."""
        self._new.append(secret)

    def find(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` a secret stands in hexadecimal: first and behind the last character, in order, not overlapping."""
        runs = list(_HEX_RUN.finditer(text))
        if not runs:
            return []
        if self._new:
            self._index()
        spans = [span for run in runs for span in self._find_in_run(run[0], run.start())]
        return _join_spans([(start, _end_of_dump(text, start, end)) for start, end in spans])

    def _index(self) -> None:
        for secret in self._new:
            for piece in {secret, secret.strip()}:
                digits = piece.encode("utf-8", "surrogatepass").hex()
                length = min(len(digits), HEX_WINDOW_BYTES * 2)
                if length >= MIN_HEX_BYTES * 2:
                    starts = range(0, len(digits) - length + 1, 2)
                    self._windows.setdefault(length, set()).update(digits[at : at + length] for at in starts)
                    self._firsts.setdefault(length, set()).update(digits[::2])
        self._new.clear()
        for length, firsts in self._firsts.items():
            # Text has few first digits, a hash has all: what looks otherwise need not be looked up.
            known = "".join(sorted(firsts))
            self._filters[length] = re.compile(f"(?=((?:[{known}][0-9a-f]){{{length // 2}}}))")

    def _find_in_run(self, run: str, offset: int) -> list[tuple[int, int]]:
        """The stretches of a run that begins at `offset` of the text which are a secret's, as positions in the text."""
        digits, places = run.lower(), None
        if not _HEX_ONLY.fullmatch(run):
            found = list(_HEX_DIGIT.finditer(run))
            digits = "".join(one[0] for one in found).lower()
            places = [one.start() for one in found]
        spans = []
        for length, pattern in self._filters.items():
            windows = self._windows[length]
            for hit in pattern.finditer(digits):
                if hit[1] in windows:
                    first, last = hit.start(), hit.start() + length - 1
                    spans.append((places[first], places[last]) if places else (first, last))
        return _join_spans([(offset + first, offset + last + 1) for first, last in spans])


def _end_of_dump(text: str, start: int, end: int) -> int:
    """Where what shows the bytes ends: a dump repeats them as text behind the digits of each line."""
    digits = "".join(one[0] for one in _HEX_DIGIT.finditer(text, start, end))
    raw = bytes.fromhex(digits[: len(digits) // 2 * 2])
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in raw)
    gap = _DUMP_GAP.match(text, end)
    if gap is None or not text.startswith(shown, gap.end()):
        return end
    return gap.end() + len(shown)


def _join_spans(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same stretches in order, those that overlap or touch put together."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
