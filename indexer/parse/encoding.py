"""Bytes to text: Chinese, Japanese and Western encodings told apart by what the text then says.

A byte order mark decides; then UTF-8, where the bytes obey it; then a declared charset, where
they obey that. What is left is decoded as each candidate and the reading that looks most like writing
wins. The sets of usual characters come from the character sets themselves: the first levels of GB
2312, Big5 and JIS X 0208 hold the common characters, the second levels the rare ones.
"""

import codecs
import re
from collections.abc import Mapping
from functools import cache

from pipeline.errors import DamagedDocument

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF16 = ("utf-16-le", "utf-16-be")
_CANDIDATES = ("gb18030", "big5hkscs", "cp932", "cp949", "cp1252")
# A label often names a smaller set than was used: browsers read the larger one too.
_WIDER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
}
_SAMPLE = 16_000
_CONTROL = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\ufeff\ufffe\uffff\ufdd0-\ufdef\ud800-\udfff]"
)
_NEWLINE = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BINARY = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_DECLARED = re.compile(
    rb"""(?:<meta[^>]{0,200}?charset|<\?xml[^>]{0,100}?encoding)\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE,
)
# The characters that make up most of any Chinese text, simplified and traditional, or Korean one.
_FREQUENT = frozenset(
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
    "十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形"
    "相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展"
    "五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战"
    "先回则任取据处理世車這個們來時對會為國後說產種過動發學經從業當點點還應開無關變條沒結問題總設與長頭資邊統較將組見計別據處實現"
    "请您吗呢吧啊什怎为何第章节条款公司合同期限保修服务退货用户"
    "이다는을를에의고가기한로지하은도사자그리인서어해과시일나니습입"
)


def decode(data: bytes, declared: str | None = None) -> str:
    """The text of `data`, cleaned as `clean` does.

    `declared` is a charset from outside (a mail header); one inside the bytes (HTML meta, XML
    declaration) is found here. Raises DamagedDocument when the bytes are no text in any encoding.
    """
    return clean(decode_raw(data, declared))


def decode_raw(data: bytes, declared: str | None = None) -> str:
    """The text of `data` with every character and newline as it was written."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, errors="replace")
    utf8 = None if _looks_like_utf16(data) else _strictly(data, "utf-8")
    # Many pages are UTF-8 under an old label, and four characters are not valid UTF-8 by accident.
    if utf8 is not None and sum(char > "\x7f" for char in utf8[:_SAMPLE]) >= 4:
        return _checked(utf8)
    for label in (declared, declared_charset(data)):
        text = _strictly(data, label)
        if text is not None:
            return _checked(text)
    if utf8 is not None:
        return _checked(utf8)
    return _checked(data.decode(detect(data), errors="replace"))


def declared_charset(data: bytes) -> str | None:
    """The charset that an HTML or XML document names in its first 4,096 bytes."""
    found = _DECLARED.search(data[:4096])
    return found[1].decode("ascii") if found else None


def detect(data: bytes) -> str:
    """The name of the codec that reads `data` best, for bytes that are not valid UTF-8."""
    if _looks_like_utf16(data):
        # Zero halves don't tell which comes first: an ideographic space has one on the other side.
        head = data[:_SAMPLE]
        return max(_UTF16, key=lambda name: _plausibility(head.decode(name, "replace"), 3.0))
    sample = _sample(data)
    readings = [(name, _plausibility(sample.decode(name, "replace"))) for name in _CANDIDATES]
    readings.append(("utf-8", _plausibility(sample.decode("utf-8", "replace"))))
    readings += [
        (name, _plausibility(data[: _SAMPLE // 2 * 2].decode(name, "replace")) - 0.5)
        for name in _UTF16
        if len(data) % 2 == 0
    ]
    return max(readings, key=lambda reading: reading[1])[0]


def likeliest(data: bytes, among: Mapping[str, float]) -> str:
    """The codec whose reading of `data` looks most like writing, each with a bonus; of equals the first."""
    sample = _sample(data)
    return max(among, key=lambda name: _plausibility(sample.decode(name, "replace")) + among[name])


def clean(text: str) -> str:
    """Newlines become `\\n`; control characters, noncharacters, soft hyphens and lone surrogates go.

    Tabs stay; full-width forms and traditional characters stay as they were written.
    """
    return _CONTROL.sub("", _NEWLINE.sub("\n", text))


def _strictly(data: bytes, label: str | None) -> str | None:
    if not label:
        return None
    try:
        name = codecs.lookup(label).name
        return data.decode(_WIDER.get(name, name), "strict")
    except (LookupError, ValueError):
        return None


def _looks_like_utf16(data: bytes) -> bool:
    """NULs on one side only: spaces, newlines and Latin letters in UTF-16 have a zero half."""
    head = data[:_SAMPLE]
    even, odd = head[::2].count(0), head[1::2].count(0)
    few, many = sorted((even, odd))
    return len(data) % 2 == 0 and many >= 2 and many * 50 > len(head) and few * 20 < many


def _checked(text: str) -> str:
    """The text, unless control characters or undecodable bytes show that it is none."""
    head = text[:100_000]
    wrong = len(_BINARY.findall(head)) + head.count("�")
    if wrong > 4 and wrong * 33 > len(head):
        raise DamagedDocument(
            "This file is not text in any encoding that is known here. Check that it is the file "
            "you meant, or save it as UTF-8 text."
        )
    return text


def _sample(data: bytes) -> bytes:
    """Whole lines that hold bytes over 127, up to some 16,000 bytes; no newline cuts a character."""
    lines: list[bytes] = []
    size = 0
    for line in data.splitlines(keepends=True):
        if line.isascii():
            continue
        lines.append(line[:_SAMPLE])
        size += len(lines[-1])
        if size >= _SAMPLE:
            break
    return b"".join(lines)


def _plausibility(text: str, ascii_weight: float = 0.0) -> float:
    """The mean weight of the characters that are not ASCII, and of ASCII where it has a weight: over
    1 for usual writing, under 0 for noise."""
    total, count = 0.0, 0
    last = len(text) - 1
    for at, char in enumerate(text):
        if char == "\x7f" or (char < " " and char not in "\t\n\r\x0c"):
            total, count = total - 6.0, count + 1
            continue
        if char < "\x80":
            if ascii_weight:
                total, count = total + ascii_weight, count + 1
            continue
        count += 1
        before = text[at - 1] if at else " "
        after = text[at + 1] if at < last else " "
        total += _weight(char, before, after)
    return total / count if count else -5.0


def _weight(char: str, before: str, after: str) -> float:
    if char in _FREQUENT:
        return 4.0
    code = ord(char)
    if code < 0x250:
        return _western_weight(char, before, after)
    weight = -1.0
    if char in _usual():
        # A Han character that hangs on a Latin letter is rather half of "é" and what follows.
        weight = 0.0 if before.isascii() and before.islower() else 1.0
        if _is_hangul(before) or _is_hangul(after):
            weight = -1.0  # Korean of today seldom mixes the two inside a word
    elif char == "�" or 0xE000 <= code < 0xF900 or code > 0xFFFFF:
        weight = -6.0
    elif 0x3040 <= code < 0x3100:
        weight = 2.0
    elif 0xFF61 <= code < 0xFFA0:
        weight = -0.5
    elif _is_hangul(char):
        weight = 0.8 if char in _korean() else -1.0
    elif 0x3000 <= code < 0x3030 or 0xFF00 <= code < 0xFF61 or 0x2010 <= code < 0x2040:
        weight = 1.5
    elif 0x2030 <= code < 0x2600:
        weight = 0.5
    if 0x2010 <= code < 0x2600 and char not in "’–—" and _is_latin(before) and _is_latin(after):
        weight = -2.0  # a quotation mark or a dagger inside a word
    return weight


def _is_hangul(char: str) -> bool:
    return "\uac00" <= char < "\ud7a4"


def _is_latin(char: str) -> bool:
    return char < "\u0250" and char.isalpha()


def _western_weight(char: str, before: str, after: str) -> float:
    if char < "\xa0":
        return -6.0
    if char.isalpha():
        beside = (before.isascii() and before.isalpha()) + (after.isascii() and after.isalpha())
        return (-1.5, 2.5, 3.0)[beside]
    return 0.5 if before.isascii() and after.isascii() else -1.0


@cache
def _usual() -> frozenset[str]:
    """First-level characters of GB 2312, Big5 and JIS X 0208."""
    return frozenset(
        _rows("gb2312", range(0xB0, 0xD8), range(0xA1, 0xFF))
        + _rows("big5", range(0xA4, 0xC7), (*range(0x40, 0x7F), *range(0xA1, 0xFF)))
        + _rows("euc_jp", range(0xB0, 0xD0), range(0xA1, 0xFF))
    )


@cache
def _korean() -> frozenset[str]:
    """The 2,350 syllables of KS X 1001."""
    return frozenset(_rows("euc_kr", range(0xB0, 0xC9), range(0xA1, 0xFF)))


def _rows(codec: str, leads: range, trails: range | tuple[int, ...]) -> str:
    return "".join(
        bytes((lead, trail)).decode(codec, errors="ignore") for lead in leads for trail in trails
    )
