"""Runs the steps of a play in order and tells about it in events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.cancellation import Cancellation
from runner.errors import InternalError, Interrupted
from runner.events import (
    HostConnected,
    Observer,
    PlayFinished,
    PlayStarted,
    StepCrashed,
    StepFinished,
    StepStarted,
)
from runner.execution.sessions import Sessions
from runner.execution.step_run import Clock, PlayContext, StepRun, describe_failure
from runner.plan import Endpoint, Play, PlayOptions, Step
from runner.results import PlayResult, StepFailure, StepResult, combine_exit_codes
from runner.transfer.memory import Memory

if TYPE_CHECKING:
    from runner.ssh.connection import Connection


def run_play(
    play: Play, *, options: PlayOptions, observer: Observer, cancellation: Cancellation, memory: Memory
) -> PlayResult:
    """Run every step, in order. A failed step ends the later steps of its host, not those of other hosts.

    `memory` is what the steps of earlier plays of the same command line have left to be remembered.

    Never raises for what a step does wrong, nor on a signal, nor for a bug met on the way: the result tells. All
    connections are closed in the end.
    """
    clock = Clock.start()

    weaknesses: dict[Endpoint, dict[str, None]] = {}

    def tell_connected(step: Step, connection: Connection) -> None:
        jump_host = "" if connection.endpoint is step.endpoint else connection.name
        known = weaknesses.setdefault(step.endpoint, {})
        fresh = tuple(one for one in connection.weaknesses if one not in known)
        known.update(dict.fromkeys(fresh))
        observer(HostConnected(step, connection.trusted_by, connection.known_hosts_warnings, jump_host, fresh))

    sessions = Sessions(cancellation, tell_connected, play.steps)
    crash: StepFailure | None = None
    observer(PlayStarted(play, options.is_check))
    try:
        shared = PlayContext(sessions, options, observer, cancellation, memory)
        results, interruption = _run_steps(play.steps, shared, weaknesses)
    finally:
        try:
            sessions.close()
        except Exception as error:
            observer(StepCrashed(None, error))
            crash = describe_failure(InternalError(error))
    failures = [*(result.failure for result in results), crash]
    finished = PlayResult(
        file=play.file,
        name=play.name,
        is_check=options.is_check,
        started_at=clock.started_at,
        finished_at=datetime.now(UTC),
        duration_seconds=clock.elapsed_seconds,
        exit_code=interruption.exit_code if interruption else combine_exit_codes(failures),
        interrupted_by=interruption.signal_number if interruption else None,
        steps=tuple(results),
        failure=crash,
    )
    observer(PlayFinished(finished))
    return finished


def _run_steps(
    steps: Sequence[Step], shared: PlayContext, weaknesses: Mapping[Endpoint, Iterable[str]]
) -> tuple[list[StepResult], Interrupted | None]:
    """The result of each step, and the signal that ended the play if one did.

    `weaknesses` says what is weak about the connections to each endpoint that have been opened so far.
    """
    results: list[StepResult] = []
    failed_hosts: dict[str, str] = {}
    interruption: Interrupted | None = None
    for position, step in enumerate(steps):
        reason = "the play was interrupted" if interruption else failed_hosts.get(step.host_label, "")
        if reason:
            result = _skipped(step, reason)
        else:
            shared.observer(StepStarted(step))
            result, interruption = StepRun(step, shared).run()
            result = result._replace(warnings=tuple(weaknesses.get(step.endpoint, ())))
            shared.sessions.finish(step)
            if result.failure is not None:
                failed_hosts[step.host_label] = f"step {step.index} ({step.name}) failed on this host"
                for other in steps[position + 1 :]:
                    if other.host_label == step.host_label:
                        shared.sessions.finish(other)
        results.append(result)
        shared.observer(StepFinished(result))
    return results, interruption


def _skipped(step: Step, reason: str) -> StepResult:
    return StepResult(
        step=step,
        status="skipped",
        started_at=datetime.now(UTC),
        duration_seconds=0.0,
        message=reason,
        attempts=0,
    )
