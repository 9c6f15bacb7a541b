"""Text to terms: pairs of characters for Han, stems of words for Latin, the same for queries and
passages.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import log

from snowballstemmer.english_stemmer import EnglishStemmer

from pipeline.types import Script, Span
from pipeline.variants import SIMPLIFIED

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han, Hangul
_LETTER = f"(?:(?![{_CJK}])[^\\W_])"
_RUN = re.compile(f"([{_CJK}]+)|({_LETTER}+(?:[._\\-/+:'’]{_LETTER}+)*(?:\\+\\+|#)?)")
_PART = re.compile(r"[^._\-/+:'’]+")
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


TERMS = "stems_2"
"""The name of this way to make terms: part of a generation, whose word index holds such terms."""


def terms(text: str) -> list[str]:
    """The terms of a text in order, with repetition.

    Joined words stand whole and in parts; a lone Han character stands for itself; English words lose their
    endings (Porter 2, https://snowballstem.org/algorithms/english/stemmer.html).

    >>> terms("保修期24个月, v3.9.3, printed copies")
    ['保修', '修期', '24', '个月', 'v3.9.3', 'v3', '9', '3', 'print', 'copi']
    >>> terms("電腦ＡＢＣ") == terms("电脑abc")
    True
    """
    return [term for term, _ in _found(_folded(text))]


def term_spans(text: str) -> list[tuple[str, Span]]:
    """The terms of a text, each with its place in the text (code points).

    >>> [(term, text[place.start : place.end]) for text in ("Ｌibraries",) for term, place in term_spans(text)]
    [('librari', 'Ｌibraries')]
    """
    letters = [_folded(character) for character in text]
    origin = [place for place, folded in enumerate(letters) for _ in folded]
    return [
        (term, Span(origin[place.start], origin[place.end - 1] + 1))
        for term, place in _found("".join(letters))
    ]


def _folded(text: str) -> str:
    """One form for what a reader takes for the same: case, full and half width, traditional and simplified."""
    return unicodedata.normalize("NFKC", text).casefold().translate(SIMPLIFIED)


def _found(folded: str) -> Iterator[tuple[str, Span]]:
    for run in _RUN.finditer(folded):
        start, end = run.span()
        if run[1]:
            for at in range(start, max(start + 1, end - 1)):
                yield (
                    folded[at : at + 2] if end - start > 1 else folded[at],
                    Span(at, min(at + 2, end)),
                )
            continue
        parts = [part for part in _PART.finditer(run[2]) if len(part[0]) < end - start]
        if run[2] not in STOP_WORDS:
            yield run[2] if parts else _stem(run[2]), Span(start, end)
        for part in parts:
            if part[0] not in STOP_WORDS:
                yield _stem(part[0]), Span(start + part.start(), start + part.end())


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    # A stemmer holds the word that it works on, so threads cannot share one.
    return str(EnglishStemmer().stemWord(word)) if word.isalpha() and word.isascii() else word


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
    """A text without case, width, spaces, punctuation and traditional forms, to look a query up in a passage as it
    stands.
    """
    return _NOT_PHRASE.sub("", _folded(text))


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
