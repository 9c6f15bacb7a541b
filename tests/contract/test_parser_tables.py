"""The parsers of the contract on tables: sheets, and tables inside other documents."""

import io
import zipfile

import docx
import openpyxl
import pptx
import pytest
from drafts import PARSER, saved
from openpyxl.chart import BarChart, Reference

from pipeline.types import Element, ElementKind, Parsed

DRAWN = "http://schemas.openxmlformats.org/drawingml/2006/"


def table_of(parsed: Parsed) -> Element:
    return next(element for element in parsed.elements if element.kind is ElementKind.TABLE)


def docx_table() -> bytes:
    document = docx.Document()
    table = document.add_table(3, 3)
    for row, cells in enumerate((("项目", "价格", ""), ("甲", "12 元", ""), ("", "13 元", ""))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    return saved(document.save)


def pptx_table() -> bytes:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    table = slide.shapes.add_table(3, 2, 0, 0, 5_000_000, 2_000_000).table
    for row, cells in enumerate((("项目", "价格"), ("甲", "12 元"), ("", "13 元"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    return saved(deck.save)


def xlsx_table() -> bytes:
    book = openpyxl.Workbook()
    for row in (["项目", None, "价格"], ["甲", None, "12 元"], [None, None, "13 元"]):
        book.active.append(row)
    return saved(book.save)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (docx_table(), "a.docx"),
        (pptx_table(), "a.pptx"),
        (xlsx_table(), "a.xlsx"),
        ("项目,,价格\r\n甲,,12 元\r\n,,13 元\r\n".encode("gb18030"), "a.csv"),
        ("项目;价格\n甲;12 元\n;13 元\n".encode(), "a.csv"),
        ("项目\t价格\n甲\t12 元\n\t13 元\n".encode(), "a.tsv"),
        ("| 项目 | 价格 |\n|---|---|\n| 甲 | 12 元 |\n| | 13 元 |\n".encode(), "a.md"),
        (
            "<table><tr><th>项目<th>价格</tr><tr><td>甲<td>12 元</tr><tr><td><td>13 元</tr></table>".encode(),
            "a.html",
        ),
    ],
)
def test_a_table_is_one_row_a_line_with_its_header_first(data: bytes, name: str) -> None:
    table = table_of(PARSER.parse(data, name))
    assert table.columns == ("项目", "价格")
    assert table.text == "项目 | 价格\n甲 | 12 元\n| 13 元"


def test_merged_cells_are_spread_out() -> None:
    page = (
        "<table><tr><th>季<th>月<th>额</tr><tr><td rowspan=2>Q1<td>1<td>10</tr><tr><td>2<td>20</tr>"
        "<tr><td colspan=2>合计<td>30</tr></table>"
    )
    text = table_of(PARSER.parse(page.encode(), "a.html")).text
    assert text == "季 | 月 | 额\nQ1 | 1 | 10\nQ1 | 2 | 20\n合计 | | 30"


def test_cells_of_a_sheet_read_as_they_look() -> None:
    import datetime

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "销售"
    sheet.append(["2024 年销售表"])
    sheet.append(["日期", "占比", "数量", "名称", "生效"])
    sheet.append([datetime.date(2024, 3, 1), 0.125, 6.0, "NA", True])
    sheet["B3"].number_format = "0.0%"
    sheet.append([])
    sheet.append(["second", "table"])
    sheet.append([0.1, 123456789012])
    elements = PARSER.parse(saved(book.save), "a.xlsx").elements
    assert [element.text for element in elements] == [
        "销售",
        "2024 年销售表",
        "日期 | 占比 | 数量 | 名称 | 生效\n2024-03-01 | 12.5% | 6 | NA | TRUE",
        "second | table\n0.1 | 123456789012",
    ]


def test_titles_of_charts_and_text_boxes_of_a_sheet_are_read_behind_its_cells() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "销售"
    for row in (["月份", "数量"], ["一月", 6], ["二月", 9]):
        sheet.append(row)
    chart = BarChart()
    chart.title, chart.y_axis.title = "上半年销量", "万件"
    chart.add_data(Reference(sheet, min_col=2, min_row=1, max_row=3), titles_from_data=True)
    sheet.add_chart(chart, "D2")
    box = (
        f'<xdr:sp xmlns:xdr="{DRAWN}spreadsheetDrawing" xmlns:a="{DRAWN}main"><xdr:txBody>'
        "<a:p><a:r><a:t>以上数字</a:t></a:r><a:r><a:t>未经审计。</a:t></a:r></a:p></xdr:txBody></xdr:sp>"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(book.save))) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "xl/drawings/drawing1.xml":
                data = data.replace(b"</wsDr>", box.encode() + b"</wsDr>")
            new.writestr(name, data)
    texts = [element.text for element in PARSER.parse(made.getvalue(), "a.xlsx").elements]
    assert texts[:2] == ["销售", "月份 | 数量\n一月 | 6\n二月 | 9"]
    assert sorted(texts[2:]) == ["万件", "上半年销量", "以上数字未经审计。"]
