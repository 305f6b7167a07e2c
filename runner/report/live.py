"""The moving progress line of a terminal. The only user of rich, which is imported for terminals alone."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from runner.events import TransferProgress
from runner.redaction import Redactor
from runner.report.text import format_rate, printable


class _RateColumn(ProgressColumn):
    """Bytes a second, in the units of everything else we print."""

    def render(self, task: Task) -> Text:
        return Text(format_rate(task.completed, task.elapsed or 0.0))


class LiveProgress:
    """One line that shows bytes, rate and time left of the copy under way, and leaves no trace."""

    def __init__(self, stream: TextIO, redactor: Redactor) -> None:
        self._redactor = redactor
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            console=RichConsole(file=stream, highlight=False, markup=False, emoji=False),
            transient=True,
            # The bar must not capture what else the program prints.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._step_index: int | None = None

    def update(self, event: TransferProgress) -> None:
        """Show how far the copy is."""
        if self._step_index != event.step.index:
            self.clear()
            self._step_index = event.step.index
            # Masked before they are cut: what is left of a secret would not be found.
            name, host = (self._redactor.redact(printable(text)) for text in (event.step.name, event.step.host_label))
            label = Text(f"{name[:40]} [{host[:20]}]").plain
            self._progress.add_task(label, total=event.total_bytes)
            self._progress.start()
        self._progress.update(
            self._progress.tasks[-1].id, completed=event.done_bytes, total=max(event.total_bytes, event.done_bytes)
        )

    def clear(self) -> None:
        """Take the line away, so that others can be printed."""
        self._progress.stop()
        for task in self._progress.tasks:
            self._progress.remove_task(task.id)
        self._step_index = None

    def close(self) -> None:
        """Take the line away for good, and give the cursor back."""
        self.clear()
