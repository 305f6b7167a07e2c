"""Proving what is there, by the server's shell: it shows signs of life, and its failure is none of the copy's."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cancellation import Cancellation, Deadline
from runner.execution.protocols import make_command_starter
from runner.plan import PinnedKeys
from runner.shell import shell
from runner.shell.shell import Shell
from runner.ssh.opening import open_connection
from runner.transfer import proof, resume
from tests.conftest import Outcome, Runner, download, require_sshd, step, upload
from tests.servers.hash_programs import put_hash_program
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import Cut, FaultProxy
from tests.ssh.endpoints import make_endpoint

SIZE = 3_500_000
MIDDLE = 3_200_000
MIB = 1024 * 1024
CONTENT = random.Random("proof").randbytes(SIZE)

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "RESUME_FROM_BYTES", MIB)
    monkeypatch.setattr(proof, "PIECE_BYTES", MIB // 2)
    monkeypatch.setattr(proof, "FINE_PIECE_BYTES", MIB // 2)
    monkeypatch.setattr(shell, "BLOCK_BYTES", MIB // 2)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., OpenSSHServer]]:
    """Starts an sshd whose hash program is one of `tests/servers/hash_programs.py`."""
    require_sshd()
    started: list[OpenSSHServer] = []

    def start(**program: str) -> OpenSSHServer:
        config = put_hash_program(tmp_path / "programs", **program)
        server = OpenSSHServer(tmp_path / "server", extra_config=(config,))
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


class Case:
    """A copy that was cut off in the middle, over an older destination."""

    def __init__(self, runner: Runner, remote: Path, server: OpenSSHServer, is_upload: bool) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        local = runner.folder / "local"
        local.mkdir()
        self.source = (local if is_upload else remote) / "source"
        self.folder = remote if is_upload else local
        self.destination = self.folder / "a"
        self.source.write_bytes(CONTENT)
        self.source.chmod(0o664)
        self.destination.write_bytes(b"older")

    def play(self, *, port: int | None = None, retries: int = 0, stall_timeout: int = 20, **options: Any) -> Outcome:
        mode = (upload if self.is_upload else download)(self.source, self.destination, **options)
        one = step(self.server, mode, stall_timeout=stall_timeout)
        if port is not None:
            one["port"] = port
        return self.runner.play([{**one, "retries": retries, "delay": 0.01}])

    def break_off(self) -> None:
        """Leave a partial file with all up to the middle."""
        fault = Cut("up" if self.is_upload else "down", MIDDLE)
        # Where the processor is busy, all of it may still be on its way when the line is reset, and is lost with it.
        for _ in range(20):
            with FaultProxy(self.server.host, self.server.port, fault) as proxy:
                assert self.play(port=proxy.port).exit_code == 4
            if self.beside():
                break
        (left,) = self.beside()
        left.write_bytes(CONTENT[:MIDDLE])
        assert self.destination.read_bytes() == b"older"

    def beside(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path != self.destination]

    def assert_whole(self, outcome: Outcome) -> dict[str, Any]:
        assert outcome.exit_code == 0, outcome.output
        assert self.destination.read_bytes() == CONTENT
        assert self.destination.stat().st_mode & 0o777 == 0o664
        assert self.beside() == []
        result: dict[str, Any] = outcome.step["result"]
        return result


def test_a_server_that_hashes_longer_than_stall_timeout_is_not_given_up(
    runner: Runner, remote: Path, serve: Callable[..., OpenSSHServer]
) -> None:
    """Both the proof of the beginning and that of the whole take longer; each block is a sign of life."""
    case = Case(runner, remote, serve(each="time.sleep(0.3)"), is_upload=True)
    case.break_off()

    result = case.assert_whole(case.play(stall_timeout=6))

    assert result["resumed_at_bytes"] == MIDDLE
    assert result["verified"] == "sha256"
    assert result["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_many_files_are_hashed_with_signs_of_life(
    runner: Runner, remote: Path, serve: Callable[..., OpenSSHServer]
) -> None:
    server = serve(each="time.sleep(0.2)")
    (runner.folder / "tree").mkdir()
    for number in range(5):
        (runner.folder / "tree" / str(number)).write_bytes(CONTENT[number : number + 900_000])
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": "tree",
        "destination_directory_name": str(remote / "tree"),
        "verify": "checksum",
    }
    outcome = runner.play([step(server, mode, stall_timeout=5)])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["verified"] == "sha256"


@both_ways
def test_a_proof_that_stalls_is_no_failure(
    runner: Runner, remote: Path, serve: Callable[..., OpenSSHServer], is_upload: bool
) -> None:
    """The session still answers: the same attempt starts afresh."""
    case = Case(runner, remote, serve(finally_="if total: hang()"), is_upload)
    case.break_off()

    outcome = case.play(stall_timeout=4)

    assert case.assert_whole(outcome)["resumed_at_bytes"] == 0
    assert outcome.step["attempts"] == 1


@both_ways
def test_a_proof_that_takes_the_session_with_it_is_not_tried_for_ever(
    runner: Runner, remote: Path, serve: Callable[..., OpenSSHServer], is_upload: bool
) -> None:
    case = Case(runner, remote, serve(finally_="if total: end_session()"), is_upload)
    case.break_off()

    outcome = case.play(retries=3)

    assert case.assert_whole(outcome)["resumed_at_bytes"] == 0
    assert outcome.step["attempts"] == proof.MAX_FAILED_PROOFS + 1


@both_ways
def test_a_copy_that_broke_off_while_it_was_verified_needs_no_byte_more(
    runner: Runner, remote: Path, tmp_path: Path, serve: Callable[..., OpenSSHServer], is_upload: bool
) -> None:
    """All is there, and it is still private: others may not have it before it is proven."""
    broken = tmp_path / "broken"
    broken.touch()
    case = Case(
        runner, remote, serve(finally_=f"if total and os.path.exists({str(broken)!r}): end_session()"), is_upload
    )
    assert case.play(verify="checksum").exit_code == 4
    (left,) = case.beside()
    assert left.stat().st_size == SIZE
    assert left.stat().st_mode & 0o777 == 0o600
    assert case.destination.read_bytes() == b"older"
    broken.unlink()

    result = case.assert_whole(case.play(verify="checksum"))

    assert result["resumed_at_bytes"] == SIZE
    assert result["verified"] == "sha256"


def test_both_sides_hash_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    has_begun = threading.Event()

    def theirs() -> Iterator[str]:
        for at in range(0, SIZE, proof.PIECE_BYTES):
            # The server's answer comes only when the hash here is under way.
            assert has_begun.wait(10)
            yield hashlib.sha256(CONTENT[at : at + proof.PIECE_BYTES]).hexdigest()

    class Watched(proof._Pieces):
        def hash_next(self, size_bytes: int) -> Any:
            has_begun.set()
            return super().hash_next(size_bytes)

    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(proof, "_Pieces", Watched)
            offset, hasher = proof.prove_prefix(fd, proof.piece_sizes(SIZE), theirs(), lambda: None)
    finally:
        os.close(fd)

    assert offset == SIZE
    assert hasher is not None
    assert hasher.hexdigest() == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB + 1, 100 * MIB, 1000 * MIB + 17])
def test_the_pieces_make_up_the_whole(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(proof, "PIECE_BYTES", 64 * MIB)
    monkeypatch.setattr(proof, "FINE_PIECE_BYTES", 4 * MIB)
    sizes = proof.piece_sizes(size)

    assert sum(sizes) == size
    assert all(0 < piece <= 64 * MIB for piece in sizes)
    assert sum(piece for piece in sizes if piece <= 4 * MIB) >= min(size, proof.MARGIN_BYTES)


SHELLS = {"dash": "dash -c", "bash": "bash -c", "busybox": "busybox sh -c", "zsh": "zsh -c", "ksh": "ksh -c"}


@pytest.mark.parametrize("program", ["openssl", "sha256sum", "shasum"])
@pytest.mark.parametrize("name", SHELLS)
def test_the_shells_that_accounts_have(tmp_path: Path, name: str, program: str) -> None:
    """Whole files with signs of life, pieces, and many at once, by each program that may be all there is."""
    require_sshd()
    needed = (SHELLS[name].split()[0], program)
    if not all(map(shutil.which, needed)):
        pytest.skip(f"{' and '.join(needed)} are not both installed")
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in (*needed, "dd", "cat", "xargs", "perl", "sh"):
        if found := shutil.which(tool):
            (programs / tool).symlink_to(found)
    path = tmp_path / "it's a file"
    path.write_bytes(CONTENT)
    command = f'ForceCommand {programs / needed[0]} {SHELLS[name].partition(" ")[2]} "$SSH_ORIGINAL_COMMAND"'
    with OpenSSHServer(tmp_path / "server", sftp=False, extra_config=(f"SetEnv PATH={programs}", command)) as server:
        cancellation = Cancellation()
        endpoint = make_endpoint(server, PinnedKeys((server.known_host_line(),)))
        connection = open_connection(endpoint, Deadline.after(20), cancellation)
        account = Shell(make_command_starter(connection, 20, 20, cancellation), str(endpoint))
        try:
            assert account.exists
            whole = hashlib.sha256(CONTENT).hexdigest()
            assert account.sha256(str(path)) == whole
            for wrong_size in (SIZE, SIZE - MIB, SIZE + 3 * MIB):
                assert account.sha256(str(path), wrong_size) == whole
            assert account.sha256(str(path) + "x", SIZE) is None
            sizes = [MIB, MIB, 100_001, 65_536, 3]
            ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
            pieces = [CONTENT[end - size : end] for size, end in zip(sizes, ends, strict=True)]
            assert list(account.sha256_pieces(str(path), sizes)) == [hashlib.sha256(one).hexdigest() for one in pieces]
            assert list(account.sha256_pieces(str(path) + "x", sizes)) == []
            assert account.sha256_many([(str(path), SIZE), (str(path) + "x", 1)]) == {str(path): whole}
        finally:
            connection.close()
