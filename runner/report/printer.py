"""Where lines go: through the redactor, in colour or not."""

from __future__ import annotations

import os
import shutil
from typing import Literal, TextIO

from runner.redaction import Redactor
from runner.report.text import paint
from runner.values import dataclass

ProgressMode = Literal["auto", "plain", "never"]


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """How much is printed, and where. `verbosity` is -1 for quiet, 0, or the number of `-v`."""

    stream: TextIO
    verbosity: int = 0
    progress: ProgressMode = "auto"

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def is_coloured(self) -> bool:
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or self.is_terminal

    @property
    def columns(self) -> int | None:
        """The width of the terminal; None where lines may be as long as they like."""
        return shutil.get_terminal_size().columns if self.is_terminal else None


class Printer:
    """Prints lines. Nothing secret gets out."""

    def __init__(self, options: ConsoleOptions, redactor: Redactor) -> None:
        self._options = options
        self._redactor = redactor

    def paint(self, text: str, colour: str) -> str:
        """`text` in the colour that stands for a status, where there are colours."""
        return paint(text, colour, is_coloured=self._options.is_coloured)

    def print(self, line: str) -> None:
        """One line out. That a stream breaks (`| head`, a full disk) is its own affair: `cli/standard_streams.py`."""
        self._options.stream.write(self._redactor.redact(line) + "\n")
        self._options.stream.flush()
