"""What a step of the transfer policy needs beside its own description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from runner.cancellation import Cancellation
from runner.remote_files import RemoteFiles, RemoteReader
from runner.results import Change
from runner.transfer.journal import Journal
from runner.transfer.left_behind import LeftBehind
from runner.transfer.local_folders import LocalFolder
from runner.transfer.memory import Memory

if TYPE_CHECKING:
    from runner.transfer.foretold.disk import ForetoldDisk
    from runner.transfer.foretold.effects import StepEffects

# How long a server gets to remove a temporary file after a failure or a signal, and to finish a rename after a signal.
# Together well below the ten seconds that containers have between SIGTERM and SIGKILL.
CLEAN_UP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CopyContext:
    """What a copy needs beside its own description. `on_progress` gets done and total bytes.

    `open_local_folder` opens a folder that a download writes into; without it links on the way there are followed, but
    for those that the `memory` knows as received. `step` is what later messages call the step. With `is_check` the server is
    only read, and what the step would change is noted as `effects`.
    """

    remote: RemoteReader
    peer: str
    is_check: bool
    on_progress: Callable[[int, int], None]
    cancellation: Cancellation
    # Told of every change before it is made; None if there is no listener. With `is_diff` small texts are compared.
    on_change: Callable[[Change], None] | None = None
    is_diff: bool = False
    # Whose the temporary files are: what one play leaves, the next one of the same owner goes on with or clears away.
    owner: str = ""
    open_local_folder: Callable[[str], LocalFolder] | None = None
    memory: Memory = field(default_factory=Memory)
    step: str = "an earlier step"
    # What earlier attempts at the step have done; None if there is only one attempt.
    journal: Journal | None = None
    # What the step may leave behind.
    left: LeftBehind = field(default_factory=LeftBehind)
    # A fresh session in the place of one that was closed; None if no other can be had.
    reconnect: Callable[[], RemoteFiles] | None = None
    # With --check: what the step would change, for the steps behind it; None where these are not foretold.
    effects: StepEffects | None = None

    @property
    def writer(self) -> RemoteFiles:
        """The same server, to be changed. With --check there is none, and to ask for it is a bug."""
        if self.is_check:
            raise AssertionError("--check must change nothing, but was to ask for what can")
        return cast(RemoteFiles, self.remote)

    @property
    def disk(self) -> ForetoldDisk | None:
        """The local files as earlier steps of a check would have left them; None if they are as they really are."""
        return None if self.effects is None or self.effects.disk.is_empty else self.effects.disk

    def tell(self, change: Change) -> None:
        """Something is about to be changed."""
        if self.on_change is not None:
            self.on_change(change)
