"""Measures of retrieval and answers. A ranking is a list of ids, best first."""

from collections.abc import Collection, Sequence
from math import log2

from pipeline.analyze import phrase_form


def ndcg(ranking: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """Normalised discounted cumulative gain at k with gain 1 for each relevant id (Jarvelin and Kekalainen, 2002).

    >>> ndcg(["a", "b"], {"b"})
    0.6309297535714575
    """
    gain = sum(1 / log2(i + 2) for i, found in enumerate(ranking[:k]) if found in relevant)
    ideal = sum(1 / log2(i + 2) for i in range(min(k, len(relevant))))
    return gain / ideal if ideal else 0.0


def recall(ranking: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """The share of relevant ids among the first k."""
    return len(set(ranking[:k]) & set(relevant)) / len(relevant) if relevant else 0.0


def reciprocal_rank(right: Sequence[bool]) -> float:
    """One over the place of the first right hit, counted from 1; 0.0 where none is right (Voorhees, 1999).

    >>> reciprocal_rank([False, True, True])
    0.5
    """
    return next((1 / place for place, each in enumerate(right, 1) if each), 0.0)


def contains(answer: str, golds: Sequence[str]) -> bool:
    """Whether one of the gold answers stands in an answer, case, width, spaces and punctuation aside."""
    said = phrase_form(answer)
    return any(gold and gold in said for gold in map(phrase_form, golds))
