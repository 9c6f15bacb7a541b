"""What all formats share: tidy texts, and the path of headings above an element."""

import re
from collections.abc import Iterable
from dataclasses import replace

from indexer.parse.encoding import clean
from pipeline.types import Element, ElementKind

HAN = r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Han characters, as the inside of a regular expression's character class."""
WIDE = (
    HAN
    + r"\u3001-\u3003\u3008-\u301f\u3040-\u30ff\uff01-\uff60\u2014\u2026\u201c\u201d\u2018\u2019"
)
"""Han, kana and the punctuation of Chinese: what stands without spaces."""

MAX_CELLS = 2_000_000
"""Of a table or a workbook, those with text in them; also of a table with its empty ones."""
_NEAR_THE_START = 3
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u205f]+")
_BREAK_IN_CHINESE = re.compile(
    rf"(?<=[{WIDE}])[ \t]*\n\s*(?=[{HAN}])|(?<=[{HAN}])[ \t]*\n\s*(?=[{WIDE}])"
)


def tidy(text: str) -> str:
    """Cleaned, spaces collapsed within lines, lines stripped, empty lines and outer space gone."""
    lines = (_SPACES.sub(" ", line).strip() for line in clean(text).split("\n"))
    return "\n".join(line for line in lines if line)


def one_line(text: str) -> str:
    """As `tidy`, on one line: Chinese line breaks are closed, others become a space."""
    return tidy(close_chinese(clean(text)).replace("\n", " "))


def close_chinese(text: str) -> str:
    """Line breaks that only wrap a Chinese text vanish; all others stay."""
    return _BREAK_IN_CHINESE.sub("", text)


def code(text: str) -> str:
    """Cleaned, with the indentation of every line but the first and no outer blank lines."""
    return "\n".join(line.rstrip() for line in clean(text).split("\n")).strip()


def outlined(elements: Iterable[Element]) -> tuple[Element, ...]:
    """The elements that have text, each with the path of the headings that stand above it."""
    path: list[tuple[int, str]] = []
    placed: list[Element] = []
    for element in elements:
        text = element.text.strip()
        if not text:
            continue
        level = element.level
        if element.kind is ElementKind.HEADING:
            level = max(level, 1)
            while path and path[-1][0] >= level:
                path.pop()
        heading = tuple(title for _, title in path)
        placed.append(replace(element, text=text, heading=heading, level=level))
        if element.kind is ElementKind.HEADING:
            path.append((level, text.replace("\n", " ")))
    return tuple(placed)


def first_heading(elements: Iterable[Element]) -> str | None:
    """A heading of level 1 that can stand for the document: it begins it, or is the only one."""
    body = [element for element in elements if element.kind is not ElementKind.FURNITURE]
    outermost = [
        (at, element.text.replace("\n", " "))
        for at, element in enumerate(body)
        if element.kind is ElementKind.HEADING and element.level == 1
    ]
    if outermost and (len(outermost) == 1 or outermost[0][0] < _NEAR_THE_START):
        return outermost[0][1]
    return None
