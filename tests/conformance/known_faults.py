"""What is known to be wrong: strict, so that what works again has to be taken off this list.

`SCENARIOS` names tests of `test_personalities.py`: each must fail, and one that passes is a failure. `TRIALS` has patterns
of trials of `test_matrix.py`, grouped by kind: what fails and is in none of them is a failure, and a pattern that a full
run (`MATRIX_TRIALS=all pytest tests/conformance`) has not met is reported at its end. `OUT_OF_REACH` is no fault: nothing
that a client could ask would tell.
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
    """One kind of fault: why, and which trials and violations it is. The pattern is matched with `TRIAL VIOLATION: …`."""

    kind: str
    pattern: str

    def fits(self, name: TrialName, violation: Violation) -> bool:
        """Whether this is it."""
        return re.match(self.pattern, f"{name} {violation.kind}: {violation.detail}", re.DOTALL) is not None


SCENARIOS: dict[str, str] = {}

OUT_OF_REACH: tuple[Known, ...] = ()

TRIALS: tuple[Known, ...] = ()


def find_known(name: TrialName, violation: Violation) -> Known | None:
    """The fault on the list that a violation belongs to."""
    return next((known for known in TRIALS if known.fits(name, violation)), None)


def is_out_of_reach(name: TrialName, violation: Violation) -> bool:
    """Whether nothing that a client could ask would have told."""
    return any(known.fits(name, violation) for known in OUT_OF_REACH)
