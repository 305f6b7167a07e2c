"""Servers whose SFTP packets are wrong, out of order or hostile: a good copy, or an error within the deadline."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Outcome
from tests.faults.conftest import MakeTrial
from tests.faults.trials import Trial, Way, both_directions, explaining, random_trials
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.raw_sftp import (
    FAILURE,
    HONEST_EXTENSIONS,
    Execute,
    Hangup,
    Kind,
    RawSftpServer,
    Request,
    Script,
    limits,
    packet,
    status,
    string,
    version,
)

SIZE = 400_000
POSIX_RENAME = b"posix-rename@openssh.com"
LIMITS = b"limits@openssh.com"


@pytest.fixture(autouse=True, params=["", "OpenSSH_9.2p1"], ids=["", "as OpenSSH"])
def banner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a server that calls itself OpenSSH more is expected: it is not waited for as often."""
    software: str = request.param
    monkeypatch.setattr(AsyncsshServer, "software", software)
    return software


# From a request to the bytes that go out; calling `execute` carries the request out and gives the honest reply.
Lie = Callable[[Request, Execute], Iterable[bytes]]


@dataclass
class Lying(Script):
    """Lies in the replies to one kind of request: to number `number` of them, or to all."""

    lie: Lie
    kind: Kind
    name: bytes = b""
    number: int = 0
    seen: int = 0

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        if request.kind != self.kind or (self.name and request.name != self.name):
            return [execute()]
        self.seen += 1
        return self.lie(request, execute) if self.number in (0, self.seen) else [execute()]


def play_with(trial: Trial, folder: Path, make_script: Callable[[], Script]) -> Outcome:
    """Play the trial against such a server, and judge the outcome whatever it is."""
    with RawSftpServer(folder / "server", root=trial.remote, make_script=make_script) as server:
        outcome = trial.play(server)
    trial.judge(outcome)
    return outcome


# --- Strange, but within the protocol: the copy succeeds ---


class Shuffled(Script):
    """Up to eight replies wait for each other and leave in any order."""

    def __init__(self) -> None:
        self.chance = random.Random(1)
        self.kept: list[bytes] = []

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        self.kept.append(execute())
        return self.idle() if len(self.kept) >= 8 else []

    def idle(self) -> Iterable[bytes]:
        packets, self.kept = self.kept, []
        self.chance.shuffle(packets)
        return packets


class Crumbled(Script):
    """Every reply comes in pieces of a few bytes, cut anywhere."""

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        whole = execute()
        head = whole[:40]
        return [*(head[at : at + 3] for at in range(0, len(head), 3)), whole[40:]]


class Glued(Script):
    """Replies come several at a time, with a cut in the middle of one."""

    def __init__(self) -> None:
        self.kept = b""

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        self.kept += execute()
        return []

    def idle(self) -> Iterable[bytes]:
        data, self.kept = self.kept, b""
        return [data[: len(data) // 2], data[len(data) // 2 :]]


class Bare(Script):
    """No extensions at all."""

    def version(self) -> Iterable[bytes]:
        return [version(3)]


class Unknown(Script):
    """Extensions that nobody knows, with names that are no text."""

    def version(self) -> Iterable[bytes]:
        strange = ((b"\xff\xfe\x1b[31m", b"\x00" * 100), (b"", b""), (b"x" * 10_000, b"1"), (POSIX_RENAME, b"99"))
        return [version(3, *strange)]


def only_some(request: Request, execute: Execute) -> Iterable[bytes]:
    """A third of what was read."""
    honest = execute()
    if honest[4] != Kind.DATA:
        return [honest]
    data = honest[13:]
    return [packet(Kind.DATA, request.id, string(data[: len(data) // 3 + 1]))]


def without_text(request: Request, execute: Execute) -> Iterable[bytes]:
    """A status as version 2 had it, without text and language."""
    honest = execute()
    return [packet(Kind.STATUS, request.id, honest[9:13])] if honest[4] == Kind.STATUS else [honest]


def size_only(request: Request, execute: Execute) -> Iterable[bytes]:
    """Attributes of which the size is all."""
    honest = execute()
    return (
        [packet(Kind.ATTRS, request.id, struct.pack(">I", 1), honest[13:21])] if honest[4] == Kind.ATTRS else [honest]
    )


def nothing_told(request: Request, execute: Execute) -> Iterable[bytes]:
    """Attributes without any."""
    honest = execute()
    return [packet(Kind.ATTRS, request.id, bytes(4))] if honest[4] == Kind.ATTRS else [honest]


def saying_limits(packet_bytes: int, read_bytes: int, write_bytes: int) -> Lie:
    return lambda request, execute: [limits(request.id, packet_bytes, read_bytes, write_bytes, 0)]


HUGE = 2**64 - 1

HARMLESS: dict[str, Callable[[], Script]] = {
    "shuffled": Shuffled,
    "crumbled": Crumbled,
    "glued": Glued,
    "no extensions": Bare,
    "unknown extensions": Unknown,
    "short replies": partial(Lying, only_some, Kind.READ),
    "status without text": partial(Lying, without_text, Kind.WRITE),
    "size only": partial(Lying, size_only, Kind.STAT),
    "limits of zero": partial(Lying, saying_limits(0, 0, 0), Kind.EXTENDED, LIMITS),
    "limits without end": partial(Lying, saying_limits(HUGE, HUGE, HUGE), Kind.EXTENDED, LIMITS),
    "limits below a page": partial(Lying, saying_limits(1000, 500, 500), Kind.EXTENDED, LIMITS),
    "limits refused": partial(Lying, lambda request, _: [status(request.id, FAILURE)], Kind.EXTENDED, LIMITS),
    "limits cut short": partial(
        Lying, lambda request, _: [packet(Kind.EXTENDED_REPLY, request.id, bytes(20))], Kind.EXTENDED, LIMITS
    ),
}


@both_directions
@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_protocol_allows_is_copied(tmp_path: Path, make_trial: MakeTrial, way: Way, name: str) -> None:
    outcome = play_with(make_trial(way, SIZE), tmp_path, HARMLESS[name])

    assert outcome.exit_code == 0, outcome.output


@both_directions
def test_a_limit_of_one_byte(tmp_path: Path, make_trial: MakeTrial, way: Way) -> None:
    script = partial(Lying, saying_limits(1, 1, 1), Kind.EXTENDED, LIMITS)

    assert play_with(make_trial(way, 500), tmp_path, script).exit_code == 0


@both_directions
def test_every_read_gives_half_of_what_was_asked(tmp_path: Path, make_trial: MakeTrial, way: Way) -> None:
    trial = make_trial(way, SIZE)
    with AsyncsshServer(tmp_path / "server", root=trial.remote, sftp_factory=misbehaving.ShortReads) as server:
        outcome = trial.play(server)

    trial.judge(outcome)
    assert outcome.exit_code == 0, outcome.output


# --- Against the protocol, at every request: never anything but a good copy or a clear failure ---


def truncated(request: Request, execute: Execute) -> Iterable[bytes]:
    """Half of the packet's fields, and a length that fits."""
    honest = execute()
    return [packet(honest[4], request.id, honest[9 : 9 + (len(honest) - 9) // 2])]


def headless(request: Request, execute: Execute) -> Iterable[bytes]:
    """Type and id, and then nothing."""
    return [packet(execute()[4], request.id)]


def overlong(request: Request, execute: Execute) -> Iterable[bytes]:
    """A text, a handle or the data says that it is longer than the packet."""
    honest = execute()
    at = 13 if honest[4] == Kind.STATUS else 9
    return [honest[:at] + b"\x7f\xff\xff\xff" + honest[at + 4 :]]


def twice(request: Request, execute: Execute) -> Iterable[bytes]:
    honest = execute()
    return [honest, honest]


def to_nobody(request: Request, execute: Execute) -> Iterable[bytes]:
    honest = execute()
    return [honest[:5] + struct.pack(">I", request.id ^ 0x5A5A5A5A) + honest[9:]]


def to_the_next(request: Request, execute: Execute) -> Iterable[bytes]:
    """An answer to what has not been asked yet, or was asked of another."""
    honest = execute()
    return [honest[:5] + struct.pack(">I", request.id + 1) + honest[9:]]


def as_attributes(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [packet(Kind.ATTRS, request.id, struct.pack(">IQ", 1, 5))]


def as_names(request: Request, execute: Execute) -> Iterable[bytes]:
    """More names than anybody could hold."""
    execute()
    return [packet(Kind.NAME, request.id, struct.pack(">I", 0xFFFFFFFF), string(b"x" * 100_000) * 3)]


def as_handle(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [packet(Kind.HANDLE, request.id, string(b"handle"))]


def as_version(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [version(3)]


def as_unknown_type(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [packet(255, request.id, bytes(100))]


def as_ok(request: Request, execute: Execute) -> Iterable[bytes]:
    """OK without having done anything, where more than a status is due."""
    if request.kind in (Kind.WRITE, Kind.CLOSE, Kind.FSETSTAT, Kind.SETSTAT, Kind.EXTENDED, Kind.RENAME):
        return [execute()]
    return [status(request.id, 0)]


def huge(request: Request, execute: Execute) -> Iterable[bytes]:
    return [b"\x7f\xff\xff\xff" + execute()[4:]]


def huge_and_endless(request: Request, execute: Execute) -> Iterable[bytes]:
    """Announces less than a mebibyte, and more and more of it comes."""
    execute()
    return [struct.pack(">IBI", 1024 * 1024 - 1, Kind.DATA, request.id), *[b"x" * 100_000] * 12]


def empty(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [bytes(4)]


def tiny(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [struct.pack(">IB", 1, Kind.STATUS)]


def noise(request: Request, execute: Execute) -> Iterable[bytes]:
    execute()
    return [random.Random(request.id).randbytes(10_000)]


def hang_up(request: Request, execute: Execute) -> Iterable[bytes]:
    raise Hangup


def hang_up_halfway(request: Request, execute: Execute) -> Iterable[bytes]:
    honest = execute()
    yield honest[: len(honest) // 2]
    raise Hangup


def refused_in_colour(request: Request, execute: Execute) -> Iterable[bytes]:
    """Not done, and a text that would paint the terminal, break the report's lines, and is not even UTF-8."""
    return [status(request.id, FAILURE, b"\x1b[31m\xff\xfe\r\n\x00\x9b2J\xc2\x9b2J \xe2\x80\xae")]


def refused_at_length(request: Request, execute: Execute) -> Iterable[bytes]:
    return [status(request.id, FAILURE, b"no " * 100_000)]


def refused_with_unknown_code(request: Request, execute: Execute) -> Iterable[bytes]:
    return [status(request.id, 0xFFFFFFFF, b"?")]


LIES = [
    *(truncated, headless, overlong, twice, to_nobody, to_the_next, as_attributes, as_names, as_handle, as_version),
    *(as_unknown_type, as_ok, huge, huge_and_endless, empty, tiny, noise, hang_up, hang_up_halfway),
    *(refused_in_colour, refused_at_length, refused_with_unknown_code),
]
# Where a lie cannot go unnoticed, but for those that come with a right answer, in time or too early.
ESSENTIAL = {"open", "first write", "last write", "first read"}
DONE_ALL_THE_SAME = (twice, to_the_next, as_ok)

REQUESTS: dict[Way, dict[str, Callable[[Lie], Script]]] = {
    "SFTP up": {
        "limits": lambda lie: Lying(lie, Kind.EXTENDED, LIMITS),
        "stat": lambda lie: Lying(lie, Kind.STAT),
        "open": lambda lie: Lying(lie, Kind.OPEN),
        "first write": lambda lie: Lying(lie, Kind.WRITE, number=1),
        "last write": lambda lie: Lying(lie, Kind.WRITE, number=2),
        "fsetstat": lambda lie: Lying(lie, Kind.FSETSTAT),
        "fstat": lambda lie: Lying(lie, Kind.FSTAT),
        "close": lambda lie: Lying(lie, Kind.CLOSE),
        "rename": lambda lie: Lying(lie, Kind.EXTENDED, POSIX_RENAME),
    },
    "SFTP down": {
        "limits": lambda lie: Lying(lie, Kind.EXTENDED, LIMITS),
        "stat": lambda lie: Lying(lie, Kind.STAT),
        "open": lambda lie: Lying(lie, Kind.OPEN),
        "fstat": lambda lie: Lying(lie, Kind.FSTAT, number=1),
        "first read": lambda lie: Lying(lie, Kind.READ, number=1),
        "last read": lambda lie: Lying(lie, Kind.READ, number=2),
        "last fstat": lambda lie: Lying(lie, Kind.FSTAT, number=2),
        "close": lambda lie: Lying(lie, Kind.CLOSE),
    },
}


def list_lies() -> list[tuple[Way, str, Lie]]:
    """Each lie in the answer to a few of the requests, so that each request meets several; all of all on demand."""
    requests = [(way, name) for way, names in REQUESTS.items() for name in names]
    every = 1 if "FAULT_TRIALS" in os.environ else 5
    return [
        (way, name, lie)
        for lie_number, lie in enumerate(LIES)
        for number, (way, name) in enumerate(requests)
        if (number + lie_number) % every == 0
    ]


@pytest.mark.parametrize(
    ("way", "request_name", "lie"),
    [pytest.param(*one, id=f"{one[0].split()[1]}-{one[1]}-{one[2].__name__}") for one in list_lies()],
)
def test_a_lie(tmp_path: Path, make_trial: MakeTrial, way: Way, request_name: str, lie: Lie) -> None:
    outcome = play_with(make_trial(way, SIZE), tmp_path, lambda: REQUESTS[way][request_name](lie))

    if request_name in ESSENTIAL and lie not in DONE_ALL_THE_SAME:
        assert outcome.exit_code != 0, f"this was believed: {outcome.output}"


# --- Lies that only one request can carry ---


def one_more_byte(request: Request, execute: Execute) -> Iterable[bytes]:
    length = int.from_bytes(request.body[-4:], "big")
    return [packet(Kind.DATA, request.id, string(b"x" * (length + 1)))]


def no_bytes(request: Request, execute: Execute) -> Iterable[bytes]:
    return [packet(Kind.DATA, request.id, string(b""))]


def handle_of(length: int) -> Lie:
    def lie(request: Request, execute: Execute) -> Iterable[bytes]:
        execute()
        return [packet(Kind.HANDLE, request.id, string(b"h" * length))]

    return lie


def attributes_of(*fields: bytes) -> Lie:
    return lambda request, execute: [packet(Kind.ATTRS, request.id, *fields)]


ENDLESS = struct.pack(">IQ", 1, HUGE)
SIZES_THAT_WRAP = struct.pack(">IQ", 1, 2**63)
EXTENDED_WITHOUT_END = struct.pack(">II", 0x80000000, 0xFFFFFFFF)
EVERYTHING = struct.pack(">IQIIIIIII", 0xFFFFFFFF, HUGE, *[0xFFFFFFFF] * 6, 0xFFFFFFFF)


@pytest.mark.parametrize("lie", [one_more_byte, no_bytes], ids=lambda lie: lie.__name__)
@pytest.mark.parametrize("number", [1, 2])
def test_data_of_the_wrong_length(tmp_path: Path, make_trial: MakeTrial, lie: Lie, number: int) -> None:
    script = partial(Lying, lie, Kind.READ, number=number)
    outcome = play_with(make_trial("SFTP down", SIZE), tmp_path, script)

    assert outcome.exit_code == 4, outcome.output
    assert "broke the SFTP protocol" in outcome.step["error"]["message"]


@both_directions
@pytest.mark.parametrize("length", [0, 257, 10_000])
def test_a_handle_of_a_forbidden_length(tmp_path: Path, make_trial: MakeTrial, way: Way, length: int) -> None:
    outcome = play_with(make_trial(way, SIZE), tmp_path, partial(Lying, handle_of(length), Kind.OPEN))

    assert outcome.exit_code == 4, outcome.output
    assert "handle" in outcome.step["error"]["message"]


@both_directions
@pytest.mark.parametrize("kind", [Kind.STAT, Kind.FSTAT], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(ENDLESS, id="a size without end"),
        pytest.param(SIZES_THAT_WRAP, id="a negative size"),
        pytest.param(EXTENDED_WITHOUT_END, id="extensions without end"),
        pytest.param(EVERYTHING, id="all bits"),
        pytest.param(b"", id="nothing"),
        pytest.param(random.Random(5).randbytes(60), id="noise"),
    ],
)
def test_attributes_that_cannot_be(tmp_path: Path, make_trial: MakeTrial, way: Way, kind: Kind, fields: bytes) -> None:
    play_with(make_trial(way, SIZE), tmp_path, partial(Lying, attributes_of(fields), kind))


@both_directions
def test_a_server_that_tells_no_attributes(tmp_path: Path, make_trial: MakeTrial, way: Way) -> None:
    play_with(make_trial(way, SIZE), tmp_path, partial(Lying, nothing_told, Kind.STAT))


@dataclass
class Greeting(Script):
    """Answers INIT in its own way."""

    packets: tuple[bytes, ...]

    def version(self) -> Iterable[bytes]:
        return self.packets


GREETINGS: dict[str, tuple[tuple[bytes, ...], tuple[int, ...]]] = {
    "version 2": ((version(2),), (2,)),
    "version 0": ((version(0),), (2,)),
    "version 6": ((version(6),), (0, 2)),
    "version without end": ((version(0xFFFFFFFF),), (0, 2)),
    "an extension cut short": ((packet(Kind.VERSION, 3, string(b"name"), b"\0\0"),), (4,)),
    "a name without a value": ((packet(Kind.VERSION, 3, string(b"name")),), (4,)),
    "extensions without end": ((version(3, *[(b"x" * 50_000, b"y" * 50_000)] * 10),), (0, 2, 4)),
    "more than a mebibyte": ((version(3, *[(b"x" * 50_000, b"y" * 50_000)] * 11),), (2, 4)),
    "a status": ((status(0, FAILURE, b"go away"),), (2, 4)),
    "a status for the version": ((status(3, 0),), (2, 4)),
    "a text": ((b"Welcome to the server. This account is for files only.\r\n",), (2, 4)),
    "two versions": ((version(3, *HONEST_EXTENSIONS), version(3)), (0, 4)),
    "nothing": ((), (4,)),
}


@both_directions
@pytest.mark.parametrize("name", GREETINGS)
def test_a_greeting(tmp_path: Path, make_trial: MakeTrial, way: Way, name: str) -> None:
    packets, exit_codes = GREETINGS[name]
    outcome = play_with(make_trial(way, SIZE), tmp_path, partial(Greeting, packets))

    assert outcome.exit_code in exit_codes, outcome.output


@both_directions
@pytest.mark.parametrize(
    "chatter",
    [version(3), status(0xFFFFFFF0, 0), packet(Kind.DATA, 0xFFFFFFF0, string(b"x" * 1000)), b"\0"],
    ids=["versions", "statuses", "data", "zeros"],
)
def test_a_server_that_talks_without_end_and_never_answers(
    tmp_path: Path, make_trial: MakeTrial, way: Way, chatter: bytes
) -> None:
    """What is no answer is no progress either."""

    def chat(request: Request, execute: Execute) -> Iterable[bytes]:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            yield chatter * 100

    outcome = play_with(make_trial(way, SIZE), tmp_path, partial(Lying, chat, Kind.STAT))

    assert outcome.exit_code == 4, outcome.output


@both_directions
@random_trials(5)
def test_one_wrong_byte_inside_the_protocol(tmp_path: Path, make_trial: MakeTrial, way: Way, seed: str) -> None:
    """Below SSH's checks, as a broken server would send it. What a server says the data is, is the data."""
    chance = random.Random(f"inside {way} {seed}")
    number, position, mask = chance.randint(1, 12), chance.random(), chance.randint(1, 255)

    class Mangling(Script):
        count = 0

        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            reply = bytearray(execute())
            self.count += 1
            if self.count == number:
                # Not the data of a file, and not what attributes say: a server may say anything there.
                end = 13 if reply[4] in (Kind.DATA, Kind.ATTRS) else len(reply)
                reply[int(position * end)] ^= mask
            return [bytes(reply)]

    with explaining(seed, way, f"reply {number}, at {position:.0%}, mask {mask:#x}"):
        trial = make_trial(way, SIZE)
        with RawSftpServer(tmp_path / "server", root=trial.remote, make_script=Mangling) as server:
            outcome = trial.play(server)
        # A refusal may have been made of the yes to the last rename.
        trial.judge(outcome, may_be_new=outcome.exit_code != 0)
