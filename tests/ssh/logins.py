"""Logins in whole plays: the ways in, and what must be true of a play that was let in or refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Outcome, Runner, step, upload
from tests.patience import EVENT_SECONDS
from tests.servers.endpoint import Endpoint
from tests.servers.keys import KeyPair
from tests.servers.openssh import OpenSSHServer

PASSWORD = "correct horse"
PASSPHRASE = "open sesame 42"


def write_key(path: Path, text: str) -> Path:
    """A private key file with this text, as private as it must be."""
    path.touch(mode=0o600)
    path.write_bytes(text.encode())
    return path


def authorize(server: OpenSSHServer, *keys: KeyPair) -> None:
    with server.user_key_path.with_suffix(".authorized_keys").open("a") as file:
        file.writelines(f"{key.public_line}\n" for key in keys)


def password(text: str = PASSWORD) -> dict[str, Any]:
    return {"authentication_method": "username_password", "password": text}


def key_text(text: str, **more: str) -> dict[str, Any]:
    return {"authentication_method": "ssh_key", "ssh_key": text, **more}


def key_file(path: Path, **more: str) -> dict[str, Any]:
    return {"authentication_method": "ssh_key_file", "ssh_key_file": str(path), **more}


def agent(**more: str) -> dict[str, Any]:
    return {"authentication_method": "ssh_agent", **more}


def play(
    runner: Runner, server: Endpoint, remote: Path, authentication: dict[str, Any], *options: str, **inputs: Any
) -> Outcome:
    (runner.folder / "file").write_text("content")
    given = {"username": server.username, **authentication}
    return runner.play(
        [step(server, upload("file", remote / "file"), authentication=given, **inputs)], "-vvv", *options
    )


def assert_let_in(outcome: Outcome, remote: Path) -> None:
    assert outcome.exit_code == 0, outcome.output
    assert (remote / "file").read_text() == "content"


def assert_failed(outcome: Outcome, remote: Path, exit_code: int, kind: str, *words: str) -> None:
    """The exit code, an error of the kind whose text has all the words, and nothing written."""
    assert outcome.exit_code == exit_code, outcome.output
    error = outcome.step["error"]
    assert error["type"] == kind
    assert error["hint"]
    for word in words:
        assert word in f"{error['message']}\n{error['hint']}"
    assert list(remote.iterdir()) == []


def assert_not_told(outcome: Outcome, *secrets: str) -> None:
    """No secret, nor any longer line of one, in the output (with the SSH library's log) or in the report."""
    everything = outcome.output + str(outcome.report)
    for secret in secrets:
        lines = [line for line in secret.replace("\\n", "\n").splitlines() if len(line) > 8 and "-----" not in line]
        for text in (secret, *lines):
            assert text not in everything


def write_playbook(
    runner: Runner, server: Endpoint, remote: Path, authentication: dict[str, Any], **inputs: Any
) -> Path:
    """The same play as a file, for a process of its own."""
    (runner.folder / "file").write_text("content")
    given = {"username": server.username, **authentication}
    path = runner.folder / "alone.yaml"
    path.write_text(json.dumps([step(server, upload("file", remote / "file"), authentication=given, **inputs)]))
    return path


@contextmanager
def count_offers(server: OpenSSHServer) -> Iterator[Callable[[], list[str]]]:
    """Inside the block: which methods were tried on sshd since its beginning, by sshd's own log, in order."""
    before = len(server.log_text())

    def list_methods() -> list[str]:
        # The session's end is the last that sshd logs of it.
        ends = ("disconnect", "Connection closed", "Connection reset", "Disconnecting")
        deadline = time.monotonic() + EVENT_SECONDS
        while not any(end in server.log_text()[before:] for end in ends) and time.monotonic() < deadline:
            if "Connection from" not in server.log_text()[before:]:
                break
            time.sleep(0.02)
        return re.findall(r"userauth-request for user \S+ service \S+ method (\S+)", server.log_text()[before:])

    yield list_methods
