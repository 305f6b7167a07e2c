"""The whole program on one page: load → validate → plan → execute → report. Read this first.

playbook/   text → `Play`            (no network)
execution/  `Play` → events, result  over ssh/, sftp/ or scp/, by the policy of transfer/
report/     events, result → console, JSON
"""

from __future__ import annotations

import gc
from dataclasses import replace

from runner.cancellation import Cancellation
from runner.errors import InternalError, UsageError
from runner.events import Event, Observer, ObserverFailed, PlayStarted, StepStarted
from runner.logins import Selection
from runner.plan import NO_HOST, PlayOptions
from runner.playbook.build import load_play
from runner.program import Confirm, Play, select_nodes, steps_of
from runner.results import EXIT_BUG, PlayResult, StepFailure
from runner.suggestions import nearest
from runner.tags import SPECIAL_TAGS, TagFilter
from runner.transfer.memory import Memory

__all__ = ["load_play", "play", "select_steps"]


def play(
    plan: Play,
    *,
    options: PlayOptions,
    observers: list[Observer],
    cancellation: Cancellation,
    memory: Memory | None = None,
    confirm: Confirm | None = None,
) -> PlayResult:
    """Carry out a loaded play; every event goes to every observer. Plays of one command line share one `memory`.

    `confirm` is asked before each step; one that it does not want is skipped.

    One that fails is told nothing more; neither the play nor the others end by it, but the exit code is that of a bug.
    """
    from runner.execution.run import run_play

    listening = list(observers)
    failures: list[Exception] = []

    def tell_all(event: Event) -> None:
        # The first connection is there, or could not be opened.
        if not gc.isenabled() and not isinstance(event, PlayStarted | StepStarted):
            _begin_to_collect_garbage()
        for observer in tuple(listening):
            try:
                observer(event)
            except Exception as error:
                listening.remove(observer)
                failures.append(error)
                tell_all(ObserverFailed(error))

    result = run_play(
        plan,
        options=options,
        observer=tell_all,
        cancellation=cancellation,
        memory=memory or Memory.of_command(frozenset(), is_check=options.is_check),
        confirm=confirm,
    )
    return _blame_observers(result, failures) if failures else result


def _blame_observers(result: PlayResult, failures: list[Exception]) -> PlayResult:
    """The result of a play whose steps were carried out, and not all of it shown."""
    error = InternalError(failures[0])
    failure = StepFailure(type(error).__name__, error.message, error.hint, error.exit_code)
    exit_code = result.exit_code if result.interrupted_by is not None else EXIT_BUG
    return result._replace(exit_code=exit_code, failure=result.failure or failure)


def _begin_to_collect_garbage() -> None:
    """Everything is loaded. `cli/main.py` has turned it off: what is made while starting up stays."""
    # Once: what a second freeze finds may be garbage of the first play, and would never be collected.
    if not gc.get_freeze_count():
        gc.freeze()
    # Little of what a play makes refers to itself, and a tree makes much of it: looking for garbage as often as Python does
    # by default takes a tenth of the time.
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _require_tags(tags: TagFilter, known: frozenset[str]) -> None:
    for tag in sorted((tags.only | tags.skipped) - known - set(SPECIAL_TAGS)):
        hint = nearest(tag, sorted(known)) if known else "No step of this playbook has tags."
        raise UsageError(f"no step has the tag {tag!r}", hint=hint)


def select_steps(plan: Play, selection: Selection) -> Play:
    """The play without the steps that the command line leaves out. Raises `UsageError` when a part of it matches nothing."""
    limit, start_at, tags = selection
    tags_of = {template.index: template.keywords.tags for template in steps_of(plan.program.nodes)}
    _require_tags(tags, frozenset().union(*tags_of.values()))
    steps = tuple(step for step in plan.steps if tags.chooses(tags_of[step.index]))
    for name in limit:
        if not any(step.host_label == name for step in steps):
            known = ", ".join(dict.fromkeys(step.host_label for step in plan.calls))
            raise UsageError(f"--limit {name}: no step runs there", hint=f"Connections of this playbook: {known}.")
    if limit:
        # A step that contacts no host may set what others need.
        steps = tuple(step for step in steps if step.host_label in (*limit, NO_HOST))
    if start_at is not None:
        first = next((i for i, step in enumerate(steps) if start_at in (step.name, str(step.index))), None)
        if first is None:
            raise UsageError(
                f"--start-at-step {start_at!r}: no step has this name or number",
                hint="`runner play --list-steps FILE` shows them.",
            )
        steps = steps[first:]
    if len(steps) == len(plan.steps):
        return plan
    chosen = {step.index for step in steps}
    nodes = select_nodes(plan.program.nodes, lambda template: template.index in chosen)
    return replace(plan, steps=steps, program=plan.program._replace(nodes=nodes))
