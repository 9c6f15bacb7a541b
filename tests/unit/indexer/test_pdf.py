"""Lines of a page become the text that its author wrote."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from indexer.parse.furniture import furniture
from indexer.parse.lines import Line, Paragraph, Sheet, paragraphs, starts, usual_pitch
from indexer.parse.mend import join_lines, vocabulary
from indexer.parse.ocr import rows
from indexer.parse.pdf import PdfParser, elements_of
from indexer.parse.titles import Bookmark, from_bookmarks
from pipeline.types import ElementKind

HANDBOOK = Path("../shared/data/documents/Debian新维护者手册.pdf")
SCAN = Path("../shared/data/documents/scan-maint-guide-zh.pdf")
NONE: frozenset[str] = frozenset()


def line(text: str, y: float, x0: float = 72, x1: float = 520, size: float = 10) -> Line:
    return Line(text, x0, y - size * 0.8, x1, y + size * 0.2, y, size)


def sheet(*lines: Line, number: int = 1) -> Sheet:
    return Sheet(number, 595, 842, lines)


def texts(*lines: Line) -> list[str]:
    pitch = usual_pitch([sheet(*lines)])
    return [paragraph.text(NONE) for paragraph in paragraphs(lines, pitch)]


# Mending.


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        (["包含了对软件仓", "库的描述"], "包含了对软件仓库的描述"),
        (["保修期为", "24 months"], "保修期为24 months"),
        (["two", "words"], "two words"),
        (["he said “yes”", "and left"], "he said “yes” and left"),
        (["infor-", "mation"], "information"),
        (["infor\ufffe", "mation"], "information"),
        (["infor\x02", "mation"], "information"),
        (["COVID-", "19 rules"], "COVID-19 rules"),
        (["Smith-", "Jones"], "Smith-Jones"),
        (["http://a.org/doc/pack\ufffe", "manuals/x"], "http://a.org/doc/pack-manuals/x"),
        (["see /usr/", "share/doc now"], "see /usr/share/doc now"),
        (["https:", "//a.org/b"], "https://a.org/b"),
        (["Norse–", "Gaels"], "Norse–Gaels"),
        (["ends with a mark\ufffe"], "ends with a mark-"),
        (["a dash -", "and more"], "a dash - and more"),
    ],
)
def test_line_breaks_are_mended(broken: list[str], whole: str) -> None:
    assert join_lines(broken, NONE) == whole


def test_the_documents_own_words_decide_about_a_hyphen() -> None:
    words = vocabulary(["a well-known fact", "packaging of manuals", "the cooperation"])
    assert join_lines(["it is well-", "known"], words) == "it is well-known"
    assert join_lines(["packaging-", "manuals"], words) == "packaging-manuals"
    assert join_lines(["co-", "operation"], words) == "cooperation"


@given(st.lists(st.text("ab-c中文。“1/ .:", min_size=1, max_size=12), min_size=1, max_size=6))
@settings(deadline=None)
def test_mending_loses_nothing_but_hyphens_and_spaces(lines: list[str]) -> None:
    def kept(text: str) -> str:
        return re.sub(r"[\s-]", "", text)

    assert kept(join_lines(lines, NONE)) == kept("".join(lines))


# Paragraphs.


def test_a_gap_or_an_indent_or_a_short_line_ends_a_paragraph() -> None:
    assert texts(
        line("The first line is full and goes on to", 100),
        line("the second, which is short.", 112, x1=250),
        line("A new paragraph starts here, since the", 124),
        line("next word would have fitted above.", 136, x1=500),
        line("After a gap there is another paragraph", 160),
        line("that ends in a full line, to the margin.", 172),
        line("An indented line after a sentence's end", 184, x0=96),
        line("starts one as well.", 196, x1=200),
    ) == [
        "The first line is full and goes on to the second, which is short.",
        "A new paragraph starts here, since the next word would have fitted above.",
        "After a gap there is another paragraph that ends in a full line, to the margin.",
        "An indented line after a sentence's end starts one as well.",
    ]


def test_items_of_a_list_stand_alone_and_keep_their_hanging_lines() -> None:
    assert texts(
        line("• the first item is so long that it needs", 100),
        line("a second line", 112, x0=84, x1=200),
        line("• the second", 124, x1=200),
        line("（一）第三项", 136, x1=200),
    ) == [
        "• the first item is so long that it needs a second line",
        "• the second",
        "（一）第三项",
    ]


def test_short_lines_that_end_no_sentence_keep_their_breaks() -> None:
    assert texts(
        line("make clean", 100, x1=130),
        line("make install prefix=/usr", 112, x1=200),
        line("a long line below them, as wide as the page is", 124),
    ) == ["make clean\nmake install prefix=/usr\na long line below them, as wide as the page is"]


def test_columns_are_read_one_after_the_other() -> None:
    left = [line(f"左栏第{n}行的文字写到栏边为止没有空", 100 + 12 * n, 72, 290) for n in range(3)]
    right = [line(f"右栏第{n}行的文字写到栏边为止没有空", 100 + 12 * n, 310, 528) for n in range(3)]
    read = texts(*left, *right)
    assert len(read) == 2
    assert read[0].startswith("左栏")
    assert "右" not in read[0]
    assert read[1].startswith("右栏")


@given(
    st.lists(
        st.tuples(
            st.text("abc 中文.。•-…/1", min_size=1, max_size=20).filter(
                lambda text: any(char.isalnum() for char in text)
            ),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None)
def test_each_line_is_known_in_the_text_that_is_made_of_them(drawn: list[tuple[str, bool]]) -> None:
    lines = tuple(line(text, 100 + 12 * at) for at, (text, _) in enumerate(drawn))
    text = Paragraph(lines, tuple(hard for _, hard in drawn)).text(NONE)
    begins = starts(text, lines)
    parts = [text[a:b] for a, b in zip(begins, (*begins[1:], len(text)), strict=True)]

    def kept(piece: str) -> str:
        return re.sub(r"[\s.…-]", "", piece)

    assert [kept(part) for part in parts] == [kept(text) for text, _ in drawn]


@given(
    st.lists(
        st.tuples(
            st.text("abc 中文.。•-\ufffe", min_size=1, max_size=30).filter(
                lambda text: text.strip(" \ufffe")
            ),
            st.floats(0, 840),
            st.floats(0, 500),
            st.floats(1, 500),
            st.floats(4, 40),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(deadline=None)
def test_whatever_stands_on_a_page_is_in_its_elements(
    drawn: list[tuple[str, float, float, float, float]],
) -> None:
    page = sheet(*(line(text, base, x0, x0 + width, size) for text, base, x0, width, size in drawn))
    elements = list(elements_of((page,), ()))

    def kept(text: str) -> str:
        return re.sub(r"[\s\ufffe.…-]", "", text)

    read = kept("".join(element.text for element in elements))
    assert sorted(read) == sorted(kept("".join(text for text, *_ in drawn)))
    assert sum(len(element.boxes) for element in elements) == len(drawn)
    assert all(
        0 <= box.x0 <= box.x1 <= 1 and 0 <= box.y0 <= box.y1 <= 1
        for element in elements
        for box in element.boxes
    )


# Furniture.


def book(count: int, **places: str) -> list[Sheet]:
    """Pages with the given lines (`{n}` is the page number) and two lines of body each."""
    heights = {"head": 40.0, "foot": 810.0}
    return [
        sheet(
            *(line(text.replace("{n}", str(n)), heights[at]) for at, text in places.items()),
            line(f"Body of page number {n} says {n * n}", 300),
            line("and it has a second line.", 312),
            number=n,
        )
        for n in range(1, count + 1)
    ]


def furnished(pages: list[Sheet]) -> set[str]:
    return {pages[number - 1].lines[at].text for number, at in furniture(pages)}


def test_what_comes_back_at_the_same_height_is_furniture() -> None:
    assert furnished(book(3, head="公司手册 {n} / 57", foot="Confidential")) == {
        "公司手册 1 / 57",
        "公司手册 2 / 57",
        "公司手册 3 / 57",
        "Confidential",
    }


def test_on_two_pages_only_numbers_are() -> None:
    assert furnished(book(2, head="公司手册", foot="- {n} -")) == {"- 1 -", "- 2 -"}


def test_numbered_titles_at_the_tops_of_chapters_are_not() -> None:
    pages = [
        sheet(line(f"Chapter {chapter}", 60), line(f"text {number}", 400), number=number)
        for chapter, number in enumerate((1, 5, 20, 31), start=1)
    ]
    assert furnished(pages) == set()


def test_a_page_is_never_furniture_altogether() -> None:
    pages = [sheet(line(f"Warranty is 24 months. Page {n}.", 72), number=n) for n in range(1, 5)]
    assert furnished(pages) == set()


def test_a_chapters_name_beside_the_page_number_is_furniture_on_its_only_page() -> None:
    pages = book(4, foot="{n} Chapter 1")
    pages.append(
        sheet(line("Body", 300), line("and more", 312), line("5 Chapter 2. Rare", 810), number=5)
    )
    assert "5 Chapter 2. Rare" in furnished(pages)


# Bookmarks.


def test_a_bookmark_takes_the_lines_that_it_names_with_their_number() -> None:
    page = sheet(
        line("Chapter 1", 80),
        line("正确的起点", 100),
        line("1.2 需要的开发工具", 200),
        line("正文", 220),
    )
    headings = from_bookmarks(
        page, [Bookmark("正确的起点", 1, 1, 70), Bookmark("需要的 开发工具", 2, 1, 190)]
    )
    assert [(heading.level, heading.first, heading.count) for heading in headings] == [
        (1, 0, 2),
        (2, 2, 1),
    ]


def test_a_bookmark_that_the_page_does_not_show_stands_at_its_place() -> None:
    page = sheet(line("above", 80), line("below", 200))
    elements = list(elements_of((page,), (Bookmark("Hidden", 1, 1, 150),)))
    assert [(element.text, element.kind) for element in elements] == [
        ("above", ElementKind.PARAGRAPH),
        ("Hidden", ElementKind.HEADING),
        ("below", ElementKind.PARAGRAPH),
    ]


def test_without_bookmarks_large_lines_are_headings() -> None:
    page = sheet(
        line("年度报告", 80, size=20),
        line("一、经营情况", 120, size=14),
        line("营收为四十二亿元，同比增长百分之十二，净利润为三亿元。", 150),
        line("研发投入为五亿元，占营收的百分之十二，同比增长一倍。", 162),
    )
    levels = [(e.text, e.level) for e in elements_of((page,), ()) if e.kind is ElementKind.HEADING]
    assert levels == [("年度报告", 1), ("一、经营情况", 2)]


def test_a_row_of_recognised_pieces_is_read_from_left_to_right() -> None:
    read = rows([line("右", 101, 300, 320), line("下", 130, 72, 90), line("左", 100, 72, 90)])
    assert [each.text for each in read] == ["左", "右", "下"]


# Real documents.


@pytest.mark.skipif(not HANDBOOK.exists(), reason="the shared measuring data is not here")
def test_nearly_all_headings_of_a_real_manual_stand_on_their_page_with_their_level() -> None:
    listed = HANDBOOK.with_name("headings.jsonl").read_text("utf-8").splitlines()
    wanted = [row for row in map(json.loads, listed) if row["file"] == HANDBOOK.name]
    parsed = PdfParser().parse(HANDBOOK.read_bytes(), HANDBOOK.name)
    found = {
        (element.page, element.level, "".join(element.text.split()))
        for element in parsed.elements
        if element.kind is ElementKind.HEADING and element.boxes
    }
    right = sum(
        any(
            (page, level) == (row["page"], row["level"])
            and text.endswith("".join(row["text"].split()))
            for page, level, text in found
        )
        for row in wanted
    )
    assert len(wanted) > 50
    assert right >= 0.97 * len(wanted)


@pytest.mark.slow
@pytest.mark.skipif(not SCAN.exists(), reason="the shared measuring data is not here")
def test_a_scanned_page_is_read_with_its_place() -> None:
    one = pypdfium2.PdfDocument.new()
    with pypdfium2.PdfDocument(SCAN.read_bytes()) as scan:
        one.import_pages(scan, [2])
    page = one[0]
    page.set_cropbox(0, 640, page.get_width(), page.get_height())  # its top is enough, and quicker
    page.set_mediabox(*page.get_cropbox())
    buffer = io.BytesIO()
    one.save(buffer)
    one.close()
    parsed = PdfParser().parse(buffer.getvalue(), "scan.pdf")
    text = "".join(element.text for element in parsed.elements)
    assert "你可以在搜索引擎中使用" in text
    assert all(element.boxes and element.page == 1 for element in parsed.elements)


def test_a_scanned_page_that_is_set_larger_than_the_others_is_no_heading() -> None:
    """A page's recognised lines have one size, by the letters in them; it differs from page to page."""

    class Reader:
        sizes = iter((9.0, 14.0, 9.0))

        def read(self, pixels: np.ndarray, scale: float) -> list[Line]:
            size = next(self.sizes)
            return [
                Line(f"Line {n} of {size}", 50, 100 + 30 * n, 250, 100 + 30 * n + size, 0, size)
                for n in range(2)
            ]

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(300, 420))
    picture = Image.effect_noise((30, 42), 100)
    for _ in range(3):
        canvas.drawImage(ImageReader(picture), 0, 0, 300, 420)
        canvas.showPage()
    canvas.setFont("Helvetica", 12)
    for n in range(20):
        canvas.drawString(50, 400 - 18 * n, f"Text {n} of the page that is no picture.")
    canvas.save()
    elements = PdfParser(recognizer=Reader()).parse(buffer.getvalue(), "a.pdf").elements
    assert {element.page for element in elements} == {1, 2, 3, 4}
    assert ElementKind.HEADING not in {element.kind for element in elements}
