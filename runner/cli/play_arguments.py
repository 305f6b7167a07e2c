"""What a command line asks of `runner play`, as one value. An option is added here and in `play.py`."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from runner.errors import UsageError
from runner.logins import Selection
from runner.plan import PlayOptions
from runner.playbook.vault_password import Vault
from runner.report.printer import ConsoleOptions, ProgressMode
from runner.tags import ANY_TAG, EVERY_TAG, TagFilter, read_tags


class PlayArguments(NamedTuple):
    """The arguments and options, each under the name that click gives it."""

    playbooks: tuple[str, ...]
    is_check: bool
    is_diff: bool
    extra_vars: dict[str, Any]
    limit: str | None
    start_at_step: str | None
    asks: bool
    tags: tuple[str, ...]
    skip_tags: tuple[str, ...]
    list_tags: bool
    list_steps: bool
    list_hosts: bool
    syntax_check: bool
    verbose: int
    quiet: bool
    progress: ProgressMode
    json_path: str | None
    vault: Vault
    workdir: str | None

    def require_consistent(self) -> None:
        """Raise `UsageError` if two of them contradict each other."""
        if self.quiet and self.verbose:
            raise UsageError("--quiet and --verbose contradict each other")

    @property
    def is_listing(self) -> bool:
        """Whether it is only to be said what the playbooks hold."""
        return self.list_steps or self.list_hosts or self.list_tags

    @property
    def selection(self) -> Selection:
        """The steps that are to be carried out."""
        names = tuple(name.strip() for name in self.limit.split(",")) if self.limit is not None else ()
        wanted = read_tags(",".join(self.tags)) or EVERY_TAG.only
        tags = ANY_TAG if self.list_tags else TagFilter(wanted, read_tags(",".join(self.skip_tags)))
        return Selection(names, self.start_at_step, tags)

    @property
    def options(self) -> PlayOptions:
        """How they are carried out."""
        return PlayOptions(self.is_check, self.is_check or self.is_diff or self.verbose > 0, self.is_diff)

    @property
    def console_options(self) -> ConsoleOptions:
        """How much is said of it, and where: a report on standard output has that for itself."""
        stream = sys.stderr if self.json_path == "-" else sys.stdout
        return ConsoleOptions(stream, -1 if self.quiet else self.verbose, self.progress)
