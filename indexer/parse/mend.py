"""Lines back to running text: hyphens joined, Chinese closed, English kept apart by spaces."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from indexer.parse.outline import HAN

HYPHENS = "\ufffe\uffff\x02\u00ad"
"""The marks that PDF readers leave where a word was parted at a line's end."""

_CLOSED = re.compile(rf"[{HAN}\u3001-\u3003\u3008-\u301f\u3040-\u30ff\uff01-\uff60]")
_EITHER = frozenset("“”‘’—…·")
_PARTED = re.compile(rf"([^\W\d_]+)[-\u2010{HYPHENS}]$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_ADDRESS = re.compile(r"(?:://|\bwww\.|^[~.]?/)\S*$|\S+/\S*[/_?=&%#-]$|\bhttps?:$")
_REACH = 200
"""How far from a line's end, in characters, anything about its break can stand."""
_MARKS = re.compile(rf"[{HYPHENS}]")


def vocabulary(lines: Iterable[str]) -> frozenset[str]:
    """The words, and the hyphenated ones, that stand whole inside the lines of a document."""
    words: set[str] = set()
    for line in lines:
        found = [match[0].lower() for match in _WORD.finditer(line)]
        if _PARTED.search(line.rstrip()[-_REACH:]):
            found = found[:-1]
        words.update(found)
        words.update(part for word in found if "-" in word for part in word.split("-"))
    return frozenset(words)


def join_lines(lines: Sequence[str], words: frozenset[str]) -> str:
    """One paragraph of the lines that a page broke it into.

    A hyphen at a line's end goes when the joined word is the likelier one, by the document's own
    `words`; no space comes between Han characters or into an address. No other character is lost.
    """
    kept = [line.strip() for line in lines if line.strip()]
    pieces: list[str] = []
    for before, after in pairwise(kept):
        cut, glue = _glue(before[-_REACH:], after[:_REACH], words)
        pieces += (before[:-1] if cut else _last(before), glue)
    pieces += (_last(line) for line in kept[-1:])
    return _MARKS.sub("", "".join(pieces))


def _last(line: str) -> str:
    return line[:-1] + _MARKS.sub("-", line[-1])


def _glue(before: str, after: str, words: frozenset[str]) -> tuple[bool, str]:
    """Whether the last character of a line goes, and what comes between it and the next line."""
    parted = _PARTED.search(before)
    if parted and after[0].isalnum():
        return True, "-" if _keeps_hyphen(before, parted[1], after, words) else ""
    last, first = _MARKS.sub("-", before[-1]), after[0]
    closed = bool(_CLOSED.match(last)), bool(_CLOSED.match(first))
    if any(closed) or (last in _EITHER and closed[1]) or (first in _EITHER and closed[0]):
        return False, ""
    if last in "–/" and before[-2:-1].isalnum() and first.isalnum():
        return False, ""  # "Norse–Gaels", "and/or"
    token = before.rsplit(maxsplit=1)[-1][:-1] + last
    return False, "" if _ADDRESS.search(token) and _continues_address(token, after) else " "


def _keeps_hyphen(before: str, left: str, after: str, words: frozenset[str]) -> bool:
    right_match = _WORD.match(after)
    if right_match is None or not right_match[0][0].islower():
        return True  # "COVID-19", "Smith-Jones"
    token = before.rsplit(maxsplit=1)[-1]
    if re.search(r"[/_@:\d]", token) or re.match(r"\S*[/_@]\S", after):
        return True
    left, right = left.lower(), right_match[0].lower().split("-")[0]
    if left + right in words:
        return False
    if f"{left}-{right}" in words:
        return True
    return len(left) > 2 and len(right) > 2 and left in words and right in words


def _continues_address(before: str, after: str) -> bool:
    if before.endswith(":"):
        return after.startswith("//")
    if before.endswith("."):
        return bool(re.match(r"[a-z0-9-]+(?:\.[a-z]+)*/", after))
    return before[-1] in "/_?=&%#-" and bool(re.match(r"[\w~%.-]", after))
