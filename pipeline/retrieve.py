"""The read path to ranked hits: candidates of each leg, exact scores for their union, fused, reranked."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import ParamSpec, TypeVar

import numpy as np

from pipeline.analyze import phrase_form, terms, unique
from pipeline.calibration import Calibration, QueryTerms, weigh
from pipeline.errors import TooLarge
from pipeline.extract import page_of
from pipeline.fuse import fused, reranked, shifted
from pipeline.ports import (
    Embedder,
    EncodedQuery,
    Reranker,
    Snapshot,
    TokenVectors,
)
from pipeline.types import (
    Chunk,
    Citation,
    Embeddings,
    Hit,
    Key,
    Keys,
    Leg,
    Query,
    Script,
    SearchMode,
    Vectors,
)

P = ParamSpec("P")
T = TypeVar("T")

_MOST_WHOLE = 4000
"""Passages that are scored sentence by sentence in one answer: about a thousand pages."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Hits, best first, with what the answer path needs of the query, and milliseconds a stage.

    `whole` says that the hits are all chunks of the chosen documents.
    """

    hits: tuple[Hit, ...]
    terms: QueryTerms
    snapshot: Snapshot
    timings_ms: Mapping[str, float]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Candidates:
    chunks: Sequence[Chunk]
    legs: Mapping[Leg, Vectors]
    terms: QueryTerms
    stale: bool  # a candidate's row was gone when it was read


class Retriever:
    """Searches one collection at a time. Index and SQL calls run in `pool`, never on the event loop."""

    def __init__(
        self,
        embedder: Embedder,
        open_snapshot: Callable[[str], Snapshot],
        reranker: Callable[[TokenVectors], Reranker] | None,
        calibration: Calibration,
        pool: Executor,
    ) -> None:
        self._embedder = embedder
        self._open_snapshot = open_snapshot
        self._reranker = reranker
        self._calibration = calibration
        self._pool = pool

    async def search(self, query: Query) -> Retrieved:
        """The `top_k` best hits. Raises NotFound for an unknown collection or document."""
        clock = _Clock()
        snapshot = await self.run(self._open_snapshot, query.collection)
        clock.lap("snapshot")
        embeddings = None
        if query.mode is not SearchMode.WORDS:
            embeddings = await self._embedder.embed_queries([query.text])
            clock.lap("embed")
        vector = None if embeddings is None else embeddings.vectors[0]
        found = await self.run(self._candidates, snapshot, query, vector)
        if found.stale:  # a document was replaced or deleted meanwhile: look once more
            snapshot = await self.run(self._open_snapshot, query.collection)
            found = await self.run(self._candidates, snapshot, query, vector)
        hits = _ranked(found, query.mode, self._calibration)
        clock.lap("legs")
        if embeddings and query.rerank and self._reranker:
            encoded = _encoded(query.text, embeddings, found.terms)
            hits = await self._rerank(encoded, hits, self._reranker(snapshot.tokens), query.top_k)
            clock.lap("rerank")
        weights = found.terms.weights
        shown = (replace(hit, page=page_of(hit.chunk, weights)) for hit in hits[: query.top_k])
        return Retrieved(tuple(shown), found.terms, snapshot, clock.laps_ms)

    async def read(self, query: Query) -> Retrieved:
        """Every chunk of `query.documents`, scored and best first, however many there are."""
        clock = _Clock()
        embeddings = await self._embedder.embed_queries([query.text])
        clock.lap("embed")
        snapshot = await self.run(self._open_snapshot, query.collection)
        found = await self.run(self._whole, snapshot, query, embeddings.vectors[0])
        if found.stale:
            snapshot = await self.run(self._open_snapshot, query.collection)
            found = await self.run(self._whole, snapshot, query, embeddings.vectors[0])
        hits = _ranked(found, query.mode, self._calibration)
        clock.lap("legs")
        return Retrieved(tuple(hits), found.terms, snapshot, clock.laps_ms, whole=True)

    def _whole(self, snapshot: Snapshot, query: Query, vector: Vectors) -> _Candidates:
        keys = snapshot.keys_of(query.documents or ())
        if len(keys) > _MOST_WHOLE:
            raise TooLarge(
                f"the chosen documents have {len(keys)} passages and at most {_MOST_WHOLE} are read whole: choose "
                'fewer documents, or use mode "chunks"'
            )
        chunks = snapshot.chunks([Key(int(key)) for key in keys])
        weights = self.weigh(snapshot, query.text)
        legs = self.exact(snapshot, query, vector, chunks, weights)
        return _Candidates(chunks, legs, weights, stale=len(chunks) < len(keys))

    def _candidates(self, snapshot: Snapshot, query: Query, vector: Vectors | None) -> _Candidates:
        """The best of each leg; every member of the union gets the exact score of every leg."""
        allowed = None if query.documents is None else snapshot.keys_of(query.documents)
        weights = self.weigh(snapshot, query.text)
        limit = max(self._calibration.candidates, query.top_k)
        keys: dict[Key, None] = {}
        if vector is not None:
            for script in snapshot.vectors.centroids():
                best = snapshot.vectors.search(vector, limit, allowed, script)
                keys.update((key, None) for key, _ in best)
        if query.mode is not SearchMode.DENSE:
            best = snapshot.words.search(weights.weights, limit, allowed)
            keys.update((key, None) for key, _ in best)
        chunks = snapshot.chunks(list(keys))
        legs = self.exact(snapshot, query, vector, chunks, weights)
        return _Candidates(chunks, legs, weights, stale=len(chunks) < len(keys))

    def weigh(self, snapshot: Snapshot, text: str) -> QueryTerms:
        """The query's terms, weighted by how rare they are in this collection."""
        found = unique(terms(text))
        return weigh(found, *snapshot.words.frequencies(found), self._calibration.background)

    def exact(
        self,
        snapshot: Snapshot,
        query: Query,
        vector: Vectors | None,
        chunks: Sequence[Chunk],
        weights: QueryTerms,
    ) -> dict[Leg, Vectors]:
        """One array a leg that takes part, one score a chunk."""
        keys: Keys = np.asarray([chunk.key for chunk in chunks], dtype=np.int64)
        legs: dict[Leg, Vectors] = {}
        if vector is not None:
            cosines = snapshot.vectors.score(vector, keys)
            scripts = [chunk.script for chunk in chunks]
            legs[Leg.DENSE] = shifted(cosines, scripts, self._means(snapshot, vector))
        if query.mode is not SearchMode.DENSE:
            legs[Leg.WORDS] = snapshot.words.score(weights.weights, keys)
            legs[Leg.PHRASE] = _phrases(query.text, chunks, legs[Leg.WORDS])
        return legs

    def _means(self, snapshot: Snapshot, vector: Vectors) -> dict[Script, float]:
        background = self._calibration.background
        return {
            script: float(vector @ background.mean(script, mean, count))
            for script, (mean, count) in snapshot.vectors.centroids().items()
        }

    async def located(
        self, snapshot: Snapshot, citations: Sequence[Citation]
    ) -> tuple[Citation, ...]:
        """Citations with the page and the line boxes of their own words, not of their chunk."""
        found: list[Citation] = []
        for citation in citations:
            page, boxes = await self.run(
                snapshot.locate,
                citation.document,
                citation.version,
                citation.start,
                citation.end,
            )
            found.append(replace(citation, page=page or citation.page, boxes=boxes))
        return tuple(found)

    async def _rerank(
        self, query: EncodedQuery, hits: list[Hit], reranker: Reranker, top_k: int
    ) -> list[Hit]:
        leads = self._calibration.rerank_leads
        # Where the reranker's scores lead, all that are shown have one.
        depth = max(self._calibration.rerank_depth, top_k if leads else 0)
        head, tail = hits[:depth], hits[depth:]
        if not head:
            return hits
        rerank = np.asarray(await reranker.score(query, head), dtype=np.float32)
        if not rerank.any():  # the collection stores no token vectors
            return hits
        before = np.asarray([hit.score for hit in head], dtype=np.float32)
        scripts = [hit.chunk.script for hit in head]
        scores = rerank if leads else reranked(before, rerank, scripts, self._calibration.rerank)
        head = [
            Hit(hit.chunk, float(score), {**hit.scores, Leg.RERANK: float(extra)})
            for hit, score, extra in zip(head, scores, rerank, strict=True)
        ]
        # `head` comes in the order of its fused scores and the sort is stable: those break ties.
        return sorted(head, key=(lambda hit: -hit.score) if leads else _best_first) + tail

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that computes or reads in the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))


def _ranked(found: _Candidates, mode: SearchMode, calibration: Calibration) -> list[Hit]:
    zero = np.zeros(len(found.chunks), dtype=np.float32)
    scores = fused(
        found.legs.get(Leg.DENSE, zero),
        found.legs.get(Leg.WORDS, zero),
        found.legs.get(Leg.PHRASE, zero),
        mode,
        calibration,
    )
    legs = {**found.legs, Leg.FUSED: scores}
    hits = [
        Hit(chunk, float(scores[i]), {leg: float(values[i]) for leg, values in legs.items()})
        for i, chunk in enumerate(found.chunks)
    ]
    return sorted(hits, key=_best_first)


def _best_first(hit: Hit) -> tuple[float, Key]:
    return -hit.score, hit.chunk.key


def _encoded(text: str, embeddings: Embeddings, found: QueryTerms) -> EncodedQuery:
    tokens = embeddings.tokens[0] if embeddings.tokens is not None else None
    return EncodedQuery(text, embeddings.vectors[0], tokens, found.weights)


def _phrases(text: str, chunks: Sequence[Chunk], words: Vectors) -> Vectors:
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


class _Clock:
    def __init__(self) -> None:
        self.laps_ms: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.laps_ms[stage] = round((now - self._last) * 1000, 3)
        self._last = now
