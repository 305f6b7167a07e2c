"""What is loaded while a server is waited for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner.ssh.loading import load_meanwhile, wait_until_loaded


def test_what_is_being_loaded_can_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next connection does, before it loads parts of the same libraries in another thread."""
    (tmp_path / "first_slow_module.py").write_text("import time\ntime.sleep(0.3)\nfinished = True\n")
    (tmp_path / "second_slow_module.py").write_text("import first_slow_module\nfinished = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    load_meanwhile(["first_slow_module", "second_slow_module"])
    assert not getattr(sys.modules.get("first_slow_module"), "finished", False)
    wait_until_loaded()

    assert all(sys.modules[f"{name}_slow_module"].finished for name in ("first", "second"))
