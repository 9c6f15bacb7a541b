"""Whether the cited words support a sentence that a chat model wrote."""

import re
from collections.abc import Mapping

from pipeline.analyze import script_of, terms
from pipeline.types import Verdict

_SUPPORTED = 0.6
_WEAK = 0.35
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def support(weights: Mapping[str, float], passage: str) -> float:
    """The weighted share of a sentence's terms (summing to 1) that stand in a passage."""
    there = set(terms(passage))
    return min(1.0, sum(weight for term, weight in weights.items() if term in there))


def verdict(sentence: str, passage: str, share: float) -> Verdict:
    """Supported from a share of 0.6, weak from 0.35; a number that the passage lacks is never supported.

    Words say little between two scripts: there a sentence whose numbers agree is weak, not unsupported.
    """
    numbers = {n.replace(",", "") for n in _NUMBER.findall(sentence)}
    if numbers - {n.replace(",", "") for n in _NUMBER.findall(passage)}:
        return Verdict.UNSUPPORTED
    if share >= _SUPPORTED:
        return Verdict.SUPPORTED
    if share >= _WEAK or script_of(sentence) is not script_of(passage):
        return Verdict.WEAK
    return Verdict.UNSUPPORTED
