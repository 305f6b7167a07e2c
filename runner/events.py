"""What a running play tells: the one stream that the console, the progress display and later reports listen to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from runner.plan import ControlStep, Step
from runner.program import Play
from runner.results import Change, PlayResult, SkippedItems, StepResult


class PlayStarted(NamedTuple):
    """The playbook is valid; the first step is about to run."""

    play: Play
    is_check: bool


class StepStarted(NamedTuple):
    """A step begins, or one item of its loop."""

    step: Step | ControlStep


class HostConnected(NamedTuple):
    """A connection to the step's host was opened, or to a jump host on the way, which `jump_host` then names.

    `trusted_by` says where its host key is known from; `warnings` are about lines of known_hosts files that could not be
    read, `weaknesses` about what the playbook allows this connection although it is weak.
    """

    step: Step
    trusted_by: str
    warnings: tuple[str, ...]
    jump_host: str = ""
    weaknesses: tuple[str, ...] = ()


class HostDisconnected(NamedTuple):
    """A connection that SFTP was spoken on is given up: with what is held to be true of the server by now, and why.

    `traits` are as `ServerTraits.describe` gives them.
    """

    step: Step
    server_version: str
    traits: tuple[tuple[str, str, str], ...]


class TransferProgress(NamedTuple):
    """Bytes of the step's file that have been acknowledged so far."""

    step: Step
    done_bytes: int
    total_bytes: int


class ChangeBegun(NamedTuple):
    """Something is about to be changed, or with --check would be. Told only if somebody wants to know."""

    step: Step
    change: Change


class StepRetried(NamedTuple):
    """An attempt failed for a reason that may pass; the next one begins after a pause."""

    step: Step
    failed_attempts: int
    message: str
    pause_seconds: float


class StepCrashed(NamedTuple):
    """Carrying out a step has met an error in the runner itself; without a step, something else of the play has."""

    step: Step | ControlStep | None
    error: Exception


class ObserverFailed(NamedTuple):
    """An observer has met an error in itself. It is told nothing more, the others are."""

    error: Exception


class StepFinished(NamedTuple):
    """A step has ended, well or not."""

    result: StepResult


class ItemsSkipped(NamedTuple):
    """Items of a loop, one behind the other, were skipped since its condition leaves them out."""

    results: SkippedItems


class FailuresRescued(NamedTuple):
    """A `rescue` has made up for what failed in its block."""

    results: tuple[StepResult, ...]


class PlayFinished(NamedTuple):
    """Nothing more will happen."""

    result: PlayResult


Event = (
    PlayStarted
    | StepStarted
    | HostConnected
    | HostDisconnected
    | TransferProgress
    | ChangeBegun
    | StepRetried
    | StepCrashed
    | ObserverFailed
    | StepFinished
    | ItemsSkipped
    | FailuresRescued
    | PlayFinished
)
Observer = Callable[[Event], None]
