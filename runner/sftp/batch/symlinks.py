"""Makes symbolic links: the one place that knows how servers disagree about them.

The draft has SYMLINK's paths in one order, OpenSSH and everybody after it in the other. Some servers rename what a link
leads to when the link is to be renamed, and some make its target absolute. On servers that are not known, it is tried out
with names of our own which order it is, a link is made directly under its name, and looked at before it is believed.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable

from runner.errors import FileRefused
from runner.remote_files import RemoteRequest, probe_names
from runner.sftp.batch.deeds import add_remark, remove_all, remove_own
from runner.sftp.batch.file import Answer, BatchFile, Stages, ignore, look
from runner.sftp.packets import Attributes, OpenFlag, Type, encode_path
from runner.sftp.session import TakeAnswer

_NEW_FILE = (
    struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE | OpenFlag.EXCLUSIVE) + Attributes().encode()
)
# Said to the copy of a folder, and to a step that makes one link.
_WITHOUT_LINKS = "When a folder is copied, 'links: skip' leaves links out, 'links: follow' copies what they lead to."

# Is told the name of something of ours that the server did not remove.
Leave = Callable[[str], None]


def ask_for_link(file: BatchFile, target: str, path: str, take: TakeAnswer) -> None:
    """Ask for a link at `path`, in the order of paths that the server takes."""
    if file.session.traits.link_order == "link first":
        file.ask(Type.SYMLINK, encode_path(path) + encode_path(target), take)
    else:
        file.ask(Type.SYMLINK, encode_path(target) + encode_path(path), take)


def read_link(file: BatchFile, path: str) -> Stages[str | None]:
    """Where the link at `path` leads, as it is written there; None if there is none, or the server does not tell."""
    answer = Answer(file)
    file.ask(Type.READLINK, encode_path(path), answer.take)
    yield
    return answer.name


def learn_links(file: BatchFile, temporary: str, leave: Leave) -> Stages[bool]:
    """Find out in which order the server takes a link's two paths, and whether it renames links themselves.

    `temporary` is a free name of ours; all that is touched are names like it. `leave` is told what of them is left. Returns
    whether that went well; `file.error` says why not.
    """
    traits = file.session.traits
    if traits.link_order is None and not (yield from _learn_order(file, temporary, leave)):
        return False
    if traits.renames_links is None:
        yield from _learn_renaming(file, temporary, leave)
    return True


def _remove_probes(file: BatchFile, names: tuple[str, ...], leave: Leave) -> Stages[None]:
    """Remove what links were tried out with; what stays is named."""
    for name in (yield from remove_all(file, names)):
        leave(name)


def _learn_order(file: BatchFile, temporary: str, leave: Leave) -> Stages[bool]:
    """By a link from one free name to another: where is it then?"""
    first, second = probe_names(temporary)[0], temporary
    asked = Answer(file)
    file.ask(Type.SYMLINK, encode_path(first) + encode_path(second), asked.take)
    yield
    if asked.refusal is not None:
        file.fail(asked.refusal, "cannot create the link")
        # Some servers refuse what they have done.
        yield from _remove_probes(file, (second, first), leave)
        return False
    is_at_second = yield from _is_link(file, second)
    is_known = is_at_second or (yield from _is_link(file, first))
    yield from _remove_probes(file, (second, first) if not is_known else (second if is_at_second else first,), leave)
    if not is_known:
        message = f"{file.session.peer} does not tell what becomes of a link that it has made"
        file.fail(FileRefused(message, hint=_WITHOUT_LINKS))
        return False
    order = "target first" if is_at_second else "link first"
    if file.session.traits.link_order is None:
        file.session.traits.saw("link_order", order, f"a link was tried out: it takes SYMLINK's two paths {order}")
    return True


def _learn_renaming(file: BatchFile, temporary: str, leave: Leave) -> Stages[None]:
    """By renaming a link to an empty file of ours: is it the link that has the new name, or the file?"""
    target, renamed = probe_names(temporary)
    opening = Answer(file)
    file.ask(Type.OPEN, encode_path(target) + _NEW_FILE, opening.take)
    yield
    if opening.refusal is not None:
        # Without being known to rename links, it is not asked to. Some servers refuse what they have done.
        yield from _remove_probes(file, (target,), leave)
        return
    file.ask(Type.CLOSE, opening.handle, ignore)
    ask_for_link(file, posixpath.basename(target), temporary, ignore)
    yield
    file.ask(Type.RENAME, encode_path(temporary) + encode_path(renamed), ignore)
    yield
    is_renamed = yield from _is_link(file, renamed)
    yield from _remove_probes(file, (temporary, renamed, target), leave)
    if file.session.traits.renames_links is None:
        done = "it renamed the link" if is_renamed else "it did not rename the link itself"
        file.session.traits.saw("renames_links", is_renamed, f"a link was tried out: {done}")


def _is_link(file: BatchFile, path: str) -> Stages[bool]:
    if (yield from read_link(file, path)) is not None:
        return True
    return (yield from look(file, path)).is_link


def make_link_directly(file: BatchFile, target: str, path: str) -> Stages[bool]:
    """Make a link at a path that nothing has, and see that it leads where it shall. Leaves nothing if it does not.

    Returns whether it is there; `file.error` says why not.
    """
    asked = Answer(file)
    ask_for_link(file, target, path, asked.take)
    yield
    found = yield from read_link(file, path)
    if found == target or (found is not None and not file.session.traits.reads_links_as_written):
        # Also where it was refused: a lost session may have made it a moment ago.
        return True
    if asked.refusal is not None:
        file.fail(asked.refusal, "cannot create the link")
        return False
    if found is None and (yield from look(file, path)).is_link:
        # Where it leads is not told. That it was made as it was asked for is the best that can be known.
        return True
    file.ask(Type.REMOVE, encode_path(path), ignore)
    yield
    says = "does not tell where it leads" if found is None else f"made it lead to {found!r}"
    file.fail(
        FileRefused(
            f"cannot create the link {path!r} to {target!r} on {file.session.peer}: the server {says}",
            hint=f"It was removed again. {_WITHOUT_LINKS}",
        )
    )
    return False


def replace_by_link(file: BatchFile, job: RemoteRequest, leave: Leave) -> Stages[None]:
    """Put a link into the place of a file or another link, on a server that may follow links when it renames.

    `leave` is told what is left. After a failure what was there is there again, or the error names it.
    """
    old = yield from read_link(file, job.path)
    if old is not None:
        yield from _replace_link(file, job, old, leave)
        return
    if (yield from look(file, job.path)).is_missing:
        yield from make_link_directly(file, job.target, job.path)
        return
    kept = job.backup or f"{job.temporary}.old"
    moved = Answer(file)
    file.ask(Type.RENAME, encode_path(job.path) + encode_path(kept), moved.take)
    yield
    if moved.refusal is not None:
        file.fail(moved.refusal, "cannot replace by a link")
        return
    if not (yield from make_link_directly(file, job.target, job.path)):
        restored = Answer(file)
        file.ask(Type.RENAME, encode_path(kept) + encode_path(job.path), restored.take)
        yield
        if restored.refusal is not None:
            add_remark(file, f"The old file is kept as {kept!r}: rename it to {job.path!r} to have it back", kept)
    elif job.backup is None and not (yield from remove_own(file, kept)):
        leave(kept)


def _replace_link(file: BatchFile, job: RemoteRequest, old: str, leave: Leave) -> Stages[None]:
    """Put a link into the place of one that leads to `old`: what cannot be made elsewhere first replaces nothing."""
    if not (yield from make_link_directly(file, job.target, job.temporary)):
        return
    removal = Answer(file)
    file.ask(Type.REMOVE, encode_path(job.path), removal.take)
    yield
    if removal.refusal is not None:
        file.fail(removal.refusal, "cannot replace the link")
    elif not (yield from make_link_directly(file, job.target, job.path)):
        restored = Answer(file)
        ask_for_link(file, old, job.path, restored.take)
        yield
        if restored.refusal is not None:
            add_remark(file, f"The link that was there is removed: it led to {old!r}")
    yield from _remove_probes(file, (job.temporary,), leave)
