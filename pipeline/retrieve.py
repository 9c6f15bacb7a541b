"""The read path to ranked hits: candidates of each leg, exact scores for their union, fused, reranked."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import ParamSpec, TypeVar

import numpy as np

from pipeline.analyze import terms, unique
from pipeline.calibration import Calibration, QueryTerms, weigh
from pipeline.errors import IndexMismatch, TooLarge
from pipeline.extract import page_of
from pipeline.fuse import shifted
from pipeline.ports import (
    Embedder,
    EncodedQuery,
    Reranker,
    SentenceScorer,
    Snapshot,
    TokenVectors,
)
from pipeline.rank import phrases, ranked, rerank_best
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
class Space:
    """An embedder and what belongs to it: a snapshot of its vectors is read by these, and by no others.

    `reranker` makes one for a snapshot's token vectors; None does not rerank.
    """

    embedder: Embedder
    scorer: SentenceScorer
    calibration: Calibration
    reranker: Callable[[TokenVectors], Reranker] | None = None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Hits, best first, with what the answer path needs of the query, and milliseconds a stage.

    `space` is that of the snapshot. `whole` says that the hits are all chunks of the chosen documents.
    """

    hits: tuple[Hit, ...]
    terms: QueryTerms
    snapshot: Snapshot
    space: Space
    timings_ms: Mapping[str, float]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Candidates:
    chunks: Sequence[Chunk]
    legs: Mapping[Leg, Vectors]
    terms: QueryTerms
    stale: bool  # a candidate's row was gone when it was read


class _Clock:
    def __init__(self) -> None:
        self.laps_ms: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.laps_ms[stage] = round((now - self._last) * 1000, 3)
        self._last = now


@dataclass(frozen=True, slots=True)
class _Opened:
    """What was found, in which state, by which space."""

    snapshot: Snapshot
    space: Space
    embeddings: Embeddings | None
    found: _Candidates


class Retriever:
    """Searches one collection at a time. Index and SQL calls run in `pool`, never on the event loop.

    A query is embedded by the space of the snapshot that it searches, so that a collection may change its embedder
    while it is asked. `note` is told each query that was answered; it must not wait for anything.
    """

    def __init__(
        self,
        spaces: Sequence[Space],
        open_snapshot: Callable[[str], Snapshot],
        pool: Executor,
        note: Callable[[Query], None] | None = None,
    ) -> None:
        self._note = note
        self._spaces = {space.embedder.fingerprint: space for space in spaces}
        self._open_snapshot = open_snapshot
        self._pool = pool

    @property
    def answer_passages(self) -> int:
        """The most passages that a space reads for an answer."""
        return max(space.calibration.answer_passages for space in self._spaces.values())

    async def search(self, query: Query) -> Retrieved:
        """The `top_k` best hits. Raises NotFound for an unknown collection or document."""
        clock = _Clock()
        opened = await self._find(query, self._candidates, clock)
        snapshot, space, embeddings = opened.snapshot, opened.space, opened.embeddings
        found = opened.found
        hits = ranked(found.chunks, found.legs, query.mode, space.calibration)
        clock.lap("legs")
        if embeddings and query.rerank and space.reranker:
            encoded = _encoded(query.text, embeddings, found.terms)
            reranker = space.reranker(snapshot.tokens)
            hits = await rerank_best(encoded, hits, reranker, query.top_k, space.calibration)
            clock.lap("rerank")
        if self._note is not None:
            self._note(query)
        weights = found.terms.weights
        shown = (replace(hit, page=page_of(hit.chunk, weights)) for hit in hits[: query.top_k])
        return Retrieved(tuple(shown), found.terms, snapshot, space, clock.laps_ms)

    async def read(self, query: Query) -> Retrieved:
        """Every chunk of `query.documents`, scored and best first, however many there are."""
        clock = _Clock()
        opened = await self._find(query, self._whole, clock)
        hits = ranked(opened.found.chunks, opened.found.legs, query.mode, opened.space.calibration)
        clock.lap("legs")
        snapshot, space, weighed = opened.snapshot, opened.space, opened.found.terms
        return Retrieved(tuple(hits), weighed, snapshot, space, clock.laps_ms, whole=True)

    async def _find(
        self,
        query: Query,
        look: Callable[[Snapshot, Query, Vectors | None], _Candidates],
        clock: _Clock,
    ) -> _Opened:
        """Look in the newest state, and once more where a document was replaced or deleted meanwhile."""
        snapshot = await self.run(self._open_snapshot, query.collection)
        clock.lap("snapshot")
        space = self._space(snapshot)
        embeddings = await _embedded(space, query)
        if embeddings is not None:
            clock.lap("embed")
        found = await self.run(look, snapshot, query, _vector(embeddings))
        if found.stale:
            snapshot = await self.run(self._open_snapshot, query.collection)
            if self._space(snapshot) is not space:
                space = self._space(snapshot)
                embeddings = await _embedded(space, query)
            found = await self.run(look, snapshot, query, _vector(embeddings))
        return _Opened(snapshot, space, embeddings, found)

    def _space(self, snapshot: Snapshot) -> Space:
        space = self._spaces.get(snapshot.fingerprint)
        if space is None:
            raise IndexMismatch(
                f"no embedder of this process made these vectors ({snapshot.fingerprint}): start with that one again, "
                "or re-index the collection"
            )
        return space

    def _whole(self, snapshot: Snapshot, query: Query, vector: Vectors | None) -> _Candidates:
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
        limit = max(self._space(snapshot).calibration.candidates, query.top_k)
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
        background = self._space(snapshot).calibration.background
        return weigh(found, *snapshot.words.frequencies(found), background)

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
            legs[Leg.PHRASE] = phrases(query.text, chunks, legs[Leg.WORDS])
        return legs

    def _means(self, snapshot: Snapshot, vector: Vectors) -> dict[Script, float]:
        background = self._space(snapshot).calibration.background
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

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that computes or reads in the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))


async def _embedded(space: Space, query: Query) -> Embeddings | None:
    if query.mode is SearchMode.WORDS:
        return None
    return await space.embedder.embed_queries([query.text])


def _vector(embeddings: Embeddings | None) -> Vectors | None:
    return None if embeddings is None else embeddings.vectors[0]


def _encoded(text: str, embeddings: Embeddings, found: QueryTerms) -> EncodedQuery:
    tokens = embeddings.tokens[0] if embeddings.tokens is not None else None
    return EncodedQuery(text, embeddings.vectors[0], tokens, found.weights)
