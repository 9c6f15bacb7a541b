"""Numbers and dates of spreadsheets as they are shown: the number formats of ECMA-376 part 1, 18.8.31."""

import datetime
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

_TOKEN = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[([^\]]*)\]|(AM/PM|A/P)|([#0?.,]+)|(.)', re.DOTALL)
_SECTIONS = re.compile(r'((?:"[^"]*"|\\.|\[[^\]]*\]|[^;"\\])*)(?:;|$)', re.DOTALL)
_DATE_PARTS = re.compile(r"y+|m+|d+|h+|s+|a{3,}", re.IGNORECASE)
_CHINESE_DATE = re.compile(r"[年月日时時分秒]")
_LONGEST = 200
"""Characters of a format that is looked into."""


@dataclass(frozen=True, slots=True)
class _Section:
    """One part of a format: what stands before and after the digits, and how they are written."""

    before: str
    digits: str
    after: str


def number_text(value: float, code: str) -> str:
    """A number as its format shows it; formats of fractions, exponents and conditions show it plain.

    >>> number_text(1200, '"¥"#,##0.00'), number_text(0.125, "0.0%"), number_text(-3.5, "0.00;[Red](0.00)")
    ('¥1,200.00', '12.5%', '(3.50)')
    >>> number_text(7, "000"), number_text(1.5, "General"), number_text(42, "# ?/?")
    ('007', '1.5', '42')
    """
    plain = f"{value:.15g}"
    sections = [found[1] for found in _SECTIONS.finditer(code[:_LONGEST]) if found[1]]
    if not sections or value != value or value in (float("inf"), float("-inf")):
        return plain
    negative = value < 0
    chosen, signed = sections[0], negative
    if negative and len(sections) > 1:
        chosen, signed = sections[1], False
    elif value == 0 and len(sections) > 2:
        chosen = sections[2]
    section = _read(chosen)
    if section is None:
        return plain
    if not section.digits:
        return f"{section.before}{section.after}".strip() or plain
    percents = min(2, f"{section.before}{section.after}".count("%"))
    written = _written(abs(value) * 100**percents, section.digits)
    if written is None:
        return plain
    sign = "-" if signed and written.strip("0.,") else ""
    return f"{sign}{section.before}{written}{section.after}".strip() or plain


def _read(code: str) -> _Section | None:
    """The parts of a section, None for one that is no plain number."""
    before, digits, after = "", "", ""
    for token in _TOKEN.finditer(code):
        quoted, escaped, bracket, clock, placeholder, other = token.groups()
        if placeholder and not (digits or placeholder.strip(",.")):
            before += placeholder
        elif placeholder:
            if after:
                return None  # digits in several places, as in telephone numbers
            digits = placeholder
        elif clock or (other and other in "GgEe/@ymdhs"):
            return None
        elif bracket is not None and not bracket.startswith("$"):
            if re.match(r"[<>=]|DBNum", bracket):
                return None
        else:
            literal = quoted or escaped or other or ""
            literal = bracket[1:].partition("-")[0] if bracket is not None else literal
            before, after = (before, after + literal) if digits else (before + literal, after)
    return _Section(before, digits, after)


def _written(value: float, digits: str) -> str | None:
    """The digits of a number that is not negative, "" for a nought that is not shown."""
    pattern = digits.rstrip(",")
    whole, _, places = pattern.partition(".")
    if "." in places or len(places) > 30:
        return None
    scaled = Decimal(repr(float(value))) / Decimal(1000) ** (len(digits) - len(pattern))
    try:
        rounded = scaled.quantize(Decimal(1).scaleb(-len(places)), ROUND_HALF_UP)
    except ArithmeticError:  # more digits than a Decimal holds
        return None
    if not rounded and "0" not in pattern:
        return ""
    left, _, right = f"{rounded:f}".partition(".")
    least = whole.count("0")
    left = left.lstrip("0").rjust(least, "0")
    if "," in whole and left:
        left = f"{int(left):,}".rjust(least, "0")
    needed = len(places.rstrip("#?"))
    while len(right) > needed and right.endswith("0"):
        right = right[:-1]
    return f"{left}.{right}" if right else left


def date_text(moment: datetime.datetime | datetime.date, code: str) -> str:
    """A day, or a moment with its time, as in ISO 8601; as it is shown where the format is Chinese.

    >>> date_text(datetime.date(2026, 11, 24), 'yyyy"年"m"月"d"日"'), date_text(datetime.date(2026, 11, 24), "mm-dd-yy")
    ('2026年11月24日', '2026-11-24')
    """
    if _CHINESE_DATE.search(code) and len(code) < _LONGEST:
        return _dated(moment, code)
    if isinstance(moment, datetime.datetime):
        if moment.time() == datetime.time():
            return moment.date().isoformat()
        return moment.isoformat(sep=" ", timespec="auto")
    return moment.isoformat()


def _dated(moment: datetime.datetime | datetime.date, code: str) -> str:
    full = (
        moment
        if isinstance(moment, datetime.datetime)
        else datetime.datetime.combine(moment, datetime.time())
    )
    section = next((found[1] for found in _SECTIONS.finditer(code) if found[1]), code)
    plain = re.sub(r'"([^"]*)"|\\(.)|\[[^\]]*\]|_.|\*.|;@?', r"\1\2", section)
    clock = False

    def said(part: re.Match[str]) -> str:
        nonlocal clock
        letter, width = part[0][0].lower(), len(part[0])
        minutes = letter == "m" and (clock or plain[part.end() : part.end() + 1] in ("分", ":"))
        clock = letter == "h" or (clock and letter != "y")
        match letter:
            case "y":
                return f"{full.year:04}" if width > 2 else f"{full.year % 100:02}"
            case "a":
                return f"{'周' if width == 3 else '星期'}{'一二三四五六日'[full.weekday()]}"
            case "m":
                number = full.minute if minutes else full.month
            case "d" if width > 2:
                return f"{'周' if width == 3 else '星期'}{'一二三四五六日'[full.weekday()]}"
            case "d":
                number = full.day
            case "h":
                number = full.hour
            case _:
                number = full.second
        return f"{number:02}" if width > 1 else str(number)

    return _DATE_PARTS.sub(said, plain).strip()
