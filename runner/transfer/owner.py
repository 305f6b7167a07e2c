"""Whose temporary and partial files are whose: what stays the same from one play to the next, also in CI.

A CI system gives each job another host name, process number and working directory, but keeps the names of the project and
of the job.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import NamedTuple


class _CiSystem(NamedTuple):
    """The variables that name a project and a job. All of `needed` must be set; `more` narrow it down where they are."""

    name: str
    needed: tuple[str, ...]
    more: tuple[str, ...] = ()


# Sources: each system's page on predefined variables. Gitea and Forgejo set GitHub's. What changes from run to run
# (numbers of builds, commits, runners) must not be here.
_CI_SYSTEMS = (
    _CiSystem("github", ("GITHUB_REPOSITORY", "GITHUB_WORKFLOW"), ("GITHUB_JOB",)),
    _CiSystem("gitlab", ("CI_PROJECT_PATH", "CI_JOB_NAME")),
    _CiSystem("gitlab", ("CI_PROJECT_ID", "CI_JOB_NAME")),
    _CiSystem("jenkins", ("JENKINS_URL", "JOB_NAME"), ("STAGE_NAME",)),
    _CiSystem("azure", ("SYSTEM_TEAMPROJECT", "BUILD_DEFINITIONNAME"), ("SYSTEM_JOBNAME",)),
    _CiSystem("teamcity", ("TEAMCITY_PROJECT_NAME", "TEAMCITY_BUILDCONF_NAME")),
    _CiSystem("buildkite", ("BUILDKITE_PIPELINE_SLUG",), ("BUILDKITE_ORGANIZATION_SLUG", "BUILDKITE_STEP_KEY")),
    _CiSystem("circleci", ("CIRCLE_PROJECT_REPONAME", "CIRCLE_JOB"), ("CIRCLE_PROJECT_USERNAME",)),
    _CiSystem("bitbucket", ("BITBUCKET_REPO_FULL_NAME",), ("BITBUCKET_PIPELINE_NAME", "BITBUCKET_STEP_NAME")),
    _CiSystem("drone", ("DRONE_REPO",), ("DRONE_STAGE_NAME", "DRONE_STEP_NAME")),
    _CiSystem("woodpecker", ("CI_REPO", "CI_WORKFLOW_NAME"), ("CI_STEP_NAME",)),
    _CiSystem("travis", ("TRAVIS_REPO_SLUG",), ("TRAVIS_JOB_NAME",)),
)


def find_owner(explicit: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The owner that a playbook names; else the CI system's project and job; else this machine and its user."""
    if explicit:
        return f"owner:{explicit}"
    for system in _CI_SYSTEMS:
        if all(environment.get(name) for name in system.needed):
            parts = [environment.get(name, "") for name in (*system.needed, *system.more)]
            return "\0".join((system.name, *parts))
    return f"{socket.gethostname()}\0{os.getuid()}"
