"""What is live is told the same step by step as anew, and an older state stays what it was."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from databases import on_both
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.index.live import advanced, read_live
from indexer.segments.live import LiveRows
from indexer.segments.rows import FlatRows
from indexer.segments.segment import Segment
from indexer.segments.staged import SCRIPTS
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, TombstoneRow
from pipeline.errors import DamagedIndex
from pipeline.types import Script

DIM = 4
VECTORS = np.random.default_rng(5).standard_normal((4000, DIM)).astype(np.float16)


def segment(keys: Sequence[int] | np.ndarray) -> Segment:
    """Rows of these keys, whose vectors and scripts follow from them."""
    ascending = np.sort(np.asarray(keys, np.int64))
    vectors, scripts = VECTORS[ascending], (ascending % 3 == 0).astype(np.uint8)
    sums = np.zeros((len(SCRIPTS), DIM))
    for code in range(len(SCRIPTS)):
        sums[code] = vectors[scripts == code].sum(axis=0, dtype=np.float64)
    counts = np.bincount(scripts, minlength=len(SCRIPTS))
    flat = FlatRows(vectors)
    told = {"type": "flat"}
    return Segment(
        Path(), DIM, None, ascending, vectors, scripts, sums, counts, flat, told, flat, None, None
    )


def told(rows: LiveRows) -> list[object]:
    """All that a state says."""
    masks = [[of.rows.tolist() for of in rows.all_of(script)] for script in (None, Script.HAN)]
    allowed = rows.live[::2]
    among = [of.rows.tolist() for of in rows.among(allowed, Script.LATIN)]
    owners, places = rows.where(rows.live[::-1])
    sums = [(sums.tolist(), counts.tolist()) for sums, counts in rows.sums()]
    return [rows.count, rows.live.tolist(), masks, among, owners.tolist(), places.tolist(), sums]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_state_made_step_by_step_equals_one_made_anew_and_older_ones_stay(data) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    segments: list[Segment] = []
    live = np.zeros(0, np.int64)
    state = LiveRows.of(segments, live)
    following, kept = 0, []
    for _ in range(data.draw(st.integers(1, 6))):
        died = live[rng.random(len(live)) < data.draw(st.sampled_from([0, 0, 0.01, 0.4, 1]))]
        live = np.setdiff1d(live, died)
        for _ in range(data.draw(st.integers(0, 2))):
            born = np.arange(following, following + data.draw(st.integers(1, 60)))
            following = int(born[-1]) + data.draw(st.integers(1, 5))
            segments = [*segments, segment(born)]
            left = born[rng.random(len(born)) < 0.9]  # some died before anyone saw them
            live = np.concatenate([live, left])
        if len(segments) > 1 and data.draw(st.booleans()):
            chosen = rng.permutation(len(segments))[: data.draw(st.integers(1, 3))].tolist()
            keys = np.concatenate([segments[i].keys for i in chosen])
            merged = segment(keys[np.isin(keys, live)])
            segments = [s for i, s in enumerate(segments) if i not in chosen]
            segments.insert(data.draw(st.integers(0, len(segments))), merged)
        before, state = state, state.after(segments, live, died)
        assert told(state) == told(LiveRows.of(segments, live))
        kept.append((before, told(before)))
    for old, was in kept:
        assert told(old) == was


def test_what_a_segment_that_lost_nothing_knows_is_not_made_again() -> None:
    segments = [segment(range(100)), segment(range(100, 200))]
    before = LiveRows.of(segments, np.arange(200))
    before.all_of(Script.HAN)
    before.sums()
    live = np.concatenate([np.arange(151), np.arange(152, 220)])
    state = before.after([*segments, segment(range(200, 220))], live, np.array([151]))
    assert state.all_of(Script.HAN)[0] is before.all_of(Script.HAN)[0]
    assert state.all_of(Script.HAN)[1].count == before.all_of(Script.HAN)[1].count - 1
    assert state.sums()[0] is before.sums()[0]


FIRST, SECOND = segment(range(50)), segment(range(50, 100))


@pytest.mark.parametrize(
    ("segments", "live", "died"),
    [
        pytest.param([FIRST], range(100), [], id="a segment is gone"),
        pytest.param([FIRST, SECOND], range(101), [], id="a new key has no row"),
        pytest.param([FIRST, segment(range(50, 99))], range(100), [], id="a merge lost a row"),
        pytest.param(
            [FIRST, SECOND, segment(range(40, 60))], range(100), [], id="rows are there twice"
        ),
        pytest.param(
            [FIRST, segment(range(50, 100)), segment(range(50, 100))],
            range(100),
            [],
            id="two merges hold the same rows",
        ),
        pytest.param(
            [FIRST, segment([49, *range(51, 100)])],
            range(100),
            [],
            id="a merge holds a row of another segment in place of its own",
        ),
        pytest.param([FIRST, SECOND], range(99), [], id="a key went and did not die"),
    ],
)
def test_a_step_that_loses_or_doubles_a_row_is_damage(segments, live, died) -> None:
    state = LiveRows.of([FIRST, SECOND], np.arange(100))
    with pytest.raises(DamagedIndex, match="exactly once"):
        state.after(segments, np.array(live), np.array(died, np.int64))


def chunk(key: int, document: str) -> ChunkRow:
    rest = {"text": "x", "start": 0, "end": 1, "heading": "[]", "context": "", "script": "latin"}
    return ChunkRow(generation_id=1, key=key, document_id=document, version_id=1, **rest)


@on_both
def test_keys_with_and_without_gaps_are_read_with_their_documents(database_url: str) -> None:
    """Of a document that lost a chunk, or got some later, every key is read; of others a range."""
    database = Database(database_url)
    keys = {
        "whole": [5, 6, 7, 8],
        "one": [9],
        "lost": [10, 12, 13],
        "grown": [2, 3, 30, 31, 40],
        "negative": [-3, -2],
        "large": [2**40, 2**40 + 1],
    }
    with database.write() as session:
        session.add_all(chunk(key, name) for name, mine in keys.items() for key in mine)
        other = chunk(11, "lost")
        other.generation_id = 2
        session.add(other)
    with database.read() as session:
        live = read_live(session, 1)
        nothing = read_live(session, 3)
    assert live.keys.tolist() == sorted(key for mine in keys.values() for key in mine)
    assert live.following == 2**40 + 2
    assert (nothing.keys.tolist(), nothing.following) == ([], 0)
    for name, mine in keys.items():
        found, without = live.of({name, "none"})
        assert (found.tolist(), without) == (mine, {"none"})
    everything, was = live.keys, live.keys.copy()
    with database.write() as session:
        for key in (6, 31):
            session.delete(session.get_one(ChunkRow, (1, key)))
            session.add(TombstoneRow(generation_id=1, key=key, epoch=7))
        session.add(TombstoneRow(generation_id=1, key=2**40 + 5, epoch=7))  # never seen alive
        session.add(chunk(2**40 + 9, "whole"))
        session.add(chunk(2**40 + 8, "new"))
    with database.read() as session:
        later, died = advanced(session, 1, live, 6)
        anew = read_live(session, 1)
    assert died.tolist() == [6, 31]
    assert np.array_equal(later.keys, anew.keys)
    assert later.following == anew.following == 2**40 + 10
    for name in [*keys, "new"]:
        assert later.of({name})[0].tolist() == anew.of({name})[0].tolist()
    assert np.array_equal(everything, was)
    database.close()
