"""One mode on one server, played with --check, in earnest, and again: what the fixture `play` gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import Outcome, Runner, connection
from tests.servers.endpoint import Endpoint
from tests.transfer.trees import picture


class Operation:
    """One mode, played on one server, whose files lie below `remote`."""

    def __init__(self, runner: Runner, server: Endpoint, remote: Path) -> None:
        self.runner, self.server, self.remote = runner, server, remote

    def __call__(self, name: str, *arguments: str, **fields: Any) -> Outcome:
        mode = {"mode_name": name, **{key: _plain(value) for key, value in fields.items()}}
        return self.runner.play([{**connection(self.server), "mode": mode}], *arguments)

    def well(self, name: str, *arguments: str, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Play, which must succeed: status and result."""
        outcome = self(name, *arguments, **fields)
        assert outcome.exit_code == 0, outcome.output
        return outcome.step["status"], outcome.step["result"]

    def foretold(self, name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Play with --check, which changes nothing; then in earnest, which ends as was said; then again, which is ok."""
        before = picture(self.remote)
        said = self.well(name, "--check", **fields)
        assert picture(self.remote) == before
        done = self.well(name, **fields)
        assert (done[0], {**done[1], "atomic": None}) == (said[0], {**said[1], "atomic": None})
        after = picture(self.remote)
        assert self.well(name, **fields)[0] == "ok"
        assert picture(self.remote) == after
        return done

    def failed(self, error_type: str, *words: str, exit_code: int = 2, name: str, **fields: Any) -> None:
        """Play, which fails as it should, with --check too, and changes nothing."""
        before = picture(self.remote)
        for arguments in (["--check"], []):
            outcome = self(name, *arguments, **fields)
            assert outcome.exit_code == exit_code, outcome.output
            error = outcome.step["error"]
            assert error["type"] == error_type, error
            for word in words:
                assert word in error["message"] + " " + error["hint"], error
            assert error["hint"]
            assert "Traceback" not in outcome.output
        assert picture(self.remote) == before


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
