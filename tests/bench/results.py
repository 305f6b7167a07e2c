"""What was measured: runs, and what follows from them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from tests.bench.cases import Case
from tests.bench.measurement import Measurement
from tests.bench.targets import PRODUCT, TARGETS, MemoryTarget, RatioTarget, Target, TimeTarget

Verdict = Literal["met", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Run:
    """One tool in one round: a measurement, or the failure for which it does not count."""

    tool: str
    round_number: int
    measurement: Measurement | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """One tool in all rounds of a case. `ratio` is our time divided by its time, round by round, the median of them."""

    tool: str
    seconds: float
    fastest_seconds: float
    slowest_seconds: float
    cpu_seconds: float
    peak_bytes: int
    is_peak_floor: bool
    ratio: float | None
    counted_runs: int


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case as it was measured, which may be scaled down, and who was absent from it and why."""

    case: Case
    runs: tuple[Run, ...]
    absences: dict[str, str]

    @property
    def tools(self) -> list[str]:
        """Those who took part, in their turn."""
        return list(dict.fromkeys(run.tool for run in self.runs))

    def measurements(self, tool: str) -> dict[int, Measurement]:
        """The runs of a tool that count, by their round."""
        return {run.round_number: run.measurement for run in self.runs if run.tool == tool and run.measurement}

    def failures(self, tool: str) -> list[str]:
        """Why runs of a tool do not count."""
        return [run.failure for run in self.runs if run.tool == tool and run.failure]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A target and what was measured: a ratio, bytes, or seconds."""

    target: Target
    measured: float | None

    @property
    def verdict(self) -> Verdict:
        if self.measured is None:
            return "not measured"
        match self.target:
            case RatioTarget(at_most=limit) | MemoryTarget(at_most_bytes=limit) | TimeTarget(at_most_seconds=limit):
                pass
        return "met" if self.measured <= limit else "missed"


def summarize(result: CaseResult, tool: str) -> Summary | None:
    """The medians of a tool's runs, or None when none counts."""
    measurements = list(result.measurements(tool).values())
    if not measurements:
        return None
    seconds = [one.wall_seconds for one in measurements]
    peak_bytes = max(one.peak_bytes for one in measurements)
    return Summary(
        tool,
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        statistics.median(one.cpu_seconds for one in measurements),
        peak_bytes,
        peak_bytes <= max(one.floor_bytes for one in measurements),
        ratio(result, tool),
        len(measurements),
    )


def ratio(result: CaseResult, peer: str) -> float | None:
    """Our time divided by the peer's, for each round that both have; the median. Below 1 we are faster."""
    ours, theirs = result.measurements(PRODUCT), result.measurements(peer)
    ratios = [ours[number].wall_seconds / theirs[number].wall_seconds for number in ours if number in theirs]
    return statistics.median(ratios) if ratios and peer != PRODUCT else None


def judge(results: list[CaseResult]) -> list[Judgement]:
    """Every target, with what was measured for it."""
    by_name = {result.case.name: result for result in results}
    return [Judgement(target, _measured(target, by_name.get(target.case))) for target in TARGETS]


def _measured(target: Target, result: CaseResult | None) -> float | None:
    if result is None:
        return None
    if not isinstance(target, RatioTarget):
        summary = summarize(result, PRODUCT)
        if summary is None:
            return None
        return summary.peak_bytes if isinstance(target, MemoryTarget) else summary.seconds
    return ratio(result, target.peer)
