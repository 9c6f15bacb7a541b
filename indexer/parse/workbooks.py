"""Workbooks that are not XLSX: XLS by xlrd, and OpenDocument sheets from their XML."""

import datetime
import io
import os
import zipfile
from collections.abc import Iterator
from typing import Any

from indexer.parse import outline, zipped
from indexer.parse.blocks import Meter, Numbered, cell_text, headed, spread_down
from indexer.parse.media import ODS, XLS
from indexer.parse.tabular import Row
from pipeline.errors import DamagedDocument
from pipeline.types import Element, Parsed

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CELLS = (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell")
_MAX_COLUMNS = 16_384
_MAX_TAGS = 20_000_000


class OldWorkbookParser:
    """Reads XLS: sheets and tables as of XLSX, dates and percentages as they look."""

    def __init__(self, *, max_cells: int = outline.MAX_CELLS) -> None:
        self._max_cells = max_cells

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({XLS})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge for more than `max_cells` filled cells, DamagedDocument when encrypted."""
        import xlrd

        try:
            with open(os.devnull, "w") as silent:  # noqa: PTH123 - not a file of ours
                book = xlrd.open_workbook(
                    file_contents=data,
                    formatting_info=True,
                    on_demand=True,
                    ragged_rows=True,  # else rows are filled up to the last column of any
                    logfile=silent,
                )
                with book:
                    return Parsed(outline.outlined(self._sheets(book, name)))
        except xlrd.XLRDError as error:
            if "encrypted" in str(error).lower():
                raise DamagedDocument(
                    f"“{name}” is encrypted. Remove the password and upload it again."
                ) from error
            raise

    def _sheets(self, book: Any, name: str) -> Iterator[Element]:  # noqa: ANN401 - no types
        meter = Meter(name, self._max_cells)
        for number in range(book.nsheets):
            sheet = book.sheet_by_index(number)
            if sheet.visibility:
                book.unload_sheet(number)
                continue
            rows = list(meter.counted(_old_rows(book, sheet)))
            merged = (
                (top + 1, end, left, right - 1) for top, end, left, right in sheet.merged_cells
            )
            spread_down(rows, merged, meter)
            notes = sheet.cell_note_map.items()
            remarks = [(row + 1, column, note.text) for (row, column), note in sorted(notes)]
            yield from headed(sheet.name, rows, remarks)
            book.unload_sheet(number)


def _old_rows(book: Any, sheet: Any) -> Iterator[Numbered]:  # noqa: ANN401 - xlrd has no types
    for number in range(sheet.nrows):
        filled = {
            at: text
            for at, cell in enumerate(sheet.row(number))
            if (text := _old_text(book, cell)).strip()
        }
        yield number + 1, filled


def _old_text(book: Any, cell: Any) -> str:  # noqa: ANN401 - xlrd has no types
    import xlrd

    match cell.ctype:
        case xlrd.XL_CELL_TEXT:
            return str(cell.value)
        case xlrd.XL_CELL_BOOLEAN:
            return cell_text(bool(cell.value))
        case xlrd.XL_CELL_ERROR:
            return str(xlrd.error_text_from_code.get(cell.value, "#ERROR"))
        case xlrd.XL_CELL_DATE:
            return _date_text(cell.value, book.datemode, _format_of(book, cell))
        case xlrd.XL_CELL_NUMBER:
            return cell_text(float(cell.value), _format_of(book, cell))
        case _:
            return ""


def _format_of(book: Any, cell: Any) -> str:  # noqa: ANN401 - xlrd has no types
    if cell.xf_index is None or cell.xf_index >= len(book.xf_list):
        return ""
    known = book.format_map.get(book.xf_list[cell.xf_index].format_key)
    return str(known.format_str) if known else ""


def _date_text(value: float, mode: int, code: str) -> str:
    """A day, a day with its time, or a time; a number that is no date stays a number."""
    import xlrd

    try:
        moment = xlrd.xldate_as_datetime(value, mode)
    except (xlrd.xldate.XLDateError, OverflowError, ValueError):
        return cell_text(value)
    if 0 <= value < 1:
        return cell_text(moment.time().replace(microsecond=0))
    rounded = moment + datetime.timedelta(microseconds=500_000)
    return cell_text(rounded.replace(microsecond=0), code)


class OpenSheetParser:
    """Reads ODS: sheets and tables as of XLSX, each cell as it is shown, its remarks after it."""

    def __init__(
        self, *, max_unpacked: int = zipped.MAX_UNPACKED, max_cells: int = outline.MAX_CELLS
    ) -> None:
        self._max_unpacked = max_unpacked
        self._max_cells = max_cells

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({ODS})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge for more than `max_cells` filled cells, else as `zipped.check_size`."""
        zipped.check_size(data, name, max_unpacked=self._max_unpacked, max_tags=_MAX_TAGS)
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            members = set(book.namelist())
            if "META-INF/manifest.xml" in members and b"encryption-data" in book.read(
                "META-INF/manifest.xml"
            ):
                raise DamagedDocument(
                    f"“{name}” is encrypted. Remove the password and upload it again."
                )
            title = _own_title(book) if "meta.xml" in members else None
            meter = Meter(name, self._max_cells)
            with book.open("content.xml") as content:
                elements = [
                    element
                    for sheet, rows in _open_sheets(content, meter)
                    for element in headed(sheet, rows)
                ]
        return Parsed(outline.outlined(elements), title)


def _own_title(book: zipfile.ZipFile) -> str | None:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    tree = etree.fromstring(book.read("meta.xml"), parser)
    found = tree.findtext(f".//{_DC}title") if tree is not None else None
    return outline.one_line(found or "") or None


def _open_sheets(content: Any, meter: Meter) -> Iterator[tuple[str, list[Numbered]]]:  # noqa: ANN401
    """The name and rows of each sheet that is shown; a row is let go of when it is read."""
    from lxml import etree

    rows: list[Numbered] = []
    merged: list[tuple[int, int, int, int]] = []
    hidden: set[str] = set()
    number = 0
    events = etree.iterparse(
        content,
        events=("end",),
        tag=(f"{_TABLE}table-row", f"{_TABLE}table", f"{_STYLE}style"),
        resolve_entities=False,
        no_network=True,
    )
    for _, element in events:
        if element.tag == f"{_STYLE}style":
            shown = element.find(f"{_STYLE}table-properties")
            if shown is not None and shown.get(f"{_TABLE}display") == "false":
                hidden.add(element.get(f"{_STYLE}name", ""))
        elif element.tag == f"{_TABLE}table":
            if any(row for _, row in rows) and element.get(f"{_TABLE}style-name") not in hidden:
                spread_down(rows, merged, meter)
                yield element.get(f"{_TABLE}name", ""), rows
            rows, merged, number = [], [], 0
        else:
            row, reaching = _open_row(element, meter)
            merged += ((number + 1, number + down, at, at) for at, down in reaching)
            times = _times(element, "number-rows-repeated")
            # Rows that are repeated to the end of the sheet are empty, and one empty row parts as many do.
            copies = range(number + 1, number + 1 + (times if row else 1))
            rows += meter.counted((at, row) for at in copies)
            number += times
        element.clear()


def _open_row(element: Any, meter: Meter) -> tuple[Row, list[tuple[int, int]]]:  # noqa: ANN401
    """The filled cells, and of those that reach down their column and how many rows they take."""
    row: dict[int, str] = {}
    reaching: list[tuple[int, int]] = []
    at = 0
    for cell in element.iterchildren(*_CELLS):
        meter.part(min(at, 1))
        times = _times(cell, "number-columns-repeated")
        text = _open_text(cell)
        if text.strip():
            row.update((at + step, text) for step in range(min(times, _MAX_COLUMNS)))
            if (down := _times(cell, "number-rows-spanned")) > 1:
                reaching.append((at, down))
        at += times
    return row, reaching


def _open_text(cell: Any) -> str:  # noqa: ANN401 - lxml elements
    said = [_letters(line) for line in cell.iterchildren(f"{_TEXT}p", f"{_TEXT}h")]
    remarks = [
        _letters(line)
        for note in cell.iterchildren(f"{_OFFICE}annotation")
        for line in note.iter(f"{_TEXT}p")
    ]
    return " ".join(["\n".join(said), *remarks])


def _letters(line: Any) -> str:  # noqa: ANN401 - lxml elements
    """The text with its spaces, tabs and breaks, which are tags of their own."""
    pieces = [line.text or ""]
    for part in line.iterchildren():
        if part.tag == f"{_TEXT}s":
            pieces.append(" ")
        elif part.tag == f"{_TEXT}tab":
            pieces.append("\t")
        elif part.tag == f"{_TEXT}line-break":
            pieces.append("\n")
        elif isinstance(part.tag, str) and part.tag != f"{_OFFICE}annotation":
            pieces.append(_letters(part))
        pieces.append(part.tail or "")
    return "".join(pieces)


def _times(element: Any, name: str) -> int:  # noqa: ANN401 - lxml elements
    value = element.get(f"{_TABLE}{name}", "1")
    return max(1, int(value[:9])) if value.isdecimal() else 1
