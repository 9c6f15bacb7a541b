"""The dense leg: candidates from every segment, and exact scores from the raw vectors."""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.segments.live import LiveRows
from indexer.segments.rows import Found, RowIndex, Wanted
from indexer.segments.segment import Segment
from indexer.segments.staged import SCRIPTS
from pipeline.errors import IndexMismatch
from pipeline.quantise import dequantise
from pipeline.types import Key, Keys, Script, Vectors

EXACT_ROWS = 1000
"""Up to so many wanted rows are scored from the raw vectors (a microsecond a row). More go to FAISS with
a bitmap of the wanted rows, which is several times quicker a row (bench/index_legs.py)."""
SLACK = 16
ROUGH = 0.03
"""How far two scores that indexes know can be apart from their cosines: a code of 8 bits is off by half a
step in each dimension, together by no more than sqrt(dim) half steps: 0.016 for vectors of any width."""
EPSILON = 1e-5
"""How far the two ways of adding up one float32 product can be apart, for unit vectors."""


def on_cpu(segments: Sequence[Segment]) -> list[RowIndex]:
    """The indexes that lie on the disk with the segments."""
    return [segment.index for segment in segments]


class SegmentedVectors:
    """Implements `pipeline.ports.VectorIndex` over segments; `live` is sorted.

    A cosine is the float32 product of the query and the stored float16 vector. Both are unit
    vectors; rounding to float16 changes a length by less than 0.0005, which is left as it is, so that
    every index and the raw vectors agree. Ties are broken by key, so results do not depend on segments.
    `place` says which index searches each segment's rows (indexer/segments/gpu.py has another).
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        live: Keys | LiveRows,
        *,
        exact_rows: int = EXACT_ROWS,
        place: Callable[[Sequence[Segment]], Sequence[RowIndex]] = on_cpu,
    ) -> None:
        dims = {segment.dim for segment in segments}
        if len(dims) > 1:
            raise IndexMismatch(
                f"the index holds vectors of {' and '.join(map(str, sorted(dims)))} dimensions: "
                "re-index the collection"
            )
        self._segments = tuple(segments)
        self._indexes = tuple(place(segments))
        self._dim = next(iter(dims), None)
        self._live = live if isinstance(live, LiveRows) else LiveRows.of(segments, live)
        self._exact_rows = exact_rows
        self._centroids: dict[Script, tuple[Vectors, int]] | None = None
        self._lock = threading.Lock()

    def search(
        self, vector: Vectors, k: int, allowed: Keys | None, script: Script | None = None
    ) -> list[tuple[Key, float]]:
        """The k best live rows (key, cosine), best first; `allowed` keys and one `script` narrow it.

        `vector` (dim,), float32, length 1. As many come back as there are, up to k. Raises IndexMismatch
        when its dimension is another.
        """
        vector = self._checked(vector)
        if allowed is None:
            wanted = self._live.all_of(script)
        else:
            wanted = self._live.among(np.asarray(allowed, np.int64), script)
        count = sum(rows.count for rows in wanted)
        k = min(k, count)
        if k <= 0:
            return []
        if count <= self._exact_rows:
            rows_of = [rows.rows if rows.count else _NONE for rows in wanted]
            scores = self._scores(vector, rows_of)
        else:
            rows_of, scores = self._candidates(vector, k, wanted)
        keys = np.concatenate(
            [segment.keys[rows] for segment, rows in zip(self._segments, rows_of, strict=True)]
        )
        together = np.concatenate(scores)
        best = np.lexsort((keys, -together))[:k]
        found = zip(keys[best].tolist(), together[best].tolist(), strict=True)
        return [(Key(key), score) for key, score in found]

    def score(self, vector: Vectors, keys: Keys) -> Vectors:
        """The cosine (n,) of each key, in their order. Raises KeyError for a key that is not live."""
        vector = self._checked(vector)
        owners, rows = self._live.where(keys)
        scores = np.empty(len(rows), np.float32)
        for owner in np.unique(owners):
            mine = np.flatnonzero(owners == owner)
            scores[mine] = _products(self._segments[owner], rows[mine], vector)
        return scores

    def scripts(self, keys: Keys) -> list[Script]:
        """The script of each key, in their order. Raises KeyError for a key that is not live."""
        owners, rows = self._live.where(keys)
        places = zip(owners.tolist(), rows.tolist(), strict=True)
        return [SCRIPTS[self._segments[owner].scripts[row]] for owner, row in places]

    def centroids(self) -> Mapping[Script, tuple[Vectors, int]]:
        """Mean vector (dim,) float32 and number of the live rows of each script that has any."""
        with self._lock:
            if self._centroids is None:
                self._centroids = self._means()
            return self._centroids

    def _checked(self, vector: Vectors) -> Vectors:
        if self._dim is not None and vector.shape != (self._dim,):
            raise IndexMismatch(
                f"the index holds vectors of {self._dim} dimensions, the query has {vector.shape}: "
                "re-index the collection, or set the old embedder again"
            )
        return np.ascontiguousarray(vector, np.float32)

    def _candidates(
        self, vector: Vectors, k: int, wanted: Sequence[Wanted]
    ) -> tuple[list[NDArray[np.int64]], list[Vectors]]:
        """At least the k best rows a segment, as far as its index knows them, and their exact scores.

        Each segment is asked for a few more than k, and again for twice as many while a row it has not
        shown could still be among the k best (many equal vectors, say).
        """
        asked = [k + SLACK] * len(self._segments)
        found = self._shown(vector, dict(enumerate(asked)), wanted)
        while True:
            rough = _at(np.concatenate([shown.scores for shown in found.values()]), k) - ROUGH
            rows_of = [shown.rows[shown.scores >= rough] for shown in found.values()]
            scores = self._scores(vector, rows_of)
            worst = _at(np.concatenate(scores), k) - EPSILON
            short = [i for i, shown in found.items() if shown.limit >= worst]
            if not short:
                return rows_of, scores
            for i in short:
                asked[i] *= 2
            found |= self._shown(vector, {i: asked[i] for i in short}, wanted)

    def _shown(
        self, vector: Vectors, asked: Mapping[int, int], wanted: Sequence[Wanted]
    ) -> dict[int, Found]:
        """What these segments show, each asked for so many rows, all at once."""
        begun = {i: self._indexes[i].begin(vector, asked[i], wanted[i]) for i in asked}
        return {i: finish() for i, finish in begun.items()}

    def _scores(self, vector: Vectors, rows_of: Sequence[NDArray[np.int64]]) -> list[Vectors]:
        pairs = zip(self._segments, rows_of, strict=True)
        return [_products(segment, rows, vector) for segment, rows in pairs]

    def _means(self) -> dict[Script, tuple[Vectors, int]]:
        means = {}
        sums, counts = np.zeros((len(SCRIPTS), self._dim or 0)), np.zeros(len(SCRIPTS), np.int64)
        for own_sums, own_counts in self._live.sums():
            sums += own_sums
            counts += own_counts
        for code, script in enumerate(SCRIPTS):
            if counts[code]:
                mean = (sums[code] / counts[code]).astype(np.float32)
                means[script] = (mean, int(counts[code]))
        return means


class StoredTokens:
    """Implements `pipeline.ports.TokenVectors` over segments; `live` is sorted."""

    def __init__(self, segments: Sequence[Segment], live: Keys | LiveRows) -> None:
        self._segments = tuple(segments)
        self._live = live if isinstance(live, LiveRows) else LiveRows.of(segments, live)

    def get(self, keys: Sequence[Key]) -> list[Vectors | None]:
        """Unit token vectors (tokens, token_dim) float32 of each key, None where none are stored.

        Raises KeyError for a key that is not live.
        """
        owners, rows = self._live.where(np.asarray(keys, np.int64))
        stored = (
            self._segments[owner].tokens_of(row)
            for owner, row in zip(owners.tolist(), rows.tolist(), strict=True)
        )
        return [None if codes is None else dequantise(codes) for codes in stored]


_NONE = np.empty(0, np.int64)


def _at(scores: Vectors, k: int) -> float:
    """The k-th best of at least k scores."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _products(segment: Segment, rows: NDArray[np.int64], vector: Vectors) -> Vectors:
    products: Vectors = np.vecdot(segment.vectors[rows].astype(np.float32), vector)
    return products
