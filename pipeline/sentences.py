"""Sentences of Chinese and English text, as spans that cover every character that is not white
space.
"""

import re

from pipeline.types import Span

# A sentence ends behind 。！？； and their half-width sisters with closing quotes, or at a line's end.
# A full stop ends
# one only before white space and not behind an abbreviation, a single letter or a list number.
_END = re.compile(
    r"(?P<han>[。！？；…]++[”’」』）】》\"']*+)"
    r"|(?P<latin>(?<![.!?])[.!?]++[\"'”’)\]]*+(?=\s|$))"
    r"|(?P<line>\n++)"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|cf|no|nos|fig|figs|sec|vol|pp|inc|ltd|co|corp|approx|dept"
    r"|est|gen|col|lt|capt|rev|hon|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|u\.s|u\.k|a\.m|p\.m)"
    r"|(?:^|\s)[A-Z]|(?:^|\n)\s*\d{1,3})\.$",
    re.IGNORECASE,
)


def sentences(text: str) -> list[Span]:
    """Spans of the sentences, in order, without surrounding white space; together they hold all other characters.

    >>> text = "保修期为24个月。Dr. Li signed it. 是吗？"
    >>> [text[s.start:s.end] for s in sentences(text)]
    ['保修期为24个月。', 'Dr. Li signed it.', '是吗？']
    """
    found: list[Span] = []
    start = 0
    for end in _END.finditer(text):
        if end["latin"] and end["latin"][0] == "." and _abbreviated(text, start, end):
            continue
        _append(found, text, start, end.end())
        start = end.end()
    _append(found, text, start, len(text))
    return found


def _abbreviated(text: str, start: int, end: re.Match[str]) -> bool:
    if not _ABBREVIATION.search(text[max(start, end.start() - 8) : end.start() + 1]):
        return False
    rest = text[end.end() :].lstrip(" ")
    return bool(rest) and not rest.startswith("\n")


def _append(found: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if right > left:
        found.append(Span(start + left, start + right))
