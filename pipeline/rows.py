"""Rows of tables: in which cell a piece of a text stands, and how a row reads alone.

The stored text has one row a line, cells parted by ` | `. Models read `column: value; column: value` instead, so that
a row says what its cells mean wherever a chunk begins. Quotes stay pieces of the stored text.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.types import Chunk, Grid, Passage, Span, TableRows

_LONGEST_LABEL = 60
"""Code points of a column's name that are repeated in every row."""
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_LIKE_A_CELL = re.compile(r"(?:[A-Za-z]{1,3}\d+|[RrCc]\d*)")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: the line of its piece and its place in that line, both from 0, and its words `text[start:end]`."""

    line: int
    index: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """`source[start:end]` stands at `at` of the reading; what leads to it (a column's name) begins at `lead`."""

    start: int
    end: int
    lead: int
    at: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as models read it."""

    text: str
    kept: tuple[_Kept, ...]

    def span(self, span: Span) -> Span:
        """Where a span of the source stands in the reading, with the names of the columns whose cells it holds whole.

        A span that holds none of the kept words is empty.
        """
        inside = [k for k in self.kept if k.start < span.end and k.end > span.start]
        if not inside:
            return Span(0, 0)
        first, last = inside[0], inside[-1]
        begin = first.lead if span.start <= first.start else first.at + span.start - first.start
        return Span(begin, last.at + min(span.end, last.end) - last.start)

    def of(self, span: Span) -> str:
        """The words of a span of the source, as they read."""
        there = self.span(span)
        return self.text[there.start : there.end]


def read(text: str, tables: Sequence[TableRows]) -> Reading:
    """The text with every row of a table that has a header as `column: value; column: value`.

    >>> grid = Grid((1, 2), (1, 2), ("品名", "单价"), header=1)
    >>> read("价目\\n品名 | 单价\\n螺栓 | 3 元", [TableRows(3, 19, grid)]).text
    '价目\\n品名 | 单价\\n品名: 螺栓; 单价: 3 元'
    """
    writer = _Writer(text)
    at = 0
    for table in tables:
        writer.keep(at, table.start)
        at = table.start
        if not any(table.grid.labels):
            continue
        for line, row in enumerate(_by_line(text, table)):
            if line < table.grid.header:
                continue
            start, end, filled = row
            writer.keep(at, start)
            writer.row(filled, table.grid.labels)
            at = end
    writer.keep(at, len(text))
    return writer.reading()


class _Writer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._pieces: list[str] = []
        self._kept: list[_Kept] = []
        self._length = 0

    def keep(self, start: int, end: int) -> None:
        if start < end:
            self._kept.append(_Kept(start, end, self._length, self._length))
            self._say(self._source[start:end])

    def row(self, filled: Sequence[Cell], labels: Sequence[str]) -> None:
        for number, cell in enumerate(filled):
            if number:
                self._say("; ")
            lead = self._length
            value = self._source[cell.start : cell.end]
            label = labels[cell.index] if cell.index < len(labels) else ""
            if label and label != value:
                self._say(f"{label}: ")
            self._kept.append(_Kept(cell.start, cell.end, lead, self._length))
            self._say(value)

    def _say(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def reading(self) -> Reading:
        return Reading("".join(self._pieces), tuple(self._kept))


def reading(chunk: Chunk) -> Reading:
    """A chunk's text as models read it."""
    return read(chunk.text, chunk.tables)


def passage(chunk: Chunk) -> Passage:
    """What an embedder or a reranker reads of a chunk."""
    return Passage(chunk.context, reading(chunk).text)


def under_columns(context: str, text: str, tables: Sequence[TableRows]) -> Passage:
    """A stored text, whose spans are scored, with the names of its first table's columns before it."""
    labels = next((table.grid.labels for table in tables), ())
    return Passage("\n".join(filter(None, (context, " | ".join(labels)))), text)


def prompted(chunk: Chunk) -> Passage:
    """What a chat model reads of a chunk: rows with the names of their columns, and the cells that they stand in."""
    found = passage(chunk)
    _, cells = cited(chunk.text, chunk.tables)
    context = " ".join(part for part in (found.context, f"({cells})" if cells else "") if part)
    return Passage(context, found.text)


def cells(text: str, table: TableRows) -> Iterator[Cell]:
    """The cells of a piece of a table in order, the empty ones too (they have start == end)."""
    inside = {table.start + bar for bar in table.grid.bars}
    line, index, at = 0, table.first, table.start
    for match in re.finditer(r"[|\n]", text[table.start : table.end]):
        mark = table.start + match.start()
        if mark in inside:
            continue
        yield _cell(text, line, index, at, mark)
        at = mark + 1
        line, index = (line + 1, 0) if match[0] == "\n" else (line, index + 1)
    yield _cell(text, line, index, at, table.end)


def _cell(text: str, line: int, index: int, start: int, end: int) -> Cell:
    words = text[start:end]
    left = len(words) - len(words.lstrip())
    return Cell(line, index, start + left, start + max(left, len(words.rstrip())))


def _by_line(text: str, table: TableRows) -> Iterator[tuple[int, int, list[Cell]]]:
    """Start, end and filled cells of every line."""
    lines: list[list[Cell]] = []
    for cell in cells(text, table):
        if cell.line == len(lines):
            lines.append([])
        if cell.start < cell.end:
            lines[-1].append(cell)
    at = table.start
    for row, line in zip(lines, text[table.start : table.end].split("\n"), strict=True):
        yield at, at + len(line), row
        at += len(line) + 1


def rows(text: str, table: TableRows) -> list[Span]:
    """The lines of a table below its header, each from its first filled cell to its last one."""
    lines = [filled for _, _, filled in _by_line(text, table)]
    return [Span(row[0].start, row[-1].end) for row in lines[table.grid.header :] if row]


class Table:
    """A table of a text, ready to be cut: `text[start:end]` is all of it."""

    def __init__(self, text: str, start: int, end: int, grid: Grid) -> None:
        self.start = start
        self.end = end
        self._text = text
        self._grid = grid
        breaks = re.finditer("\n", text[start:end])
        self._lines = [start, *(start + found.end() for found in breaks)]

    def part(self, start: int, end: int) -> TableRows:
        """What of it stands in `text[start:end]`, in offsets of that piece.

        A piece of a single row keeps only the columns that it holds, so that wide rows stay small.
        """
        grid = self._grid
        begin, stop = max(start, self.start), min(end, self.end)
        skipped = bisect_right(self._lines, begin) - 1
        taken = bisect_left(self._lines, stop) - skipped
        first = self._parted(self._lines[skipped], begin)
        columns, labels = grid.columns, grid.labels
        if taken == 1:
            held = slice(first, first + self._parted(begin, stop) + 1)
            columns, labels, first = columns[held], labels[held], 0
        bars = grid.bars[slice(*self._bars(begin, stop))]
        return TableRows(
            begin - start,
            stop - start,
            Grid(
                grid.rows[skipped : skipped + taken],
                columns,
                labels,
                max(0, grid.header - skipped),
                tuple(self.start + bar - begin for bar in bars),
                grid.sheet,
                grid.number,
            ),
            first,
        )

    def _parted(self, start: int, end: int) -> int:
        """How often cells are parted in `text[start:end]`."""
        first, last = self._bars(start, end)
        return self._text.count("|", start, end) - (last - first)

    def _bars(self, start: int, end: int) -> tuple[int, int]:
        bars = self._grid.bars
        return bisect_left(bars, start - self.start), bisect_left(bars, end - self.start)


def named(labels: Sequence[str]) -> tuple[str, ...]:
    """What a header says of each column, short enough to be repeated."""
    return tuple(
        label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
        for label in labels
    )


def cited(
    text: str, tables: Sequence[TableRows], start: int = 0, end: int | None = None
) -> tuple[int | None, str | None]:
    """The number of the first table that `text[start:end]` touches, and the range of its filled cells there.

    A range of a spreadsheet names its sheet; of several tables the ranges are joined by commas.

    >>> grid = Grid((4, 5), (2, 3), ("a", "b"), 1, sheet="My sheet")
    >>> cited("a | b\\nc | d", [TableRows(0, 11, grid)], 6)
    (None, "'My sheet'!B5:C5")
    """
    end = len(text) if end is None else end
    ranges: list[str] = []
    number: int | None = None
    for table in tables:
        if table.end <= start or table.start >= end:
            continue
        held = [c for c in cells(text, table) if max(c.start, start) < min(c.end, end)]
        grid = table.grid
        placed = [
            (grid.rows[cell.line], grid.columns[cell.index])
            for cell in held
            if cell.line < len(grid.rows) and cell.index < len(grid.columns)
        ]
        if placed:
            number = number or grid.number or None
            ranges.append(_range(placed, grid.sheet))
    return number, ", ".join(ranges) or None


def _range(placed: Sequence[tuple[int, int]], sheet: str | None) -> str:
    rows_held, columns_held = zip(*placed, strict=True)
    first = f"{letters(min(columns_held))}{min(rows_held)}"
    last = f"{letters(max(columns_held))}{max(rows_held)}"
    where = first if first == last else f"{first}:{last}"
    if not sheet:
        return where
    plain = _PLAIN_NAME.fullmatch(sheet) and not _LIKE_A_CELL.fullmatch(sheet)
    name = sheet if plain else "'" + sheet.replace("'", "''") + "'"
    return f"{name}!{where}"


def letters(column: int) -> str:
    """A column's name in a spreadsheet, counted from 1.

    >>> letters(1), letters(26), letters(27), letters(16384)
    ('A', 'Z', 'AA', 'XFD')
    """
    name = ""
    while column > 0:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
