"""The words leg agrees with a BM25 written out in Python, through adds and deletes: tantivy, Milvus and the fake."""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from indexer.index.milvus_leg import sparse_rows
from indexer.milvus.search import MilvusWords
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.milvus.vocabulary import Vocabulary
from indexer.segments.words import WordSearcher, WordWriter
from indexer.sql.database import Database
from models.fakes import PlainWords
from pipeline.errors import DamagedIndex, Overloaded
from pipeline.ports import WordIndex

VOCABULARY = [f"w{i}" for i in range(12)] + ["检索", "索引", "3.9.3", "a_b"]
LENGTH = 12
"""Of all rows of the machine: tantivy keeps lengths to 40 exactly, and the mean stays the same."""


def keys_of(keys) -> np.ndarray:
    return np.array(sorted(keys), np.int64)


def oracle(rows: dict[int, list[str]], terms: dict[str, float], mean: float) -> dict[int, float]:
    """Scores of the rows that match."""
    scores = {}
    for key, words in rows.items():
        tf = Counter(words)
        norm = 1.2 * (0.25 + 0.75 * len(words) / mean)
        score = sum(w * tf[t] / (tf[t] + norm) for t, w in terms.items() if tf[t] and w > 0)
        if score:
            scores[key] = score
    return scores


def same_ranking(hits: list[tuple[int, float]], scores: dict[int, float], k: int) -> None:
    best = sorted(scores.items(), key=lambda hit: (-round(hit[1], 9), hit[0]))[:k]
    assert [key for key, _ in hits] == [key for key, _ in best]
    assert np.allclose([s for _, s in hits], [s for _, s in best], atol=1e-5)


class WordIndexMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32 - 1))
    def start(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp()) / "words"
        self.rows: dict[int, list[str]] = {}
        self.next_key = 0
        WordWriter.open(self.folder).close()

    def write(self, count: int, *, live: bool) -> None:
        new = {}
        for key in range(self.next_key, self.next_key + count):
            new[key] = self.random.choices(VOCABULARY, range(1, 17), k=LENGTH)
        self.next_key += count
        self.put(new)
        if live:
            self.rows |= new

    def put(self, new: dict[int, list[str]]) -> None:
        with WordWriter.open(self.folder) as writer:
            for key, words in new.items():
                writer.add(key, words)
            writer.commit()

    def sweep(self, gone: list[int]) -> None:
        with WordWriter.open(self.folder) as writer:
            writer.delete(keys_of(gone))
            writer.commit()

    def searcher(self) -> WordIndex:
        return WordSearcher(self.folder, keys_of(self.rows))

    @rule(count=st.integers(0, 25))
    def add(self, count: int) -> None:
        self.write(count, live=True)

    @rule(count=st.integers(1, 25))
    def a_publish_crashes_after_its_words(self, count: int) -> None:
        self.write(count, live=False)

    @rule(in_words=st.booleans(), share=st.sampled_from([0.1, 0.5, 1.0]))
    def delete(self, in_words: bool, share: float) -> None:
        gone = [key for key in self.rows if self.random.random() < share]
        for key in gone:
            del self.rows[key]
        if in_words:
            self.sweep(gone)

    @invariant()
    def agrees_with_the_formula(self) -> None:
        searcher = self.searcher()
        some = {key for key in self.rows if self.random.random() < 0.3}
        terms = {t: self.random.choice([0.5, 0.3, 0.0]) for t in self.random.sample(VOCABULARY, 5)}
        terms["nowhere"] = 1.0
        scores = oracle(self.rows, terms, LENGTH)
        k = self.random.randint(1, 15)
        same_ranking(searcher.search(terms, k, None), scores, k)
        narrowed = {key: score for key, score in scores.items() if key in some}
        same_ranking(searcher.search(terms, k, keys_of([*some, -3, 10**12])), narrowed, k)
        shuffled = np.array(self.random.sample(list(self.rows), len(self.rows)), np.int64)
        expected = [scores.get(key, 0.0) for key in shuffled.tolist()]
        assert np.allclose(searcher.score(terms, shuffled), expected, atol=1e-5)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder.parent)


class FakeMachine(WordIndexMachine):
    def put(self, new: dict[int, list[str]]) -> None:
        """Only live rows are there."""

    def sweep(self, gone: list[int]) -> None:
        """As above."""

    def searcher(self) -> WordIndex:
        return PlainWords(self.rows, LENGTH)


class MilvusMachine(WordIndexMachine):
    store: MilvusStore

    @initialize(seed=st.integers(0, 2**32 - 1))
    def start(self, seed: int) -> None:
        super().start(seed)
        self.database = Database(f"sqlite:///{self.folder.parent / 'zhinao.db'}")
        self.database.migrate()
        self.vocabulary = Vocabulary(self.database, 1)
        self.name = self.store.name(f"w{self.random.getrandbits(60)}", 1)
        self.store.make(self.name, 2)

    def put(self, new: dict[int, list[str]]) -> None:
        with self.database.write() as session:
            numbers = self.vocabulary.number(session, {t for words in new.values() for t in words})
        sparse = sparse_rows(list(new.values()), numbers, LENGTH)
        none = np.zeros(len(new), np.uint8), np.ones((len(new), 2), np.float16)
        self.store.put(self.name, MilvusRows(keys_of(new), *none, sparse))

    def sweep(self, gone: list[int]) -> None:
        self.store.delete(self.name, keys_of(gone))

    def searcher(self) -> WordIndex:
        return MilvusWords(self.store, self.name, keys_of(self.rows), self.vocabulary)

    def teardown(self) -> None:
        if hasattr(self, "name"):
            self.store.drop(self.name)
            self.database.close()
        super().teardown()


def test_milvus_agrees_with_the_formula(store):
    case = type("Machine", (MilvusMachine,), {"store": store}).TestCase
    case.settings = settings(max_examples=4, stateful_step_count=6, deadline=None)
    case().runTest()


TestFake = FakeMachine.TestCase
TestFake.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
TestWordIndex = WordIndexMachine.TestCase
TestWordIndex.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)


def build(folder: Path, rows: dict[int, list[str]]) -> None:
    with WordWriter.open(folder) as writer:
        for key, words in rows.items():
            writer.add(key, words)
        writer.commit()


def test_scores_of_rows_of_many_lengths_follow_the_formula(tmp_path):
    dice = random.Random(3)
    rows = {key: dice.choices(VOCABULARY, k=dice.randint(1, 40)) for key in range(300)}
    build(tmp_path, rows)
    terms = {"w1": 0.5, "检索": 0.3, "3.9.3": 0.2}
    mean = sum(map(len, rows.values())) / len(rows)
    searcher = WordSearcher(tmp_path, keys_of(rows))
    same_ranking(searcher.search(terms, 50, None), oracle(rows, terms, mean), 50)


def test_frequencies_count_rows(tmp_path):
    rows = {1: ["a", "a", "b"], 2: ["a"], 3: []}
    build(tmp_path, rows)
    for index in (WordSearcher(tmp_path, keys_of(rows)), PlainWords(rows)):
        assert index.frequencies(["a", "b", "c"]) == ([2, 1, 0], 3)


def test_a_flood_of_foreign_rows_costs_no_result(tmp_path):
    rows = {key: ["a", "b"] for key in range(2000)} | {key: ["a", *"cdefgh"] for key in (7, 1500)}
    build(tmp_path, rows)
    searcher = WordSearcher(tmp_path, keys_of([7, 1500]))
    assert [key for key, _ in searcher.search({"a": 1.0}, 2, None)] == [7, 1500]


def test_ties_at_the_cut_go_to_the_smallest_keys(tmp_path):
    for start in (1000, 0):
        build(tmp_path, {key: ["a", "b"] for key in range(start, start + 400)})
    searcher = WordSearcher(tmp_path, keys_of([*range(5, 400), *range(1000, 1400)]))
    assert [k for k, _ in searcher.search({"a": 1.0, "b": 0.5}, 20, None)] == list(range(5, 25))


def test_a_query_of_two_thousand_terms_is_answered_whole(tmp_path):
    build(tmp_path, {key: [f"t{key * 40 + i}" for i in range(40)] for key in range(100)})
    terms = {f"t{i}": 1 / 2000 for i in range(2000)}
    hits = WordSearcher(tmp_path, keys_of(range(100))).search(terms, 100, None)
    assert [key for key, _ in hits] == list(range(50))
    assert hits[0][1] == pytest.approx(40 / 2000 / 2.2, abs=1e-6)


def test_a_searcher_keeps_the_state_it_was_opened_on(tmp_path):
    build(tmp_path, {1: ["a"]})
    searcher = WordSearcher(tmp_path, keys_of([1, 2]))
    with WordWriter.open(tmp_path) as writer:
        writer.delete([1])
        writer.add(2, ["a"])
        writer.commit()
    assert [key for key, _ in searcher.search({"a": 1.0}, 5, None)] == [1]


def test_a_row_added_again_replaces_the_one_of_its_key(tmp_path):
    build(tmp_path, {1: ["old", "old"]})
    with WordWriter.open(tmp_path) as writer:
        writer.add(1, ["older"])
        writer.add(1, ["new"])
        writer.commit()
    searcher = WordSearcher(tmp_path, keys_of([1]))
    assert searcher.search({"old": 1.0, "older": 1.0}, 5, None) == []
    assert [key for key, _ in searcher.search({"new": 1.0}, 5, None)] == [1]


def test_what_was_not_committed_is_forgotten(tmp_path):
    build(tmp_path, {1: ["a"]})
    with WordWriter.open(tmp_path) as writer:
        writer.add(2, ["a"])
    with WordWriter.open(tmp_path) as writer:
        writer.add(3, ["a"])
        writer.rollback()
        writer.add(4, ["a"])
        writer.commit()
    hits = WordSearcher(tmp_path, keys_of([1, 2, 3, 4])).search({"a": 1.0}, 5, None)
    assert [key for key, _ in hits] == [1, 4]


def test_a_second_writer_is_told_to_wait(tmp_path):
    with WordWriter.open(tmp_path), pytest.raises(Overloaded):
        WordWriter.open(tmp_path)
    WordWriter.open(tmp_path).close()


def test_the_lock_of_a_killed_writer_does_not_stay(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from indexer.segments.words import WordWriter\n"
        "writer = WordWriter.open(Path(sys.argv[1])); writer.add(1, ['a']); print('open', flush=True)\n"
        "time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(Overloaded):
            WordWriter.open(tmp_path)
        child.send_signal(signal.SIGKILL)
    build(tmp_path, {2: ["a"]})
    hits = WordSearcher(tmp_path, keys_of([1, 2])).search({"a": 1.0}, 5, None)
    assert [key for key, _ in hits] == [2]


def test_no_index_is_empty_without_live_rows_and_damage_with_them(tmp_path):
    searcher = WordSearcher(tmp_path / "words", keys_of([]))
    assert searcher.search({"a": 1.0}, 5, None) == []
    assert searcher.frequencies(["a"]) == ([0], 0)
    with pytest.raises(DamagedIndex):
        WordSearcher(tmp_path / "words", keys_of([1]))


def test_a_broken_index_is_damage_for_both_sides(tmp_path):
    build(tmp_path, {1: ["a"]})
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(DamagedIndex):
        WordSearcher(tmp_path, keys_of([1]))
    with pytest.raises(DamagedIndex):
        WordWriter.open(tmp_path)


def test_a_key_that_is_not_live_has_no_score(tmp_path):
    build(tmp_path, {1: ["a"], 2: ["a"]})
    with pytest.raises(KeyError):
        WordSearcher(tmp_path, keys_of([1])).score({"a": 1.0}, np.array([1, 2]))
