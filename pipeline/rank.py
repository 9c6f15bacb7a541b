"""Candidates to hits: ordered by their fused score, the best of them by a reranker."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.analyze import phrase_form
from pipeline.calibration import Calibration
from pipeline.fuse import fused, reranked
from pipeline.ports import EncodedQuery, Reranker
from pipeline.types import Chunk, Hit, Key, Leg, SearchMode, Vectors


def ranked(
    chunks: Sequence[Chunk], legs: Mapping[Leg, Vectors], mode: SearchMode, calibration: Calibration
) -> list[Hit]:
    """Hits by their fused score, best first; ties by key."""
    zero = np.zeros(len(chunks), dtype=np.float32)
    scores = fused(
        legs.get(Leg.DENSE, zero),
        legs.get(Leg.WORDS, zero),
        legs.get(Leg.PHRASE, zero),
        mode,
        calibration,
    )
    legs = {**legs, Leg.FUSED: scores}
    hits = [
        Hit(chunk, float(scores[i]), {leg: float(values[i]) for leg, values in legs.items()})
        for i, chunk in enumerate(chunks)
    ]
    return sorted(hits, key=_best_first)


async def rerank_best(
    query: EncodedQuery,
    hits: list[Hit],
    reranker: Reranker,
    top_k: int,
    calibration: Calibration,
) -> list[Hit]:
    """The hits with their best ones in the order that the reranker gives them."""
    leads = calibration.rerank_leads
    # Where the reranker's scores lead, all that are shown have one.
    depth = max(calibration.rerank_depth, top_k if leads else 0)
    head, tail = hits[:depth], hits[depth:]
    if not head:
        return hits
    rerank = np.asarray(await reranker.score(query, head), dtype=np.float32)
    if not rerank.any():  # the collection stores no token vectors
        return hits
    before = np.asarray([hit.score for hit in head], dtype=np.float32)
    scripts = [hit.chunk.script for hit in head]
    scores = rerank if leads else reranked(before, rerank, scripts, calibration.rerank)
    head = [
        Hit(hit.chunk, float(score), {**hit.scores, Leg.RERANK: float(extra)})
        for hit, score, extra in zip(head, scores, rerank, strict=True)
    ]
    # `head` comes in the order of its fused scores and the sort is stable: those break ties.
    return sorted(head, key=(lambda hit: -hit.score) if leads else _best_first) + tail


def phrases(text: str, chunks: Sequence[Chunk], words: Vectors) -> Vectors:
    """1 where the query stands in the passage as it is; only a passage with one of its words can hold it."""
    phrase = phrase_form(text)
    if len(phrase) <= 2:
        return np.zeros(len(chunks), dtype=np.float32)
    return np.asarray(
        [
            float(score > 0 and phrase in phrase_form(f"{chunk.context}\n{chunk.text}"))
            for chunk, score in zip(chunks, words, strict=True)
        ],
        dtype=np.float32,
    )


def _best_first(hit: Hit) -> tuple[float, Key]:
    return -hit.score, hit.chunk.key
