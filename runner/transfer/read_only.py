"""What `--check` is given of a server: everything but what changes it. To ask for that is a bug, and ends as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from runner.remote_files import Batch, Errand, Progress, RemoteFiles

_READING = frozenset(
    {
        *("can_rename", "can_replace", "can_resume", "can_hash", "status", "names_in", "real_path"),
        *("ask_real_paths", "sha256", "sha256_pieces", "sha256_many", "read_link"),
        *("can_create_folders", "can_set_permissions", "require_readable"),
    }
)
_READING_IN_BATCH = frozenset({"fetch", "list", "wait", "complete", "done_bytes", "abandon"})
_READING_ERRANDS = frozenset({"read link", "resolve", "look", "look closely"})


def read_only(remote: RemoteFiles) -> RemoteFiles:
    """The same files, that cannot be changed."""
    return cast(RemoteFiles, _ReadOnlyFiles(remote))


class _ReadOnlyFiles:
    def __init__(self, remote: RemoteFiles) -> None:
        self._remote = remote

    def __getattr__(self, name: str) -> Any:
        return _pass_on(self._remote, name, _READING)

    def start_batch(self, on_progress: Progress | None = None, must_end: Callable[[], bool] = lambda: False) -> Batch:
        return cast(Batch, _ReadOnlyBatch(self._remote.start_batch(on_progress, must_end)))


class _ReadOnlyBatch:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return _pass_on(self._batch, name, _READING_IN_BATCH)

    def run(self, errand: Errand) -> None:
        if errand.what not in _READING_ERRANDS:
            raise AssertionError(f"--check must change nothing, but was to {errand.what} {errand.path!r}")
        self._batch.run(errand)


def _pass_on(inner: object, name: str, allowed: frozenset[str]) -> Any:
    if name not in allowed:
        raise AssertionError(f"--check must change nothing, but was to {name}")
    return getattr(inner, name)
