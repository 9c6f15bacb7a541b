"""PPTX through `unstructured`: a slide is a page."""

import io
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from indexer.parse import outline, zipped
from indexer.parse.figures import figures
from indexer.parse.media import PPTX
from indexer.parse.offline import go_offline
from indexer.parse.parts import converted
from pipeline.types import Element, ElementKind, Parsed


class PptxParser:
    """Reads PPTX: a slide is a page, its title a heading; its charts and notes follow its text."""

    def __init__(self, *, max_unpacked: int = zipped.MAX_UNPACKED) -> None:
        self._max_unpacked = max_unpacked

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({PPTX})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge and DamagedDocument as `zipped.check_size` does."""
        zipped.check_size(data, name, max_unpacked=self._max_unpacked)
        go_offline()
        from pptx import Presentation
        from unstructured.partition.pptx import partition_pptx

        deck = Presentation(io.BytesIO(data))
        slides = list(deck.slides)
        parts = partition_pptx(file=io.BytesIO(data), include_slide_notes=False, languages=[""])
        by_page = {
            page: list(group)
            for page, group in groupby(parts, key=lambda part: part.metadata.page_number)
        }
        elements: list[Element] = []
        for page, slide in enumerate(slides, start=1):
            elements += _slide(slide, page, by_page.get(page, []))
        title = outline.one_line(deck.core_properties.title or "")
        if title.lower() in {"", "powerpoint presentation", "powerpoint 演示文稿"}:
            title = outline.first_heading(elements) or ""
        return Parsed(outline.outlined(elements), title or None, len(slides))


def _slide(slide: Any, page: int, parts: list[Any]) -> Iterator[Element]:  # noqa: ANN401
    """The title first, wherever it stands; it alone is a heading. Footer, date and number are furniture."""
    shape = slide.shapes.title
    lines = [
        outline.one_line(line) for line in (shape.text_frame.text if shape else "").split("\n")
    ]
    titles = [line for line in lines if line]
    running = _running(slide)
    if titles:
        yield Element(" ".join(titles), ElementKind.HEADING, page, level=1)
    for part in parts:
        for element in converted(part):
            if element.kind is ElementKind.HEADING:
                if element.text in titles:
                    titles.remove(element.text)
                    continue
                element = Element(element.text, page=page)
            if element.text in running:
                running.remove(element.text)
                element = Element(element.text, ElementKind.FURNITURE, page)
            yield element
    yield from figures(slide.part, page)
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
        for paragraph in frame.paragraphs:
            yield Element(outline.tidy(paragraph.text), page=page)


def _running(slide: Any) -> list[str]:  # noqa: ANN401 - python-pptx has no types
    """The paragraphs of a slide's footer, date and number."""
    from pptx.enum.shapes import PP_PLACEHOLDER

    kinds = {PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.SLIDE_NUMBER}
    frames = (
        shape.text_frame for shape in slide.placeholders if shape.placeholder_format.type in kinds
    )
    return [outline.tidy(paragraph.text) for frame in frames for paragraph in frame.paragraphs]
