"""Has fabric's ground imported without what the runner never needs of it: start-up is most of what a small copy costs.

invoke loads `unittest.mock`, and with it asyncio, for a test double, and a YAML parser for configuration files that the
runner forbids it to read. paramiko loads the standard library's reader of package metadata, and with it its mail parser,
for the version in a banner that the runner replaces. Together that is half of `import fabric`. The first and the last get a
stand-in while the package that wants them is imported, the parser is loaded when somebody uses it. Imported by the
package itself, so that it comes before everything else in it: this module loads nothing, it says how others are loaded.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INVOKE, PARAMIKO, YAML = "invoke", "paramiko", "invoke.vendor.yaml"
MOCK, METADATA = "unittest.mock", "importlib.metadata"


def _stand_in_for_mock() -> types.ModuleType:
    """`from unittest.mock import Mock` costs nothing, and gives nothing that works."""
    stand_in = types.ModuleType(MOCK)
    stand_in.__dict__["Mock"] = type("Mock", (), {"__doc__": "Stands for a test double that is never made."})
    return stand_in


def _stand_in_for_metadata() -> types.ModuleType:
    """Knows paramiko's version, and gets everything else from the real one."""
    stand_in = types.ModuleType(METADATA)
    stand_in.__dict__.update(version=_find_version, __getattr__=lambda name: getattr(_real_metadata(), name))
    return stand_in


def _find_version(name: str) -> str:
    """The version by the name of the folder that an installer leaves beside a package."""
    spec = importlib.machinery.PathFinder.find_spec(name)
    if spec is not None and spec.origin is not None:
        folder = os.path.dirname(os.path.dirname(spec.origin))
        start, end = f"{name}-", ".dist-info"
        found = [entry for entry in os.listdir(folder) if entry.startswith(start) and entry.endswith(end)]
        if len(found) == 1:
            return found[0][len(start) : -len(end)]
    return str(_real_metadata().version(name))


def _real_metadata() -> Any:
    stand_in = sys.modules.pop(METADATA, None)
    try:
        return importlib.import_module(METADATA)
    finally:
        if stand_in is not None:
            sys.modules[METADATA] = stand_in


# What gets a stand-in while a package is imported.
_STAND_INS: dict[str, tuple[str, Callable[[], types.ModuleType]]] = {
    INVOKE: (MOCK, _stand_in_for_mock),
    PARAMIKO: (METADATA, _stand_in_for_metadata),
}


@contextmanager
def _without(name: str, make_stand_in: Callable[[], types.ModuleType]) -> Iterator[None]:
    """Inside the block an import of the module finds the stand-in, unless the real one is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = make_stand_in()
    try:
        yield
    finally:
        # Whoever wants the real one later gets it.
        del sys.modules[name]


class _LeanLoader(importlib.machinery.SourceFileLoader):
    """Loads a package in whose making something is not needed."""

    def exec_module(self, module: types.ModuleType) -> None:
        with _without(*_STAND_INS[self.name]):
            super().exec_module(module)


class _LeanFinder:
    """Finds those packages, and invoke's YAML parser, whose loading is put off to the first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _STAND_INS and name != YAML:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            loader = spec.loader
            spec.loader = importlib.util.LazyLoader(loader) if name == YAML else _LeanLoader(loader.name, loader.path)
        return spec


sys.meta_path.insert(0, _LeanFinder)
