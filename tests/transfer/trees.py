"""Random trees, what changes in them, and how they are compared."""

from __future__ import annotations

import os
import random
import shutil
import stat
from pathlib import Path

NAMES = (
    "a", "b", "report.csv", "with space", "-dash", "new\nline", "ünï", "caf\u00e9", "cafe\u0301", "quo'te\"", "b\udcffd",
    "x" * 200, "semi;colon", "$HOME", "*", "#not a comment", "!bang", ".hidden", "~", "tab\there",
)  # fmt: skip

Picture = dict[str, tuple[str, int, int, bytes]]


def make_tree(root: Path, seed: str, *, entries: int = 40, links: bool = True) -> None:
    """Folders, files and links with odd names, modes and times."""
    chance = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    folders = [root]
    for _ in range(entries):
        path = chance.choice(folders) / chance.choice(NAMES)
        if os.path.lexists(path) or len(str(path)) > 900:
            continue
        kind = chance.choice("fffffdl" if links else "fffffd")
        if kind == "d":
            path.mkdir()
            folders.append(path)
        elif kind == "l":
            path.symlink_to(chance.choice(["a", "../b", "/nowhere", "report.csv"]))
        else:
            write(path, chance)
    settle(root, chance)


def write(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 5_000, 300_000])))
    path.chmod(chance.choice([0o600, 0o644, 0o755, 0o640]))
    when = chance.randint(1, 2**31 - 1) if chance.random() < 0.9 else chance.choice([0, 2**31 + 5, 2**32 - 1])
    os.utime(path, (when, when))


def settle(root: Path, chance: random.Random) -> None:
    """Times of folders last: writing into one changes its own."""
    for folder, _, _ in os.walk(root, topdown=False):
        os.chmod(folder, chance.choice([0o700, 0o755, 0o750]))
        when = chance.randint(1, 2**31 - 1)
        os.utime(folder, (when, when))


def change_tree(root: Path, seed: str) -> None:
    """Some files are written again, some removed, some added, some get other modes."""
    chance = random.Random(seed)
    paths = sorted(path for path in root.rglob("*") if not path.is_symlink())
    for path in paths:
        if not os.path.lexists(path) or chance.random() > 0.3:
            continue
        if path.is_dir():
            if chance.random() < 0.3:
                shutil.rmtree(path)
        elif chance.random() < 0.4:
            write(path, chance)
        elif chance.random() < 0.5:
            path.unlink()
        else:
            path.chmod(chance.choice([0o600, 0o604]))
    for folder in [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()][:3]:
        new = folder / f"new {chance.randint(1, 99)}"
        if not os.path.lexists(new):
            write(new, chance)
    settle(root, chance)


def picture(root: Path) -> Picture:
    """Everything below a folder, itself included: kind, mode, time, content."""
    found: Picture = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        name = str(path.relative_to(root))
        if stat.S_ISLNK(status.st_mode):
            found[name] = ("link", 0, 0, os.fsencode(os.readlink(path)))
        elif stat.S_ISDIR(status.st_mode):
            found[name] = ("folder", status.st_mode & 0o7777, int(status.st_mtime), b"")
        elif not stat.S_ISREG(status.st_mode):
            found[name] = ("other", 0, 0, b"")
        else:
            found[name] = ("file", status.st_mode & 0o777, int(status.st_mtime), path.read_bytes())
    return found


def stays_inside(path: str, target: str) -> bool:
    """Whether a link at a path of a tree leads to somewhere in it, whatever the names in its target are links to."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return not target.startswith("/") and ".." not in parts[ups:] and ups <= path.count("/")


def without_links_out(tree: Picture) -> Picture:
    """What a download makes of a tree."""
    return {
        name: entry for name, entry in tree.items() if entry[0] != "link" or stays_inside(name, os.fsdecode(entry[3]))
    }


def below(found: Picture) -> Picture:
    """The same without the folder itself: one that was there before a copy keeps its mode and time."""
    return {path: entry for path, entry in found.items() if path != "."}
