"""Old and open workbooks read as XLSX does: sheets, tables, and cells as they look."""

import datetime as dt
import io
import zipfile
from html import escape

import pytest
import xlwt
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse import media
from indexer.parse.parser import build_parser
from indexer.parse.workbooks import OldWorkbookParser, OpenSheetParser
from pipeline.errors import DamagedDocument, TooLarge
from pipeline.types import ElementKind, Parsed

PARSER = build_parser()
TYPES = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
Book = dict[str, list[list[str]]]
CELLS = st.text("保修期为二十四个月退貨abcXYZ019.<&", min_size=1, max_size=12)
BOOKS = st.lists(
    st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=2, max_size=5),
    min_size=1,
    max_size=3,
)


def as_xls(book: Book) -> bytes:
    made = xlwt.Workbook()
    for name, rows in book.items():
        sheet = made.add_sheet(name)
        for at, row in enumerate(rows):
            for column, text in enumerate(row):
                sheet.write(at, column, text)
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def ods(content: str, **members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("mimetype", media.ODS)
        file.writestr(
            "content.xml",
            f"<office:document-content {TYPES}><office:body><office:spreadsheet>{content}"
            "</office:spreadsheet></office:body></office:document-content>",
        )
        for name, text in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), text)
    return buffer.getvalue()


def as_ods(book: Book) -> bytes:
    tables = []
    for name, rows in book.items():
        lines = "".join(
            "<table:table-row>"
            + "".join(
                f"<table:table-cell><text:p>{escape(text)}</text:p></table:table-cell>"
                for text in row
            )
            + "</table:table-row>"
            for row in rows
        )
        tables.append(f'<table:table table:name="{escape(name)}">{lines}</table:table>')
    return ods("".join(tables))


def told(parsed: Parsed) -> list[tuple[str, ElementKind]]:
    return [(element.text, element.kind) for element in parsed.elements]


@pytest.mark.parametrize("make", [as_xls, as_ods])
@given(sheets=BOOKS)
@settings(deadline=None, max_examples=15)
def test_every_cell_is_read_in_order_in_its_sheet(
    make: object, sheets: list[list[list[str]]]
) -> None:
    book = {f"表{number}": rows for number, rows in enumerate(sheets)}
    parsed = PARSER.parse(make(book), "any.name")  # type: ignore[operator]
    expected = [(name, " | ".join(row)) for name, rows in book.items() for row in rows]
    assert [
        (element.heading[0], line.rstrip(" |"))
        for element in parsed.elements
        if element.kind is ElementKind.TABLE
        for line in element.text.split("\n")
    ] == expected


def test_cells_of_an_old_workbook_read_as_they_look() -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("销售")
    sheet.write(0, 0, "2024 年销售表")
    for column, text in enumerate(("日期", "时刻", "占比", "数量", "名称", "生效")):
        sheet.write(2, column, text)
    style = xlwt.easyxf
    sheet.write(3, 0, dt.date(2024, 3, 1), style(num_format_str="yyyy-mm-dd"))
    sheet.write(
        3,
        1,
        dt.datetime(2024, 3, 1, 8, 30),  # noqa: DTZ001 - sheets know no zones
        style(num_format_str="yyyy-mm-dd hh:mm"),
    )
    sheet.write(3, 2, 0.125, style(num_format_str="0.0%"))
    sheet.write(3, 3, 6)
    sheet.write(3, 4, "NA")
    sheet.write(3, 5, True)
    sheet.write(4, 3, 0.1)
    buffer = io.BytesIO()
    book.save(buffer)
    assert told(PARSER.parse(buffer.getvalue(), "a.xls")) == [
        ("销售", ElementKind.HEADING),
        ("2024 年销售表", ElementKind.PARAGRAPH),
        (
            "日期 | 时刻 | 占比 | 数量 | 名称 | 生效\n"
            "2024-03-01 | 2024-03-01 08:30:00 | 12.5% | 6 | NA | TRUE\n| | | 0.1 | |",
            ElementKind.TABLE,
        ),
    ]


def test_repeats_spaces_remarks_and_titles_of_an_open_sheet_are_read() -> None:
    content = (
        '<table:table table:name="一"><table:table-row><table:table-cell><text:p>项目</text:p></table:table-cell>'
        '<table:table-cell table:number-columns-repeated="2"><text:p>价</text:p></table:table-cell></table:table-row>'
        '<table:table-row table:number-rows-repeated="2"><table:table-cell><office:annotation><dc:creator>李'
        "</dc:creator><text:p>核对</text:p></office:annotation><text:p>甲<text:s/>乙</text:p><text:p>二</text:p>"
        '</table:table-cell><table:table-cell/><table:table-cell office:value-type="percentage" office:value="0.5">'
        "<text:p>50<text:span>%</text:span></text:p></table:table-cell>"
        '<table:table-cell table:number-columns-repeated="16300"/></table:table-row>'
        '<table:table-row table:number-rows-repeated="1048570"><table:table-cell/></table:table-row></table:table>'
    )
    meta = f"<office:document-meta {TYPES}><office:meta><dc:title>账 本</dc:title></office:meta></office:document-meta>"
    parsed = PARSER.parse(ods(content, meta_xml=meta), "a")
    assert parsed.title == "账 本"
    assert [element.text for element in parsed.elements] == [
        "一",
        "项目 | 价 | 价\n甲 乙二 核对 | | 50%\n甲 乙二 核对 | | 50%",
    ]


def test_what_is_repeated_or_encrypted_without_end_is_refused() -> None:
    flood = (
        '<table:table><table:table-row table:number-rows-repeated="900000000"><table:table-cell '
        'table:number-columns-repeated="16000"><text:p>x</text:p></table:table-cell></table:table-row></table:table>'
    )
    with pytest.raises(TooLarge, match="more cells"):
        PARSER.parse(ods(flood), "a.ods")
    with pytest.raises(TooLarge, match="more cells"):
        OpenSheetParser(max_cells=3).parse(as_ods({"a": [["1", "2"], ["3", "4"]]}), "a.ods")
    with pytest.raises(TooLarge, match="more cells"):
        OldWorkbookParser(max_cells=3).parse(as_xls({"a": [["1", "2"], ["3", "4"]]}), "a.xls")
    locked = ods("", **{"META-INF__manifest_xml": "<x><manifest:encryption-data/></x>"})
    with pytest.raises(DamagedDocument, match="Remove the password"):
        PARSER.parse(locked, "a.ods")


def test_merged_cells_are_said_in_each_row_and_hidden_sheets_are_not_read() -> None:
    made = xlwt.Workbook()
    sheet = made.add_sheet("销售")
    for row, cells in enumerate((("季度", "月"), ("Q1", "一"), ("", "二"), ("Q2", "四"))):
        for column, text in enumerate(cells):
            if text and text != "Q1":
                sheet.write(row, column, text)
    sheet.write_merge(1, 2, 0, 0, "Q1")
    hidden = made.add_sheet("秘密")
    hidden.write(0, 0, "底价")
    hidden.visibility = 1
    buffer = io.BytesIO()
    made.save(buffer)
    name = '"urn:oasis:names:tc:opendocument:xmlns:style:1.0"'
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>"
    rows = (("季度", "月"), ("Q1", "一"), (None, "二"), ("Q2", "四"))
    lines = "".join(
        "<table:table-row>"
        + (
            "<table:covered-table-cell/>"
            if first is None
            else cell.format(' table:number-rows-spanned="2"' if first == "Q1" else "", first)
        )
        + cell.format("", second)
        + "</table:table-row>"
        for first, second in rows
    )
    style = (
        f'<style:style xmlns:style={name} style:name="ta2" style:family="table">'
        '<style:table-properties table:display="false"/></style:style>'
    )
    content = (
        f'{style}<table:table table:name="销售">{lines}</table:table>'
        f'<table:table table:name="秘密" table:style-name="ta2"><table:table-row>{cell.format("", "底价")}'
        "</table:table-row></table:table>"
    )
    for data, file in ((buffer.getvalue(), "a.xls"), (ods(content), "a.ods")):
        texts = [element.text for element in PARSER.parse(data, file).elements]
        assert texts == ["销售", "季度 | 月\nQ1 | 一\nQ1 | 二\nQ2 | 四"], file
