"""The lines of ssh_config files, and what stands in them: words, patterns and tokens. As in OpenSSH's misc.c."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from runner.playbook.files import read_bytes
from runner.playbook.inputs import InputProblem
from runner.problems import Location

MAX_FILE_BYTES = 1024 * 1024
# OpenSSH gives up on a list of patterns at one that is longer (match.c, match_pattern_list).
MAX_PATTERN_BYTES = 1022

_WHITE_SPACE = " \t\r\n\f"
_GAP = re.compile(r"[ \t]+")
_SPECIAL = re.compile(r"[\\\"'#]")
_KEYWORD = re.compile(r'"(?P<quoted>[^"]*)"|(?P<plain>[^ \t\r="]+)')
_TOKEN = re.compile(r"%(?P<token>.?)(?P<variable>)", re.DOTALL)
_TOKEN_OR_VARIABLE = re.compile(r"%(?P<token>.?)|(?P<variable>\$\{[^}]*\}?)", re.DOTALL)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that says something: its keyword in lower case, what follows it, and where it stands."""

    keyword: str
    rest: str
    location: Location
    # None if a quote is not closed. Split once: a file is asked about many hosts.
    _words: tuple[str, ...] | None

    @property
    def words(self) -> list[str]:
        """What follows the keyword, quotes taken away. Raises `InputProblem` if one is not closed."""
        if self._words is None:
            raise self.problem("a quote is not closed")
        return list(self._words)

    def problem(self, message: str, hint: str = "") -> InputProblem:
        """The error that this line is."""
        return InputProblem(self.location, message, hint)


def read_lines(path: str, named_at: Location, *, must_be_private: bool) -> tuple[Line, ...] | None:
    """The lines of a file that say something; None if there is no such file.

    `must_be_private` holds it to what ssh asks of such a file: its owner is the user or root, and nobody else may write
    to it. Raises `InputProblem` at `named_at` for a file that cannot be read.
    """

    def check(status: os.stat_result) -> None:
        is_owned = status.st_uid in (0, os.getuid())
        if must_be_private and (not is_owned or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            hint = f"Whoever can write to it decides where files go. Make it yours alone: chmod go-w {path}"
            raise InputProblem(named_at, f"bad owner or permissions on {path}: ssh refuses such a file, too", hint)

    try:
        raw = read_bytes(path, MAX_FILE_BYTES + 1, check)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputProblem(named_at, f"cannot read the SSH configuration {path}: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise InputProblem(named_at, f"the SSH configuration {path} is larger than {MAX_FILE_BYTES // 2**20} MiB")
    if b"\0" in raw:
        raise InputProblem(named_at, f"the SSH configuration {path} is not a text file: it holds a NUL")
    text = raw.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
    return tuple(
        line for number, one in enumerate(text.split("\n"), start=1) if (line := _parse_line(one, path, number))
    )


def _parse_line(text: str, path: str, number: int) -> Line | None:
    """`Keyword arguments`, `Keyword=arguments` or `Keyword = arguments`; None for a comment and an empty line."""
    stripped = text.strip(_WHITE_SPACE)
    location = Location(path, number, len(text) - len(text.lstrip(_WHITE_SPACE)) + 1)
    if not stripped or stripped.startswith("#"):
        return None
    found = _KEYWORD.match(stripped)
    if found is None:
        raise InputProblem(location, "a line begins with a keyword, such as 'HostName'")
    # readconf.c, strdelim: white space, one '=', white space.
    rest = stripped[found.end() :].lstrip(_WHITE_SPACE).removeprefix("=").lstrip(_WHITE_SPACE)
    return Line((found["quoted"] or found["plain"] or "").lower(), rest, location, split_words(rest))


def split_words(text: str) -> tuple[str, ...] | None:
    """The words of a line up to a comment (misc.c, argv_split); None if a quote is not closed."""
    if not _SPECIAL.search(text):
        return tuple(word for word in _GAP.split(text) if word)
    words: list[str] = []
    index, end = 0, len(text)
    while True:
        while index < end and text[index] in " \t":
            index += 1
        if index == end or text[index] == "#":
            return tuple(words)
        word, index = _read_word(text, index)
        if word is None:
            return None
        words.append(word)


def _read_word(text: str, index: int) -> tuple[str | None, int]:
    """The word that begins at `index`, None if its quote is not closed, and where it ends."""
    word, quote = [], ""
    while index < len(text) and (quote or text[index] not in " \t"):
        character, following = text[index], text[index + 1 : index + 2]
        if character == "\\" and (following in ("'", '"', "\\") or (following == " " and not quote)):
            word.append(following)
            index += 1
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            word.append(character)
        index += 1
    return None if quote else "".join(word), index


def matches_pattern(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern with `*` and `?`."""
    if "*" not in pattern and "?" not in pattern:
        return name == pattern
    return _compile(pattern).match(_as_bytes(name)) is not None


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> re.Pattern[bytes]:
    # Only * and ? are special to OpenSSH; fnmatch also knows [sets]. Bytes, because a ? stands for one of them.
    expression = fnmatch.translate(_as_bytes(pattern).decode("latin-1").replace("[", "[[]"))
    return re.compile(expression.encode("latin-1"))


def matches_patterns(name: str, patterns: str) -> bool:
    """Whether a name fits one of the patterns between commas, and none of those behind a `!`."""
    is_match = False
    for written in patterns.split(","):
        pattern = written.removeprefix("!")
        if len(_as_bytes(pattern)) > MAX_PATTERN_BYTES:
            return False
        if matches_pattern(name, pattern):
            if written.startswith("!"):
                return False
            is_match = True
    return is_match


def lower(text: str) -> str:
    """The text in lower case as OpenSSH has it: only ASCII letters change."""
    return _as_bytes(text).lower().decode("utf-8", "surrogateescape")


def expand(text: str, tokens: Mapping[str, Callable[[], str]], *, with_environment: bool) -> str:
    """`%` tokens filled in, and `${NAME}` where that is allowed (misc.c, vdollar_percent_expand).

    Raises `ValueError` for a token that is not among `tokens`, and for a variable that is not set.
    """

    def fill_in(found: re.Match[str]) -> str:
        if found["variable"]:
            return _read_variable(found["variable"])
        token = found["token"]
        if token == "%":
            return token
        if token not in tokens:
            raise ValueError(f"%{token} means nothing here, only %% and %{', %'.join(sorted(tokens))} do")
        return tokens[token]()

    return (_TOKEN_OR_VARIABLE if with_environment else _TOKEN).sub(fill_in, text)


def _read_variable(written: str) -> str:
    """The environment variable that `${NAME}` stands for."""
    name = written[2:].removesuffix("}")
    if not name or not written.endswith("}"):
        raise ValueError("a '${' without a name and '}'")
    if name not in os.environ:
        raise ValueError(f"the environment variable {name} is not set")
    return os.environ[name]


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
