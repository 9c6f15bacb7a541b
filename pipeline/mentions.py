"""What a text mentions that is the same however it is written: identifiers, and numbers with their unit."""

import re
import unicodedata
from collections.abc import Mapping

_IDENTIFIER = re.compile(r"[a-z0-9]+(?:[-_./][a-z0-9]+)*")
_LONG_NUMBER = 5
"""Digits from which a bare number is an identifier: an order, an article."""

_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_HAN = "零〇一二两三四五六七八九十百千"
_ENGLISH: Mapping[str, int] = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_QUANTITY = re.compile(
    rf"(?P<figure>\d[\d,]*(?:\.\d+)?|[{_HAN}]+|\b(?:{'|'.join(_ENGLISH)})\b)"
    r"\s*-?\s*(?P<unit>[a-z]+|[\u3400-\u9fff]|[%‰°€$£¥])?"
)


def identifiers(text: str) -> frozenset[str]:
    """Codes of letters and digits, and numbers of five digits or more; case and width do not count.

    >>> sorted(identifiers("故障代码Ｅ08，型号 CX-200，订单 20260113；3 年"))
    ['20260113', 'cx-200', 'e08']
    """
    found = (match[0] for match in _IDENTIFIER.finditer(_folded(text)))
    return frozenset(one for one in found if _names(one))


def _names(word: str) -> bool:
    if word.isdigit():
        return len(word) >= _LONG_NUMBER
    return any(c.isdigit() for c in word) and any(c.isalpha() for c in word)


def quantities(text: str) -> frozenset[tuple[str, str]]:
    """Numbers with the unit that follows them: the next word, or the next Chinese character. Units are compared as
    written, but for a plural's s.

    >>> quantities("满五年不满十年") == quantities("满5年不满10年") == {("5", "年"), ("10", "年")}
    True
    >>> sorted(quantities("two weeks, 1,000 m, 二〇一三年"))
    [('1000', 'm'), ('2', 'week'), ('2013', '年')]
    """
    found: set[tuple[str, str]] = set()
    for match in _QUANTITY.finditer(_folded(text)):
        unit = match["unit"] or ""
        value = _value(match["figure"])
        if value is not None and unit:
            found.add((value, unit.removesuffix("s") if len(unit) > 2 else unit))
    return frozenset(found)


def _value(figure: str) -> str | None:
    if figure[0].isascii() and figure[0].isdigit():
        return figure.replace(",", "")
    if figure in _ENGLISH:
        return str(_ENGLISH[figure])
    if not any(c in _PLACES for c in figure):
        return "".join(str(_DIGITS[c]) for c in figure)
    total, pending = 0, None
    for char in figure:
        if char in _PLACES:
            total += (1 if pending is None else pending) * _PLACES[char]
            pending = None
        else:
            pending = _DIGITS[char]
    return str(total + (pending or 0))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
