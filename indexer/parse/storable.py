"""The last look at what a parser read: every database and UTF-8 can hold it."""

import re
from dataclasses import replace

from pipeline.types import Element, Parsed

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(parsed: Parsed) -> Parsed:
    """NUL characters and lone surrogates become U+FFFD, one for one, so that no place in a text moves.

    >>> storable(Parsed((Element("a\\x00b", heading=("\\ud800",)),), title="c")).elements[0].text
    'a\ufffdb'
    """
    elements = tuple(element if _fits(element) else _mended(element) for element in parsed.elements)
    return replace(parsed, elements=elements, title=parsed.title and _whole(parsed.title))


def _fits(element: Element) -> bool:
    words = (element.text, *element.heading, *element.columns)
    return not any(map(_UNSTORABLE.search, words))


def _mended(element: Element) -> Element:
    return replace(
        element,
        text=_whole(element.text),
        heading=tuple(map(_whole, element.heading)),
        columns=tuple(map(_whole, element.columns)),
    )


def _whole(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)
