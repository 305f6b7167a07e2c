"""Logs in in exactly the way a step says, by the methods that the server lets continue, with no other credential.

A login may take several methods, in the order that the server wants (RFC 4252 section 5.1): a key and then a password, a
password before the key, a one-time code behind either. Each credential is tried once; one that was refused ends the login.
A line that breaks meanwhile is no refusal: it may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import paramiko

from runner.errors import ConnectionLost
from runner.plan import Endpoint
from runner.ssh.answering import EXPIRED_HINT, Answering, LoginAbandoned, NotAnswered
from runner.ssh.login_keys import make_login_key
from runner.ssh.login_refusals import INTERACTIVE, PASSWORD, PASSWORD_HINT, PUBLIC_KEY, LoginRefusals
from runner.ssh.questions import PasswordExpired
from runner.ssh.transport import NoSignatureInCommon, StrictTransport

if TYPE_CHECKING:
    from runner.ssh.credentials import Credential

# More methods than any server asks for, so that one that is never content does not go on for ever.
MAX_METHODS = 6


class ExplicitAuthentication(paramiko.AuthStrategy):
    """Authenticates as one endpoint's `authentication` says. `method` tells afterwards how."""

    def __init__(self, endpoint: Endpoint, credentials: Iterable[Credential], wait: Callable[[float], bool]) -> None:
        """`wait` waits for so many seconds, for the next one-time code; it returns False if there is no such time."""
        super().__init__(ssh_config=paramiko.SSHConfig())
        given = endpoint.authentication
        self._endpoint = endpoint
        self._given = given
        self._keys = [make_login_key(credential) for credential in credentials]
        self._password: str | None = given.password
        self._answering = Answering(given.username, given.password, given.answers, wait)
        self._has_answers = given.answers.totp_secret is not None or bool(given.answers.patterns)
        self._passed: list[str] = []
        self._refusals = LoginRefusals(endpoint, self._passed, self._answering)
        # Methods that the server does not let continue now; another one that succeeds may change that.
        self._closed: set[str] = set()

    @property
    def method(self) -> str:
        """The methods that the server accepted, in order, such as `publickey+password`."""
        return "+".join(self._passed)

    def authenticate(self, transport: StrictTransport) -> Any:
        """Called by the client once the host key is accepted. Raises `AuthenticationRefused`, `ConnectionLost`."""
        methods: Sequence[str] | None = None
        while not transport.is_authenticated():
            method = self._choose(methods)
            if method is None or len(self._passed) >= MAX_METHODS:
                raise self._refusals.nothing_left(methods or ())
            attempts = {PUBLIC_KEY: self._try_keys, PASSWORD: self._try_password, INTERACTIVE: self._try_questions}
            methods = attempts[method](transport)
        return paramiko.AuthResult(self)

    def _choose(self, methods: Sequence[str] | None) -> str | None:
        """The method to try next among those that can continue, None for all of them: nothing has been asked yet.

        With a code or answers to give, questions come before the password method, which can carry neither.
        """
        ways = (INTERACTIVE, PASSWORD) if self._has_answers else (PASSWORD, INTERACTIVE)
        for way in (PUBLIC_KEY, *ways):
            if way not in self._closed and (methods is None or way in methods) and self._can_try(way, methods):
                return way
        return None

    def _can_try(self, way: str, methods: Sequence[str] | None) -> bool:
        if way == PUBLIC_KEY:
            return bool(self._keys)
        if way == PASSWORD:
            return self._password is not None and PASSWORD not in self._passed
        # A key alone was not enough, and only the question tells what else is wanted: asking costs nothing.
        is_worth_asking = bool(self._passed) and PASSWORD not in (methods or ())
        return self._password is not None or self._has_answers or is_worth_asking

    # --- the methods ---

    def _try_keys(self, transport: StrictTransport) -> Sequence[str]:
        """The methods that can continue, when a key was accepted or none is looked at yet."""
        was_open = PUBLIC_KEY in transport.methods_left
        unsigned: list[tuple[paramiko.PKey, NoSignatureInCommon]] = []
        for number, key in enumerate(self._keys):
            try:
                methods = self._offer(transport, key)
            except paramiko.BadAuthenticationType:
                if number == 0 and not was_open:
                    return self._close(PUBLIC_KEY, transport)
                break
            except NoSignatureInCommon as error:
                unsigned.append((key, error))
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    break
            else:
                # A server that wants two keys wants two different ones.
                del self._keys[: number + 1]
                return self._pass(PUBLIC_KEY, methods)
        if unsigned and len(unsigned) == len(self._keys):
            raise self._refusals.no_signature(*unsigned[0])
        raise self._refusals.refused_keys(self._keys, transport)

    def _offer(self, transport: StrictTransport, key: paramiko.PKey) -> list[str]:
        """Try one key; an RSA key again with a SHA-1 signature where that is allowed: old servers take no other."""
        log_in = partial(transport.auth_publickey, self._given.username, key)
        try:
            return self._ask(transport, log_in)
        except paramiko.BadAuthenticationType:
            raise
        except paramiko.AuthenticationException:
            if not transport.is_active() or not transport.fall_back_to_sha1(key.get_name()):
                raise
            try:
                return self._ask(transport, log_in)
            finally:
                transport.end_fallback()

    def _try_password(self, transport: StrictTransport) -> Sequence[str]:
        try:
            log_in = partial(transport.auth_password, self._given.username, self._password, fallback=False)
            return self._pass(PASSWORD, self._ask(transport, log_in))
        except paramiko.BadAuthenticationType:
            return self._close(PASSWORD, transport)
        except PasswordExpired as error:
            what = "the password, which the server wants to be changed first,"
            raise self._refusals.refusal(what, EXPIRED_HINT, transport) from error
        except paramiko.AuthenticationException as error:
            raise self._refusals.refusal("the password", PASSWORD_HINT, transport) from error

    def _try_questions(self, transport: StrictTransport) -> Sequence[str]:
        self._answering.begin()
        try:
            log_in = partial(transport.auth_interactive, self._given.username, self._answering)
            return self._pass(INTERACTIVE, self._ask(transport, log_in))
        except paramiko.BadAuthenticationType:
            return self._close(INTERACTIVE, transport)
        except NotAnswered as error:
            raise self._refusals.asked_for_more(error) from error
        except paramiko.AuthenticationException as error:
            raise self._refusals.refused_answers(transport, error) from error

    def _pass(self, method: str, methods: list[str]) -> Sequence[str]:
        """A method was accepted, alone or as one of several."""
        self._passed.append(method)
        self._closed.clear()
        return methods

    def _close(self, method: str, transport: StrictTransport) -> Sequence[str]:
        """A method was not looked at: the server does not let it continue now."""
        self._closed.add(method)
        return transport.methods_left

    def _ask(self, transport: StrictTransport, log_in: Callable[[], Any]) -> list[str]:
        """Try one login; the methods the server wants besides. Raises paramiko's refusals, and `ConnectionLost`."""
        transport.ask_for_verdict()
        try:
            return list(log_in())
        except paramiko.AuthenticationException as error:
            if transport.was_cut and not isinstance(error, LoginAbandoned):
                lost = transport.find_lost_hop()
                raise ConnectionLost(
                    f"the connection to {self._endpoint} broke off during the login of {self._given.username}"
                    f"{f': {lost}' if lost else ''}",
                    hint="The network failed, or the server ended the session without saying why; its log may tell.",
                ) from error
            raise
