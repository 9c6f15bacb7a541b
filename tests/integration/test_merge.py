"""Segments are merged behind the publisher: asked for, run as a job, and done again where the merger died."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from databases import on_both
from library import Library
from sqlmodel import select

from indexer.index import merge
from indexer.index.inspection import inspect
from indexer.index.merging import Merging, ask_for_merges
from indexer.jobs.jobs import Jobs
from indexer.jobs.work import Superseded
from indexer.segments.segment import FAN_IN, Segment
from indexer.sql.tables import ChunkRow, JobRow, SegmentRow
from pipeline.types import JobKind, JobStatus, Query
from workers.tasks import work

pytestmark = on_both
WORDS = ["walrus", "otter", "heron", "badger", "lynx", "stork", "mole", "finch", "adder"]
assert len(WORDS) == FAN_IN + 1


def unmerged(library: Library) -> None:
    """A segment for each word, as uploads leave them before a merge."""
    for word in WORDS:
        taken = library.take(f"{word}.txt", f"This note speaks of {word} only.")
        claim = library.jobs.claim(taken.job)
        assert claim is not None
        library.ingest(claim)


def segments(library: Library, *, published: bool = True) -> set[int]:
    with library.database.read() as session:
        rows = session.exec(select(SegmentRow).where(SegmentRow.published == published)).all()
        return {row.id for row in rows}


def jobs_of(library: Library) -> list[JobStatus]:
    with library.database.read() as session:
        rows = session.exec(select(JobRow).where(JobRow.kind == JobKind.MERGE.value)).all()
        return [JobStatus(row.status) for row in rows]


def run_next(library: Library) -> None:
    """As a worker of the queue does: in a thread of its own."""
    jobs = Jobs(library.database, clock=library.clock)
    claim = jobs.claim_next([JobKind.MERGE])
    assert claim is not None
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, jobs, Merging(library.merger), claim).result()


async def check_whole(library: Library) -> None:
    with library.database.read() as session:
        assert len(session.exec(select(ChunkRow)).all()) == len(WORDS)
    assert inspect(library.database, library.folders, settled_s=0) == []
    for word in WORDS:
        hits = (await library.retriever.search(Query(word, top_k=1))).hits
        assert hits[0].chunk.name == f"{word}.txt"


async def test_a_merge_that_is_cancelled_ends_within_a_segment_and_leaves_what_was(
    library: Library,
) -> None:
    unmerged(library)
    before = segments(library)
    words = 0

    def cancelled() -> None:
        nonlocal words
        words += 1
        if words == 3:
            raise Superseded

    collection = library.catalog.collection_id("default")
    with pytest.raises(Superseded):
        library.merger.run(collection, say=cancelled)
    assert segments(library) == before
    left = library.folder.rglob("segments/*")
    assert {path.name for path in left} == {str(number) for number in before}
    await check_whole(library)
    assert library.merger.run(collection) == 1
    assert segments(library, published=False) == set()
    await check_whole(library)


async def test_many_uploads_are_asked_about_once_merged_by_the_job_and_lose_nothing(
    library: Library,
) -> None:
    assert ask_for_merges(library.database) == 0
    unmerged(library)
    before = segments(library)
    assert len(before) == len(WORDS)
    assert ask_for_merges(library.database) == 1
    assert ask_for_merges(library.database) == 0, "one is open"
    run_next(library)
    assert jobs_of(library) == [JobStatus.DONE]
    after = segments(library)
    assert len(after) == 1
    assert not after & before
    assert ask_for_merges(library.database) == 0, "the policy is content"
    await check_whole(library)


async def test_what_a_merge_that_died_left_is_removed_by_the_one_that_is_done_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmerged(library)
    assert ask_for_merges(library.database) == 1
    claim = library.jobs.claim_next([JobKind.MERGE])
    assert claim is not None

    class Killed(BaseException):
        pass

    def die(*given: object, **named: object) -> int:
        merge_segments(*given, **named)
        raise Killed

    merge_segments = merge.merge_segments
    with monkeypatch.context() as patched:
        patched.setattr(merge, "merge_segments", die)
        with pytest.raises(Killed):
            library.merger.run(claim.collection_id)
    (left,) = segments(library, published=False)
    folder = library.folders.segment(claim.collection_id, 1, left)
    assert len(Segment.open(folder, fingerprint=library.embedder.fingerprint).keys) == FAN_IN + 1
    await check_whole(library)
    library.clock.now += 60
    library.jobs.reap()
    library.clock.now += 60
    run_next(library)
    assert jobs_of(library) == [JobStatus.DONE]
    assert segments(library, published=False) == set()
    assert not folder.exists()
    assert len(segments(library)) == 1
    await check_whole(library)


async def test_a_merge_that_failed_is_asked_for_again_after_an_hour_and_not_before(
    library: Library,
) -> None:
    unmerged(library)
    with library.database.read() as session:
        now = session.exec(select(JobRow.updated)).first() + 10
    folder = library.folders.segment(
        library.catalog.collection_id("default"), 1, min(segments(library))
    )
    kept = folder.with_name("kept")
    folder.rename(kept)
    assert ask_for_merges(library.database, now=now) == 1
    run_next(library)
    assert jobs_of(library) == [JobStatus.FAILED]
    assert ask_for_merges(library.database, now=now) == 0
    kept.rename(folder)
    assert ask_for_merges(library.database, now=now + 3_700) == 1
    assert jobs_of(library) == [JobStatus.QUEUED], "of ended ones, none is kept beside it"
    run_next(library)
    assert jobs_of(library) == [JobStatus.DONE]
    await check_whole(library)
