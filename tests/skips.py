"""Which tests may be skipped where it counts: with CI=true a skip that is not allowed here is a failure.

A test that needs root says so: its reason begins with "only root ". Ordinary users may skip it, root may not. What only an
ordinary user meets begins with "only an ordinary user ", and is the other way round. The suite is run as both.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

ONLY_ROOT = "only root "
ONLY_OTHERS = "only an ordinary user "
# What no installation could change: it lies in the file system, or in the version of OpenSSH.
ANYWHERE = (
    "this file system has no such time",
    "this file system does not hold such times",
    "this ssh-keygen makes no DSA keys any more",
    # What it gives for each expression stands in the table, which ours is held to in any case.
    "the table was made with another ansible-core",
)


def is_allowed(reason: str, *, is_root: bool) -> bool:
    """Whether a test may be skipped for this reason in CI."""
    return reason in ANYWHERE or reason.startswith(ONLY_OTHERS if is_root else ONLY_ROOT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of each skip that is not allowed."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not is_allowed(reason, is_root=os.geteuid() == 0):
            report.outcome = "failed"
            report.longrepr = f"skipped, and with CI=true nothing required may be: {reason}"
    return report
