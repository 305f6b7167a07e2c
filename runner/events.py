"""What a running play tells: the one stream that the console, the progress display and later reports listen to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runner.plan import Play, Step
from runner.results import Change, PlayResult, StepResult


@dataclass(frozen=True, slots=True)
class PlayStarted:
    """The playbook is valid; the first step is about to run."""

    play: Play
    is_check: bool


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins."""

    step: Step


@dataclass(frozen=True, slots=True)
class HostConnected:
    """A connection to the step's host was opened, or to a jump host on the way, which `jump_host` then names.

    `trusted_by` says where its host key is known from; `warnings` are about lines of known_hosts files that could not be
    read.
    """

    step: Step
    trusted_by: str
    warnings: tuple[str, ...]
    jump_host: str = ""


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """Bytes of the step's file that have been acknowledged so far."""

    step: Step
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ChangeBegun:
    """Something is about to be changed, or with --check would be. Told only if somebody wants to know."""

    step: Step
    change: Change


@dataclass(frozen=True, slots=True)
class StepRetried:
    """An attempt failed for a reason that may pass; the next one begins after a pause."""

    step: Step
    failed_attempts: int
    message: str
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step has ended, well or not."""

    result: StepResult


@dataclass(frozen=True, slots=True)
class PlayFinished:
    """Nothing more will happen."""

    result: PlayResult


Event = (
    PlayStarted
    | StepStarted
    | HostConnected
    | TransferProgress
    | ChangeBegun
    | StepRetried
    | StepFinished
    | PlayFinished
)
Observer = Callable[[Event], None]
