"""Lists that may be long, and whose items are made when they are asked for: a value of each would fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any


class LazyList(Sequence[Any]):
    """A list of `count` items, which `make` makes by their positions, each time anew.

    `source` says who outside has said something in it, empty if its items know that themselves.
    """

    __slots__ = ("_count", "_make", "source")

    def __init__(self, count: int, make: Callable[[int], Any], source: str = "") -> None:
        self._count = count
        self._make = make
        self.source = source

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        positions = range(self._count)[index]
        return [self._make(one) for one in positions] if isinstance(positions, range) else self._make(positions)

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, range(self._count))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | tuple | LazyList) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other] if isinstance(other, list | LazyList) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __mul__(self, count: int) -> list[Any]:
        return list(self) * count

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return repr(list(self))


LISTS = (list, tuple, LazyList)
