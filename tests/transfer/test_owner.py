"""Who a play's temporary files belong to: what a pipeline keeps from one job to the next."""

from __future__ import annotations

import pytest

from runner.transfer.owner import find_owner

# What each system sets; what is new in each run stands behind.
SYSTEMS = {
    "github": (
        {"GITHUB_REPOSITORY": "acme/shop", "GITHUB_WORKFLOW": "deploy", "GITHUB_JOB": "upload"},
        "GITHUB_RUN_ID",
    ),
    "gitlab": ({"CI_PROJECT_PATH": "acme/shop", "CI_JOB_NAME": "upload"}, "CI_JOB_ID"),
    "gitlab by number": ({"CI_PROJECT_ID": "17", "CI_JOB_NAME": "upload"}, "CI_JOB_ID"),
    "jenkins": ({"JENKINS_URL": "https://ci", "JOB_NAME": "shop/main"}, "BUILD_NUMBER"),
    "azure": ({"SYSTEM_TEAMPROJECT": "shop", "BUILD_DEFINITIONNAME": "deploy"}, "BUILD_BUILDID"),
    "teamcity": ({"TEAMCITY_PROJECT_NAME": "shop", "TEAMCITY_BUILDCONF_NAME": "deploy"}, "BUILD_NUMBER"),
    "buildkite": ({"BUILDKITE_ORGANIZATION_SLUG": "acme", "BUILDKITE_PIPELINE_SLUG": "shop"}, "BUILDKITE_BUILD_ID"),
    "circleci": ({"CIRCLE_PROJECT_REPONAME": "shop", "CIRCLE_JOB": "upload"}, "CIRCLE_BUILD_NUM"),
    "bitbucket": ({"BITBUCKET_REPO_FULL_NAME": "acme/shop"}, "BITBUCKET_BUILD_NUMBER"),
    "drone": ({"DRONE_REPO": "acme/shop", "DRONE_STAGE_NAME": "deploy"}, "DRONE_BUILD_NUMBER"),
    "woodpecker": ({"CI_REPO": "acme/shop", "CI_WORKFLOW_NAME": "deploy"}, "CI_PIPELINE_NUMBER"),
    "travis": ({"TRAVIS_REPO_SLUG": "acme/shop"}, "TRAVIS_BUILD_ID"),
}


def on(monkeypatch: pytest.MonkeyPatch, host: str, uid: int, variables: dict[str, str], explicit: str = "") -> str:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    monkeypatch.setattr("os.getuid", lambda: uid)
    return find_owner(explicit or None, variables)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_pipeline_keeps_its_owner_from_job_to_job(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variables, changing = SYSTEMS[name]
    first = on(monkeypatch, "runner-x1", 1000, {**variables, changing: "1"})

    assert on(monkeypatch, "runner-y2", 1001, {**variables, changing: "2"}) == first
    for key in variables:
        if key != "JENKINS_URL":
            assert on(monkeypatch, "runner-x1", 1000, {**variables, key: "other"}) != first


def test_without_a_pipeline_it_is_the_machine_and_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = on(monkeypatch, "desk", 1000, {"JOB_NAME": "set by anybody"})

    assert on(monkeypatch, "desk", 1000, {}) == mine
    assert on(monkeypatch, "desk", 1001, {}) != mine
    assert on(monkeypatch, "other", 1000, {}) != mine


def test_what_the_playbook_names_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    named = on(monkeypatch, "desk", 1000, {}, "nightly")

    assert on(monkeypatch, "other", 0, SYSTEMS["gitlab"][0], "nightly") == named
    assert on(monkeypatch, "desk", 1000, {}, "hourly") != named
