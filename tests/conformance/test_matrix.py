"""Every request of every mode, answered oddly: right bytes and attributes with a true report, or a clear refusal.

`MATRIX_TRIALS=200` plays so many trials of each case and dialect instead of a few, `MATRIX_TRIALS=all` plays every one,
`MATRIX_SEED=…` draws others. What fails prints the line that plays it alone: `MATRIX_ONLY='…'`. Alone, what is known to be
wrong fails too, with all that the runner said.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.cases import CASES, CASES_BY_NAME, Case
from tests.conformance.known_faults import SEEN, find_known, is_out_of_reach
from tests.conformance.plays import Stage
from tests.conformance.served import ConformanceServer
from tests.conformance.trials import (
    DIALECTS,
    MATRIX_ONLY,
    MATRIX_TRIALS,
    Dialect,
    choose,
    list_trials,
    record,
    run,
)
from tests.conftest import Runner

_ALONE = MATRIX_ONLY.split("|")
_CHOSEN = [CASES_BY_NAME[_ALONE[0]]] if MATRIX_ONLY else CASES
_DIALECTS = [dialect for dialect in DIALECTS if not MATRIX_ONLY or dialect == _ALONE[1]]
# A sample takes seconds, all of it hours.
_TIMEOUT_SECONDS = 120 if MATRIX_TRIALS.isdigit() and int(MATRIX_TRIALS) < 50 else 0


@pytest.mark.timeout(_TIMEOUT_SECONDS)
@pytest.mark.parametrize("dialect", _DIALECTS)
@pytest.mark.parametrize("case", _CHOSEN, ids=lambda case: case.name)
def test_odd_answers(
    case: Case,
    dialect: Dialect,
    tmp_path: Path,
    runner: Runner,
    servers_by_dialect: dict[Dialect, ConformanceServer],
) -> None:
    stage = Stage(tmp_path / "stage", runner, servers_by_dialect[dialect])
    requests = record(stage, case)
    trials = choose(list_trials(case, dialect, requests))
    assert trials, f"no such trial: {MATRIX_ONLY}"
    failures: list[str] = []
    for trial in trials:
        ending, violations = run(stage, trial)
        for violation in violations:
            if is_out_of_reach(trial.name, violation):
                continue
            known = find_known(trial.name, violation)
            if known is not None:
                SEEN.add(known.pattern)
            if known is None or MATRIX_ONLY:
                failures.append(f"MATRIX_ONLY='{trial.name}'  {violation.kind}: {violation.detail}")
        if MATRIX_ONLY:
            print(ending.outcome.output, ending.outcome.report)
    assert not failures, "\n".join(failures)
