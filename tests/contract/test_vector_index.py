"""The dense leg agrees with brute force, through adds, deletes and merges: flat, in lists, in Milvus, and the fake."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from indexer.milvus import search as searching
from indexer.milvus.search import MilvusVectors
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.segments.ivf import read_ivf
from indexer.segments.rows import ListedRows, RowIndex
from indexer.segments.segment import (
    IndexRule,
    Segment,
    SegmentCache,
    Staged,
    merge_segments,
    to_merge,
    write_segment,
)
from indexer.segments.vectors import SegmentedVectors, StoredTokens, on_cpu
from models.fakes import PlainVectors
from pipeline.errors import DamagedIndex, IndexMismatch
from pipeline.ports import VectorIndex
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


def in_lists(nprobe: int | None) -> Callable[[Sequence[Segment]], list[RowIndex]]:
    """Every segment that has lists is searched in so many of them, however few rows are wanted."""

    def place(segments: Sequence[Segment]) -> list[RowIndex]:
        return [of(segment) for segment in segments]

    def of(segment: Segment) -> RowIndex:
        if segment.index is segment.flat:
            return segment.flat
        index = read_ivf(segment.folder)
        return ListedRows(index, nprobe or index.nlist, segment.flat, few=0)

    return place


class VectorIndexMachine(RuleBasedStateMachine):
    exact_rows = 1000
    index_rule = IndexRule()
    place = staticmethod(on_cpu)

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
        write_segment(
            self.path(self.next_segment), keys, [rows], fingerprint="e", rule=self.index_rule
        )
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
        n = merge_segments(
            old, self.oracle.live, self.path(merged), fingerprint="e", rule=self.index_rule
        )
        for s in chosen:
            del self.sizes[s]
            shutil.rmtree(self.path(s))  # what a reader has mapped stays readable
        self.sizes[merged] = n

    def index(self) -> VectorIndex:
        return self.segmented()

    def segmented(self) -> SegmentedVectors:
        return SegmentedVectors(
            self.opened(), self.oracle.live, exact_rows=self.exact_rows, place=self.place
        )

    @invariant()
    def agrees_with_brute_force(self) -> None:
        live, index = self.oracle.live, self.index()
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
        if not isinstance(index, PlainVectors):
            scripts = [self.oracle.scripts[key] for key in shuffled.tolist()]
            assert index.scripts(shuffled) == scripts
        self.check_centroids(index)
        self.check_tokens(live)

    def check_centroids(self, index: VectorIndex) -> None:
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


class ListsMachine(VectorIndexMachine):
    """All lists are probed, so that nothing but the 8 bits of a code and the bookkeeping could go wrong."""

    exact_rows = 0
    index_rule = IndexRule(flat_rows=10)
    place = staticmethod(in_lists(None))


class FakeMachine(VectorIndexMachine):
    def index(self) -> VectorIndex:
        of = self.oracle
        return PlainVectors(
            {key: (own.astype(np.float16), of.scripts[key]) for key, own in of.vectors.items()}
        )


class MilvusMachine(VectorIndexMachine):
    """Rows go to Milvus beside their segments; of those that die, some stay there until a sweep."""

    store: MilvusStore

    @initialize(seed=st.integers(0, 2**32 - 1))
    def start(self, seed: int) -> None:
        super().start(seed)
        self.name = self.store.name(f"v{self.rng.integers(2**60)}", 1)
        self.store.make(self.name, DIM)

    @rule(n=st.integers(0, 30), twins=st.booleans(), tokens=st.booleans())
    def add(self, n: int, twins: bool, tokens: bool) -> None:
        first = self.next_key
        super().add(n, twins, tokens)
        self.put(np.arange(first, self.next_key), self.oracle)

    @rule(n=st.integers(1, 20))
    def a_publish_crashes_after_its_rows(self, n: int) -> None:
        rubbish = Oracle()
        keys = np.arange(self.next_key, self.next_key + n)
        rubbish.add(keys, staged(self.rng, n, twins=True))
        self.next_key += n
        self.put(keys, rubbish)

    def put(self, keys: np.ndarray, of: Oracle) -> None:
        if len(keys):
            vectors = np.array([of.vectors[key] for key in keys.tolist()], np.float16)
            codes = [SCRIPTS.index(of.scripts[key]) for key in keys.tolist()]
            some = [{1: 1.0}] * len(keys)
            self.store.put(self.name, MilvusRows(keys, np.array(codes, np.uint8), vectors, some))

    @rule()
    def sweep(self) -> None:
        stored = np.concatenate([np.empty(0, np.int64), *self.store.keys(self.name)])
        self.store.delete(self.name, np.setdiff1d(stored, self.oracle.live))

    def index(self) -> VectorIndex:
        return MilvusVectors(self.store, self.name, self.oracle.live, self.segmented())

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "name"):
            self.store.drop(self.name)


quick = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestExactRows = VectorIndexMachine.TestCase
TestExactRows.settings = quick
TestFaissRows = FaissMachine.TestCase
TestFaissRows.settings = quick
TestLists = ListsMachine.TestCase
TestLists.settings = quick
TestFake = FakeMachine.TestCase
TestFake.settings = quick


@pytest.mark.parametrize("exact_rows", [0, 1_000], ids=["milvus", "raw vectors"])
def test_milvus_agrees_with_brute_force(store, monkeypatch, exact_rows):
    monkeypatch.setattr(searching, "EXACT_ROWS", exact_rows)
    case = type("Machine", (MilvusMachine,), {"store": store}).TestCase
    case.settings = settings(max_examples=3, stateful_step_count=6, deadline=None)
    case().runTest()


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


CLUSTERS = unit(np.random.default_rng(98), 40, 32)


def clustered(rng: np.random.Generator, n: int) -> np.ndarray:
    """Vectors as passages lie: a few subjects have most of them (a power law)."""
    weights = 1 / np.arange(1, len(CLUSTERS) + 1)
    vectors = CLUSTERS[rng.choice(len(CLUSTERS), n, p=weights / weights.sum())]
    vectors = vectors + 0.15 * rng.standard_normal(vectors.shape).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> Segment:
    """4,000 rows in lists."""
    folder = tmp_path_factory.mktemp("listed") / "1"
    rng = np.random.default_rng(7)
    scripts = tuple(SCRIPTS[i] for i in rng.integers(0, 2, 4000))
    rows = Staged(clustered(rng, 4000).astype(np.float16), None, scripts)
    index_rule = IndexRule(flat_rows=2000)
    write_segment(folder, np.arange(4000) * 2, [rows], fingerprint="e", rule=index_rule)
    return Segment.open(folder, fingerprint="e", verify=True)


def test_a_large_segment_gets_lists_and_the_manifest_says_how_good_they_are(listed):
    told = listed.index_told
    assert told["type"] == f"IVF{told['nlist']},SQ8"
    assert 1 <= told["nprobe"] < told["nlist"]
    assert told["recall"] >= told["target"] == 0.97


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.02])
def test_recall_at_10_in_lists_is_what_was_promised_with_a_filter_too(listed, share):
    rng = np.random.default_rng(11)
    nprobe = listed.index_told["nprobe"]
    index = SegmentedVectors([listed], listed.keys, exact_rows=0, place=in_lists(nprobe))
    exact = SegmentedVectors([listed], listed.keys, exact_rows=10**9)
    allowed = None if share == 1 else listed.keys[rng.random(len(listed)) < share]
    shares = []
    for query in clustered(rng, 200):
        best = dict(exact.search(query, 10, allowed))
        found = dict(index.search(query, 10, allowed))
        shares.append(len(best.keys() & found.keys()) / len(best))
        for key in best.keys() & found.keys():
            assert found[key] == pytest.approx(best[key], abs=2e-6)
    assert np.mean(shares) >= 0.97


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 300),
    dead=st.sampled_from([0.0, 0.3, 0.99]),
    share=st.sampled_from([None, 0.001, 0.01, 0.2, 0.9]),
    script=st.sampled_from([None, Script.HAN]),
    nprobe=st.sampled_from([1, 5]),
    near=st.booleans(),
)
def test_k_rows_come_back_whenever_so_many_are_wanted_and_never_another(
    listed, seed, k, dead, share, script, nprobe, near
):
    """Even from one probed list, and where the allowed rows are the farthest from the query."""
    rng = np.random.default_rng(seed)
    query = clustered(rng, 1)[0]
    live = listed.keys[rng.random(len(listed)) >= dead]
    allowed = None if share is None else live[rng.random(len(live)) < share]
    if allowed is not None and near:
        far = listed.vectors.astype(np.float32) @ query
        allowed = np.sort(listed.keys[np.argsort(far)[: len(allowed)]])
    wanted = set(live.tolist()) if allowed is None else set(live.tolist()) & set(allowed.tolist())
    if script is not None:
        wanted &= set(listed.keys[listed.scripts == SCRIPTS.index(script)].tolist())
    index = SegmentedVectors([listed], live, exact_rows=0, place=in_lists(nprobe))
    hits = index.search(query, k, allowed, script)
    keys = [key for key, _ in hits]
    assert len(keys) == len(set(keys)) == min(k, len(wanted))
    assert set(keys) <= wanted
    exact = listed.vectors[np.array(keys, np.int64) // 2].astype(np.float32) @ query
    assert np.allclose([score for _, score in hits], exact, atol=2e-6)


def test_few_wanted_rows_are_exact_in_a_segment_with_lists(listed):
    rng = np.random.default_rng(12)
    index = SegmentedVectors([listed], listed.keys, exact_rows=0)
    exact = SegmentedVectors([listed], listed.keys, exact_rows=10**9)
    allowed = listed.keys[rng.random(len(listed)) < 0.3]
    for query in clustered(rng, 20):
        assert [k for k, _ in index.search(query, 30, allowed)] == [
            k for k, _ in exact.search(query, 30, allowed)
        ]
