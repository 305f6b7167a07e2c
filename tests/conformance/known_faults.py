"""What is known to be wrong: strict, so that what works again has to be taken off this list.

`SCENARIOS` has patterns of tests of `test_personalities.py`: each must fail, and one that passes is a failure. `TRIALS` has
patterns of trials of `test_matrix.py`, grouped by kind: what fails and is in none of them is a failure, and a pattern that a
full run (`MATRIX_TRIALS=all pytest tests/conformance`) has not met is reported at its end. `OUT_OF_REACH` is no fault:
nothing that a client could ask would tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.oracle import Violation
    from tests.conformance.trials import TrialName

# The patterns that a run has met.
SEEN: set[str] = set()


@dataclass(frozen=True, slots=True)
class Known:
    """One kind of fault: why, and what shows it."""

    kind: str
    pattern: str

    def fits(self, text: str) -> bool:
        """Whether this is it."""
        return re.fullmatch(self.pattern, text, re.DOTALL) is not None


# The pattern of a test's name, parameters included.
SCENARIOS: tuple[Known, ...] = (
)  # fmt: skip


def _trials(kind: str, violation: str, *, request: str = ".*", oddity: str = ".*", case: str = ".*") -> Known:
    """A kind of fault, by patterns of the parts of a trial's name and the kind of the violation."""
    name = r"\|".join(f"(?:{part})" for part in (case, "[a-z]+", request, "[a-z]+", oddity))
    return Known(kind, f"{name} (?:{violation}): .*")


# What no client could see, unless it reads everything back (`verify: checksum`).
_WORD = "mode|time|false-ok|lost|backup|removed|files_changed"
OUT_OF_REACH: tuple[Known, ...] = (
    _trials("a WRITE that says OK and does nothing leaves zeros of the right size", "false-ok",
            request="WRITE", oddity="ignored", case="(?!.*checksum).*"),
    _trials("of what is told to be missing nobody can know that it is there", _WORD, request="L?STAT", oddity="refused-2"),
    _trials("of what is told to be as it was nobody can know that it is not", _WORD, request="L?STAT", oddity="old-object"),
    _trials("a listing that ends early is a shorter listing", f"listing|{_WORD}", request="READDIR", oddity="refused-1"),
    _trials("a source's size and time are what the server tells", "mode|time|listing",
            request="F?STAT|LSTAT|READDIR", oddity="size.*|time-(0|max)"),
    _trials("a link's target is what the server tells", "false-ok|time",
            request="READLINK", oddity="slash-end|empty-path|two-names"),
)  # fmt: skip

# The most dangerous first.
TRIALS: tuple[Known, ...] = (
)  # fmt: skip


def find_scenario(test_name: str) -> Known | None:
    """Why a test is known to fail."""
    return next((known for known in SCENARIOS if known.fits(test_name)), None)


def find_known(name: TrialName, violation: Violation) -> Known | None:
    """The fault on the list that a violation belongs to."""
    text = f"{name} {violation.kind}: {violation.detail}"
    return next((known for known in TRIALS if known.fits(text)), None)


def is_out_of_reach(name: TrialName, violation: Violation) -> bool:
    """Whether nothing that a client could ask would have told."""
    text = f"{name} {violation.kind}: {violation.detail}"
    return any(known.fits(text) for known in OUT_OF_REACH)
