"""PDF to elements: pdfium's text by lines, mended to paragraphs; pages that are pictures by OCR."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import replace
from itertools import accumulate, groupby
from typing import Any

from indexer.parse import layout, outline, tabular
from indexer.parse.columns import in_reading_order
from indexer.parse.furniture import furniture
from indexer.parse.lines import Line, Ruled, Sheet, paragraphs, starts, usual_pitch
from indexer.parse.media import PDF
from indexer.parse.mend import HYPHENS, join_lines, vocabulary
from indexer.parse.ocr import RapidRecognizer, Recognizer
from indexer.parse.pdfium import (
    PDFIUM,
    bookmarks,
    is_readable,
    legible,
    open_document,
    open_page,
    own_title,
    page_lines,
)
from indexer.parse.titles import Bookmark, Heading, from_bookmarks, level_by_size, sizes
from pipeline.errors import EmptyDocument, TooLarge
from pipeline.types import Element, ElementKind, Parsed

MAX_PAGES = 5_000
OCR_SCALE = 200 / 72
"""Pixels a point: 200 dots an inch."""
_MAX_PIXELS = 25_000_000
_LEAST_CONTRAST = 30
_MIDDLE = 0.5


class PdfParser:
    """Reads PDF files, page by page, so that memory does not grow with the pictures in them.

    Running headers, footers and page numbers become FURNITURE elements, tables with drawn lines TABLE.
    Headings come from the bookmarks, or from font sizes where there are none; a `layout_model` orders
    the lines and names headings and furniture, where it sees them. Raises DamagedDocument (truncated, encrypted),
    TooLarge (over `max_pages`) and EmptyDocument (neither text nor legible pictures).
    """

    def __init__(
        self,
        *,
        max_pages: int = MAX_PAGES,
        recognizer: Recognizer | None = None,
        layout_model: layout.LayoutModel | None = None,
    ) -> None:
        self._max_pages = max_pages
        self._recognizer = recognizer or RapidRecognizer()
        self._layout = layout_model

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({PDF})

    def parse(self, data: bytes, name: str) -> Parsed:
        return self.joined(data, name, tuple(self.sheets(data, name, 0, self.count(data, name))))

    def count(self, data: bytes, name: str) -> int:
        """How many pages there are."""
        with PDFIUM, closing(open_document(data, name)) as document:
            count = len(document)
        if count > self._max_pages:
            raise TooLarge(
                f"“{name}” has {count:,} pages, more than the limit of {self._max_pages:,}. "
                "Split it and upload the parts."
            )
        return count

    def sheets(self, data: bytes, name: str, first: int, last: int) -> Iterator[Sheet]:
        """The pages from `first` up to `last`, counted from 0, one after another."""
        document = open_document(data, name)
        try:
            for index in range(first, last):
                yield self._sheet(document, index, name)
        finally:
            with PDFIUM:
                document.close()

    def joined(self, data: bytes, name: str, sheets: tuple[Sheet, ...]) -> Parsed:
        """The document of all its pages."""
        with PDFIUM, closing(open_document(data, name)) as document:
            marks = bookmarks(document)
            title = own_title(document)
        if not any(sheet.lines for sheet in sheets):
            raise EmptyDocument(
                f"“{name}” has no text: its pages are blank or not legible. Upload a PDF with text "
                "or a sharper scan."
            )
        regions = self._layout.regions(data) if self._layout else None
        elements = outline.outlined(elements_of(sheets, marks, regions))
        return Parsed(elements, title or _title(elements, marks), len(sheets))

    def _sheet(self, document: Any, index: int, name: str) -> Sheet:  # noqa: ANN401 - no types
        """One page's lines; by OCR when its text layer says nothing and pictures fill it."""
        with PDFIUM:
            page = open_page(document, index, name)
            try:
                width, height = page.get_size()
                lines, tables = page_lines(page)
                if is_readable(page, lines) or not width * height:
                    return Sheet(index + 1, width or 1.0, height or 1.0, legible(lines), tables)
                scale = min(OCR_SCALE, (_MAX_PIXELS / (width * height)) ** 0.5)
                bitmap = page.render(scale=scale)
                pixels = bitmap.to_numpy().copy()
                bitmap.close()
            finally:
                page.close()
        blank = int(pixels.max()) - int(pixels.min()) < _LEAST_CONTRAST
        read = () if blank else tuple(self._recognizer.read(pixels, scale))
        return Sheet(index + 1, width, height, read or legible(lines), scanned=bool(read))


def elements_of(
    sheets: tuple[Sheet, ...], marks: tuple[Bookmark, ...], regions: layout.Regions | None = None
) -> Iterator[Element]:
    """The elements of all pages in order, headings with levels, paths not yet set.

    `regions`, where a layout model has found some, order the lines and name headings and furniture.
    """
    seen = regions or {}
    sheets = tuple(
        layout.ordered(sheet, seen[sheet.number])
        if sheet.number in seen
        else replace(sheet, lines=in_reading_order(sheet.lines))
        for sheet in sheets
    )
    levels = {} if marks else sizes(sheets)
    by_page: dict[int, list[Bookmark]] = {}
    for mark in marks:
        by_page.setdefault(mark.page, []).append(mark)
    titles = {
        (sheet.number, at)
        for sheet in sheets
        for heading in from_bookmarks(sheet, by_page.get(sheet.number, []))
        for at in range(heading.first, heading.first + heading.count)
    }
    running = {
        (number, at)
        for number, at in furniture(sheets, titles)
        # A title that is set large on every page of its chapter is a heading all the same.
        if sheets[number - 1].scanned or not level_by_size([sheets[number - 1].lines[at]], levels)
    }
    sheets = tuple(_without_running_tables(sheet, running) for sheet in sheets)
    running -= {
        (sheet.number, at)
        for sheet in sheets
        for at, line in enumerate(sheet.lines)
        if line.table  # a header that a table repeats on each page is the table's
    }
    running |= {
        (sheet.number, at)
        for sheet in sheets
        for at in layout.held(sheet, seen.get(sheet.number, ()), ElementKind.FURNITURE)
    }
    pitch = usual_pitch(sheets)
    words = vocabulary(line.text for sheet in sheets for line in sheet.lines)
    for sheet in sheets:
        apart = [at for at in range(len(sheet.lines)) if (sheet.number, at) in running]
        body = replace(
            sheet, lines=tuple(line for at, line in enumerate(sheet.lines) if at not in apart)
        )
        furnished = [_furnished(sheet, sheet.lines[at]) for at in apart]
        yield from (piece for piece in furnished if piece.boxes[0].y0 < _MIDDLE)
        headings = from_bookmarks(body, by_page.get(sheet.number, []))
        own = {} if sheet.scanned else levels
        if not marks:
            headings = layout.titles(body, seen.get(sheet.number, ()), own)
        yield from _page_elements(body, headings, own, pitch, words)
        yield from (piece for piece in furnished if piece.boxes[0].y0 >= _MIDDLE)


def _without_running_tables(sheet: Sheet, running: AbstractSet[tuple[int, int]]) -> Sheet:
    """A table whose lines are all furniture is the frame of a running header: its lines are like others."""
    body = {line.table for at, line in enumerate(sheet.lines) if (sheet.number, at) not in running}
    if body.issuperset(range(1, len(sheet.tables) + 1)):
        return sheet
    lines = (line if line.table in body else replace(line, table=0) for line in sheet.lines)
    return replace(sheet, lines=tuple(lines))


def _furnished(sheet: Sheet, line: Line) -> Element:
    text = outline.tidy(line.text.strip(HYPHENS))
    return Element(
        text, ElementKind.FURNITURE, sheet.number, boxes=sheet.boxes([line]), starts=(0,)
    )


def _page_elements(
    sheet: Sheet,
    headings: list[Heading],
    levels: Mapping[float, int],
    pitch: float,
    words: frozenset[str],
) -> Iterator[Element]:
    at = 0
    told: set[int] = set()
    for heading in headings:
        lines = sheet.lines[at : heading.first]
        yield from _text_elements(sheet, lines, levels, pitch, words, told)
        lines = sheet.lines[heading.first : heading.first + heading.count]
        text = outline.one_line(
            " ".join(line.text.strip(HYPHENS) for line in lines) or heading.title
        )
        yield Element(
            text,
            ElementKind.HEADING,
            sheet.number,
            level=heading.level,
            boxes=sheet.boxes(lines),
            starts=starts(text, lines),
        )
        at = max(at, heading.first + heading.count)
    yield from _text_elements(sheet, sheet.lines[at:], levels, pitch, words, told)


def _text_elements(
    sheet: Sheet,
    lines: tuple[Line, ...],
    levels: Mapping[float, int],
    pitch: float,
    words: frozenset[str],
    told: set[int],
) -> Iterator[Element]:
    """Paragraphs, and a table where its first line stands; `told` are those of the page that were."""
    for table, run in groupby(lines, key=lambda line: line.table):
        if not table:
            yield from _prose(sheet, tuple(run), levels, pitch, words)
        elif table not in told:
            told.add(table)
            yield from _table_elements(sheet, sheet.tables[table - 1], words)


def _table_elements(sheet: Sheet, ruled: Ruled, words: frozenset[str]) -> Iterator[Element]:
    rows = [[join_lines(cell, words) for cell in row] for row in ruled.rows]
    for element in tabular.table(rows, page=sheet.number):
        begun = accumulate((len(row) + 1 for row in element.text.split("\n")), initial=0)
        kept = element.grid.rows if element.grid else ()
        boxes = (sheet.box(ruled.x0, ruled.ys[at - 1], ruled.x1, ruled.ys[at]) for at in kept)
        yield replace(element, boxes=tuple(boxes), starts=tuple(begun)[: len(kept)])


def _prose(
    sheet: Sheet,
    lines: tuple[Line, ...],
    levels: Mapping[float, int],
    pitch: float,
    words: frozenset[str],
) -> Iterator[Element]:
    for paragraph in paragraphs(lines, pitch):
        text = paragraph.text(words)
        boxes, begun = sheet.boxes(paragraph.lines), starts(text, paragraph.lines)
        level = level_by_size(paragraph.lines, levels) if levels else 0
        if level:
            text = text.replace("\n", " ")
            kind = ElementKind.HEADING
            yield Element(text, kind, sheet.number, level=level, boxes=boxes, starts=begun)
        else:
            kind = ElementKind.LIST_ITEM if paragraph.is_item else ElementKind.PARAGRAPH
            yield Element(text, kind, sheet.number, boxes=boxes, starts=begun)


def _title(elements: tuple[Element, ...], marks: tuple[Bookmark, ...]) -> str | None:
    """The largest heading of the first page, where font sizes made the headings."""
    first = [element for element in elements if element.page == 1]
    return None if marks else outline.first_heading(first)
