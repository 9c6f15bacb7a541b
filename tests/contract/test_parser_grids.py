"""The parsers of the contract on generated tables: every cell in its row and column, each row once."""

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from html import escape

import docx
import openpyxl
import pptx
import pytest
import xlwt
from drafts import PARSER, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Table

from indexer.text.chunk import Chunking, cut
from indexer.text.stored import Stored, decode_layout, encode_layout, store
from pipeline.rows import Cell, cells, cited, letters, rows
from pipeline.types import ElementKind, Grid, TableRows

Rows = Sequence[Sequence[str]]
HEADER = ("品名", "Unit price", "库存", "产地 (place)")
WORD = st.sampled_from(
    ["螺栓", "bolt M8", "12 元", "3.50", "2026-11-24", "a, b; c: d", "", "<b>&", "长" * 40]
)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """A header and two to six rows, the first cell of each unlike all others."""
    width = draw(st.integers(2, 4))
    body = draw(st.lists(st.lists(WORD, min_size=width - 1, max_size=width - 1), min_size=2, max_size=6))  # fmt: skip
    return [HEADER[:width], *([f"行{number}", *row] for number, row in enumerate(body))]


def as_docx(*parts: Rows) -> bytes:
    document = docx.Document()
    for part in parts:
        table = document.add_table(len(part), len(part[0]))
        for line, row in zip(table.rows, part, strict=True):
            for cell, text in zip(line.cells, row, strict=True):
                cell.text = text
    return saved(document.save)


def as_pptx(*parts: Rows) -> bytes:
    deck = pptx.Presentation()
    for number, part in enumerate(parts):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = "价目" if number == 0 else "价目（续）"
        table = slide.shapes.add_table(len(part), len(part[0]), 0, 0, 5_000_000, 2_000_000).table
        for line, row in zip(table.rows, part, strict=True):
            for cell, text in zip(line.cells, row, strict=True):
                cell.text = text
    return saved(deck.save)


def as_html(*parts: Rows) -> bytes:
    def line(tag: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"

    made = [
        f"<table>{line('th', part[0])}{''.join(line('td', row) for row in part[1:])}</table>"
        for part in parts
    ]
    return "\n".join(made).encode()


def as_markdown(part: Rows) -> bytes:
    lines = [
        "| " + " | ".join(cell.replace("<b>", "\\<b\\>") for cell in row) + " |" for row in part
    ]
    return "\n".join([lines[0], "|---" * len(part[0]) + "|", *lines[1:]]).encode()


def as_rtf(part: Rows) -> bytes:
    def letters_of(text: str) -> str:
        return "".join(c if c.isascii() else f"\\u{ord(c)}?" for c in text)

    lines = [
        r"\trowd\pard\intbl " + r"\pard\intbl ".join(letters_of(cell) + r"\cell" for cell in row) + r"\row"
        for row in part
    ]  # fmt: skip
    return ("{\\rtf1\\ansi " + "\n".join(lines) + r"\pard end\par}").encode()


def as_xlsx(part: Rows) -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "库存 2026"
    for row in part:
        book.active.append([cell or None for cell in row])
    return saved(book.save)


def as_xls(part: Rows) -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("库存 2026")
    for number, row in enumerate(part):
        for column, cell in enumerate(row):
            if cell:
                sheet.write(number, column, cell)
    return saved(book.save)


def as_ods(part: Rows) -> bytes:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    lines = "".join(
        "<table:table-row>"
        + "".join(f"<table:table-cell><text:p>{escape(c)}</text:p></table:table-cell>" for c in row)
        + "</table:table-row>"
        for row in part
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "content.xml",
            f'<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name="库存 2026">'
            f"{lines}</table:table></office:spreadsheet></office:body></office:document-content>",
        )
    return buffer.getvalue()


def as_rows(part: Rows, delimiter: str) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(part)
    return buffer.getvalue().encode()


def as_pdf(*parts: Rows) -> bytes:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    style = ParagraphStyle("cell", fontName="STSong-Light", fontSize=9, wordWrap="CJK")
    flow: list[Flowable] = []
    for part in parts:
        cells = [[Paragraph(escape(cell), style) for cell in row] for row in part]
        lines = [("GRID", (0, 0), (-1, -1), 0.5, "#000000")]
        flow += Table(cells, [120] * len(part[0]), style=lines, repeatRows=1), PageBreak()
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer, pagesize=(595, 842), pageCompression=0).build(flow)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    ".docx": as_docx,
    ".pptx": as_pptx,
    ".html": as_html,
    ".md": as_markdown,
    ".rtf": as_rtf,
    ".pdf": as_pdf,
    ".xlsx": as_xlsx,
    ".xls": as_xls,
    ".ods": as_ods,
    ".csv": lambda part: as_rows(part, ","),
    ".tsv": lambda part: as_rows(part, "\t"),
}
SHEETS = (".xlsx", ".xls", ".ods")


def stored_of(data: bytes, name: str) -> Stored:
    """What is stored, by way of the bytes that keep it."""
    made = store(PARSER.parse(data, name))
    return decode_layout(made.text, encode_layout(made.placed))


def wholes(stored: Stored) -> list[TableRows]:
    found = []
    for placed in stored.placed:
        if placed.element.kind is ElementKind.TABLE:
            assert placed.element.grid is not None
            found.append(TableRows(placed.start, placed.end, placed.element.grid))
    return found


def grid_of(stored: Stored, table: TableRows) -> dict[tuple[int, int], str]:
    def place(cell: Cell, grid: Grid) -> tuple[int, int]:
        return grid.rows[cell.line], grid.columns[cell.index]

    return {
        place(cell, table.grid): stored.text[cell.start : cell.end]
        for cell in cells(stored.text, table)
        if cell.start < cell.end
    }


def filled(part: Rows) -> dict[tuple[int, int], str]:
    return {
        (number, column): cell
        for number, row in enumerate(part, start=1)
        for column, cell in enumerate(row, start=1)
        if cell
    }


@pytest.mark.parametrize("extension", FORMATS)
@given(part=tables())
@settings(deadline=None, max_examples=8)
def test_every_cell_is_read_in_its_row_and_column_and_a_row_is_cited_by_its_range(
    extension: str, part: Rows
) -> None:
    stored = stored_of(FORMATS[extension](part), f"a{extension}")
    (table,) = wholes(stored)
    assert grid_of(stored, table) == filled(part)
    assert list(filled(part).values()) == [
        stored.text[c.start : c.end] for c in cells(stored.text, table) if c.start < c.end
    ]
    sheet = "'库存 2026'!" if extension in SHEETS else ""
    for number, (row, line) in enumerate(zip(part[1:], rows(stored.text, table), strict=True), 2):
        last = letters(max(at for at, cell in enumerate(row, start=1) if cell))
        ends = f"A{number}" if last == "A" else f"A{number}:{last}{number}"
        assert cited(stored.text, [table], line.start, line.end) == (1, sheet + ends)


@pytest.mark.parametrize("write", [as_docx, as_pptx, as_html, as_pdf])
@given(one=tables(), two=tables())
@settings(deadline=None, max_examples=6)
def test_a_table_that_goes_on_where_its_header_repeats_has_each_row_once(
    write: Callable[..., bytes], one: Rows, two: Rows
) -> None:
    two = [one[0], *(([f"又{row[0]}", *row[1:], "", ""])[: len(one[0])] for row in two[1:])]
    name = {as_docx: "a.docx", as_pptx: "a.pptx", as_html: "a.html", as_pdf: "a.pdf"}[write]
    stored = stored_of(write(one, two), name)
    joined = [*one, *two[1:]]
    parts = wholes(stored)
    assert stored.text.count(HEADER[0]) == 1
    assert {table.grid.number for table in parts} == {1}
    found = {place: words for table in parts for place, words in grid_of(stored, table).items()}
    assert found == filled(joined)
    read = "".join(c.passage.text for c in cut(stored, None, len, Chunking(2000, 4000, 1000)))
    assert all(f"{HEADER[0]}: {row[0]}" in read for row in joined[1:])


@pytest.mark.parametrize("extension", FORMATS)
def test_a_header_is_said_with_every_value_however_small_the_chunks(extension: str) -> None:
    part = [HEADER, *([f"商品{n}", f"{n}.50", str(n), "上海"] for n in range(40))]
    stored = stored_of(FORMATS[extension](part), f"a{extension}")
    made = cut(stored, None, lambda text: len(text) // 2 + 2, Chunking(60, 120, 20))
    assert len(made) > 5
    read = "\n".join(c.passage.text for c in made)
    for name, price, stock, place in part[1:]:
        row = f"品名: {name}; Unit price: {price}; 库存: {stock}; 产地 (place): {place}"
        assert row in read
