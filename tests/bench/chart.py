"""Results as a chart: a panel of bars for each case, one bar for each tool, drawn as SVG."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from tests.bench.results import CaseResult, Summary, summarize
from tests.bench.table import format_seconds, format_title
from tests.bench.tools import TOOLS

_WIDTH = 890
_LABEL_WIDTH = 220
_VALUE_WIDTH = 220
_BAR_WIDTH = _WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
_ROW_HEIGHT = 22
_BAR_HEIGHT = 14
_TITLE_HEIGHT = 34
_HEAD_HEIGHT = 64
_CUT_AT_MEDIANS = 4  # a bar is at most so many times as long as the middle one

# Readable on a light page and on a dark one.
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .head { font-size: 17px; font-weight: 600 } .title { font-weight: 600 } .small { fill: #57606a }
  .ours { fill: #1a7f37 } .variant { fill: #7dbf8f } .peer { fill: #8c959f } .spread { stroke: #24292f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9ea7b3 }
    .ours { fill: #3fb950 } .variant { fill: #2b6a3a } .peer { fill: #6e7681 } .spread { stroke: #e6edf3 }
  }
"""


def draw_chart(results: Sequence[CaseResult], heading: str, subheading: str) -> str:
    """All cases that took time, one below the other. Each panel has a scale of its own, from zero.

    A bar is the median, the line across its end reaches from the fastest run to the slowest. A bar that would make all
    the others short is cut off: » stands before its number.
    """
    parts: list[str] = []
    top = float(_HEAD_HEIGHT)
    for result in results:
        summaries = [summary for tool in result.tools if (summary := summarize(result, tool))]
        if result.case.kind == "time" and summaries:
            parts += _draw_panel(result, summaries, top)
            top += _TITLE_HEIGHT + _ROW_HEIGHT * len(summaries)
    height = top + 16
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img">',
            f"<title>{escape(heading)}</title>",
            f"<style>{_STYLE}</style>",
            _text(16, 28, heading, "head"),
            _text(16, 48, subheading, "small"),
            *parts,
            "</svg>",
            "",
        ]
    )


def _draw_panel(result: CaseResult, summaries: Sequence[Summary], top: float) -> Iterator[str]:
    longest = max(summary.slowest_seconds for summary in summaries)
    scale = min(longest, _CUT_AT_MEDIANS * statistics.median(summary.seconds for summary in summaries))
    yield _text(16, top + 24, format_title(result.case), "title")
    for row, summary in enumerate(summaries):
        yield from _draw_bar(summary, top + _TITLE_HEIGHT + row * _ROW_HEIGHT, _BAR_WIDTH / scale)


def _draw_bar(summary: Summary, top: float, pixels_per_second: float) -> Iterator[str]:
    tool = TOOLS[summary.tool]
    middle = top + _BAR_HEIGHT / 2
    kind = "peer" if not tool.is_ours else "ours" if summary.ratio is None else "variant"
    width, fastest, slowest = (
        min(_BAR_WIDTH, seconds * pixels_per_second)
        for seconds in (summary.seconds, summary.fastest_seconds, summary.slowest_seconds)
    )
    value = ("» " if summary.seconds * pixels_per_second > _BAR_WIDTH else "") + format_seconds(summary.seconds)
    if summary.ratio is not None:
        value += f" · runner ÷ it: {summary.ratio:.2g}"
    yield _text(_LABEL_WIDTH - 8, middle + 4.5, tool.label, anchor="end")
    yield (
        f'<rect class="{kind}" x="{_LABEL_WIDTH}" y="{top:.1f}" rx="2" height="{_BAR_HEIGHT}"'
        f' width="{max(1.0, width):.1f}"/>'
    )
    yield (
        f'<line class="spread" x1="{_LABEL_WIDTH + fastest:.1f}" x2="{_LABEL_WIDTH + slowest:.1f}"'
        f' y1="{middle:.1f}" y2="{middle:.1f}"/>'
    )
    yield _text(_LABEL_WIDTH + slowest + 8, middle + 4.5, value, "small")


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'
