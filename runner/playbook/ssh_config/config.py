"""OpenSSH's configuration files, asked about a host as ssh_config(5) says. Nothing is ever executed.

paramiko's parser would run `Match exec`, and knows no `Include`. The order of evaluation is that of OpenSSH's readconf.c. A
`Match` that needs a command, or something else that only ssh itself can tell, does not apply; a warning says so.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from runner.playbook.document import shorten
from runner.playbook.inputs import InputProblem
from runner.playbook.ssh_config.keywords import KEYWORDS
from runner.playbook.ssh_config.lines import Line, lower, matches_pattern, matches_patterns, read_lines
from runner.playbook.ssh_config.settings import (
    HostSettings,
    Query,
    Setting,
    Settings,
    local_user,
    read_arguments,
)
from runner.problems import Location, Problem
from runner.suggestions import find_meant

USER_FILE = "~/.ssh/config"
SYSTEM_FILE = "/etc/ssh/ssh_config"
# readconf.c: READCONF_MAX_DEPTH.
MAX_DEPTH = 16
# ssh has no such limits. It would read a file that includes itself twice 2 to the 16th times.
MAX_FILES = 500
MAX_LINES = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What the files say about a host, and what the user should know about how they were read."""

    settings: HostSettings
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that ssh would read, and how."""

    path: str
    is_users: bool
    must_be_private: bool
    must_exist: bool


class SshConfig:
    """The configuration that an `ssh_config` input at `named_at` stands for: one file, or the user's and the system's.

    A file is read once, and answers are remembered.
    """

    def __init__(self, path: str | None, named_at: Location) -> None:
        self._named_at = named_at
        self._lines: dict[tuple[str, bool], tuple[Line, ...] | None] = {}
        self._answers: dict[Query, Answer] = {}
        if path is not None:
            # As with ssh -F it may be anybody's, such as a file of a checkout. What it includes may not.
            self.sources = [_Source(path, is_users=True, must_be_private=False, must_exist=True)]
        else:
            user_path = os.path.expanduser(USER_FILE)
            self.sources = [
                _Source(user_path, is_users=True, must_be_private=True, must_exist=False),
                _Source(SYSTEM_FILE, is_users=False, must_be_private=False, must_exist=False),
            ]

    @property
    def shown(self) -> str:
        """The files, as messages name them."""
        return " and ".join(source.path for source in self.sources)

    def look_up(self, query: Query) -> Answer:
        """What the files say about a host. Raises `InputProblem`."""
        if query not in self._answers:
            self._answers[query] = _Lookup(self, query).run()
        return self._answers[query]

    def read_source(self, source: _Source) -> tuple[Line, ...]:
        """The lines of one of the files. Raises `InputProblem`."""
        lines = self.read(source.path, self._named_at, must_be_private=source.must_be_private)
        if lines is None and source.must_exist:
            hint = "The path is relative to workdir; true stands for ~/.ssh/config and /etc/ssh/ssh_config."
            raise InputProblem(self._named_at, f"there is no SSH configuration {source.path}", hint)
        return lines or ()

    def read(self, path: str, named_at: Location, *, must_be_private: bool) -> tuple[Line, ...] | None:
        """The lines of a file, None if there is none. Raises `InputProblem`."""
        key = (path, must_be_private)
        if key not in self._lines:
            self._lines[key] = read_lines(path, named_at, must_be_private=must_be_private)
        return self._lines[key]


@dataclass(slots=True)
class _Lookup:
    """One host being looked up: which lines apply to it."""

    config: SshConfig
    query: Query
    settings: Settings = field(init=False)
    warnings: list[Problem] = field(default_factory=list)
    host: str = field(init=False)
    is_active: bool = True
    is_parse_only: bool = False
    is_final: bool = False
    wants_final: bool = False
    file_count: int = 0
    line_count: int = 0

    def __post_init__(self) -> None:
        self.settings = Settings(self.query)
        self.host = self.query.alias

    def run(self) -> Answer:
        """Everything that applies. Raises `InputProblem`."""
        self._read_sources()
        if self.wants_final or self.settings.says_yes("canonicalizehostname"):
            # `Match final`: once more, with the name that was found. What is set stays set (ssh.c, main).
            self.is_final, self.host = True, self.settings.settle_name()
            self._read_sources()
        return Answer(self.settings.settle(), tuple(dict.fromkeys(self.warnings)))

    def _read_sources(self) -> None:
        for source in self.config.sources:
            self.is_active = True
            self._apply_all(self.config.read_source(source), source, 0)

    def _apply_all(self, lines: Sequence[Line], source: _Source, depth: int) -> None:
        for line in lines:
            self.line_count += 1
            if self.line_count > MAX_LINES:
                raise line.problem(f"the SSH configuration has more than {MAX_LINES:,} lines, what it includes counted")
            self._apply(line, source, depth)

    def _apply(self, line: Line, source: _Source, depth: int) -> None:
        match line.keyword:
            case "host":
                self.is_active = self._fits_host(line) and not self.is_parse_only
            case "match":
                self.is_active = self._fits_match(line) and not self.is_parse_only
            case keyword if keyword not in KEYWORDS:
                self._doubt(line)
            case "include":
                self._include(line, source, depth)
            case _ if self.is_active:
                self.settings.take(line)

    def _fits_host(self, line: Line) -> bool:
        fits = False
        for pattern in read_arguments(line):
            if matches_pattern(self.host, pattern.removeprefix("!")):
                if pattern.startswith("!"):
                    return False
                fits = True
        return fits

    def _fits_match(self, line: Line) -> bool:
        """Whether every criterion holds, as far as that can be told (readconf.c, match_cfg_line)."""
        words = line.words
        fits, count, unknown = True, 0, ""
        while words:
            word = words.pop(0)
            is_negated = word.startswith("!")
            name, equals, argument = word.removeprefix("!").partition("=")
            name = name.lower()
            if name == "all":
                if count > 1 or words:
                    raise line.problem("'all' cannot be combined with other criteria of 'Match'")
                return fits and not is_negated
            count += 1
            if name not in ("final", "canonical") and not equals:
                if not words:
                    raise line.problem(f"the criterion {shorten(repr(name))} of 'Match' needs an argument")
                argument = words.pop(0)
            holds = self._holds(name, argument, is_negated=is_negated)
            unknown = unknown or ("" if holds is not None else name)
            fits = fits and holds is not is_negated
        if not count:
            raise line.problem("'Match' needs a criterion, such as 'host'")
        if fits and unknown and not self.is_parse_only:
            self._warn_of_match(line, unknown)
        return fits and not unknown

    def _holds(self, name: str, argument: str, *, is_negated: bool) -> bool | None:
        """Whether one criterion holds; None if that cannot be told."""
        match name:
            case "final":
                self.wants_final |= not is_negated
                return self.is_final
            case "canonical":
                return self.is_final
            case "host":
                return matches_patterns(lower(self.settings.remote_name), lower(argument))
            case "originalhost":
                return matches_patterns(lower(self.query.alias), lower(argument))
            case "user":
                return matches_patterns(self.settings.remote_user, argument)
            case "localuser":
                return matches_patterns(local_user(), argument)
            case "tagged":
                return matches_patterns(self.settings.tag, argument) if self.settings.tag else not argument
        return None

    def _warn_of_match(self, line: Line, criterion: str) -> None:
        why = "nothing is executed" if criterion == "exec" else "the runner cannot tell whether it holds"
        shown = f"'Match {shorten(criterion)}' for '{shorten(self.query.alias)}'"
        hint = "What the host needs of it can stand in the playbook, or in a block with other criteria."
        self.warnings.append(Problem(line.location, f"the block {shown} does not apply: {why}", hint))

    def _include(self, line: Line, source: _Source, depth: int) -> None:
        """What a block includes that does not apply is read as well, as by ssh: `Match final` counts wherever it stands."""
        if depth >= MAX_DEPTH:
            raise line.problem(f"'Include' is nested deeper than {MAX_DEPTH} levels", "Does a file include itself?")
        was_active, was_parse_only = self.is_active, self.is_parse_only
        self.is_parse_only = was_parse_only or not was_active
        for word in read_arguments(line):
            for path in self._find_included(line, word, source):
                self.file_count += 1
                if self.file_count > MAX_FILES:
                    raise line.problem(f"more than {MAX_FILES} files are included", "Does a file include itself?")
                self._apply_all(self.config.read(path, line.location, must_be_private=True) or (), source, depth + 1)
                # A block that begins in an included file ends with it.
                self.is_active = was_active
        self.is_parse_only = was_parse_only

    def _find_included(self, line: Line, word: str, source: _Source) -> list[str]:
        """The files that a pattern stands for, in the order in which ssh reads them."""
        pattern = self.settings.expand(Setting(word, line.location), "Include")
        if pattern.startswith("~") and not source.is_users:
            raise line.problem(f"'~' means nothing in the system's configuration: {shorten(repr(pattern))}")
        folder = os.path.expanduser("~/.ssh") if source.is_users else os.path.dirname(SYSTEM_FILE)
        pattern = os.path.join(folder, os.path.expanduser(pattern))
        return sorted(islice(glob.iglob(pattern), MAX_FILES + 1), key=os.fsencode)

    def _doubt(self, line: Line) -> None:
        """A keyword that nobody knows: a slip, which may change what the lines after it mean, or one of a newer ssh."""
        ignored = self.settings.single.get("ignoreunknown")
        if ignored and matches_patterns(line.keyword, lower(ignored.value)):
            return
        shown = shorten(repr(line.keyword))
        if near := _nearest_keyword(line.keyword):
            raise line.problem(f"unknown keyword {shown}", f"Did you mean '{near}'? ssh refuses it, too.")
        if self.is_active:
            self.warnings.append(Problem(line.location, f"the unknown keyword {shown} is ignored"))


@lru_cache(maxsize=256)
def _nearest_keyword(word: str) -> str:
    """The keyword that was probably meant, if any."""
    return next(iter(find_meant(word, KEYWORDS, cutoff=0.7)), "")
