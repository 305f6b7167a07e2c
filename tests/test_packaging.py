"""Wheel, source distribution, editable install and bare checkout: each finds its schemas and plays the demo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runner._version import VERSION

# Python 3.11.2, Debian's, has no filters yet; later ones warn without one.
TRUSTED: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}

CHECKOUT = Path(__file__).parent.parent
IGNORED = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "tests")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A command's output; its failure fails the test."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, so that building leaves nothing in the real one."""
    folder = tmp_path_factory.mktemp("copy") / "checkout"
    shutil.copytree(CHECKOUT, folder, ignore=IGNORED)
    return folder


def build(kind: str, checkout: Path, into: Path) -> Path:
    """Build a wheel or an sdist with the installed setuptools."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(into)!r}))"
    return into / run(sys.executable, "-c", code, cwd=checkout).splitlines()[-1]


def assert_works(*command: str | Path, cwd: Path, **environment: str) -> None:
    """The command knows its version and its schemas, and plays the demo."""
    assert run(*command, "--version", cwd=cwd, **environment).strip().endswith(VERSION)
    for name in ("playbook", "connector", "report"):
        assert json.loads(run(*command, "schema", name, cwd=cwd, **environment))["$id"].endswith(f"/{name}.schema.json")
    assert "Everything as it should be" in run(*command, "demo", cwd=cwd, **environment)


def test_wheel(checkout: Path, tmp_path: Path) -> None:
    wheel = build("wheel", checkout, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = archive.namelist()

    assert wheel.name == f"ssh_transfer_runner-{VERSION}-py3-none-any.whl"
    assert not [name for name in names if not name.startswith(("runner/", "ssh_transfer_runner-"))]
    assert_works(sys.executable, "-m", "runner", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))


def test_sdist(checkout: Path, tmp_path: Path) -> None:
    sdist = build("sdist", checkout, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **TRUSTED)
    wheel = build("wheel", tmp_path / f"ssh_transfer_runner-{VERSION}", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")

    assert_works(sys.executable, "-m", "runner", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))


def test_editable_install(checkout: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # The dependencies are those of the environment that runs the tests.
    own_site = Path(
        run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "dependencies.pth").write_text(f"{own_site}\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet")
    run(
        *pip, "install", "--no-deps", "--no-build-isolation", "--ignore-installed", "--editable", checkout, cwd=tmp_path
    )

    where = run(python, "-c", "import runner; print(runner.__file__)", cwd=tmp_path).strip()

    assert Path(where).is_relative_to(checkout)
    assert_works(tmp_path / "venv/bin/runner", cwd=tmp_path)


def test_bare_checkout(checkout: Path) -> None:
    assert_works(sys.executable, "-m", "runner", cwd=checkout)
