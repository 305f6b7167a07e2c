"""The machine-readable report of `--json`; `schema/report.schema.json` is its contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from runner._version import VERSION
from runner.errors import Interrupted, PlaybookInvalid, RunnerError
from runner.problems import Location, Problem
from runner.redaction import Redactor
from runner.results import PlayResult, StepFailure, StepResult

SCHEMA_VERSION = "1"


def describe_play(result: PlayResult, redact: Callable[[str], str] = str) -> dict[str, Any]:
    """The report on a play that was carried out."""
    failure = result.failure
    told = {"error": _describe_failure(failure)} if failure else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "runner_version": VERSION,
        "playbook": result.file,
        "name": result.name,
        "check": result.is_check,
        "status": result.status,
        "exit_code": result.exit_code,
        "started_at": _timestamp(result.started_at),
        "finished_at": _timestamp(result.finished_at),
        "duration_seconds": round(result.duration_seconds, 3),
        "steps": [_describe_step(step) for step in result.steps],
        # The names are connections', so they are data, unlike all other keys.
        "recap": {redact(host): counts for host, counts in result.recap.items()},
        **told,
    }


def describe_failure(
    file: str, *, is_check: bool, at: datetime, exit_code: int, error: dict[str, Any], is_interrupted: bool = False
) -> dict[str, Any]:
    """The report on a playbook that was not played at all."""
    return {
        "schema_version": SCHEMA_VERSION,
        "runner_version": VERSION,
        "playbook": file,
        "name": file,
        "check": is_check,
        "status": "interrupted" if is_interrupted else "failed",
        "exit_code": exit_code,
        "started_at": _timestamp(at),
        "finished_at": _timestamp(at),
        "duration_seconds": 0.0,
        "steps": [],
        "recap": {},
        "error": error,
    }


def describe_error(error: RunnerError | Interrupted) -> dict[str, Any]:
    """What kept a playbook from being played."""
    if isinstance(error, Interrupted):
        message = f"{error} before anything was contacted"
        return {"type": type(error).__name__, "message": message, "hint": "Play again."}
    told: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, PlaybookInvalid):
        told["problems"] = describe_problems(error.problems)
    return told


def describe_problems(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    """The problems of an invalid playbook."""
    return [
        {"location": _describe_location(one.location), "message": one.message, "hint": one.hint} for one in problems
    ]


def to_json(report: Any, redactor: Redactor) -> str:
    """The report as text, without any secret in it. File names that are not UTF-8 come out as escapes."""
    text = json.dumps(_redact(report, redactor), indent=2, ensure_ascii=True)
    # On a CI system's log it may begin a command, see `runner/report/text.py`. In JSON it can stand in a string only.
    return text.replace("##", "\\u0023\\u0023") + "\n"


# What the report's schema fixes is never a secret, even if somebody's password happens to be "changed".
_FIXED_KEYS = frozenset(
    {
        *("schema_version", "runner_version", "status", "started_at", "finished_at", "connector_type", "mode_name"),
        *("type", "permissions", "modified_at", "action"),
    }
)


def _redact(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.redact(value)
    if isinstance(value, dict):
        return {key: item if key in _FIXED_KEYS else _redact(item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(item, redactor) for item in value]
    return value


def _describe_step(result: StepResult) -> dict[str, Any]:
    step, failure = result.step, result.failure
    changes = result.changes
    told: dict[str, Any] = {}
    if changes is not None:
        told = {"changes": [one.facts() for one in changes], "changes_total": result.changes_total}
    if result.warnings:
        told["warnings"] = list(result.warnings)
    told |= {key: True for key, is_so in (("ignored", result.is_ignored), ("rescued", result.is_rescued)) if is_so}
    return {
        "index": step.index,
        "name": step.name,
        "connection": step.host_label,
        "host": step.endpoint.host if step.endpoint else None,
        "port": step.endpoint.port if step.endpoint else None,
        "connector_type": step.connector_type,
        "mode_name": step.kind,
        "item": result.item,
        "status": result.status,
        "attempts": result.attempts,
        "started_at": _timestamp(result.started_at),
        "duration_seconds": round(result.duration_seconds, 3),
        "message": result.message,
        "location": _describe_location(step.location),
        "result": result.output.facts() if result.output else {},
        "error": _describe_failure(failure) if failure else None,
        **told,
    }


def _describe_failure(failure: StepFailure) -> dict[str, Any]:
    told: dict[str, Any] = {"type": failure.type, "message": failure.message, "hint": failure.hint}
    return {**told, "problems": describe_problems(failure.problems)} if failure.problems else told


def _describe_location(location: Location) -> dict[str, Any]:
    return {"file": location.file, "line": location.line, "column": location.column}


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
