"""Which code points of a text to show and to mark. Pure; offsets count Unicode code points."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

CONTEXT = 300
"""Code points shown on each side of a quoted passage."""

_SNAP = 80
_BREAK = re.compile(r"[\n。！？；]|[.!?;](?=\s)")
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_RUN = re.compile(f"[{_HAN}]+")
_WORD = re.compile(rf"[^\W_{_HAN}]+(?:[.\-][^\W_{_HAN}]+)*")
_COMMON = frozenset(
    "a an and are as at be by can do does for from how i in is it its may must my of on or should that the this to was "
    "what when where which who why will with you your".split()
)
_COMMON_HAN = re.compile(
    "为什么|什么|怎么样|怎么|怎样|如何|多少|哪些|哪个|哪里|哪一|是否|可以|应该|这个|那个|多久|几个|请问|需要|"
    "[的了吗呢是在和与]"
)
"""Words of every question; what they stand between is searched for by itself."""


@dataclass(frozen=True, slots=True)
class Window:
    """A passage in its surroundings: `before + quote + after` is a piece of the stored text.

    `cut_before` and `cut_after` say whether the text goes on beyond.
    """

    before: str
    quote: str
    after: str
    cut_before: bool
    cut_after: bool


def window(text: str, start: int, end: int, context: int = CONTEXT) -> Window | None:
    """The quote `text[start:end]` with about `context` code points on each side, None if it isn't there.

    The cut prefers the end of a line or sentence up to 80 code points closer to the quote.
    """
    if not 0 <= start < end <= len(text):
        return None
    left, right = max(0, start - context), min(len(text), end + context)
    if left > 0:
        left = next(
            (i + 1 for i in range(left, min(left + _SNAP, start)) if _BREAK.match(text, i)), left
        )
    if right < len(text):
        right = next(
            (
                i + 1
                for i in range(right - 1, max(right - _SNAP, end) - 1, -1)
                if _BREAK.match(text, i)
            ),
            right,
        )
    return Window(
        before=text[left:start],
        quote=text[start:end],
        after=text[end:right],
        cut_before=left > 0,
        cut_after=right < len(text),
    )


def word_spans(query: str, text: str) -> list[tuple[int, int]]:
    """Where the words of `query` stand in `text`: sorted, disjoint (start, end) pairs.

    Latin words match whole words in any case, Chinese matches by pairs of characters; a single
    character only where it is the whole query. Words that every question has are left out.
    """
    found: list[tuple[int, int]] = []
    for word in {match.group() for match in _WORD.finditer(query)}:
        if word.lower() not in _COMMON:
            pattern = rf"(?<![^\W_{_HAN}]){re.escape(word)}(?![^\W_{_HAN}])"
            found += [m.span() for m in re.finditer(pattern, text, re.IGNORECASE)]
    for run in _HAN_RUN.findall(query):
        for term in _COMMON_HAN.split(run):
            alone = {term} if term == run else set()
            pairs = {term[i : i + 2] for i in range(len(term) - 1)} or alone
            for pair in pairs:
                starts = (m.start() for m in re.finditer(f"(?={re.escape(pair)})", text))
                found += [(start, start + len(pair)) for start in starts]
    return merged(found)


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same code points as sorted, disjoint spans.

    >>> merged([(4, 6), (0, 2), (1, 3), (3, 4)])
    [(0, 6)]
    """
    result: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def marked(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[str, bool]]:
    """The text as (piece, is it marked) pairs; the pieces joined are the text.

    >>> marked("abcd", [(1, 3)])
    [('a', False), ('bc', True), ('d', False)]
    """
    pieces: list[tuple[str, bool]] = []
    at = 0
    for start, end in spans:
        pieces += [(text[at:start], False), (text[start:end], True)]
        at = end
    pieces.append((text[at:], False))
    return [(piece, is_marked) for piece, is_marked in pieces if piece]


def excerpt(text: str, spans: Sequence[tuple[int, int]], length: int) -> tuple[int, int]:
    """The (start, end) of at most `length` code points that hold the most marks; all of a short text.

    A quarter of them stands before the first mark, less where a line or sentence ends in it; the
    end too prefers the end of a line or sentence.

    >>> excerpt("abc. " * 9 + "key word", [(45, 48)], 20)
    (44, 53)
    """
    if len(text) <= length:
        return 0, len(text)
    ahead = length - length // 4

    def held(start: int) -> int:
        return sum(b - a for a, b in spans if start <= a and b <= start + ahead)

    first = max((a for a, _ in spans), key=held, default=0)
    start = max(0, first - length // 4)
    if start > 0:
        start = next((i + 1 for i in range(start, first) if _BREAK.match(text, i)), start)
    end = min(len(text), start + length)
    if end < len(text):
        last = (i + 1 for i in range(end - 1, end - length // 4, -1) if _BREAK.match(text, i))
        end = next(last, end)
    return start, end
