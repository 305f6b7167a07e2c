"""How an asyncssh server lets clients in, and its record of every attempt."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncssh

if TYPE_CHECKING:
    from tests.servers.file_session import FileSession

# A method name as RFC 4252 spells it: publickey, password, keyboard-interactive.
Step = frozenset[str]


class LoginEvent(NamedTuple):
    """One authentication request as it arrived, granted or not. `none` is a request too."""

    method: str
    username: str


@dataclass(frozen=True, slots=True)
class LoginRules:
    """Who gets in. Each step offers its methods; the client must pass one method of every step."""

    username: str
    steps: tuple[Step, ...]
    public_key: str = ""
    password: str | None = None
    questions: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Visits:
    """What clients did, in order. Written by the server's thread, read by the test."""

    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    login_events: list[LoginEvent] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    connection_count: int = 0


class Login(asyncssh.SSHServer):
    """The login of one connection, step by step."""

    def __init__(self, rules: LoginRules, visits: Visits, session_maker: Callable[[], FileSession]) -> None:
        self.rules = rules
        self.visits = visits
        self.session_maker = session_maker
        self._passed = 0
        self._answer: Callable[..., Awaitable[None]]
        self._admit: Callable[[], Awaitable[None] | None]

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Put this object between the connection and its authentication.

        asyncssh tells its owner only about attempts by a method on offer, and knows no partial success;
        both are to be had at these two methods of the connection.
        """
        self._conn = conn
        self._answer, self._admit = _replace(conn, _finish_userauth=self.answer, send_userauth_success=self.admit)
        self.visits.connections.append(conn)
        self.visits.connection_count += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.visits.connections.remove(self._conn)

    async def answer(self, begin: bool, method: bytes, packet: Any) -> None:
        """Record a request before anything is decided about it."""
        self.record(method)
        # paramiko repeats its service request before each method; OpenSSH grants it, asyncssh would hang up.
        self._conn._next_service = b"ssh-userauth"
        await self._answer(begin, method, packet)

    def record(self, method: bytes) -> None:
        """Note a request for this connection's user."""
        username = str(getattr(self._conn, "_username", ""))
        self.visits.login_events.append(LoginEvent(method.decode("ascii", "replace"), username))

    def admit(self) -> Awaitable[None] | None:
        """Let the client in after the last step; before that, tell it of its partial success.

        Newer versions of asyncssh await the answer, older ones do not.
        """
        self._passed += 1
        if self._passed >= len(self.rules.steps):
            return self._admit()
        self._conn.send_userauth_failure(True)
        return _do_nothing() if inspect.iscoroutinefunction(self._admit) else None

    def begin_auth(self, username: str) -> bool:
        """Everybody has to authenticate."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Whether the current step takes a key."""
        return "publickey" in self._step

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this is the one key of the one user."""
        text = key.export_public_key().decode("ascii")
        return username == self.rules.username and text.split()[:2] == self.rules.public_key.split()[:2]

    def password_auth_supported(self) -> bool:
        """Whether the current step takes a password."""
        return "password" in self._step

    def validate_password(self, username: str, password: str) -> bool:
        """Whether user and password are right."""
        return username == self.rules.username and password == self.rules.password

    def kbdint_auth_supported(self) -> bool:
        """Whether the current step asks questions (asyncssh would otherwise ask for the password)."""
        return "keyboard-interactive" in self._step

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        """All questions in one round, without echo."""
        return "", "", "", [(question, False) for question, _ in self.rules.questions]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        """Whether user and answers are right."""
        expected = [answer for _, answer in self.rules.questions]
        return username == self.rules.username and list(responses) == expected

    def session_requested(self) -> FileSession:
        """Serve files, and nothing else."""
        return self.session_maker()

    @property
    def _step(self) -> Step:
        return self.rules.steps[min(self._passed, len(self.rules.steps) - 1)]


async def _do_nothing() -> None:
    pass


def _replace(target: object, **methods: Callable[..., Any]) -> list[Any]:
    """Replace methods of one object; the old ones."""
    old = [getattr(target, name) for name in methods]
    for name, method in methods.items():
        setattr(target, name, method)
    return old
