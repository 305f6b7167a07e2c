"""The directories that are never removed, renamed, replaced or emptied, and whose mode and times nobody changes in passing.

On the server: the root, the login directory, and those above it. On this machine: the root, the home directory, and those
above it. A path may lead to one of them by any name and over any links: what counts is where it really is.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from typing import NamedTuple

from runner.errors import FileRefused, SafetyLimitHeld, StepError, UnreachableError
from runner.transfer.context import CopyContext


class RealPaths(NamedTuple):
    """Where the login directory (here: the home directory) and another one really are, over whatever links."""

    home: str
    path: str


def require_removable(path: str, context: CopyContext, never: str) -> str:
    """The real path of a remote directory. `never` says what is not done to a protected one: `removed`.

    Raises `SafetyLimitHeld` for a protected one, and a `StepError` if the server does not tell where it is.
    """
    real_paths = RealPaths(*context.remote.ask_real_paths(".", path)())
    refuse_protected(path, real_paths, f"on {context.peer}", "login directory", never)
    return real_paths.path


def require_emptiable(path: str, real_paths: RealPaths | None, where: str, home_name: str) -> None:
    """Raise unless a directory may be the destination of a copy with `delete: true`.

    Raises `SafetyLimitHeld` for a protected one, `FileRefused` if `real_paths` are None: the server does not tell them.
    """
    if real_paths is None:
        raise FileRefused(
            f"where {path!r} {where} really is cannot be found out, so 'delete: true' removes nothing from it",
            hint="The server does not resolve paths. Copy without 'delete: true'.",
        )
    refuse_protected(path, real_paths, where, home_name, "emptied by 'delete: true'")


def refuse_protected(path: str, real_paths: RealPaths, where: str, home_name: str, never: str) -> None:
    """Raise `SafetyLimitHeld` for a protected directory. `never` says what is not done to one: `removed`."""
    home, real_path = real_paths
    if real_path == "/":
        what = "the root of the file system"
    elif real_path == home:
        what = f"the {home_name}"
    elif home.startswith(f"{real_path}/"):
        what = f"above the {home_name} {home!r}"
    else:
        return
    raise SafetyLimitHeld(
        f"{path!r} {where} is {what}, which is never {never}",
        hint="Name what is in it instead, one step each. Nothing was changed.",
    )


def ask_remote_places(path: str, context: CopyContext) -> Callable[[], RealPaths | None]:
    """Ask for the real paths of the login directory and of another one; what is returned waits for the answers.

    It returns None where the server does not tell.
    """
    take = context.remote.ask_real_paths(".", path)

    def wait() -> RealPaths | None:
        try:
            return RealPaths(*take())
        except UnreachableError:
            raise
        except StepError:
            return None

    return wait


def find_local_places(path: str) -> RealPaths:
    """The real paths of the home directory here, and of a local directory."""
    return RealPaths(os.path.realpath(os.path.expanduser("~")), os.path.realpath(path))


def find_protected_paths(path: str, real_paths: RealPaths | None) -> frozenset[str]:
    """Which directories of a tree at `path` are protected, relative to its root, which is the empty path."""
    if real_paths is None:
        return frozenset({""}) if posixpath.normpath(path) in (".", "/") else frozenset()
    home, root = (real_path.rstrip("/") for real_path in real_paths)
    if home != root and not home.startswith(f"{root}/"):
        return frozenset({""}) if not root else frozenset()
    names = home[len(root) + 1 :].split("/")
    return frozenset({""}) | frozenset("/".join(names[:count]) for count in range(1, len(names) + 1))
