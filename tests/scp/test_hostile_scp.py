"""SCP against servers that lie, flood and fall silent: nothing is published that was not announced, and nothing hangs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.cancellation import Cancellation, Deadline
from runner.execution.protocols import make_command_starter
from runner.plan import PinnedKeys
from runner.scp.files import ScpFiles
from runner.ssh.opening import open_connection
from runner.ssh.window import RECEIVE_WINDOW_BYTES, REPLENISH_BYTES
from tests.conftest import Outcome, Runner, download, snapshot, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers.endpoint import Endpoint
from tests.servers.hostile_scp import YES, Act, HostileScp, Talk, flood, header, say, say_and_hang
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import FaultProxy
from tests.ssh.endpoints import make_endpoint

ESCAPE = b"\x1b[2J\x1b]0;owned\x07"
# Long enough for a busy machine to answer, short enough to wait for.
STALL_SECONDS = 1
LIMIT_SECONDS = STALL_SECONDS + 5 + BUSY_SECONDS


@contextmanager
def soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < LIMIT_SECONDS


def fetch(runner: Runner, tmp_path: Path, *acts: Act, stall_seconds: float = STALL_SECONDS) -> Outcome:
    """Download from a server that answers the first look at the file, its download and the last look by these acts."""
    with HostileScp(tmp_path / "server", acts) as server, soon():
        mode = download("a", "local/a")
        return runner.play([step(server, mode, connector_type="SCP", stall_timeout=stall_seconds)])


def send(runner: Runner, tmp_path: Path, *acts: Act, size: int = 5) -> Outcome:
    """Upload to a server that answers the look at the destination, the upload and the look at the copy by these acts."""
    (runner.folder / "source").write_bytes(b"x" * size)
    with HostileScp(tmp_path / "server", acts) as server, soon():
        mode = upload("source", "a")
        return runner.play([step(server, mode, connector_type="SCP", stall_timeout=STALL_SECONDS)])


def assert_failed(outcome: Outcome, exit_code: int, words: str) -> None:
    assert outcome.exit_code == exit_code, outcome.output
    assert words in outcome.step["error"]["message"], outcome.output
    assert "\x1b" not in outcome.output
    assert "\x07" not in outcome.output


def assert_nothing_arrived(runner: Runner) -> None:
    """Neither the file nor a temporary one, nor the folder that was made for them."""
    assert not (runner.folder / "local").exists()


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../evil", "/evil", ".", "..", "", "b", "a b", "\x1b[2J", "a" * 5000, "\udcff".encode(errors="replace")]
)
def test_the_server_s_name_for_the_file_does_not_count(runner: Runner, tmp_path: Path, name: Any) -> None:
    name = name.decode() if isinstance(name, bytes) else name
    before = set(os.listdir(tmp_path.parent))

    outcome = fetch(runner, tmp_path, say(header(5, name=name) + b"hello\0"))

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(runner.folder / "local") == {"a": b"hello"}
    assert set(os.listdir(tmp_path.parent)) == before
    assert not any(path.name == "evil" for path in tmp_path.rglob("*"))
    assert "\x1b" not in outcome.output


HONEST = say(header(5) + b"hello\0")

DOWNLOADS: dict[str, tuple[bytes, int, str]] = {
    "less than announced": (header(5) + b"hel", 6, "sent 3 of the 5 bytes"),
    "nothing": (header(5), 6, "sent 0 of the 5 bytes"),
    "more than announced": (header(5) + b"hello, world\0", 4, "broke the SCP protocol"),
    "an error after the content": (header(5) + b"hello\x01scp: a: I/O error\n", 2, "I/O error"),
    "another size than before": (header(7) + b"hello!!\0", 6, "was written to while it was copied"),
    "another time than before": (header(5, time=1_600_000_000) + b"hello\0", 6, "was written to while it was copied"),
    "a directory": (b"D0755 0 a\n" + header(5) + b"hello\0E\n", 4, "broke the SCP protocol"),
    "a directory after its time": (b"T1 0 1 0\nD0755 0 a\n", 4, "broke the SCP protocol"),
    "the end of a directory": (b"E\n", 4, "broke the SCP protocol"),
    "two times": (b"T1 0 1 0\nT1 0 1 0\nC0644 5 a\nhello\0", 4, "broke the SCP protocol"),
    "a negative size": (b"C0644 -1 a\n", 4, "broke the SCP protocol"),
    "a size of 20 digits": (b"C0644 99999999999999999999 a\n", 4, "broke the SCP protocol"),
    "no name": (b"C0644 5\n", 4, "broke the SCP protocol"),
    "a mode that is none": (b"C9999 5 a\nhello\0", 4, "broke the SCP protocol"),
    "an empty line": (b"\n", 2, "says something before scp begins"),
    "rubbish": (b"\xff" + ESCAPE + b"\n", 2, "says something before scp begins"),
    "rubbish after the time": (b"T1 0 1 0\n\xff" + ESCAPE + b"\n", 4, "broke the SCP protocol"),
    "an error with escape codes": (b"\x01scp: " + ESCAPE + b": failed\n", 2, "failed"),
    "a fatal error": (b"\x02scp: protocol error\n", 2, "protocol error"),
    "an error without words": (b"\x01\n", 2, "cannot read"),
    "a long error": (b"\x01" + b"x" * 8000 + b"\n", 2, "xxx"),
    "an error without end": (b"\x01" + b"x" * 20_000, 4, "endless line"),
    "a line without end": (b"C0644 5 " + b"a" * 20_000, 4, "endless line"),
    "an end in the middle of a line": (b"C0644 5", 2, "scp ended with status 0"),
}


@pytest.mark.parametrize("attack", DOWNLOADS)
def test_a_lie_during_a_download(runner: Runner, tmp_path: Path, attack: str) -> None:
    said, exit_code, words = DOWNLOADS[attack]

    outcome = fetch(runner, tmp_path, HONEST, say(said), HONEST)

    assert_failed(outcome, exit_code, words)
    assert_nothing_arrived(runner)


@pytest.mark.parametrize("attack", DOWNLOADS)
def test_a_lie_from_the_start(runner: Runner, tmp_path: Path, attack: str) -> None:
    """The server says the same at each look. It may be that it never lies, but its download must not go wrong."""
    said, _, _ = DOWNLOADS[attack]

    outcome = fetch(runner, tmp_path, say(said))

    if attack.startswith("another"):
        # Said each time it is the truth.
        assert outcome.exit_code == 0, outcome.output
        return
    assert outcome.exit_code in (2, 4, 6), outcome.output
    assert "\x1b" not in outcome.output
    assert_nothing_arrived(runner)


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        (header(5, mode="4777"), 0o777),
        (header(5, mode="07640"), 0o640),
        (header(5, mode="0000"), 0o000),
    ],
)
def test_only_the_nine_bits_of_a_mode_count(runner: Runner, tmp_path: Path, said: bytes, mode: int) -> None:
    outcome = fetch(runner, tmp_path, say(said + b"hello\0"))

    assert outcome.exit_code == 0, outcome.output
    assert (runner.folder / "local/a").stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("seconds", [0, 2**31, 2**33, 999_999_999_999])
def test_an_odd_time_is_kept_or_refused(runner: Runner, tmp_path: Path, seconds: int) -> None:
    """No bug in the end, whatever the file system makes of the year 33658."""
    outcome = fetch(runner, tmp_path, say(header(5, time=seconds) + b"hello\0"))

    assert outcome.exit_code in (0, 2), outcome.output
    assert outcome.exit_code == 0 or seconds > 2**33


def test_a_size_beyond_every_disk(runner: Runner, tmp_path: Path) -> None:
    outcome = fetch(runner, tmp_path, say(header(9_999_999_999_999_999_999) + b"hello"))

    assert_failed(outcome, 6, "sent 5 of the 9,999,999,999,999,999,999 bytes")
    assert_nothing_arrived(runner)


@pytest.mark.parametrize(
    "said", [b"", b"T1500000000 0 15", b"T1500000000 0 1500000000 0\n", header(5), header(5) + b"hel", b"\x01scp"]
)
def test_silence_during_a_download(runner: Runner, tmp_path: Path, said: bytes) -> None:
    outcome = fetch(runner, tmp_path, HONEST, say_and_hang(said), HONEST)

    assert_failed(outcome, 4, "has not answered for 1 s")
    assert outcome.step["error"]["type"] == "Stalled"
    assert_nothing_arrived(runner)


def test_silence_at_the_last_look(runner: Runner, tmp_path: Path) -> None:
    outcome = fetch(runner, tmp_path, HONEST, HONEST, say_and_hang(b""))

    assert_failed(outcome, 4, "has not answered for 1 s")
    assert_nothing_arrived(runner)


def test_a_server_that_does_not_hang_up_after_a_download(runner: Runner, tmp_path: Path) -> None:
    outcome = fetch(runner, tmp_path, say_and_hang(header(5) + b"hello\0"))

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(runner.folder / "local") == {"a": b"hello"}


@pytest.mark.parametrize("more", [b"x" * 10_000, b"\0", b"\n", b"C0644 5 b\nhello\0"])
def test_too_much_during_a_download(runner: Runner, tmp_path: Path, more: bytes) -> None:
    outcome = fetch(runner, tmp_path, HONEST, flood(header(5) + b"hello", more), HONEST)

    if more == b"\0":
        # It says yes again and again; the file is right.
        assert outcome.exit_code == 0, outcome.output
        return
    assert_failed(outcome, 4, "broke the SCP protocol")
    assert_nothing_arrived(runner)


def test_errors_without_end_are_no_progress(runner: Runner, tmp_path: Path) -> None:
    async def act(talk: Talk) -> None:
        while True:
            talk.errors.write(ESCAPE * 1000)
            await talk.errors.drain()
            await asyncio.sleep(0.001)

    # A busy server takes its time to send so many; they are what ends it, not the silence besides.
    outcome = fetch(runner, tmp_path, act, stall_seconds=BUSY_SECONDS)

    assert_failed(outcome, 4, "complains without end")
    assert len(outcome.step["error"]["message"]) < 3_000


# --- uploads ---------------------------------------------------------------------------------------------------------

MISSING = say(b"\x01scp: a: No such file or directory\n", status=1)


def take(answers: list[bytes], *, status: int | None = 0, size: int = 5) -> Act:
    """Take an upload, and answer the start, the time, the header and the content in this way; hang for want of an answer."""

    async def act(talk: Talk) -> None:
        talk.exit_status = status
        steps = [None, talk.hear_line, talk.hear_line, lambda: talk.hear(size + 1)]
        for hear, answer in zip(steps, answers, strict=False):
            if hear is not None:
                await hear()
            await talk.say(answer)
            if answer[:1] in (b"\x01", b"\x02"):
                talk.exit_status = 1
                return
        if len(answers) < len(steps):
            await asyncio.Event().wait()
        if status is None:
            await asyncio.Event().wait()

    return act


def test_an_honest_upload(runner: Runner, tmp_path: Path) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * 4), say(header(5)))

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["verified"] == "size"
    assert outcome.step["result"]["atomic"] is False


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("kind", [b"\x01", b"\x02"])
def test_a_refusal_at_each_step_of_an_upload(runner: Runner, tmp_path: Path, position: int, kind: bytes) -> None:
    refusal = kind + b"scp: " + ESCAPE + b" refused\n"

    outcome = send(runner, tmp_path, MISSING, take([YES] * position + [refusal]))

    assert_failed(outcome, 2, "refused")
    assert "may be incomplete" in outcome.step["error"]["message"]


@pytest.mark.parametrize("position", range(4))
def test_rubbish_at_each_step_of_an_upload(runner: Runner, tmp_path: Path, position: int) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * position + [ESCAPE + b"\n"]))

    if position == 0:
        assert_failed(outcome, 2, "says something before scp begins")
    else:
        assert_failed(outcome, 4, "broke the SCP protocol")


@pytest.mark.parametrize("position", range(4))
def test_silence_at_each_step_of_an_upload(runner: Runner, tmp_path: Path, position: int) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * position))

    assert_failed(outcome, 4, "has not answered for 1 s")


def test_a_server_that_takes_nothing_of_a_large_file(runner: Runner, tmp_path: Path) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * 3), size=8_000_000)

    assert_failed(outcome, 4, "has not answered for 1 s")


def test_a_server_that_does_not_hang_up_after_an_upload(runner: Runner, tmp_path: Path) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * 4, status=None), say(header(5)))

    assert_failed(outcome, 4, "has not answered for 1 s")


def test_an_exit_status_after_every_yes(runner: Runner, tmp_path: Path) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * 4, status=1), say(header(5)))

    assert_failed(outcome, 2, "scp ended with status 1")


@pytest.mark.parametrize(("found", "words"), [(MISSING, "does not tell the size"), (say(header(4)), "has 4 bytes")])
def test_every_yes_and_nothing_kept(runner: Runner, tmp_path: Path, found: Act, words: str) -> None:
    outcome = send(runner, tmp_path, MISSING, take([YES] * 4), found)

    assert_failed(outcome, 6, words)


def test_every_yes_before_a_byte_was_sent(runner: Runner, tmp_path: Path) -> None:
    """The answers to what has not been asked yet prove nothing; what the server has in the end does."""
    outcome = send(runner, tmp_path, MISSING, say(YES * 10), say(header(0)), size=3_000_000)

    assert outcome.exit_code != 0, outcome.output


def test_yes_without_end(runner: Runner, tmp_path: Path) -> None:
    """What nobody reads is not taken in either: the server has to wait, and is given up."""
    (runner.folder / "source").write_bytes(b"x" * 5)
    with HostileScp(tmp_path / "server", [MISSING, flood(b"", YES * 65536)]) as server:
        mode = upload("source", "a")
        outcome = runner.play([step(server, mode, connector_type="SCP", stall_timeout=STALL_SECONDS)])
        sent_bytes = server.sent_bytes

    assert_failed(outcome, 4, "has not answered for 1 s")
    assert sent_bytes < RECEIVE_WINDOW_BYTES + 2 * REPLENISH_BYTES


# --- a shell that talks without end ----------------------------------------------------------------------------------


def test_a_command_whose_output_does_not_end(runner: Runner, tmp_path: Path) -> None:
    (runner.folder / "source").write_bytes(b"hello")
    acts = [MISSING, take([YES] * 4), say(header(5))]
    with HostileScp(tmp_path / "server", acts, shell=flood(b"", b"x" * 32768)) as server, soon():
        outcome = runner.play([step(server, upload("source", "a"), connector_type="SCP")])

    # That is no shell.
    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["atomic"] is False


# --- round trips -----------------------------------------------------------------------------------------------------


def test_a_download_is_agreed_to_beforehand(runner: Runner, tmp_path: Path) -> None:
    """Start, times and header have been answered before they are said: the content comes without a further round trip."""

    async def act(talk: Talk) -> None:
        assert await talk.hear(3) == YES * 3
        await talk.say(header(5) + b"hello\0")
        assert await talk.hear(1) == YES

    outcome = fetch(runner, tmp_path, HONEST, act, HONEST)

    assert outcome.exit_code == 0, outcome.output


def test_an_upload_announces_and_ends_without_waiting(runner: Runner, tmp_path: Path) -> None:
    async def act(talk: Talk) -> None:
        assert (await talk.hear_line())[:1] == b"T"
        assert (await talk.hear_line())[:1] == b"C"
        await talk.say(YES * 3)
        assert await talk.hear(6) == b"xxxxx\0"
        assert await talk.reader.read() == b""
        await talk.say(YES)

    outcome = send(runner, tmp_path, MISSING, act, say(header(5)))

    assert outcome.exit_code == 0, outcome.output


def test_no_content_is_sent_before_the_file_was_accepted(runner: Runner, tmp_path: Path) -> None:
    """A server that has refused the file would take its bytes for commands."""
    heard: list[bytes] = []

    async def act(talk: Talk) -> None:
        await talk.say(YES * 2)
        await talk.hear_line()
        await talk.hear_line()
        await asyncio.sleep(0.3)
        await talk.say(b"\x01scp: refused\n")
        heard.append(await talk.reader.read())

    outcome = send(runner, tmp_path, MISSING, act)

    assert_failed(outcome, 2, "refused")
    assert heard == [b""]


# --- memory ----------------------------------------------------------------------------------------------------------


@contextmanager
def scp_files(server: Endpoint, port: int) -> Iterator[ScpFiles]:
    """The server's files over SCP, reached by another port."""
    cancellation = Cancellation()
    endpoint = make_endpoint(server, PinnedKeys((server.known_host_line(),)))
    object.__setattr__(endpoint, "port", port)
    connection = open_connection(endpoint, Deadline.after(10), cancellation)
    try:
        yield ScpFiles(make_command_starter(connection, 10, 10, cancellation), str(endpoint))
    finally:
        connection.close()


def test_a_slow_disk_slows_the_server_down(sshd: OpenSSHServer, remote: Path) -> None:
    """What the disk has not taken yet waits at the server, not in memory."""
    size = 200 * 1024 * 1024
    with (remote / "source").open("wb") as file:
        file.truncate(size)
    ahead_bytes: list[int] = []
    with FaultProxy(sshd.host, sshd.port) as proxy, scp_files(sshd, proxy.port) as files:

        def progress(done_bytes: int) -> None:
            if not ahead_bytes:
                time.sleep(1.5)
            ahead_bytes.append(proxy.bytes_down - done_bytes)

        received_bytes, _ = files.read(str(remote / "source"), lambda data, offset: None, progress)

    assert received_bytes == size
    assert max(ahead_bytes) < RECEIVE_WINDOW_BYTES + 4 * REPLENISH_BYTES
