"""docs/servers.md, made of the table: `python -m tests.zoo.page` writes it, tests/docs/test_docs.py compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.zoo.capabilities import Capability
from tests.zoo.lacks import PRODUCTS, Product

PAGE = Path(__file__).resolve().parents[2] / "docs" / "servers.md"

_INTRODUCTION = """\
# Servers

What other products than OpenSSH's server can do, and what to set in a playbook for them. Written by `make servers-page`
from a table that `make test-zoo` holds to the servers themselves: it starts each of them on loopback, tries each
capability by single requests, and then plays files and directories in both directions against it. What a server has and
is said to lack fails there, and so does the other way round.

| a server of the zoo | has |
|---|---|"""


def make_page() -> str:
    """The whole text of the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for product in PRODUCTS:
        link = f"[{product.title}](#{_anchor(product.title)})"
        yield f"| {link} | {_summary(product)} |"
    yield "\n## What is tried\n"
    yield from _bullets(f"**{capability.title}**: {capability.meaning}" for capability in Capability)
    for product in PRODUCTS:
        yield from _section(product)


def _summary(product: Product) -> str:
    if not product.lacks:
        return "everything"
    return f"{len(Capability) - len(product.lacks)} of {len(Capability)}"


def _section(product: Product) -> Iterator[str]:
    yield f"\n## {product.title}\n"
    yield product.about
    if not product.lacks:
        yield "\nIt lacks none of this."
        return
    yield "\n| it lacks | so that | what to set |\n|---|---|---|"
    for lack in sorted(product.lacks, key=lambda lack: list(Capability).index(lack.capability)):
        yield f"| {lack.capability.title} | {lack.does} | {lack.advice} |"


def _bullets(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        yield f"- {text}"


def _anchor(title: str) -> str:
    """As GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
