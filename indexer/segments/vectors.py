"""The dense leg: FAISS and exact scores over the live rows of several segments."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.segments.files import load_faiss
from indexer.segments.segment import Segment
from indexer.segments.staged import SCRIPTS
from pipeline.errors import DamagedIndex, IndexMismatch
from pipeline.quantise import dequantise
from pipeline.types import Key, Keys, Script, Vectors

EXACT_ROWS = 1000
"""Up to so many wanted rows are scored from the raw vectors (a microsecond a row). More go to FAISS with
a bitmap of the wanted rows: an fp16 quantiser holds the same numbers, so nothing is lost, and it is
several times quicker a row (bench/index_legs.py)."""
SLACK = 16
EPSILON = 1e-5
"""How far the two ways of adding up one float32 product can be apart, for unit vectors."""

Chosen = NDArray[np.bool_]


class LiveRows:
    """Where each live key is: `owner` its segment's place and `row` its row, aligned with `live`.

    Raises DamagedIndex when a live key is in no segment, or in two.
    """

    def __init__(self, segments: Sequence[Segment], live: Keys) -> None:
        self.live = live
        self.owner = np.full(len(live), -1, np.int32)
        self.row = np.zeros(len(live), np.int64)
        self.rows_of: list[NDArray[np.int64]] = []
        self.places_of: list[NDArray[np.int64]] = []
        for i, segment in enumerate(segments):
            rows = segment.rows_of(live)
            places = np.searchsorted(live, segment.keys[rows])
            self.owner[places], self.row[places] = i, rows
            self.rows_of.append(rows)
            self.places_of.append(places)
        if sum(map(len, self.rows_of)) != len(live) or (self.owner < 0).any():
            raise DamagedIndex(
                "the index does not hold every passage exactly once: restore it from a backup, or "
                "re-index the collection"
            )

    def places(self, keys: Keys) -> NDArray[np.int64]:
        """The place of each key in `live` (n,). Raises KeyError for a key that is not live."""
        keys = np.asarray(keys, np.int64)
        places, there = _find(self.live, keys)
        if not there.all():
            raise KeyError(int(keys[~there][0]))
        return places

    def chosen(self, keys: Keys) -> Chosen:
        """Which live keys are in `keys`, as a mask over `live`; keys that are not live are passed over."""
        places, there = _find(self.live, np.asarray(keys, np.int64))
        mask = np.zeros(len(self.live), np.bool_)
        mask[places[there]] = True
        return mask


class SegmentedVectors:
    """Implements `pipeline.ports.VectorIndex` over segments; `live` is sorted.

    A cosine is the float32 product of the query and the stored float16 vector. Both are unit
    vectors; rounding to float16 changes a length by less than 0.0005, which is left as it is, so that
    FAISS and the raw vectors agree. Ties are broken by key, so results do not depend on segments.
    """

    def __init__(
        self, segments: Sequence[Segment], live: Keys, *, exact_rows: int = EXACT_ROWS
    ) -> None:
        dims = {segment.dim for segment in segments}
        if len(dims) > 1:
            raise IndexMismatch(
                f"the index holds vectors of {' and '.join(map(str, sorted(dims)))} dimensions: "
                "re-index the collection"
            )
        self._segments = tuple(segments)
        self._dim = next(iter(dims), None)
        self._rows = LiveRows(segments, live)
        self._scripts = np.zeros(len(live), np.uint8)
        for i, segment in enumerate(segments):
            self._scripts[self._rows.places_of[i]] = segment.scripts[self._rows.rows_of[i]]
        self._exact_rows = exact_rows
        self._centroids: dict[Script, tuple[Vectors, int]] | None = None
        self._lock = threading.Lock()

    def search(
        self, vector: Vectors, k: int, allowed: Keys | None, script: Script | None = None
    ) -> list[tuple[Key, float]]:
        """The k best live rows (key, cosine), best first; `allowed` keys and one `script` narrow it.

        `vector` (dim,), float32, length 1. Raises IndexMismatch when its dimension is another.
        """
        vector = self._checked(vector)
        chosen = self._choose(allowed, script)
        count = len(self._rows.live) if chosen is None else int(chosen.sum())
        k = min(k, count)
        if k <= 0:
            return []
        if count <= self._exact_rows:
            all_of = np.arange(len(self._rows.live)) if chosen is None else np.flatnonzero(chosen)
        else:
            all_of = self._candidates(vector, k, chosen)
        scores = self._score(vector, all_of)
        best = np.lexsort((all_of, -scores))[:k]  # places ascend with keys
        keys = self._rows.live[all_of[best]].tolist()
        return [(Key(key), score) for key, score in zip(keys, scores[best].tolist(), strict=True)]

    def score(self, vector: Vectors, keys: Keys) -> Vectors:
        """The cosine (n,) of each key, in their order. Raises KeyError for a key that is not live."""
        vector = self._checked(vector)
        return self._score(vector, self._rows.places(keys))

    def scripts(self, keys: Keys) -> list[Script]:
        """The script of each key, in their order. Raises KeyError for a key that is not live."""
        return [SCRIPTS[code] for code in self._scripts[self._rows.places(keys)].tolist()]

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

    def _choose(self, allowed: Keys | None, script: Script | None) -> Chosen | None:
        """The wanted rows as a mask over `live`, None for all of them."""
        chosen = None if allowed is None else self._rows.chosen(allowed)
        if script is not None:
            of = self._scripts == SCRIPTS.index(script)
            chosen = of if chosen is None else chosen & of
        return None if chosen is None or chosen.all() else chosen

    def _candidates(self, vector: Vectors, k: int, chosen: Chosen | None) -> NDArray[np.int64]:
        """Places of at least the k best rows: all that FAISS scores no lower than the k-th.

        Each segment is asked for a few more than k, and again for twice as many while a row it has not
        shown could still be among the k best (many equal vectors, say).
        """
        asked = [k + SLACK] * len(self._segments)
        found: list[tuple[Vectors, NDArray[np.int64], bool] | None] = [None] * len(self._segments)
        while True:
            for i, hits in enumerate(found):
                if hits is None:
                    found[i] = self._ask(i, vector, asked[i], chosen)
            shown = [hits for hits in found if hits is not None]
            scores = np.concatenate([s for s, _, _ in shown])
            worst = np.partition(scores, len(scores) - k)[len(scores) - k] - EPSILON
            short = [i for i, (s, _, whole) in enumerate(shown) if not whole and s[-1] >= worst]
            if not short:
                places = np.concatenate([places for _, places, _ in shown])
                return np.sort(places[scores >= worst])
            for i in short:
                asked[i] *= 2
                found[i] = None

    def _ask(
        self, i: int, vector: Vectors, count: int, chosen: Chosen | None
    ) -> tuple[Vectors, NDArray[np.int64], bool]:
        """FAISS scores and places of the best rows of one segment, and whether those are all it has."""
        segment, places = self._segments[i], self._rows.places_of[i]
        rows = self._rows.rows_of[i]
        if chosen is not None:
            wanted = chosen[places]
            rows, places = rows[wanted], places[wanted]
        if not len(rows):
            return np.empty(0, np.float32), np.empty(0, np.int64), True
        faiss = load_faiss()
        options: dict[str, Any] = {}
        if len(rows) < len(segment):
            mask = np.zeros(len(segment), np.bool_)
            mask[rows] = True
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            options["params"] = faiss.SearchParameters(sel=selector)
        scores, found = segment.index.search(vector[None], min(count, len(rows)), **options)
        there = places[np.searchsorted(rows, found[0])]
        return scores[0], there, count >= len(rows)

    def _score(self, vector: Vectors, places: NDArray[np.int64]) -> Vectors:
        scores = np.empty(len(places), np.float32)
        owners = self._rows.owner[places]
        for owner in np.unique(owners):
            mine = np.flatnonzero(owners == owner)
            rows = self._segments[owner].vectors[self._rows.row[places[mine]]]
            scores[mine] = np.vecdot(rows.astype(np.float32), vector)
        return scores

    def _means(self) -> dict[Script, tuple[Vectors, int]]:
        means = {}
        counts = np.bincount(self._scripts, minlength=len(SCRIPTS))
        sums = np.sum([np.zeros((len(SCRIPTS), self._dim or 0)), *self._sums()], axis=0)
        for code, script in enumerate(SCRIPTS):
            if counts[code]:
                mean = (sums[code] / counts[code]).astype(np.float32)
                means[script] = (mean, int(counts[code]))
        return means

    def _sums(self) -> Iterator[NDArray[np.float64]]:
        """Sums of the live rows a segment and script, from the smaller side: the live or the dead."""
        for segment, live in zip(self._segments, self._rows.rows_of, strict=True):
            dead = np.setdiff1d(np.arange(len(segment)), live, assume_unique=True)
            if len(dead) <= len(live):
                yield segment.sums - _sums(segment, dead)
            else:
                yield _sums(segment, live)


class StoredTokens:
    """Implements `pipeline.ports.TokenVectors` over segments; `live` is sorted."""

    def __init__(self, segments: Sequence[Segment], live: Keys) -> None:
        self._segments = tuple(segments)
        self._rows = LiveRows(segments, live)

    def get(self, keys: Sequence[Key]) -> list[Vectors | None]:
        """Unit token vectors (tokens, token_dim) float32 of each key, None where none are stored.

        Raises KeyError for a key that is not live.
        """
        places = self._rows.places(np.asarray(keys, np.int64))
        owners, rows = self._rows.owner[places].tolist(), self._rows.row[places].tolist()
        stored = (
            self._segments[owner].tokens_of(row) for owner, row in zip(owners, rows, strict=True)
        )
        return [None if codes is None else dequantise(codes) for codes in stored]


def _find(live: Keys, keys: Keys) -> tuple[NDArray[np.int64], Chosen]:
    """Places of keys in `live`, and which of them are really there."""
    if not len(live):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
    places = np.minimum(np.searchsorted(live, keys), len(live) - 1)
    return places, live[places] == keys


def _sums(segment: Segment, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = np.zeros_like(segment.sums)
    for code in range(len(SCRIPTS)):
        mine = rows[segment.scripts[rows] == code]
        for at in range(0, len(mine), 8192):
            sums[code] += segment.vectors[mine[at : at + 8192]].sum(axis=0, dtype=np.float64)
    return sums
