"""Foretells a step of `--check`: what it would do, after what the steps before it would have done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from runner.errors import SafetyLimitHeld, SourceMissing, TreeIncomplete
from runner.foretold import NOT_CARRIED_OUT, Unforetold
from runner.operation_results import Unknown
from runner.plan import CopyDirectory, Mode, Step
from runner.results import Output
from runner.transfer.context import CopyContext
from runner.transfer.foretold.disk import ForetoldDisk
from runner.transfer.foretold.effects import StepEffects
from runner.transfer.foretold.files import Foretold
from runner.transfer.foretold.reader import ForetoldReader

# Does what a mode says.
Act = Callable[[Mode, CopyContext], Output]


def foretell(step: Step, mode: Mode, context: CopyContext, act: Act) -> Output:
    """What a step would do; it is remembered for later steps, unless it would fail. Nothing is changed.

    `act` would do it, and is given a server that can only be read. Raises what it raises, as far as that can be known. What
    depends on what only the play will show is an output that says so, and is not known to later steps either.
    """
    # Without --check it is `check_mode: true`: what is foretold then never comes to be.
    foretold = context.memory.foretold if context.memory.foretold is not None else Foretold()
    files = foretold.files_of(step.endpoint)
    reader = ForetoldReader(context.remote, step.endpoint, files, context.cancellation.check)
    effects = StepEffects(f"step {step.index}", reader, ForetoldDisk(foretold.disk))
    context = replace(context, remote=reader, effects=effects)
    try:
        return _foretell(mode, context, act, effects, foretold.pathless_step)
    except Unforetold as reason:
        effects.lose(mode)
        return Unknown(message=str(reason))


def _foretell(mode: Mode, context: CopyContext, act: Act, effects: StepEffects, pathless_step: str) -> Output:
    try:
        output = act(mode, context)
    except SourceMissing as error:
        if pathless_step:
            raise Unforetold(f"{error.message}, unless {pathless_step} makes it, {NOT_CARRIED_OUT}") from error
        raise
    except (TreeIncomplete, SafetyLimitHeld):
        if isinstance(mode, CopyDirectory):
            # The rest of the tree would be done.
            effects.apply()
        else:
            effects.lose(mode)
        raise
    effects.apply()
    return output
