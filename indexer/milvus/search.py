"""Both legs of a search in Milvus, over live rows.

SQL tells what is live: a row of a publish that crashed, or one that was deleted since, may stand in Milvus and is
passed over; a search asks for more hits until enough of them are live. Ties are broken by key.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.milvus.store import MOST_HITS, MilvusStore, among
from indexer.milvus.vocabulary import Vocabulary
from indexer.segments.staged import SCRIPTS
from pipeline.types import Key, Keys, Script, Vectors

EXACT_ROWS = 1_000
"""Up to so many wanted rows are scored from their raw vectors."""
NAMED_ROWS = 32_768
"""Up to so many wanted rows are named to Milvus, some thousand at a time; of more, hits are filtered."""
SLACK = 16
EPSILON = 2e-3
"""How far Milvus's score of a row may lie from the exact one: its vectors and the query are float16."""
TIE = 1e-6
"""Word scores so near each other are a tie: the order of float32 sums is not fixed."""


class RawVectors(Protocol):
    """The stored vectors of the live rows, on disk (indexer/segments/vectors.py)."""

    def score(self, vector: Vectors, keys: Keys) -> Vectors: ...
    def scripts(self, keys: Keys) -> list[Script]: ...
    def centroids(self) -> Mapping[Script, tuple[Vectors, int]]: ...


class MilvusVectors:
    """Implements `pipeline.ports.VectorIndex`: Milvus finds the candidates, their raw vectors give the scores.

    `live` is sorted; `raw` holds the vectors of the same rows.
    """

    def __init__(self, store: MilvusStore, name: str, live: Keys, raw: RawVectors) -> None:
        self._store = store
        self._name = name
        self._live = live
        self._raw = raw

    def search(
        self, vector: Vectors, k: int, allowed: Keys | None, script: Script | None = None
    ) -> list[tuple[Key, float]]:
        """The k best live rows (key, cosine), best first; `allowed` keys and one `script` narrow it."""
        wanted = self._live if allowed is None else allowed[_is_in(allowed, self._live)]
        if k <= 0 or not len(wanted):
            return []
        if len(wanted) <= EXACT_ROWS:
            keys = self._of_script(wanted, script)
        else:
            only = "" if script is None else f"script == {SCRIPTS.index(script)}"

            def fetch(count: int, where: str) -> tuple[Keys, Vectors]:
                both = " and ".join(filter(None, (only, where)))
                return self._store.search_dense(self._name, vector, count, both)

            few = allowed is not None
            keys, _ = _candidates(fetch, min(k, len(wanted)), wanted, EPSILON, few=few)
        scores = self._raw.score(vector, keys)
        best = np.lexsort((keys, -scores))[:k]
        found, values = keys[best].tolist(), scores[best].tolist()
        return [(Key(key), score) for key, score in zip(found, values, strict=True)]

    def score(self, vector: Vectors, keys: Keys) -> Vectors:
        """The cosine (n,) of each key, in their order. Raises KeyError for a key that is not live."""
        return self._raw.score(vector, keys)

    def scripts(self, keys: Keys) -> list[Script]:
        """The script of each key, in their order. Raises KeyError for a key that is not live."""
        return self._raw.scripts(keys)

    def centroids(self) -> Mapping[Script, tuple[Vectors, int]]:
        """Mean vector (dim,) float32 and number of the live rows of each script that has any."""
        return self._raw.centroids()

    def _of_script(self, keys: Keys, script: Script | None) -> Keys:
        if script is None:
            return keys
        return keys[[own is script for own in self._raw.scripts(keys)]]


class MilvusWords:
    """Implements `pipeline.ports.WordIndex`: the inner product of weights and saturated frequencies is the score.

    The frequencies are saturated when a row is put, with the mean length that the generation was given
    (indexer/milvus/vocabulary.py), so the score is the port's and no idf of Milvus's own enters it. `live` is sorted.
    """

    def __init__(self, store: MilvusStore, name: str, live: Keys, words: Vocabulary) -> None:
        self._store = store
        self._name = name
        self._live = live
        self._words = words

    def search(
        self, terms: Mapping[str, float], k: int, allowed: Keys | None
    ) -> list[tuple[Key, float]]:
        """The k best live rows with any of the terms (key, score), best first, ties by key.

        `allowed` (sorted keys) narrows it. Weights of 0 or less are passed over.
        """
        wanted = self._live if allowed is None else allowed[_is_in(allowed, self._live)]
        weights = self._weights(terms)
        k = min(k, len(wanted))
        if k <= 0 or not weights:
            return []

        def fetch(count: int, where: str) -> tuple[Keys, Vectors]:
            return self._store.search_sparse(self._name, weights, count, where)

        keys, scores = _candidates(fetch, k, wanted, TIE, few=allowed is not None)
        order = np.lexsort((keys, -scores))
        keys, ties = keys[order], _ties(scores[order])
        best = np.lexsort((keys, -ties))[:k]
        found, values = keys[best].tolist(), ties[best].tolist()
        return [(Key(key), score) for key, score in zip(found, values, strict=True)]

    def score(self, terms: Mapping[str, float], keys: Keys) -> Vectors:
        """The score (n,) of each key, in their order; 0 where nothing matches.

        Raises KeyError for a key that is not live.
        """
        keys = np.asarray(keys, np.int64)
        dead = ~_is_in(keys, self._live)
        if dead.any():
            raise KeyError(int(keys[dead][0]))
        weights = self._weights(terms)
        scores = np.zeros(len(keys), np.float32)
        if not weights or not len(keys):
            return scores
        for where in among(np.unique(keys)):
            found, values = self._store.search_sparse(self._name, weights, MOST_HITS, where)
            order = np.argsort(found)
            found, values = found[order], values[order]
            there = _is_in(keys, found)
            scores[there] = values[np.searchsorted(found, keys[there])]
        return scores

    def frequencies(self, terms: Sequence[str]) -> tuple[list[int], int]:
        """In how many rows each term stands, and how many rows there are.

        Deleted rows count until the next publish, in both numbers alike.
        """
        return self._words.frequencies(terms)

    def _weights(self, terms: Mapping[str, float]) -> dict[int, float]:
        """The weights by the numbers of the terms that stand in some row."""
        numbers = self._words.numbers([term for term, weight in terms.items() if weight > 0])
        return {number: terms[term] for term, number in numbers.items()}


def _candidates(
    fetch: Callable[[int, str], tuple[Keys, Vectors]],
    k: int,
    wanted: Keys,
    apart: float,
    *,
    few: bool,
) -> tuple[Keys, Vectors]:
    """At least the k best wanted rows that match at all, and their scores in Milvus.

    More hits are fetched until those that are missing cannot be among the k best: a score may be `apart` from the
    exact one, on both sides. Where hits run out at Milvus's limit, or `few` rows are wanted, their keys are named.
    """
    if few and len(wanted) <= NAMED_ROWS:
        return _named(fetch, k, wanted, apart)
    count = k + SLACK
    while count <= MOST_HITS:
        keys, scores = fetch(count, "")
        there = _is_in(keys, wanted)
        if len(keys) < count:
            return keys[there], scores[there]
        enough = np.flatnonzero(there)
        if len(enough) >= k and scores[-1] < scores[enough[k - 1]] - 2 * apart:
            return keys[there], scores[there]
        count = MOST_HITS if count < MOST_HITS < 4 * count else 4 * count
    return _named(fetch, k, wanted, apart)


def _named(
    fetch: Callable[[int, str], tuple[Keys, Vectors]], k: int, wanted: Keys, apart: float
) -> tuple[Keys, Vectors]:
    """All of the wanted rows that match, of each some thousand of them those that may be among the k best."""
    keys: list[Keys] = []
    scores: list[NDArray[np.float32]] = []
    for where in among(wanted):
        count = k + SLACK
        while True:
            found, values = fetch(count, where)
            whole = len(found) < count or count >= MOST_HITS
            if whole or values[-1] < values[k - 1] - 2 * apart:
                break
            count = min(4 * count, MOST_HITS)
        keys.append(found)
        scores.append(values)
    return np.concatenate(keys), np.concatenate(scores)


def _is_in(keys: Keys, sorted_keys: Keys) -> NDArray[np.bool_]:
    """Which keys are in `sorted_keys`."""
    if not len(sorted_keys):
        return np.zeros(len(keys), np.bool_)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    there: NDArray[np.bool_] = sorted_keys[at] == keys
    return there


def _ties(scores: Vectors) -> Vectors:
    """Descending scores, each replaced by the highest of its tie."""
    new = np.diff(scores, prepend=np.float32(np.inf)) < -TIE
    highest: Vectors = scores[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return highest
