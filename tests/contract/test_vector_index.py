"""The dense leg agrees with brute force, through adds, deletes and merges."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from indexer.segments.segment import (
    Segment,
    SegmentCache,
    Staged,
    merge_segments,
    to_merge,
    write_segment,
)
from indexer.segments.vectors import SegmentedVectors, StoredTokens
from pipeline.errors import DamagedIndex, IndexMismatch
from pipeline.quantise import dequantise
from pipeline.types import Script

DIM, TOKEN_DIM = 16, 4
SCRIPTS = tuple(Script)


def unit(rng: np.random.Generator, n: int, dim: int = DIM) -> np.ndarray:
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


TWINS = unit(np.random.default_rng(99), 3).astype(np.float16)
"""Vectors that many rows share, so that ties are common."""


def staged(rng: np.random.Generator, n: int, *, twins: bool, tokens: bool = True) -> Staged:
    vectors = unit(rng, n).astype(np.float16)
    if twins:
        vectors[rng.random(n) < 0.7] = TWINS[rng.integers(3)]
    codes = tuple(
        rng.integers(-127, 128, (int(rng.integers(0, 4)), TOKEN_DIM)).astype(np.int8)
        for _ in range(n)
    )
    scripts = tuple(SCRIPTS[i] for i in rng.integers(0, 2, n))
    return Staged(vectors, codes if tokens else None, scripts)


class Oracle:
    """The same rows in a dict, searched by brute force."""

    def __init__(self) -> None:
        self.vectors: dict[int, np.ndarray] = {}
        self.scripts: dict[int, Script] = {}
        self.tokens: dict[int, np.ndarray] = {}

    def add(self, keys: np.ndarray, rows: Staged) -> None:
        for i, key in enumerate(keys.tolist()):
            self.vectors[key] = rows.vectors[i].astype(np.float64)
            self.scripts[key] = rows.scripts[i]
            self.tokens[key] = rows.tokens[i] if rows.tokens else np.empty((0, TOKEN_DIM), np.int8)

    def remove(self, keys) -> None:
        for key in keys:
            del self.vectors[key], self.scripts[key], self.tokens[key]

    @property
    def live(self) -> np.ndarray:
        return np.array(sorted(self.vectors), np.int64)

    def search(self, vector, k, allowed, script) -> list[tuple[int, float]]:
        scores = {
            key: float(self.vectors[key] @ vector.astype(np.float64))
            for key in self.vectors
            if (allowed is None or key in allowed) and script in (None, self.scripts[key])
        }
        return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))[:k]


class VectorIndexMachine(RuleBasedStateMachine):
    exact_rows = 1000

    @initialize(seed=st.integers(0, 2**32 - 1))
    def start(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.folder = Path(tempfile.mkdtemp())
        self.cache = SegmentCache()
        self.sizes: dict[int, int] = {}
        self.oracle = Oracle()
        self.next_key = self.next_segment = 0

    def path(self, segment: int) -> Path:
        return self.folder / str(segment)

    def opened(self) -> list[Segment]:
        return [self.cache.open(self.path(s), fingerprint="e") for s in self.sizes]

    @rule(n=st.integers(0, 30), twins=st.booleans(), tokens=st.booleans())
    def add(self, n: int, twins: bool, tokens: bool) -> None:
        rows = staged(self.rng, n, twins=twins, tokens=tokens)
        keys = np.arange(self.next_key, self.next_key + n)
        write_segment(self.path(self.next_segment), keys, [rows], fingerprint="e")
        self.sizes[self.next_segment] = n
        self.next_segment += 1
        self.next_key += n
        self.oracle.add(keys, rows)

    @rule(share=st.sampled_from([0.05, 0.5, 1.0]))
    def delete(self, share: float) -> None:
        live = self.oracle.live
        self.oracle.remove(live[self.rng.random(len(live)) < share].tolist())

    @rule(some=st.integers(2, 5))
    def merge_any(self, some: int) -> None:
        self.merge(tuple(self.rng.permutation(list(self.sizes)).tolist()[:some]))

    @rule()
    def merge_by_policy(self) -> None:
        live = set(self.oracle.live.tolist())
        dead = {
            s: len(segment) - len(live & set(segment.keys.tolist()))
            for s, segment in zip(self.sizes, self.opened(), strict=True)
        }
        self.merge(to_merge(self.sizes, dead))

    def merge(self, chosen: tuple[int, ...]) -> None:
        if not chosen:
            return
        old = [Segment.open(self.path(s), fingerprint="e") for s in chosen]
        merged = self.next_segment
        self.next_segment += 1
        n = merge_segments(old, self.oracle.live, self.path(merged), fingerprint="e")
        for s in chosen:
            del self.sizes[s]
            shutil.rmtree(self.path(s))  # what a reader has mapped stays readable
        self.sizes[merged] = n

    @invariant()
    def agrees_with_brute_force(self) -> None:
        live = self.oracle.live
        index = SegmentedVectors(self.opened(), live, exact_rows=self.exact_rows)
        some = live[self.rng.random(len(live)) < 0.4]
        allowed = np.sort(np.concatenate([some, [-5, 10**12]])).astype(np.int64)
        query = unit(self.rng, 1)[0]
        for vector in (query, TWINS[0].astype(np.float32)):
            for keep in (None, allowed):
                for script in (None, Script.HAN):
                    k = int(self.rng.integers(1, 12))
                    hits = index.search(vector, k, keep, script)
                    best = self.oracle.search(
                        vector, k, None if keep is None else set(keep.tolist()), script
                    )
                    assert [key for key, _ in hits] == [key for key, _ in best]
                    assert np.allclose([s for _, s in hits], [s for _, s in best], atol=2e-6)
        shuffled = self.rng.permutation(live)
        exact = [self.oracle.vectors[key] @ query for key in shuffled.tolist()]
        assert np.allclose(index.score(query, shuffled), exact, atol=2e-6)
        assert index.scripts(shuffled) == [self.oracle.scripts[key] for key in shuffled.tolist()]
        self.check_centroids(index)
        self.check_tokens(live)

    def check_centroids(self, index: SegmentedVectors) -> None:
        of = {s: [k for k, v in self.oracle.scripts.items() if v is s] for s in Script}
        centroids = index.centroids()
        assert set(centroids) == {script for script, keys in of.items() if keys}
        for script, (mean, count) in centroids.items():
            assert count == len(of[script])
            assert np.allclose(
                mean, np.mean([self.oracle.vectors[k] for k in of[script]], axis=0), atol=1e-6
            )

    def check_tokens(self, live: np.ndarray) -> None:
        keys = self.rng.permutation(live)[:5].tolist()
        for key, vectors in zip(keys, StoredTokens(self.opened(), live).get(keys), strict=True):
            codes = self.oracle.tokens[key]
            if len(codes):
                assert np.array_equal(vectors, dequantise(codes))
            else:
                assert vectors is None

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


class FaissMachine(VectorIndexMachine):
    exact_rows = 0


quick = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestExactRows = VectorIndexMachine.TestCase
TestExactRows.settings = quick
TestFaissRows = FaissMachine.TestCase
TestFaissRows.settings = quick


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[Segment], Oracle]:
    rng = np.random.default_rng(1)
    oracle, segments = Oracle(), []
    for i in range(4):
        rows, keys = staged(rng, 400, twins=False), np.arange(400) * 4 + i
        write_segment(tmp_path / str(i), keys, [rows], fingerprint="e")
        segments.append(Segment.open(tmp_path / str(i), fingerprint="e"))
        oracle.add(keys, rows)
    return segments, oracle


@pytest.mark.parametrize("exact_rows", [0, 10_000])
def test_every_old_row_finds_itself_after_deletes_and_a_merge(written, tmp_path, exact_rows):
    segments, oracle = written
    oracle.remove(range(0, 1600, 3))
    merge_segments(segments[1:3], oracle.live, tmp_path / "9", fingerprint="e")
    merged = Segment.open(tmp_path / "9", fingerprint="e")
    index = SegmentedVectors([segments[0], segments[3], merged], oracle.live, exact_rows=exact_rows)
    for key in oracle.live.tolist():
        ((found, score),) = index.search(oracle.vectors[key].astype(np.float32), 1, None)
        assert found == key
        assert score > 0.999


@pytest.mark.parametrize("exact_rows", [0, 10_000])
def test_hundreds_of_equal_vectors_come_back_in_the_order_of_their_keys(tmp_path, exact_rows):
    rows = Staged(np.repeat(TWINS[:1], 500, axis=0), None, (Script.HAN,) * 500)
    for i in range(2):
        write_segment(tmp_path / str(i), np.arange(500) * 2 + i, [rows], fingerprint="e")
    segments = [Segment.open(tmp_path / str(i), fingerprint="e") for i in (1, 0)]
    index = SegmentedVectors(segments, np.arange(7, 1000), exact_rows=exact_rows)
    hits = index.search(TWINS[0].astype(np.float32), 30, None)
    assert [key for key, _ in hits] == list(range(7, 37))


def test_a_key_that_is_not_live_has_no_score_and_no_tokens(written):
    segments, oracle = written
    live = oracle.live[1:]
    with pytest.raises(KeyError):
        SegmentedVectors(segments, live).score(TWINS[0].astype(np.float32), np.array([5, 0]))
    with pytest.raises(KeyError):
        StoredTokens(segments, live).get([0])


def test_a_query_of_another_dimension_is_refused(written):
    segments, oracle = written
    with pytest.raises(IndexMismatch, match="re-index"):
        SegmentedVectors(segments, oracle.live).search(np.ones(8, np.float32), 3, None)


def test_a_live_key_without_a_row_is_damage_and_never_fewer_results(written):
    segments, oracle = written
    with pytest.raises(DamagedIndex):
        SegmentedVectors(segments[:3], oracle.live)
    with pytest.raises(DamagedIndex):
        SegmentedVectors([*segments, segments[0]], oracle.live)


def test_an_index_without_rows_finds_nothing():
    index = SegmentedVectors([], np.empty(0, np.int64))
    assert index.search(np.ones(4, np.float32), 5, None) == []
    assert index.centroids() == {}
    assert index.score(np.ones(4, np.float32), np.empty(0, np.int64)).shape == (0,)
