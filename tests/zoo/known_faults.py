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
_NODE = ("node-ssh2", "node-any-flags")

# With a name for its flags or without: every small file that is sent to node's ssh2.
_SMALL_UPLOADS = (
    "test_a_backup_is_kept[up]",
    "test_a_file_is_always_copied_where_that_is_asked[up]",
    "test_a_file_is_synced",
    "test_a_link_at_the_destination_is_replaced_and_not_followed",
    "test_a_link_that_leads_elsewhere_is_replaced",
    "test_a_new_file[byte-up]",
    "test_a_second_play_has_nothing_to_do[up]",
    "test_a_second_play_of_a_tree_has_nothing_to_do[up]",
    "test_a_tree[up]",
    "test_a_tree_over_a_line_that_is_cut[up]",
    "test_a_tree_with_delete_and_what_check_says_of_it[up]",
    "test_backups_in_a_tree[up]",
    "test_check_says_what_the_play_does[missing-up]",
    "test_check_says_what_the_play_does[other-up]",
    "test_content_is_compared[up]",
    "test_existing_files_of_a_tree_are_left_alone[fail-up]",
    "test_existing_files_of_a_tree_are_left_alone[skip-up]",
    "test_links[up]",
    "test_names_that_are_not_utf_8",
    "test_nothing_is_preserved_that_is_not_asked_for[up]",
    "test_odd_names[up]",
    "test_parents_are_made",
    "test_permissions_that_are_asked_for[up]",
    "test_what_the_server_does_not_keep_is_spoken_of",
    "test_what_the_server_does_not_keep_of_a_tree_is_spoken_of",
    "test_where_nothing_exists_the_file_is_copied[up]",
)
# These have so many requests, or none, that row 8 does not show.
_OTHER_UPLOADS = (
    "test_a_checksum_is_verified[up]",
    "test_a_file_is_replaced[up]",
    "test_a_large_file_over_a_long_line[up]",
    "test_a_new_file[empty-up]",
    "test_a_new_file[many-requests-up]",
    "test_an_interrupted_file_is_resumed[up]",
)

KNOWN_FAULTS: tuple[Fault, ...] = (
    # --- what is lost, most dangerous first ---
    *(
        fault
        for server in _RCLONE
        for fault in (
            *_list(
                server, 3, "MKDIR of a directory that exists is OK: the destination is taken for new, and overwritten",
                "test_existing_files_of_a_tree_are_left_alone[skip-up]",
                "test_existing_files_of_a_tree_are_left_alone[fail-up]",
            ),
            *_list(server, 3, "MKDIR is OK: nothing is kept", "test_backups_in_a_tree[up]"),
            *_list(server, 3, "MKDIR is OK: nothing is removed", "test_a_tree_with_delete_and_what_check_says_of_it[up]"),
            *_list(server, 3, "MKDIR is OK: all is copied again", "test_a_second_play_of_a_tree_has_nothing_to_do[up]"),
            *_list(server, 4, "the backup is reported as kept, and does not exist", "test_a_backup_is_kept[up]"),
        )
    ),
    *_list(
        "proftpd", 6, "RENAME follows the link: its target gets the new content, the link stays",
        "test_a_link_at_the_destination_is_replaced_and_not_followed",
    ),
    *_list(
        "proftpd", 6, "RENAME moves what the temporary link leads to: files vanish, links fail",
        "test_links[up]", "test_a_link_that_leads_elsewhere_is_replaced",
    ),
    # --- what is left behind ---
    *_list(
        "gesftpserver", 7, "SYMLINK has its arguments in the draft's order, as it announces: no link, and strays",
        "test_links[up]", "test_a_link_that_leads_elsewhere_is_replaced",
    ),
    *_list("conch", 7, "SYMLINK has its arguments in the draft's order: strays in the login directory", "test_links[up]"),
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
            server, 10, "permissions are acknowledged and not kept: not a word, or 'permissions set'",
            "test_permissions_that_are_asked_for[up]", "test_create_directory_with_permissions",
            "test_what_the_server_does_not_keep_is_spoken_of",
            "test_what_the_server_does_not_keep_of_a_tree_is_spoken_of",
        )
    ),
    *_list(
        "conch", 10, "FSETSTAT is refused, SETSTAT would be accepted: files stay 0600 with the time of the copy",
        "test_a_new_file[many-requests-up]", "test_a_file_is_replaced[up]", "test_a_checksum_is_verified[up]",
        "test_a_large_file_over_a_long_line[up]", "test_an_interrupted_file_is_resumed[up]",
        "test_a_file_is_written_in_place",
    ),
    # --- what fails, and need not ---
    *_list(
        "rclone-off", 2, "a second handle to one file: 'FAILURE: Illegal seek'",
        "test_a_large_file_over_a_long_line[up]", is_certain=False,
    ),
    *_list(
        "gesftpserver", 12, "256 files at once: it ends the session", "test_a_tree[up]", "test_a_tree[down]",
        is_certain=False,
    ),
    *(fault for server in _NODE for fault in _list(server, 12, "256 files at once", "test_a_tree[down]", is_certain=False)),
    *_list("node-ssh2", 16, "OPEN: 'unknown combination of flags'", *_SMALL_UPLOADS, *_OTHER_UPLOADS),
    *_list(
        "node-any-flags", 8, "FSTAT is answered before the WRITE is done: 'not everything was kept'", *_SMALL_UPLOADS
    ),
    *_list("openssh", 13, "FSTAT is denied: the file is not fetched", "test_a_request_is_denied[fstat-download]"),
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
