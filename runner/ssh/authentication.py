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

from runner.errors import AuthenticationRefused, ConnectionLost
from runner.plan import Endpoint, SshAgent, UsernamePassword
from runner.ssh.answering import EXPIRED_HINT, NO_PASSWORD_HINT, Answering, LoginAbandoned, NotAnswered
from runner.ssh.login_keys import make_login_key
from runner.ssh.prompts import clean_prompt
from runner.ssh.questions import PasswordExpired
from runner.ssh.transport import NoSignatureInCommon, StrictTransport
from runner.ssh.user_certificates import explain_certificates

if TYPE_CHECKING:
    from runner.ssh.credentials import Credential

PUBLIC_KEY, PASSWORD, INTERACTIVE = "publickey", "password", "keyboard-interactive"
# More methods than any server asks for, so that one that is never content does not go on for ever.
MAX_METHODS = 6
MAX_KEYS_SHOWN = 3

PASSWORD_HINT = "Check 'username' and 'password'; after several refusals an account may be locked."
CODE_HINT = (
    "Is 'totp_secret' this account's, and the clock of this machine right? A server takes each code once: one that another "
    "login has used in the last 30 seconds is refused."
)
ANSWER_HINT = "Check 'answers' in the 'authentication'."
BESIDE_KEY_HINT = "Add 'password' beside the key."
KEY_HINT = "Check 'username'; is the key's public half in this user's authorized_keys on the server?"
AGENT_KEY_HINT = (
    "Is the key in the agent (ssh-add -l), and in the server's authorized_keys? Servers give up after a few keys: name "
    "the right one under 'public_key'."
)
SHA1_HINT = "A server that takes only SHA-1 signatures of RSA keys needs 'legacy_algorithms: [ssh-rsa]'."


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
                raise self._nothing_left(transport, methods or ())
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
            raise self._no_signature(*unsigned[0])
        raise self._refused_keys(transport)

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
            raise self._refusal(what, EXPIRED_HINT, transport) from error
        except paramiko.AuthenticationException as error:
            raise self._refusal("the password", PASSWORD_HINT, transport) from error

    def _try_questions(self, transport: StrictTransport) -> Sequence[str]:
        self._answering.begin()
        try:
            log_in = partial(transport.auth_interactive, self._given.username, self._answering)
            return self._pass(INTERACTIVE, self._ask(transport, log_in))
        except paramiko.BadAuthenticationType:
            return self._close(INTERACTIVE, transport)
        except NotAnswered as error:
            raise self._asked_for_more(error) from error
        except paramiko.AuthenticationException as error:
            raise self._refused_answers(transport, error) from error

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

    # --- refusals ---

    @property
    def _who(self) -> str:
        return f"{self._given.username}@{self._endpoint}"

    @property
    def _after(self) -> str:
        return f"after {self.method} " if self._passed else ""

    def _refusal(
        self, what: str, hint: str, transport: StrictTransport, told: str = "", *, is_ended_by_us: bool = False
    ) -> AuthenticationRefused:
        ending = "" if transport.is_active() or is_ended_by_us else "; then the server ended the connection"
        asked = f"; {told}" if told else ""
        return AuthenticationRefused(
            f"{self._who} was not let in: {self._after}{what} was refused{asked}{ending}", hint=hint
        )

    def _refused_keys(self, transport: StrictTransport) -> AuthenticationRefused:
        shown = ", ".join(f"{key.get_name()} {key.fingerprint}" for key in self._keys[:MAX_KEYS_SHOWN])
        more = len(self._keys) - MAX_KEYS_SHOWN
        what = f"the key {shown}{f' and {more} more' if more > 0 else ''}"
        fault = explain_certificates(self._keys, self._given.username)
        hint = f"{fault} {AGENT_KEY_HINT}".lstrip() if isinstance(self._given, SshAgent) else fault or KEY_HINT
        if any("rsa" in key.get_name() for key in self._keys) and transport.may_want_sha1:
            hint = f"{hint} {SHA1_HINT}"
        return self._refusal(what, hint, transport)

    def _no_signature(self, key: paramiko.PKey, error: NoSignatureInCommon) -> AuthenticationRefused:
        """The server has said beforehand that it takes no signature which this key makes."""
        taken = ", ".join(clean_prompt(name) for name in error.taken)
        hint = SHA1_HINT if "ssh-rsa" in error.taken else "Use a key of another type: ed25519 is best."
        return AuthenticationRefused(
            f"{self._who} was not let in: the server takes no signature that the key {key.get_name()} {key.fingerprint} "
            f"makes here: it takes {taken}; the runner signs with {', '.join(error.ours)}",
            hint=hint,
        )

    def _refused_answers(self, transport: StrictTransport, error: Exception) -> AuthenticationRefused:
        answering = self._answering
        if isinstance(error, PasswordExpired):
            return self._refusal("the password", EXPIRED_HINT, transport)
        hints = [PASSWORD_HINT] if answering.has_given_password else []
        hints += [CODE_HINT] if answering.has_given_code else []
        is_ours = isinstance(error, LoginAbandoned)
        again = f"{error}; " if is_ours else ""
        what = answering.given if answering.asked else "the login by keyboard-interactive"
        told = f"{again}{answering.asked}".removesuffix("; ")
        return self._refusal(what, " ".join(hints) or ANSWER_HINT, transport, told, is_ended_by_us=is_ours)

    def _asked_for_more(self, error: NotAnswered) -> AuthenticationRefused:
        """The server asked a question that the step has no answer to."""
        wanted = f"after {self.method} the server also wants {INTERACTIVE}; " if self._passed else ""
        hint = BESIDE_KEY_HINT if error.hint == NO_PASSWORD_HINT else error.hint
        before = f"; before, {self._answering.asked}" if self._answering.asked else ""
        return AuthenticationRefused(
            f"{self._who} was asked for more than the step gives: {wanted}{error.reason}{before}", hint=hint
        )

    def _nothing_left(self, transport: StrictTransport, methods: Sequence[str]) -> AuthenticationRefused:
        """The step has nothing for any method that can continue."""
        offered = " or ".join(clean_prompt(name) for name in methods) or "another method"
        wants_password = {PASSWORD, INTERACTIVE} & set(methods) and self._password is None
        hint = BESIDE_KEY_HINT if wants_password and not self._is_by_password else ""
        if self._passed:
            return AuthenticationRefused(
                f"{self._who} was asked for more than the step gives: after {self.method} the server also wants {offered}",
                hint=hint or self._hint_for(methods),
            )
        given = "a password" if self._is_by_password else "a key"
        return AuthenticationRefused(
            f"{self._who} was not let in: the server takes {offered.replace(' or ', ', ')}, and the step gives {given}",
            hint=f"{hint} This server wants it before the key, or instead of it." if hint else self._hint_for(methods),
        )

    @property
    def _is_by_password(self) -> bool:
        return isinstance(self._given, UsernamePassword)

    def _hint_for(self, methods: Sequence[str]) -> str:
        """What to give for methods that the step has nothing for."""
        if PUBLIC_KEY in methods and PUBLIC_KEY in self._passed:
            return "The server wants a second key: 'authentication_method: ssh_agent' offers all that the agent holds."
        if PUBLIC_KEY in methods:
            beside = "with 'password' beside it " if self._passed else ""
            return f"Use a key {beside}('authentication_method: ssh_key', 'ssh_key_file' or 'ssh_agent')."
        return (
            "The runner knows publickey, password and keyboard-interactive; ask the server's operator for one of these."
        )
