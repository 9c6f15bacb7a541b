"""What stands on a page is read in order, whole and in its place: columns, running headers, hyphens, boxes.

The oracle is a small typesetter: it breaks paragraphs into lines, parts long English words at the ends of lines, and
remembers where each line was set.
"""

import io
import re
from dataclasses import dataclass

import pypdfium2
import pytest
from drafts import PARSER, pieces
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from indexer.text.chunk import Chunking, cut
from indexer.text.stored import locate, store
from pipeline.types import Box, ElementKind, Parsed

WIDTH, HEIGHT = 595, 842
FONT, SIZE, PITCH = "STSong-Light", 10, 13
LEFT, RIGHT, TOP, BOTTOM = 60, 535, 720, 90
GUTTER = 18
ENGLISH = (
    "information maintenance department manufacturer warranty installation replacement agreement "
    "temperature documentation customer delivered within twenty-four months of the date on which "
    "it was bought and a well-known supplier has to be informed in writing"
).split()
CHINESE = (
    "保修期从交付之日起二十四个月",
    "电池轮胎和滤网除外",
    "人為損壞不在保固範圍內",
    "型号ＡＢＣ１２３，（全角）",
    "请在说明书中查找维护周期",
)


@dataclass(frozen=True)
class Written:
    """A paragraph as it was set: its text, its page, and the middles of its lines as fractions of the page."""

    text: str
    page: int
    middles: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Page:
    """What a page is to hold: a title over all columns, the number of columns, each one's paragraphs."""

    title: str
    columns: tuple[tuple[str, ...], ...]
    by_rows: bool


def lines_of(text: str, width: float) -> list[str]:
    """Lines as a word processor sets them: Han breaks anywhere, long English words are parted with a hyphen."""
    lines: list[str] = [""]
    for piece in pieces(text):
        if advance(lines[-1] + piece) <= width or piece in "。，）":  # they hang over the edge
            lines[-1] += piece
            continue
        at = next(
            (
                at
                for at in range(len(piece) - 3, 3, -1)
                if advance(lines[-1] + piece[:at] + "-") <= width
            ),
            0,
        )
        if at and piece.isascii() and piece.isalpha():
            lines[-1] += piece[:at] + "-"
            piece = piece[at:]
        lines.append(piece.lstrip())
    return [line.rstrip() for line in lines if line.strip()]


def advance(text: str) -> float:
    return float(pdfmetrics.stringWidth(text, FONT, SIZE))


def typeset(pages: tuple[Page, ...]) -> tuple[bytes, list[Written]]:
    """A PDF of the pages, with running headers and page numbers, and what was set where."""
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(WIDTH, HEIGHT))
    written: list[Written] = []
    for number, page in enumerate(pages, start=1):
        canvas.setFont(FONT, 8)
        canvas.drawString(LEFT, 800, "公司手册 Company handbook")
        canvas.drawString(280, 40, f"- {number} -")
        canvas.setFont(FONT, 18)
        canvas.drawString(LEFT, 750, page.title)
        canvas.setFont(FONT, SIZE)
        drawn: list[tuple[float, int, float, str]] = []
        for at, column in enumerate(page.columns):
            width = (RIGHT - LEFT - GUTTER * (len(page.columns) - 1)) / len(page.columns)
            left, down = LEFT + at * (width + GUTTER), TOP
            for paragraph in column:
                middles = []
                for line in lines_of(paragraph, width):
                    drawn.append((down, at, left, line))
                    middles.append(((left + advance(line) / 2) / WIDTH, 1 - (down + 3) / HEIGHT))
                    down -= PITCH
                written.append(Written(paragraph, number, tuple(middles)))
                down -= PITCH * (len(page.columns) == 1)
        order = sorted(drawn, key=lambda line: (-line[0], line[1])) if page.by_rows else drawn
        for down, _, left, line in order:
            canvas.drawString(left, down, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue(), written


QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Whole documents: shrinking one takes minutes and shows no more."""
SENTENCES = st.one_of(
    st.lists(st.sampled_from(ENGLISH), min_size=24, max_size=60).map(" ".join),
    st.lists(st.sampled_from(CHINESE), min_size=5, max_size=9).map("，".join),
)


@st.composite
def pages(draw: st.DrawFn) -> tuple[Page, ...]:
    made = []
    for number in range(1, draw(st.integers(3, 4)) + 1):
        count = draw(st.integers(1, 3))
        columns = tuple(
            tuple(
                f"{number}{column}{at}段：{draw(SENTENCES)}。"
                for at in range(draw(st.integers(2, 3)))
            )
            for column in range(count)
        )
        made.append(Page(f"第{number}部分 Part {number}", columns, draw(st.booleans())))
    return tuple(made)


@given(pages())
@settings(deadline=None, max_examples=12, phases=QUICK)
def test_every_paragraph_of_a_pdf_is_read_in_order_with_its_page_and_boxes(
    made: tuple[Page, ...],
) -> None:
    data, written = typeset(made)
    parsed = PARSER.parse(data, "手册.pdf")
    body = [e for e in parsed.elements if e.kind is not ElementKind.FURNITURE]
    stored = store(Parsed(tuple(body)))
    at = 0
    for paragraph in written:
        found = as_set(paragraph.text).search(stored.text, at)
        assert found, stored.text[at : at + 2 * len(paragraph.text)]
        at = found.end()
        page, boxes = locate(stored, *found.span())
        assert page == paragraph.page
        assert len(boxes) == len(paragraph.middles)
        assert all(any(encloses(box, *middle) for box in boxes) for middle in paragraph.middles)
        assert {box.page for box in boxes} == {paragraph.page}


def as_set(text: str) -> re.Pattern[str]:
    """The text as it was written; a line's end may stay where a word after it would have fitted on the line."""
    return re.compile(re.escape(text).replace(r"\ ", r"[ \n]"))


def encloses(box: Box, x: float, y: float) -> bool:
    return box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1


@given(pages())
@settings(deadline=None, max_examples=4, phases=QUICK)
def test_running_headers_and_page_numbers_are_in_no_chunk(made: tuple[Page, ...]) -> None:
    parsed = PARSER.parse(typeset(made)[0], "手册.pdf")
    furniture = [e.text for e in parsed.elements if e.kind is ElementKind.FURNITURE]
    running = [["公司手册 Company handbook", f"- {n} -"] for n in range(1, len(made) + 1)]
    assert furniture == [text for page in running for text in page]
    chunks = cut(store(parsed), None, len, Chunking(aim=300, most=500, least=80))
    assert not any("Company handbook" in chunk.text for chunk in chunks)
    assert not any(line.startswith("- ") for chunk in chunks for line in chunk.text.split("\n"))


@pytest.mark.slow
def test_a_scanned_page_of_two_columns_is_read_column_by_column() -> None:
    first = "10{}段：保修期从交付之日起二十四个月，电池轮胎和滤网除外，请在说明书中查找维护周期。"
    second = "11{}段：The manufacturer delivers the replacement within twenty-four months of the date on it."
    columns = tuple(tuple(text.format(at) for at in range(3)) for text in (first, second))
    data, written = typeset((Page("第1部分 Part 1", columns, by_rows=False),))
    with pypdfium2.PdfDocument(data) as document:
        page = document[0]
        page.set_cropbox(0, 560, WIDTH, HEIGHT)
        picture = page.render(scale=2).to_pil()
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    parsed = PARSER.parse(buffer.getvalue(), "scan.png")
    text = "".join("".join(element.text.split()) for element in parsed.elements)
    at = 0
    for paragraph in written:
        number = paragraph.text[:3]
        at = text.index(f"{number}段", at)
        (element,) = (e for e in parsed.elements if number in e.text)
        left = number < "110"
        assert all((box.x1 < 0.51) if left else (box.x0 > 0.49) for box in element.boxes)
