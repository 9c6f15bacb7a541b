"""What is Milvus's own of the two legs; the suite of each port says that they agree with brute force."""

import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from indexer.milvus import search as searching
from indexer.milvus.search import MilvusVectors, MilvusWords
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.milvus.vocabulary import EVERY, Vocabulary, saturated
from indexer.segments.segment import Segment, Staged, write_segment
from indexer.segments.staged import SCRIPTS
from indexer.segments.vectors import SegmentedVectors
from indexer.sql.database import Database
from pipeline.errors import DamagedIndex, Unavailable

DIM = 16
MEAN = 12.0
LONG = "x" * 3000


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


TWINS = unit(np.random.default_rng(99), 3).astype(np.float16)


class World:
    """One generation in Milvus, its raw vectors in segments, its terms in SQL; and the same rows in dicts."""

    def __init__(self, store: MilvusStore, seed: int, *, mean: float = MEAN) -> None:
        self.rng = np.random.default_rng(seed)
        self.dice = random.Random(seed)
        self.store, self.mean = store, mean
        self.folder = Path(tempfile.mkdtemp(prefix="zw-"))
        self.database = Database(f"sqlite:///{self.folder / 'zhinao.db'}")
        self.database.migrate()
        self.vocabulary = Vocabulary(self.database, 1)
        self.name = store.name(f"t{self.dice.getrandbits(60)}", 1)
        store.make(self.name, DIM)
        self.vectors: dict[int, np.ndarray] = {}
        self.words: dict[int, list[str]] = {}
        self.segments = 0
        self.next_key = 0

    def close(self) -> None:
        self.store.drop(self.name)
        self.database.close()
        shutil.rmtree(self.folder)

    def put(self, texts: list[list[str]], vectors: np.ndarray, *, live: bool = True) -> None:
        n = len(texts)
        keys = np.arange(self.next_key, self.next_key + n)
        self.next_key += n
        codes = self.rng.integers(0, 2, n).astype(np.uint8)
        scripts = tuple(SCRIPTS[code] for code in codes)
        with self.database.write() as session:
            numbers = self.vocabulary.number(session, {t for words in texts for t in words})
            if live:
                counts = Counter(numbers[t] for words in texts for t in {*words, EVERY})
                self.vocabulary.count(session, counts)
        sparse = [
            {numbers[t]: value for t, value in saturated(words, self.mean).items()}
            for words in texts
        ]
        self.store.put(self.name, MilvusRows(keys, codes, vectors, sparse))
        if live:
            folder = self.folder / str(self.segments)
            write_segment(folder, keys, [Staged(vectors, None, scripts)], fingerprint="e")
            self.segments += 1
            for i, key in enumerate(keys.tolist()):
                self.vectors[key] = vectors[i].astype(np.float64)
                self.words[key] = texts[i]

    def remove(self, keys: list[int], *, swept: bool) -> None:
        for key in keys:
            del self.vectors[key], self.words[key]
        if swept:
            self.store.delete(self.name, np.array(keys, np.int64))

    @property
    def live(self) -> np.ndarray:
        return np.array(sorted(self.vectors), np.int64)

    def dense(self) -> MilvusVectors:
        opened = [Segment.open(self.folder / str(n), fingerprint="e") for n in range(self.segments)]
        return MilvusVectors(self.store, self.name, self.live, SegmentedVectors(opened, self.live))

    def sparse(self) -> MilvusWords:
        return MilvusWords(self.store, self.name, self.live, self.vocabulary)


@pytest.fixture
def world(store):
    made = World(store, 1)
    yield made
    made.close()


def test_every_old_row_finds_itself_after_another_was_added_and_deleted(world, monkeypatch):
    monkeypatch.setattr(searching, "EXACT_ROWS", 0)
    texts = [[f"own{n}", "shared"] for n in range(200)]
    world.put(texts, unit(world.rng, 200).astype(np.float16))
    world.put([["new", "shared"]] * 3, unit(world.rng, 3).astype(np.float16))
    world.remove([200, 201, 202], swept=True)
    dense, sparse = world.dense(), world.sparse()
    for key in range(0, 200, 7):
        ((found, score),) = dense.search(world.vectors[key].astype(np.float32), 1, None)
        assert (found, score > 0.999) == (key, True)
        assert [hit for hit, _ in sparse.search({f"own{key}": 1.0}, 5, None)] == [key]
    assert sparse.search({"new": 1.0}, 5, None) == []


def test_a_flood_of_dead_rows_and_of_ties_costs_no_result(world, monkeypatch):
    monkeypatch.setattr(searching, "EXACT_ROWS", 0)
    monkeypatch.setattr(searching, "MOST_HITS", 128)  # as if 16,384 dead rows were better
    world.put([["a", "b"]] * 600, np.repeat(TWINS[:1], 600, axis=0))
    world.remove([key for key in range(600) if key % 100 != 7], swept=False)
    query = TWINS[0].astype(np.float32)
    left = [7, 107, 207, 307, 407, 507]
    assert [key for key, _ in world.dense().search(query, 4, None)] == left[:4]
    assert [key for key, _ in world.sparse().search({"a": 1.0}, 4, None)] == left[:4]
    allowed = np.array(left[2:], np.int64)
    assert [key for key, _ in world.dense().search(query, 9, allowed)] == left[2:]
    assert [key for key, _ in world.sparse().search({"b": 1.0}, 9, allowed)] == left[2:]


def test_frequencies_count_rows_and_a_new_term_gets_a_new_number(world):
    world.put([["a", "a", "b"], ["a"], []], unit(world.rng, 3).astype(np.float16))
    assert world.vocabulary.frequencies(["a", "b", "c"]) == ([2, 1, 0], 3)
    before = world.vocabulary.numbers(["a", "b"])
    world.put([["c", "a", LONG]], unit(world.rng, 1).astype(np.float16))
    after = world.vocabulary.numbers(["a", "b", "c"])
    assert {term: after[term] for term in before} == before
    assert len(set(after.values())) == 3
    assert world.vocabulary.frequencies(["a", "b", "c", LONG]) == ([3, 1, 1, 1], 4)
    assert [key for key, _ in world.sparse().search({LONG: 1.0}, 5, None)] == [3]


def test_a_key_that_is_not_live_has_no_score(world):
    world.put([["a"], ["a"]], unit(world.rng, 2).astype(np.float16))
    world.remove([1], swept=False)
    with pytest.raises(KeyError):
        world.sparse().score({"a": 1.0}, np.array([0, 1]))
    with pytest.raises(KeyError):
        world.dense().score(TWINS[0].astype(np.float32), np.array([0, 1]))


def test_keys_and_terms_are_read_back(world, store):
    world.put([["a", "b"], ["b"]], unit(world.rng, 2).astype(np.float16))
    assert np.concatenate(list(store.keys(world.name))).tolist() == [0, 1]
    numbers = world.vocabulary.numbers(["a", "b", EVERY])
    assert {key: set(own) for key, own in store.terms(world.name, np.array([0, 1, 9])).items()} == {
        0: set(numbers.values()),
        1: {numbers["b"], numbers[EVERY]},
    }
    assert store.count(world.name) == 2
    assert world.name in store.names()


def test_a_lost_collection_and_a_server_that_is_away_are_sentences(store, world, tmp_path):
    store.drop(world.name)
    with pytest.raises(DamagedIndex, match="no collection"):
        store.search_dense(world.name, TWINS[0].astype(np.float32), 3, "")
    away = MilvusStore("http://127.0.0.1:9", token="secret-token")
    with pytest.raises(Unavailable, match="check that it runs") as caught:
        away.count("anything")
    assert "secret-token" not in str(caught.value)
    store.make(world.name, DIM)
