"""What a server is: what its banner and its extensions say, and what was seen of it. The only place that decides by that.

The protocols promise little, and servers keep less. Where a faster or simpler way is right on some servers only, the trait
that allows it is asked for here. Each is cautious until something speaks for more, and says why it is as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Literal

# OpenSSH's sftp-server tells these to every client, and no other server is known to tell all of them (sftp-server.c,
# process_init). One that the administrator has denied is left out: a few of them will do.
_OPENSSH_EXTENSIONS = frozenset(
    f"{name}@openssh.com" for name in ("posix-rename", "statvfs", "fstatvfs", "hardlink", "fsync", "lsetstat", "limits")
)
_ENOUGH_OPENSSH_EXTENSIONS = 3
# The extensions of drafts that OpenSSH's server has as well (since 9.0 and 9.2).
_OPENSSH_DRAFT_EXTENSIONS = frozenset(("copy-data", "home-directory"))

# How many files are open at once on a server that does not tell how many it allows: some allow 64 in all.
CAUTIOUS_OPEN_FILES = 48

_YES_NO_UNKNOWN = {
    True: "the link itself is renamed",
    False: "what a link leads to is renamed",
    None: "tried out first",
}

_TOLD = {
    True: "LSTAT tells of the link itself",
    False: "LSTAT tells of what a link leads to, READLINK is asked as well",
    None: "READLINK is asked as well as LSTAT",
}

_PRIVATE = {
    "opening": "opened so",
    "handle": "closed off by handle before the first byte",
    "path": "closed off by path before the first byte",
    "nothing": "are not to be had",
    None: "tried out first",
}

# Of the requests of one kind so many are looked at on a server that is known to do what it says: a banner is a claim, too.
SAMPLE_SIZE = 16

# What a server may say that it has done, in words.
Deed = Literal["renamed", "removed", "made a directory", "set attributes"]
SetBy = Literal["handle", "path", "nothing"]
PrivateBy = Literal["opening", "handle", "path", "nothing"]
LinkOrder = Literal["target first", "link first"]


class ServerTraits:
    """What is known of one server, for as long as a connection to it lives. Values change as more is seen.

    `banner` is the software as it names itself when the connection begins.
    """

    def __init__(self, banner: str) -> None:
        self.banner = banner
        # Whether its SFTP server has said what it is: all of this is about that one.
        self.has_spoken = False
        # By the name of the trait.
        self.reasons: dict[str, str] = {}
        is_openssh = "OpenSSH_" in banner
        why = f"the banner {banner!r}"
        # Whether SFTP requests are carried out one after the other, in order (sftp-server.c has one thread).
        self.is_sequential = is_openssh
        # Whether several handles of one path are one file: then what each writes is there.
        self.shares_files = is_openssh
        # Whether a rename takes a symbolic link itself, and not what it leads to. None: not known before it was tried.
        self.renames_links: bool | None = True if is_openssh else None
        # In which order SYMLINK's two paths are taken. None: not known before it was tried.
        self.link_order: LinkOrder | None = "target first" if is_openssh else None
        # Whether LSTAT tells of a link itself. None: not seen yet.
        self.tells_links: bool | None = True if is_openssh else None
        # What makes a new file private: the mode of its OPEN, or what is set behind it. None: not known before it was tried.
        self.makes_private_by: PrivateBy | None = "opening" if is_openssh else None
        for name in ("is_sequential", "shares_files", "renames_links", "link_order", "tells_links", "makes_private_by"):
            self.reasons[name] = why
        # Dropbear (2022.83) closes a channel that has just been opened when the program of another one ends.
        self.is_hasty = "dropbear" in banner
        # ProFTPD (1.3.8) tells where a link leads as a whole path, however it is written, and LSTAT of what is there.
        self.reads_links_as_written = "mod_sftp" not in banner
        if not self.reads_links_as_written:
            self.tells_links = False
        # Whether posix-rename and hard links do what they say, where they are announced.
        self.replaces = True
        self.gives_second_names = True
        # Through which request permissions and times can be set, as far as has been seen.
        self.sets_permissions_by: SetBy = "handle"
        self.sets_times_by: SetBy = "handle"
        # Whether the times that it sets are those that it was asked for.
        self.keeps_times = True
        # Whether STAT tells of a file that was just written, under its temporary name; None: not tried yet.
        self.tells_status: bool | None = None
        # How many files may be open at once, None: the server tells, or it is not known to be few.
        self.max_open_files: int | None = None
        # Whether it takes further channels, and a file opened on more than one.
        self.takes_more_channels = True
        # Of each kind of request, how many more are looked at.
        self._unsampled: dict[Deed, int] = {}

    def learn_extensions(self, extensions: Mapping[str, bytes]) -> None:
        """Take in what the SFTP server tells of itself. Behind sshd's banner there may be another's SFTP server."""
        self.has_spoken = True
        told = len(_OPENSSH_EXTENSIONS & extensions.keys())
        foreign = sorted(
            name for name in extensions if not name.endswith("@openssh.com") and name not in _OPENSSH_DRAFT_EXTENSIONS
        )
        if self.is_sequential and (told < _ENOUGH_OPENSSH_EXTENSIONS or foreign):
            why = f"it tells {foreign[0]!r}" if foreign else f"it tells {told} of OpenSSH's extensions"
            self._expect_nothing(why)

    def believes(self, deed: Deed) -> bool:
        """Whether a server's OK to one more request is all that need be known of it.

        Where requests are carried out in order, the first few of each kind are looked at, in the same flight; on every
        other server each of them is.
        """
        if not self.is_sequential:
            return False
        left = self._unsampled.get(deed, SAMPLE_SIZE)
        if left:
            self._unsampled[deed] = left - 1
        return not left

    def catch(self, deed: Deed) -> None:
        """It said that it had done something, and it had not: from here on it is a server like any other."""
        if self.is_sequential:
            self._expect_nothing(f"it answered OK, and had not {deed}")

    def mixes_up(self, deed: Deed) -> None:
        """Only a second look has shown what the request before the first one was to do: it does not keep their order."""
        if self.is_sequential:
            self._expect_nothing(f"it was asked to look behind that, and had not {deed} yet")

    def _expect_nothing(self, why: str) -> None:
        for name, value in (
            ("is_sequential", False),
            ("shares_files", False),
            ("renames_links", None),
            ("link_order", None),
            ("tells_links", None),
            ("makes_private_by", None),
        ):
            self.saw(name, value, why)

    def doubt(self, deed: Deed) -> None:
        """It said that it had done something, and it is otherwise: from here on each such request is looked at."""
        self._unsampled[deed] = sys.maxsize

    def describe(self) -> tuple[tuple[str, str, str], ...]:
        """What is held to be true, for people: what it is about, the value in words, and the reason if there is one."""
        lines = (
            (
                "requests",
                "is_sequential",
                "carried out in order" if self.is_sequential else "may be mixed up: each waits",
            ),
            ("several handles", "shares_files", "of one file" if self.shares_files else "not known to be of one file"),
            ("links", "link_order", self.link_order or "the order of paths is tried out first"),
            ("told links", "tells_links", _TOLD[self.tells_links]),
            ("renamed links", "renames_links", _YES_NO_UNKNOWN[self.renames_links]),
            ("private files", "makes_private_by", _PRIVATE[self.makes_private_by]),
            ("permissions", "sets_permissions_by", f"set by {self.sets_permissions_by}"),
            ("times", "sets_times_by", f"set by {self.sets_times_by}")
            if self.keeps_times
            else ("times", "keeps_times", "others than asked for"),
            ("posix-rename", "replaces", "as announced" if self.replaces else "refused"),
            ("hard links", "gives_second_names", "as announced" if self.gives_second_names else "only said to be made"),
            ("open files", "max_open_files", f"{self.max_open_files}" if self.max_open_files else ""),
        )
        return tuple((label, value, self.reasons.get(name, "")) for label, name, value in lines if value)

    def saw(self, name: str, value: object, why: str) -> None:
        """Something has shown that a trait is otherwise."""
        assert hasattr(self, name), name
        setattr(self, name, value)
        self.reasons[name] = why
