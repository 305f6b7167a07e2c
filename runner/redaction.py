"""Keeps secrets out of everything that is printed or written: they are replaced by value, wherever they turn up."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

from runner.hexadecimal import HexSearch

MASK = "********"

# Masking a shorter one would show more than it hides: the mask in the middle of a known word tells what stands there.
MIN_SECRET_LENGTH = 3
# A line of a longer secret (a private key) is masked on its own as well, unless it is so short that it says nothing.
MIN_LINE_LENGTH = 6
# What has to be there of a secret's encoded, broken or shortened form before we take it for one.
MIN_BASE64_LENGTH = 4
MIN_BROKEN_LENGTH = 8
MIN_CUT_LENGTH = 6
MAX_CUT_LENGTH = 200
# What is longer cannot be guessed from its checksum; and so many are remembered for secrets that are known only later.
MAX_ENCODED_LENGTH = 4096
MAX_ENCODED_TEXTS = 1000

_CUT = "…"
_LINE_ENDS = re.compile(r"\r\n|\n|\r|\\r\\n|\\n")
# Characters that no terminal shows and that can reorder, hide or overwrite what it does show.
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# What Azure Pipelines (`##vso[`), TeamCity (`##teamcity[`) and the old form of GitHub Actions (`##[`) obey wherever in a
# line it stands. The new form of GitHub Actions (`::`) must begin a line, and no line of ours begins with others' words.
_COMMAND = re.compile(r"#(?=#\w*\[)")
_BREAK = re.compile(r"(?:\r?\n|(?:\\r)?\\n)[ \t]*")
# Where the secret ends inside a group of three bytes, the last character also depends on what follows.
_BASE64_REST = r"[A-Za-z0-9+/_-]?={0,2}"


class Redactor:
    """Replaces every secret it knows of: also where it is escaped, encoded, split over lines or cut off by '…'.

    `on_first_secret` is called once, before the first secret is known: the time to protect the memory that will hold it.

    A text that holds no secret costs one search for each form of each secret, which for short lines is next to nothing;
    one large regular expression with as many branches takes longer on long texts, and long to compile.
    """

    def __init__(self, secrets: Iterable[str] = (), *, on_first_secret: Callable[[], None] | None = None) -> None:
        self._secrets: set[str] = set()
        self._on_first_secret = on_first_secret
        self._hex = HexSearch()
        self._patterns: dict[str, str] = {}
        self._forms: list[str] | None = None
        # What was computed of a text, and the text.
        self._encoded: dict[str, str] = {}
        for secret in secrets:
            self.add(secret)

    @property
    def secrets(self) -> frozenset[str]:
        """What `add` was told."""
        return frozenset(self._secrets)

    def add(self, secret: str) -> None:
        """Mask this secret from now on."""
        if secret.strip() and secret not in self._secrets:
            self.expect_secrets()
            self._secrets.add(secret)
            forms = _find_forms(secret)
            self._patterns |= forms
            self._hex.add(secret)
            self._forms = None
            for made, text in list(self._encoded.items()):
                if made == secret or any(form in text for form in forms):
                    self.note_encoded(text, made)

    def note_encoded(self, text: str, made: str) -> None:
        """`made` was computed of `text`, in a way in which one of them cannot be found in the other.

        Where one is a secret, now or later, the other is masked as well.
        """
        text, made = str(text), str(made)
        if text == made or len(text) > MAX_ENCODED_LENGTH:
            return
        if made in self._secrets:
            self.add(text)
        elif self.redact(text) != text and self.redact(made) == made:
            self.add(made)
        elif len(self._encoded) < MAX_ENCODED_TEXTS:
            self._encoded[made] = text

    def expect_secrets(self) -> None:
        """A secret is at hand: what was to be done before the first one is done now, unless it has been."""
        hook, self._on_first_secret = self._on_first_secret, None
        if hook is not None:
            hook()

    def redact(self, text: str) -> str:
        """`text` without any secret in it."""
        if not self._patterns:
            return text
        # Longest first, so that a secret which contains another one is masked whole.
        forms = self._forms or sorted(self._patterns, key=len, reverse=True)
        self._forms = forms
        # Put together first: once a line of it is masked, the whole is no longer found.
        if breaks := list(_BREAK.finditer(text)):
            text = self._redact_broken(text, breaks, forms)
        if pattern := self._pattern_of(form for form in forms if form in text):
            text = pattern.sub(MASK, text)
        if spans := self._hex.find(text):
            text = _mask_spans(text, spans)
        return self._redact_cut(text, forms) if _CUT in text else text

    def _pattern_of(self, forms: Iterable[str]) -> re.Pattern[str] | None:
        branches = "|".join(self._patterns[form] for form in forms)
        return re.compile(branches) if branches else None

    def _redact_broken(self, text: str, breaks: list[re.Match[str]], forms: list[str]) -> str:
        """Mask what is found when the lines are put together."""
        pieces, starts, shifts = [], [], []
        end = length = 0
        for gap in [*breaks, None]:
            # `starts` are positions in the joined text, `shifts` what leads back from there to the text.
            starts.append(length)
            shifts.append(end - length)
            pieces.append(text[end : gap.start() if gap else None].rstrip(" \t"))
            length += len(pieces[-1])
            end = gap.end() if gap else end
        joined = "".join(pieces)
        pattern = self._pattern_of(form for form in forms if len(form) >= MIN_BROKEN_LENGTH and form in joined)
        if pattern is None:
            return text

        def position_of(index: int) -> int:
            return index + shifts[bisect_right(starts, index) - 1]

        spans = [(position_of(found.start()), position_of(found.end() - 1) + 1) for found in pattern.finditer(joined)]
        return _mask_spans(text, spans)

    def _redact_cut(self, text: str, forms: list[str]) -> str:
        """Mask the beginning of a secret whose end was cut off to save room."""
        spans = []
        for found in re.finditer(_CUT, text):
            end = found.start()
            window = text[max(0, end - MAX_CUT_LENGTH) : end]
            length = max((_overlap(window, form) for form in forms), default=0)
            if length:
                spans.append((end - length, end))
        return _mask_spans(text, spans)


def escape_unsafe(text: str) -> str:
    """`text` with nothing in it that drives a terminal or that a CI system obeys.

    It is defined here since a secret must be found in this form as well.
    """
    if "##" in text:
        text = _COMMAND.sub(r"\\x23", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNSAFE_CATEGORIES
        else character
        for character in text
    )


def _overlap(text: str, form: str) -> int:
    """How many characters at the end of `text` are the beginning of `form`; 0 if too few to mean anything."""
    if form[:MIN_CUT_LENGTH] not in text:
        return 0
    lengths = range(min(len(form), len(text)), MIN_CUT_LENGTH - 1, -1)
    return next((length for length in lengths if text.endswith(form[:length])), 0)


def _mask_spans(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        text = text[:start] + MASK + text[end:]
    return text


def _find_forms(secret: str) -> dict[str, str]:
    """Every text that gives the secret, or a line of it, away; and the regular expression for each."""
    patterns: dict[str, str] = {}
    for piece in _split(secret):
        patterns |= {form: re.escape(form) for form in _escape(piece)}
        for core, rest in _encode_base64(piece):
            patterns.setdefault(core, re.escape(core) + rest)
    return patterns


def _split(secret: str) -> set[str]:
    """The secret with and without white space around it and line ends in it, and its longer lines.

    What frames a key is no secret.
    """
    lines = [line.strip() for line in _LINE_ENDS.split(secret)]
    long_lines = {line for line in lines if len(line) >= MIN_LINE_LENGTH and not line.startswith("-----")}
    pieces = {secret, secret.strip(), "".join(lines)} | long_lines
    # What looks like a part of the mask cannot be told from it.
    return {piece for piece in pieces if len(piece.strip()) >= MIN_SECRET_LENGTH and piece not in MASK}


def _escape(piece: str) -> set[str]:
    """As it stands, and as JSON, Python, URLs and HTML write it."""
    # Its tables are large, and most plays know no secret.
    import html

    raw = piece.encode("utf-8", "surrogatepass")
    in_url = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    in_url |= {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in in_url}
    in_json = json.dumps(piece)[1:-1]
    return in_url | {
        piece,
        escape_unsafe(piece),
        in_json,
        # Jinja's `tojson` writes what could be pasted into HTML.
        in_json.translate({ord(character): f"\\u{ord(character):04x}" for character in "<>&'"}),
        json.dumps(piece, ensure_ascii=False)[1:-1],
        repr(piece)[1:-1],
        ascii(piece)[1:-1],
        repr(raw)[2:-1],
        html.escape(piece),
        html.escape(piece, quote=False),
    }


def _encode_base64(piece: str) -> Iterator[tuple[str, str]]:
    """In both alphabets, and wherever in a longer text it begins: only characters that depend on nothing else."""
    raw = piece.encode("utf-8", "surrogatepass")
    for offset in range(3):
        bits = (offset + len(raw)) * 8
        first, last = (offset * 8 + 5) // 6, bits // 6
        rest = _BASE64_REST if bits % 6 else ""
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            core = encode(bytes(offset) + raw).decode("ascii")[first:last]
            if len(core) >= MIN_BASE64_LENGTH:
                yield core, rest
