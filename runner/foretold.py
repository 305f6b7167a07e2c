"""What `--check` says of a step that it cannot foretell."""

from __future__ import annotations

# What every reason ends with: nobody is to take a skipped step for one that is not wanted.
NOT_CARRIED_OUT = "which --check does not carry out"
# The modes that leave everything as it is.
READING_MODES = frozenset({"list", "stats", "read_file", "wait_for"})


class Unforetold(Exception):
    """What a step would do depends on what only the play will show; its text says on what.

    It is not a `StepError`, since nothing has failed: code that tries another way after a failure must not catch it.
    """


def needs_what_step_makes(step: str) -> Unforetold:
    """The reason for a step that needs what an earlier one would have made."""
    return Unforetold(f"it needs what {step} would have made, {NOT_CARRIED_OUT}")
