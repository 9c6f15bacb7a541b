"""The formats that came second, one suite: what was written in is read out, in order and in its place."""

import io
import json
from collections.abc import Callable

import docx
import pptx
import pytest
import xlwt
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.parser import MEDIA_TYPES, build_parser
from pipeline.errors import RagError
from pipeline.types import ElementKind
from tests.fixtures.ole_file import ole_file

PARSER = build_parser()
Draft = list[tuple[str, list[str]]]
"""Sections: a heading and its paragraphs."""

LETTERS = st.text("保修期为二十四个月退貨須在台北かなカナ한글éÄabcXYZ019", min_size=2, max_size=14)
HEADINGS = st.text("章节概述保养説明abcXYZ", min_size=3, max_size=10)
DRAFTS = st.lists(
    st.tuples(HEADINGS, st.lists(LETTERS.map("说{}。".format), min_size=2, max_size=4)),
    min_size=1,
    max_size=4,
    unique_by=lambda section: section[0].lower(),
)


def as_rtf(draft: Draft) -> bytes:
    def coded(text: str) -> str:
        return "".join(
            char
            if char.isascii()
            else f"\\u{int.from_bytes(char.encode('utf-16-le'), 'little', signed=True)}?"
            for char in text
        )

    body = "".join(
        f"\\pard\\s1\\outlinelevel0 {coded(heading)}\\par\n"
        + "".join(f"\\pard {coded(text)}\\par\n" for text in paragraphs)
        for heading, paragraphs in draft
    )
    return f"{{\\rtf1\\ansi\\ansicpg936\\uc1 {body}}}".encode("ascii")


def as_xls(draft: Draft) -> bytes:
    book = xlwt.Workbook()
    for heading, paragraphs in draft:
        sheet = book.add_sheet(heading)
        for at, text in enumerate(["text", *paragraphs]):
            sheet.write(at, 0, text)
            sheet.write(at, 1, at)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def as_json(draft: Draft) -> bytes:
    value = {heading: [{"text": text} for text in paragraphs] for heading, paragraphs in draft}
    return json.dumps(value, ensure_ascii=False).encode("utf-16")


def as_jsonl(draft: Draft) -> bytes:
    rows = [{"part": heading, "text": text} for heading, texts in draft for text in texts]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def as_message(draft: Draft) -> bytes:
    body = "".join(
        f"<h1>{heading}</h1>" + "".join(f"<p>{text}</p>" for text in texts)
        for heading, texts in draft
    )
    return ole_file(
        {
            "__substg1.0_0037001F": "主题".encode("utf-16-le"),
            "__properties_version1.0": bytes(32),
            "__substg1.0_10130102": f"<body>{body}</body>".encode(),
        }
    )


FORMATS: dict[str, Callable[[Draft], bytes]] = {
    ".rtf": as_rtf,
    ".xls": as_xls,
    ".json": as_json,
    ".jsonl": as_jsonl,
    ".msg": as_message,
}


@pytest.mark.parametrize("extension", FORMATS)
@given(draft=DRAFTS)
@settings(deadline=None, max_examples=15)
def test_every_paragraph_is_read_in_order_and_in_its_place(extension: str, draft: Draft) -> None:
    parsed = PARSER.parse(FORMATS[extension](draft), f"a{extension}")
    lines = [
        (line, element)
        for element in parsed.elements
        if element.kind is not ElementKind.HEADING
        for line in element.text.split("\n")
    ]
    at = 0
    for heading, paragraphs in draft:
        for text in paragraphs:
            at = next(index for index in range(at, len(lines)) if text in lines[index][0])
            if extension != ".jsonl":
                assert lines[at][1].heading[-1] == heading
            at += 1


@given(draft=DRAFTS)
@settings(deadline=None, max_examples=10)
def test_notes_of_slides_and_remarks_in_word_are_found_on_their_page(draft: Draft) -> None:
    deck, letter = pptx.Presentation(), docx.Document()
    for heading, paragraphs in draft:
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = heading
        slide.notes_slide.notes_text_frame.text = "\n".join(paragraphs)
        letter.add_heading(heading, 1)
        for text in paragraphs:
            letter.add_comment(letter.add_paragraph("正文").runs, text=text, author="甲")
    for save, name in ((deck.save, "a.pptx"), (letter.save, "a.docx")):
        buffer = io.BytesIO()
        save(buffer)
        elements = iter(PARSER.parse(buffer.getvalue(), name).elements)
        for page, (heading, paragraphs) in enumerate(draft, start=1):
            for text in paragraphs:
                found = next(element for element in elements if text in element.text)
                assert found.heading == (heading,)
                assert found.page == (page if name == "a.pptx" else None)


@pytest.mark.parametrize("extension", FORMATS)
@given(at=st.floats(0.02, 0.98), flips=st.binary(min_size=4, max_size=4))
@settings(deadline=None, max_examples=12)
def test_a_broken_file_ends_in_a_sentence_or_in_elements(
    extension: str, at: float, flips: bytes
) -> None:
    data = bytearray(FORMATS[extension]([("保养", ["一。", "two.", "三。"])]))
    place = int(len(data) * at)
    data[place : place + 4] = flips
    for broken in (bytes(data), bytes(data[:place])):
        assert outcome(broken, f"a{extension}").endswith(".")


def outcome(data: bytes, name: str) -> str:
    try:
        return f"{len(PARSER.parse(data, name).elements)} elements."
    except RagError as error:
        return str(error)


def test_every_kind_of_file_that_is_named_has_a_reader() -> None:
    assert set(MEDIA_TYPES.values()) == PARSER.media_types
    assert {*FORMATS, ".tif", ".webp", ".ods", ".doc", ".ppt", ".odt"} <= set(MEDIA_TYPES)
