"""Tables of their own: XLSX by openpyxl, CSV and TSV by the standard library.

`unstructured` reads these through pandas, which turns "NA" into nothing and refuses ragged rows.
"""

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from indexer.parse import outline, zipped
from indexer.parse.encoding import decode
from indexer.parse.media import CSV, TSV, XLSX
from pipeline.types import Element, ElementKind, Parsed

_DELIMITERS = (",", ";", "\t", "|")


class SpreadsheetParser:
    """Reads XLSX: each sheet a heading, each block of rows without an empty row between a table."""

    def __init__(self, *, max_unpacked: int = zipped.MAX_UNPACKED) -> None:
        self._max_unpacked = max_unpacked

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({XLSX})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge and DamagedDocument as `zipped.check_size` does."""
        zipped.check_size(data, name, max_unpacked=self._max_unpacked)
        from openpyxl import load_workbook

        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        try:
            elements: list[Element] = []
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # a declared size may be millions of empty cells
                body = list(_blocks(_sheet_rows(sheet)))
                if body:
                    elements.append(
                        Element(outline.one_line(sheet.title), ElementKind.HEADING, level=1)
                    )
                    elements += body
            title = outline.one_line(str(book.properties.title or "")) or None
        finally:
            book.close()
        return Parsed(outline.outlined(elements), title)


def _sheet_rows(sheet: Any) -> Iterator[list[str]]:  # noqa: ANN401 - openpyxl ships no types
    for row in sheet.iter_rows():
        yield [cell_text(cell.value, getattr(cell, "number_format", "")) for cell in row]


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


def _blocks(rows: Iterable[Sequence[str]]) -> Iterator[Element]:
    """Empty rows part tables; rows of one cell above a table are its caption."""
    for filled, group in groupby(rows, key=lambda row: any(cell.strip() for cell in row)):
        if not filled:
            continue
        block = list(group)
        while len(block) > 1 and sum(bool(cell.strip()) for cell in block[0]) == 1:
            if not any(sum(bool(cell.strip()) for cell in row) > 1 for row in block):
                break
            yield Element(outline.tidy(" ".join(block.pop(0))))
        yield from outline.table(block)


class SeparatedParser:
    """Reads CSV and TSV in any encoding; the delimiter is the one that parts the rows alike."""

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({CSV, TSV})

    def parse(self, data: bytes, name: str) -> Parsed:
        text = decode(data)
        delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else delimiter_of(text)
        return Parsed(outline.outlined(outline.table(_separated(text, delimiter))))


def delimiter_of(text: str) -> str:
    """The delimiter that occurs on most of the first lines, as often on each as possible."""
    lines = [line for line in text[:20_000].split("\n")[:50] if line.strip()]

    def alike(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(_DELIMITERS, key=alike)


def _separated(text: str, delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:  # a field over csv's limit, as an open quote makes: each line is a row then
        return [line.split(delimiter) for line in text.split("\n")]
