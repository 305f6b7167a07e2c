"""`runner demo`: the whole thing on this machine, in a few seconds."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from runner.cli.main import run
from runner.errors import RunnerError, UsageError
from runner.resources import playbook_path

RELEASE_BYTES = 8 * 1024 * 1024
EXIT_HOST_KEY_REFUSED = 5


class DemoFailed(RunnerError):
    """The demo did not show what it promises."""


@click.command("demo", short_help="Play a playbook against an SSH server on this machine.")
def command() -> int:
    """Play a playbook against an SSH server on this machine.

    Starts a server on loopback with keys made for the occasion, uploads a file, downloads another one, plays again to
    show that nothing changes, and swaps the server's host key to show that it is refused. Leaves nothing behind.
    """
    try:
        from runner.demo.server import DemoKeys, DemoServer
    except ModuleNotFoundError as error:
        raise UsageError(
            "the demo needs asyncssh for its server", hint="pip install 'ssh-transfer-runner[demo]'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="runner-demo-") as name:
        stage = _Stage.set_up(Path(name))
        keys = DemoKeys.generate()
        keys.write_client_key(stage.key_path)
        with DemoServer(stage.server_folder, keys) as server:
            stage.known_hosts_path.write_text(keys.known_hosts_line(server.port), encoding="utf-8")
            port = server.port
            _announce("An upload and a download")
            _expect(stage.play(port), 0, "the first play")
            stage.compare_files()
            _announce("The same again: nothing to do")
            _expect(stage.play(port), 0, "the second play")
        _announce("The same server with another host key: refused, before any credential is sent")
        with DemoServer(stage.server_folder, DemoKeys.generate(), port):
            _expect(stage.play(port), EXIT_HOST_KEY_REFUSED, "the play against another key")
    _announce("Everything as it should be. Next: runner play --help, and playbooks/ for examples.")
    return 0


@dataclass(frozen=True, slots=True)
class _Stage:
    """The demo's two disks and its keys, in a temporary folder."""

    engine_folder: Path
    server_folder: Path
    key_path: Path
    known_hosts_path: Path

    @classmethod
    def set_up(cls, folder: Path) -> _Stage:
        """Both sides with one file each to give away."""
        stage = cls(folder / "engine", folder / "server", folder / "demo_key", folder / "known_hosts")
        stage.engine_folder.mkdir()
        (stage.server_folder / "outgoing").mkdir(parents=True)
        (stage.engine_folder / "release.tar").write_bytes(os.urandom(RELEASE_BYTES))
        rows = "".join(f"2024-05-{day:02d},{day * 37}.00\n" for day in range(1, 32))
        (stage.server_folder / "outgoing" / "statement.csv").write_text(f"date,amount\n{rows}", encoding="utf-8")
        return stage

    def play(self, port: int) -> int:
        """Play the demo's playbook as a user would, and return the exit code."""
        path = os.path.relpath(playbook_path("demo.yaml"))
        variables = {"port": port, "key_file": self.key_path, "known_hosts": self.known_hosts_path}
        extra = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        arguments = ["play", path, *extra, "--workdir", str(self.engine_folder)]
        click.echo(f"$ runner {' '.join(arguments)}\n")
        return run(arguments)

    def compare_files(self) -> None:
        """Both files are the same on both sides."""
        pairs = [
            (self.engine_folder / "release.tar", self.server_folder / "incoming" / "release.tar"),
            (self.server_folder / "outgoing" / "statement.csv", self.engine_folder / "received" / "statement.csv"),
        ]
        for source, copy in pairs:
            digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, copy)}
            if len(digests) != 1:
                raise DemoFailed(f"{copy.name} differs from its source")
            click.echo(f"sha256 {digests.pop()}  {copy.name}, equal on both sides")


def _announce(text: str) -> None:
    click.echo(f"\n{click.style('==>', bold=True)} {text}\n")


def _expect(exit_code: int, expected: int, what: str) -> None:
    if exit_code != expected:
        raise DemoFailed(f"{what} ended with exit code {exit_code} instead of {expected}")
    if expected:
        click.echo(f"exit code {exit_code}, as it should be")
