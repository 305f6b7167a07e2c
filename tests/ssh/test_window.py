"""How far a server may be ahead: little where answers are gathered, as far as it gets where much comes or it is far."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.cancellation import Cancellation, Deadline
from runner.execution.protocols import open_sftp_session
from runner.sftp.packets import Type, encode_path
from runner.sftp.session import ANSWERS_WINDOW_BYTES, NAMES_WINDOW_BYTES, SftpSession
from runner.ssh import connection
from runner.ssh.window import RECEIVE_WINDOW_BYTES, SHORT_ANSWER_SECONDS, SLOW_ANSWERS, ReceiveWindow, TooMuchSent
from tests.servers.endpoint import Endpoint
from tests.servers.latency import LatencyProxy
from tests.servers.openssh import OpenSSHServer
from tests.ssh.endpoints import connect_knowing

NARROW = 4096
MOST = 1_000_000


class Clock:
    """Goes on by a step each time it is read."""

    def __init__(self, step_seconds: float = 0.0) -> None:
        self.now, self.step_seconds = 1000.0, step_seconds

    def __call__(self) -> float:
        self.now += self.step_seconds
        return self.now


def narrow(clock: Callable[[], float] | None = None) -> ReceiveWindow:
    return ReceiveWindow(NARROW, MOST, clock or Clock())


def use_up(window: ReceiveWindow) -> None:
    """The server sends all that it may, and is told to go on."""
    window.note_received(window.open_bytes)
    window.open(window.due_bytes(0))


def test_a_narrow_window_is_opened_when_it_is_used_up() -> None:
    window = narrow()
    for _ in range(NARROW - 1):
        window.note_received(1)
        assert (window.is_low, window.due_bytes(0)) == (False, 0)
    window.note_received(1)
    assert (window.is_low, window.due_bytes(0)) == (True, NARROW)
    window.open(NARROW)
    assert (window.open_bytes, window.due_bytes(0)) == (NARROW, 0)


def test_a_wide_window_is_opened_before_it_is_used_up() -> None:
    window = ReceiveWindow(MOST, MOST, Clock())
    window.note_received(MOST // 2 - 1)
    assert window.due_bytes(0) == 0
    window.note_received(1)
    assert window.due_bytes(0) == MOST // 2


def test_what_nobody_has_read_takes_up_room() -> None:
    window = ReceiveWindow(MOST, MOST, Clock())
    window.note_received(MOST)
    assert window.due_bytes(MOST) == 0
    assert window.due_bytes(MOST // 2 + 1) == 0
    assert window.due_bytes(MOST // 4) == MOST - MOST // 4


def test_made_wider_it_is_due_at_once_and_made_narrower_when_it_is_used_up() -> None:
    window = narrow()
    window.set_width(MOST)
    assert window.due_bytes(0) == MOST - NARROW
    window.open(window.due_bytes(0))
    window.set_width(NARROW)
    window.note_received(MOST - 1)
    assert window.due_bytes(0) == 0
    window.note_received(1)
    assert window.due_bytes(0) == NARROW


def test_more_than_was_allowed_is_borne_only_as_far_as_a_wide_window_would_have_let_it_come() -> None:
    window = narrow()
    window.note_received(MOST)
    with pytest.raises(TooMuchSent):
        window.note_received(1)


def test_after_some_slow_answers_the_line_is_taken_for_a_long_one() -> None:
    window = narrow(Clock(SHORT_ANSWER_SECONDS * 1.01))
    for _ in range(SLOW_ANSWERS):
        assert window.open_bytes == NARROW
        use_up(window)
    window.note_received(1)
    assert window.due_bytes(0) == MOST - NARROW + 1
    # For good.
    window.set_width(NARROW)
    assert window.due_bytes(0) == MOST - NARROW + 1


def test_one_quick_answer_proves_that_the_line_is_short() -> None:
    clock = Clock(SHORT_ANSWER_SECONDS * 0.5)
    window = narrow(clock)
    use_up(window)
    use_up(window)
    clock.step_seconds = 1.0
    for _ in range(10 * SLOW_ANSWERS):
        use_up(window)
        assert window.open_bytes == NARROW


@contextmanager
def session_on(server: Endpoint, known_hosts: Path) -> Iterator[tuple[SftpSession, ReceiveWindow]]:
    """An SFTP session, and the window of its channel."""
    cancellation = Cancellation()
    opened = connect_knowing(server, known_hosts, cancellation)
    try:
        session = open_sftp_session(opened, 10, Deadline.after(10), cancellation)
        yield session, session.channel._window  # type: ignore[attr-defined]
    finally:
        opened.close()


@pytest.fixture
def known_hosts(tmp_path: Path, sshd: OpenSSHServer) -> Path:
    path = tmp_path / "known_hosts"
    path.write_text(sshd.known_hosts_line() + "\n")
    return path


def test_a_near_server_s_answers_are_gathered(
    sshd: OpenSSHServer, known_hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busy this machine is: nothing is taken for a sign of a long line here."""
    monkeypatch.setattr(connection, "SHORT_OPENING_SECONDS", 10.0)
    monkeypatch.setattr("runner.ssh.window.SHORT_ANSWER_SECONDS", 10.0)
    with session_on(sshd, known_hosts) as (session, window):
        looks = [session.submit(Type.STAT, encode_path(str(tmp_path))) for _ in range(2000)]
        for look in looks:
            assert session.expect(look, Type.ATTRS).take_attributes().mode
            assert 0 <= window.open_bytes <= ANSWERS_WINDOW_BYTES
        session.expect_names()
        assert ANSWERS_WINDOW_BYTES < window.open_bytes <= NAMES_WINDOW_BYTES
        session.expect_answers()
        session.expect_data()
        assert NAMES_WINDOW_BYTES < window.open_bytes <= RECEIVE_WINDOW_BYTES


def test_a_far_server_never_waits_for_a_word_from_us(sshd: OpenSSHServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    with LatencyProxy(sshd.host, sshd.port, round_trip_seconds=0.05) as proxy:
        there = copy.copy(sshd)
        there.port = proxy.port
        known_hosts.write_text(there.known_hosts_line() + "\n")
        with session_on(there, known_hosts) as (session, window):
            session.expect_answers()
            look = session.submit(Type.STAT, encode_path(str(tmp_path)))
            assert session.expect(look, Type.ATTRS).take_attributes().mode
            assert window.open_bytes > RECEIVE_WINDOW_BYTES // 2
