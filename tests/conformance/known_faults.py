"""What is known to be wrong: strict, so that what works again has to be taken off this list.

`SCENARIOS` has patterns of tests of `test_personalities.py`: each must fail, and one that passes is a failure. `TRIALS` has
patterns of trials of `test_matrix.py`, grouped by kind: what fails and is in none of them is a failure, and a pattern that a
full run (`MATRIX_TRIALS=all pytest tests/conformance`) has not met is reported at its end. `OUT_OF_REACH` is no fault:
nothing that a client could ask would tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.oracle import Violation
    from tests.conformance.trials import TrialName

# The patterns that a run has met.
SEEN: set[str] = set()


@dataclass(frozen=True, slots=True)
class Known:
    """One kind of fault: why, and what shows it."""

    kind: str
    pattern: str

    def fits(self, text: str) -> bool:
        """Whether this is it."""
        return re.fullmatch(self.pattern, text, re.DOTALL) is not None


# The pattern of a test's name, parameters included.
SCENARIOS: tuple[Known, ...] = (
    Known("row 1: several handles for one object: zeros, and exit code 0", r"test_a_large_file_in_an_object.*"),
    Known("row 1: the size is asked for before CLOSE", r"test_a_small_file_in_an_object_store.*"),
    Known("row 2: no fallback to one handle", r"test_a_large_file_where_one_handle.*\[OneHandle\]"),
    Known("row 2: no option `channels`", r"test_a_large_file_where_a_second_handle.*"),
    Known("row 3: MKDIR is believed", r"test_existing_files_are_respected_where_mkdir_says_ok\[tree-.*"),
    Known("row 3: MKDIR is believed", r"test_replaced_files_are_kept_where_mkdir_says_ok\[tree\]"),
    Known("row 3: MKDIR is believed", r"test_what_the_source_lacks_is_removed_where_mkdir_says_ok"),
    Known("row 3: MKDIR is believed", r"test_a_check_tells_what_would_change_where_mkdir_says_ok"),
    Known("row 4: a hard link is believed", r"test_a_backup_where_a_hard_link_is_only_said.*"),
    Known("row 5: what was received is thrown away", r"test_a_file_that_is_handed_out_once\[file.*"),
    Known("row 5: no warning that the source is gone", r"test_a_file_that_is_handed_out_once\[tree-last byte\]"),
    Known("row 6: links are renamed", r"test_links_are_sent_where_rename_follows_them.*"),
    Known("row 6: a link steps aside by RENAME", r"test_a_copy_onto_a_link.*\[.*-RenameFollowsLinksPlainly\]"),
    Known("row 7: the order of SYMLINK's arguments is not learnt", r"test_links_where_the_arguments_are_swapped.*"),
    Known("row 7: a link is not read back", r"test_links_where_targets_are_made_absolute"),
    Known("row 8: FSTAT before the WRITEs are acknowledged", r"test_many_small_files_to_a_server_that_writes_in_workers"),
    Known("row 8: FSTAT before the WRITEs are acknowledged", r"test_a_file_to_a_server_that_writes_in.*\[20000\]"),
    Known("row 9: attributes nobody asked for", r"test_no_attribute_is_sent_that_was_not_asked_for\[nothing-.*"),
    Known("row 9: no `permissions: server`", r"test_no_attribute_is_sent_that_was_not_asked_for\[server-.*"),
    Known("row 10: SETSTAT is not tried for FSETSTAT", r"test_the_other_request_sets.*\[.*-file-refused-FSETSTAT\]"),
    Known("row 10: FSETSTAT is believed", r"test_the_other_request_sets.*\[.*-ignored-FSETSTAT\]"),
    Known("row 10: FSETSTAT is believed", r"test_permissions_that_cannot_be_set_fail.*\[.*-ignored\]"),
    Known("row 10: files stay 0600, and no warning names it", r"test_permissions_that_cannot_be_kept_are_those_of.*"),
    Known("row 11: times are not looked at", r"test_one_warning_for_times_that_do_not_stay.*"),
    Known("row 11: times are not looked at", r"test_times_that_a_server_sets_at_close.*"),
    Known("row 11: no `compare: size`, no `modify_window`", r"test_the_second_play_copies_nothing.*"),
    Known("row 12: more files are opened than the server allows", r"test_a_tree_of_300_where_few_files_may_be_open.*"),
    Known("row 13: a missing file must be called NO_SUCH_FILE", r"test_the_first_upload_where_missing.*\[file-.*"),
    Known("row 13: FAILURE of a look fails a file", r"test_a_copy_where_looking_is_refused\[up-file-4-STAT.*"),
    Known("row 13: a look that is refused fails a tree", r"test_a_copy_where_looking_is_refused\[(up|down)-tree-\d-STAT.*"),
    Known("row 13: FSTAT is needed for a download", r"test_a_copy_where_looking_is_refused\[down-file-\d-FSTAT\]"),
    Known("row 13: a refusal without a hint", r"test_a_copy_where_looking_is_refused\[down-file-8-STAT\+LSTAT\+FSTAT\]"),
    Known("row 13: STAT is needed for a download", r"test_a_copy_where_looking_is_refused\[down-file-4-STAT(\+LSTAT)?\]"),
    Known("row 13: the time is lost in silence", r"test_a_copy_where_looking_is_refused\[down-file-[38]-STAT(\+LSTAT)?\]"),
    Known("row 13: FAILURE of a look fails a file", r"test_a_copy_into_a_drop_box\[file-4-.*"),
    Known("row 13: no tree can be sent to a drop box", r"test_a_copy_into_a_drop_box\[tree-.*"),
    Known("row 13: the hint names no option", r"test_a_drop_box_with_the_usual_options.*\[(file-4|tree-3|tree-4)\]"),
    Known("row 14: posix-rename is not given up", r"test_posix_rename_is_advertised_and_refused.*"),
    Known("row 14: fails although the file is in place, or in silence", r"test_what_stepped_aside_cannot_be_removed.*"),
    Known("row 15: the hint does not name the options", r"test_a_name_that_is_not_allowed_has_options_that_help.*"),
    Known("row 15: no `temporary_name`", r"test_a_temporary_name_of_ones_own.*"),
    Known("row 15: no `temporary_directory`", r"test_a_temporary_directory.*"),
    Known("row 15: a file that was taken is sent again", r"test_a_file_that_is_taken_under_its_temporary_name\[file\]"),
    Known("row 16: WRITE with CREATE and EXCLUSIVE, without TRUNCATE", r"test_only_common_flags_are_needed\[.*-up-atomic\]"),
    Known("row 18: zeros in place of the resumed part, and exit code 0", r"test_a_partial_file.*\[.*-object store\]"),
    Known("row 18: what cannot be continued fails", r"test_a_partial_file.*\[.*-(no append|common flags)\]"),
)  # fmt: skip


def _trials(kind: str, violation: str, *, request: str = ".*", oddity: str = ".*", case: str = ".*") -> Known:
    """A kind of fault, by patterns of the parts of a trial's name and the kind of the violation."""
    name = r"\|".join(f"(?:{part})" for part in (case, "[a-z]+", request, "[a-z]+", oddity))
    return Known(kind, f"{name} (?:{violation}): .*")


# What no client could see, unless it reads everything back (`verify: checksum`).
_WORD = "mode|time|false-ok|lost|backup|removed|files_changed"
_STRAYS = "stray|stray-backup|stray-after-cut"
OUT_OF_REACH: tuple[Known, ...] = (
    _trials("a WRITE that says OK and does nothing leaves zeros of the right size", "false-ok",
            request="WRITE", oddity="ignored", case="(?!.*checksum).*"),
    _trials("of what is told to be missing nobody can know that it is there", _WORD, request="L?STAT", oddity="refused-2"),
    _trials("of what is told to be as it was nobody can know that it is not", _WORD, request="L?STAT", oddity="old-object"),
    _trials("a listing that ends early is a shorter listing", f"listing|{_WORD}", request="READDIR", oddity="refused-1"),
    _trials("a source's size and time are what the server tells", "mode|time|listing",
            request="F?STAT|LSTAT|READDIR", oddity="size.*|time-(0|max)"),
    _trials("a link's target is what the server tells", "false-ok|time",
            request="READLINK", oddity="slash-end|empty-path|two-names"),
)  # fmt: skip

_ENDS = (
    r"cut-.*|drop-.*|silent|twice|other-id|wrong-type|short-body|status-ok|handle-.*|data-.*|no-names|count-off|name.*"
)
_NO_TYPE = "attrs-(none|only-size|no-mode)|mode-no-type"

# The most dangerous first.
TRIALS: tuple[Known, ...] = (
    # Lost, or said to be well.
    _trials("a directory without type bits is taken for a file, and steps aside", "stray|lost|removed|false-ok|torn",
            request="L?STAT|FSTAT|READDIR", oddity=_NO_TYPE, case=".*tree.*|remove.*"),
    _trials("OPENDIR and READDIR answered with the status OK pass for an empty directory",
            f"listing|stray|{_WORD}", request="OPENDIR|READDIR", oddity="status-ok"),
    _trials("OPEN of a tree's file answered with the status OK passes for a copied file",
            f"verified|{_WORD}", request="OPEN", oddity="status-ok", case=".*tree.*"),
    _trials("backup: true without hard links: a look that is refused passes for 'nothing there'", "backup",
            request="LSTAT", oddity="refused-.*", case=".*(backup|no-hardlink)"),
    _trials("in two steps: the old file has stepped aside when the line breaks, and its name is not told", f"lost|{_STRAYS}",
            request="[^|]*", oddity=f"{_ENDS}|refused-.*|done-refused", case=".*(bare|no-hardlink|retried).*"),
    _trials("a rename, removal or link that says OK and does nothing is believed", f"{_STRAYS}|{_WORD}",
            request="posix-rename|RENAME|REMOVE|RMDIR|MKDIR|SYMLINK|hardlink", oddity="ignored"),
    _trials("what is there and told to be missing when it is removed counts as removed", "false-ok|removed|stray",
            request="REMOVE|RMDIR", oddity="refused-2"),
    _trials("row 10: FSETSTAT and SETSTAT are believed", "mode|time", request="F?SETSTAT", oddity="ignored"),
    _trials("row 10: permissions that a directory does not get are a warning", "mode",
            request="F?SETSTAT", oddity="refused-.*|done-refused"),
    _trials("permissions were asked for, and are taken to be right where the server does not tell them", "mode",
            request="F?STAT|LSTAT|READDIR", oddity=_NO_TYPE),
    _trials("row 13: a download that no size is told of is not verified", "verified", request="FSTAT", oddity="attrs-.*"),
    _trials("a listing calls everything without type bits a file", "listing", request="READDIR|L?STAT", oddity=_NO_TYPE),
    # Left behind without a word.
    _trials("an upload of a tree that is cut off does not name its temporary files", "stray-after-cut|stray",
            case="up-tree.*", oddity=_ENDS),
    _trials("a tree that fails does not name the backups that it made", "stray-backup", case=".*tree.*backup"),
    _trials("a backup whose copy is cut off is not named", "stray-backup|stray", case=".*file.*backup", oddity=_ENDS),
    _trials("what stepped aside and cannot be removed is not named", "stray", request="REMOVE", case="up-.*"),
    _trials("an OPEN that is refused and was done leaves an empty file", "stray", request="OPEN", oddity="done-refused"),
    # Attributes in silence, hints.
    _trials("row 13: the source's time is lost in silence", "time",
            request="F?STAT|LSTAT|READDIR", oddity="attrs-.*|refused-.*"),
    _trials("a refusal with OP_UNSUPPORTED has no hint", "no-hint", oddity="refused-8"),
)  # fmt: skip


def find_scenario(test_name: str) -> Known | None:
    """Why a test is known to fail."""
    return next((known for known in SCENARIOS if known.fits(test_name)), None)


def find_known(name: TrialName, violation: Violation) -> Known | None:
    """The fault on the list that a violation belongs to."""
    text = f"{name} {violation.kind}: {violation.detail}"
    return next((known for known in TRIALS if known.fits(text)), None)


def is_out_of_reach(name: TrialName, violation: Violation) -> bool:
    """Whether nothing that a client could ask would have told."""
    text = f"{name} {violation.kind}: {violation.detail}"
    return any(known.fits(text) for known in OUT_OF_REACH)
