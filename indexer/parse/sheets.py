"""Tables of their own: XLSX by openpyxl, CSV and TSV by the standard library.

`unstructured` reads these through pandas, which turns "NA" into nothing and refuses ragged rows.
A row is the text of its filled cells by column number, so that one cell far to the right costs no
more than one beside it.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from indexer.parse import outline, tabular, zipped
from indexer.parse.blocks import Meter, Numbered, cell_text, headed, spread_down
from indexer.parse.encoding import decode
from indexer.parse.media import CSV, TSV, XLSX
from indexer.parse.sheet_parts import column_of, drawn, remarks
from pipeline.types import Element, Parsed

_DELIMITERS = (",", ";", "\t", "|")
_MAX_TAGS = 20_000_000
"""Sheets are read as a stream: two million cells have eight million tags, formulas some more."""
_RANGE = re.compile(r"([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})")
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


class SpreadsheetParser:
    """Reads XLSX: each sheet a heading, each block of rows without an empty row between a table.

    Formulas give the value that they had when the file was saved. Hidden sheets are not read, rows and columns that
    are hidden are: a filter hides them. Comments on cells, text boxes and titles of charts follow their sheet.
    """

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
                if sheet.sheet_state != "visible":
                    continue
                merged: list[str] = []
                rows = list(meter.counted(_sheet_rows(sheet, meter, merged)))
                spread_down(rows, map(_bounds, merged), meter)
                elements += headed(sheet.title, rows, remarks(sheet), drawn(sheet))
            title = outline.one_line(str(book.properties.title or "")) or None
        finally:
            book.close()
        return Parsed(outline.outlined(elements), title)


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
                    ""
                    if isinstance(cell["value"], str)
                    else ReadOnlyCell(sheet, **cell).number_format,
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


def _bounds(reference: str) -> tuple[int, int, int, int]:
    found = _RANGE.fullmatch(reference)
    if found is None:
        return 1, 1, 0, 0
    left, top, right, bottom = found.groups()
    return int(top), int(bottom), column_of(left), column_of(right)


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
