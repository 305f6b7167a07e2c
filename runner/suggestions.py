"""Which known word was probably meant by an unknown one. All "Did you mean …?" come from here.

What a word means comes first: `move` is a rename, however near to `remove` its letters are. Letters decide only among words
without such a meaning, and never for a word that takes something away: that one is suggested for its own misspellings alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MAX_SUGGESTIONS = 20
MAX_WORD_LENGTH = 40
_CUTOFF = 0.6

_UPLOAD, _DOWNLOAD = "copy_file_from_engine", "copy_file_to_engine"
_BOTH_TREES = ("copy_directory_from_engine", "copy_directory_to_engine")

# What people say, and what it is called here, the most likely first. All that are known where the word stands are suggested
# if they are in one group, the first known group otherwise. An empty meaning: a word of its own that has no counterpart.
_MEANINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    # modes
    **dict.fromkeys(("move", "mv"), (("rename",),)),
    **dict.fromkeys(("delete", "rm", "unlink", "del", "erase", "rmdir"), (("remove",),)),
    **dict.fromkeys(("copy", "cp", "upload", "put", "send", "push"), ((_UPLOAD,),)),
    **dict.fromkeys(("download", "get", "fetch", "pull", "receive"), ((_DOWNLOAD,),)),
    **dict.fromkeys(("sync", "synchronize", "synchronise", "mirror", "rsync", "copy_directory"), (_BOTH_TREES,)),
    **dict.fromkeys(("copy_file", "scp", "transfer"), ((_UPLOAD, _DOWNLOAD),)),
    **dict.fromkeys(("upload_directory", "put_directory", "upload_folder"), (_BOTH_TREES[:1],)),
    **dict.fromkeys(("download_directory", "get_directory", "download_folder"), (_BOTH_TREES[1:],)),
    **dict.fromkeys(("mkdir", "makedirs", "make_directory", "create_folder"), (("create_directory",),)),
    **dict.fromkeys(("ls", "dir", "listdir"), (("list",),)),
    **dict.fromkeys(("symlink", "ln", "link", "make_link", "create_symlink"), (("create_link",),)),
    **dict.fromkeys(("slurp", "cat", "read"), (("read_file",),)),
    **dict.fromkeys(("write", "create_file", "touch", "template"), (("write_file",),)),
    **dict.fromkeys(("wait", "wait_until", "poll"), (("wait_for",),)),
    **dict.fromkeys(("stat", "lstat", "exists"), (("stats",),)),
    # values
    **dict.fromkeys(("overwrite", "always_replace"), (("replace",),)),
    **dict.fromkeys(("keep", "ignore"), (("skip",),)),
    **dict.fromkeys(("error", "abort"), (("fail",), ("error",))),
    # keys
    **dict.fromkeys(
        ("src", "source"), (("source_file_name",), ("source_directory_name",), ("source_path",), ("path",))
    ),
    **dict.fromkeys(
        ("dest", "dst", "destination", "target"),
        (("destination_file_name",), ("destination_directory_name",), ("destination_path",), ("path",)),
    ),
    **dict.fromkeys(("user", "login"), (("username",),)),
    **dict.fromkeys(("private_key", "key"), (("ssh_key",), ("ssh_key_file",))),
    "private_key_file": (("ssh_key_file",),),
    "recurse": (("recursive",),),
    "mode": (("permissions",), ("mode_name",)),
    # what a step is, in other languages
    **dict.fromkeys(("print", "echo", "log", "say", "message"), (("debug",), ("msg",))),
    "sleep": (("pause",),),
    "try": (("block",),),
    **dict.fromkeys(("catch", "except", "on_error", "on_failure"), (("rescue",),)),
    **dict.fromkeys(("finally", "ensure"), (("always",),)),
    **dict.fromkeys(("if", "condition", "only_if"), (("when",),)),
    **dict.fromkeys(("foreach", "for_each", "for", "with", "items", "repeat"), (("loop",),)),
    **dict.fromkeys(("set", "let", "set_var", "set_vars", "facts"), (("set_fact",),)),
    **dict.fromkeys(("raise", "throw", "die"), (("fail",),)),
    **dict.fromkeys(("include_step", "steps_file", "use"), (("include_steps",),)),
    # fields of what is listed, as Ansible calls them
    **dict.fromkeys(("size", "st_size"), (("size_bytes",), ("min_size",))),
    **dict.fromkeys(("mtime", "mtime_epoch", "st_mtime", "last_modified"), (("modified_at",),)),
    **dict.fromkeys(("isdir", "isreg", "islnk", "is_dir", "is_file", "is_link", "kind"), (("type",),)),
    **dict.fromkeys(("lnk_source", "lnk_target"), (("target",),)),
    **dict.fromkeys(("filename", "file_name", "basename"), (("path",),)),
    "delete_max": (("max_delete",),),
    # commands and options
    **dict.fromkeys(("check", "plan", "dry_run"), (("play --check",), ("--check",))),
    **dict.fromkeys(("run", "apply", "exec", "execute", "start"), (("play",),)),
    **dict.fromkeys(("lint", "verify", "syntax_check"), (("validate",),)),
    **dict.fromkeys(("probe", "info", "ping"), (("doctor",),)),
    **dict.fromkeys(("keyscan", "ssh_keyscan", "scan"), (("hostkey",),)),
    **dict.fromkeys(("list_tasks",), (("--list-steps",),)),
    **dict.fromkeys(("start_at_task", "start_at"), (("--start-at-step",),)),
    # words that are no misspelling of a dangerous one
    **dict.fromkeys(("remote", "play_book"), ()),
}

# A suggestion with one of these words in it may cost somebody their files, or their secrets.
_DESTRUCTIVE = {"remove", "delete", "overwrite", "replace", "recursive", "decrypt", "rekey", "play"}


def nearest(word: str, words: Iterable[str]) -> str:
    """The hint that names the word which was probably meant, or all of them if none is near."""
    known = sorted(words)
    found = find_meant(word, known)
    if found:
        return f"Did you mean {' or '.join(repr(one) for one in found)}?"
    more = ", …" if len(known) > MAX_SUGGESTIONS else "."
    return f"Known: {', '.join(known[:MAX_SUGGESTIONS])}{more}" if known else ""


def find_meant(word: str, words: Iterable[str], cutoff: float = _CUTOFF) -> tuple[str, ...]:
    """The known words that were probably meant: mostly one, none if nothing can be said.

    `cutoff` is how alike the letters must be, from 0 to 1.
    """
    known = sorted(words)
    if len(word) > MAX_WORD_LENGTH:
        return ()
    meanings = _MEANINGS.get(_normalise(word))
    for group in meanings or ():
        if found := tuple(one for one in group if one.partition(" ")[0] in known):
            return found
    if meanings == ():
        known = [one for one in known if not _is_destructive(one)]
    close = difflib.get_close_matches(word, known, n=5, cutoff=cutoff)
    safe = [one for one in close if not _is_destructive(one)]
    misspelt = [one for one in close if _is_destructive(one) and _is_misspelling(word, one)]
    # As near as each other: the one that does no harm.
    if safe and misspelt and _is_misspelling(word, safe[0]):
        return (safe[0],)
    return tuple((misspelt or safe)[:1])


def _normalise(word: str) -> str:
    return word.lower().lstrip("-").replace("-", "_").replace(" ", "_")


def _is_destructive(word: str) -> bool:
    return not _DESTRUCTIVE.isdisjoint(re.split(r"[^a-z]+", word.lower()))


def _is_misspelling(word: str, known: str) -> bool:
    """Whether one key was hit too much, too little or wrongly, or letters are in the wrong order."""
    word, known = word.lower(), known.lower()
    if sorted(word) == sorted(known) and (word[:1] == known[:1] or word[1::-1] + word[2:] == known):
        return True
    if abs(len(word) - len(known)) > 1:
        return False
    head = next((i for i, (a, b) in enumerate(zip(word, known, strict=False)) if a != b), min(len(word), len(known)))
    # Behind the first difference everything is equal, with a letter taken away on one side, the other, or both.
    return known[head + 1 :] in (word[head:], word[head + 1 :]) or known[head:] == word[head + 1 :]
