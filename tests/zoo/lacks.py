"""The table of what each server truly lacks: facts about servers, not about the runner.

`test_lacks` tries each capability on each server, by single requests. What is not as it is written here fails there, in
both directions. The conformance suite expects by it, and docs/servers.md is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.zoo.capabilities import Capability


@dataclass(frozen=True, slots=True)
class Lack:
    """A capability that a server lacks: what it does instead, and what to set in the playbook (if anything).

    `upload_options` are that advice as options of a copy to the server: the suite plays with them.
    """

    capability: Capability
    does: str
    advice: str = ""
    upload_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Product:
    """A server as a partner may have it; `lacks` is all that it lacks of the capabilities."""

    name: str
    title: str
    about: str
    lacks: tuple[Lack, ...] = ()

    def has(self, capability: Capability) -> bool:
        """Whether it has what the suite then demands."""
        return all(lack.capability is not capability for lack in self.lacks)

    def make_upload_options(self) -> dict[str, Any]:
        """What its page says to set."""
        return {name: value for lack in self.lacks for name, value in lack.upload_options.items()}


_NO_SHELL = Lack(
    Capability.SHELL,
    "no command can be run: hashes are had by reading the file back",
    "`connector_type: SFTP`, which is the default; `verify: checksum` where the time for reading back is well spent",
)
_NO_REPLACE = Lack(
    Capability.REPLACE,
    "the old file steps aside before the new one takes its name: for a moment there is none of that name, and the report "
    'says `"atomic": false`',
)
_NO_HARD_LINKS = Lack(
    Capability.HARD_LINKS, "`backup` renames the old file first: for a moment there is none of that name"
)
_NO_SYNC = Lack(Capability.SYNC, '`durable: true` copies with a warning, and the report says `"durable": false`')
_NO_FREE_SPACE = Lack(Capability.FREE_SPACE, "what a full disk refuses is only called a failure")
_NO_BYTE_NAMES = Lack(Capability.BYTE_NAMES, "a file with such a name fails", "`exclude` it, or rename it")
_OTHER_BYTE_NAMES = Lack(
    Capability.BYTE_NAMES,
    "another character takes the place of such a byte, without a word: two names may become one",
    "`exclude` them, or rename them",
)
_NO_LINKS = Lack(Capability.LINKS, "a link cannot be sent", "`links: follow`, `links: skip`, or `exclude`")

_RCLONE_LACKS = (
    _NO_SHELL,
    Lack(
        Capability.HARD_LINKS, "the request is acknowledged, and nothing is made: `backup` renames the old file first"
    ),
    _NO_LINKS,
    Lack(
        Capability.SEES_LINKS,
        "links of its disk are left out of listings, unless it runs as `rclone serve sftp --copy-links`",
    ),
    Lack(Capability.FOLLOWS_LINKS, "what a link leads to is missing", "the name of the file itself"),
    Lack(Capability.RENAMES_LINKS, "there are none to rename"),
    Lack(Capability.READS_LINKS, "there are none to read"),
    Lack(
        Capability.PERMISSIONS,
        "they are acknowledged and not kept: every file has those that the server gives it",
        "`preserve: [times]`, and no `permissions`",
        {"preserve": ["times"]},
    ),
    Lack(
        Capability.OPENING_PERMISSIONS,
        "every file has those that the server gives it, from its first byte on: none is private, none is resumed",
    ),
    Lack(Capability.TELLS_PERMISSIONS, "every file is said to have the same", "`permissions` for downloads"),
    Lack(Capability.DIRECTORY_PERMISSIONS, "they are acknowledged and not kept", "`preserve: [times]`"),
    Lack(Capability.DIRECTORY_TIMES, "they are acknowledged and not kept"),
    Lack(Capability.CONTROL_NAMES, "other characters take their places on its disk", "`exclude` them, or rename them"),
    Lack(Capability.APPEND, "an interrupted copy begins afresh", "`resume: false`"),
    _NO_SYNC,
    Lack(
        Capability.FREE_SPACE, "the request is announced and refused: what a full disk refuses is only called a failure"
    ),
)

PRODUCTS = (
    Product("openssh", "OpenSSH", "`internal-sftp` or `sftp-server`, for an account with a shell."),
    Product(
        "openssh-sftp-only",
        "OpenSSH, SFTP only",
        "`ForceCommand internal-sftp`, with or without `ChrootDirectory`.",
        (_NO_SHELL,),
    ),
    Product("dropbear", "Dropbear", "With OpenSSH's `sftp-server`, as on routers and appliances."),
    Product(
        "proftpd",
        "ProFTPD",
        "`mod_sftp`, with `SFTPEngine on`.",
        (
            _NO_SHELL,
            Lack(
                Capability.SEES_LINKS,
                "LSTAT speaks of what a link leads to; listings do tell links. READLINK is asked as well before anything "
                "is removed or renamed",
            ),
            Lack(
                Capability.RENAMES_LINKS,
                "what a link leads to would be moved: `rename` refuses links, `create_link` replaces one in two steps",
                "`create_link` and `remove`",
            ),
            Lack(
                Capability.READS_LINKS,
                "an absolute path is told instead: such a link is not downloaded, and made anew by each upload",
                "`links: follow` or `links: skip`",
            ),
        ),
    ),
    Product(
        "rclone",
        "rclone serve sftp",
        "Go's pkg/sftp on rclone's files. By default, `rclone serve sftp --vfs-cache-mode off`, it writes a file from its "
        "beginning to its end.",
        (
            *_RCLONE_LACKS,
            Lack(Capability.SEVERAL_HANDLES, "a write that does not follow the one before it is refused"),
        ),
    ),
    Product(
        "rclone-cached",
        "rclone serve sftp with a cache",
        "The same as `rclone serve sftp --vfs-cache-mode full`.",
        _RCLONE_LACKS,
    ),
    Product(
        "pkg-sftp",
        "pkg/sftp",
        "A server of one's own on Go's `sftp.NewServer`, for real files. SFTPGo, MinIO and rclone put its other one, "
        "`sftp.NewRequestServer`, on files of their own.",
        (
            _NO_SHELL,
            _NO_SYNC,
            Lack(
                Capability.OPENING_PERMISSIONS,
                "each new file has 0644: it is closed off before its first byte, and one that replaces another for a step "
                "that asks for no permissions, as `write_file` does, has 0644 as well",
                '`permissions`, such as `permissions: "0640"`',
            ),
        ),
    ),
    Product("gesftpserver", "gesftpserver", "Green End's SFTP server, as `Subsystem sftp` of sshd."),
    Product(
        "conch",
        "Twisted Conch",
        "Its `SFTPServerForUnixConchUser`.",
        (
            _NO_SHELL,
            _NO_REPLACE,
            _NO_HARD_LINKS,
            _NO_SYNC,
            _NO_FREE_SPACE,
            Lack(
                Capability.LINKS,
                "a target becomes absolute: such a link is not made",
                "`links: follow`, `links: skip`, or `exclude`",
            ),
            Lack(
                Capability.UNICODE_NAMES,
                "a file with such a name fails, in both directions",
                "`exclude` it, or rename it",
            ),
            _NO_BYTE_NAMES,
        ),
    ),
    Product(
        "node-ssh2",
        "node ssh2",
        "A server of one's own on `ssh2`, whose files are asynchronous.",
        (_NO_SHELL, _NO_REPLACE, _NO_HARD_LINKS, _NO_SYNC, _NO_FREE_SPACE, _OTHER_BYTE_NAMES),
    ),
    Product(
        "paramiko",
        "paramiko",
        "A server of one's own on its `SFTPServer`.",
        (_NO_SHELL, _NO_REPLACE, _NO_HARD_LINKS, _NO_SYNC, _NO_FREE_SPACE, _NO_BYTE_NAMES),
    ),
    Product("asyncssh", "asyncssh", "Its `SFTPServer`, without a shell.", (_NO_SHELL,)),
)

_BY_NAME = {product.name: product for product in PRODUCTS}


def find_product(name: str) -> Product:
    return _BY_NAME[name]
