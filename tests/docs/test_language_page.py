"""Every example of docs/language.md is played, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import Runner, connection
from tests.docs.test_docs import ALL_BLOCKS, Block, docs
from tests.servers.asyncssh_server import AsyncsshServer

EXAMPLES = [block for block in ALL_BLOCKS if block.page == docs("language.md") and block.marker == "steps"]

LOCAL = {
    "out/payments.xml": "payments",
    "out/rates.csv": "rates",
    "out/alert.txt": "alert",
    "common/announce.yaml": "vars: {what: nothing}\nsteps:\n- debug: {msg: 'about {{ what }}'}\n",
}
REMOTE = {
    "inbox/rates.csv": "old rates",
    "outbox/yesterday.csv": "yesterday",
    **{f"archive/1.{number}/release": str(number) for number in range(4)},
}
# What is said in the end, where an example is there to show that.
SAID = {
    "Keep the last two": "2 removed",
    "Leave an alert": "the source",
    "announce.yaml": "about payments",
    "newest release": "the newest release is archive/1.3",
    "Say what is sent": "2 of 2: rates.csv",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 12


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
@pytest.mark.parametrize("is_check", [False, True], ids=["play", "check"])
def test_an_example_plays(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, block: Block, is_check: bool
) -> None:
    write(runner.folder, LOCAL)
    write(remote, REMOTE)
    (remote / "inbox").mkdir(exist_ok=True)
    steps = YAML(typ="safe", pure=True).load(block.text)

    connections = {"bank": connection(asyncssh_server)}
    outcome = runner.play({"connections": connections, "steps": steps}, *(["--check"] if is_check else []))

    assert outcome.exit_code == 0, outcome.output
    said = next((words for start, words in SAID.items() if start in block.text), "")
    messages = " ".join(step["message"] for step in outcome.report["steps"])
    assert said in messages, messages


def test_the_block_s_example_leaves_what_it_says(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    write(runner.folder, LOCAL)
    write(remote, REMOTE)
    (block,) = (one for one in EXAMPLES if "Leave an alert" in one.text)

    steps = YAML(typ="safe", pure=True).load(block.text)
    outcome = runner.play({"connections": {"bank": connection(asyncssh_server)}, "steps": steps})

    assert outcome.statuses == ["changed", "failed", "skipped", "changed", "ok", "changed"]
    assert (remote / "inbox/ALERT").read_text() == "alert"
    assert (remote / "inbox/rates.csv").read_text() == "old rates"
    assert not (remote / "inbox/.lock").exists()
