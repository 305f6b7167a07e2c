"""Keeps secrets out of everything that is printed or written: they are replaced by value, wherever they turn up."""

from __future__ import annotations

import json
from collections.abc import Iterable

MASK = "********"

# A line of a longer secret (a private key) is masked on its own as well, unless it is so short that it says nothing.
MIN_LINE_LENGTH = 16


class Redactor:
    """Replaces every known secret in a text, also where it is escaped as in JSON or split into its lines."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            forms |= _forms(secret)
        # Longest first, so that a secret which contains another one is masked whole.
        self._forms = sorted(forms, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """`text` without any secret in it."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


def _forms(secret: str) -> set[str]:
    whole = {secret, secret.strip()}
    lines = {line.strip() for line in secret.splitlines() if len(line.strip()) >= MIN_LINE_LENGTH}
    lines = {line for line in lines if not line.startswith("-----")}
    plain = {text for text in whole | lines if text.strip()}
    return plain | {json.dumps(text)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}
