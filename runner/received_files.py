"""Which local files the steps of one command line receive from servers. What is in them is what a server says."""

from __future__ import annotations

import os

from runner.problems import Location


class ReceivedFiles:
    """Where downloads write, and which step does, in all playbooks of a command line.

    By path, with its symbolic links followed: a directory stands for all that is below it, so that nothing is to be done
    for each of its files.
    """

    def __init__(self) -> None:
        self._steps: dict[str, tuple[int, str, Location]] = {}
        # Few playbooks ask, and many copy: links are followed when somebody does.
        self._fresh: dict[str, tuple[int, str, Location]] = {}

    def note(self, path: str, index: int, name: str, location: Location) -> None:
        """The step that is called so is about to write to a local file, or below a directory."""
        self._fresh[path] = index, name, location

    def find_step(self, path: str) -> str:
        """The step that a local file may have come by, as messages name it; empty if none has written there."""
        if self._fresh:
            self._steps |= {os.path.realpath(fresh): step for fresh, step in self._fresh.items()}
            self._fresh.clear()
        if not self._steps:
            return ""
        place = os.path.realpath(path)
        while place not in self._steps:
            above = os.path.dirname(place)
            if above == place:
                return ""
            place = above
        index, name, location = self._steps[place]
        return f"step {index} ({name}, {location})"
