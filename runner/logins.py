"""What the steps of a playbook hold to log in with, to be looked at before anything is contacted. Values only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import NamedTuple

from runner.plan import Authentication, HostKeyPolicy
from runner.problems import Location, Problem
from runner.tags import EVERY_TAG, TagFilter
from runner.values import dataclass


@dataclass(frozen=True, slots=True)
class Login:
    """What a step, or a jump host on its way, logs in with, and what tells it the host; None where that means nothing.

    `places` says where each input stands. `unknown` are the inputs that could not be filled in. Where not
    `knows_workdir`, nobody can tell which files are meant.
    """

    step_index: int
    authentication: Authentication | None
    host_key_policy: HostKeyPolicy | None
    places: dict[str, Location] = field(compare=False)
    unknown: frozenset[str] = frozenset()
    knows_workdir: bool = True


class LoginReport(NamedTuple):
    """What is wrong with logins, and what may be."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


LookAtLogins = Callable[[Sequence[Login]], LoginReport]


def trust_logins(logins: Sequence[Login]) -> LoginReport:
    """Nobody looks: what cannot be used is found when it is needed."""
    return LoginReport()


@dataclass(frozen=True, slots=True)
class StepHead:
    """By what a step is chosen on the command line; empty where it cannot be told."""

    index: int
    name: str
    host_label: str
    tags: frozenset[str] = frozenset()


class Selection(NamedTuple):
    """The steps that the command line wants: those of the connections in `limit`, from the one called `start_at` on.

    `tags` chooses among them.
    """

    limit: tuple[str, ...] = ()
    start_at: str | None = None
    tags: TagFilter = EVERY_TAG

    def choose(self, heads: Sequence[StepHead]) -> frozenset[int]:
        """The numbers of the steps that are wanted; none if there is no step to start at."""
        wanted = (head for head in heads if self.tags.chooses(head.tags))
        chosen = [head for head in wanted if not self.limit or head.host_label in self.limit]
        if self.start_at is not None:
            found = (place for place, head in enumerate(chosen) if self.start_at in (head.name, str(head.index)))
            chosen = chosen[next(found, len(chosen)) :]
        return frozenset(head.index for head in chosen)
