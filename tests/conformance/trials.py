"""The matrix: every request that the honest play was seen to send, with every odd answer that fits, at each position.

A new request of the client is covered without an edit here: requests are recorded, not listed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.conformance.cases import Case
from tests.conformance.oddities import ODDITIES, Oddity, OddServer
from tests.conformance.oracle import Ending, Violation, judge
from tests.conformance.plays import LIMIT_SECONDS, PATIENT_SECONDS, Stage, require_none
from tests.conformance.served import EXTENSIONS
from tests.servers.raw_sftp import Request, limits

# The server calls itself OpenSSH, of which more is expected: it is not waited for as often. Or it does not.
Dialect = Literal["openssh", "other"]
DIALECTS: tuple[Dialect, ...] = ("openssh", "other")
POSITIONS = ("first", "middle", "last", "every")
ROOMY_BYTES = 256 * 1024
# Of the samples, so many have one trial that waits until the play gives up.
SLOW_SHARE = 0.15

DEFAULT_TRIALS = 10
MATRIX_ONLY = os.environ.get("MATRIX_ONLY", "")
MATRIX_TRIALS = os.environ.get("MATRIX_TRIALS", str(DEFAULT_TRIALS))
MATRIX_SEED = os.environ.get("MATRIX_SEED", "0")


class TrialName(NamedTuple):
    """What a trial is, as MATRIX_ONLY takes it."""

    case: str
    dialect: str
    request: str
    position: str
    oddity: str

    def __str__(self) -> str:
        return "|".join(self)


@dataclass(frozen=True, slots=True)
class Trial:
    """One play in which one request, or all of its name, is answered oddly."""

    name: TrialName
    case: Case
    oddity: Oddity
    # None for all of them.
    places: frozenset[int] | None


class RoomyOddServer(OddServer):
    """Takes large pieces."""

    def limits(self, request: Request) -> bytes:
        return limits(request.id, ROOMY_BYTES + 1024, ROOMY_BYTES, ROOMY_BYTES, 100)


def make_server(case: Case, trial: Trial | None = None) -> OddServer:
    """The server of a trial; an honest one without."""
    make = RoomyOddServer if case.is_roomy else OddServer
    server = make(trial.name.request, trial.oddity, trial.places) if trial else make()
    server.extensions = tuple(pair for pair in EXTENSIONS if pair[0] not in case.hidden)
    return server


def record(stage: Stage, case: Case) -> Counter[str]:
    """How often the honest play sends each request. It must be right."""
    server = make_server(case)
    ending = _play(stage, case, server)
    require_none(judge(ending))
    assert ending.outcome.exit_code == 0, ending.outcome.output
    return Counter(server.names_asked())


def list_trials(case: Case, dialect: Dialect, requests: Mapping[str, int]) -> list[Trial]:
    """All trials of a case, in a fixed order."""
    return [
        Trial(TrialName(case.name, dialect, request, position, oddity.name), case, oddity, numbers)
        for request, count in sorted(requests.items())
        for oddity in ODDITIES
        if oddity.fits(request) and not (case.is_roomy and oddity.is_for_small)
        for position, numbers in _positions(count)
    ]


def _positions(count: int) -> list[tuple[str, frozenset[int] | None]]:
    """First, middle and last, as far as they differ, and all."""
    places = {"first": 1, "middle": (count + 1) // 2, "last": count}
    found: dict[int, str] = {}
    for name, number in places.items():
        found.setdefault(number, name)
    single = [(name, frozenset([number])) for number, name in found.items()]
    return [*single, ("every", None)]


def choose(trials: list[Trial]) -> list[Trial]:
    """The sample that the environment asks for: the same for the same seed."""
    if MATRIX_ONLY:
        return [trial for trial in trials if str(trial.name) == MATRIX_ONLY]
    if MATRIX_TRIALS == "all" or not trials:
        return trials
    first = trials[0]
    count = max(2, int(MATRIX_TRIALS) // first.case.weight)
    # What is drawn does not depend on which other trials there are.
    keys = {trial.name: random.Random(f"{MATRIX_SEED} {trial.name}").random() for trial in trials}
    drawn = sorted(trials, key=lambda trial: keys[trial.name])
    has_slow = random.Random(f"{MATRIX_SEED} {first.case.name} {first.name.dialect}").random() < SLOW_SHARE
    slow = [trial for trial in drawn if trial.oddity.is_slow][:has_slow]
    return [*slow, *(trial for trial in drawn if not trial.oddity.is_slow)][:count]


def run(stage: Stage, trial: Trial) -> tuple[Ending, list[Violation]]:
    """Play the trial: its ending, and what is wrong with it."""
    ending = _play(stage, trial.case, make_server(trial.case, trial))
    return ending, judge(ending)


def _play(stage: Stage, case: Case, server: OddServer) -> Ending:
    stage.clear()
    mode, promise = case.lay_out(stage)
    server.remember(stage.remote)
    limit_seconds = PATIENT_SECONDS if "retries" in case.inputs else LIMIT_SECONDS
    return stage.play(server, mode, promise, limit_seconds=limit_seconds, **case.inputs)
