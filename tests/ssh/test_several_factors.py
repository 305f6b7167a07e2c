"""Logins of several methods, in whichever order the server wants them; one-time codes; and what is never sent for what."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.one_time_codes import parse_totp_secret
from tests.conftest import Runner, connection, require_sshd, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers.accounts import PamServer, PasswordServer, can_make_accounts, knows_pam
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.forwarding import ForwardingServer
from tests.servers.keys import generate_key_pair, shared_key_pair
from tests.servers.login import Login, Step
from tests.ssh.agents import running_agent
from tests.ssh.logins import (
    PASSWORD,
    agent,
    assert_failed,
    assert_let_in,
    assert_not_told,
    assert_refused_at_once,
    count_offers,
    key_file,
    password,
    play,
)

KEY, WORD, QUESTIONS = "publickey", "password", "keyboard-interactive"
_secrets = iter(range(10_000))


def make_secret() -> str:
    """A secret that no other test has used a code of."""
    digits = f"{next(_secrets):04}".translate(str.maketrans("0123456789", "ABCDEFGHIJ"))
    return f"JBSWY3DPEHPK{digits}"


class FactorLogin(Login):
    """Asks rounds of questions; an answer is right if it is the password, a code of the secret, or in `others`."""

    rounds: tuple[tuple[tuple[str, bool], ...], ...] = ()
    secret = ""
    others: frozenset[str] = frozenset()
    answers: list[list[str]]
    is_always_wrong = False

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", list(self.rounds[0])

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        self.answers.append(list(responses))
        if not all(self.is_right(answer) for answer in responses) or self.is_always_wrong:
            return ("", "", "", list(self.rounds[-1])) if self.is_always_wrong else False
        asked = len(self.answers)
        return ("", "", "", list(self.rounds[asked])) if asked < len(self.rounds) else True

    def is_right(self, answer: str) -> bool:
        return answer == PASSWORD or answer in self.others or answer in codes_of(self.secret)


def codes_of(secret: str) -> set[str]:
    """The codes that are good now, or were or will be in a moment."""
    if not secret:
        return set()
    generator = parse_totp_secret(secret)
    window = generator.window_at(time.time())
    return {generator.make_code(window + shift) for shift in (-2, -1, 0, 1)}


def make_server(
    folder: Path,
    root: Path,
    *steps: str,
    rounds: tuple[tuple[tuple[str, bool], ...], ...] = (),
    secret: str = "",
    others: Sequence[str] = (),
    base: type[FactorLogin] = FactorLogin,
) -> tuple[AsyncsshServer, type[FactorLogin]]:
    """A server that wants a method of each step, written like `publickey,password`; and the class that keeps the answers."""
    told = {"rounds": rounds, "secret": secret, "others": frozenset(others), "answers": []}
    login = type("Asking", (base,), told)
    server = AsyncsshServer(folder, root=root, password=PASSWORD)
    wanted: tuple[Step, ...] = tuple(frozenset(one.split(",")) for one in steps)
    server.rules = replace(server.rules, steps=wanted)
    server.login_class = login
    return server, login


def methods_of(server: AsyncsshServer) -> list[str]:
    return [event.method for event in server.login_events]


HIDDEN_PASSWORD, HIDDEN_CODE = ("Password: ", False), ("Verification code: ", False)


# --- every order ---


def test_a_password_before_the_key(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, _ = make_server(tmp_path / "server", remote, WORD, KEY)
    with server:
        outcome = play(runner, server, remote, key_file(server.user_key_path, password=PASSWORD))
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD)
    # The key is offered first, and is not looked at; nothing is tried twice that was.
    assert methods_of(server) == [KEY, WORD, KEY]


def test_a_password_by_questions_before_the_key(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, KEY, rounds=((HIDDEN_PASSWORD,),))
    with server:
        outcome = play(runner, server, remote, key_file(server.user_key_path, password=PASSWORD))
    assert_let_in(outcome, remote)
    assert login.answers == [[PASSWORD]]


class AnyOrder(FactorLogin):
    """Offers all methods that have not been passed, and wants all of them."""

    def connection_made(self, conn: Any) -> None:
        self.passed: list[str] = []
        self.last = ""
        super().connection_made(conn)

    def record(self, method: bytes) -> None:
        super().record(method)
        self.last = method.decode()

    def admit(self) -> Any:
        self.passed.append(self.last)
        return super().admit()

    @property
    def _step(self) -> Step:
        return frozenset().union(*self.rules.steps) - set(self.passed)


def test_a_key_and_a_password_in_any_order(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, _ = make_server(tmp_path / "server", remote, KEY, WORD, base=AnyOrder)
    with server:
        outcome = play(runner, server, remote, key_file(server.user_key_path, password=PASSWORD))
        assert_let_in(outcome, remote)
        assert methods_of(server) == [KEY, WORD]
        (remote / "file").unlink()
        # What is refused ends the login here, too: the password is not tried in the place of a key.
        outcome = play(runner, server, remote, key_file(shared_key_pair().path, password=PASSWORD))
        assert_failed(outcome, remote, 4, "AuthenticationRefused", "authorized_keys")
        assert methods_of(server) == [KEY, WORD, KEY]


@pytest.mark.parametrize(
    ("steps", "rounds", "methods"),
    [
        ((KEY, QUESTIONS), ((HIDDEN_CODE,),), [KEY, QUESTIONS]),
        ((KEY, QUESTIONS), ((("Verification code: ", True),),), [KEY, QUESTIONS]),
        ((KEY, QUESTIONS), ((HIDDEN_PASSWORD, HIDDEN_CODE),), [KEY, QUESTIONS]),
        ((KEY, QUESTIONS), ((HIDDEN_PASSWORD,), (HIDDEN_CODE,)), [KEY, QUESTIONS]),
        ((KEY, QUESTIONS), ((("One-time password (OATH) for `me': ", False),), (HIDDEN_PASSWORD,)), [KEY, QUESTIONS]),
        ((QUESTIONS, KEY), ((HIDDEN_CODE,),), [KEY, QUESTIONS, KEY]),
        ((KEY, WORD, QUESTIONS), ((HIDDEN_CODE,),), [KEY, WORD, QUESTIONS]),
        ((f"{WORD},{KEY}", QUESTIONS), ((HIDDEN_CODE,),), [KEY, QUESTIONS]),
    ],
)
def test_a_key_with_a_one_time_code(
    runner: Runner, tmp_path: Path, remote: Path, steps: tuple[str, ...], rounds: Any, methods: list[str]
) -> None:
    secret = make_secret()
    server, login = make_server(tmp_path / "server", remote, *steps, rounds=rounds, secret=secret)
    with server:
        given = key_file(server.user_key_path, password=PASSWORD, totp_secret=secret.lower())
        outcome = play(runner, server, remote, given)
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD, secret, secret.lower(), *login.answers[0])
    assert methods_of(server) == methods


@pytest.mark.parametrize(
    ("steps", "rounds"),
    [
        ((WORD, QUESTIONS), ((HIDDEN_CODE,),)),
        ((QUESTIONS,), ((HIDDEN_PASSWORD, HIDDEN_CODE),)),
        ((QUESTIONS,), ((HIDDEN_PASSWORD,), (), (HIDDEN_CODE,))),
        ((QUESTIONS,), ((HIDDEN_CODE,), (("First Factor: ", False),))),
    ],
    ids=["password, then a code", "both in one round", "in two rounds", "the code first"],
)
def test_a_password_with_a_one_time_code(
    runner: Runner, tmp_path: Path, remote: Path, steps: tuple[str, ...], rounds: Any
) -> None:
    secret = make_secret()
    server, _ = make_server(tmp_path / "server", remote, *steps, rounds=rounds, secret=secret)
    with server:
        outcome = play(runner, server, remote, {**password(), "totp_secret": f"{secret[:4]} {secret[4:]}"})
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD)


def test_a_key_of_the_agent_with_a_password_and_a_code(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = make_secret()
    rounds = ((HIDDEN_PASSWORD, HIDDEN_CODE),)
    server, _ = make_server(tmp_path / "server", remote, KEY, QUESTIONS, rounds=rounds, secret=secret)
    with server, running_agent() as running:
        running.add(server.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        assert_let_in(play(runner, server, remote, agent(password=PASSWORD, totp_secret=secret)), remote)


def test_two_keys_are_two_different_ones(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sshd's AuthenticationMethods publickey,publickey wants them."""
    other = generate_key_pair(tmp_path / "other")
    shown: list[str] = []

    class TwoKeys(FactorLogin):
        def validate_public_key(self, username: str, key: Any) -> bool:
            shown.append(key.export_public_key().decode().split()[1])
            return True

    server, _ = make_server(tmp_path / "server", remote, KEY, KEY, base=TwoKeys)
    with server, running_agent() as running:
        running.add(server.user_key, other)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        assert_let_in(play(runner, server, remote, agent()), remote)
        assert list(dict.fromkeys(shown)) == [one.public_line.split()[1] for one in (server.user_key, other)]
        (remote / "file").unlink()
        outcome = play(runner, server, remote, key_file(server.user_key_path))
    assert_failed(
        outcome, remote, 4, "AuthenticationRefused", "after publickey the server also wants publickey", "a second key"
    )


def test_every_hop_has_its_own_factors(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """The jump host wants a password before the key, the host behind it a code after its own."""
    secret = make_secret()
    gateway = ForwardingServer(tmp_path / "gateway", password="through here")
    gateway.rules = replace(gateway.rules, steps=(frozenset([WORD]), frozenset([KEY])))
    server, _ = make_server(tmp_path / "server", remote, KEY, QUESTIONS, rounds=((HIDDEN_CODE,),), secret=secret)
    (runner.folder / "file").write_text("content")
    with gateway, server:
        first = {**key_file(gateway.user_key_path, password="through here"), "username": gateway.username}
        second = {**key_file(server.user_key_path, totp_secret=secret), "username": server.username}
        way = {"proxy_jump": [connection(gateway, authentication=first)]}
        outcome = runner.play([step(server, upload("file", remote / "file"), authentication=second, **way)])
        assert_let_in(outcome, remote)
        (remote / "file").unlink()
        del first["password"]
        outcome = runner.play([step(server, upload("file", remote / "file"), authentication=second, **way)])
    words = ("jump host 1 of 1", "the server takes password", "Add 'password' beside the key")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)


def test_sshd_that_wants_the_password_first(runner: Runner, tmp_path: Path, remote: Path) -> None:
    require_sshd()
    if not can_make_accounts():
        pytest.skip("only root can give sshd an account with a password")
    server = PasswordServer(tmp_path / "server")
    server.extra_config += ("AuthenticationMethods password,publickey",)
    with server:
        with count_offers(server) as offers:
            outcome = play(runner, server, remote, key_file(server.user_key_path, password=PASSWORD))
            assert offers() == [KEY, WORD, KEY]
        assert_let_in(outcome, remote)
        (remote / "file").unlink()
        with count_offers(server) as offers:
            outcome = play(runner, server, remote, key_file(server.user_key_path, password="hunter two"))
            assert offers() == [KEY, WORD]
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the password was refused")


@pytest.mark.parametrize("methods", ["publickey,keyboard-interactive", "keyboard-interactive,publickey"])
def test_sshd_that_asks_questions(runner: Runner, tmp_path: Path, remote: Path, methods: str) -> None:
    require_sshd()
    if not knows_pam():
        pytest.skip("only root can give sshd an account with a password")
    expected = [KEY, QUESTIONS] if methods.startswith(KEY) else [KEY, QUESTIONS, KEY]
    with PamServer(tmp_path / "server", f"AuthenticationMethods {methods}") as server:
        with count_offers(server) as offers:
            outcome = play(runner, server, remote, key_file(server.user_key_path, password=PASSWORD))
            assert offers() == expected
        assert_let_in(outcome, remote)
        (remote / "file").unlink()
        outcome = play(runner, server, remote, key_file(server.user_key_path, password="hunter two"))
        words = ("the password was refused", "the server asked 'Password:' (given the password)")
        assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
        outcome = play(runner, server, remote, key_file(server.user_key_path, totp_secret=make_secret()))
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "asks 'Password:'", "Add 'password'")


# --- what is asked for and not given ---


def test_a_key_that_is_wanted_later_is_not_blamed(runner: Runner, tmp_path: Path, remote: Path) -> None:
    server, _ = make_server(tmp_path / "server", remote, WORD, KEY)
    with server:
        outcome = play(runner, server, remote, key_file(server.user_key_path))
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the server takes password", "Add 'password'")
    assert "authorized_keys" not in outcome.output
    assert methods_of(server) == [KEY]


def test_a_question_after_the_key_is_told(runner: Runner, tmp_path: Path, remote: Path) -> None:
    rounds = ((("Verif\x1b[31mication\r\n code:\x07 ", False),),)
    server, login = make_server(tmp_path / "server", remote, KEY, QUESTIONS, rounds=rounds)
    with server:
        outcome = play(runner, server, remote, key_file(server.user_key_path))
    words = ("after publickey the server also wants", "asks 'Verif [31mication code:'", "'totp_secret'")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    assert "\x1b" not in outcome.output + str(outcome.report) and "\\u001b" not in str(outcome.report)
    assert login.answers == []


@pytest.mark.parametrize("is_echoed", [False, True])
@pytest.mark.parametrize(
    "question", ["Verification code: ", "OTP: ", "Enter your token: ", "One-time password: ", "Bestätigungscode: "]
)
def test_no_password_is_given_for_a_code(
    runner: Runner, tmp_path: Path, remote: Path, question: str, is_echoed: bool
) -> None:
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=(((question, is_echoed),),))
    with server:
        outcome = play(runner, server, remote, password())
    words = (f"asks '{question.strip()}'", "gives no one-time code", "'totp_secret'")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    assert login.answers == []
    assert_not_told(outcome, PASSWORD)


def test_no_code_is_given_for_a_password(runner: Runner, tmp_path: Path, remote: Path) -> None:
    secret = make_secret()
    for question in ("Password: ", "Kennwort: ", "Say it: "):
        rounds = (((question, False),),)
        server, login = make_server(tmp_path / question[:3], remote, KEY, QUESTIONS, rounds=rounds, secret=secret)
        with server:
            outcome = play(runner, server, remote, key_file(server.user_key_path, totp_secret=secret))
        assert_failed(outcome, remote, 4, "AuthenticationRefused", f"asks '{question.strip()}'", "the step gives no")
        assert login.answers == []


@pytest.mark.parametrize("question", ["Password + token: ", "Enter PIN: ", "Challenge 1234, response: "])
def test_what_is_unclear_is_not_guessed(runner: Runner, tmp_path: Path, remote: Path, question: str) -> None:
    secret = make_secret()
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=(((question, False),),), secret=secret)
    with server:
        outcome = play(runner, server, remote, {**password(), "totp_secret": secret})
    assert_failed(outcome, remote, 4, "AuthenticationRefused", f"asks '{question.strip()}'", "'answers:")
    assert login.answers == []


def test_a_new_password_is_not_made_up(runner: Runner, tmp_path: Path, remote: Path) -> None:
    rounds = ((("Current password: ", False),), (("New password: ", False), ("Retype new password: ", False)))
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=rounds)
    with server:
        outcome = play(runner, server, remote, password())
    assert "then the server ended the connection" not in outcome.output
    words = ("wants the password to be changed first", "'New password:'", "Log in once by hand")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    assert login.answers == [[PASSWORD]]


# --- answers ---


def test_answers_are_found_by_pattern_and_win(runner: Runner, tmp_path: Path, remote: Path) -> None:
    rounds = ((("Your  Department: ", True), ("Enter PIN: ", False)), (("Password: ", False),))
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=rounds, others=("treasury", "pin-8642"))
    answers = {"*pin*": "pin-8642", "your department?": "treasury", "*": "never"}
    del answers["*"]
    with server:
        outcome = play(runner, server, remote, {**password(), "answers": answers})
    assert_let_in(outcome, remote)
    assert_not_told(outcome, PASSWORD, "pin-8642", "treasury")
    assert login.answers == [["treasury", "pin-8642"], [PASSWORD]]


def test_a_wrong_answer_is_given_once_and_told_of(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Again(FactorLogin):
        is_always_wrong = True

    rounds = ((("Favourite colour: ", False),),)
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=rounds, base=Again)
    with server:
        outcome = play(runner, server, remote, {**password(), "answers": {"*colour*": "chartreuse"}})
    words = ("'Favourite colour:' again", "given what 'answers' says", "Check 'answers'")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    assert_not_told(outcome, "chartreuse", PASSWORD)
    assert login.answers == [["chartreuse"]]


# --- codes ---


def test_no_code_is_given_twice(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """A server that asks again gets the next code, once, and a second login waits for it, too."""
    address = f"otpauth://totp/me?secret={make_secret()}&period=1&digits=8"

    class Again(FactorLogin):
        is_always_wrong = True

    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=((HIDDEN_CODE,),), base=Again)
    with server:
        for _ in range(2):
            outcome = play(runner, server, remote, {**password(), "totp_secret": address})
            words = ("a one-time code was refused", "'Verification code:'", "clock")
            assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    given = [answer for (answer,) in login.answers]
    assert len(given) == len(set(given)) == 4
    assert_not_told(outcome, PASSWORD, address, *given)


def test_a_code_that_cannot_be_waited_for_is_told(runner: Runner, tmp_path: Path, remote: Path) -> None:
    address = f"otpauth://totp/me?secret={make_secret()}&period=3600"
    rounds = ((HIDDEN_CODE,),)
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=rounds, secret=address)
    started = time.monotonic()
    with server:
        assert_let_in(play(runner, server, remote, {**password(), "totp_secret": address}), remote)
        (remote / "file").unlink()
        outcome = play(runner, server, remote, {**password(), "totp_secret": address})
    if len(login.answers) == 2:
        return  # an hour has just begun
    words = ("'Verification code:'", "given away before", "Raise 'connect_timeout'")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    assert time.monotonic() - started < 10 + BUSY_SECONDS


def test_waiting_for_a_code_ends_at_connect_timeout(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """The wait is over before the deadline, or it is not begun: here the server is silent after the first code."""
    secret = make_secret()
    rounds = ((HIDDEN_CODE, HIDDEN_CODE),)
    server, login = make_server(tmp_path / "server", remote, QUESTIONS, rounds=rounds, secret=secret)
    started = time.monotonic()
    with server:
        outcome = play(runner, server, remote, {**password(), "totp_secret": secret}, connect_timeout=1)
    assert time.monotonic() - started < 3 + BUSY_SECONDS
    assert outcome.exit_code == 4 or len(set(login.answers[0])) == 2, outcome.output


# --- validation ---


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("JBSWY3DPEHPK3PX1", "not base32"),
        ("JBSWY3DP", "too short"),
        ("otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP", "not for codes by time"),
        ("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&digits=90", "digits"),
        ("otpauth://totp/x?issuer=me", "no 'secret'"),
    ],
)
def test_a_secret_that_is_none_is_told_at_its_place(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, secret: str, complaint: str
) -> None:
    outcome = play(runner, asyncssh_server, remote, {**password(), "totp_secret": secret})
    assert_refused_at_once(outcome, remote, "'totp_secret' cannot be used", complaint)
    assert_not_told(outcome, secret)
    lines = (runner.folder / "play.yaml").read_text().splitlines()
    (problem,) = outcome.report["error"]["problems"]
    assert '"totp_secret"' in lines[problem["location"]["line"] - 1]
    validated = runner("validate", str(runner.folder / "play.yaml"))
    assert validated.exit_code == 3 and complaint in validated.output
    assert asyncssh_server.connection_count == 0


def test_answers_that_are_empty_or_fit_nothing_are_told(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    outcome = play(runner, asyncssh_server, remote, {**password(), "answers": {" ": "x" * 9}})
    assert_refused_at_once(outcome, remote, "an empty pattern in 'answers'")
    outcome = play(runner, asyncssh_server, remote, {**password(), "answers": {"*pin*": "{{ lookup('env', 'NONE') }}"}})
    assert_refused_at_once(outcome, remote, "NONE")
    outcome = play(runner, asyncssh_server, remote, {**password(), "answers": {"*pin*": 1234}})
    assert_refused_at_once(outcome, remote, "'*pin*' must be a string")
