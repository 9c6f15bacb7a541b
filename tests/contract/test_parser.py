"""Every format, one suite: what was written into a document is read out of it, in order and in its
place.

The oracle is the outline that each document is made from; `test_parser_*.py` go on by families of formats.
"""

import pytest
from drafts import FORMATS, PAGED, PARSER, TABLES, TITLED, Draft, Section, drafts
from hypothesis import given, settings

from indexer.parse.parser import MEDIA_TYPES
from pipeline.types import ElementKind


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


@pytest.mark.parametrize("extension", [".docx", ".pptx", ".pdf", ".html"])
def test_what_runs_through_all_pages_is_no_part_of_the_text(extension: str) -> None:
    sections = tuple(
        Section(f"Section {name}", (f"{name}一。", f"{name}two.")) for name in "甲乙丙"
    )
    parsed = PARSER.parse(FORMATS[extension](Draft("手册", sections)), f"a{extension}")
    body = [e.text for e in parsed.elements if e.kind is not ElementKind.FURNITURE]
    assert not any("Running" in text or "首页" in text for text in body)
    if extension != ".html":  # where navigation is dropped
        assert any("Running" in e.text for e in parsed.elements)


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
