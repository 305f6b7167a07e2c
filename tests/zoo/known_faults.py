"""Checks that fail because of the runner, not because of the server: each with its row in the table of issue 13.

An entry is a strict expected failure. When the runner is right there, the check passes, the run fails, and the entry goes.
Those that depend on time or chance are not strict: `is_certain` is false, and they go with the others of their row.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """`check` is a test's name, with `[…]` for its parameters but the server. `row` is 0 for what has none."""

    server: str
    check: str
    row: int
    seen: str
    is_certain: bool = True


def _list(server: str, row: int, seen: str, *checks: str, is_certain: bool = True) -> tuple[Fault, ...]:
    return tuple(Fault(server, check, row, seen, is_certain) for check in checks)


_RCLONE = ("rclone-off", "rclone-full")

KNOWN_FAULTS: tuple[Fault, ...] = (
    # --- what is lost, most dangerous first ---
    *_list(
        "proftpd", 6, "RENAME follows the link: its target gets the new content, the link stays",
        "test_a_link_at_the_destination_is_replaced_and_not_followed",
    ),
    *_list(
        "proftpd", 6, "RENAME moves what the temporary link leads to: files vanish, links fail",
        "test_links[up]", "test_a_link_that_leads_elsewhere_is_replaced",
    ),
    # --- what is left behind ---
    *(
        fault
        for server in _RCLONE
        for fault in _list(
            server, 18, "copied afresh after a cut, and the partial file that cannot be continued stays",
            "test_an_interrupted_file_is_resumed[up]",
        )
    ),
    # --- what is said to be so, and is not ---
    *(
        fault
        for server in _RCLONE
        for fault in _list(
            server, 10, "permissions of a new directory are acknowledged and not kept: 'changed'",
            "test_create_directory_with_permissions",
        )
    ),
    # --- what fails, and need not ---
    *_list("openssh", 13, "STAT is denied: the tree is not fetched", "test_a_request_is_denied[stat-download-tree]"),
    *_list(
        "openssh", 17, "what the shell said is not quoted: 'ended before it said a word'",
        "test_a_shell_that_talks_before_sftp_is_quoted",
    ),
    *_list(
        "openssh", 17, "the channel before is not closed yet: 'refuses to open a session'",
        "test_scp[up-one-session]", "test_scp[down-one-session]", is_certain=False,
    ),
)  # fmt: skip
