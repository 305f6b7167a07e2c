"""Which of the commands that an Ansible task runs on a host are a mode here."""

from __future__ import annotations

import re
import shlex
from typing import Any

from runner.playbook.ansible.arguments import TEMPLATE, join_path, last_name

# What a shell would make more of.
_SHELL = re.compile(r"[|&;<>()$`*?\[\]\n]|\{%")
_TEMPLATE = re.compile(TEMPLATE)


def translate_command(line: str, folder: str = "") -> dict[str, Any] | None:
    """The mode that does what the command does in `folder`; None if there is none, or it is more than a plain command."""
    templates: list[str] = []

    def hold(found: re.Match[str]) -> str:
        templates.append(found[0])
        return f"\ue000{len(templates) - 1}\ue000"

    plain = _TEMPLATE.sub(hold, line)
    if _SHELL.search(plain):
        return None
    try:
        words = shlex.split(plain)
    except ValueError:
        return None
    words = [re.sub("\ue000([0-9]+)\ue000", lambda found: templates[int(found[1])], word) for word in words]
    return _translate(words, folder) if words else None


def _translate(words: list[str], folder: str) -> dict[str, Any] | None:
    program, options = words[0].rpartition("/")[2], [word for word in words[1:] if word.startswith("-")]
    paths = [word for word in words[1:] if not word.startswith("-")]
    letters = set("".join(option.lstrip("-") for option in options if not option.startswith("--")))
    is_link = program == "ln"
    paths = [path if is_link and index == 0 else _place(path, folder) for index, path in enumerate(paths)]
    match program, len(paths):
        case "rm", 1 if letters <= set("rRfv"):
            return {"mode_name": "remove", "path": paths[0], **({"recursive": True} if letters & {"r", "R"} else {})}
        case "rmdir", 1:
            return {"mode_name": "remove", "path": paths[0]}
        case "mkdir", 1 if letters <= set("pv"):
            return {"mode_name": "create_directory", "path": paths[0]}
        case "mv", 2:
            if words[-1].endswith("/"):
                paths[1] = join_path(paths[1], last_name(paths[0]))
            overwrites = {} if "n" in letters else {"overwrite": True}
            return {"mode_name": "rename", "source_path": paths[0], "destination_path": paths[1], **overwrites}
        case "ln", 2 if "s" in letters:
            return {"mode_name": "create_link", "path": paths[1], "target": paths[0]}
        case "ls", 1:
            return {"mode_name": "list", "path": paths[0], **({"recursive": True} if "R" in letters else {})}
        case "cat", 1:
            return {"mode_name": "read_file", "source_file_name": paths[0]}
        case (("test" | "stat"), 1):
            return {"mode_name": "stats", "path": paths[0]}
        case "touch", 1:
            return {"mode_name": "write_file", "content": "", "destination_file_name": paths[0], "if_exists": "skip"}
    return None


def _place(path: str, folder: str) -> str:
    """A path of the command as one of the host; relative ones start at the login directory, as a command does."""
    is_relative = not path.startswith(("/", "~", "{{"))
    path = f"{folder.rstrip('/')}/{path}" if folder and is_relative else path
    return path.removeprefix("~/").rstrip("/") or "/"
