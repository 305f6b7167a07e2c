"""Fixtures: scripted servers for all plays of a worker, a stage for each test, and the faults that are known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import known_faults
from tests.conformance.plays import Stage
from tests.conformance.served import ConformanceServer
from tests.conformance.trials import DIALECTS, MATRIX_TRIALS, Dialect
from tests.conftest import Runner

_SOFTWARE: dict[Dialect, str] = {"openssh": "OpenSSH_9.2p1", "other": ""}
_FROM_WORKERS = "conformance_faults_seen"


@pytest.fixture(scope="session")
def servers_by_dialect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Dialect, ConformanceServer]]:
    """One server that calls itself OpenSSH, and one that does not."""
    with ExitStack() as stack:
        servers = {}
        for dialect in DIALECTS:
            folder: Path = tmp_path_factory.mktemp(f"conformance-{dialect}")
            server = ConformanceServer(folder / "server", root=folder)
            server.software = _SOFTWARE[dialect]
            servers[dialect] = stack.enter_context(server)
        yield servers


@pytest.fixture
def stage(tmp_path: Path, runner: Runner, servers_by_dialect: dict[Dialect, ConformanceServer]) -> Stage:
    """Two empty sides, and the server that does not call itself OpenSSH."""
    made = Stage(tmp_path / "stage", runner, servers_by_dialect["other"])
    made.clear()
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is known to be wrong must be wrong still: a scenario that passes is taken off the list."""
    for item in items:
        if item.path.name == "test_personalities.py":
            known = known_faults.find_scenario(item.name)
            if known is not None:
                item.add_marker(pytest.mark.xfail(reason=known.kind, strict=True))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist sends home which faults it has met."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_FROM_WORKERS] = sorted(known_faults.SEEN)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    known_faults.SEEN.update(getattr(node, "workeroutput", {}).get(_FROM_WORKERS, ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After a full run, name the faults that no trial has met any more."""
    if MATRIX_TRIALS != "all":
        return
    for known in known_faults.TRIALS:
        if known.pattern not in known_faults.SEEN:
            left = f"{known.kind}: {known.pattern}"
            terminalreporter.write_line(f"known_faults.py: no trial fails any more, take it off: {left}", red=True)
