"""What every fault test does: copy a file over an older one while something breaks, and judge what is left.

`FAULT_TRIALS=200` runs that many random trials of each kind instead of a few; `FAULT_SEED=…` draws others. A trial's seed
is part of its test's name and of its failure.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest

from tests.conftest import Outcome, Runner, download, step, upload
from tests.patience import BUSY_SECONDS, EVENT_SECONDS
from tests.servers.endpoint import Endpoint
from tests.servers.proxy import Fault, FaultProxy

CONNECT_SECONDS = 4
STALL_SECONDS = 2
CLEAN_UP_SECONDS = 2
# For copies with nothing in the way, which take their time on a busy machine.
PATIENT: dict[str, Any] = {"connect_timeout": 60, "stall_timeout": 60}
# What a busy machine may add.
SLACK_SECONDS = BUSY_SECONDS
DEADLINE_SECONDS = CONNECT_SECONDS + STALL_SECONDS + CLEAN_UP_SECONDS + SLACK_SECONDS

Way = Literal["SFTP up", "SFTP down", "SCP up", "SCP down"]
WAYS: tuple[Way, ...] = ("SFTP up", "SFTP down", "SCP up", "SCP down")
SFTP_WAYS: tuple[Way, ...] = ("SFTP up", "SFTP down")

both_directions = pytest.mark.parametrize("way", SFTP_WAYS, ids=lambda way: way.replace(" ", "-"))
all_ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.replace(" ", "-"))


def random_trials(few: int) -> pytest.MarkDecorator:
    """Run the test with `few` seeds, or as many as FAULT_TRIALS says; its parameter is `seed`."""
    count = int(os.environ.get("FAULT_TRIALS", few))
    base = os.environ.get("FAULT_SEED", "0")
    return pytest.mark.parametrize("seed", [f"{base}.{number}" for number in range(count)])


@dataclass(slots=True)
class Trial:
    """One file to be copied over an older one, in folders which hold nothing else."""

    runner: Runner
    remote: Path
    way: Way
    new: bytes
    old: bytes = b"older"
    source: Path = field(init=False)
    destination: Path = field(init=False)

    def __post_init__(self) -> None:
        local = self.runner.folder / "local"
        local.mkdir(exist_ok=True)
        source_folder, destination_folder = (local, self.remote) if self.is_upload else (self.remote, local)
        self.source, self.destination = source_folder / "source", destination_folder / "a"
        self.source.write_bytes(self.new)
        self.destination.write_bytes(self.old)

    @property
    def is_upload(self) -> bool:
        return self.way.endswith("up")

    def step(self, server: Endpoint, proxy: FaultProxy | None = None, **inputs: Any) -> dict[str, Any]:
        """The step of the copy, through the proxy if there is one."""
        mode = (upload if self.is_upload else download)(self.source, self.destination, compare="always")
        limits = {"connect_timeout": CONNECT_SECONDS, "stall_timeout": STALL_SECONDS}
        place = {} if proxy is None else {"host": proxy.host, "port": proxy.port}
        return {
            **step(server, mode, connector_type=self.way.split()[0], **limits),
            **place,
            **inputs,
        }

    def play(self, server: Endpoint, proxy: FaultProxy | None = None, **inputs: Any) -> Outcome:
        """Play the step, and judge that it ended in time."""
        started = time.monotonic()
        outcome = self.runner.play([self.step(server, proxy, **inputs)])
        seconds = time.monotonic() - started
        limit = EVENT_SECONDS if inputs.keys() >= PATIENT.keys() else DEADLINE_SECONDS
        assert seconds < limit, f"took {seconds:.1f} s: {outcome.output}"
        return outcome

    def play_through(self, server: Endpoint, *faults: Fault, **inputs: Any) -> Outcome:
        """Play the step over a damaged line, and judge what is left."""
        with FaultProxy(server.host, server.port, *faults) as proxy:
            outcome = self.play(server, proxy, **inputs)
        self.judge(outcome)
        return outcome

    def judge(self, outcome: Outcome, *, may_be_new: bool = False) -> None:
        """A good copy, or a clear failure that has lost nothing.

        `may_be_new`: the server may have told the outcome of the last rename wrongly. When the connection is gone it may
        have told nothing.
        """
        judge_words(outcome)
        if outcome.exit_code == 0:
            self.judge_success()
        else:
            is_cut_off = outcome.exit_code == 4
            self.judge_failure(is_cut_off=is_cut_off, may_be_new=may_be_new or is_cut_off)

    def judge_success(self) -> None:
        """The copy is there, and nothing else."""
        assert self.destination.read_bytes() == self.new, "a corrupt copy was reported as good"
        assert self.leftovers() == []
        self._judge_source()

    def judge_failure(self, *, is_cut_off: bool, may_be_new: bool) -> None:
        """The old destination is intact, unless the last rename has happened unnoticed.

        Whoever was cut off from the server cannot remove its one temporary file. Here there is none, unless it is one to
        resume from.
        """
        content = self.destination.read_bytes()
        assert content == self.old or (may_be_new and content == self.new), "the old destination was damaged"
        leftovers = self.leftovers()
        if is_cut_off:
            assert len(leftovers) <= 1, leftovers
        if not is_cut_off or not self.is_upload:
            assert [name for name in leftovers if name.endswith(".tmp")] == []
        self._judge_source()

    def judge_killed(self) -> None:
        """After SIGKILL: old or new, never mixed, and no more than the one temporary file."""
        content = self.destination.read_bytes()
        assert content in (self.old, self.new), "neither the old nor the new file"
        assert len(self.leftovers()) <= 1, self.leftovers()
        self._judge_source()

    def judge_repetition(self, server: Endpoint) -> None:
        """The next play, with nothing in the way, copies."""
        outcome = self.play(server, **PATIENT)
        judge_words(outcome)
        assert outcome.exit_code == 0, outcome.output
        assert self.destination.read_bytes() == self.new

    def leftovers(self) -> list[str]:
        """What is beside the destination."""
        return sorted(name for name in os.listdir(self.destination.parent) if name != self.destination.name)

    def _judge_source(self) -> None:
        assert self.source.read_bytes() == self.new, "the source was damaged"
        assert os.listdir(self.source.parent) == ["source"]


_REPORT_SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "schema" / "report.schema.json").read_text(encoding="utf-8"))
)
_EXIT_CODES = {"failed": (2, 5, 6), "unreachable": (4,)}


def judge_words(outcome: Outcome) -> None:
    """The report is valid and says the same as the exit code; a failure is explained; nothing crashed."""
    assert "Traceback" not in outcome.output, outcome.output
    assert "\x1b" not in outcome.output
    assert outcome.report, outcome.output
    _REPORT_SCHEMA.validate(outcome.report)
    assert outcome.report["exit_code"] == outcome.exit_code
    status, error = outcome.step["status"], outcome.step["error"]
    if outcome.exit_code == 0:
        assert (status, error) == ("changed", None)
        return
    assert outcome.exit_code in _EXIT_CODES[status], outcome.output
    assert error["type"] not in ("Bug", "Exception"), error
    assert error["message"], error
    assert error["hint"], error
    assert len(error["message"]) < 1500, "a message, not a dump"


def make_content(seed: str, size: int) -> bytes:
    """Bytes that look like nothing else."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True, slots=True)
class Reach:
    """How many bytes an honest copy takes, each way, and what of it is spent before the session answers."""

    up: int
    down: int

    def pick(self, chance: random.Random) -> tuple[Literal["up", "down"], int]:
        """A direction and a byte of it: as often at the beginning and at the end as in all the rest."""
        direction: Literal["up", "down"] = chance.choice(("up", "down"))
        total = self.up if direction == "up" else self.down
        edge = min(6000, total)
        span = chance.choice(((0, edge), (0, total), (total - min(1000, total), total)))
        return direction, chance.randint(*span)


@contextmanager
def explaining(seed: str, *facts: object) -> Iterator[None]:
    """Add the seed and what was drawn from it to a failure."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}: {', '.join(map(str, facts))}")
        print(f"seed {seed}: {', '.join(map(str, facts))}")
        raise
