"""The SSH library's own log, for `-vvv`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runner.redaction import Redactor
from runner.report.text import printable


@contextmanager
def logging_ssh(redactor: Redactor) -> Iterator[None]:
    """Inside the block the SSH library's own log goes to standard error."""

    class RedactingFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            # One line for each record: what a server says at its end would begin the next line.
            return redactor.redact(printable(super().format(record)))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(name)s: %(message)s"))
    logger = logging.getLogger("paramiko")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
