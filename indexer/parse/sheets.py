"""Tables of their own: XLSX by openpyxl, CSV and TSV by the standard library.

`unstructured` reads these through pandas, which turns "NA" into nothing and refuses ragged rows.
A row is the text of its filled cells by column number, so that one cell far to the right costs no
more than one beside it.
"""

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from indexer.parse import outline, zipped
from indexer.parse.encoding import decode
from indexer.parse.media import CSV, TSV, XLSX
from pipeline.errors import TooLarge
from pipeline.types import Element, ElementKind, Parsed

Row = Mapping[int, str]
"""Texts that are not blank by column number, ascending."""

_DELIMITERS = (",", ";", "\t", "|")
_MAX_TAGS = 20_000_000
"""Sheets are read as a stream: two million cells have eight million tags, formulas some more."""
_MAX_PARTS = 10_000_000
"""Elements of all sheets, empty cells with a style included."""
_MAX_PARTS_OF_A_ROW = 100_000
"""A row has 16,384 columns; all of a row is in memory at once."""
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
                body = list(blocks(meter.counted(_sheet_rows(sheet, meter))))
                if body:
                    elements.append(
                        Element(outline.one_line(sheet.title), ElementKind.HEADING, level=1)
                    )
                    elements += body
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

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._cells += len(row)
            if self._cells > self._max_cells:
                raise self.too_large()
            yield row

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


def _sheet_rows(sheet: Any, meter: Meter) -> Iterator[Row]:  # noqa: ANN401 - openpyxl has no types
    """The rows that are there, and one empty row for each gap.

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
        for element in _row_elements(iterparse(source, ("start", "end")), meter):
            number, cells = reader.parse_row(element)
            reader.row_dimensions.clear()
            if number != last + 1:
                yield {}
            last = number
            texts = {
                cell["column"]: cell_text(
                    cell["value"],
                    ReadOnlyCell(sheet, **cell).number_format
                    if isinstance(cell["value"], float)
                    else "",
                )
                for cell in cells
                if cell["value"] is not None
            }
            yield {at: text for at, text in sorted(texts.items()) if text.strip()}


def _row_elements(events: Iterable[tuple[str, Any]], meter: Meter) -> Iterator[Any]:
    """Each `<row>` when it is whole; nothing else of the tree is kept."""
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


def blocks(rows: Iterable[Row]) -> Iterator[Element]:
    """Empty rows part tables; rows of one cell above a table are its caption."""
    for filled, group in groupby(rows, key=bool):
        if not filled:
            continue
        block = list(group)
        captions = next((at for at, row in enumerate(block) if len(row) > 1), 0)
        for row in block[:captions]:
            yield Element(outline.tidy(" ".join(row.values())))
        yield from outline.sparse_table(block[captions:])


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
            rows = list(Meter(name, self._max_cells).counted(map(_filled, quoted)))
        except csv.Error:  # a field over csv's limit, as an open quote makes: each line is a row
            parted = (line.split(delimiter) for line in lines)
            rows = list(Meter(name, self._max_cells).counted(map(_filled, parted)))
        return Parsed(outline.outlined(outline.sparse_table(rows)))


def _filled(cells: Iterable[str]) -> Row:
    return {at: cell for at, cell in enumerate(cells) if cell.strip()}


def delimiter_of(text: str) -> str:
    """The delimiter that occurs on most of the first lines, as often on each as possible."""
    lines = [line for line in text[:20_000].split("\n")[:50] if line.strip()]

    def alike(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(_DELIMITERS, key=alike)
