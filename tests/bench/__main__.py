"""The command line: `python -m tests.bench`, or `make bench BENCH_ARGS="…"`."""

from __future__ import annotations

import argparse
import fnmatch
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.cases import CASES, Case, Entry
from tests.bench.machine import describe_machine
from tests.bench.page import Session, write_page
from tests.bench.results import CaseResult, judge
from tests.bench.rounds import find_absences, run_case
from tests.bench.setting import NotPossible, Setting, open_setting
from tests.bench.table import case_table, format_title, target_table
from tests.bench.targets import PRODUCT
from tests.bench.tools import TOOLS
from tests.servers.openssh import ServerFailure

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_ROUNDS = 5
_TRIAL_FOLDER = CHECKOUT / "build" / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or list what it has."""
    options = _parse(arguments)
    cases = _select(options)
    if not cases:
        print("no such case; --list shows them", file=sys.stderr)
        return 64
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything is removed
    try:
        with open_setting(
            options.memory_folder, options.runner, _find_ansible(), options.disk_folder, options.before, cases
        ) as setting:
            if options.list:
                _list(cases, setting)
                return 0
            return _run(cases, setting, options)
    except (NotPossible, ServerFailure) as error:
        print(f"no benchmark here: {error}", file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Ours against the others.")
    parser.add_argument("--list", action="store_true", help="print the cases and who takes part here, and stop")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case; repeatable, * matches")
    parser.add_argument("--tool", action="append", metavar="NAME", help="only this tool, beside ours; repeatable")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, metavar="N", help="default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, metavar="F", help="smaller files, or fewer; 0.1: a tenth")
    parser.add_argument(
        "--into", type=Path, metavar="FOLDER", help="for page and chart; default: docs, for a trial build/bench"
    )
    parser.add_argument("--memory-folder", type=Path, default=Path("/dev/shm"), metavar="FOLDER")
    parser.add_argument(
        "--disk-folder", type=Path, default=Path("/var/tmp"), metavar="FOLDER", help="where copies are synced to disk"
    )
    parser.add_argument("--runner", type=Path, default=Path(sys.executable).with_name("runner"), metavar="COMMAND")
    parser.add_argument(
        "--before", type=Path, metavar="COMMAND", help="the runner of an earlier commit, as one more tool"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.scale <= 0:
        parser.error("there is at least one round, of some size")
    if unknown := set(options.tool or ()) - TOOLS.keys():
        parser.error(f"no such tool: {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
    return options


def _select(options: argparse.Namespace) -> list[Case]:
    patterns = options.case or ["*"]
    cases = [case for case in CASES if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]
    if options.before:
        cases = [replace(case, entries=(case.entries[0], Entry("before"), *case.entries[1:])) for case in cases]
    if options.tool:
        wanted = {PRODUCT, "before", *options.tool}
        cases = [
            replace(case, entries=tuple(entry for entry in case.entries if entry.tool in wanted)) for case in cases
        ]
    return cases if options.scale == 1 else [case.scale(options.scale) for case in cases]


def _find_ansible() -> str | None:
    """Ansible in the environment that `.ci/ensure-peers` makes, or wherever it is."""
    own = CHECKOUT / ".venv-ansible" / "bin" / "ansible-playbook"
    return str(own) if own.exists() else shutil.which("ansible-playbook")


def _list(cases: Sequence[Case], setting: Setting) -> None:
    for case in cases:
        absences = find_absences(case, setting)
        print(f"{case.name:18} {format_title(case)}")
        present = [entry.tool for entry in case.entries if entry.tool not in absences]
        if PRODUCT not in absences:
            print(f"{'':18}   {', '.join(present)}")
        for tool, reason in absences.items():
            print(f"{'':18}   without {tool}: {reason}")


def _run(cases: Sequence[Case], setting: Setting, options: argparse.Namespace) -> int:
    machine = describe_machine(setting)
    results: list[CaseResult] = []
    is_interrupted = False
    try:
        for case in cases:
            results.append(_run_listed(case, setting, options.rounds))
    except KeyboardInterrupt:
        is_interrupted = True
    is_whole = tuple(cases) == CASES and options.rounds >= DEFAULT_ROUNDS and not is_interrupted
    print(f"\n{target_table(judge(results))}\n")
    session = Session(machine, results, options.rounds, options.scale, is_whole)
    page_path = write_page(session, options.into or (CHECKOUT / "docs" if is_whole else _TRIAL_FOLDER))
    print(f"written: {page_path}" + ("" if is_whole else " (a trial: not all cases, or scaled, or few rounds)"))
    return 130 if is_interrupted else 0


def _run_listed(case: Case, setting: Setting, rounds: int) -> CaseResult:
    """Run a case in which we take part; one that we cannot do costs no time."""
    print(f"\n{format_title(case)}\n", flush=True)
    absences = find_absences(case, setting)
    if PRODUCT in absences:
        print(f"not run: {absences[PRODUCT]}")
        return CaseResult(case, (), absences)
    result = run_case(case, setting, rounds=rounds, tell=lambda line: print(line, flush=True))
    print(f"\n{case_table(result)}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
