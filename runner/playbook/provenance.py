"""Text that remembers who said what in it: the playbook itself, or somebody outside.

Outside are extra vars, the environment, commands and files that are looked up. They give data: in a path they may add proper
names behind what the playbook has written, and no more. `runner/playbook/paths.py` holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from enum import IntEnum
from types import BuiltinMethodType
from typing import Any, NamedTuple, Self, SupportsIndex

from runner.playbook.document import PositionedList, PositionedMap
from runner.playbook.lazy_lists import LISTS, LazyList


class Origin(IntEnum):
    """Where somebody outside stands. The greater it is, the less what comes from there may do."""

    MACHINE = 0
    """The environment, the files and the commands of this machine."""
    EXTRA_VARS = 1
    SERVER = 2


class Source(str):
    """Who has said something, as messages name it, and where that is. A source that is plain text is this machine."""

    __slots__ = ("origin",)
    origin: Origin

    def __new__(cls, text: str, origin: Origin) -> Self:
        made = super().__new__(cls, text)
        made.origin = origin
        return made


class Part(NamedTuple):
    """A stretch of a text. `source` says where it was filled in from; empty for what is written in the playbook.

    `is_outside`: somebody else than the playbook has said it. `is_mixed`: an expression has put it together, also from what
    is written, and which is which cannot be told; `is_rooted` then tells whether written text in it begins with `/`.
    `is_quoted`: it is one word of a shell, whatever was said.
    """

    text: str
    source: str = ""
    is_outside: bool = False
    is_mixed: bool = False
    is_rooted: bool = False
    is_quoted: bool = False


class Traced(str):
    """Text with its parts. Whatever makes new text of it gives plain text again, except `+` and taking pieces."""

    __slots__ = ("_parts",)
    _parts: tuple[Part, ...]

    def __new__(cls, text: str, parts: tuple[Part, ...] = ()) -> Self:
        made = super().__new__(cls, text)
        made._parts = parts
        return made

    def __add__(self, other: str) -> str:
        return concatenate((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return concatenate((other, self)) if isinstance(other, str) else NotImplemented

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        piece = super().__getitem__(index)
        source = find_outside(self)
        return mark_outside(piece, source) if source else piece

    def __iter__(self) -> Iterator[str]:
        source = find_outside(self)
        return (mark_outside(one, source) if source else one for one in super().__iter__())


class Found(Traced):
    """Text of which the first `written_length` characters are the playbook's, and `source` has said the others.

    There may be very many of them, so its parts are made when somebody asks.
    """

    __slots__ = ("_source", "_written_length")
    _source: str
    _written_length: int

    def __new__(cls, text: str, written_length: int, source: str) -> Self:
        made = str.__new__(cls, text)
        made._written_length = written_length
        made._source = source
        return made

    @property
    def _parts(self) -> tuple[Part, ...]:  # type: ignore[override]
        text, length = str(self), self._written_length
        said = Part(text[length:], self._source, is_outside=True)
        return (Part(text[:length]), said) if length else (said,)


def parts_of(text: str) -> tuple[Part, ...]:
    """What the text consists of. Plain text counts as written."""
    return (text._parts if isinstance(text, Traced) else ()) or (Part(str(text)),)


def plain(value: Any) -> Any:
    """The value without any memory of where it came from; what is in a mapping or a list as well."""
    if isinstance(value, Traced):
        return str(value)
    if isinstance(value, PositionedMap):
        for key, item in value.items():
            value[key] = plain(item)
    elif isinstance(value, PositionedList):
        value[:] = [plain(item) for item in value]
    return value


def concatenate(texts: Iterable[str]) -> str:
    """The texts put together; each part is still what it was."""
    texts = list(texts)
    whole = "".join(texts)
    if not any(isinstance(text, Traced) and text._parts for text in texts):
        return whole
    parts: list[Part] = []
    for part in (part for text in texts for part in parts_of(text)):
        last = parts[-1] if parts else None
        if last is not None and last[1:] == part[1:] and (not part.source or not part.text or not last.text):
            parts[-1] = last._replace(text=last.text + part.text)
        elif part.text or part.source:
            parts.append(part)
    return Traced(whole, tuple(parts))


def mark_outside(value: Any, source: str) -> Any:
    """The value as what `source` has said, whatever is in it included. What knows where it comes from stays as it is."""
    if isinstance(value, Traced) and value._parts:
        return value
    return _mark(value, Part("", source, is_outside=True))


def mark_rest(text: str, source: str) -> str:
    """The text as what `source` has said, but for what in it came from elsewhere outside."""
    parts = (part if part.is_outside else Part(part.text, source, is_outside=True) for part in parts_of(text))
    return Traced(text, tuple(parts))


def mark_quoted(value: Any) -> Any:
    """The value as one word of a shell."""
    return Traced(str(value), tuple(p._replace(is_quoted=True) for p in value._parts)) if _is_traced(value) else value


def mark_mixed(value: Any, source: str, *, has_written: bool, is_rooted: bool) -> Any:
    """What an expression has made of something from `source`, and of written text if it `has_written`."""
    return _mark(value, Part("", source, is_outside=True, is_mixed=has_written, is_rooted=is_rooted))


def mark_filled(text: str, source: str) -> str:
    """Text of the playbook's own that stands in a variable. Only where it is empty that makes a difference."""
    return text if text or isinstance(text, Traced) else Traced(text, (Part(text, source),))


def mark_trusted(value: Any) -> Any:
    """The value as if the playbook had written it. An empty one is still known to have been filled in.

    That is about paths: who has said it is still known of what a server has said.
    """
    if isinstance(value, Traced):
        source = find_outside(value)
        if origin_of(source) is Origin.SERVER:
            return Traced(str(value), (Part(str(value), source),))
        return mark_filled(str(value), parts_of(value)[0].source or "a value")
    if isinstance(value, LISTS):
        return [mark_trusted(item) for item in value]
    return value


def name_variable(value: Any, name: str) -> Any:
    """The value of a variable: what was said outside came through it, and an empty text is its."""
    if isinstance(value, Traced) and value._parts:
        return Traced(str(value), tuple(_came_through(part, name) for part in value._parts))
    return mark_filled(value, f"the variable '{name}'") if isinstance(value, str) else value


def find_outside(value: Any) -> str:
    """Who outside has said something in the value, the one who may do least; empty if nobody has."""
    return choose_source(part.source for part in find_parts(value) if part.is_outside)


def find_parts(value: Any) -> Iterator[Part]:
    """The parts of all texts in the value of which is known where they come from."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Traced):
            yield from one._parts
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, LazyList) and one.source:
            yield Part("", one.source, is_outside=True)
        elif isinstance(one, (*LISTS, set)):
            waiting += one
        elif isinstance(one, BuiltinMethodType):
            # `text.lower`, which somebody calls later
            waiting.append(one.__self__)


def choose_source(sources: Iterable[str]) -> str:
    """The source that may do least; empty if there is none."""
    chosen = ""
    for source in sources:
        if source and (not chosen or origin_of(source) > origin_of(chosen)):
            chosen = source
            if origin_of(chosen) is Origin.SERVER:
                break
    return chosen


def origin_of(source: str) -> Origin:
    """Where the source is."""
    return source.origin if isinstance(source, Source) else Origin.MACHINE


def _came_through(part: Part, name: str) -> Part:
    is_named = not part.is_outside or part.source.startswith(("the variable ", "the extra variable "))
    if is_named:
        return part
    return part._replace(source=Source(f"the variable '{name}', which is {part.source}", origin_of(part.source)))


def _is_traced(value: Any) -> bool:
    return isinstance(value, Traced) and bool(value._parts)


def _mark(value: Any, like: Part) -> Any:
    if isinstance(value, str):
        is_known = isinstance(value, Traced) and value._parts
        return value if is_known else Traced(value, (like._replace(text=str(value)),))
    if isinstance(value, PositionedMap):
        marked = PositionedMap(value.location)
        for key, item in value.items():
            marked.put(_mark(key, like), _mark(item, like), value.key_locations[key], value.value_locations[key])
        return marked
    if isinstance(value, PositionedList):
        marked_list = PositionedList(value.location)
        for item, place in zip(value, value.item_locations, strict=True):
            marked_list.add(_mark(item, like), place)
        return marked_list
    if isinstance(value, dict):
        return {_mark(key, like): _mark(item, like) for key, item in value.items()}
    if isinstance(value, LazyList):
        return value if value.source else [_mark(item, like) for item in value]
    if isinstance(value, list | tuple):
        items = [_mark(item, like) for item in value]
        make: Callable[[list[Any]], Any] = getattr(type(value), "_make", type(value))
        return make(items)
    if isinstance(value, Iterator | KeysView | ValuesView | ItemsView):
        # What `map` and `select` give is made when it is asked for, and there is nothing in it to look at before.
        return [_mark(item, like) for item in value]
    if (attributes := getattr(value, "_Namespace__attrs", None)) is not None:
        # Jinja's `namespace(…)`, whose attributes have no other name
        attributes.update(_mark(dict(attributes), like))
    return value
