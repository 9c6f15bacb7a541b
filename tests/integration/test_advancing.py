"""A snapshot that was advanced step by step equals one that was read anew, after any uploads, deletes and merges."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from databases import on_both
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from library import Library
from sqlmodel import select

from indexer.index import commit, merge
from indexer.index.snapshot import Snapshots
from indexer.segments.segment import merge_segments, to_merge
from indexer.sql.tables import GenerationRow, SegmentRow, SpanRow
from pipeline.errors import NotFound

NAMES = st.sampled_from([f"{letter}.txt" for letter in "abcde"])


def eager(sizes, dead):
    """Merges as soon as two segments are there, so that few steps reach many merges."""
    return tuple(sorted(sizes))[-3:] if len(sizes) > 2 else to_merge(sizes, dead)


def check_counts(library: Library) -> None:
    """What SQL tells of segments is what lies in their files."""
    target = library.merger.targets(library.catalog.collection_id("default"))[0]
    live = library.snapshots.open("default").live.keys
    with library.database.read() as session:
        rows = session.exec(select(SegmentRow).where(SegmentRow.published)).all()
        spans = session.exec(select(SpanRow)).all()
    for row in rows:
        keys = library.merger._open(target, row.id).keys
        assert (row.rows, row.dead) == (len(keys), len(np.setdiff1d(keys, live)))
        mine = [np.arange(s.first, s.first + s.count) for s in spans if s.segment_id == row.id]
        assert set(keys.tolist()) <= set(np.concatenate([*mine, [-1]]).tolist())


class Advancing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.library = Library.open(self.folder)
        self.turn = 0
        self.seen: list = []

    @rule(name=NAMES, sentences=st.integers(1, 12))
    def upload(self, name: str, sentences: int) -> None:
        self.turn += 1
        text = "\n\n".join(
            f"Part {n} of turn {self.turn} tells of subject{self.turn} at length, and of ice, snow "
            "and the long winter that follows the short summer there."
            for n in range(sentences)
        )
        taken = self.library.take(name, text)
        self.library.ingest(self.library.jobs.claim(taken.job))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        for view in self.library.catalog.documents()[0]:
            if view.name == name:
                self.library.catalog.delete_document(view.id)

    @rule()
    def merge(self) -> None:
        collection = self.library.catalog.collection_id("default")
        self.library.merger.run(collection, policy=eager)

    @rule()
    def forget_old_deaths(self) -> None:
        with self.library.database.write() as session:
            generation = session.get_one(GenerationRow, 1)
            generation.horizon = self.library.snapshots._state("default").epoch - 2
            session.add(generation)

    @invariant()
    def agrees(self) -> None:
        library = self.library
        advanced = library.snapshots.open("default")
        fresh = Snapshots(
            library.database, library.folders, fingerprint=library.embedder.fingerprint
        ).open("default")
        assert np.array_equal(advanced.live.keys, fresh.live.keys)
        for view in library.catalog.documents()[0]:
            assert np.array_equal(advanced.keys_of([view.id]), fresh.keys_of([view.id]))
            assert view.chunks == len(fresh.keys_of([view.id]))
        keys = fresh.live.keys
        query = np.asarray(fresh.vectors._segments[0].vectors[0] if len(keys) else [1], np.float32)
        if len(keys):
            assert advanced.vectors.search(query, 9, None) == fresh.vectors.search(query, 9, None)
            found = [snapshot.words.search({"ice": 1.0}, 9, None) for snapshot in (advanced, fresh)]
            assert found[0] == found[1]
        check_counts(library)
        self.seen = [*self.seen[-3:], (advanced, keys.copy())]
        for old, was in self.seen:  # what a reader holds stays what it was
            assert np.array_equal(old.live.keys, was)

    def teardown(self) -> None:
        self.library.close()
        shutil.rmtree(self.folder)


TestAdvancing = Advancing.TestCase
TestAdvancing.settings = settings(
    max_examples=5, stateful_step_count=9, deadline=None, suppress_health_check=list(HealthCheck)
)


@on_both
def test_an_advanced_snapshot_equals_a_fresh_one_on_either_database(library: Library) -> None:
    advanced = []
    for turn in range(10):
        library.add(f"{turn % 4}.txt", f"The walrus of turn {turn} sleeps on the ice.")
        if turn % 3 == 2:
            library.catalog.delete_document(library.catalog.documents()[0][0].id)
        advanced.append(library.snapshots.open("default").live)
        fresh = Snapshots(
            library.database, library.folders, fingerprint=library.embedder.fingerprint
        ).open("default")
        assert np.array_equal(advanced[-1].keys, fresh.live.keys)
        check_counts(library)


def test_a_reader_that_slept_past_the_horizon_reads_everything_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "KEPT_EPOCHS", 1)
    gone = library.add("gone.txt", "The walrus sleeps on the ice.")
    old = library.snapshots.open("default")
    library.catalog.delete_document(gone.document)
    for n in range(4):
        library.add(f"{n}.txt", f"The teapot {n} stands in the kitchen.")
    with library.database.read() as session:
        assert session.get_one(GenerationRow, 1).horizon > old.state.epoch
    with pytest.raises(NotFound):
        library.snapshots.open("default").keys_of([gone.document])
    assert len(library.snapshots.open("default").live.keys) == 4


@on_both
def test_what_dies_or_comes_while_a_merge_writes_is_right_behind_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [library.add(f"{n}.txt", f"subject{n} alone").document for n in range(6)]
    write = merge_segments

    def meanwhile(*args, **options):
        written = write(*args, **options)
        library.catalog.delete_document(documents[1])
        taken = library.take("late.txt", "The violin comes late.")
        library.ingest(library.jobs.claim(taken.job))  # a publish in the middle of a merge
        replaced = library.take("2.txt", "subject2 is another now")
        library.ingest(library.jobs.claim(replaced.job))
        return written

    with monkeypatch.context() as patched:
        patched.setattr(merge, "merge_segments", meanwhile)
        first = tuple(range(1, 7))
        library.merger.run(
            library.catalog.collection_id("default"),
            policy=lambda sizes, _dead: first if 1 in sizes else (),
        )
    check_counts(library)
    snapshot = library.snapshots.open("default")
    assert len(snapshot.live.keys) == 6
    with library.database.read() as session:
        rows = session.exec(select(SegmentRow).order_by(SegmentRow.id)).all()
    assert [(row.rows, row.dead, row.merged) for row in rows] == [
        (6, 2, True),
        (1, 0, False),
        (1, 0, False),
    ]


async def test_delete_then_add_then_every_old_chunk_finds_itself_and_deleting_the_new_one_harms_no_other(
    library: Library,
) -> None:
    texts = {f"{n}.txt": f"This note number {n} speaks of subject{n} only." for n in range(20)}
    taken = {name: library.add(name, text).document for name, text in texts.items()}

    async def all_find_themselves(without: set[str]) -> None:
        snapshot = library.snapshots.open("default")
        for name in texts.keys() - without:
            (key,) = snapshot.keys_of([taken[name]]).tolist()
            (chunk,) = snapshot.chunks([key])
            vector = await library.vector_of(chunk)
            ((found, score),) = snapshot.vectors.search(vector, 1, None)
            assert (found, score > 0.999) == (key, True)
            ((found, _),) = snapshot.words.search({f"subject{name[:-4]}": 1.0}, 1, None)
            assert found == key

    gone = {"3.txt", "11.txt", "19.txt"}
    for name in gone:
        library.catalog.delete_document(taken[name])
    await all_find_themselves(gone)
    new = library.add("new.txt", "A violin hangs on the wall.")
    await all_find_themselves(gone)
    library.catalog.delete_document(new.document)
    await all_find_themselves(gone)
    library.merger.run(library.catalog.collection_id("default"), policy=merge.stale_first)
    await all_find_themselves(gone)
