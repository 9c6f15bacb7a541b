"""A stored table as HTML: made from its cells, every word escaped, the cells of a passage marked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice

from indexer.text.stored import Placed, Stored
from pipeline.errors import NotFound
from pipeline.rows import Table, cells
from pipeline.types import Span

MOST_ROWS = 200
"""Rows in one piece of HTML, besides the header."""
_AROUND = 8
"""Rows on each side of the marked ones."""
_MOST_COLUMNS = 200


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of one part of the table: `text[start:end]`, and the part to cut it from."""

    part: Table
    start: int
    end: int
    header: bool


def table_html(stored: Stored, number: int, span: Span | None) -> str:
    """`<table>` number `number` of a text, counted from 1: its header and at most 200 rows.

    With a span those are the rows that it touches and eight on each side, and the cells that it touches hold `<mark>`;
    without one they are the first rows. A row `<tr class="cut">` stands for what is left out. Raises NotFound.
    """
    parts = [p for p in stored.placed if p.element.grid and p.element.grid.number == number > 0]
    if not parts:
        raise NotFound(
            f"this version has no table {number}: take the number from a hit or a citation"
        )
    grid = parts[0].element.grid
    assert grid is not None
    lines = [line for part in parts for line in _lines(stored.text, part)]
    body = [line for line in lines if not line.header]
    first, last = _window(body, span)
    sheet = f"<caption>{escape(grid.sheet)}</caption>" if grid.sheet else ""
    head = "".join(_row(stored.text, line, span, "th") for line in lines if line.header)
    rows = "".join(_row(stored.text, line, span, "td") for line in body[first:last])
    width = min(len(grid.columns), _MOST_COLUMNS)
    above = _cut(width) if first else ""
    below = _cut(width) if last < len(body) else ""
    return f"<table>{sheet}<thead>{head}</thead><tbody>{above}{rows}{below}</tbody></table>"


def _lines(text: str, placed: Placed) -> Iterator[_Line]:
    grid = placed.element.grid
    assert grid is not None
    table = Table(text, placed.start, placed.end, grid)
    start = placed.start
    for number, words in enumerate(text[placed.start : placed.end].split("\n")):
        yield _Line(table, start, start + len(words), number < grid.header)
        start += len(words) + 1


def _window(body: Sequence[_Line], span: Span | None) -> tuple[int, int]:
    touched = [
        at
        for at, line in enumerate(body)
        if span is not None and line.start < span.end and line.end > span.start
    ]
    if not touched:
        return 0, min(len(body), MOST_ROWS)
    first = max(0, touched[0] - _AROUND)
    return first, min(len(body), touched[-1] + _AROUND + 1, first + MOST_ROWS)


def _row(text: str, line: _Line, span: Span | None, tag: str) -> str:
    piece = line.part.part(line.start, line.end)
    made = []
    for cell in islice(cells(text[line.start : line.end], piece), _MOST_COLUMNS):
        start, end = line.start + cell.start, line.start + cell.end
        words = escape(text[start:end])
        if span is not None and max(start, span.start) < min(end, span.end):
            words = f"<mark>{words}</mark>"
        made.append(f"<{tag}>{words}</{tag}>")
    return f'<tr data-row="{piece.grid.rows[0]}">{"".join(made)}</tr>'


def _cut(width: int) -> str:
    return f'<tr class="cut"><td colspan="{width}">…</td></tr>'
