"""A cancelled job leaves nothing to be found, whatever it was doing; retried, it is done once."""

import hashlib
from collections.abc import Callable

import pytest
from databases import on_both
from library import Library
from reindexing import Changing

from indexer.folders import Folders
from indexer.index import publish as publishing
from indexer.index.sweeping import all_targets, sweep
from indexer.ingest import ingest as ingesting
from indexer.jobs.control import Control
from indexer.jobs.lease import acquire, release
from models.fakes import HashEmbedder
from pipeline.errors import Conflict, DamagedDocument, NotFound
from pipeline.types import JobKind, JobStatus, Query

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


class Killed(BaseException):
    """Stands for `kill -9`."""


LONG = "\n\n".join(f"Walrus number {n} sleeps on the ice. " * 6 for n in range(20))
BEHIND = {
    "while it embeds": (ingesting.Ingester, "_mark_staged"),
    "while it waits": (publishing.Publisher, "publish"),
}


@pytest.fixture(params=BEHIND)
def left_by_a_dead_worker(
    request: pytest.FixtureRequest, library: Library, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A job that waits again, of which parsed text, embedded rows and staged files lie there."""
    job = library.take("a.txt", LONG).job
    claim = library.jobs.claim(job)

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ingesting, "SLOW_S", 0.0)
        patched.setattr(*BEHIND[request.param], die)
        with pytest.raises(Killed):
            library.ingest(claim)
    library.clock.now += 20
    assert library.jobs.reap() == 1
    library.clock.now += 60
    assert {name.split(".")[-1] for name in staged(library)} == {"parsed", "rows", "cuts", "npz"}
    return job


def far(library: Library) -> Control:
    """Of a process that does not reach the disk."""
    return Control(library.database, Folders(library.folder / "elsewhere"), clock=library.clock)


async def test_what_a_dead_worker_left_goes_with_its_cancelled_job_and_a_retry_begins_anew(
    library: Library, left_by_a_dead_worker: str
) -> None:
    library.control.cancel(left_by_a_dead_worker)
    assert staged(library) == []
    library.control.retry(left_by_a_dead_worker)
    library.run(left_by_a_dead_worker)
    assert library.jobs.get(left_by_a_dead_worker).status is JobStatus.DONE
    assert "Walrus number 7 " in " ".join(await found(library, "walrus number 7"))


def publish(library: Library) -> None:
    library.add("b.txt", "The teapot stands in the kitchen.")


def start(library: Library) -> None:
    assert sweep(library.database, library.folders, all_targets(library.database)) == frozenset()


@pytest.mark.parametrize("then", [publish, start])
def test_what_a_canceller_does_not_reach_goes_with_the_next_publish_or_start(
    library: Library, left_by_a_dead_worker: str, then: Callable[[Library], None]
) -> None:
    start(library)
    assert staged(library)  # the job may go on
    far(library).cancel(left_by_a_dead_worker)
    assert staged(library)
    then(library)
    assert staged(library) == []


def test_what_a_dead_job_had_done_stays_for_its_retry(
    library: Library, left_by_a_dead_worker: str
) -> None:
    while library.jobs.get(left_by_a_dead_worker).status is not JobStatus.DEAD:
        library.jobs.release(library.jobs.claim(left_by_a_dead_worker), "no memory")
        library.clock.now += 1000
    start(library)
    assert staged(library)


def test_a_worker_that_waits_to_publish_tidies_up_when_its_job_is_cancelled(
    library: Library,
) -> None:
    taken = library.take("a.txt", "The walrus sleeps on the ice.")
    [target] = all_targets(library.database)
    held = acquire(library.database, f"publish {target.generation_id}")

    def cancel() -> None:
        assert staged(library)
        assert far(library).cancel(taken.job) == 1

    library.ingester._breath = lambda _claim: cancel
    library.ingest(library.jobs.claim(taken.job))
    release(library.database, held)
    assert staged(library) == []


@pytest.mark.parametrize("left_by_a_dead_worker", ["while it embeds"], indirect=True)
@pytest.mark.parametrize("reaches", [True, False])
def test_what_lies_in_the_index_before_goes_too(
    library: Library, left_by_a_dead_worker: str, reaches: bool
) -> None:
    Changing(library, HashEmbedder(dim=48, seed="new")).run(force=True)
    assert staged(library)
    (library.control if reaches else far(library)).cancel(left_by_a_dead_worker)
    assert (staged(library) == []) is reaches
    start(library)
    assert staged(library) == []


def test_a_collection_that_is_deleted_while_a_file_is_staged_does_not_come_back_as_a_folder(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.catalog.create_collection("other")
    taken = library.take("a.txt", "The walrus sleeps on the ice.", "other")
    claim = library.jobs.claim(taken.job)
    folder = library.folders.collection(claim.collection_id)
    save = ingesting.save_staged

    def delete_and_save(*given: object, **named: object) -> None:
        library.catalog.delete_collection("other")
        save(*given, **named)
        assert folder.exists()

    monkeypatch.setattr(ingesting, "save_staged", delete_and_save)
    library.ingest(claim)
    assert not folder.exists()


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
    assert library.control.retry_all(kinds=[JobKind.MERGE]) == 0
    assert library.jobs.counts("other", [JobKind.MERGE]) == {}
    assert library.jobs.counts("other", [JobKind.MERGE, JobKind.INGEST]) == {"failed": 1}
    assert library.control.retry_all(kinds=[JobKind.INGEST]) == 1
