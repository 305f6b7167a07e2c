"""What files hold that earlier steps would have made: where it can be read before they are."""

from __future__ import annotations

from typing import NamedTuple

from runner.plan import Endpoint


class Written(NamedTuple):
    """What the playbook itself says that a file holds."""

    data: bytes


class Stored(NamedTuple):
    """What is in a file that is really there; `host` is None for this machine."""

    host: Endpoint | None
    path: str


Content = Written | Stored
