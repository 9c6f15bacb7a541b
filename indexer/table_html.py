"""A stored table as HTML: made from its cells, every word escaped, the cells of a passage marked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from indexer.stored import Placed, Stored
from pipeline.errors import NotFound
from pipeline.rows import cells
from pipeline.types import Grid, Span, TableRows

MOST_ROWS = 200
"""Rows in one piece of HTML, besides the header."""
_AROUND = 8
"""Rows on each side of the marked ones."""
_MOST_COLUMNS = 200


@dataclass(frozen=True, slots=True)
class _Line:
    row: int
    header: bool
    texts: Sequence[str]
    marked: Sequence[bool]


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
    lines = [line for part in parts for line in _lines(stored.text, part, span)]
    header = [line for line in lines if line.header]
    body = [line for line in lines if not line.header]
    first, last = _window(body)
    grid = parts[0].element.grid
    assert grid is not None
    sheet = f"<caption>{escape(grid.sheet)}</caption>" if grid.sheet else ""
    head = "".join(_row(line, "th") for line in header)
    width = max((len(line.texts) for line in lines), default=1)
    rows = "".join(_row(line, "td") for line in body[first:last])
    above = _cut(width) if first else ""
    below = _cut(width) if last < len(body) else ""
    return f"<table>{sheet}<thead>{head}</thead><tbody>{above}{rows}{below}</tbody></table>"


def _lines(text: str, placed: Placed, span: Span | None) -> Iterable[_Line]:
    grid = placed.element.grid
    assert grid is not None
    whole = TableRows(placed.start, placed.end, grid)
    texts: list[str] = []
    marked: list[bool] = []
    line = 0
    for cell in cells(text, whole):
        if cell.line != line:
            yield _line(grid, line, texts, marked)
            line, texts, marked = cell.line, [], []
        if len(texts) < _MOST_COLUMNS:
            texts.append(text[cell.start : cell.end])
            marked.append(
                span is not None and max(cell.start, span.start) < min(cell.end, span.end)
            )
    yield _line(grid, line, texts, marked)


def _line(grid: Grid, line: int, texts: Sequence[str], marked: Sequence[bool]) -> _Line:
    row = grid.rows[line] if line < len(grid.rows) else line + 1
    return _Line(row, line < grid.header, texts, marked)


def _window(body: Sequence[_Line]) -> tuple[int, int]:
    touched = [at for at, line in enumerate(body) if any(line.marked)]
    if not touched:
        return 0, min(len(body), MOST_ROWS)
    first = max(0, touched[0] - _AROUND)
    return first, min(len(body), touched[-1] + _AROUND + 1, first + MOST_ROWS)


def _row(line: _Line, tag: str) -> str:
    made = []
    for text, marked in zip(line.texts, line.marked, strict=True):
        words = f"<mark>{escape(text)}</mark>" if marked else escape(text)
        made.append(f"<{tag}>{words}</{tag}>")
    return f'<tr data-row="{line.row}">{"".join(made)}</tr>'


def _cut(width: int) -> str:
    return f'<tr class="cut"><td colspan="{width}">…</td></tr>'
