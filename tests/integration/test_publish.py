"""The one commit point: a crash before it leaves nothing to be found, and nothing in the way."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from databases import on_both
from library import Library
from sqlmodel import select

from indexer.index import publish as publishing
from indexer.index.publish import Publisher
from indexer.jobs import lease as leases
from indexer.jobs.lease import acquire, release
from indexer.segments.staging import load_staged, save_staged
from indexer.sql.tables import LeaseRow, ReservationRow, SegmentRow, TombstoneRow
from models.fakes import HashEmbedder
from pipeline.errors import DamagedDocument, DamagedIndex, IndexMismatch, NotFound
from pipeline.types import JobStatus, Query
from workers.tasks import work

pytestmark = on_both


class Killed(BaseException):
    """Stands for `kill -9`: nothing below an entry point catches it."""


async def found(library: Library, query: str, collection: str = "default") -> list[str]:
    hits = (await library.retriever.search(Query(query, collection, top_k=50))).hits
    return [hit.chunk.name for hit in hits]


async def test_what_is_published_is_found_by_both_legs(library: Library) -> None:
    library.add("a.txt", "The walrus sleeps on the ice.")
    library.add("b.txt", "海象睡在冰上。")
    assert (await found(library, "walrus"))[0] == "a.txt"
    assert (await found(library, "海象"))[0] == "b.txt"
    assert all(job.status is JobStatus.DONE for job in library.jobs.page()[0])


@pytest.mark.parametrize(
    "step", ["write_segment", "terms", "make_live", "forget", "discard_staged"]
)
async def test_a_kill_at_any_step_leaves_the_old_state_and_the_next_publish_mends_it(
    library: Library, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    library.add("old.txt", "The walrus sleeps on the ice.")
    taken = library.take("new.txt", "The teapot stands in the kitchen.")
    claim = library.jobs.claim(taken.job)

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(leases, "release", lambda *_: None)  # a dead process lets nothing go
        patched.setattr(publishing, step, die)
        with pytest.raises(Killed):
            library.ingest(claim)
    committed = step == "discard_staged"
    assert ("new.txt" in await found(library, "teapot")) is committed
    assert "old.txt" in await found(library, "walrus")

    with library.database.write() as session:  # the lease of the dead publisher runs out
        for row in session.exec(select(LeaseRow)):
            row.until = 0.0
            session.add(row)
    if not committed:
        library.jobs.release(claim, "its worker was killed")
        library.clock.now += 60
        library.run(taken.job)
    library.add("later.txt", "A violin hangs on the wall.")
    assert sorted(set(await found(library, "teapot walrus violin"))) == [
        "later.txt",
        "new.txt",
        "old.txt",
    ]
    with library.database.read() as session:
        assert session.exec(select(ReservationRow)).all() == []
        assert all(session.exec(select(SegmentRow.published)).all())
        rows = session.exec(select(SegmentRow.id)).all()
    folders = {path.name for path in library.folder.rglob("segments/*")}
    assert folders == {str(row) for row in rows}


async def test_a_new_version_takes_the_place_of_the_old_one_in_one_step(library: Library) -> None:
    library.add("a.txt", "The walrus sleeps on the ice.")
    library.add("a.txt", "The teapot stands in the kitchen.")
    hits = (await library.retriever.search(Query("walrus teapot", top_k=50))).hits
    assert [(hit.chunk.name, hit.chunk.version) for hit in hits] == [("a.txt", 2)]


async def test_an_older_version_that_comes_late_does_not_replace_a_newer_one(
    library: Library,
) -> None:
    first = library.take("a.txt", "The walrus sleeps on the ice.")
    second = library.take("a.txt", "The teapot stands in the kitchen.")
    library.run(second.job)
    library.run(first.job)
    hits = (await library.retriever.search(Query("walrus teapot", top_k=50))).hits
    assert [hit.chunk.version for hit in hits] == [2]
    assert {job.status for job in library.jobs.page()[0]} == {JobStatus.DONE}


async def test_a_document_deleted_while_it_is_indexed_never_appears(library: Library) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    claim = library.jobs.claim(taken.job)
    library.catalog.delete_document(taken.document)
    library.ingest(claim)
    assert await found(library, "walrus") == []


async def test_deleted_keys_leave_the_words_index_with_the_next_publish(library: Library) -> None:
    taken = library.add("a.txt", "The walrus sleeps on the ice.")
    library.catalog.delete_document(taken.document)
    with library.database.read() as session:
        assert session.exec(select(TombstoneRow)).all()
    library.add("b.txt", "The teapot stands in the kitchen.")
    with library.database.read() as session:
        assert not any(session.exec(select(TombstoneRow.words)).all())
    assert library.snapshots.open("default").words.frequencies(["walrus"])[0] == [0]


async def test_publishers_at_the_same_time_lose_and_double_nothing(
    library: Library, database_url: str
) -> None:
    taken = [library.take(f"{n}.txt", f"This note speaks of subject{n} only.") for n in range(12)]
    other = Library.open(library.folder, database_url)
    threads = [
        threading.Thread(target=(library if n % 2 else other).run, args=(row.job,))
        for n, row in enumerate(taken)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    names = await found(library, "note speaks")
    assert sorted(names) == sorted(f"{n}.txt" for n in range(12))


async def test_a_reader_sees_its_epoch_whatever_is_published_meanwhile(library: Library) -> None:
    taken = library.add("a.txt", "The walrus sleeps on the ice.")
    before = library.snapshots.open("default")
    library.add("b.txt", "The walrus swims.")
    assert before.words.frequencies(["walrus"])[0] == [1]
    assert len(before.keys_of([taken.document])) == 1
    assert len(await found(library, "walrus")) == 2


def test_a_publisher_waits_while_another_one_works(library: Library) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    claim = library.jobs.claim(taken.job)
    generation = 1
    held = acquire(library.database, f"publish {generation}")
    waits = []

    def wait() -> None:
        waits.append(1)
        if len(waits) == 3:
            release(library.database, held)

    library.ingester._breath = lambda _claim: wait
    library.ingest(claim)
    assert len(waits) == 3
    assert library.jobs.get(taken.job).status is JobStatus.DONE


def test_staged_files_that_are_lost_are_made_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    claim = library.jobs.claim(taken.job)
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", lambda *_, **__: None)
        library.ingest(claim)
    for path in library.folder.rglob("staged"):
        shutil.rmtree(path)
    library.add("b.txt", "The teapot stands in the kitchen.")
    assert library.jobs.get(taken.job).status is JobStatus.QUEUED
    library.clock.now += 60
    library.run(taken.job)
    assert library.jobs.get(taken.job).status is JobStatus.DONE


def test_staged_files_that_are_lost_bring_no_cancelled_job_back(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", lambda *_, **__: None)
        library.ingest(library.jobs.claim(taken.job))

    def cancel_and_load(*_: object, **__: object) -> None:
        monkeypatch.undo()
        library.control.cancel(taken.job)
        raise FileNotFoundError

    monkeypatch.setattr(publishing, "load_staged", cancel_and_load)
    other = library.add("b.txt", "The teapot stands in the kitchen.")
    assert library.jobs.get(other.job).status is JobStatus.DONE
    assert library.jobs.get(taken.job).status is JobStatus.CANCELLED
    assert library.catalog.document(taken.document).status == "failed"


@pytest.mark.parametrize("suffix", [".cuts", ".npz"])
async def test_broken_staged_files_of_one_document_do_not_touch_another(
    library: Library, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", lambda *_, **__: None)
        library.ingest(library.jobs.claim(taken.job))
    for path in library.folder.rglob(f"staged/*{suffix}"):
        path.write_bytes(path.read_bytes()[:40])
    other = library.add("b.txt", "The teapot stands in the kitchen.")
    assert library.jobs.get(other.job).status is JobStatus.DONE
    assert await found(library, "teapot") == ["b.txt"]
    library.clock.now += 60
    library.run(taken.job)
    assert "a.txt" in await found(library, "walrus")


async def test_what_is_wrong_with_one_staged_version_is_its_own_jobs_error_alone(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"a.txt": "The walrus sleeps.", "b.txt": "The teapot stands.", "c.txt": "A violin."}
    jobs = {name: library.take(name, text).job for name, text in texts.items()}
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", lambda *_, **__: None)
        for job in jobs.values():
            claim = library.jobs.claim(job)
            library.ingest(claim)
            library.jobs.hand_back(claim)
    bad = library.jobs.claim(jobs["a.txt"])
    library.jobs.hand_back(bad)
    [place] = [
        path.with_suffix("") for path in library.folder.rglob(f"staged/{bad.version_id}.npz")
    ]
    staged = load_staged(place, bad.version_id, fingerprint=library.embedder.fingerprint)
    cuts = [replace(cut, start=2**70) for cut in staged.cuts]  # more than a database holds
    save_staged(place, cuts, staged.rows, fingerprint=library.embedder.fingerprint)
    for name in ("b.txt", "c.txt"):
        work(library.jobs, library.ingester, library.jobs.claim(jobs[name]))
    words = library.snapshots.open("default").words
    assert words.frequencies(["walrus", "teapot"])[0] == [0, 1]
    work(library.jobs, library.ingester, library.jobs.claim(jobs["a.txt"]))
    assert {name: library.jobs.get(job).status for name, job in jobs.items()} == {
        "a.txt": JobStatus.FAILED,
        "b.txt": JobStatus.DONE,
        "c.txt": JobStatus.DONE,
    }
    assert sorted(await found(library, "walrus teapot violin")) == ["b.txt", "c.txt"]


def test_vectors_of_another_embedder_are_never_written_into_a_collection(library: Library) -> None:
    library.add("a.txt", "The walrus sleeps on the ice.")
    library.ingester._embedder = HashEmbedder(seed="another")
    taken = library.take("b.txt", "The teapot stands in the kitchen.")
    with pytest.raises(IndexMismatch, match="another embedder"):
        library.run(taken.job)


def test_a_lost_original_ends_its_job_with_a_sentence(library: Library) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    for path in library.folder.rglob("originals/*"):
        path.unlink()
    with pytest.raises(DamagedDocument, match="upload it again"):
        library.run(taken.job)


async def test_a_document_replaced_between_two_reads_is_still_found(library: Library) -> None:
    taken = library.add("a.txt", "The walrus sleeps on the ice.")
    old = library.snapshots.open("default")
    library.add("a.txt", "The walrus swims in the sea.")
    states = iter([old])
    library.retriever._open_snapshot = lambda name: (
        next(states, None) or library.snapshots.open(name)
    )
    chosen = Query("walrus", documents=(taken.document,))
    assert [hit.chunk.version for hit in (await library.retriever.search(chosen)).hits] == [2]
    states = iter([old])
    assert [hit.chunk.version for hit in (await library.retriever.read(chosen)).hits] == [2]


def test_a_collection_of_another_embedder_is_an_error_not_an_answer(library: Library) -> None:
    library.add("a.txt", "The walrus sleeps on the ice.")
    library.snapshots._fingerprints = {"another"}
    with pytest.raises(IndexMismatch, match="another embedder"):
        library.snapshots.open("default")


def test_a_lost_segment_is_an_error_not_fewer_answers(library: Library, tmp_path: Path) -> None:
    library.add("a.txt", "The walrus sleeps on the ice.")
    for path in tmp_path.rglob("segments/*"):
        shutil.rmtree(path)
    with pytest.raises(DamagedIndex):
        library.snapshots.open("default")


def test_documents_of_another_collection_are_not_there(library: Library) -> None:
    library.catalog.create_collection("other")
    taken = library.add("a.txt", "The walrus sleeps on the ice.", "other")
    with pytest.raises(NotFound):
        library.snapshots.open("default").keys_of([taken.document])
