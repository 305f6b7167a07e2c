"""YAML text to plain data that remembers where it came from. The only user of ruamel.yaml.

We compose the data from ruamel's parse events instead of loading it: events carry a position for every key and value,
and one pass over them can refuse what a loader would expand, recurse into or guess at (alias bombs, deep nesting,
unknown tags, duplicate keys, YAML 1.1) before it costs anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from runner.errors import PlaybookInvalid
from runner.playbook.files import read_bytes
from runner.playbook.lazy_lists import LazyList
from runner.playbook.vault import CHARACTERS_PER_BYTE, VaultProblem, is_encrypted
from runner.playbook.vault_password import NoPassword, Vault
from runner.problems import MAX_PROBLEMS, Location, Problem, collect_problems

# A playbook of 2,000 steps has some 30,000 values in 400 KiB. The limits leave room for half as much again and more, and
# keep the time to refuse a hostile file below two seconds.
MAX_FILE_BYTES = 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 50
MAX_NUMBER_LENGTH = 40
MAX_SHOWN_CHARACTERS = 60
MAX_ENCRYPTED_FILE_BYTES = int(MAX_FILE_BYTES * CHARACTERS_PER_BYTE)
# Each takes some 7 ms: the format wants it to be slow.
MAX_ENCRYPTED_VALUES = 500

# YAML 1.2.2, section 10.3.2, the core schema: what an unquoted scalar means. Dates stay strings.
_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_SURROGATE = re.compile("[\ud800-\udfff]")

# ruamel decodes a tag in quadratic time.
_LONG_TAG = re.compile(r"(?<![^\s\[\]{},])!\S{1000}")
_TAG_HINT = "Remove the '!…', or put the value in quotes if it is text."

_VAULT_TAG = "!vault"
_STANDARD_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


class Decrypted(str):
    """Text that was encrypted. It is data: whatever it looks like, it is no template."""

    __slots__ = ()


class Unfilled(str):
    """What is written where a value could not be filled in, or decrypted. Nothing is known about the value itself."""

    __slots__ = ()


class Awaited(Unfilled):
    """What is written where a value could not be filled in yet: only the play will know `reason`, "the result 'r'"."""

    __slots__ = ("reason",)
    reason: str

    def __new__(cls, written: str, reason: str) -> Self:
        made = super().__new__(cls, written)
        made.reason = reason
        return made


class Expected(Awaited):
    """A value that only the play will know, of a known shape: the names in it, and what these have in turn."""

    __slots__ = ("shape",)
    shape: Mapping[str, Any] | None

    def __new__(cls, written: str, reason: str, shape: Mapping[str, Any] | None = None) -> Expected:
        made = super().__new__(cls, written, reason)
        made.shape = shape
        return made


class PositionedMap(dict[str, Any]):
    """A mapping that knows where it begins and where each of its keys and values stands."""

    __slots__ = ("key_locations", "location", "value_locations")

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location
        self.key_locations: dict[str, Location] = {}
        self.value_locations: dict[str, Location] = {}

    def put(self, key: str, value: Any, key_location: Location, value_location: Location) -> None:
        """Set a key together with its two positions."""
        self[key] = value
        self.key_locations[key] = key_location
        self.value_locations[key] = value_location

    def take(self, key: str, origin: PositionedMap) -> None:
        """Set a key to what it is in `origin`, positions included."""
        self.put(key, origin[key], origin.key_locations[key], origin.value_locations[key])


class PositionedList(list[Any]):
    """A list that knows where it begins and where each of its items stands."""

    __slots__ = ("item_locations", "location")

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location
        self.item_locations: list[Location] = []

    def add(self, item: Any, location: Location) -> None:
        """Append an item with its position."""
        self.append(item)
        self.item_locations.append(location)


def is_unfilled(value: Any) -> bool:
    """Whether something in the value could not be filled in."""
    if isinstance(value, PositionedMap):
        return any(is_unfilled(item) for item in value.values())
    if isinstance(value, PositionedList):
        return any(is_unfilled(item) for item in value)
    return isinstance(value, Unfilled)


def locate(data: PositionedMap | PositionedList, path: list[str | int]) -> Location:
    """Where the value at `path` below `data` stands; the nearest known place for a path that leads nowhere."""
    location, here = data.location, data
    for part in path:
        if isinstance(here, PositionedMap) and isinstance(part, str) and part in here:
            location, here = here.value_locations[part], here[part]
        elif isinstance(here, PositionedList) and isinstance(part, int) and part < len(here):
            location, here = here.item_locations[part], here[part]
        else:
            break
    return location


def read_text(path: Path, shown_as: str, vault: Vault) -> tuple[str, bool]:
    """The playbook's text, bounded in size; and whether the whole file was encrypted.

    Raises `PlaybookInvalid` when it is too large, not UTF-8 or cannot be decrypted, `OSError` when it cannot be read.
    """
    raw = read_bytes(path, MAX_FILE_BYTES + 1)
    was_encrypted = is_encrypted(raw)
    if was_encrypted:
        raw = read_bytes(path, MAX_ENCRYPTED_FILE_BYTES + 1)
    if len(raw) > (MAX_ENCRYPTED_FILE_BYTES if was_encrypted else MAX_FILE_BYTES):
        limit = f"{MAX_FILE_BYTES // (1024 * 1024)} MiB"
        start = Location(shown_as, 1, 1)
        raise PlaybookInvalid(
            [Problem(start, f"the file is larger than {limit}", "Is this really a playbook? Split it if it is.")]
        )
    text = _decode(raw, shown_as)
    if not was_encrypted:
        return text, False
    try:
        return vault.decrypt_quietly(text), True
    except VaultProblem as error:
        raise PlaybookInvalid([Problem(Location(shown_as, 1, 1), error.message, error.hint)]) from error


def _decode(raw: bytes, shown_as: str) -> str:
    """The bytes as strict UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        raise PlaybookInvalid(
            [
                Problem(
                    _locate_offset(before, len(before), shown_as),
                    f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}",
                    "Playbooks are UTF-8. Convert the file, for example with iconv.",
                )
            ]
        ) from error


def parse(
    text: str, shown_as: str, vault: Vault | None = None, tell: Callable[[Problem], None] | None = None
) -> PositionedMap | PositionedList:
    """The one document in `text`, as positioned maps and lists over str, int, float, bool and None.

    `tell` is told of problems of single values, which are `Unfilled` then, so that others can still be found. Raises
    `PlaybookInvalid` with every problem up to the first that ends the parse, `UsageError` if there is something to decrypt
    and the vault's password file is of no use.
    """
    composer = _Composer(shown_as, vault, text)
    _compose(composer, text, shown_as)
    return composer.finish(tell)


def _compose(composer: _Composer, text: str, shown_as: str) -> None:
    """Give the composer every event of the text, up to the first that is none."""
    try:
        if tag := _LONG_TAG.search(text):
            location = _locate_offset(text, tag.start(), shown_as)
            composer.report(location, "a tag of more than 1,000 characters", _TAG_HINT)
            raise _TooMuch
        for event in YAML(typ="safe", pure=True).parse(text):
            composer.accept(event)
    except MarkedYAMLError as error:
        location = _mark_location(error, shown_as)
        if not composer.report_unquoted(location.line):
            composer.report(location, _yaml_message(error), _yaml_hint(error))
    except ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"the character U+{code:04X} is not allowed in YAML"
        composer.report(_locate_offset(text, error.position, shown_as), message, "Remove it.")
    except (YAMLError, ValueError, OverflowError) as error:
        composer.report(composer.last_location, f"not YAML: {error}", "")
    except _TooMuch:
        pass


class NotOneValue(Exception):
    """A text that is no YAML of ours; the message says why, and where in it."""


def parse_value(text: str) -> Any:
    """What a text in YAML stands for, as plain data; null if there is nothing in it. It is read as a playbook is.

    Raises `NotOneValue` with the place in the text.
    """
    if len(text) > MAX_FILE_BYTES:
        raise NotOneValue("the text is longer than 1 MiB")
    composer = _Composer("the text", None, text)
    _compose(composer, text, "the text")
    return _to_plain_data(composer.value)


def _to_plain_data(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain_data(item) for key, item in value.items()}
    return [_to_plain_data(item) for item in value] if isinstance(value, list) else value


class _TooMuch(Exception):
    """The document goes over a limit; the composer has reported which."""


@dataclass(slots=True)
class _Frame:
    """A collection that is being filled."""

    container: PositionedMap | PositionedList
    anchor: str | None
    weight: int = 1
    key: str | None = None
    key_location: Location | None = None
    merges: list[tuple[Any, Location]] = field(default_factory=list)


_MERGE_KEY = "<<"


class _Composer:
    """Builds the document from events, without recursion, counting what aliases expand to."""

    def __init__(self, shown_as: str, vault: Vault | None, text: str) -> None:
        self._file = shown_as
        self._text = text
        self._lines: list[str] = []
        self._vault = vault
        self._encrypted_count = 0
        self._misses_password = False
        self._problems: list[Problem] = []
        self._is_readable = True
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._root: Any = None
        self._documents = 0
        self._weight = 0
        self.last_location = Location(shown_as, 1, 1)

    def report(self, location: Location, message: str, hint: str, *, is_local: bool = False) -> None:
        """`is_local`: the problem is about one value, and the rest of the document is what it seems to be."""
        self._problems.append(Problem(location, message, hint))
        self._is_readable &= is_local

    def report_unquoted(self, line: int, column: int | None = None) -> bool:
        """Whether a template stands in the line, or at the column, without its quotes. It is reported, once."""
        # Few playbooks have one.
        from runner.playbook.unquoted import MESSAGE, find_unquoted

        self._lines = self._lines or self._text.splitlines()
        found = find_unquoted("".join(self._lines[line - 1 : line]), column)
        if found is None:
            return False
        location = Location(self._file, line, found.column)
        if all(one.location != location for one in self._problems):
            self.report(location, MESSAGE, found.hint)
        return True

    def finish(self, tell: Callable[[Problem], None] | None) -> PositionedMap | PositionedList:
        """The document, or `PlaybookInvalid`."""
        if tell is not None and self._is_readable and isinstance(self._root, PositionedMap | PositionedList):
            for problem in self._problems:
                tell(problem)
            return self._root
        start = Location(self._file, 1, 1)
        if not self._problems and (self._documents == 0 or self._root is None):
            self.report(start, "the playbook is empty", "Write a list of steps, or a mapping with 'steps'.")
        elif not self._problems and not isinstance(self._root, PositionedMap | PositionedList):
            found = describe_type(self._root)
            self.report(start, f"a playbook is a list of steps or a mapping with 'steps', not {found}", "")
        if self._problems:
            raise PlaybookInvalid(collect_problems(self._problems))
        root: PositionedMap | PositionedList = self._root
        return root

    @property
    def value(self) -> Any:
        """Whatever the text stands for, or `NotOneValue`."""
        if self._problems:
            # What is quoted may be a secret, so only the place is reported.
            message = re.sub("'[^']*'", "'…'", self._problems[0].message)
            place = self._problems[0].location
            raise NotOneValue(f"{message} (line {place.line}, column {place.column} of the text)")
        return self._root

    def accept(self, event: Any) -> None:
        """Take the next event."""
        location = Location(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
        self.last_location = location
        if len(self._problems) > MAX_PROBLEMS:
            raise _TooMuch
        match event:
            case DocumentStartEvent():
                self._start_document(event, location)
            case AliasEvent():
                self._alias(event, location)
            case ScalarEvent():
                value = self._scalar(event, location)
                if value is None and not event.value and self._frames:
                    # Nothing is written: the parser only notices on a later line.
                    location = self._frames[-1].key_location or location
                self._place(value, location, event.anchor, 1)
            case MappingStartEvent() | SequenceStartEvent():
                self._open(event, location)
            case MappingEndEvent() | SequenceEndEvent():
                self._close()

    def _start_document(self, event: DocumentStartEvent, location: Location) -> None:
        self._documents += 1
        if self._documents > 1:
            self.report(location, "a second YAML document begins here", "A playbook is one document: remove the '---'.")
            raise _TooMuch
        version = getattr(event, "version", None)
        if version and tuple(version) != (1, 2):
            shown = ".".join(str(part) for part in version)
            self.report(location, f"%YAML {shown} is not supported: playbooks are YAML 1.2", "Remove the %YAML line.")

    def _open(self, event: Any, location: Location) -> None:
        if len(self._frames) >= MAX_DEPTH:
            self.report(location, f"nested deeper than {MAX_DEPTH} levels", "No playbook needs that: flatten it.")
            raise _TooMuch
        self._check_tag(event, location)
        is_mapping = isinstance(event, MappingStartEvent)
        container = PositionedMap(location) if is_mapping else PositionedList(location)
        self._frames.append(_Frame(container, event.anchor))
        # It begins and ends: that costs the parser twice what a scalar does. An anchor costs it as much again.
        self._count(3 if event.anchor else 2, location)

    def _close(self) -> None:
        frame = self._frames.pop()
        if isinstance(frame.container, PositionedMap):
            self._apply_merges(frame.container, frame)
        self._place(frame.container, frame.container.location, frame.anchor, frame.weight, counted=True)

    def _alias(self, event: AliasEvent, location: Location) -> None:
        name = event.anchor
        if name not in self._anchors:
            is_open = any(frame.anchor == name for frame in self._frames)
            what = "refers to itself" if is_open else "has no anchor before it"
            # The name is not shown: it may be a password that begins with '*' and stands without quotes.
            hint = "'*' begins an alias to what was marked with '&'. Put the value in quotes if it is text."
            self.report(location, f"this alias {what}", hint)
            raise _TooMuch
        value, weight = self._anchors[name]
        self._place(value, location, None, weight)

    def _place(self, value: Any, location: Location, anchor: str | None, weight: int, *, counted: bool = False) -> None:
        """Put a finished value where it belongs: the document, a list, or a mapping's key or value."""
        if not counted:
            self._count(weight + 1 if anchor else weight, location)
        if anchor:
            self._anchors[anchor] = (value, weight)
        if not self._frames:
            self._root = value
            return
        frame = self._frames[-1]
        frame.weight += weight
        if isinstance(frame.container, PositionedList):
            frame.container.add(value, location)
        elif frame.key_location is None:
            self._start_pair(frame, frame.container, value, location)
        else:
            self._end_pair(frame, frame.container, value, location)

    def _start_pair(self, frame: _Frame, container: PositionedMap, key: Any, location: Location) -> None:
        frame.key_location = location
        frame.key = key if isinstance(key, str) and not isinstance(key, Decrypted | Unfilled) else None
        if isinstance(key, Unfilled):
            self._is_readable = False
        elif isinstance(key, Decrypted):
            self.report(location, "a key cannot be encrypted", "Encrypt the value.")
        elif frame.key is None:
            # The outer bracket of a '{{' stands in front of the inner one.
            if not (isinstance(key, PositionedMap) and self.report_unquoted(location.line, location.column - 1)):
                self.report(location, f"a key must be a string, not {describe_type(key)}", "Put it in quotes.")
        elif frame.key in container:
            first = container.key_locations[frame.key]
            self.report(
                location,
                f"duplicate key {shorten(repr(key))}",
                f"It is already set on line {first.line}; keep one.",
                is_local=True,
            )

    def _end_pair(self, frame: _Frame, container: PositionedMap, value: Any, location: Location) -> None:
        key, key_location = frame.key, frame.key_location
        frame.key = frame.key_location = None
        if key == _MERGE_KEY and key_location:
            frame.merges.append((value, location))
        elif key is not None and key_location and key not in container:
            container.put(key, value, key_location, location)

    def _apply_merges(self, container: PositionedMap, frame: _Frame) -> None:
        """`<<: *base`, which YAML 1.2 dropped and everybody uses: keys that are not set yet are taken over."""
        for value, location in frame.merges:
            for base in value if isinstance(value, PositionedList) else [value]:
                if not isinstance(base, PositionedMap):
                    hint = "Write '<<: *name', or a list of such aliases."
                    self.report(location, f"'<<' merges mappings, not {describe_type(base)}", hint)
                    break
                for key in base:
                    if key not in container:
                        container.take(key, base)

    def _count(self, weight: int, location: Location) -> None:
        self._weight += weight
        if self._weight > MAX_NODES:
            self.report(
                location,
                f"more than {MAX_NODES:,} values, aliases expanded",
                "Split the playbook; if it uses aliases, look for ones that multiply.",
            )
            raise _TooMuch

    def _check_tag(self, event: Any, location: Location) -> str | None:
        tag = None if event.tag is None else str(event.tag)
        if tag is None or tag == "!" or tag in _STANDARD_TAGS:
            return tag
        if tag == _VAULT_TAG:
            hint = "Encrypt each value of it, or the whole file."
            self.report(location, "'!vault' stands before an encrypted text, not a mapping or a list", hint)
            return None
        # The tag is not shown: it may be a password that begins with '!' and stands without quotes.
        self.report(location, "unknown tag", _TAG_HINT)
        return None

    def _decrypt(self, text: str, location: Location) -> Decrypted | Unfilled:
        self._encrypted_count += 1
        if self._encrypted_count > MAX_ENCRYPTED_VALUES:
            hint = "Encrypt the whole file instead."
            self.report(location, f"more than {MAX_ENCRYPTED_VALUES} encrypted values", hint)
            raise _TooMuch
        try:
            if self._vault is None:
                raise NoPassword
            return Decrypted(self._vault.decrypt(text))
        except VaultProblem as error:
            # Where the password is missing, it is missing for all of them: the first one says so.
            if not (isinstance(error, NoPassword) and self._misses_password):
                self.report(location, error.message, error.hint, is_local=True)
            self._misses_password |= isinstance(error, NoPassword)
            return Unfilled()

    def _scalar(self, event: ScalarEvent, location: Location) -> Any:
        if str(event.tag) == _VAULT_TAG:
            return self._decrypt(event.value, location)
        tag = self._check_tag(event, location)
        text: str = self._join_surrogates(event.value, location)
        is_plain = event.style is None or event.style == ""
        if tag == "!" or (tag is None and not is_plain) or (tag or "").endswith(":str"):
            return text
        try:
            return resolve_plain_scalar(text)
        except ValueError as error:
            self.report(location, str(error), "Put it in quotes if it is text.", is_local=True)
            return Unfilled()

    def _join_surrogates(self, text: str, location: Location) -> str:
        """JSON writes a character beyond U+FFFF as two escapes, which YAML reads as two characters: make them one.

        What is left of these is a byte of a file name that is not UTF-8 (`surrogateescape`), or a mistake.
        """
        if text.isascii() or not _SURROGATE.search(text):
            return text
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if not is_encodable(joined):
            self.report(location, "an escape \\uD800 … \\uDFFF without its other half", "Write the character itself.")
        return joined


def is_encodable(text: str) -> bool:
    """Whether the text can become bytes: UTF-8, or the bytes that a file name in no encoding was read from."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def shorten(text: str) -> str:
    """`text`, cut to what an error message has room for."""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def resolve_plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means by YAML 1.2's core schema. Raises `ValueError` for a number too long to mean one."""
    if not text or not (text[0] in "-+.~0123456789" or text[0] in "ntfNTF"):
        return text if text else None
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if not (_FLOAT.fullmatch(text) or _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text)):
        return text
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of {len(text):,} digits")
    if _INTEGER.fullmatch(text):
        return int(text, 10)
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def describe_type(value: object) -> str:
    """A value's type in YAML's words, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case dict():
            return "a mapping"
        case list() | LazyList():
            return "a list"
    return type(value).__name__


def _locate_offset(text: str, offset: int, shown_as: str) -> Location:
    line_start = text.rfind("\n", 0, offset) + 1
    return Location(shown_as, text.count("\n", 0, offset) + 1, offset - line_start + 1)


def _mark_location(error: MarkedYAMLError, shown_as: str) -> Location:
    mark = error.problem_mark or error.context_mark
    return Location(shown_as, mark.line + 1, mark.column + 1) if mark else Location(shown_as, 1, 1)


def _yaml_message(error: MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    message = ", ".join(" ".join(str(part).split()) for part in parts)
    # What stands between two '!' may be a part of a password.
    return "not valid YAML: " + re.sub(r"(tag handle) '.*'", r"\1", message)


def _yaml_hint(error: MarkedYAMLError) -> str:
    problem = str(error.problem or "")
    if "\\t" in problem or "'\\t'" in problem:
        return "YAML is indented with spaces, not tabs."
    if "mapping values are not allowed" in problem:
        return "A value that contains ': ' must be quoted; or the line above is indented wrongly."
    if "could not find expected ':'" in problem:
        return "A ':' is missing after a key, or a quote is not closed."
    return "Check the quotes, brackets and indentation around this line."
