"""Sentences of Chinese and English text, as spans that cover every character that is not white
space.
"""

import re

from pipeline.types import Span

# A sentence ends behind 。！？； and their half-width sisters with closing quotes, or at a line's end.
# A full stop ends
# one only before white space and not behind an abbreviation, a single letter or a list number. A full line of running
# text goes on in the next one.
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
# A line this wide (a Han character counts double) was broken by its width, not by its writer.
_FULL_LINE = 50
_GOES_ON = re.compile(r"[a-z0-9\u4e00-\u9fff(“\"‘']")


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
        if end["line"] == "\n" and _wrapped(text, end.start()):
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


def _wrapped(text: str, at: int) -> bool:
    """Whether a line break only ends a full line of running text, as in mails: the sentence goes on below."""
    above = text[text.rfind("\n", 0, at) + 1 : at]
    end = text.find("\n", at + 1)
    below = text[at + 1 : end if end >= 0 else len(text)]
    if " | " in above or " | " in below or not below:
        return False
    width = sum(2 if char >= "\u2e80" else 1 for char in above[:_FULL_LINE])
    return width >= _FULL_LINE and _GOES_ON.match(below) is not None


def _append(found: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if right > left:
        found.append(Span(start + left, start + right))
