"""A round of the relay: every part of it is done, whatever befell the others."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from library import Library

from app.relay import tick
from app.serve import Signal, watch
from indexer.jobs.claims import LEASE_S
from indexer.jobs.schedules import Schedules
from indexer.sql.tables import JobRow, ScheduleRow
from pipeline.errors import Unavailable
from pipeline.types import JobKind, JobStatus


class Queue:
    """Implements JobQueue: keeps what it is sent, or does not answer."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.sent: list[str] = []

    def submit(self, job_id: str, *, queue: str) -> None:
        if not self.answers:
            raise Unavailable("the job queue (Redis) does not answer")
        self.sent.append(job_id)

    def waiting(self, queue: str) -> int:
        return 0


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library.open(tmp_path)
    yield made
    made.close()


def broken(library: Library) -> Schedules:
    """Schedules one of which has a kind that this version does not know: to begin it is a bug's error."""
    schedules = Schedules(library.database, clock=library.clock)
    made = schedules.add(JobKind.MERGE, "every 1d", collection="default")
    with library.database.write() as session:
        row = session.get_one(ScheduleRow, made.id)
        row.kind, row.next = "paint", 0.0
        session.add(row)
    return schedules


def test_jobs_are_sent_and_given_back_though_a_schedule_cannot_begin(library: Library) -> None:
    schedules = broken(library)
    silent = library.take("a.txt", "The walrus sleeps on the ice.").job
    library.jobs.claim(silent)
    library.clock.now += LEASE_S + 1
    job = library.take("b.txt", "The teapot stands in the kitchen.").job
    queue = Queue()
    with pytest.raises(ValueError, match="paint"):
        tick(library.jobs, queue, None, schedules)
    assert queue.sent == [job]
    assert library.jobs.get(silent).status is JobStatus.QUEUED


def test_what_stopped_is_given_back_and_schedules_begin_though_redis_is_gone(
    library: Library,
) -> None:
    silent = library.take("a.txt", "The walrus sleeps on the ice.").job
    library.jobs.claim(silent)
    library.clock.now += LEASE_S + 1
    library.take("b.txt", "The teapot stands in the kitchen.")
    schedules = Schedules(library.database, clock=library.clock)
    due = schedules.add(JobKind.MERGE, "every 15m", collection="default")
    library.clock.now += 3600
    with pytest.raises(Unavailable, match="Redis"):
        tick(library.jobs, Queue(answers=False), None, schedules)
    assert library.jobs.get(silent).status is JobStatus.QUEUED
    (begun,) = [one.job for one in schedules.all() if one.id == due.id]
    assert library.jobs.get(begun).kind is JobKind.MERGE


def test_every_error_of_a_round_is_told(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    schedules = broken(library)
    library.take("b.txt", "The teapot stands in the kitchen.")
    with pytest.raises(Unavailable, match="Redis"):
        tick(library.jobs, Queue(answers=False), None, schedules)
    (told,) = caplog.records
    assert (told.levelno, told.exc_info[0]) == (logging.ERROR, ValueError)


def test_a_job_that_no_worker_runs_is_not_sent(library: Library) -> None:
    job = library.jobs.submit(JobKind.EVALUATE, collection="default")
    with library.database.write() as session:
        row = session.get_one(JobRow, job)
        row.kind = "sft"
        session.add(row)
    queue = Queue()
    tick(library.jobs, queue)
    assert queue.sent == []


def test_workers_are_looked_at_again_whatever_the_last_look_met(
    caplog: pytest.LogCaptureFixture,
) -> None:
    until, looks = Signal(), itertools.count(1)
    errors = {1: Unavailable("Redis is away"), 2: ZeroDivisionError("a bug")}

    def look() -> None:
        number = next(looks)
        until.should_exit = number == 3
        if number in errors:
            raise errors[number]

    watch(look, until)
    assert next(looks) == 4
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
