"""What came out of a mode that copies nothing. Apart from `results.py`, since only a play that has such steps loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.plan import Encoding, WaitState
from runner.results import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """What the outputs of the modes that copy nothing have in common."""

    message: str
    is_change: bool = False
    warnings: tuple[str, ...] = ()
    size_bytes: int | None = None
    entries: tuple[Entry, ...] = ()

    skipped = False
    is_unknown = False
    bytes_transferred = 0
    proof = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(OperationResult):
    """What is in a folder, in the order of the paths' bytes."""

    path: str

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {**self.own_facts(), "entries": [entry.facts() for entry in self.entries]}

    def own_facts(self) -> dict[str, Any]:
        """The connector's output without the entries, of which there may be very many."""
        return {"path": self.path}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(OperationResult):
    """What is at a path; None if nothing is."""

    path: str
    entry: Entry | None

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        found = self.entry.facts() if self.entry else {"path": self.path}
        return {"exists": self.entry is not None, **found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal(OperationResult):
    """How many files, links and folders were removed."""

    path: str
    removed: int

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {"path": self.path, "removed": self.removed, "warnings": list(self.warnings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming(OperationResult):
    """A path that has got another name. `atomic`: what was there was replaced in one step; None if nothing was renamed."""

    source: str
    destination: str
    atomic: bool | None = None

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {
            "source": self.source,
            "destination": self.destination,
            "atomic": self.atomic,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderCreation(OperationResult):
    """The folders that were made, outermost first."""

    path: str
    created: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {"path": self.path, "created": list(self.created), "warnings": list(self.warnings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(OperationResult):
    """What a file holds: its text, or its bytes as base64."""

    source: str
    content: str = field(repr=False)
    encoding: Encoding
    sha256: str

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {
            "source": self.source,
            "content": self.content,
            "encoding": self.encoding,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCreation(OperationResult):
    """A symbolic link. `previous_target` is where it led before; None if it was not there, or the server does not tell.

    `atomic`: it was made, or switched, in one step; None if nothing was done.
    """

    path: str
    target: str
    previous_target: str | None = None
    atomic: bool | None = None

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {
            "path": self.path,
            "target": self.target,
            "previous_target": self.previous_target,
            "atomic": self.atomic,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(OperationResult):
    """What was there when the waiting ended. `met`: it was as the step wants it, which with --check it need not be."""

    path: str
    state: WaitState
    met: bool
    waited_seconds: float

    def facts(self) -> dict[str, Any]:
        """The connector's output."""
        return {**self.own_facts(), "entries": [entry.facts() for entry in self.entries]}

    def own_facts(self) -> dict[str, Any]:
        """The connector's output without the entries, of which there may be very many."""
        return {
            "path": self.path,
            "state": self.state,
            "met": self.met,
            "waited_seconds": round(self.waited_seconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(OperationResult):
    """What --check cannot foretell: the message says why. It is no result."""

    skipped = True
    is_unknown = True

    def facts(self) -> dict[str, Any]:
        """There are none."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOutput(OperationResult):
    """What a step came to that contacts no host. `values` are facts, or what `debug` shows, by name."""

    values: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What the report has of it."""
        return dict(self.told)
