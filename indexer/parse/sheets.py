"""Tables of their own: XLSX by openpyxl, CSV and TSV by the standard library.

`unstructured` reads these through pandas, which turns "NA" into nothing and refuses ragged rows.
A row is the text of its filled cells by column number, so that one cell far to the right costs no
more than one beside it.
"""

import csv
import datetime
import io
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from indexer.parse import outline, tabular, zipped
from indexer.parse.encoding import decode
from indexer.parse.media import CSV, TSV, XLSX
from indexer.parse.tabular import Row
from pipeline.errors import TooLarge
from pipeline.types import Element, ElementKind, Parsed

Numbered = tuple[int, Row]
"""A row and its number in the sheet, from 1."""

_DELIMITERS = (",", ";", "\t", "|")
_MAX_TAGS = 20_000_000
"""Sheets are read as a stream: two million cells have eight million tags, formulas some more."""
_MAX_PARTS = 10_000_000
"""Elements of all sheets, empty cells with a style included."""
_MAX_PARTS_OF_A_ROW = 100_000
"""A row has 16,384 columns; all of a row is in memory at once."""
_RANGE = re.compile(r"([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})")
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


class SpreadsheetParser:
    """Reads XLSX: each sheet a heading, each block of rows without an empty row between a table."""

    def __init__(
        self, *, max_unpacked: int = zipped.MAX_UNPACKED, max_cells: int = outline.MAX_CELLS
    ) -> None:
        self._max_unpacked = max_unpacked
        self._max_cells = max_cells

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({XLSX})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge for more than `max_cells` filled cells, else as `zipped.check_size`."""
        zipped.check_size(data, name, max_unpacked=self._max_unpacked, max_tags=_MAX_TAGS)
        from openpyxl import load_workbook

        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        meter = Meter(name, self._max_cells)
        try:
            elements: list[Element] = []
            for sheet in book.worksheets:
                merged: list[str] = []
                rows = list(meter.counted(_sheet_rows(sheet, meter, merged)))
                spread_down(rows, map(_bounds, merged), meter)
                elements += headed(sheet.title, rows)
            title = outline.one_line(str(book.properties.title or "")) or None
        finally:
            book.close()
        return Parsed(outline.outlined(elements), title)


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


def _sheet_rows(sheet: Any, meter: Meter, merged: list[str]) -> Iterator[Numbered]:  # noqa: ANN401 - openpyxl has no types
    """The rows that are there, and one empty row for each gap; then `merged` has the ranges of merged cells.

    openpyxl's own `iter_rows` fills rows and gaps with empty cells up to the last number that any
    cell names, a thousand million rows if the file says so; so only its reader of one row is used.
    """
    from openpyxl.cell.read_only import ReadOnlyCell
    from openpyxl.worksheet._reader import WorkSheetParser
    from openpyxl.xml.functions import iterparse

    book, last = sheet.parent, 0
    with sheet._get_source() as source:  # noqa: SLF001 - as `iter_rows` does
        reader = WorkSheetParser(
            source,
            sheet._shared_strings,  # noqa: SLF001
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,  # noqa: SLF001
            timedelta_formats=book._timedelta_formats,  # noqa: SLF001
        )
        for element in _row_elements(iterparse(source, ("start", "end")), meter, merged):
            number, cells = reader.parse_row(element)
            reader.row_dimensions.clear()
            if number != last + 1:
                yield last + 1, {}
            last = number
            texts = {
                cell["column"] - 1: cell_text(
                    cell["value"],
                    ReadOnlyCell(sheet, **cell).number_format
                    if isinstance(cell["value"], float)
                    else "",
                )
                for cell in cells
                if cell["value"] is not None
            }
            yield number, {at: text for at, text in sorted(texts.items()) if text.strip()}


def _row_elements(
    events: Iterable[tuple[str, Any]], meter: Meter, merged: list[str]
) -> Iterator[Any]:
    """Each `<row>` when it is whole; nothing else of the tree is kept but the ranges of merged cells."""
    around: list[Any] = []
    inside = 0
    for event, element in events:
        if event == "start":
            around.append(element)
            if inside or element.tag == f"{_SHEET}row":
                inside += 1
            meter.part(inside)
            continue
        around.pop()
        if element.tag == f"{_SHEET}mergeCell":
            merged.append(element.get("ref", ""))
        if inside > 1 and element.tag != f"{_SHEET}row":
            continue
        if inside:
            yield element
            inside = 0
        if around:
            around[-1].clear()


def cell_text(value: object, number_format: str = "") -> str:
    """A cell as it reads on screen, without the grouping and rounding of its format."""
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float() if "%" in number_format:
            return f"{value * 100:.10g}%"
        case float():
            return f"{value:.15g}"
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(sep=" ", timespec="auto")
        case _:
            return str(value)


def headed(title: str, rows: Iterable[Numbered]) -> list[Element]:
    """A sheet under its name, nothing where it is empty."""
    name = outline.one_line(title)
    body = list(blocks(rows, name))
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


def _bounds(reference: str) -> tuple[int, int, int, int]:
    found = _RANGE.fullmatch(reference)
    if found is None:
        return 1, 1, 0, 0
    left, top, right, bottom = found.groups()
    return int(top), int(bottom), _column(left), _column(right)


def _column(letters: str) -> int:
    at = 0
    for letter in letters:
        at = at * 26 + ord(letter) - ord("A") + 1
    return at - 1


class SeparatedParser:
    """Reads CSV and TSV in any encoding; the delimiter is the one that parts the rows alike."""

    def __init__(self, *, max_cells: int = outline.MAX_CELLS) -> None:
        self._max_cells = max_cells

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({CSV, TSV})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge for more than `max_cells` filled cells or a line of more cells at all."""
        text = decode(data)
        delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else delimiter_of(text)
        lines = text.split("\n")
        if max(line.count(delimiter) for line in lines) > self._max_cells:
            raise Meter(name, self._max_cells).too_large()
        try:
            quoted = csv.reader(io.StringIO(text), delimiter=delimiter)
            rows = list(Meter(name, self._max_cells).counted(_filled(quoted)))
        except csv.Error:  # a field over csv's limit, as an open quote makes: each line is a row
            parted = (line.split(delimiter) for line in lines)
            rows = list(Meter(name, self._max_cells).counted(_filled(parted)))
        table = tabular.sparse_table(
            [row for _, row in rows], sheet="", numbers=[number for number, _ in rows]
        )
        return Parsed(outline.outlined(table))


def _filled(rows: Iterable[Sequence[str]]) -> Iterator[Numbered]:
    for number, cells in enumerate(rows, start=1):
        yield number, {at: cell for at, cell in enumerate(cells) if cell.strip()}


def delimiter_of(text: str) -> str:
    """The delimiter that occurs on most of the first lines, as often on each as possible."""
    lines = [line for line in text[:20_000].split("\n")[:50] if line.strip()]

    def alike(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(_DELIMITERS, key=alike)
