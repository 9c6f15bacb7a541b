"""What all spreadsheets share: counted cells, cells as they are shown, and blocks of rows to tables."""

import datetime
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby

from indexer.parse import outline, tabular
from indexer.parse.formats import date_text, number_text
from indexer.parse.tabular import Row
from pipeline.errors import TooLarge
from pipeline.types import Element, ElementKind

Numbered = tuple[int, Row]
"""A row and its number in the sheet, from 1."""

Remark = tuple[int, int, str]
"""Row from 1 and column from 0 of a cell, and what somebody noted there."""
_MAX_PARTS = 10_000_000
"""Elements of all sheets, empty cells with a style included."""
_MAX_PARTS_OF_A_ROW = 100_000
"""A row has 16,384 columns; all of a row is in memory at once."""


class Meter:
    """Counts what one file's sheets hold and raises TooLarge when it is too much."""

    def __init__(self, name: str, max_cells: int) -> None:
        self._name = name
        self._max_cells = max_cells
        self._cells = 0
        self._parts = 0

    def counted(self, rows: Iterable[Numbered]) -> Iterator[Numbered]:
        for number, row in rows:
            self.add(len(row))
            yield number, row

    def add(self, cells: int) -> None:
        """So many cells more."""
        self._cells += cells
        if self._cells > self._max_cells:
            raise self.too_large()

    def part(self, in_row: int) -> None:
        """One more element, the `in_row`th of its row."""
        self._parts += 1
        if self._parts > _MAX_PARTS or in_row > _MAX_PARTS_OF_A_ROW:
            raise self.too_large()

    def too_large(self) -> TooLarge:
        return TooLarge(
            f"“{self._name}” has more cells than the limit of {self._max_cells:,}. Split it and "
            "upload the parts."
        )


def cell_text(value: object, number_format: str = "") -> str:
    """A cell as it is shown."""
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | float():
            return number_text(value, number_format)
        case datetime.date():
            return date_text(value, number_format)
        case _:
            return str(value)


def headed(
    title: str,
    rows: Iterable[Numbered],
    remarks: Iterable[Remark] = (),
    drawn: Iterable[str] = (),
) -> list[Element]:
    """A sheet under its name, the remarks on its cells and what is drawn on it behind; nothing where it is empty."""
    name = outline.one_line(title)
    body = list(blocks(rows, name))
    for number, column, text in remarks:
        if tidied := outline.tidy(text):
            body.append(tabular.caption(tidied, number=number, column=column, sheet=name))
    body += (Element(tidied) for text in drawn if (tidied := outline.tidy(text)))
    return [Element(name, ElementKind.HEADING, level=1), *body] if body else []


def blocks(rows: Iterable[Numbered], sheet: str) -> Iterator[Element]:
    """Empty rows part tables; rows of one cell above a table are its caption."""
    for filled, group in groupby(rows, key=lambda pair: bool(pair[1])):
        if not filled:
            continue
        block = list(group)
        captions = next((at for at, (_, row) in enumerate(block) if len(row) > 1), 0)
        for number, row in block[:captions]:
            for column, text in row.items():
                yield tabular.caption(outline.tidy(text), number=number, column=column, sheet=sheet)
        table = block[captions:]
        yield from tabular.sparse_table(
            [row for _, row in table], sheet=sheet, numbers=[number for number, _ in table]
        )


def spread_down(
    rows: list[Numbered], merged: Iterable[tuple[int, int, int, int]], meter: Meter
) -> None:
    """Cells that are merged over several rows say their text in each, in place: so a row reads alone.

    `merged` are first row, last row (from 1), first column, last column (from 0).
    """
    places = {number: at for at, (number, row) in enumerate(rows) if row}
    for first, last, column, _ in merged:
        if first >= last or first not in places:
            continue
        text = rows[places[first]][1].get(column)
        if text is None:
            continue
        low, high = places[first] + 1, bisect_right(rows, last, key=lambda pair: pair[0])
        for at in range(low, high):
            meter.add(1)
            number, row = rows[at]
            if row and column not in row:
                rows[at] = number, dict(sorted({**row, column: text}.items()))
