"""What could not be done for many paths, in one message that can be read."""

from __future__ import annotations

from runner.errors import FileRefused
from runner.transfer.failures import join_hints, tell_failures


def test_each_reason_is_told_before_one_is_repeated() -> None:
    failures = [(f"a/{number}", FileRefused(f"cannot write 'a/{number}'", hint="Make room.")) for number in range(9)]
    failures.append(("b", FileRefused("cannot list 'b'", hint="Ask.")))

    assert tell_failures(failures, 10).startswith("a/0: cannot write 'a/0'; b: cannot list 'b'; a/1")
    assert tell_failures(failures, 10).endswith("; and 5 more")
    assert join_hints(failures, "") == "Make room. Ask."


def test_long_refusals_do_not_make_an_endless_message() -> None:
    failures = [(f"a/{number}", FileRefused(f"cannot write '{'x' * 400}'", hint="")) for number in range(9)]

    assert len(tell_failures(failures, 9)) < 1100
    assert tell_failures(failures, 9).endswith("more")
    assert join_hints(failures, "Play again.") == "Play again."
