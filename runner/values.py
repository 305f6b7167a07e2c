"""Frozen dataclasses that take a tenth of the time to define: every play defines some fifty of them before it does anything.

`dataclasses` writes source code for the methods of each class, and compiles it. Here all classes share the same few
methods. Fields, `field`, `replace` and `match` are those of `dataclasses`, and so it is for the type checker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, slots: bool) -> Callable[[type], Any]:
        """A class of values, as `dataclasses.dataclass(frozen=True, slots=True)` makes it."""
        if not (frozen and slots):
            raise TypeError("what is not frozen, or has no slots, is a dataclass of its own")
        return _make


def _make(cls: type) -> Any:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    fields = dataclasses.fields(made)
    names = [field.name for field in fields]
    methods: dict[str, Any] = {
        "__init__": _make_init(made, fields),
        "__setattr__": _refuse_change,
        "__delattr__": _refuse_change,
        "__getstate__": lambda self: [getattr(self, name) for name in names],
        "__setstate__": _make_setstate(made, names),
    }
    compared = _make_getter([field.name for field in fields if field.compare])
    shown = [field.name for field in fields if field.repr]
    methods |= {
        "__eq__": lambda self, other: compared(self) == compared(other) if _are_alike(self, other) else NotImplemented,
        "__hash__": lambda self: hash(compared(self)),
        "__repr__": lambda self: _show(self, shown),
    }
    for name, method in methods.items():
        if name not in cls.__dict__:
            setattr(made, name, method)
    return made


def _make_init(cls: Any, fields: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    # Past `__setattr__`, which refuses.
    puts = [(field, getattr(cls, field.name).__set__) for field in fields]

    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
        if len(given) > len(puts):
            raise TypeError(f"{cls.__name__} takes {len(puts)} values, not {len(given)}")
        for (_, put), value in zip(puts, given, strict=False):
            put(self, value)
        for field, put in puts[len(given) :]:
            if field.name in named:
                put(self, named.pop(field.name))
            elif field.default is not MISSING:
                put(self, field.default)
            elif field.default_factory is not MISSING:
                put(self, field.default_factory())
            else:
                raise TypeError(f"{cls.__name__} needs a value for {field.name!r}")
        if named:
            raise TypeError(f"{cls.__name__} takes no value, or two, for {', '.join(map(repr, named))}")

    return __init__


def _make_setstate(cls: Any, names: list[str]) -> Callable[..., None]:
    def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: N807
        for name, value in zip(names, state, strict=True):
            getattr(cls, name).__set__(self, value)

    return __setstate__


def _make_getter(names: list[str]) -> Callable[[Any], Any]:
    return attrgetter(*names) if names else lambda value: ()


def _are_alike(one: object, other: object) -> bool:
    return one.__class__ is other.__class__


def _refuse_change(self: object, name: str, *value: Any) -> None:
    raise FrozenInstanceError(f"cannot change {name!r} of a {type(self).__name__}")


def _show(value: Any, names: list[str]) -> str:
    return f"{type(value).__qualname__}({', '.join(f'{name}={getattr(value, name)!r}' for name in names)})"
