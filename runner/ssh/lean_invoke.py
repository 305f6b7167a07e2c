"""Has invoke imported, which fabric and paramiko rest on, without the two of its needs that the runner never has.

Starting up is most of what a small copy costs. invoke loads `unittest.mock`, and with it asyncio, for a test double, and
a YAML parser for configuration files that the runner forbids it to read: together a third of `import fabric`. Here the
first gets a stand-in while invoke is imported, the second is loaded when somebody uses it. Imported by the package
itself, so that it comes before everything else in it: this module loads nothing, it says how invoke is loaded.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INVOKE = "invoke"
MOCK = "unittest.mock"
YAML = "invoke.vendor.yaml"


@contextmanager
def _without_mock() -> Iterator[None]:
    """Inside the block `from unittest.mock import Mock` costs nothing, and gives nothing that works."""
    if MOCK in sys.modules:
        yield
        return
    stand_in = types.ModuleType(MOCK)
    stand_in.__dict__["Mock"] = type("Mock", (), {"__doc__": "Stands for a test double that is never made."})
    sys.modules[MOCK] = stand_in
    try:
        yield
    finally:
        # Whoever wants the real one later gets it.
        del sys.modules[MOCK]


class _WithoutMock(importlib.machinery.SourceFileLoader):
    """Loads a module in whose making the test double is not needed."""

    def exec_module(self, module: types.ModuleType) -> None:
        with _without_mock():
            super().exec_module(module)


class _LeanFinder:
    """Finds invoke, and its YAML parser, whose loading is put off to the first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in (INVOKE, YAML):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            loader = spec.loader
            spec.loader = (
                _WithoutMock(loader.name, loader.path) if name == INVOKE else importlib.util.LazyLoader(loader)
            )
        return spec


sys.meta_path.insert(0, _LeanFinder)
