"""Late interaction: a reranker that reads stored token vectors instead of the passages."""

from collections.abc import Sequence

import numpy as np

from pipeline.ports import EncodedQuery, TokenVectors
from pipeline.types import Hit, Vectors


class MaxSimReranker:
    """Implements the port Reranker with MaxSim (Khattab and Zaharia 2020, ColBERT).

    A hit's score is the mean, over the query's tokens, of the best cosine with one of the passage's
    tokens: -1 to 1, and comparable within one script only.
    """

    def __init__(self, tokens: TokenVectors) -> None:
        self._tokens = tokens

    async def score(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[float]:
        """One float a hit. A hit without stored token vectors gets the mean of the others, which
        leaves its place to its other scores; without any to compare, every hit gets 0.
        """
        if query.tokens is None or not len(query.tokens):
            return [0.0] * len(hits)
        stored = self._tokens.get([hit.chunk.key for hit in hits])
        known = {
            number: tokens
            for number, tokens in enumerate(stored)
            if tokens is not None and len(tokens)
        }
        if not known:
            return [0.0] * len(hits)
        found = maxsim(query.tokens, list(known.values()))
        scores = np.full(len(hits), found.mean())
        scores[list(known)] = found
        return [float(score) for score in scores]


def maxsim(query: Vectors, passages: Sequence[Vectors]) -> Vectors:
    """Scores (passages,) of unit token vectors: `query` (q, dim) and each passage (t, dim), q and t
    at least 1.
    """
    starts = np.cumsum([0, *(len(passage) for passage in passages[:-1])])
    cosines = query @ np.concatenate(passages).T
    best = np.maximum.reduceat(cosines, starts, axis=1)
    return np.asarray(best.mean(axis=0), dtype=np.float32)
