"""What a playbook holds, wherever it stands: the names that it gives to something, and its texts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from runner.playbook.ansible.modules import is_module
from runner.playbook.document import PositionedList, PositionedMap
from runner.problems import Location

# What is an expression without braces: beside a step, and in what a step is given.
CONDITIONS = ("when", "until", "failed_when", "changed_when")
EXPRESSIONS_IN = {"assert": ("that",), "debug": ("var",)}


class Text(NamedTuple):
    """A text, and whether it is an expression without braces."""

    text: str
    location: Location
    is_expression: bool


def find_own_names(value: Any) -> Iterator[str]:
    """The names that the playbook itself gives to something, wherever."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("vars", "set_fact", "inputs") and isinstance(item, Mapping):
                yield from item
            elif key in ("register", "loop_var", "index_var") and isinstance(item, str):
                yield item
            yield from find_own_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from find_own_names(item)


def find_foreign_results(value: Any) -> Iterator[str]:
    """The names that modules of Ansible's register their results under."""
    if isinstance(value, Mapping):
        if isinstance(value.get("register"), str) and any(is_module(key) for key in value):
            yield value["register"]
        for item in value.values():
            yield from find_foreign_results(item)
    elif isinstance(value, list):
        for item in value:
            yield from find_foreign_results(item)


def find_texts(value: Any, place: Location, key: str) -> Iterator[Text]:
    """Every text in the value of a step's key that may have something of Ansible's in it."""
    return _find_texts(value, place, key in CONDITIONS, EXPRESSIONS_IN.get(key.rpartition(".")[2], ()))


def _find_texts(value: Any, place: Location, is_expression: bool, inner: Collection[str]) -> Iterator[Text]:
    """`inner` are the keys of a mapping whose values are expressions."""
    if isinstance(value, PositionedMap):
        for key, item in value.items():
            yield from _find_texts(item, value.value_locations[key], is_expression or key in inner, ())
    elif isinstance(value, PositionedList):
        for item, where in zip(value, value.item_locations, strict=True):
            yield from _find_texts(item, where, is_expression, ())
    elif type(value) is str and re.search(r"ansible_|inventory_|role_|omit|\bq(uery)?\s*\(|\w\.\w", value):
        yield Text(value, place, is_expression)
