"""When garbage is collected: not while the program starts up, and always during what may go on for hours."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cancellation import Cancellation
from runner.events import Event, PlayStarted, StepStarted
from runner.plan import PlayOptions
from runner.play import load_play, play
from tests.conftest import Runner, step, upload
from tests.servers.asyncssh_server import AsyncsshServer


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """As `cli/main.py` leaves it; afterwards as it was."""
    thresholds = gc.get_threshold()
    gc.disable()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.mark.parametrize("is_known", [True, False], ids=["connected", "refused"])
def test_it_begins_when_the_first_connection_is_there_or_cannot_be(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, is_known: bool
) -> None:
    (runner.folder / "file").write_text("content")
    only = step(asyncssh_server, upload("file", remote / "file"))
    if not is_known:
        only["hostkey"] = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "/dev/null"}
    (runner.folder / "play.yaml").write_text(json.dumps([only]))
    seen: list[tuple[type[Event], bool]] = []
    plan = load_play(str(runner.folder / "play.yaml"))

    play(
        plan,
        options=PlayOptions(False, False, False),
        observers=[lambda event: seen.append((type(event), gc.isenabled()))],
        cancellation=Cancellation(),
    )

    assert seen[:2] == [(PlayStarted, False), (StepStarted, False)]
    assert len(seen) > 3
    assert all(is_on for _, is_on in seen[2:])
