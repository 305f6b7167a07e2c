"""Carries out the steps that contact no host: `assert`, `set_fact`, `debug`, `fail`, `pause`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.cancellation import Cancellation
from runner.errors import ConditionFailed
from runner.execution.step_run import sleep
from runner.operation_results import ControlOutput
from runner.program import Bound, Language, Names, StepTemplate

MAX_SHOWN_CHARACTERS = 10_000


def run_control(
    bound: Bound,
    template: StepTemplate,
    names: Names,
    language: Language,
    cancellation: Cancellation,
    *,
    is_check: bool,
) -> ControlOutput:
    """What the step comes to. Raises `ConditionFailed`, `InvalidInput`, and what the cancellation has to say."""
    arguments = bound.arguments
    match template.kind:
        case "assert":
            return _assert(arguments, template, names, language)
        case "set_fact":
            names_set = ", ".join(arguments)
            return ControlOutput(message=f"set {names_set}", values=arguments, told={"facts": _show_all(arguments)})
        case "fail":
            raise ConditionFailed(str(arguments.get("msg") or "the playbook says that it fails here"))
        case "pause":
            if not is_check:
                sleep(arguments, cancellation)
            return ControlOutput(message=f"waited {arguments:g} s", told={"seconds": arguments})
    return _debug(arguments)


def _assert(arguments: Mapping[str, Any], template: StepTemplate, names: Names, language: Language) -> ControlOutput:
    verdict = language.judge(language.conditions_of(template), template, names)
    if verdict.holds:
        return ControlOutput(message=str(arguments.get("success_msg") or "all assertions hold"))
    assert verdict.failed is not None
    said = language.describe(verdict.failed, template, names)
    own = arguments.get("fail_msg")
    message = f"{own}: {said}" if own else f"does not hold: {said}"
    raise ConditionFailed(message, hint=f"The condition stands at {verdict.failed.location}.")


def _debug(arguments: Mapping[str, Any]) -> ControlOutput:
    if set(arguments) == {"msg"}:
        message = str(arguments["msg"])
        return ControlOutput(message=message, told={"msg": message})
    shown = _show_all(arguments)
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}" for name, value in shown.items()]
    text = ", ".join(lines) or "nothing to show"
    return ControlOutput(message=text[:MAX_SHOWN_CHARACTERS], told={"values": shown})


def _show_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them."""
    return {str(name): _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
