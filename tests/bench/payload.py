"""What is copied, and the proof that a copy is one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.bench.cases import KIB, MIB, Case

_PIECE_BYTES = 16 * MIB
_BLOCK_BYTES = 128 * KIB
_SAMPLED_BLOCKS = 32
_SAMPLED_FILES = 64


def ensure_payload(folder: Path, case: Case) -> Path:
    """The source of a case below `folder`, made unless the last case had the same one; only one is kept at a time."""
    source = folder / case.payload_name
    if not source.exists():
        remove_content(folder)
        if case.shape == "file":
            _write_file(source, case.file_bytes, is_sparse=case.is_sparse)
        else:
            source.mkdir()
            for number in range(case.file_count):
                _write_file(source / f"file-{number:05}.bin", case.file_bytes, is_sparse=False)
    return source


def change_some(source: Path, count: int) -> None:
    """Give some files of a folder another content of the same size, and another time, if only by seconds."""
    for path in sorted(source.iterdir())[:count] if count else ():
        status = path.stat()
        path.write_bytes(os.urandom(status.st_size))
        os.utime(path, (status.st_mtime + 2, status.st_mtime + 2))


def remove_content(folder: Path) -> None:
    """Empty a folder, or make it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def find_difference(source: Path, copy: Path, *, is_thorough: bool = False) -> str:
    """What is wrong with a copy, or nothing: names and sizes of all files, SHA-256 of a sample or of everything.

    Whatever else lies beside the copy, for instance a temporary file, is wrong too.
    """
    beside = sorted(set(os.listdir(copy.parent)) - {copy.name}) if copy.parent.exists() else []
    if beside:
        return f"left behind: {beside[0]}"
    if not copy.exists():
        return "no copy"
    sizes, copied_sizes = _list_sizes(source), _list_sizes(copy)
    if sizes != copied_sizes:
        name = min(name for name in {*sizes, *copied_sizes} if sizes.get(name) != copied_sizes.get(name))
        return f"{name or 'size'}: {sizes.get(name)} bytes expected, {copied_sizes.get(name)} found"
    for name in _choose(sorted(sizes), is_thorough=is_thorough):
        if _hash(source / name, is_thorough=is_thorough) != _hash(copy / name, is_thorough=is_thorough):
            return f"{name or 'content'}: other bytes"
    return ""


def _write_file(path: Path, size: int, *, is_sparse: bool) -> None:
    with path.open("wb") as file:
        if is_sparse:
            file.truncate(size)
            return
        for offset in range(0, size, _PIECE_BYTES):
            file.write(os.urandom(min(_PIECE_BYTES, size - offset)))


def _list_sizes(path: Path) -> dict[str, int]:
    """The size of each file below a path, by its name; of the path itself, by an empty one."""
    if path.is_file():
        return {"": path.stat().st_size}
    return {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if not file.is_dir()}


def _choose(names: list[str], *, is_thorough: bool) -> list[str]:
    return names if is_thorough else names[:: max(1, len(names) // _SAMPLED_FILES)]


def _hash(path: Path, *, is_thorough: bool) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for offset in _block_offsets(path.stat().st_size, is_thorough=is_thorough):
            file.seek(offset)
            digest.update(file.read(_BLOCK_BYTES))
    return digest.digest()


def _block_offsets(size: int, *, is_thorough: bool) -> Iterator[int]:
    """Where the blocks to look at begin: all of them, or a sample with the first and the last."""
    if is_thorough or size <= _SAMPLED_BLOCKS * _BLOCK_BYTES:
        yield from range(0, size, _BLOCK_BYTES)
    else:
        yield from ((size - _BLOCK_BYTES) * number // (_SAMPLED_BLOCKS - 1) for number in range(_SAMPLED_BLOCKS))
