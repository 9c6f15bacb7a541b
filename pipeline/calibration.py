"""Constants of ranking and refusal. They belong to an embedder and are measured, never guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.analyze import idf, shares, unique
from pipeline.types import Script, Vectors


@dataclass(frozen=True, slots=True)
class Background:
    """What an average collection looks like to this embedder, blended into small ones as `weight` pseudo-passages.

    With three passages a mean is nearly a passage itself and every term is rare; the background
    keeps both sane.
    `means`: mean passage vector (dim,) a script. `document_share`: share of background passages
    that hold a term.
    """

    means: Mapping[Script, Vectors]
    document_share: Mapping[str, float]
    weight: float = 50.0

    def mean(self, script: Script, mean: Vectors, count: int) -> Vectors:
        """A collection's mean of `count` passages, blended with the background's."""
        if script not in self.means:
            return mean
        blended = (count * mean + self.weight * self.means[script]) / (count + self.weight)
        return np.asarray(blended, dtype=np.float32)

    def idf(self, term: str, df: int, passages: int) -> float:
        """The idf of a term in the collection and the background together."""
        return idf(df + self.weight * self.document_share.get(term, 0.0), passages + self.weight)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of the score S = cosine (less its script's mean) + coverage x words + phrase x phrase + ...

    Figures and how they were found: docs/quality.md. `refuse_below` is a threshold on the best
    sentence's score. `rerank_leads` is for cross-encoders, whose scores compare across scripts and
    queries: theirs alone orders the hits, and S breaks ties.
    """

    background: Background
    words: float = 0.15
    phrase: float = 0.10
    rerank: float = 0.5
    rerank_depth: int = 30
    rerank_leads: bool = False
    candidates: int = 200
    sentence_words: float = 0.2
    sentence_passage: float = 0.5
    sentence_b: float = 0.3
    answer_passages: int = 3
    refuse_below: float | None = None


NO_BACKGROUND = Background(means={}, document_share={}, weight=0.0)
UNMEASURED = Calibration(NO_BACKGROUND)
"""For an embedder that nothing was measured for: usual weights, no background, never a refusal."""


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """A query's distinct terms with their idf, and the same divided by their sum."""

    idf: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


def weigh(
    found: Sequence[str], frequencies: Sequence[int], passages: int, background: Background
) -> QueryTerms:
    """Weights for the distinct terms of a query; a term that no passage has counts with the idf of
    df 0.
    """
    rare = {
        term: background.idf(term, df, passages)
        for term, df in zip(unique(found), frequencies, strict=True)
    }
    return QueryTerms(idf=rare, weights=shares(rare))
