"""Symbolic links that a server sends: which of them may be made here.

The rule is that of rsync's `--safe-links`, a little stricter: a target is relative, it has `..` at its beginning only, and
no more of them than the link is deep in the tree. It holds by induction. The directories of a destination are real ones, so
`..` climbs from one of them to another, at most to the root; a name then leads further down, or to another link, for which
the same holds. A `..` behind a name may climb from wherever that name's link leads, so it is not allowed. What is in the
destination already may be a link of the user's own that leads anywhere: no link is made that leads through one of those.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from runner.errors import FileRefused
from runner.transfer.memory import MAX_LINKS_ON_THE_WAY

# Linux's PATH_MAX, without the NUL at its end.
MAX_TARGET_BYTES = 4095
MAX_SHOWN_CHARACTERS = 200


def check_target(path: str, target: str) -> FileRefused | None:
    """What is wrong with a target that no link can have."""
    if not target or "\0" in target:
        what = "nothing" if not target else f"a name with a NUL: {show_target(target)}"
        return FileRefused(
            f"the link {path!r} leads to {what}", hint="The server means harm, or is broken. Exclude it."
        )
    if len(os.fsencode(target)) > MAX_TARGET_BYTES:
        return FileRefused(
            f"the link {path!r} has a target of {len(target):,} characters: {show_target(target)}",
            hint=f"A link's target may have {MAX_TARGET_BYTES:,} bytes. Exclude it.",
        )
    return None


def leads_out(path: str, target: str) -> bool:
    """Whether a link at `path`, relative to the tree's root, may lead out of the tree."""
    if target.startswith("/"):
        return True
    depth, is_below_name = path.count("/"), False
    for part in target.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            is_below_name = True
        elif is_below_name or not depth:
            return True
        else:
            depth -= 1
    return False


def find_way_out(
    read_link: Callable[[str], str], path: str, target: str, coming: Mapping[str, str | None]
) -> str | None:
    """A link in the tree, on the way from `path` to a target that does not lead out itself, that does; None if none is.

    `read_link` tells where a link of the tree leads, and raises `OSError` for anything else. `coming` says which links are
    replaced by this copy, and by a link to where, or by None for a file: what is there at the moment depends on how far the
    copy is. A part that is missing will be made by a download, which keeps to the rule.
    """
    here = path.split("/")[:-1]
    names = target.split("/")[::-1]
    links_left = MAX_LINKS_ON_THE_WAY
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here.pop()
            continue
        place = "/".join([*here, name])
        try:
            found = coming[place] if place in coming else read_link(place)
        except FileNotFoundError:
            return None
        except OSError:
            found = None
        if found is None:
            # Not a link, or nothing that could be followed.
            here.append(name)
            continue
        links_left -= 1
        if leads_out(place, found):
            return place
        if not links_left:
            # The system follows no more either.
            return None
        names += found.split("/")[::-1]
    return None


def show_target(target: str) -> str:
    """A target in messages: escaped, and not without end."""
    return repr(target if len(target) <= MAX_SHOWN_CHARACTERS else f"{target[:MAX_SHOWN_CHARACTERS]}…")
