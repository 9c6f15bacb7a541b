"""Tables over HTTP: a cited row knows its cells, is shown inside its table, and reads alone."""

import asyncio
import io
from collections.abc import Iterator
from html import unescape

import openpyxl
import pptx
import pytest
from rest import Api

from app.client import ApiClient
from app.running import Server
from app.schemas import CitationOut
from ui.pages import passage_html
from ui.passages import Passage
from ui.words_en import ENGLISH

STAFF = [["姓名", "工号", "部门", "分机号"]] + [
    [f"{family}{given}", f"E{1000 + n * 7}", ("财务部", "市场部", "研发中心")[n % 3], 6100 + n * 3]
    for n, (family, given) in enumerate(
        (family, given) for family in "王李张刘陈" for given in ("伟", "敏静", "晓峰", "建国")
    )
]


@pytest.fixture(scope="module")
def api(server) -> Iterator[Api]:
    made = Api(server.url)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def staff(api: Api) -> str:
    """A collection with one workbook: a caption in row 1, the table from row 3 and column B on."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "通讯录 2026"
    sheet["A1"] = "内部资料 <b>"
    for number, row in enumerate(STAFF, start=3):
        for column, text in enumerate(row, start=2):
            sheet.cell(number, column, text)
    buffer = io.BytesIO()
    book.save(buffer)
    name = api.collection()
    rows = api.upload(name, ("通讯录.xlsx", buffer.getvalue()))
    assert rows[0]["job"]["status"] == "done", rows
    return name


def test_a_citation_of_a_row_names_exactly_its_cells_and_shows_it_in_its_table(
    server: Server, api: Api, staff: str
) -> None:
    person, number, department, extension = STAFF[10]
    answer = api.ask(f"{person}的分机号是多少？", staff)
    assert not answer["refused"]
    assert f"姓名: {person}" in answer["answer"]
    assert f"分机号: {extension}" in answer["answer"]
    cited = next(c for c in answer["citations"] if person in c["quote"])
    assert cited["quote"] == f"{person} | {number} | {department} | {extension}"
    assert cited["quote"] == api.text(cited["document_id"], 1)[cited["start"] : cited["end"]]
    assert cited["cells"] == "'通讯录 2026'!B13:E13"
    assert cited["table"] == 1

    where = f"/documents/{cited['document_id']}/tables/1"
    span = f"{cited['start']}-{cited['end']}"
    shown = api.http.get(where, params={"highlight": span})
    assert shown.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    row = f'<tr data-row="13"><td><mark>{person}</mark></td><td><mark>{number}</mark></td>'
    assert row in shown.text
    assert shown.text.count("<mark>") == 4
    assert "<th>姓名</th>" in shown.text
    assert '<tr data-row="5">' in shown.text
    assert '<tr data-row="4">' not in shown.text
    assert '<tr class="cut">' in shown.text

    panel = asyncio.run(shown_by_the_page(server.url, cited))
    assert shown.text in panel
    assert f"{person} | {number}" not in panel
    assert "B13:E13" in panel


async def shown_by_the_page(url: str, cited: dict) -> str:
    client = ApiClient(url)
    try:
        return await passage_html(client, Passage.of(CitationOut(**cited)), ENGLISH)
    finally:
        await client.aclose()


def test_a_hit_knows_the_cells_of_its_passage_and_no_html_of_a_file_comes_through(
    api: Api, staff: str
) -> None:
    hits = api.search("通讯录 内部资料", staff)
    assert hits[0]["cells"].startswith("'通讯录 2026'!A1, '通讯录 2026'!B3:E")
    page = "<table><tr><th>键<th>值</tr><tr><td>甲<td>&lt;script&gt;x&lt;/script&gt;</tr></table>"
    name = api.collection()
    api.upload(name, ("a.html", page.encode()))
    (hit,) = api.search("甲", name)
    assert (hit["table"], hit["cells"]) == (1, "A1:B2")
    shown = api.http.get(f"/documents/{hit['document_id']}/tables/1").text
    assert "<script" not in shown
    assert "<script>x</script>" in unescape(shown)
    missing = api.http.get(f"/documents/{hit['document_id']}/tables/2")
    assert missing.status_code == 404
    assert "no table 2" in missing.json()["detail"]


def test_a_table_over_two_slides_is_one_and_each_row_keeps_its_slide(api: Api) -> None:
    deck = pptx.Presentation()
    for part in (range(4), range(4, 8)):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = "港口价目"
        rows = [("港口", "吊装费"), *((f"第{n}码头", f"{n}40 元") for n in part)]
        table = slide.shapes.add_table(len(rows), 2, 0, 0, 5_000_000, 2_000_000).table
        for line, row in zip(table.rows, rows, strict=True):
            for cell, text in zip(line.cells, row, strict=True):
                cell.text = text
    buffer = io.BytesIO()
    deck.save(buffer)
    name = api.collection()
    api.upload(name, ("价目.pptx", buffer.getvalue()))
    answer = api.ask("第6码头的吊装费是多少？", name)
    cited = next(c for c in answer["citations"] if "第6码头" in c["quote"])
    assert "港口: 第6码头; 吊装费: 640 元" in answer["answer"]
    assert (cited["page"], cited["table"], cited["cells"]) == (2, 1, "A8:B8")
    shown = api.http.get(f"/documents/{cited['document_id']}/tables/1").text
    assert shown.count("<th>港口</th>") == 1
    assert all(f"第{n}码头" in shown for n in range(8))
