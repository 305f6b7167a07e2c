"""Fixtures of the zoo: each check on each server, and the faults that are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Runner
from tests.zoo.backends import BACKENDS, Backend, Running
from tests.zoo.known_faults import KNOWN_FAULTS, Fault
from tests.zoo.lacks import Product, find_product
from tests.zoo.scene import Scene


@dataclass(slots=True)
class Inhabitant:
    """A server that runs, what it is, and how many checks there were on it."""

    backend: Backend
    running: Running
    product: Product
    numbers: Iterator[int]


def _make_param(backend: Backend) -> object:
    # A server belongs to one worker, so that each is started once.
    return pytest.param(backend, id=backend.name, marks=[pytest.mark.zoo, pytest.mark.xdist_group(backend.name)])


@pytest.fixture(scope="session", params=[_make_param(backend) for backend in BACKENDS])
def inhabitant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inhabitant]:
    """Every server of the zoo in turn."""
    backend: Backend = request.param
    if obstacle := backend.find_obstacle():
        pytest.skip(obstacle)
    with backend.start(tmp_path_factory.mktemp(backend.name)) as running:
        yield Inhabitant(backend, running, find_product(backend.product), itertools.count(1))


@pytest.fixture
def scene(inhabitant: Inhabitant, runner: Runner) -> Scene:
    """A directory of the check's own on that server."""
    return Scene(runner, inhabitant.running, inhabitant.product, next(inhabitant.numbers))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is known to fail is expected to."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("zoo") and (fault := _find_fault(item)):
            item.add_marker(pytest.mark.xfail(strict=fault.is_certain, reason=f"row {fault.row}: {fault.seen}"))


def _find_fault(item: pytest.Function) -> Fault | None:
    server, check = describe(item)
    keys = {(server, check), (server, item.originalname)}
    return next((fault for fault in KNOWN_FAULTS if (fault.server, fault.check) in keys), None)


def describe(item: pytest.Function) -> tuple[str, str]:
    """The server that a check is made on, and the check's name with the parameters that it has besides."""
    callspec = getattr(item, "callspec", None)
    backend = callspec.params.get("inhabitant") if callspec else None
    server = backend.name if isinstance(backend, Backend) else "openssh"
    rest = callspec.id.replace(server, "", 1).strip("-") if callspec else ""
    return server, f"{item.originalname}[{rest}]" if rest else str(item.originalname)
