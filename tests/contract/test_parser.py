"""Every format, one suite: what was written into a document is read out of it, in order and in its
place.

The oracle is the outline that each document is made from.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from html import escape
from pathlib import Path
from subprocess import run
from sys import executable

import docx
import openpyxl
import pptx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from indexer.parse.parser import MEDIA_TYPES, FileParser, build_parser
from pipeline.errors import DamagedDocument, EmptyDocument, RagError, TooLarge, UnsupportedMedia
from pipeline.types import Element, ElementKind, Parsed

PARSER = build_parser()
MAKE_BAD = Path("../shared/data/documents/bad/make_bad.py")


@dataclass(frozen=True)
class Section:
    """A heading and its paragraphs; on a page, a slide or a sheet of its own where there are any."""

    heading: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    title: str
    sections: tuple[Section, ...]


# What each format makes of a draft.


def as_docx(draft: Draft) -> bytes:
    document = docx.Document()
    document.add_heading(draft.title, 1)
    for section in draft.sections:
        document.add_heading(section.heading, 2)
        for paragraph in section.paragraphs:
            document.add_paragraph(paragraph)
    return saved(document.save)


def as_pptx(draft: Draft) -> bytes:
    deck = pptx.Presentation()
    for section in draft.sections:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = section.heading
        slide.placeholders[1].text_frame.text = "\n".join(section.paragraphs[:-1])
        slide.notes_slide.notes_text_frame.text = section.paragraphs[-1]
    return saved(deck.save)


def as_xlsx(draft: Draft) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, section in enumerate(draft.sections):
        sheet = book.create_sheet(section.heading)
        sheet.append(["编号", None, "text"])
        for at, paragraph in enumerate(section.paragraphs):
            sheet.append([number * 100 + at, None, paragraph])
    return saved(book.save)


def as_rows(draft: Draft, delimiter: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["编号", "text", ""])
    for section in draft.sections:
        for paragraph in section.paragraphs:
            writer.writerow([section.heading, paragraph, ""])
    return buffer.getvalue()


def as_csv(draft: Draft) -> bytes:
    return as_rows(draft, ",").encode("gb18030")


def as_tsv(draft: Draft) -> bytes:
    return as_rows(draft, "\t").encode("utf-8-sig")


def html_body(draft: Draft) -> str:
    parts = [f"<h1>{escape(draft.title)}</h1>"]
    for section in draft.sections:
        parts.append(f"<h2>{escape(section.heading)}</h2>")
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    return "\n".join(parts)


def as_html(draft: Draft) -> bytes:
    return (
        f"<!DOCTYPE html><html><head><title>{escape(draft.title)}</title><style>p{{}}</style></head>"
        f"<body><nav><a href='/'>首页</a></nav>{html_body(draft)}<script>alert(1)</script></body></html>"
    ).encode()


def as_markdown(draft: Draft) -> bytes:
    parts = [f"# {draft.title}"]
    for section in draft.sections:
        parts += [f"## {section.heading}", *section.paragraphs]
    return "\n\n".join(parts).encode()


def as_text(draft: Draft) -> bytes:
    parts = [f"第一编 {draft.title}"]
    for number, section in enumerate(draft.sections, start=1):
        parts += [f"第{number}章 {section.heading}", *section.paragraphs]
    return "\r\n\r\n".join(parts).encode("gb18030")


def as_mail(draft: Draft) -> bytes:
    message = EmailMessage()
    message["Subject"] = draft.title
    message["From"] = "张三 <zhang@example.org>"
    message["To"] = "li@example.org"
    message.set_content(f"<body>{html_body(draft)}</body>", subtype="html", charset="gb18030")
    return message.as_bytes()


def as_epub(draft: Draft) -> bytes:
    buffer = io.BytesIO()
    ids = [f"c{number}" for number in range(len(draft.sections))]
    items = "".join(
        f'<item id="{each}" href="text/{each}.xhtml" media-type="application/xhtml+xml"/>'
        for each in ids
    )
    spine = "".join(f'<itemref idref="{each}"/>' for each in ids)
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        )
        book.writestr(
            "OPS/book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<dc:title>{escape(draft.title)}</dc:title></metadata>"
            f"<manifest>{items}</manifest><spine>{spine}</spine></package>",
        )
        for each, section in zip(ids, draft.sections, strict=True):
            part = Draft(draft.title, (section,))
            book.writestr(
                f"OPS/text/{each}.xhtml",
                '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
                f"<head><title>x</title></head><body>{html_body(part)}</body></html>",
            )
    return buffer.getvalue()


def as_pdf(draft: Draft) -> bytes:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(595, 842))
    canvas.setTitle(draft.title)
    for number, section in enumerate(draft.sections, start=1):
        canvas.bookmarkPage(str(number))
        canvas.addOutlineEntry(section.heading, str(number), 0)
        canvas.setFont("STSong-Light", 9)
        canvas.drawString(72, 805, f"Running head {number}")
        canvas.setFont("STSong-Light", 12)
        canvas.drawString(72, 760, f"{number} {section.heading}")
        y = 730
        for paragraph in section.paragraphs:
            for line in wrapped(paragraph, 450):
                canvas.drawString(72, y, line)
                y -= 16
            y -= 14
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def wrapped(text: str, width: float) -> Iterator[str]:
    """Lines as a word processor breaks them: between words, and between Han characters."""
    line = ""
    for piece in pieces(text):
        if line and pdfmetrics.stringWidth(line + piece, "STSong-Light", 12) > width:
            yield line.rstrip()
            line = piece.lstrip()
        else:
            line += piece
    yield line


def pieces(text: str) -> Iterator[str]:
    word = ""
    for char in text:
        if char.isascii() and char != " ":
            word += char
        else:
            if word:
                yield word
            word = ""
            yield char
    yield word


def saved(save: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


# The facts.

FORMATS: dict[str, Callable[[Draft], bytes]] = {
    ".docx": as_docx,
    ".pptx": as_pptx,
    ".xlsx": as_xlsx,
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".html": as_html,
    ".md": as_markdown,
    ".txt": as_text,
    ".eml": as_mail,
    ".epub": as_epub,
    ".pdf": as_pdf,
}
PAGED = {".pptx", ".pdf"}
TABLES = {".xlsx", ".csv", ".tsv"}
TITLED = {".docx", ".html", ".md", ".eml", ".epub", ".pdf"}

WORDS = st.lists(
    st.one_of(
        st.text("的一是在不了有和人这中大为上个国我以要他", min_size=1, max_size=12),
        st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=9),
    ),
    min_size=1,
    max_size=25,
).map(" ".join)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Every paragraph begins with its number, so that none is mistaken for another."""
    sections = []
    for number in range(draw(st.integers(1, 3))):
        words = draw(st.lists(WORDS, min_size=2, max_size=4))
        paragraphs = tuple(
            f"条{number}.{at} {text}{'。' if at % 2 else '.'}" for at, text in enumerate(words)
        )
        sections.append(Section(f"Section {'甲乙丙'[number]}", paragraphs))
    return Draft("Handbook 手册", tuple(sections))


@pytest.mark.parametrize("extension", FORMATS)
@given(draft=drafts())
@settings(deadline=None, max_examples=6)
def test_every_paragraph_is_read_in_order_and_in_its_place(extension: str, draft: Draft) -> None:
    parsed = PARSER.parse(FORMATS[extension](draft), f"手册{extension}")
    lines = [
        (line, element)
        for element in parsed.elements
        if element.kind is not ElementKind.FURNITURE
        for line in element.text.split("\n")
    ]
    at = 0
    for page, section in enumerate(draft.sections, start=1):
        for paragraph in section.paragraphs:
            at = next(
                index
                for index in range(at, len(lines))
                if squeezed(paragraph) in squeezed(lines[index][0])
            )
            line, element = lines[at]
            if extension not in TABLES | {".pdf"}:
                assert line == paragraph
            assert element.page == (page if extension in PAGED else None)
            if extension not in {".csv", ".tsv"}:
                assert squeezed(element.heading[-1]).endswith(squeezed(section.heading))


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("extension", FORMATS)
def test_elements_are_well_formed(extension: str) -> None:
    draft = Draft(
        "手册", (Section("甲", ("一。", "two.", "三。")), Section("乙", ("四。", "five.")))
    )
    parsed = PARSER.parse(FORMATS[extension](draft), f"a{extension}")
    for element in parsed.elements:
        assert element.text
        assert element.text == element.text.strip()
        assert (element.level > 0) == (element.kind is ElementKind.HEADING)
        assert (element.kind is ElementKind.TABLE) == bool(element.columns)
    assert parsed.pages == (2 if extension in PAGED else None)
    assert parsed.title == ("手册" if extension in TITLED else None) or extension == ".pptx"


@pytest.mark.parametrize("extension", [".docx", ".html", ".md", ".epub", ".eml"])
def test_a_heading_path_has_every_title_above(extension: str) -> None:
    draft = Draft("总则", (Section("甲", ("一。", "二。")), Section("乙", ("三。", "四。"))))
    parsed = PARSER.parse(FORMATS[extension](draft), f"a{extension}")
    assert next(e for e in parsed.elements if e.text == "三。").heading == ("总则", "乙")


def test_every_media_type_that_is_named_is_read() -> None:
    assert set(MEDIA_TYPES.values()) == PARSER.media_types
    assert set(FORMATS) <= set(MEDIA_TYPES)


# Tables.


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


# What the libraries would lose.


def test_no_text_of_a_page_is_lost_but_navigation() -> None:
    page = """<html><body><nav><a href=/>Home</a></nav><header><h1>Title <a class=headerlink>¶</a></h1>
    </header>bare <b>bold</b> text<div>in div<p>para <a href=x>link</a></p>tail</div><p>5</p>
    <details><summary>sum</summary>detail</details><figure><img src=x><figcaption>figure</figcaption>
    </figure><form><label>label</label></form><custom>custom <p>inner</p></custom>
    <ul><li>one<ul><li>nested<p>deep</p></li></ul></li></ul><dl><dt>term<dd>meaning</dl>
    <pre>a:\n  b</pre><p>第一行<br>第二行</p><p>中文\n换行</p><aside>remark</aside><main>main</main>after
    <div class="navbar"><a href=a>A</a> <a href=b>B</a></div><footer>since 1999</footer></body></html>"""
    parsed = PARSER.parse(page.encode(), "a.html")
    assert [element.text for element in parsed.elements] == [
        "Title", "bare bold text", "in div", "para link", "tail", "5", "sum", "detail", "figure",
        "label", "custom", "inner", "one", "nested", "deep", "term", "meaning", "a:\n  b",
        "第一行\n第二行", "中文换行", "remark", "main", "after", "since 1999",
    ]  # fmt: skip


def test_placeholders_in_markdown_stay_and_front_matter_gives_the_title() -> None:
    text = "---\ntitle: 手册\n---\nRun <command> with &lt;x&gt;\n- item\n  - nested\n\n```\n# code\n```\n"
    parsed = PARSER.parse(text.encode(), "a.md")
    assert parsed.title == "手册"
    assert [(element.text, element.kind) for element in parsed.elements] == [
        ("title: 手册", ElementKind.PARAGRAPH),
        ("Run <command> with <x>", ElementKind.PARAGRAPH),
        ("item", ElementKind.LIST_ITEM),
        ("nested", ElementKind.LIST_ITEM),
        ("# code", ElementKind.CODE),
    ]


def test_insertions_controls_boxes_and_notes_of_word_are_read_and_deletions_are_not() -> None:
    from docx.oxml import parse_xml

    names = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:v="urn:schemas-microsoft-com:vml"'
    )
    document = docx.Document()
    run_of = "<w:r><w:t>{}</w:t></w:r>".format
    blocks = (
        f"<w:p {names}>{run_of('一')}<w:ins>{run_of('插入')}</w:ins><w:del><w:r><w:delText>删除</w:delText>"
        f"</w:r></w:del><w:sdt><w:sdtContent>{run_of('控件')}</w:sdtContent></w:sdt></w:p>",
        f"<w:sdt {names}><w:sdtContent><w:p>{run_of('块')}</w:p></w:sdtContent></w:sdt>",
        f"<w:p {names}>{run_of('锚')}<w:r><w:pict><v:shape><v:textbox><w:txbxContent><w:p>{run_of('框')}"
        "</w:p></w:txbxContent></v:textbox></v:shape></w:pict></w:r></w:p>",
    )
    for block in blocks:
        document.element.body.insert(-1, parse_xml(block))
    document.styles["Normal"]  # the default style stays
    styled = document.styles.add_style("标题 2", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("中文标题", style=styled)
    document.sections[0].header.paragraphs[0].text = "页眉"
    parsed = PARSER.parse(saved(document.save), "a.docx")
    assert [(element.text, element.kind, element.level) for element in parsed.elements] == [
        ("页眉", ElementKind.FURNITURE, 0),
        ("一插入控件", ElementKind.PARAGRAPH, 0),
        ("块", ElementKind.PARAGRAPH, 0),
        ("锚", ElementKind.PARAGRAPH, 0),
        ("框", ElementKind.PARAGRAPH, 0),
        ("中文标题", ElementKind.HEADING, 2),
    ]


def test_a_mail_brings_its_attachments_and_names_those_it_cannot_read() -> None:
    message = EmailMessage()
    message["Subject"] = "报价单"
    message["From"] = "张三 <zhang@example.org>"
    message["Date"] = "Tue, 06 Jun 2023 09:30:00 +0800"
    message.set_content("各位好：\n\n请看附件。", charset="gb18030")
    message.add_alternative("<p>各位好：</p><p>请看附件。</p>", subtype="html")
    message.add_attachment(
        as_docx(Draft("手册", (Section("甲", ("一。", "二。")),))),
        maintype="application", subtype="octet-stream", filename="手册.docx",
    )  # fmt: skip
    message.add_attachment(b"\x89PNG\r\n\x1a\n", maintype="image", subtype="png", filename="x.png")
    inner = EmailMessage()
    inner["Subject"] = "转发"
    inner.set_content("里面的信。")
    message.add_attachment(inner)
    parsed = PARSER.parse(message.as_bytes(), "a.eml")
    assert parsed.title == "报价单"
    assert [(element.text, element.heading) for element in parsed.elements] == [
        (
            "From: 张三 <zhang@example.org>\nDate: Tue, 06 Jun 2023 09:30:00 +0800\nSubject: 报价单\n"
            "Attachments: 手册.docx, x.png",
            (),
        ),
        ("各位好：", ()),
        ("请看附件。", ()),
        ("手册.docx", ()),
        ("手册", ("手册.docx",)),
        ("甲", ("手册.docx", "手册")),
        ("一。", ("手册.docx", "手册", "甲")),
        ("二。", ("手册.docx", "手册", "甲")),
        ("转发", ()),
        ("Subject: 转发", ("转发",)),
        ("里面的信。", ("转发",)),
    ]


def test_wrapped_plain_text_is_joined_and_verse_is_not() -> None:
    text = (
        "    This is a paragraph that an editor wrapped at its margin, in-\n"
        "    vented here; it goes on for a while, until it ends in a short\n"
        "    line.\n    Then another one follows without an empty line between.\n\n"
        "《送别》\n作者：王维\n下马饮君酒，问君何所之。\n%\n1. 第一项\n2. 第二项\n"
    )
    assert [element.text for element in PARSER.parse(text.encode(), "a.txt").elements] == [
        "This is a paragraph that an editor wrapped at its margin, invented here; it goes on for a "
        "while, until it ends in a short line.",
        "Then another one follows without an empty line between.",
        "《送别》\n作者：王维\n下马饮君酒，问君何所之。",
        "1. 第一项",
        "2. 第二项",
    ]


# Bad files.


class Exploding:
    media_types = frozenset({"text/plain"})

    def parse(self, data: bytes, name: str) -> Parsed:
        raise KeyError(name)


def test_an_error_of_a_library_becomes_a_sentence_and_keeps_its_cause() -> None:
    with pytest.raises(DamagedDocument, match="save it again") as caught:
        FileParser(Exploding()).parse(b"text", "a.txt")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("data", "name"),
    [(b" \n\t\xef\xbb\xbf\n", "a.txt"), (b"<html><script>x</script></html>", "a.html"), (b"--", "a.md"),
     (saved(openpyxl.Workbook().save), "a.xlsx"), (saved(docx.Document().save), "a.docx")],
)  # fmt: skip
def test_a_document_without_a_letter_is_empty(data: bytes, name: str) -> None:
    with pytest.raises(EmptyDocument, match="no text"):
        PARSER.parse(data, name)


def test_too_many_pages_are_refused() -> None:
    from indexer.parse.pdf import PdfParser

    data = as_pdf(Draft("手册", (Section("甲", ("一。", "二。")), Section("乙", ("三。", "四。")))))
    with pytest.raises(TooLarge, match="2 pages"):
        PdfParser(max_pages=1).parse(data, "a.pdf")


@pytest.mark.parametrize("extension", FORMATS)
@given(at=st.floats(0.02, 0.98), flips=st.integers(0, 2**32))
@settings(deadline=None, max_examples=4)
def test_a_broken_file_ends_in_a_sentence_or_in_elements(
    extension: str, at: float, flips: int
) -> None:
    data = bytearray(FORMATS[extension](Draft("手册", (Section("甲", ("一。", "two.", "三。")),))))
    place = int(len(data) * at)
    data[place : place + 4] = flips.to_bytes(5, "big")[-4:]
    for broken in (bytes(data), bytes(data[:place])):
        assert outcome(broken, f"a{extension}").endswith(".")


def outcome(data: bytes, name: str) -> str:
    try:
        return f"{len(PARSER.parse(data, name).elements)} elements."
    except RagError as error:
        return str(error)


EXPECTED = {
    "empty.txt": EmptyDocument,
    "empty.docx": EmptyDocument,
    "blank.txt": EmptyDocument,
    "good-12-pages.pdf": 12,
    "truncated.pdf": DamagedDocument,
    "header-only.pdf": DamagedDocument,
    "encrypted.pdf": DamagedDocument,
    "pdf-named-docx.docx": 12,
    "html-named-pdf.pdf": DamagedDocument,
    "exe-named-pdf.pdf": DamagedDocument,
    "junk.txt": DamagedDocument,
    "nul-bytes.txt": "Line one",
    "bad-utf8.txt": "保修期为二十四个",
    "utf16-with-bom.txt": "保修期为二十四个月。",
    "gb18030.txt": "退货须在十五日内提出",
    "one-line-5MB.txt": "fox number 9999 jumps",
    "one-line-no-spaces-1MB.txt": "资料资料",
    "surrogates-and-emoji.md": "👩‍👩‍👧 family",
    "bomb.docx": TooLarge,
    "many-entries.pptx": DamagedDocument,
    "entity-expansion.docx": DamagedDocument,
    "external-entity.docx": DamagedDocument,
    "zip-slip.docx": "Paths that climb out.",
    "formula.csv": '=HYPERLINK("http://localhost/x") | 1',
    "ragged.csv": "1 | 2 | 3 | 4",
    "injection.html": "商品可在签收后十五日内退货。",
    "injection.md": "The office opens at 9:00.",
    "fake-citations.txt": "The limit is 40 units.",
}


@pytest.mark.skipif(not MAKE_BAD.exists(), reason="the shared measuring data is not here")
def test_every_bad_file_ends_as_it_must(tmp_path: Path) -> None:
    run([executable, str(MAKE_BAD), "--out", str(tmp_path)], check=True, capture_output=True)
    for path in sorted(tmp_path.iterdir()):
        if path.name in {"EXPECTED.tsv", "UPLOAD_NAMES.txt"}:
            continue
        match EXPECTED.get(path.name, ""):
            case type() as error:
                with pytest.raises(error):
                    PARSER.parse(path.read_bytes(), path.name)
            case int() as pages:
                assert PARSER.parse(path.read_bytes(), path.name).pages == pages
            case str() as words:
                parsed = PARSER.parse(path.read_bytes(), path.name)
                assert words in "\n".join(element.text for element in parsed.elements)
                assert "\x00" not in "".join(element.text for element in parsed.elements)


def test_an_encrypted_pdf_asks_for_the_password_to_go() -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption

    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption("secret", ownerPassword="owner"))
    canvas.drawString(72, 700, "Hidden")
    canvas.save()
    with pytest.raises(DamagedDocument, match="Remove the password"):
        PARSER.parse(buffer.getvalue(), "a.pdf")


def test_a_picture_says_what_to_do() -> None:
    with pytest.raises(UnsupportedMedia, match="Save it as PDF"):
        PARSER.parse(b"GIF89a" + bytes(50), "a.gif")
