import io
import itertools
import zipfile

import openpyxl
import pytest
from openpyxl.comments import Comment

from indexer.parse.html import HtmlParser
from indexer.parse.sheets import SpreadsheetParser
from indexer.parse.tabular import sparse_table, table
from indexer.text.joined import continued
from pipeline.types import Element, ElementKind


def columns(*lines: str) -> tuple[str, ...]:
    """What a table of these rows says of its columns; "" stands for an empty cell."""
    (found,) = table([line.split("|") for line in lines])
    return found.columns


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (("name|age", "Ann|28", "Bob|31"), ("name", "age")),
        (("Ann|28", "Bob|31", "Cy|40"), ()),
        (("1.1|Buzz|1996-06-17", "1.2|Rex|1996-12-12", "1.3|Bo|1997-06-05"), ()),
        (("项目|2023|2024", "收入|1523|1711", "成本|980|1022"), ("项目", "2023", "2024")),
        (("班|1|2|3", "甲|4|5|6"), ("班", "1", "2", "3")),
        (("选手|100 m|200 m", "李|10.2|20.5"), ("选手", "100 m", "200 m")),
        (("姓名：|王芳", "电话：|8213", "部门：|财务"), ()),
        (("|销量", "一月|3"), ("", "销量")),
        (
            ("货号|2025||2026|", "|上半年|下半年|上半年|下半年", "甲|1|2|3|4"),
            ("货号", "2025 上半年", "2025 下半年", "2026 上半年", "2026 下半年"),
        ),
        (("客户|地区", "甲公司|华东", "乙公司|华北"), ("客户", "地区")),
    ],
)
def test_the_header_is_told_from_data(lines: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert columns(*lines) == names


def test_a_long_name_of_a_column_is_cut_where_it_is_repeated() -> None:
    (found,) = table([["x" * 200, "b"], ["1", "2"]])
    assert found.columns[0] == "x" * 59 + "…"
    assert "x" * 200 in found.text


def test_a_row_key_that_is_a_heading_cell_of_its_row_is_no_header() -> None:
    page = "<table><tr><th>电话<td>8213</tr><tr><th>部门<td>财务</tr></table>"
    (found,) = HtmlParser().parse(page.encode(), "a.html").elements
    assert found.columns == ()
    page = "<table><thead><tr><td>a<td>b</thead><tr><td>1<td>2</table>"
    (found,) = HtmlParser().parse(page.encode(), "a.html").elements
    assert found.columns == ("a", "b")


def test_only_furniture_and_a_repeated_heading_may_stand_between_the_parts_of_a_table() -> None:
    (part,) = table([["品名", "价"], ["螺栓", "3"]])
    title = Element("价目", ElementKind.HEADING)
    again = Element("价目 (2/2)", ElementKind.HEADING)
    foot = Element("第 1 页", ElementKind.FURNITURE)
    for between, joined in (
        ((), True),
        ((foot,), True),
        ((again,), True),
        ((Element("附录", ElementKind.HEADING),), False),
        ((Element("以下为旧价。"),), False),
    ):
        *_, last = continued([title, part, *between, part])
        assert last.text == ("螺栓 | 3" if joined else part.text)
        assert (last.grid is not None and last.grid.rows == (3,)) == joined
    three = list(continued([part, part, part]))
    assert [t.grid.rows for t in three if t.grid] == [(1, 2), (3,), (4,)]


def test_tables_of_two_sheets_are_two() -> None:
    one, two = (sparse_table([{0: "a", 1: "b"}, {0: "1", 1: "2"}], sheet=s) for s in ("甲", "乙"))
    assert [t.text for t in continued([*one, *two])] == ["a | b\n1 | 2", "a | b\n1 | 2"]


def sheet_of(book: openpyxl.Workbook) -> list[Element]:
    buffer = io.BytesIO()
    book.save(buffer)
    return list(SpreadsheetParser().parse(buffer.getvalue(), "a.xlsx").elements)


def test_a_cell_over_several_rows_is_said_in_each_and_a_comment_is_read() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["季度", "月", "金额"], ["Q1", "一", 1200], [None, "二", 1500], ["Q2", "四", 7]):
        sheet.append(row)
    sheet.merge_cells("A2:A3")
    sheet["C2"].number_format = '"¥"#,##0.00'
    sheet["C2"].comment = Comment("待复核", "王芳")
    _, found, remark = sheet_of(book)
    assert found.text == "季度 | 月 | 金额\nQ1 | 一 | ¥1,200.00\nQ1 | 二 | 1500\nQ2 | 四 | 7"
    assert remark.text == "王芳: 待复核"
    assert remark.grid is not None
    assert (remark.grid.rows, remark.grid.columns) == ((2,), (3,))


def test_a_hidden_sheet_is_not_read_and_a_hidden_row_is() -> None:
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.active.append([1, 2])
    book.active.row_dimensions[2].hidden = True
    secret = book.create_sheet("秘密")
    secret["A1"] = "底价"
    secret.sheet_state = "hidden"
    assert [e.text for e in sheet_of(book)] == ["Sheet", "a | b\n1 | 2"]


def test_rows_keep_their_numbers_over_gaps() -> None:
    book = openpyxl.Workbook()
    for at, row in ((3, "B"), (7, "C")):
        for column, text in enumerate(("品名", "价"), start=2):
            book.active.cell(at, column, text)
            book.active.cell(at + 1, column, f"{row}{column}")
    grids = [e.grid for e in sheet_of(book) if e.grid]
    assert [g.rows for g in grids] == [(3, 4), (7, 8)]
    assert list(itertools.chain(*(g.columns for g in grids))) == [2, 3, 2, 3]


def test_of_a_thread_of_comments_each_is_read_once_and_not_the_note_for_old_programs() -> None:
    book = openpyxl.Workbook()
    for row in (["a", "b"], ["1", "2"]):
        book.active.append(row)
    book.active["B2"].comment = Comment("[Threaded comment] Your version … Comment: 对吗？", "tc")
    buffer = io.BytesIO()
    book.save(buffer)
    made = io.BytesIO()
    thread = "".join(
        f'<threadedComment ref="B2" id="{{{n}}}"><text>{words}</text></threadedComment>'
        for n, words in enumerate(("对吗？", "对的。"))
    )
    space = "http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments"
    relation = (
        '<Relationship Id="rT" Target="../threadedComments/threadedComment1.xml" '
        'Type="http://schemas.microsoft.com/office/2017/10/relationships/threadedComment"/>'
    )
    with zipfile.ZipFile(buffer) as before, zipfile.ZipFile(made, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name == "xl/worksheets/_rels/sheet1.xml.rels":
                data = data.replace(b"</Relationships>", relation.encode() + b"</Relationships>")
            after.writestr(name, data)
        after.writestr(
            "xl/threadedComments/threadedComment1.xml",
            f'<ThreadedComments xmlns="{space}">{thread}</ThreadedComments>',
        )
    elements = SpreadsheetParser().parse(made.getvalue(), "a.xlsx").elements
    assert [e.text for e in elements] == ["Sheet", "a | b\n1 | 2", "对吗？", "对的。"]
