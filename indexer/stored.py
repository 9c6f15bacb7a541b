"""The stored text of a version: made once from its elements, never changed, and the place of every part of it."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.types import Box, Element, ElementKind, Parsed


@dataclass(frozen=True, slots=True)
class Placed:
    """An element and where it stands: `text[start:end]` is its text."""

    element: Element
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored text and its elements in order; running headers and page numbers come behind the body."""

    text: str
    placed: tuple[Placed, ...]


def store(parsed: Parsed) -> Stored:
    """Join the elements; furniture goes to the end, so that a sentence that crosses a page stays whole."""
    body = [e for e in parsed.elements if e.kind is not ElementKind.FURNITURE]
    furniture = [e for e in parsed.elements if e.kind is ElementKind.FURNITURE]
    text: list[str] = []
    placed: list[Placed] = []
    length = 0
    last: Element | None = None
    for element in [*body, *furniture]:
        if last is not None:
            items = last.kind is element.kind is ElementKind.LIST_ITEM
            gap = "\n" if items else "\n\n"
            text.append(gap)
            length += len(gap)
        text.append(element.text)
        placed.append(Placed(element, length, length + len(element.text)))
        length += len(element.text)
        last = element
    return Stored("".join(text), tuple(placed))


def encode_layout(placed: Sequence[Placed]) -> bytes:
    """Compact JSON, compressed: what `decode_layout` reads."""
    rows = [
        [
            p.start,
            p.end,
            p.element.kind.value,
            p.element.page,
            p.element.level,
            list(p.element.heading),
            list(p.element.columns),
            [[b.page, *(round(v, 4) for v in (b.x0, b.y0, b.x1, b.y1))] for b in p.element.boxes],
        ]
        for p in placed
    ]
    return zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode())


def decode_layout(text: str, layout: bytes) -> Stored:
    """The stored text with its elements, as `store` made it."""
    placed = tuple(
        Placed(
            Element(
                text[start:end],
                ElementKind(kind),
                page,
                tuple(heading),
                level,
                tuple(columns),
                tuple(Box(*box) for box in boxes),
            ),
            start,
            end,
        )
        for start, end, kind, page, level, heading, columns, boxes in json.loads(
            zlib.decompress(layout)
        )
    )
    return Stored(text, placed)


def locate(stored: Stored, start: int, end: int) -> tuple[int | None, tuple[Box, ...]]:
    """The page where `text[start:end]` begins, and the boxes of its lines.

    A line's share of its element's text is taken to be its share of the element's boxes.
    """
    inside = [p for p in stored.placed if p.start < end and p.end > start]
    boxes: list[Box] = []
    for p in inside:
        lines = p.element.boxes
        length = max(1, p.end - p.start)
        first = int(max(0, start - p.start) / length * len(lines))
        last = -int(-(min(end, p.end) - p.start) / length * len(lines) // 1)
        boxes.extend(lines[first : max(last, first + 1)])
    page = boxes[0].page if boxes else next((p.element.page for p in inside), None)
    return page, tuple(boxes)
