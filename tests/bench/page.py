"""docs/performance.md and docs/performance.svg."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.chart import draw_chart
from tests.bench.machine import Machine
from tests.bench.results import CaseResult, judge
from tests.bench.table import case_table, format_bytes, format_title, target_table
from tests.bench.targets import PRODUCT

_INTRODUCTION = """\
# Performance

Written by `make bench`. One server on loopback serves every tool, an `sshd` where the case names no other; source and
destination are in memory, so that no disk is measured. The tools take turns, A B C, A B C, after a rehearsal that does not
count. Measured is the whole process, from its start to its end, with what it takes to connect, check the host key and log
in. Numbers are medians; *runner ÷ it* is our time divided by the other tool's in the same round, the median over the rounds:
below 1 we are faster. Every copy is compared with its source, names and sizes of all files and SHA-256 of a sample, or the
run does not count.

Ours writes each file under a temporary name, verifies it and renames it. CPU time and memory are the client's; memory is the
peak of the largest process that belongs to it, and below the size of the process that measures it is only known to be
smaller. lftp does not wait for its ssh, whose share is missing in its row. A small file has 4 KiB. *One step each* is a
playbook with a step for every file, *one loop* a single step that loops over them; the other tools copy the folder that
holds them. *As one folder* and *the list alone* are ourselves with another playbook, against which the language is
measured. A round trip's time is added by a proxy that delays every byte by half of it in each direction and limits no rate.
*Bare TCP pipe* is the floor: a file read, sent over loopback and written, with no SSH and no check. *Synced to disk*: these
copies alone are on a disk, and their row *durable* against the one above it is what `durable: true` costs there.

![The same numbers as a chart](performance.svg)
"""


@dataclass(frozen=True, slots=True)
class Session:
    """All that one run of the benchmark found. `is_whole`: every case, unscaled, in enough rounds, to the end."""

    machine: Machine
    results: Sequence[CaseResult]
    rounds: int
    scale: float
    is_whole: bool


def write_page(session: Session, folder: Path) -> Path:
    """Write the page and its chart into a folder, and say where the page is."""
    folder.mkdir(parents=True, exist_ok=True)
    page_path = folder / "performance.md"
    page_path.write_text("\n".join(_lines(session)), encoding="utf-8")
    heading = "Whole-process time, less is better" + ("" if session.is_whole else " (a trial)")
    machine = session.machine
    subheading = f"{machine.processor}, {machine.core_count} cores, {machine.system}, {machine.date}"
    chart = draw_chart(session.results, heading, subheading)
    (folder / "performance.svg").write_text(chart, encoding="utf-8")
    return page_path


def _lines(session: Session) -> Iterator[str]:
    yield _INTRODUCTION
    if not session.is_whole:
        yield from _trial_warning(session)
    yield "## Targets\n"
    yield target_table(judge(list(session.results)))
    yield "\n## Cases\n"
    for result in session.results:
        if result.runs:
            yield f"### {format_title(result.case)}\n"
            yield case_table(result) + "\n"
    yield from _unmeasured(session)
    yield from _machine_lines(session)


def _trial_warning(session: Session) -> Iterator[str]:
    scale = "" if session.scale == 1 else f", sizes and counts scaled by {session.scale:g}"
    rounds = f"{session.rounds} round{'s' if session.rounds != 1 else ''}"
    yield f"> **A trial, not a result:** {len(session.results)} cases, {rounds}{scale}."
    yield "> Verdicts below are of the trial: start-up weighs more in small copies.\n"


def _unmeasured(session: Session) -> Iterator[str]:
    """The cases in which we did not take part at all, each with the reason."""
    reasons = [(result.case, result.absences[PRODUCT]) for result in session.results if PRODUCT in result.absences]
    if reasons:
        yield "## Not measured\n"
        yield from (f"- {format_title(case)}: {reason}." for case, reason in reasons)
        yield ""


def _machine_lines(session: Session) -> Iterator[str]:
    machine = session.machine
    facts = {
        "processor": f"{machine.processor}, {machine.core_count} cores for this",
        "memory": format_bytes(machine.memory_bytes),
        "system": f"{machine.system}, kernel {machine.kernel}, Python {machine.python}",
        "load before": f"{machine.load:.1f}",
        "date": machine.date,
        "revision": machine.revision,
        "rounds": str(session.rounds),
    }
    yield "## Machine and versions\n"
    yield "| | |\n|---|---|"
    yield from (f"| {name} | {value} |" for name, value in (facts | machine.versions).items())
    yield ""
