"""What `register` keeps of a step: the value that later steps read, and what is known of it before it is there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import Any

from runner.foretold import NOT_CARRIED_OUT
from runner.interpreter import HostValues
from runner.plan import NO_HOST
from runner.playbook.document import describe_type, shorten
from runner.playbook.lazy_lists import LazyList
from runner.playbook.provenance import Found, Origin, Part, Source, Traced, find_outside, mark_outside, origin_of
from runner.playbook.validation import show
from runner.results import Entry, ForetoldEntry, SkippedItems, StepResult, format_moment, format_permissions
from runner.suggestions import nearest

MAX_KEYS_SHOWN = 40

# What a value has: the names in it, and what these have. None: anything.
Shape = Mapping[str, Any]

_COPY = (
    *("source", "destination", "size_bytes", "files_total", "files_changed", "bytes_transferred", "folders_changed"),
    *("links_changed", "removed", "resumed_at_bytes", "verified", "sha256", "atomic", "backup", "backups"),
    *("backups_total", "warnings", "durable"),
)
_ENTRY = ("path", "type", "size_bytes", "permissions", "modified_at", "target")
# What `result` has, by what the step does.
RESULT_FIELDS: dict[str, tuple[str, ...]] = {
    "copy_file_from_engine": _COPY,
    "copy_file_to_engine": _COPY,
    "copy_directory_from_engine": _COPY,
    "copy_directory_to_engine": _COPY,
    "list": ("path", "entries"),
    "stats": ("exists", *_ENTRY),
    "remove": ("path", "removed", "warnings"),
    "rename": ("source", "destination", "atomic", "warnings"),
    "create_directory": ("path", "created", "warnings"),
    "write_file": _COPY,
    "read_file": ("source", "content", "encoding", "size_bytes", "sha256", "warnings"),
    "create_link": ("path", "target", "previous_target", "atomic", "warnings"),
    "wait_for": ("path", "state", "met", "waited_seconds", "entries"),
    "assert": (),
    "fail": (),
    "pause": ("seconds",),
    "debug": ("msg", "values"),
    "set_fact": ("facts",),
}
FIELDS = (
    *("status", "changed", "failed", "skipped", "unreachable", "attempts", "message"),
    *("duration_seconds", "result", "error"),
)
_LOOP_FIELDS = ("results", "status", "changed", "failed", "skipped", "unreachable", "message")
_ERROR_FIELDS = ("type", "message", "hint")
_STEP_FIELDS = ("name", "location", "host", "error", "result")
_NO_TARGET = {"target": "only a link has a 'target', and this is none"}
# What --check does not come to know of a copy that it only foretells.
_NOT_FORETOLD = ("verified", "sha256", "resumed_at_bytes", "backup", "backups")


class Result(dict[str, Any]):
    """A registered result. What it lacks, it may say why."""

    def __init__(self, values: Mapping[str, Any], absent: Mapping[str, str] | None = None) -> None:
        super().__init__(values)
        self._absent = absent or {}

    @property
    def unknown(self) -> str:
        """With --check: why it is not even known how the step would end; empty if that is known."""
        return "" if "status" in self else self._absent.get("status", "")


def why_absent(value: Any, name: Any) -> tuple[str, str] | None:
    """What to say of a part that data does not have, with what came instead, and a hint; None for what is no data."""
    asked = shorten(str(name))
    match value:
        case list() | tuple() | LazyList() if isinstance(name, int):
            return f"a list of {len(value)} has no item {asked}", "Items are counted from 0."
        case list() | tuple() | LazyList():
            hint = f"Take one of its items, as in [0], use a loop, or `| map(attribute='{asked}')`."
            return f"a list has no '{asked}'", hint
        case str() | int() | float():
            return f"{describe_type(value)} has no '{asked}'", ""
        case Result() if name in value._absent:
            return value._absent[name], ""
        case Result() if "status" in value:
            return f"a result has no '{asked}'", nearest(asked, value)
        case HostValues():
            return f"'hostvars' has no host '{asked}'", nearest(asked, (host for host in value if host != NO_HOST))
        case Mapping():
            return f"a mapping has no '{asked}': {_show_mapping(value)}", _hint_at_key(asked, value)
    return None


def _show_mapping(value: Mapping[Any, Any]) -> str:
    """A mapping in one line."""
    return show({str(key): _shown(item) for key, item in islice(value.items(), MAX_KEYS_SHOWN)})


def _shown(value: Any) -> Any:
    """What may be quoted of a value: what a server has said. Other text may be secret, and lists may be long."""
    if value is None or isinstance(value, int | float):
        return value
    return value if isinstance(value, str) and origin_of(find_outside(value)) is Origin.SERVER else "..."


def _hint_at_key(name: str, value: Mapping[Any, Any]) -> str:
    known = [key for key in islice(value, MAX_KEYS_SHOWN + 1) if isinstance(key, str)]
    # The keys of a large one are data, of which none was meant.
    return nearest(name, known) if len(known) <= MAX_KEYS_SHOWN else ""


def shape_of(what: str, *, is_loop: bool) -> Shape:
    """What a step's registered value is going to have. `what` is its mode, or what else it does."""
    fields = RESULT_FIELDS.get(what)
    inner = None if fields is None else dict.fromkeys(fields)
    one: Shape = {**dict.fromkeys(FIELDS), "result": inner, "error": dict.fromkeys(_ERROR_FIELDS)}
    return dict.fromkeys(_LOOP_FIELDS) if is_loop else one


FAILED_STEP_SHAPE: Shape = {**dict.fromkeys(_STEP_FIELDS), "error": dict.fromkeys(_ERROR_FIELDS)}


def describe_result(result: StepResult, item: Any = None, *, has_item: bool = False) -> Result:
    """The value of one step, or of one item of a loop."""
    step, failure = result.step, result.failure
    who = f"step {step.index} ({step.name})"
    absent: dict[str, str] = {}
    output = result.output
    if output is not None and output.is_unknown:
        return Result({"item": item} if has_item else {}, dict.fromkeys(FIELDS, _needs_result(result)))
    values: dict[str, Any] = {
        "status": result.status,
        "changed": result.status == "changed",
        "failed": failure is not None,
        "skipped": result.status == "skipped",
        "unreachable": result.status == "unreachable",
        "attempts": result.attempts,
        "message": mark_outside(result.message, Source(f"the message of {who}", Origin.SERVER)),
        "duration_seconds": round(result.duration_seconds, 3),
        "error": None,
    }
    if failure is not None:
        error = {"type": failure.type, "message": failure.message, "hint": failure.hint}
        values["error"] = mark_outside(error, Source(f"the error of {who}", Origin.SERVER))
    if output is not None:
        values["result"] = _describe_output(result, who)
    elif result.status == "skipped":
        absent["result"] = f"{who}, {step.location}, was skipped: it has no result"
    else:
        absent["result"] = f"{who}, {step.location}, failed: it has no result"
    if has_item:
        values["item"] = item
    return Result(values, absent)


def _describe_output(result: StepResult, who: str) -> Any:
    output = result.output
    assert output is not None
    own_facts = getattr(output, "own_facts", None)
    facts = output.facts() if own_facts is None else own_facts()
    mode = getattr(result.step, "mode", None)
    # What the playbook has written itself begins the paths that the server has added to.
    written = [f"{place.path.rstrip('/')}/" for place in mode.places] if mode is not None else []
    source = Source(f"the result of {who}", Origin.SERVER)
    if mode is None:
        # Nobody outside has a part in it that its values do not know themselves.
        return facts
    own = {key for key in ("path", "source", "destination") if key in facts}
    found = {key: value if key in own else _mark(value, source, written) for key, value in facts.items()}
    if own_facts is not None:
        found["entries"] = _describe_entries(output.entries, source, written)
    absent: dict[str, str] = {}
    if result.is_foretold:
        reason = _needs_result(result)
        absent = {key: reason for key in _NOT_FORETOLD if found.pop(key, absent) is not absent}
    if isinstance(getattr(output, "entry", None), ForetoldEntry):
        return _leave_open(found)
    return Result(found, absent)


def _leave_open(facts: dict[str, Any], absent: Mapping[str, str] | None = None) -> Result:
    """What --check knows of something that an earlier step would have made."""
    unknown = [key for key in ("permissions", "modified_at") if facts.get(key) is None]
    why = {key: f"it needs '{key}' of what an earlier step would have made, {NOT_CARRIED_OUT}" for key in unknown}
    return Result({key: value for key, value in facts.items() if key not in unknown}, {**(absent or {}), **why})


def _describe_entries(entries: Sequence[Entry], source: str, written: Sequence[str]) -> LazyList:
    """What a listing holds. Of very many entries most are the same but for their paths."""

    share = cache(lambda text: Found(text, 0, source))
    permissions = cache(lambda bits: _mark(format_permissions(bits), source, ()))
    moments = lru_cache(lambda seconds: _mark(format_moment(seconds), source, ()))
    beginnings = tuple(written)

    def describe(position: int) -> dict[str, Any]:
        path, kind, size_bytes, bits, seconds, target = entry = entries[position]
        length = len(next(filter(path.startswith, beginnings), ""))
        facts = {
            "path": Found(path, length, source),
            "type": share(kind),
            "size_bytes": size_bytes,
            "permissions": permissions(bits),
            "modified_at": moments(seconds),
        }
        if kind == "link":
            facts["target"] = _mark(target, source, written)
        absent = {} if kind == "link" else _NO_TARGET
        if isinstance(entry, ForetoldEntry):
            return _leave_open(facts, absent)
        return Result(facts, absent) if absent else facts

    return LazyList(len(entries), describe, source)


def _needs_result(result: StepResult) -> str:
    return f"it needs the result of step {result.step.index}, {NOT_CARRIED_OUT}"


def _mark(value: Any, source: str, written: Sequence[str]) -> Any:
    if isinstance(value, str):
        prefix = next((path for path in written if value.startswith(path)), "")
        rest = value[len(prefix) :]
        parts = (Part(prefix),) if prefix else ()
        return Traced(value, (*parts, Part(rest, source, is_outside=True)))
    if isinstance(value, list | tuple):
        return [_mark(item, source, written) for item in value]
    if isinstance(value, dict):
        return {key: _mark(item, source, written) for key, item in value.items()}
    return value


def describe_loop(done: Sequence[tuple[StepResult | SkippedItems, int]], items: Sequence[Any]) -> Result:
    """The value of a step that went through a loop: with what came of its items, from the one at a position on."""
    single = [result for result, _ in done if isinstance(result, StepResult)]
    unknown = next((one for one in single if one.output is not None and one.output.is_unknown), None)
    if unknown is not None:
        return Result({"results": _list_results(done, items)}, dict.fromkeys(_LOOP_FIELDS, _needs_result(unknown)))
    statuses = {one.status for one in single}
    worst = next((status for status in ("unreachable", "failed", "changed", "ok") if status in statuses), "skipped")
    results = _list_results(done, items)
    return Result(
        {
            "results": results,
            "status": worst,
            "changed": "changed" in statuses,
            "failed": any(one.failure is not None for one in single),
            "skipped": statuses <= {"skipped"},
            "unreachable": "unreachable" in statuses,
            "message": f"{len(results)} items",
        },
        {"result": "a loop has a result for each item: use '.results'"},
    )


def _list_results(done: Sequence[tuple[StepResult | SkippedItems, int]], items: Sequence[Any]) -> LazyList:
    starts = [first for _, first in done]
    count = sum(len(result) if isinstance(result, SkippedItems) else 1 for result, _ in done)

    def describe(position: int) -> Result:
        result, first = done[bisect_right(starts, position) - 1]
        one = result[position - first] if isinstance(result, SkippedItems) else result
        return describe_result(one, items[position], has_item=True)

    return LazyList(count, describe)


def describe_failed_step(result: StepResult) -> Result:
    """`failed_step` of `rescue` and `always`."""
    one = describe_result(result)
    values = {
        "name": result.step.name,
        "location": str(result.step.location),
        "host": result.step.host_label,
        "error": one["error"],
        "result": one.get("result"),
    }
    return Result(values)
