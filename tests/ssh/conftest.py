"""Fixtures of the SSH tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def home(_isolated_environment: None) -> Path:
    """The test's own HOME, empty."""
    return Path(os.environ["HOME"])
