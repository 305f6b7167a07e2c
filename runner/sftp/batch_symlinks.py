"""Makes symbolic links: the one place that knows how servers disagree about them.

The draft has SYMLINK's paths in one order, OpenSSH and everybody after it in the other. Some servers rename what a link
leads to when the link is to be renamed, and some make its target absolute. On servers that are not known, it is tried out
with names of our own which order it is, a link is made directly under its name, and looked at before it is believed.
"""

from __future__ import annotations

from runner.errors import FileRefused, StepError
from runner.remote_files import Errand
from runner.sftp.batch_file import Answer, BatchFile, Stages, ignore, look
from runner.sftp.packets import Type, encode_path
from runner.sftp.session import TakeAnswer


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


def learn_order(file: BatchFile, temporary: str) -> Stages[None]:
    """Find out in which order the server takes a link's two paths, with a temporary name that is free, and another one."""
    traits = file.session.traits
    if traits.link_order is not None:
        return
    first, second = _another_name(temporary), temporary
    asked = Answer(file)
    file.ask(Type.SYMLINK, encode_path(first) + encode_path(second), asked.take)
    yield
    if asked.refusal is not None:
        file.fail(asked.refusal, "cannot create the link")
        return
    if (yield from look(file, second)).mode is not None:
        made, order, words = second, "target first", "as OpenSSH does"
    else:
        made, order, words = first, "link first", "as the draft of the protocol does"
    file.ask(Type.REMOVE, encode_path(made), ignore)
    yield
    if traits.link_order is None:
        traits.saw("link_order", order, f"a link that was tried out: it takes its paths {words}")


def _another_name(temporary: str) -> str:
    """Another name of the same kind, which a later play knows for ours as well."""
    stem, dot, ending = temporary.rpartition(".")
    return f"{stem}{'' if '-' in stem.rpartition('.')[2] else '-'}fffff1{dot}{ending}"


def make_link_directly(file: BatchFile, target: str, path: str, temporary: str) -> Stages[None]:
    """Make a link at a path that nothing has, and see that it leads where it shall. Leaves nothing if it does not.

    `temporary` is a free name for trying out what the server does.
    """
    yield from learn_order(file, temporary)
    if file.has_failed:
        return
    asked = Answer(file)
    ask_for_link(file, target, path, asked.take)
    yield
    found = yield from read_link(file, path)
    if found == target:
        # Also where it was refused: a lost session may have made it a moment ago.
        return
    if asked.refusal is not None:
        file.fail(asked.refusal, "cannot create the link")
        return
    file.ask(Type.REMOVE, encode_path(path), ignore)
    yield
    says = "does not tell where it leads" if found is None else f"made it lead to {found!r}"
    file.fail(
        FileRefused(
            f"cannot create the link {path!r} to {target!r} on {file.session.peer}: the server {says}",
            hint="It was removed again. 'links: skip' leaves links out, 'links: follow' copies what they lead to.",
        )
    )


def replace_by_link(file: BatchFile, job: Errand) -> Stages[str]:
    """Put a link into the place of a file or another link, on a server that may follow links when it renames.

    Returns a warning, or nothing. After a failure what was there is there again, or the error names it.
    """
    found = yield from look(file, job.path)
    if found.mode is None:
        yield from make_link_directly(file, job.target, job.path, job.temporary)
        return ""
    if found.is_link:
        yield from _replace_link(file, job)
        return ""
    kept = job.backup or f"{job.temporary}.old"
    moved = Answer(file)
    file.ask(Type.RENAME, encode_path(job.path) + encode_path(kept), moved.take)
    yield
    if moved.refusal is not None:
        file.fail(moved.refusal, "cannot replace by a link")
        return ""
    yield from make_link_directly(file, job.target, job.path, job.temporary)
    if file.has_failed:
        restored = Answer(file)
        file.ask(Type.RENAME, encode_path(kept) + encode_path(job.path), restored.take)
        yield
        if restored.refusal is not None and isinstance(file.error, StepError):
            file.error.add(f"The old file is kept as {kept!r}")
        return ""
    if job.backup is not None:
        return ""
    removal = Answer(file)
    file.ask(Type.REMOVE, encode_path(kept), removal.take)
    yield
    return f"the server refused to remove the old file, which is {kept!r} now" if removal.refusal is not None else ""


def _replace_link(file: BatchFile, job: Errand) -> Stages[None]:
    old = yield from read_link(file, job.path)
    removal = Answer(file)
    file.ask(Type.REMOVE, encode_path(job.path), removal.take)
    yield
    if removal.refusal is not None:
        file.fail(removal.refusal, "cannot replace the link")
        return
    yield from make_link_directly(file, job.target, job.path, job.temporary)
    if file.has_failed and old is not None:
        ask_for_link(file, old, job.path, ignore)
        yield
