"""Running headers, footers and page numbers: lines that come back at the same height."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import takewhile

from indexer.parse.lines import Line, Sheet

_ZONE = 0.14
_DEPTH = 2
_LEAST = 3
_ROMAN = re.compile(r"^[ivxlc]{1,7}$", re.IGNORECASE)
_Place = tuple[int, int, tuple[int, ...]]
"""Page number, line index, the numbers in the line."""
_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


def furniture(
    sheets: Sequence[Sheet], titles: AbstractSet[tuple[int, int]] = frozenset()
) -> frozenset[tuple[int, int]]:
    """(page number, line index) of the lines that are no part of the text.

    A line counts when its words stand at the same height on at least three pages, with numbers that
    stay the same or rise with the pages, or when it is nothing but a number that rises with the
    pages on at least two. So "Chapter 1", "Chapter 2" at the tops of chapters are not furniture. A
    line with the page's number in it, at the height of such lines, is one of them whatever else it
    says: the chapter's name may stand on one page only. So is a page's number that stands alone.
    Nothing else stands further out than furniture; `titles` are lines known to be none.
    """
    groups: dict[tuple[str, int], list[_Place]] = defaultdict(list)
    for sheet in sheets:
        for index, line in _edges(sheet):
            words, numbers = _pattern(line.text)
            height = round(line.base / sheet.height * 100)
            groups[words, height].append((sheet.number, index, numbers))
    found: set[tuple[int, int]] = set()
    for (words, height), members in groups.items():
        near = [
            member for offset in (-1, 0, 1) for member in groups.get((words, height + offset), ())
        ]
        least = 2 if words.strip("#/ |-–—·.第页頁共of") == "" else _LEAST
        for page, index, numbers in members:
            alike = {other for other, _, values in near if _runs_on(page, numbers, other, values)}
            if len(alike) >= least:
                found.add((page, index))
    alone = {
        (page, index)
        for (words, _), members in groups.items()
        for page, index, numbers in members
        if not words.strip("# -–—·") and numbers == (page,)
    }
    found |= alone | _numbered_like(found, groups)
    return _but_not_all(sheets, _outermost(sheets, found - titles), alone)


def _outermost(sheets: Sequence[Sheet], found: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those with nothing but furniture between them and the page's edge."""
    kept: set[tuple[int, int]] = set()
    for sheet in sheets:
        order = sorted(range(len(sheet.lines)), key=lambda index: sheet.lines[index].base)
        for inwards in (order, order[::-1]):
            places = ((sheet.number, index) for index in inwards)
            kept.update(takewhile(found.__contains__, places))
    return kept


def _but_not_all(
    sheets: Sequence[Sheet], found: set[tuple[int, int]], numbers: set[tuple[int, int]]
) -> frozenset[tuple[int, int]]:
    """A page is never furniture altogether: what is left of it besides its number is its text."""
    whole = {
        sheet.number
        for sheet in sheets
        if all((sheet.number, index) in found for index in range(len(sheet.lines)))
    }
    return frozenset(place for place in found if place[0] not in whole or place in numbers)


def _numbered_like(
    found: set[tuple[int, int]], groups: Mapping[tuple[str, int], Sequence[_Place]]
) -> set[tuple[int, int]]:
    """Lines with the page's own number in them, at the height of page numbers found already."""
    offsets: Counter[tuple[int, int]] = Counter()
    for (_, height), members in groups.items():
        for page, index, numbers in members:
            if (page, index) in found:
                offsets.update({(height, number - page) for number in numbers})
    return {
        (page, index)
        for (_, height), members in groups.items()
        for page, index, numbers in members
        if any(offsets[height, number - page] >= _LEAST for number in numbers)
    }


def _edges(sheet: Sheet) -> Iterator[tuple[int, Line]]:
    """The outermost rows of a page that lie in its top or bottom zone."""
    order = sorted(range(len(sheet.lines)), key=lambda index: sheet.lines[index].base)
    top = [index for index in order[:_DEPTH] if sheet.lines[index].base < sheet.height * _ZONE]
    bottom = [
        index for index in order[-_DEPTH:] if sheet.lines[index].y0 > sheet.height * (1 - _ZONE)
    ]
    for index in dict.fromkeys((*top, *bottom)):
        yield index, sheet.lines[index]


def _pattern(text: str) -> tuple[str, tuple[int, ...]]:
    """The words with `#` for each number, and the numbers."""
    stripped = " ".join(text.split())
    if _ROMAN.match(stripped):
        return "#", (_roman(stripped),)
    numbers = tuple(int(number) for number in re.findall(r"\d{1,6}", stripped))
    return re.sub(r"\d{1,6}", "#", stripped), numbers


def _runs_on(page: int, numbers: tuple[int, ...], other: int, values: tuple[int, ...]) -> bool:
    return all(
        number == value or number - page == value - other
        for number, value in zip(numbers, values, strict=True)
    )


def _roman(text: str) -> int:
    values = [_VALUES[letter] for letter in text.lower()]
    return sum(
        -value if any(later > value for later in values[at + 1 : at + 2]) else value
        for at, value in enumerate(values)
    )
