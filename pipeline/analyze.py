"""Text to terms: pairs of characters for Han, whole words for Latin, the same for queries and
passages.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log

from pipeline.types import Script

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han, Hangul
_LETTER = f"(?:(?![{_CJK}])[^\\W_])"
_RUN = re.compile(f"([{_CJK}]+)|({_LETTER}+(?:[._\\-/+:'’]{_LETTER}+)*(?:\\+\\+|#)?)")
_JOINT = re.compile(r"[._\-/+:'’]+")
_HAN = re.compile(f"[{_CJK}]")
_LATIN = re.compile(_LETTER)
_NOT_PHRASE = re.compile(r"[\W_]+")

# The most frequent English function words: they say nothing of a passage's subject.
STOP_WORDS = frozenset(
    """a about an and any are as at be been but by can could did do does for from had has have he her his how i if in
    into is it its may me my no not of on or our shall she should so such than that the their them
    then there these
    they this those to was we were what when where which who whom whose why will with would you your""".split()
)

# BM25 (Robertson and Zaragoza, 2009), without the constant factor k1 + 1.
K1 = 1.2
B = 0.75


def terms(text: str) -> list[str]:
    """The terms of a text in order, with repetition.

    Joined words stand whole and in parts; a lone Han character stands for itself.

    >>> terms("保修期24个月, v3.9.3")
    ['保修', '修期', '24', '个月', 'v3.9.3', 'v3', '9', '3']
    """
    found: list[str] = []
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if han := run[1]:
            found.extend(han[i : i + 2] for i in range(len(han) - 1)) if len(
                han
            ) > 1 else found.append(han)
            continue
        word = run[2]
        if word not in STOP_WORDS:
            found.append(word)
        parts = _JOINT.split(word)
        if len(parts) > 1:
            found.extend(
                part for part in parts if part and part not in STOP_WORDS and len(part) < len(word)
            )
    return found


def script_of(text: str) -> Script:
    """The script that prevails; one Han character says about as much as three Latin letters.

    >>> script_of("使用 apt-get 安装软件包"), script_of("The word 道 means way")
    (<Script.HAN: 'han'>, <Script.LATIN: 'latin'>)
    """
    han = len(_HAN.findall(text))
    return Script.HAN if han and han * 3 >= len(_LATIN.findall(text)) else Script.LATIN


def passage_script(text: str) -> Script:
    """The script by which a passage's cosines are levelled: Han from a twentieth of Han on (weighed as above).

    A Chinese question's cosine with English prose that holds a few Chinese words is as high as with Chinese prose (.80
    against .72), so a mixed passage that counted as Latin would pass all Chinese ones. Figures: docs/quality.md.

    >>> passage_script("使用 apt-get install build-essential 安装"), passage_script("apt-get install")
    (<Script.HAN: 'han'>, <Script.LATIN: 'latin'>)
    """
    han = 3 * len(_HAN.findall(text))
    return Script.HAN if han and han * 20 >= han + len(_LATIN.findall(text)) else Script.LATIN


def phrase_form(text: str) -> str:
    """A text without case, width, spaces and punctuation, to look a query up in a passage as it
    stands.
    """
    return _NOT_PHRASE.sub("", unicodedata.normalize("NFKC", text).casefold())


def idf(df: float, passages: float) -> float:
    """BM25's inverse document frequency: ln(1 + (N - n + 0.5) / (n + 0.5)); never negative."""
    return log(1.0 + (passages - df + 0.5) / (df + 0.5))


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights divided by their sum, so that a passage with every term in plenty reaches 1."""
    total = sum(weights.values())
    return {term: weight / total for term, weight in weights.items()} if total > 0 else {}


def saturate(tf: float, length: float, average: float, *, b: float = B) -> float:
    """BM25's term frequency: tf / (tf + k1 (1 - b + b length/average)), from 0 to 1."""
    return tf / (tf + K1 * (1.0 - b + b * length / average)) if tf else 0.0


def coverage(
    weights: Mapping[str, float], found: Sequence[str], average: float, *, b: float = B
) -> float:
    """The weighted share of `weights` (summing to 1) that a text with the terms `found` covers."""
    counts = Counter(found)
    return sum(
        weight * saturate(counts[term], len(found), average, b=b)
        for term, weight in weights.items()
        if term in counts
    )


def unique(found: Iterable[str]) -> list[str]:
    """Terms without repetition, in order."""
    return list(dict.fromkeys(found))
