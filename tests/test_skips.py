"""In CI nothing is skipped but what may be: a skip with another reason is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import is_allowed

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="this file system has no such time")
def test_one(): ...

def test_other():
    pytest.skip("openssh-server is not installed")
"""


@pytest.mark.parametrize(
    ("reason", "is_root", "allowed"),
    [
        ("only root can mount a file system", False, True),
        ("only root can mount a file system", True, False),
        ("only an ordinary user is kept out: root may write everywhere", True, True),
        ("only an ordinary user is kept out: root may write everywhere", False, False),
        ("this ssh-keygen makes no DSA keys any more", True, True),
        ("openssh-server is not installed", False, False),
        ("no sshd on this machine", True, False),
    ],
)
def test_reasons(reason: str, is_root: bool, allowed: bool) -> None:
    assert is_allowed(reason, is_root=is_root) is allowed


@pytest.mark.parametrize(("ci", "summary"), [("true", "1 failed, 1 skipped"), ("", "2 skipped")])
def test_a_skip_that_is_not_allowed_fails_in_ci(tmp_path: Path, ci: str, summary: str) -> None:
    (tmp_path / "conftest.py").write_text("from tests.skips import pytest_runtest_makereport\n__all__ = []\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path), "-c",
         "/dev/null", "test_it.py"],
        cwd=tmp_path, env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert summary in done.stdout, done.stdout + done.stderr
    assert ("openssh-server is not installed" in done.stdout) == (ci == "true")
