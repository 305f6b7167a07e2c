"""What `--check` knows of things that an earlier step would have made, and what it says of those that it cannot know."""

from __future__ import annotations

from runner.remote_files import FileStatus

# What every reason ends with: nobody is to take a skipped step for one that is not wanted.
NOT_CARRIED_OUT = "which --check does not carry out"
# The modes that leave everything as it is.
READING_MODES = frozenset({"list", "stats", "read_file", "wait_for"})


class Unforetold(Exception):
    """What a step would do depends on what only the play will show; its text says on what.

    It is no `StepError`, since nothing has failed: whoever looks for another way after a failure must not find one here.
    """


def needs_what_step_makes(step: str) -> Unforetold:
    """The reason for a step that needs what an earlier one would have made."""
    return Unforetold(f"it needs what {step} would have made, {NOT_CARRIED_OUT}")


class ForetoldStatus(FileStatus):
    """The status of something that an earlier step would have made or changed.

    None is not what a server keeps to itself here, but what only the play will show: the time at which a file is written.
    """

    __slots__ = ()


def require_known(value: int | None, status: FileStatus | None, what: str) -> None:
    """Raise `Unforetold` if a decision rests on what is not known of something that an earlier step would have made."""
    if value is None and isinstance(status, ForetoldStatus):
        raise Unforetold(f"it needs {what} of what an earlier step would have made, {NOT_CARRIED_OUT}")
