"""Which lines of a PDF are headings: those that its bookmarks name, else those set larger."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.parse.lines import Line, Sheet

_NUMBERING = re.compile(
    r"^(?:chapter|appendix|section|part|附录|附錄|第)?"
    r"(?:[a-z]?\d{0,6}|[ivxlc]{0,6}|[一二三四五六七八九十百零]{0,6})[章节節篇部条條卷]?$"
)
_NO_LETTER = re.compile(r"[\W_]+")
_MOST_LINES = 4


@dataclass(frozen=True, slots=True)
class Bookmark:
    """An entry of a PDF's outline: level from 1, page from 1, and how far down the page in points."""

    title: str
    level: int
    page: int
    top: float


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at line `first` of its page, made of `count` lines; none when the page shows it not."""

    level: int
    first: int
    count: int
    title: str


def from_bookmarks(sheet: Sheet, marks: Sequence[Bookmark]) -> list[Heading]:
    """The headings of a page, in the order of its lines.

    A bookmark whose words stand on the page takes those lines; another one stands, without lines of
    its own, before the first line at or under its place.
    """
    if not marks:
        return []
    keys = [_key(line.text) for line in sheet.lines]
    taken: set[int] = set()
    headings: list[Heading] = []
    for mark in marks:
        wanted = _key(mark.title)
        spans = [
            (abs(sheet.lines[first].y0 - mark.top), first, count)
            for first in range(len(keys))
            for count in range(1, _MOST_LINES + 1)
            if first + count <= len(keys)
            and not taken & set(range(first, first + count))
            and _same_title("".join(keys[first : first + count]), wanted)
        ]
        if spans:
            _, first, count = min(spans)
            taken |= set(range(first, first + count))
            headings.append(Heading(mark.level, first, count, mark.title))
        else:
            below = (i for i, line in enumerate(sheet.lines) if line.base >= mark.top)
            first = next(below, 0)
            while first in taken:
                first += 1
            headings.append(Heading(mark.level, first, 0, mark.title))
    return sorted(headings, key=lambda heading: heading.first)


def _key(text: str) -> str:
    return _NO_LETTER.sub("", unicodedata.normalize("NFKC", text).casefold())


def _same_title(key: str, wanted: str) -> bool:
    if not wanted or not key:
        return False
    longer, shorter = (key, wanted) if len(key) >= len(wanted) else (wanted, key)
    if not longer.endswith(shorter) or len(shorter) < 2:
        return longer == shorter
    return bool(_NUMBERING.match(longer[: len(longer) - len(shorter)]))


def sizes(sheets: Sequence[Sheet]) -> Mapping[float, int]:
    """The font heights (rounded to half points) over the body's, with the level that each means; scans have none."""
    weights: Counter[float] = Counter()
    for sheet in sheets:
        for line in () if sheet.scanned else sheet.lines:
            weights[_half(line.size)] += len(line.text)
    if not weights:
        return {}
    body = weights.most_common(1)[0][0]
    larger = sorted((size for size in weights if size > body * 1.14), reverse=True)
    return {size: min(level, 3) for level, size in enumerate(larger, start=1)}


def level_by_size(lines: Sequence[Line], levels: Mapping[float, int]) -> int:
    """The level of lines that are set as a heading, 0 for text."""
    text = "".join(line.text for line in lines)
    if len(lines) > 3 or len(text) > 90 or text.rstrip().endswith(tuple("。；，,;")):
        return 0
    if not any(char.isalpha() for char in text):
        return 0
    return min((levels.get(_half(line.size), 0) for line in lines), default=0)


def _half(size: float) -> float:
    return round(size * 2) / 2
