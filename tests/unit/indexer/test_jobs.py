import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import on_both
from sqlmodel import select

from indexer.catalog.catalog import Catalog, Upload
from indexer.folders import Folders
from indexer.jobs import lease as leases
from indexer.jobs.claims import LEASE_S
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import RULES
from indexer.jobs.lease import acquire, check, release
from indexer.sql.database import Database
from indexer.sql.tables import VersionRow
from pipeline.errors import NotFound, Unavailable
from pipeline.types import JobKind, JobStatus

pytestmark = on_both


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(database: Database, clock: Clock) -> Jobs:
    return Jobs(database, clock=clock, dice=lambda: 0.5)


@pytest.fixture
def job(database: Database, tmp_path: Path) -> str:
    folders = Folders(tmp_path)
    catalog = Catalog(database, folders, fingerprint="f", chunking="c")
    catalog.create_collection("default")
    original = folders.original(catalog.collection_id("default"), "1")
    original.parent.mkdir(parents=True)
    original.write_bytes(b"x")
    return catalog.take("default", Upload("a.txt", "1", 1, "text/plain")).job


def test_only_one_of_many_workers_claims_a_job(jobs: Jobs, job: str) -> None:
    claims = []
    threads = [threading.Thread(target=lambda: claims.append(jobs.claim(job))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in claims) == 1


def test_a_job_whose_worker_stopped_breathing_goes_back_and_its_worker_can_no_longer_write(
    jobs: Jobs, job: str, clock: Clock
) -> None:
    lost = jobs.claim(job)
    clock.now += LEASE_S + 1
    assert jobs.reap() == 1
    assert jobs.get(job).status is JobStatus.QUEUED
    assert not jobs.progress(lost, "embed", 1, 2)
    assert not jobs.renew(lost)
    assert jobs.claim(job) is None  # not at once
    clock.now += 5
    again = jobs.claim(job)
    assert again.token > lost.token
    jobs.fail(lost, "too late", "X")
    assert jobs.get(job).status is JobStatus.RUNNING


def test_a_worker_that_breathes_keeps_its_job(jobs: Jobs, job: str, clock: Clock) -> None:
    claim = jobs.claim(job)
    for _ in range(5):
        clock.now += LEASE_S - 1
        assert jobs.renew(claim)
        assert jobs.reap() == 0


def test_bad_input_ends_the_job_and_its_version(jobs: Jobs, job: str, database: Database) -> None:
    jobs.fail(jobs.claim(job), "the file is encrypted", "DamagedDocument")
    ended = jobs.get(job)
    assert (ended.status, ended.error) == (JobStatus.FAILED, "the file is encrypted")
    assert jobs.claim(job) is None
    with database.read() as session:
        assert session.exec(select(VersionRow.status)).one() == "failed"


def test_a_job_that_never_works_waits_longer_each_time_and_is_dead_after_its_last_attempt(
    jobs: Jobs, job: str, clock: Clock
) -> None:
    pauses = []
    for _ in range(RULES[JobKind.INGEST].attempts):
        assert jobs.get(job).status is JobStatus.QUEUED
        began = clock.now
        while job not in jobs.unsent(stale=False):
            clock.now += 1
        pauses.append(clock.now - began)
        jobs.release(jobs.claim(job), "the model does not answer")
    assert pauses == [0, 5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600]
    ended = jobs.get(job)
    assert ended.status is JobStatus.DEAD
    assert "given up after 12 attempts" in ended.error


def test_a_job_that_kills_its_workers_is_dead_sooner_whatever_else_befell_it_before(
    jobs: Jobs, job: str, clock: Clock
) -> None:
    rule = RULES[JobKind.INGEST]
    assert rule.losses == 5
    for _ in range(6):
        jobs.release(jobs.claim(job), "the model does not answer")
        clock.now += 1000
    for _ in range(rule.losses):
        assert jobs.get(job).status is JobStatus.QUEUED
        jobs.claim(job)
        clock.now += 1000
        assert jobs.reap() == 1
        clock.now += 1000
    ended = jobs.get(job)
    assert ended.status is JobStatus.DEAD
    assert "its worker stopped while it ran; given up after 11 attempts" in ended.error


def test_a_job_without_a_message_is_unsent_until_marked_and_again_later(
    jobs: Jobs, job: str, clock: Clock
) -> None:
    assert jobs.unsent(stale=False) == [job]
    jobs.mark_sent([job])
    assert jobs.unsent(stale=False) == jobs.unsent(stale=True) == []
    clock.now += 60
    assert jobs.unsent(stale=True) == [job]


def test_an_unknown_job_is_not_found(jobs: Jobs) -> None:
    with pytest.raises(NotFound):
        jobs.get("missing")
    assert jobs.claim("missing") is None


def test_a_lease_is_renewed_while_its_block_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_TERM_S", 0.6)
    monkeypatch.setattr(leases, "_RENEW_S", 0.1)
    with leases.holding(database, "publish 1") as held:
        assert held is not None
        time.sleep(1.2)
        assert acquire(database, "publish 1") is None
    assert acquire(database, "publish 1") is not None


def test_a_lease_has_one_owner_and_a_token_that_rises(database: Database) -> None:
    first = acquire(database, "publish 1")
    assert acquire(database, "publish 1") is None
    assert acquire(database, "publish 2") is not None
    release(database, first)
    second = acquire(database, "publish 1")
    assert second.token > first.token
    with pytest.raises(Unavailable), database.write() as session:
        check(session, first)
    release(database, first)
    assert acquire(database, "publish 1") is None


def test_who_had_to_wait_for_the_database_gives_nothing_back_before_the_workers_breathed(
    database: Database, jobs: Jobs, job: str, clock: Clock
) -> None:
    claim = jobs.claim(job)
    clock.now += LEASE_S + 1
    times = iter([clock.now, clock.now + 2.0])  # before its transaction, and in it
    late = Jobs(database, clock=lambda: next(times, clock.now))
    clock.now += 3.0
    assert late.reap() == 0
    assert late.reap() == 0  # nobody knows whether a worker came in between
    assert jobs.renew(claim)
    assert late.reap() == 0
    clock.now += LEASE_S + 1
    assert late.reap() == 1
    assert jobs.get(job).status is JobStatus.QUEUED


def test_the_class_of_an_error_stands_beside_it_in_a_job_that_waits_and_in_one_that_is_dead(
    jobs: Jobs, job: str, clock: Clock
) -> None:
    jobs.release(jobs.claim(job), "the model does not answer", error_type="ModelUnavailable")
    assert (jobs.get(job).status, jobs.get(job).error_type) == (
        JobStatus.QUEUED,
        "ModelUnavailable",
    )
    for _ in range(RULES[JobKind.INGEST].losses):
        clock.now += 1000
        jobs.claim(job)
        clock.now += LEASE_S + 1
        assert jobs.reap() == 1
    assert (jobs.get(job).status, jobs.get(job).error_type) == (JobStatus.DEAD, "WorkerStopped")
