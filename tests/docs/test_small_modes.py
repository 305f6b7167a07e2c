"""The examples of the small modes in playbook.md are played as they stand, with --check first, and a second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.playbook import document
from tests.conftest import Runner, connection
from tests.docs.test_docs import ALL_BLOCKS, Block
from tests.servers.asyncssh_server import AsyncsshServer

MODE_NAMES = ("write_file", "read_file", "create_link", "wait_for")


def mode_of(block: Block) -> dict[str, Any]:
    """The mode that a block shows; nothing if it shows none."""
    if block.page.name != "playbook.md" or block.marker != "fragment of a step":
        return {}
    data = document.parse(block.text, str(block))
    mode = data.get("mode") if isinstance(data, dict) else None
    return mode if isinstance(mode, dict) else {}


EXAMPLES = [
    (block, mode)
    for block in ALL_BLOCKS
    if (mode := mode_of(block)).get("mode_name") in MODE_NAMES or "destination_location" in mode
]


def test_there_is_an_example_of_each() -> None:
    assert {mode["mode_name"] for _, mode in EXAMPLES} == {*MODE_NAMES, "copy_file_to_engine"}


@pytest.mark.parametrize(("block", "mode"), EXAMPLES, ids=lambda value: str(value) if isinstance(value, Block) else "")
def test_an_example_plays_as_it_stands(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, block: Block, mode: dict[str, Any]
) -> None:
    (remote / "outbox").mkdir()
    for name in ("a.csv", "b.csv", "report.csv", "manifest.json"):
        (remote / "outbox" / name).write_text("{}")
    step = {**connection(asyncssh_server), "mode": json.loads(json.dumps(mode))}

    for arguments in (["--check"], [], []):
        outcome = runner.play([step], *arguments)
        assert outcome.exit_code == 0, f"{block}: {outcome.output}"
    assert outcome.statuses == ["changed" if mode.get("compare") == "always" else "ok"]
