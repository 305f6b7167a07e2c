"""The rounds of a case: every tool once, A B C, then all of them again, so that a busy minute hits them alike.

The first round is a rehearsal and does not count. Outside the measured time the last copy is removed, the tool's files
are written, and the new copy is compared with its source: thoroughly after the rehearsal, by a sample after the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.bench.cases import GIB, Case, Entry
from tests.bench.measurement import CommandFailed, Measurement, measure
from tests.bench.payload import change_some, ensure_payload, find_difference, remove_content
from tests.bench.results import CaseResult, Run
from tests.bench.servers import find_missing
from tests.bench.setting import Job, Setting, read_free_bytes
from tests.bench.tools import TOOLS, find_absence

REHEARSAL = 0
_TIMEOUT_SECONDS = 900.0

Tell = Callable[[str], None]


def run_case(case: Case, setting: Setting, *, rounds: int, tell: Tell) -> CaseResult:
    """Measure a case. A tool that is missing or fails is noted, and the others go on."""
    absences = find_absences(case, setting)
    present = [entry for entry in case.entries if entry.tool not in absences]
    runs: list[Run] = []
    for number in range(REHEARSAL, _rounds_of(case, rounds) + 1):
        for entry in present:
            if _takes_part(case, entry, number):
                run = _run_once(case, entry.tool, number, setting)
                tell(_describe(case, run))
                runs += [run] if number != REHEARSAL else []
    for place in (setting.folder, setting.disk_folder):
        for landing in place.glob("landing*"):
            remove_content(landing)
    return CaseResult(case, tuple(runs), absences)


def find_absences(case: Case, setting: Setting) -> dict[str, str]:
    """The tools that cannot take part here, and why; all of them where there is no room for the case."""
    source_folder = setting.folder / "source"
    taken_bytes = sum(path.lstat().st_blocks * 512 for path in source_folder.rglob("*"))
    free_bytes = read_free_bytes(setting.folder) + taken_bytes
    if free_bytes < case.room_bytes:
        lack = f"{case.room_bytes / GIB:.1f} GiB of memory needed, {max(0, free_bytes) / GIB:.1f} GiB to spare"
        return {entry.tool: lack for entry in case.entries}
    if lack := find_missing(case.server):
        return {entry.tool: lack for entry in case.entries}
    reasons = {entry.tool: find_absence(TOOLS[entry.tool], setting, case) for entry in case.entries}
    return {tool: reason for tool, reason in reasons.items() if reason}


def _rounds_of(case: Case, rounds: int) -> int:
    return 1 if case.kind == "memory" else min(rounds, case.rounds_at_most)


def _takes_part(case: Case, entry: Entry, number: int) -> bool:
    if number == REHEARSAL:
        return case.kind == "time" and entry.rounds_at_most > 1
    return number <= entry.rounds_at_most


def _run_once(case: Case, tool: str, number: int, setting: Setting) -> Run:
    place = setting.disk_folder if case.is_on_disk else setting.folder
    landing = place / _name_landing(case, tool, number)
    destination = landing / "copy"
    is_first = not destination.exists()
    if not case.is_again or is_first:
        remove_content(landing)
    try:
        if case.is_again and is_first:
            _copy(case, tool, setting, destination)
        change_some(ensure_payload(setting.folder / "source", case), case.changed_files)
        measurement = _copy(case, tool, setting, destination)
    except CommandFailed as error:
        return Run(tool, number, None, str(error))
    if not case.has_copy:
        return Run(tool, number, measurement)
    is_thorough = number == REHEARSAL
    difference = find_difference(setting.folder / "source" / case.payload_name, destination, is_thorough=is_thorough)
    return Run(tool, number, None if difference else measurement, difference)


def _name_landing(case: Case, tool: str, number: int) -> str:
    """Where a copy goes: what a second one finds there is the same tool's, and no server remembers what was removed."""
    if case.server == "rclone":
        return f"landing-{case.name}-{tool}-{number}"
    return f"landing-{tool}" if case.is_again else "landing"


def _copy(case: Case, tool: str, setting: Setting, destination: Path) -> Measurement:
    scratch = setting.folder / "scratch"
    remove_content(scratch)
    source = ensure_payload(setting.folder / "source", case)
    address = setting.servers[case.server]
    job = Job(case.direction, case.shape, source, destination, address, case.round_trip_ms, scratch)
    command = TOOLS[tool].build_command(setting, job)
    return measure(command, folder=scratch, environment=setting.environment, timeout_seconds=_TIMEOUT_SECONDS)


def _describe(case: Case, run: Run) -> str:
    round_name = "rehearsal" if run.round_number == REHEARSAL else f"round {run.round_number}"
    cost = f"{run.measurement.wall_seconds:8.2f} s" if run.measurement else f"does not count: {run.failure}"
    return f"{case.name:18} {round_name:10} {TOOLS[run.tool].label:28} {cost}"
