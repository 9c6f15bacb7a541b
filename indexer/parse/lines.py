"""Lines of a page to paragraphs, by gaps, indents, and whether the next word would have fitted."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from indexer.parse.mend import HYPHENS, join_lines
from indexer.parse.outline import HAN, tidy
from pipeline.types import Box

BULLET = re.compile(
    r"^\s*(?:[•●○▪▫◦■□◆◇★☆–—*·➢✓√-]\s+\S|[•●▪◦■◆·]\S|\(?\d{1,3}[.)、）](?!\d)\s*\S|\([a-z]\)\s|"
    r"[（(][一二三四五六七八九十\d]{1,3}[)）]\S|[①-⑳]|[一二三四五六七八九十]{1,3}、\S)"
)
"""How an item of a list begins, in English and Chinese."""

_ENDS = re.compile(r"[。！？；.!?;:：…][”’\"'）)」』】]*$")
_LEADERS = re.compile(r"(?:[ \t]?[.·…]){5,}[ \t]*")
"""The dots between a title and its page in a table of contents."""
_WIDE_COMMA = re.compile(r"[\u3001\uff0c\uff1a\uff1b]$")
_FIRST_WORD = re.compile(
    rf"\s*([\u3008\u300a\u300c\u300e\u3010\uff08“‘]*(?:[{HAN}]|\S[^\s{HAN}]*)"
    r"[\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f\u3009\u300b\u300d\u300f\u3011\uff09”’]*)"
)
"""What stays together at a line's end: a word or one Han character, with brackets before and marks behind."""
_GOES = re.compile(rf"[\s{HYPHENS}\-\u2010.·…]+")
"""What mending may take away or add; all other characters stay, so that they can be counted."""
_STAYS = re.compile(rf"[^\s{HYPHENS}\-\u2010.·…]+")
_MAX_LINES = 60


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text as it stands on a page, in points from the page's top left.

    `base` is the baseline, `size` the font's height. A hyphenation mark may end `text`. `parts` are
    the pieces of a line with wide gaps inside, which may belong to several columns. `table` counts the
    page's tables from 1, where the line stands in one.
    """

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    base: float
    size: float
    parts: tuple["Line", ...] = ()
    table: int = 0


@dataclass(frozen=True, slots=True)
class Ruled:
    """A table with drawn lines: the lines of text in each of its cells, row by row, and where the rows part."""

    rows: tuple[tuple[tuple[str, ...], ...], ...]
    x0: float
    x1: float
    ys: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page: its number from 1, its size in points, its lines in reading order, and the tables that they stand in.

    The lines of one that was `scanned` all have the size that is usual on it, which says nothing of headings.
    """

    number: int
    width: float
    height: float
    lines: tuple[Line, ...]
    tables: tuple[Ruled, ...] = ()
    scanned: bool = False

    def boxes(self, lines: Sequence[Line]) -> tuple[Box, ...]:
        """One box a line, as fractions of the page, kept inside it."""
        return tuple(self.box(line.x0, line.y0, line.x1, line.y1) for line in lines)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        """A rectangle in points as fractions of the page, kept inside it."""

        def within(value: float, whole: float) -> float:
            return min(1.0, max(0.0, round(value / whole, 5)))

        return Box(
            self.number,
            within(x0, self.width),
            within(y0, self.height),
            within(x1, self.width),
            within(y1, self.height),
        )


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together; `hard[i]` says that the break after line i is meant."""

    lines: tuple[Line, ...]
    hard: tuple[bool, ...]

    @property
    def is_item(self) -> bool:
        return bool(BULLET.match(self.lines[0].text))

    def text(self, words: frozenset[str]) -> str:
        """The mended text; breaks that are meant stay `\\n`."""
        runs: list[list[str]] = [[]]
        for line, hard in zip(self.lines, self.hard, strict=True):
            runs[-1].append(line.text)
            if hard:
                runs.append([])
        text = "\n".join(join_lines(run, words) for run in runs if run)
        return tidy(_LEADERS.sub(" … ", text))


def starts(text: str, lines: Sequence[Line]) -> tuple[int, ...]:
    """Where each line begins in the text that was made of them: spaces, hyphens and leaders may be gone from it.

    >>> starts("a well-known manual.", [Line(each, 0, 0, 1, 1, 1, 1) for each in ("a well-", "known ma-", "nual.")])
    (0, 7, 15)
    """
    begins: list[int] = []
    before: list[int] = []  # characters that stay, before each run of them
    stay = 0
    for run in _STAYS.finditer(text):
        begins.append(run.start())
        before.append(stay)
        stay += run.end() - run.start()
    found = [0] if lines else []
    count = 0
    for line in lines[:-1]:
        count += len(_GOES.sub("", line.text))
        at = bisect_right(before, count) - 1
        found.append(begins[at] + count - before[at] if count < stay else max(0, len(text) - 1))
    return tuple(found)


def usual_pitch(sheets: Sequence[Sheet]) -> float:
    """The distance of baselines inside paragraphs, in font heights, over a document."""
    pitches = [
        (line.base - before.base) / line.size
        for sheet in sheets
        for before, line in zip(sheet.lines, sheet.lines[1:], strict=False)
        if abs(line.size - before.size) < 0.5
        and line.size > 0
        and 0.8 < (line.base - before.base) / line.size < 2.6
        and line.x0 < before.x1
        and before.x0 < line.x1
    ]
    return median(pitches) if pitches else 1.2


def paragraphs(lines: Sequence[Line], pitch: float) -> Iterator[Paragraph]:
    """Every line once, in order. `pitch` is the document's `usual_pitch`."""
    runs = list(_runs(lines))
    for run in runs:
        rights = _rights(run, [other for other in runs if other is not run])
        kept: list[Line] = [run[0]]
        hard: list[bool] = []
        for line, right in zip(run[1:], rights, strict=False):
            short = _would_have_fitted(kept[-1], line, right)
            if len(kept) >= _MAX_LINES or _starts(kept, line, short=short, pitch=pitch):
                yield Paragraph(tuple(kept), (*hard, False))
                kept, hard = [line], []
            else:
                hard.append(short)
                kept.append(line)
        yield Paragraph(tuple(kept), (*hard, False))


def _runs(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines that follow one another downwards in one column."""
    run: list[Line] = []
    for line in lines:
        if run and not _below(run, line):
            yield run
            run = []
        run.append(line)
    if run:
        yield run


def _rights(run: Sequence[Line], others: Sequence[Sequence[Line]]) -> list[float]:
    """How far right each line of a run could reach: those beside another column as far as one of them does.

    A title or an abstract over two columns runs on into the first one, which is narrower.
    """
    edge = max(line.x1 for line in run)
    near = [line for other in others for line in other if line.x0 > run[0].x0]
    beside = [
        any(other.y0 < line.y1 and line.y0 < other.y1 and other.x0 >= line.x1 for other in near)
        for line in run
    ]
    column = max(
        (line.x1 for line, is_beside in zip(run, beside, strict=True) if is_beside), default=edge
    )
    return [column if is_beside else edge for is_beside in beside]


def _below(run: Sequence[Line], line: Line) -> bool:
    before = run[-1]
    left, right = min(each.x0 for each in run), max(each.x1 for each in run)
    size = max(before.size, line.size)
    return line.base > before.base - 0.5 * size and line.x0 < right + size and line.x1 > left - size


def _would_have_fitted(before: Line, line: Line, right: float) -> bool:
    """Whether the line broke although its next word had room: then the break is meant."""
    if before.text[-1:] in HYPHENS or before.text.endswith("-") or _same_row(before, line):
        return False
    if _LEADERS.search(before.text) or _LEADERS.search(line.text):
        return True
    room = right - before.x1
    if _WIDE_COMMA.search(before.text):
        room -= 0.5 * before.size  # the mark's ink is only half of its square
    word = _FIRST_WORD.match(line.text)
    if word is None:
        return False
    advance = (line.x1 - line.x0) / max(len(line.text), 1)
    needed = 1.25 * len(word[1]) * advance + 0.6 * line.size  # letters differ in width
    return room > max(needed, 2.0 * line.size)


def _same_row(before: Line, line: Line) -> bool:
    return abs(line.base - before.base) < 0.3 * line.size and line.x0 >= before.x1 - 1


def _starts(kept: Sequence[Line], line: Line, *, short: bool, pitch: float) -> bool:
    before = kept[-1]
    size = max(line.size, 1.0)
    if _same_row(before, line):
        return False
    if BULLET.match(line.text) or abs(line.size - before.size) > 0.08 * size:
        return True
    if line.base - before.base > pitch * size * 1.22 + 0.5:
        return True
    ended = bool(_ENDS.search(before.text))
    if short and ended:
        return True
    indent = line.x0 - before.x0
    if BULLET.match(kept[0].text):
        return line.x0 < kept[0].x0 - 0.5 * size or (indent < -0.8 * size and len(kept) > 1)
    if indent > 0.8 * size:
        return ended and len(kept) >= 1
    return indent < -0.8 * size and len(kept) > 1
