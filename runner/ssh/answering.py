"""Answers what a server asks by keyboard-interactive (RFC 4256), with what a step gives for that and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import paramiko

from runner.one_time_codes import parse_totp_secret
from runner.plan import Answers
from runner.ssh.codes import take_code
from runner.ssh.prompts import Wanted, clean_prompt, find_wanted, matches

# A password prompt may follow others ("Verification code:"); a server that keeps asking is not given answers for ever.
MAX_PROMPT_ROUNDS = 5
# A code may be refused because it was the last one's turn; a second one that is refused has another reason.
MAX_CODES = 2
MAX_QUESTIONS_SHOWN = 4

NO_CODE_HINT = (
    "Add 'totp_secret' to the 'authentication': the text that the server showed beside the QR code. A code that comes "
    "another way (by mail, from a hardware token) cannot be given unattended: ask the operator for a login by key alone."
)
NO_PASSWORD_HINT = "Add 'password' to the 'authentication'."
ANSWERS_HINT = "Say what to answer: 'answers: {\"*WORDS OF THE QUESTION*\": ANSWER}' in the 'authentication'."
EXPIRED_HINT = "Log in once by hand (ssh USER@HOST), give it a new password, and put that into 'password'."


class LoginAbandoned(paramiko.AuthenticationException):
    """We ended a login ourselves."""


class AskedAgain(LoginAbandoned):
    """The server asked again for what it had been given."""


class NotAnswered(LoginAbandoned):
    """The server asked for what the step does not give. Nothing was sent in answer to that question."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class _Before(NamedTuple):
    """What was asked and given in the rounds of an exchange before this one."""

    questions: frozenset[str]
    has_password: bool
    codes: int


class Answering:
    """Answers the questions of one login; it is paramiko's handler, called in the transport's thread.

    The password and each code are given once: what is asked for again was wrong, and to repeat it could lock the account.
    """

    def __init__(self, username: str, password: str | None, answers: Answers, wait: Callable[[float], bool]) -> None:
        """`wait` waits for so many seconds if there is so much time, and tells whether it has."""
        self._username = username
        self._password = password
        self._generator = parse_totp_secret(answers.totp_secret) if answers.totp_secret is not None else None
        self._patterns = answers.patterns
        self._wait = wait
        self._rounds = 0
        self._sent: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """A new exchange begins: what was given in an earlier one has been accepted."""
        # What the server asked in this exchange, each with what it was given.
        self._asked: list[tuple[str, str]] = []
        self._codes = 0
        self.has_given_password = False
        self._before = _Before(frozenset(), has_password=False, codes=0)

    @property
    def has_given_code(self) -> bool:
        """Whether a one-time code was given in this exchange."""
        return self._codes > 0

    @property
    def given(self) -> str:
        """What was given in this exchange, in words."""
        kinds = [given for _, given in self._asked if given]
        return " and ".join(dict.fromkeys(kinds)) or "an empty answer"

    @property
    def asked(self) -> str:
        """What the server asked in this exchange, and what it was given; empty if it asked nothing."""
        told = [f"'{question}' (given {given or 'an empty answer'})" for question, given in self._asked]
        shown = list(dict.fromkeys(told))[-MAX_QUESTIONS_SHOWN:]
        return f"the server asked {', then '.join(shown)}" if shown else ""

    def __call__(self, title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        """The answers to one round of questions. Raises `LoginAbandoned` instead of giving what was not asked for."""
        self._rounds += bool(prompts)
        if self._rounds > MAX_PROMPT_ROUNDS:
            raise AskedAgain("the server asked again and again")
        # Two questions of one round may be alike; one of an earlier round that comes again has been answered wrongly.
        self._before = _Before(frozenset(question for question, _ in self._asked), self.has_given_password, self._codes)
        return [self._answer(self._read(instructions, prompt), is_echoed=is_echoed) for prompt, is_echoed in prompts]

    def _read(self, instructions: str, prompt: str) -> str:
        """A question as it is shown. Some servers ask in the instructions, and prompt with a colon only."""
        is_empty = not any(letter.isalnum() for letter in prompt)
        question = clean_prompt(f"{instructions} {prompt}" if is_empty else prompt)
        # Some servers repeat in the next question what they have been answered.
        for sent in self._sent:
            question = question.replace(sent, "********")
        return question

    def _answer(self, question: str, *, is_echoed: bool) -> str:
        for pattern, answer in self._patterns:
            if matches(question, pattern):
                if question in self._before.questions:
                    raise AskedAgain(f"the server asked '{question}' again")
                return self._note(question, "what 'answers' says", answer)
        match find_wanted(question, self._username):
            case Wanted.NEW_PASSWORD:
                raise NotAnswered(
                    f"the server wants the password to be changed first: it asks '{question}'", EXPIRED_HINT
                )
            case Wanted.CODE:
                return self._give_code(question)
            case Wanted.UNCLEAR:
                reason = f"the server asks '{question}': {Wanted.UNCLEAR.value}, so it was given neither"
                raise NotAnswered(reason, ANSWERS_HINT)
            case Wanted.PASSWORD if not is_echoed:
                return self._give_password(question)
        if is_echoed:
            # It would stand on a screen or in a log: no secret is an answer to it.
            return self._note(question, "", "")
        if self._password is None or self._generator is not None or self._patterns:
            # With nothing but a password to give, that is what the step means; otherwise it would be a guess.
            reason = f"the server asks '{question}', which names no password and no one-time code"
            raise NotAnswered(f"{reason}, and the step gives no answer to it", ANSWERS_HINT)
        return self._give_password(question)

    def _give_password(self, question: str) -> str:
        if self._password is None:
            raise NotAnswered(f"the server asks '{question}', and the step gives no password", NO_PASSWORD_HINT)
        if self._before.has_password:
            raise AskedAgain("the server asked for the password again")
        self.has_given_password = True
        return self._note(question, "the password", self._password)

    def _give_code(self, question: str) -> str:
        if self._generator is None:
            raise NotAnswered(f"the server asks '{question}', and the step gives no one-time code", NO_CODE_HINT)
        if self._before.codes >= MAX_CODES:
            raise AskedAgain("the server asked for another code again")
        code, seconds = take_code(self._generator, self._wait)
        if not code:
            reason = (
                f"the server asks '{question}', and the code of this time was given away before; the next one is there in "
                f"{seconds:.0f} s, which is after connect_timeout"
            )
            hint = "A server takes each code once. Raise 'connect_timeout' to 60, and let steps share one connection."
            raise NotAnswered(reason, hint)
        self._codes += 1
        return self._note(question, "a one-time code", code)

    def _note(self, question: str, kind: str, answer: str) -> str:
        self._asked.append((question, kind))
        if len(answer) > 3:
            self._sent.add(answer)
        return answer
