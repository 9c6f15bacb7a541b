"""Jobs of kinds that read no file: submitted, run by their handler, stopped, retried; and the one that deletes."""

import threading

import pytest
from between import before_write
from databases import on_both
from library import Library

from app.present import job_out
from indexer.jobs.claims import Claim, FileClaim, end, owned
from indexer.jobs.deleting import Deleting, submit_delete
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.work import Handler, Result, Say, Superseded
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, NotFound, Unavailable
from pipeline.types import JobKind, JobStatus, Query
from workers.tasks import work

pytestmark = on_both


class Counting:
    """Implements Handler: counts to `upto`, and raises or waits where a test says so."""

    def __init__(self, upto: int = 3, error: Exception | None = None) -> None:
        self.upto = upto
        self.error = error
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.goes_on.set()
        self.interrupted = False

    def run(self, claim: Claim, say: Say) -> Result | None:
        for n in range(self.upto):
            say("count", n, self.upto)
            self.begun.set()
            assert self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        return {"counted": self.upto, "asked": dict(claim.payload)}

    def interrupt(self) -> None:
        self.interrupted = True
        self.goes_on.set()


def run_next(jobs: Jobs, handler: Handler, kind: JobKind = JobKind.MERGE) -> None:
    claim = jobs.claim_next([kind])
    assert claim is not None
    work(jobs, handler, claim)


def test_a_job_of_another_kind_is_run_with_what_was_asked_and_leaves_its_result(
    library: Library,
) -> None:
    job = library.jobs.submit(JobKind.MERGE, collection="default", payload={"for": "海象"})
    assert list(library.jobs.unsent(stale=False, kinds=kinds_of(Queue.INDEX))) == [job]
    assert list(library.jobs.unsent(stale=False, kinds=kinds_of(Queue.INGEST))) == []
    run_next(library.jobs, Counting())
    row = library.jobs.get(job)
    assert (row.status, row.stage, row.done, row.total) == (JobStatus.DONE, "done", 3, 3)
    assert row.result == {"counted": 3, "asked": {"for": "海象"}}
    assert (row.collection, row.document, row.filename) == ("default", None, None)


def test_a_worker_takes_only_the_kinds_that_it_runs_and_files_go_before_upkeep(
    library: Library,
) -> None:
    watch = library.jobs.submit(JobKind.WATCH, collection="default")
    merge = library.jobs.submit(JobKind.MERGE, collection="default")
    file = library.take("a.txt", "The walrus sleeps on the ice.").job
    first = library.jobs.claim_next(kinds_of(Queue.INGEST))
    assert isinstance(first, FileClaim)
    assert first.job == file
    second = library.jobs.claim_next(kinds_of(Queue.INGEST))
    assert (second.job, second.kind) == (watch, JobKind.WATCH)
    assert library.jobs.claim_next(kinds_of(Queue.INGEST)) is None
    assert library.jobs.claim_next(kinds_of(Queue.TRAIN)) is None
    assert library.jobs.claim_next(kinds_of(Queue.INDEX)).job == merge


def test_an_error_that_may_pass_is_tried_again_as_often_as_the_kind_says_and_its_trace_is_kept(
    library: Library,
) -> None:
    job = library.jobs.submit(JobKind.MERGE, collection="default")
    for attempt in range(1, 4):
        run_next(library.jobs, Counting(error=Unavailable("the disk is full")))
        row = library.jobs.get(job)
        assert row.attempts == attempt
        library.clock.now += 1000
    assert row.status is JobStatus.DEAD
    assert "the disk is full; given up after 3 attempts" in row.error
    assert "in run" in library.jobs.trace(job)
    library.control.retry(job)
    run_next(library.jobs, Counting())
    assert library.jobs.get(job).status is JobStatus.DONE
    assert library.jobs.trace(job) is None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DamagedIndex("segment 7 is short: restore it"), "segment 7 is short: restore it"),
        (ZeroDivisionError(), "made a mistake with this job"),
    ],
    ids=["refused", "bug"],
)
def test_what_no_attempt_mends_fails_at_once(library: Library, error: Exception, says: str) -> None:
    job = library.jobs.submit(JobKind.MERGE, collection="default")
    run_next(library.jobs, Counting(error=error))
    row = library.jobs.get(job)
    assert row.status is JobStatus.FAILED
    assert says in row.error
    assert type(error).__name__ in library.jobs.trace(job)


def test_no_memory_is_tried_again_with_a_sentence(library: Library) -> None:
    job = library.jobs.submit(JobKind.MERGE, collection="default")
    run_next(library.jobs, Counting(error=MemoryError()))
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.QUEUED, 1)
    assert "not enough memory" in row.error
    assert "ZHINAO_WORKER_PROCESSES" in row.error


def test_a_running_job_that_is_cancelled_is_interrupted_and_its_handler_can_write_nothing(
    library: Library,
) -> None:
    job = library.jobs.submit(JobKind.MERGE, collection="default")
    handler = Counting(upto=1000)
    handler.goes_on.clear()
    claim = library.jobs.claim_next()
    worker = threading.Thread(target=work, args=(library.jobs, handler, claim))
    worker.start()
    assert handler.begun.wait(30)
    assert library.control.cancel(job) == 1
    worker.join(30)
    assert not worker.is_alive()
    assert handler.interrupted
    row = library.jobs.get(job)
    assert (row.status, row.result) == (JobStatus.CANCELLED, {})
    assert "retry" in row.error
    with library.database.write() as session:
        assert owned(session, claim) is None
    assert not library.jobs.finish(claim, {"late": True})


def test_a_handler_may_end_its_job_in_the_transaction_of_its_work(library: Library) -> None:
    job = library.jobs.submit(JobKind.MERGE, collection="default")
    claim = library.jobs.claim_next()
    with library.database.write() as session:
        end(session, owned(session, claim), {"merged": 2}, library.clock())
    assert not library.jobs.finish(claim, {"merged": 3})
    assert library.jobs.get(job).result == {"merged": 2}


def test_what_is_asked_for_and_what_comes_of_it_are_bounded_json(library: Library) -> None:
    for payload in ({"x": "y" * 2**20}, {"x": float("nan")}, {"x": object()}):
        with pytest.raises(InvalidInput, match="payload"):
            library.jobs.submit(JobKind.MERGE, collection="default", payload=payload)
    with pytest.raises(NotFound):
        library.jobs.submit(JobKind.MERGE, collection="missing")
    library.jobs.submit(JobKind.MERGE, collection="default")
    claim = library.jobs.claim_next()
    with pytest.raises(InvalidInput, match="result"):
        library.jobs.finish(claim, {"x": "y" * 2**16})


def test_alone_gives_the_open_job_of_the_same_work(library: Library) -> None:
    def submit(**payload: object) -> str:
        return library.jobs.submit(JobKind.MERGE, collection="default", payload=payload, alone=True)

    first = submit(a=1)
    assert submit(a=1) == first
    assert submit(a=2) != first
    claim = library.jobs.claim_next()
    assert submit(a=1) == first
    library.jobs.finish(claim, {})
    assert submit(a=1) != first


async def found(library: Library, query: str) -> list[str]:
    hits = (await library.retriever.search(Query(query, top_k=50))).hits
    return sorted(hit.chunk.name for hit in hits)


def deleting(library: Library) -> Deleting:
    return Deleting(library.database, library.folders)


async def test_many_documents_are_deleted_by_one_job_and_the_others_stay(library: Library) -> None:
    taken = [library.add(f"{n}.txt", f"The walrus {n} sleeps on the ice.") for n in range(4)]
    gone = [one.document for one in taken[:3]]
    library.catalog.delete_document(gone[0])
    job = submit_delete(library.jobs, library.catalog, collection="default", documents=gone)
    assert submit_delete(library.jobs, library.catalog, collection="default", documents=gone) == job
    run_next(library.jobs, deleting(library), JobKind.DELETE)
    row = library.jobs.get(job)
    assert (row.status, row.done, row.total) == (JobStatus.DONE, 3, 3)
    assert row.result["gone_before"] == 1
    assert row.result["lost"]["documents"] == row.result["lost"]["originals"] == 2
    assert await found(library, "walrus") == ["3.txt"]
    with pytest.raises(InvalidInput, match="nothing to delete"):
        submit_delete(library.jobs, library.catalog, collection="default", documents=[])


def test_a_whole_collection_is_deleted_and_its_job_tells_of_it_afterwards(
    library: Library,
) -> None:
    library.catalog.create_collection("other")
    library.add("a.txt", "The walrus sleeps on the ice.", "other")
    library.take("b.txt", "The teapot stands in the kitchen.", "other")
    folder = library.folders.collection(library.catalog.collection_id("other"))
    job = submit_delete(library.jobs, library.catalog, collection="other")
    run_next(library.jobs, deleting(library), JobKind.DELETE)
    row = library.jobs.get(job)
    assert (row.status, row.collection) == (JobStatus.DONE, "other")
    assert row.result["lost"]["documents"] == 2
    assert [view.name for view in library.catalog.collections()] == ["default"]
    assert not folder.exists()
    library.control.retry_all()  # nothing to retry, and nothing that fails


def test_a_delete_that_is_cancelled_halfway_deletes_nothing_more(library: Library) -> None:
    taken = [library.add(f"{n}.txt", f"The walrus {n} sleeps.") for n in range(2)]
    ids = [one.document for one in taken]
    submit_delete(library.jobs, library.catalog, collection="default", documents=ids)
    claim = library.jobs.claim_next([JobKind.DELETE])
    library.control.cancel(claim.job)
    with pytest.raises(Superseded):
        deleting(library).run(claim, lambda *_: None)
    assert len(library.catalog.documents()[0]) == 2


@pytest.mark.parametrize("kind", [JobKind.INGEST, JobKind.MERGE])
def test_a_job_that_ended_well_keeps_nothing_of_the_error_before(
    library: Library, kind: JobKind
) -> None:
    job = (
        library.take("a.txt", "The walrus sleeps on the ice.").job
        if kind is JobKind.INGEST
        else library.jobs.submit(kind, collection="default")
    )
    claim = library.jobs.claim(job)
    library.jobs.release(claim, "the disk is full", "Traceback", error_type="Unavailable")
    assert library.jobs.trace(job) == "Traceback"
    assert job_out(library.jobs.get(job)).error_type == "Unavailable"
    library.clock.now += 1000
    if kind is JobKind.INGEST:
        library.run(job)
    else:
        run_next(library.jobs, Counting())
    row = library.jobs.get(job)
    assert (row.status, row.error, row.error_type) == (JobStatus.DONE, None, None)
    assert library.jobs.trace(job) is None


def deleting_other(library: Library) -> Claim:
    """A claimed job that deletes a collection of one document."""
    library.catalog.create_collection("other")
    library.add("a.txt", "The walrus sleeps on the ice.", "other")
    submit_delete(library.jobs, library.catalog, collection="other")
    return library.jobs.claim_next([JobKind.DELETE])


def collections(library: Library) -> list[str]:
    return [view.name for view in library.catalog.collections()]


def test_a_delete_that_is_cancelled_behind_the_last_document_leaves_the_collection(
    library: Library,
) -> None:
    claim = deleting_other(library)

    def say(stage: str, done: int = 0, total: int = 0) -> None:
        if done == total == 1:
            library.control.cancel(claim.job)

    with pytest.raises(Superseded):
        deleting(library).run(claim, say)
    assert library.jobs.get(claim.job).status is JobStatus.CANCELLED
    assert collections(library) == ["default", "other"]


def test_a_collection_goes_and_its_job_is_done_in_one_step(library: Library) -> None:
    claim = deleting_other(library)
    assert deleting(library).run(claim, lambda *_: None) is None
    job = library.jobs.get(claim.job)
    assert (job.status, job.result["collection"]) == (JobStatus.DONE, "deleted")
    assert collections(library) == ["default"]
    with pytest.raises(Conflict, match="ended already"):
        library.control.cancel(claim.job)


def test_a_worker_taken_for_dead_deletes_no_new_collection_of_the_same_name(
    library: Library,
) -> None:
    claim = deleting_other(library)

    def another_ends_it() -> None:
        library.clock.now += 20
        assert library.jobs.reap() == 1
        library.clock.now += 60
        run_next(library.jobs, deleting(library), JobKind.DELETE)
        assert collections(library) == ["default"]
        library.catalog.create_collection("other")
        library.add("b.txt", "The teapot stands in the kitchen.", "other")

    # Its first write takes the document, its second the collection.
    with (
        pytest.raises(Superseded),
        before_write(library.database, another_ends_it, passed=1) as came,
    ):
        deleting(library).run(claim, lambda *_: None)
    assert len(came) == 2
    assert collections(library) == ["default", "other"]
    assert [view.name for view in library.catalog.documents(collection="other")[0]] == ["b.txt"]
    assert library.jobs.get(claim.job).status is JobStatus.DONE
