"""A cancelled job leaves nothing to be found, whatever it was doing; retried, it is done once."""

import hashlib
from collections.abc import Callable

import pytest
from databases import on_both
from library import Library

from indexer.index import publish as publishing
from indexer.ingest import ingest as ingesting
from pipeline.errors import Conflict, DamagedDocument, NotFound
from pipeline.types import JobStatus, Query

pytestmark = on_both


async def found(library: Library, query: str) -> list[str]:
    hits = (await library.retriever.search(Query(query, top_k=50))).hits
    return [hit.chunk.text for hit in hits]


def staged(library: Library) -> list[str]:
    return [path.name for path in library.folder.rglob("staged/*") if path.is_file()]


async def test_a_waiting_job_that_is_cancelled_never_runs_until_it_is_retried(
    library: Library,
) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    assert library.control.cancel(taken.job) == 1
    assert library.control.cancel(taken.job) == 0
    assert library.jobs.claim(taken.job) is None
    job = library.jobs.get(taken.job)
    assert job.status is JobStatus.CANCELLED
    assert "retry" in job.error
    assert library.catalog.document(taken.document).status == "failed"
    library.control.retry(taken.job)
    assert library.catalog.document(taken.document).status == "processing"
    assert list(library.jobs.unsent(stale=False)) == [taken.job]
    library.run(taken.job)
    assert await found(library, "walrus") == ["The walrus sleeps on the ice."]


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (ingesting, "store"),
        (ingesting, "cut"),
        (ingesting, "embedded_before"),
        (ingesting, "save_staged"),
        (ingesting, "signature"),
        (publishing, "load_staged"),
        (publishing, "write_segment"),
        (publishing, "terms"),
    ],
)
async def test_a_job_that_is_cancelled_at_any_step_leaves_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    old = library.add("a.txt", "The walrus sleeps on the ice.")
    taken = library.take("a.txt", "The teapot stands in the kitchen.")
    claim = library.jobs.claim(taken.job)
    before = getattr(module, step)
    cancelled: list[int] = []

    def cancel(*given: object, **named: object) -> object:
        made = before(*given, **named)
        if not cancelled:
            cancelled.append(library.control.cancel(taken.job))
        return made

    with monkeypatch.context() as patched:
        patched.setattr(module, step, cancel)
        library.ingest(claim)
    assert cancelled == [1]
    assert library.jobs.get(taken.job).status is JobStatus.CANCELLED
    assert await found(library, "walrus teapot") == ["The walrus sleeps on the ice."]
    assert staged(library) == []
    view = library.catalog.document(old.document)
    assert (view.live, view.status) == (1, "failed")
    with pytest.raises(NotFound):
        library.catalog.text(old.document, 2)
    library.add("b.txt", "A violin hangs on the wall.")
    library.control.retry(taken.job)
    library.run(taken.job)
    assert sorted(await found(library, "walrus teapot")) == [
        "A violin hangs on the wall.",
        "The teapot stands in the kitchen.",
    ]


def test_what_has_ended_is_not_cancelled_and_what_is_open_not_retried(
    library: Library,
) -> None:
    done = library.add("a.txt", "The walrus sleeps on the ice.")
    waiting = library.take("b.txt", "The teapot stands in the kitchen.")
    with pytest.raises(Conflict, match="done"):
        library.control.cancel(done.job)
    with pytest.raises(Conflict, match="done"):
        library.control.retry(done.job)
    with pytest.raises(Conflict, match="open"):
        library.control.retry(waiting.job)
    for call in (library.control.cancel, library.control.retry):
        with pytest.raises(NotFound):
            call("missing")


def test_all_that_failed_is_retried_by_one_call_and_what_was_cancelled_is_not(
    library: Library,
) -> None:
    library.catalog.create_collection("other")

    def ended(name: str, collection: str, end: Callable[[str], object]) -> str:
        job = library.take(name, f"{name} sleeps.", collection).job
        end(job)
        return job

    def fail(job: str) -> None:
        library.jobs.fail(library.jobs.claim(job), "no", DamagedDocument.__name__)

    def die(job: str) -> None:
        while library.jobs.get(job).status is not JobStatus.DEAD:
            library.jobs.release(library.jobs.claim(job), "no memory")
            library.clock.now += 1000

    here = ended("a", "default", fail)
    dead = ended("b", "default", die)
    away = ended("c", "other", fail)
    stopped = ended("d", "default", library.control.cancel)
    gone = ended("e", "default", fail)
    digest = hashlib.sha256(b"e sleeps.").hexdigest()
    library.folders.original(library.catalog.collection_id("default"), digest).unlink()
    with pytest.raises(Conflict, match="upload it again"):
        library.control.retry(gone)
    assert library.control.retry_all("default") == 2
    statuses = [library.jobs.get(job).status for job in (here, dead, away, stopped)]
    assert statuses == [JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED]
    assert library.jobs.get(dead).attempts == 0
    assert library.control.retry_all() == 1
