"""The table is true: what a server has it has, and what it lacks it lacks still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.zoo.capabilities import PROBES, Capability, Place
from tests.zoo.conftest import Inhabitant
from tests.zoo.raw_client import RawClient


@pytest.fixture(scope="session")
def client(inhabitant: Inhabitant) -> Iterator[RawClient]:
    """One session for all that is tried on a server."""
    with RawClient(inhabitant.running.server) as client:
        yield client


@pytest.mark.parametrize("capability", list(Capability), ids=lambda capability: capability.name.lower())
def test_a_capability_is_as_the_table_says(inhabitant: Inhabitant, client: RawClient, capability: Capability) -> None:
    name = f"probe {next(inhabitant.numbers)}"
    disk = inhabitant.running.disk / name
    disk.mkdir()

    has_it = PROBES[capability](client, Place(disk, f"{inhabitant.running.name}/{name}".encode()))

    for path in inhabitant.running.login.iterdir():
        path.unlink()  # a link that was asked for in the wrong order
    if inhabitant.product.has(capability):
        assert has_it, f"the table says that {inhabitant.product.title} has {capability.title}"
    else:
        assert not has_it, f"the table says that {inhabitant.product.title} lacks {capability.title}, and it has it"
