"""Filters that make lists and mappings of lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runner.playbook.document import shorten
from runner.playbook.filters.misuse import Misuse, describe, need_list, need_mapping, refuse
from runner.playbook.lazy_lists import LISTS

_LIST_MERGES: dict[str, Callable[[list[Any], list[Any]], list[Any]]] = {
    "replace": lambda old, new: new,
    "keep": lambda old, new: old,
    "append": lambda old, new: old + new,
    "prepend": lambda old, new: new + old,
    # "remove present": what is in both stands where the new list has it.
    "append_rp": lambda old, new: [one for one in old if one not in new] + new,
    "prepend_rp": lambda old, new: new + [one for one in old if one not in new],
}


def combine(*mappings: Any, recursive: bool = False, list_merge: str = "replace") -> Any:
    """One mapping of several: later ones win. `recursive` goes into mappings; `list_merge` for lists under one key."""
    if list_merge not in _LIST_MERGES:
        raise Misuse(f"'combine' knows no list_merge {shorten(repr(list_merge))}", f"Known: {', '.join(_LIST_MERGES)}.")
    made: dict[Any, Any] = {}
    for index, one in enumerate(flatten(list(mappings), levels=1)):
        if not isinstance(one, Mapping):
            raise Misuse(f"'combine' needs mappings, and number {index + 1} is {describe(one)}")
        made = _merge(made, one, recursive, _LIST_MERGES[list_merge])
    return made


def _merge(
    old: Mapping[Any, Any],
    new: Mapping[Any, Any],
    is_recursive: bool,
    merge_lists: Callable[[list[Any], list[Any]], list[Any]],
) -> dict[Any, Any]:
    made = dict(old)
    for key, value in new.items():
        before = made.get(key)
        if is_recursive and isinstance(before, Mapping) and isinstance(value, Mapping):
            made[key] = _merge(before, value, is_recursive, merge_lists)
        elif isinstance(before, LISTS) and isinstance(value, LISTS):
            made[key] = merge_lists(list(before), list(value))
        else:
            made[key] = value
    return made


def dict2items(mapping: Any, key_name: str = "key", value_name: str = "value") -> list[dict[str, Any]]:
    """A list with `{key: …, value: …}` for each pair."""
    return [{key_name: key, value_name: value} for key, value in need_mapping(mapping, "dict2items").items()]


def items2dict(items: Any, key_name: str = "key", value_name: str = "value") -> dict[Any, Any]:
    """The mapping that `dict2items` made the list of."""
    made = {}
    for index, item in enumerate(need_list(items, "items2dict")):
        if not isinstance(item, Mapping) or key_name not in item or value_name not in item:
            wanted = f"mappings with '{key_name}' and '{value_name}'"
            hint = "Name them: items2dict(key_name='…', value_name='…')."
            raise Misuse(f"'items2dict' needs {wanted}, and item {index} is {_describe_item(item)}", hint)
        try:
            made[item[key_name]] = item[value_name]
        except TypeError as error:
            raise Misuse(f"'items2dict': the key of item {index} is {describe(item[key_name])}") from error
    return made


def flatten(items: Any, levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    """The list with the items of the lists in it, down to so many `levels`; what is null is left out."""
    made: list[Any] = []
    for item in need_list(items, "flatten"):
        if skip_nulls and (item is None or (isinstance(item, str) and item in ("None", "null"))):
            continue
        if isinstance(item, LISTS) and (levels is None or levels >= 1):
            made += flatten(item, None if levels is None else levels - 1, skip_nulls)
        else:
            made.append(item)
    return made


def zip_lists(*lists: Any) -> list[tuple[Any, ...]]:
    """The first items of all lists together, then the second ones; as many as the shortest list has."""
    return list(zip(*(need_list(one, "zip") for one in lists), strict=False))


def union(first: Any, second: Any) -> list[Any]:
    """What is in either list, each once, in this order."""
    return _keep_first(need_list(first, "union") + need_list(second, "union"))


def intersect(first: Any, second: Any) -> list[Any]:
    """What is in both lists, each once, in the order of the first."""
    is_in = _membership(need_list(second, "intersect"))
    return _keep_first(one for one in need_list(first, "intersect") if is_in(one))


def difference(first: Any, second: Any) -> list[Any]:
    """What is in the first list and not in the second, each once, in its order."""
    is_in = _membership(need_list(second, "difference"))
    return _keep_first(one for one in need_list(first, "difference") if not is_in(one))


def unique(items: Any, case_sensitive: bool | None = None, attribute: str | int | None = None) -> list[Any]:
    """Each item once, in order. Texts that differ in their case only are one, unless `case_sensitive`."""
    listed = need_list(items, "unique")
    folds = not case_sensitive

    def make_key(item: Any) -> Any:
        value = item if attribute is None else _find(item, attribute)
        return str(value).lower() if folds and isinstance(value, str) else value

    return _keep_first(listed, make_key)


def subelements(items: Any, subelements: Any, skip_missing: bool = False) -> list[tuple[Any, Any]]:
    """A pair for each item and each of the elements that it has under a key: `('accounts', 'keys.ssh')`."""
    listed = list(items.values()) if isinstance(items, Mapping) else need_list(items, "subelements")
    if not isinstance(subelements, str | list):
        raise refuse("subelements", "a key, or a list of keys", subelements)
    keys = subelements.split(".") if isinstance(subelements, str) else subelements
    return [(item, found) for item in listed for found in _find_elements(item, keys, skip_missing)]


def _find_elements(item: Any, keys: list[Any], skip_missing: bool) -> list[Any]:
    here = item
    for key in keys:
        if not isinstance(here, Mapping):
            raise Misuse(f"'subelements' looks for {key!r} in {describe(here)}, which is no mapping")
        if key not in here:
            if skip_missing:
                return []
            hint = "Add skip_missing=true to leave such items out."
            raise Misuse(f"'subelements' finds no {key!r} in an item; it has {_describe_keys(here)}", hint)
        here = here[key]
    if not isinstance(here, LISTS):
        raise Misuse(f"'subelements' needs a list under {'.'.join(map(str, keys))!r}, not {describe(here)}")
    return list(here)


def _find(item: Any, attribute: str | int) -> Any:
    here = item
    for part in str(attribute).split("."):
        try:
            here = here[int(part)] if part.isdecimal() and isinstance(here, LISTS) else here[part]
        except (LookupError, TypeError) as error:
            raise Misuse(f"'unique' finds no {attribute!r} in {_describe_item(item)}") from error
    return here


def _keep_first(items: Iterable[Any], make_key: Callable[[Any], Any] = lambda item: item) -> list[Any]:
    """The items whose key none before them has."""
    made: list[Any] = []
    keys, odd_keys = set[Any](), list[Any]()
    for item in items:
        key = make_key(item)
        try:
            is_new = key not in keys
            keys.add(key)
        except TypeError:
            # Lists and mappings cannot be in a set.
            is_new = key not in odd_keys
            odd_keys += [key] if is_new else []
        if is_new:
            made.append(item)
    return made


def _membership(items: list[Any]) -> Callable[[Any], bool]:
    """Whether something is in the list, without walking through it each time where that can be helped."""
    known = set[Any]()
    try:
        # One by one: numbers can be chosen so that each takes as long as all before it, and a signal must be heard then.
        for one in items:
            known.add(one)
    except TypeError:
        return lambda one: one in items

    def is_in(one: Any) -> bool:
        try:
            return one in known
        except TypeError:
            return False

    return is_in


def _describe_item(item: Any) -> str:
    return f"a mapping with {_describe_keys(item)}" if isinstance(item, Mapping) else describe(item)


def _describe_keys(mapping: Mapping[Any, Any]) -> str:
    shown = ", ".join(f"'{key}'" for key in list(mapping)[:5])
    return f"{shown}{', …' if len(mapping) > 5 else ''}" if mapping else "no keys"
