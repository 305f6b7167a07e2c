"""Runs a play and tells about it in events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.cancellation import Cancellation
from runner.errors import InternalError
from runner.events import HostConnected, HostDisconnected, Observer, PlayFinished, PlayStarted, StepCrashed
from runner.execution.sessions import Sessions
from runner.execution.step_run import Clock, PlayContext, describe_failure
from runner.execution.turns import Turns
from runner.plan import Endpoint, PlayOptions, Step
from runner.program import Confirm, Play
from runner.results import PlayResult, StepFailure, combine_exit_codes
from runner.transfer.memory import Memory

if TYPE_CHECKING:
    from runner.ssh.connection import Connection


def run_play(
    play: Play,
    *,
    options: PlayOptions,
    observer: Observer,
    cancellation: Cancellation,
    memory: Memory,
    confirm: Confirm | None = None,
) -> PlayResult:
    """Carry out the program. A failed step ends the later steps of its host, not those of other hosts.

    `memory` is what the steps of earlier plays of the same command line have left to be remembered. `confirm` is asked
    before each step.

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

    def tell_disconnected(step: Step, connection: Connection) -> None:
        observer(HostDisconnected(step, connection.server_version, connection.traits.describe()))

    sessions = Sessions(cancellation, tell_connected, play.calls, tell_disconnected)
    crash: StepFailure | None = None
    observer(PlayStarted(play, options.is_check))
    turns = Turns(play, PlayContext(sessions, options, observer, cancellation, memory), weaknesses, confirm)
    try:
        turns.run()
    finally:
        try:
            sessions.close()
        except Exception as error:
            observer(StepCrashed(None, error))
            crash = describe_failure(InternalError(error))
    results, interruption = turns.results, turns.interruption
    failures = [*results.lasting_failures, crash]
    finished = PlayResult(
        file=play.file,
        name=play.name,
        is_check=options.is_check,
        started_at=clock.started_at,
        finished_at=datetime.now(UTC),
        duration_seconds=clock.elapsed_seconds,
        exit_code=interruption.exit_code if interruption else combine_exit_codes(failures),
        interrupted_by=interruption.signal_number if interruption else None,
        steps=results,
        failure=crash,
    )
    observer(PlayFinished(finished))
    return finished
