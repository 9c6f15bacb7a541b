"""Rows of cells to a TABLE element that knows its header and where its cells stand."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from indexer.parse.outline import MAX_CELLS, one_line
from pipeline.rows import named
from pipeline.types import Element, ElementKind, Grid

Row = Mapping[int, str]
"""Texts that are not blank by column number from 0, ascending."""

_MOST_HEADER_LINES = 4
_LONGEST_LONE_HEADER = 40
"""Code points of the first line of a single column that can stand for the others."""
_VALUE = re.compile(r"[-+−(¥￥$€£]*\s*\d")
_PERIOD = re.compile(r"(?:19|20)\d\d\s*(?:年度?|财年)?|\d{1,2}\s*(?:月份?|日|周|季度)")
_SENTENCE = re.compile(r".*[。；]|.{20,}\w{3,}\.", re.DOTALL)
"""What no name of a column ends like."""
_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")


def table(
    rows: Iterable[Sequence[str]], *, page: int | None = None, header: int | None = None
) -> list[Element]:
    """A TABLE with one row a line, cells joined by ` | `, the header first; empty columns dropped.

    A single row is a paragraph, an empty table nothing. `header` lines are the header where the document says so.
    """
    sparse = ({at: cell for at, cell in enumerate(row) if cell} for row in rows)
    return sparse_table(sparse, page=page, header=header)


def sparse_table(
    rows: Iterable[Row],
    *,
    page: int | None = None,
    header: int | None = None,
    sheet: str | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Element]:
    """As `table`, of rows that give the text of their filled cells by column number, ascending.

    `numbers` are the rows' own numbers in their sheet, from 1; without them rows are counted. A table of more than
    `MAX_CELLS` cells, nearly all empty, is a paragraph with one row a line and only the filled cells, since its
    columns can't be shown.
    """
    cells: list[dict[int, str]] = []
    kept: list[int] = []
    for count, row in enumerate(rows):
        tidied = {at: text for at, cell in row.items() if (text := one_line(cell))}
        if tidied:
            cells.append(tidied)
            kept.append(numbers[count] if numbers is not None else count + 1)
        elif header is not None and len(cells) < header:
            header -= 1
    used = sorted({at for row in cells for at in row})
    if not cells:
        return []
    if len(cells) * len(used) > MAX_CELLS:
        return [Element("\n".join(" | ".join(row.values()) for row in cells), page=page)]
    lines, bars = _lines([[row.get(at, "") for at in used] for row in cells])
    columns = tuple(at + 1 for at in used)
    grid = Grid(tuple(kept), columns, bars=bars, sheet=sheet)
    if len(cells) == 1:
        return [Element(lines, page=page, grid=grid if sheet is not None else None)]
    count = header_lines(cells) if header is None else min(header, _MOST_HEADER_LINES)
    if count >= len(cells):
        count = min(1, len(cells) - 1)
    labels = named(_labels(cells[:count], used))
    if not any(labels):
        count, labels = 0, ()
    grid = replace(grid, labels=labels, header=count)
    return [Element(lines, ElementKind.TABLE, page=page, columns=labels, grid=grid)]


def caption(text: str, *, number: int, column: int, sheet: str) -> Element:
    """A paragraph that is one cell of a sheet; `text` may have lines."""
    bars = tuple(found.start() for found in re.finditer(r"\|", text))
    lines = text.count("\n") + 1
    return Element(text, grid=Grid((number,) * lines, (column + 1,), bars=bars, sheet=sheet))


def _lines(rows: Iterable[Sequence[str]]) -> tuple[str, tuple[int, ...]]:
    """The rows as lines, and the offsets of the bars in them that part no cells."""
    lines: list[str] = []
    bars: list[int] = []
    length = 0
    for row in rows:
        words: list[str] = []
        for at, cell in enumerate(row):
            if at:
                words.append("|")
                length += 1 + (len(words) > 1)
            if cell:
                length += len(words) > 0
                words.append(cell)
                bars += (length + found.start() for found in re.finditer(r"\|", cell))
                length += len(cell)
        lines.append(" ".join(words))
        length += 1
    return "\n".join(lines), tuple(bars)


def header_lines(rows: Sequence[Row]) -> int:
    """How many of the first rows say what the columns mean: 0, 1 or 2.

    A first row that looks like the ones below it or has a sentence is none, and neither is the first of two columns
    whose left one names things (`Name: | …`). Two rows are a header where the upper one is blank over cells of the
    lower one, the lower one has no number and the rows below have some.
    """
    first, body = rows[0], rows[1:]
    if not body:
        return 0
    used = sorted({at for row in rows[:200] for at in row})
    if len(used) == 1:
        return int(len(first[used[0]]) <= _LONGEST_LONE_HEADER)
    if len(used) == 2 and _names_things(rows, used[0]):
        return 0
    if _is_data(first, body[:50]) or any(map(_SENTENCE.fullmatch, first.values())):
        return 0
    second, rest = body[0], body[1:51]
    grouped = len(first) >= 2 and len(second) > len(first) and used[0] in {*first, *second}
    if grouped and rest and not any(map(_VALUE.match, second.values())):
        return 2 if any(_VALUE.match(text) for row in rest for text in row.values()) else 1
    return 1


def _names_things(rows: Sequence[Row], left: int) -> bool:
    named_so = sum(row.get(left, "").endswith((":", "：")) for row in rows)
    return named_so * 2 > len(rows)


def _is_data(first: Row, body: Sequence[Row]) -> bool:
    """Whether a cell of the first row has the shape of the numbers and dates below it; years and counted columns
    (1, 2, 3) are names."""
    values = {at: text for at, text in first.items() if _VALUE.match(text)}
    counted = [int(text) for text in values.values() if text.isdecimal() and len(text) < 9]
    if len(counted) > 1 and all(b - a == 1 for a, b in pairwise(counted)):
        return False
    for at, text in values.items():
        below = [row[at] for row in body if at in row]
        like = sum(_shape(other) == _shape(text) for other in below)
        if below and like * 2 >= len(below) and not _PERIOD.fullmatch(text):
            return True
    return False


def _shape(text: str) -> str:
    return _DIGITS.sub("9", text)


def _labels(header: Sequence[Row], used: Sequence[int]) -> list[str]:
    """What the header's lines say of each column; a cell over several columns speaks for all of them."""
    lines: list[list[str]] = []
    for depth, row in enumerate(header):
        line = [row.get(at, "") for at in used]
        if depth < len(header) - 1:
            last = ""
            for place, text in enumerate(line):
                last = text or last
                below = any(later.get(used[place]) for later in header[depth + 1 :])
                line[place] = last if below or text else ""
        lines.append(line)
    return [" ".join(dict.fromkeys(filter(None, texts))) for texts in zip(*lines, strict=True)]
