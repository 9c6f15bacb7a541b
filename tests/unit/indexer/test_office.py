"""Nothing that stands in a Word file is lost: comments, formulas, fields, readings, both kinds of notes."""

import io
from collections.abc import Callable

import docx
import pptx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE

from indexer.parse.office import DocxParser
from indexer.parse.slides import PptxParser
from pipeline.types import ElementKind

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
WORDS = st.text("保修期为二十四个月abcXYZ 019，。", min_size=3, max_size=30).filter(
    lambda text: text.strip(" ，。") and "  " not in text
)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def read(document: "docx.document.Document") -> list[tuple[str, ElementKind]]:
    parsed = DocxParser().parse(saved(document.save), "a.docx")
    return [(element.text, element.kind) for element in parsed.elements]


def test_formulas_fields_links_and_characters_under_a_reading_are_read() -> None:
    document = docx.Document()
    for inner in (
        f"<m:oMath {M}><m:r><m:t>E</m:t></m:r><m:r><m:t>=mc²</m:t></m:r></m:oMath>",
        f"<m:oMathPara {M}><m:oMath><m:r><m:t>a+b</m:t></m:r></m:oMath></m:oMathPara>",
        f'<w:fldSimple {W} w:instr="REF x"><w:r><w:t>图三</w:t></w:r></w:fldSimple>',
        f"<w:hyperlink {W}><w:r><w:t>这里</w:t></w:r></w:hyperlink>",
        f"<w:r {W}><w:ruby><w:rt><w:r><w:t>hàn</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢</w:t></w:r>"
        "</w:rubyBase></w:ruby></w:r>",
    ):
        document.add_paragraph("见：")._p.append(parse_xml(inner))
    texts = [text for text, _ in read(document)]
    assert texts == ["见：E=mc²", "见：a+b", "见：图三", "见：这里", "见：漢"]


def test_headers_and_footers_of_every_kind_are_furniture() -> None:
    document = docx.Document()
    section = document.sections[0]
    section.different_first_page_header_footer = True
    section.first_page_header.paragraphs[0].text = "首页页眉"
    section.header.paragraphs[0].text = "页眉"
    section.footer.add_table(1, 2, docx.shared.Inches(4)).cell(0, 1).text = "右脚"
    document.add_paragraph("正文。")
    elements = read(document)
    assert {text for text, kind in elements if kind is ElementKind.FURNITURE} == {
        "首页页眉",
        "页眉",
        "右脚",
    }
    assert ("正文。", ElementKind.PARAGRAPH) in elements


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
@settings(deadline=None, max_examples=10)
def test_a_comment_follows_its_paragraph_after_the_name_of_its_author(
    pairs: list[tuple[str, str]],
) -> None:
    document = docx.Document()
    for said, remark in pairs:
        document.add_comment(document.add_paragraph(said).runs, text=remark, author="李四")
    found = [text for text, _ in read(document)]
    assert found == [
        text.strip() for said, remark in pairs for text in (said, f"李四: {remark.strip()}")
    ]


def test_the_numbers_of_a_chart_in_a_document_are_read() -> None:
    data = CategoryChartData()
    data.categories = ["一月", "二月"]
    data.add_series("销量", (3, 5.5))
    slide = pptx.Presentation().slides
    drawn = slide.add_slide(slide.part.presentation.slide_layouts[6])
    chart = drawn.shapes.add_chart(XL_CHART_TYPE.LINE, 0, 0, 900_000, 900_000, data).chart
    document = docx.Document()
    document.add_paragraph("正文")
    part = Part(
        PackURI("/word/charts/chart1.xml"), chart.part.content_type, chart.part.blob,
        document.part.package,
    )  # fmt: skip
    document.part.relate_to(part, RELATIONSHIP_TYPE.CHART)
    assert read(document) == [
        ("正文", ElementKind.PARAGRAPH),
        ("| 销量\n一月 | 3\n二月 | 5.5", ElementKind.TABLE),
    ]


def test_rows_that_word_repeats_are_the_header() -> None:
    document = docx.Document()
    table = document.add_table(4, 3)
    rows = (("货号", "2025", ""), ("", "上半年", "下半年"), ("甲", "3", "4"), ("乙", "5", "6"))
    for line, row in zip(table.rows, rows, strict=True):
        for cell, text in zip(line.cells, row, strict=True):
            cell.text = text
    for line in table.rows[:2]:
        line._tr.get_or_add_trPr().append(parse_xml(f"<w:tblHeader {W}/>"))
    (found,) = DocxParser().parse(saved(document.save), "a.docx").elements
    assert found.text.split("\n")[0] == "货号 | 2025 |"
    assert found.columns == ("货号", "2025 上半年", "2025 下半年")
    assert found.grid is not None
    assert found.grid.header == 2


def test_a_slide_keeps_its_groups_its_chart_and_its_notes() -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "标题"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 900_000, 900_000, 900_000).text_frame.text = "组里的字"
    data = CategoryChartData()
    data.categories = ["一月", "二月"]
    data.add_series("销量", (3, 5.5))
    data.add_series("退货", (1, 2))
    kind = XL_CHART_TYPE.COLUMN_CLUSTERED
    chart = slide.shapes.add_chart(kind, 0, 2_000_000, 900_000, 900_000, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "两月对比"
    slide.notes_slide.notes_text_frame.text = "备注一\n备注\v二"
    elements = PptxParser().parse(saved(deck.save), "a.pptx").elements
    assert [element.text for element in elements] == [
        "标题",
        "组里的字",
        "两月对比",
        "| 销量 | 退货\n一月 | 3 | 1\n二月 | 5.5 | 2",
        "备注一",
        "备注\n二",
    ]
    assert {element.page for element in elements} == {1}
