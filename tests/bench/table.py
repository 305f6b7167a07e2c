"""Results as Markdown tables, which are also what the terminal shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tests.bench.cases import CASES, GIB, KIB, MIB, Case
from tests.bench.results import CaseResult, Judgement, Summary, summarize
from tests.bench.targets import PRODUCT, RatioTarget, TimeTarget
from tests.bench.tools import TOOLS

_RATE_UNITS = {"file": "MiB/s", "list-and-loop": "names/s", "validate": "steps/s"}
_CASES = {case.name: case for case in CASES}


def case_table(result: CaseResult) -> str:
    """The tools of a case, ours first, and below it what did not count."""
    rate_unit = _RATE_UNITS.get(result.case.shape, "files/s")
    header = ("", "time (fastest–slowest)", rate_unit, "CPU", "peak memory", "runner ÷ it", "runs")
    rows = [
        _summary_row(result.case, summary) if (summary := summarize(result, tool)) else _failed_row(tool, len(header))
        for tool in result.tools
    ]
    notes = [
        f"- {TOOLS[tool].label}: {len(failures)} of its runs did not count: {_plain(failures[0])}"
        for tool in result.tools
        if (failures := result.failures(tool))
    ]
    notes += [f"- {TOOLS[tool].label}: {reason}" for tool, reason in result.absences.items()]
    return "\n".join([*_table(header, rows, "lrrrrrr"), *(["", *notes] if notes else [])])


def target_table(judgements: Iterable[Judgement]) -> str:
    """Every target, what was measured, and whether it is met."""
    rows = []
    for one in judgements:
        if isinstance(one.target, RatioTarget):
            what = f"time ÷ {TOOLS[one.target.peer].label}"
            limit = f"{one.target.at_most:g}"
            measured = "" if one.measured is None else f"{one.measured:.3g}"
        elif isinstance(one.target, TimeTarget):
            what, limit = "time", format_seconds(one.target.at_most_seconds)
            measured = "" if one.measured is None else format_seconds(one.measured)
        else:
            what, limit = "peak memory", format_bytes(one.target.at_most_bytes)
            measured = "" if one.measured is None else format_bytes(one.measured)
        verdict = f"**{one.verdict}**" if one.verdict == "missed" else one.verdict
        rows.append((_CASES[one.target.case].title, what, limit, measured, verdict))
    return "\n".join(_table(("case", "measure", "at most", "measured", ""), rows, "llrrl"))


def format_title(case: Case) -> str:
    """The title of a case; one that was scaled down says to what."""
    whole = _CASES.get(case.name, case)
    if (case.file_bytes, case.file_count) == (whole.file_bytes, whole.file_count):
        return case.title
    size = format_bytes(case.file_bytes) if case.shape == "file" else f"{case.file_count:,} files"
    return f"{case.title} (scaled to {size})"


def format_bytes(count: float) -> str:
    """A count of bytes in the unit that suits it."""
    for unit, size in (("GiB", GIB), ("MiB", MIB)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:.0f} {unit}"
    return f"{count / KIB:.3g} KiB"


def format_seconds(seconds: float) -> str:
    """Three digits are more than a run is worth."""
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def _summary_row(case: Case, summary: Summary) -> tuple[str, ...]:
    count = case.total_bytes / MIB if case.shape == "file" else case.file_count
    label = TOOLS[summary.tool].label
    spread = f"{summary.fastest_seconds:.2f}–{summary.slowest_seconds:.2f}"
    return (
        f"**{label}**" if summary.tool == PRODUCT else label,
        f"{format_seconds(summary.seconds)} ({spread})",
        _format_rate(count / summary.seconds) if count > 1 else "",
        format_seconds(summary.cpu_seconds),
        f"{'< ' if summary.is_peak_floor else ''}{summary.peak_bytes / MIB:.0f} MiB",
        "" if summary.ratio is None else f"{summary.ratio:.2f}" if summary.ratio >= 0.1 else f"{summary.ratio:.3f}",
        str(summary.counted_runs),
    )


def _format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _failed_row(tool: str, width: int) -> tuple[str, ...]:
    return (TOOLS[tool].label, "failed", *[""] * (width - 3), "0")


def _plain(text: str) -> str:
    """A tool's last words on one line, short, without this machine's folders and without what Markdown takes for markup."""
    text = re.sub(r"/(?:[\w.+-]+/)+", "", text)
    kept = "".join(character if character.isprintable() and character not in "`|<>*_[]" else " " for character in text)
    return " ".join(kept.split())[:160]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> list[str]:
    """A Markdown table, padded so that it can be read as it stands."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]

    def pad(text: str, column: int) -> str:
        return text.rjust(widths[column]) if alignment[column] == "r" else text.ljust(widths[column])

    texts = ["| " + " | ".join(pad(text, column) for column, text in enumerate(line)) + " |" for line in lines]
    rule = ["-" * width + (":" if side == "r" else "-") for width, side in zip(widths, alignment, strict=True)]
    return [texts[0], "|-" + "|-".join(rule) + "|", *texts[1:]]
