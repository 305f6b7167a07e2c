"""Whether a server has done what it says. An OK is a claim: what it is about is looked at.

Where requests are carried out in order the look goes out in the same flight, and `ServerTraits.believes` bounds how many
there are; on other servers it waits for the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import StepError
from runner.server_traits import Deed
from runner.sftp.batch.file import Answer, BatchFile, Stages, look
from runner.sftp.packets import Type, encode_path
from runner.sftp.refusals import not_renamed
from runner.sftp.session import Refusal


def look_behind_rename(file: BatchFile, source: str) -> Answer | None:
    """Behind a rename that has been asked for, and in the same flight: what is under the old name. None for no look.

    Only where requests are carried out in order.
    """
    traits = file.session.traits
    return ask_to_look(file, source) if traits.is_sequential and not traits.believes("renamed") else None


def require_renamed(file: BatchFile, source: str, destination: str, found: Answer | None) -> Stages[None]:
    """Fail the file unless the rename that the server says it has done has happened. An OK is a claim.

    What has got another name has lost its old one: `found` is what was seen there, None if nobody has looked. Then a server
    that is taken at its word is believed.
    """
    if file.has_failed or (found is None and file.session.traits.is_sequential):
        return
    found = (yield from look_again(file, "renamed", source, found)) if found else (yield from look(file, source))
    if found.mode is not None:
        file.session.traits.catch("renamed")
        file.fail(not_renamed(source, destination, file.session.peer))


def look_again(file: BatchFile, deed: Deed, path: str, found: Answer) -> Stages[Answer]:
    """What is at a path, of which `found` was told in the same flight as the request that is to be seen done.

    Where that contradicts the request it may have been too early: some servers only call themselves OpenSSH.
    """
    if is_done(deed, found) or not file.session.traits.is_sequential:
        return found
    again = yield from look(file, path)
    if is_done(deed, again):
        file.session.traits.mixes_up(deed)
    return again


def is_done(deed: Deed, found: Answer) -> bool:
    """Whether what is seen at a path does not contradict that something was made there, or taken from there."""
    return not found.is_missing if deed == "made a directory" else found.mode is None


def add_remark(file: BatchFile, sentence: str, *names: str) -> None:
    """Add to a file's error what the failure has left behind, also where that is still a refusal to be explained."""
    if isinstance(file.error, StepError):
        file.error.add(sentence, *names)
    elif isinstance(file.error, Refusal):
        file.error.remarks.append((sentence, *names))


def ask_to_look(file: BatchFile, path: str) -> Answer:
    """Ask what is at a path, links not followed. The answer is there with the file's next stage."""
    answer = Answer(file)
    file.ask(Type.LSTAT, encode_path(path), answer.take)
    return answer


def look_behind(file: BatchFile, path: str) -> Stages[Answer]:
    """What is at a path when all that was asked for before has been done: in the same flight if that is kept in order."""
    if not file.session.traits.is_sequential:
        yield
    found = ask_to_look(file, path)
    yield
    return found


def remove_own(file: BatchFile, path: str) -> Stages[bool]:
    """Remove a file of ours; whether it is gone. That counts, whatever the server says of the removal."""
    return not (yield from remove_all(file, [path]))


def remove_all(file: BatchFile, paths: Sequence[str]) -> Stages[list[str]]:
    """The same for several; which of them stay."""
    removals = [Answer(file) for _ in paths]
    for path, removal in zip(paths, removals, strict=True):
        file.ask(Type.REMOVE, encode_path(path), removal.take)
    if not file.session.traits.is_sequential:
        yield
    looks = [ask_to_look(file, path) for path in paths]
    yield
    answers = zip(paths, removals, looks, strict=True)
    return [path for path, removal, found in answers if not _is_gone(removal, found)]


def _is_gone(removal: Answer, found: Answer) -> bool:
    return found.is_missing or (found.mode is None and (removal.refusal is None or removal.is_missing))
