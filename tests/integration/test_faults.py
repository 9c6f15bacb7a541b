"""Another program holds the database for longer than anybody waits: a sentence, a retry, and nothing is lost."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from databases import on_both
from library import Library
from small_disk import small_disk
from sqlmodel import select

from app.relay import tick
from indexer.ingest import ingest as ingesting
from indexer.jobs.claims import LEASE_S
from indexer.sql import database as databases
from indexer.sql.tables import JobRow
from pipeline.errors import Unavailable
from pipeline.types import JobStatus
from workers import tasks
from workers.tasks import work

HOLD = """
import psycopg, sqlite3, sys
url = sys.argv[1]
if url.startswith("sqlite"):
    held = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
else:
    held = psycopg.connect(url)
    names = held.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    quoted = ", ".join(f'"{name}"' for name, in names)
    held.execute(f"LOCK TABLE {quoted} IN EXCLUSIVE MODE")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held(url: str) -> Iterator[None]:
    """Another process holds the database for itself; on PostgreSQL it can still be read."""
    command = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()


@pytest.fixture
def library(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Library]:
    monkeypatch.setattr(databases, "_BUSY_S", 0.2 if database_url.startswith("sqlite") else 1)
    monkeypatch.setattr(tasks, "_RENEW_S", 0.1)
    made = Library.open(tmp_path, database_url)
    yield made
    made.close()


class Queue:
    """Implements JobQueue: keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def submit(self, job_id: str, *, queue: str) -> None:
        self.sent.append(job_id)

    def waiting(self, queue: str) -> int:
        return 0


@on_both
def test_uploads_claims_and_the_relay_say_who_holds_the_database_and_go_on_afterwards(
    library: Library, database_url: str
) -> None:
    queue = Queue()
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    with held(database_url):
        for call in (
            lambda: library.take("b.txt", "The teapot stands in the kitchen."),
            library.jobs.claim_next,
            lambda: library.jobs.mark_sent([job]),
            lambda: tick(library.jobs, queue),
        ):
            with pytest.raises(Unavailable, match="another program holds the database"):
                call()
    tick(library.jobs, queue)
    assert queue.sent[-1] == job
    library.run(job)
    assert library.jobs.get(job).status is JobStatus.DONE
    library.add("b.txt", "The teapot stands in the kitchen.")
    assert sorted(view.name for view in library.catalog.documents()[0]) == ["a.txt", "b.txt"]


def test_connections_that_were_opened_on_a_read_only_disk_are_opened_anew() -> None:
    with small_disk() as disk:
        other, library = Library.open(disk.path), Library.open(disk.path)
        library.database.close()  # its connections: the other's stay open, as those of other processes do
        with disk.read_only():
            with pytest.raises(Unavailable, match="takes no writes"):
                library.jobs.claim("some-job")
            assert library.jobs.counts() == {}
        assert library.jobs.claim("some-job") is None
        library.close()
        other.close()


OPEN = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1])
held.execute("SELECT count(*) FROM job").fetchall()
print(flush=True)
sys.stdin.read()
"""


def test_no_connection_of_the_pool_keeps_the_others_read_only() -> None:
    """SQLite shares the index of its log among a process's connections, and with it how it was opened."""
    with small_disk() as disk:
        library = Library.open(disk.path)
        other = subprocess.Popen(  # the log stays there
            [sys.executable, "-c", OPEN, str(disk.path / "zhinao.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert other.stdout is not None
        assert other.stdout.readline()
        library.database.close()
        with disk.read_only():
            with library.database.read() as one, library.database.read() as two:
                for session in (one, two):
                    session.exec(select(JobRow)).all()
            with pytest.raises(Unavailable, match="takes no writes"):
                library.database.check_writable()
        library.database.check_writable()
        library.close()
        other.communicate()


@pytest.mark.parametrize(
    ("database_url", "step"),
    [
        *(("sqlite", step) for step in ("store", "cut", "save_staged", "signature")),
        ("postgresql", "save_staged"),
    ],
    indirect=["database_url"],
)
def test_a_job_that_cannot_write_is_done_by_the_next_attempt_and_once(
    library: Library, database_url: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    claim = library.jobs.claim(job)
    before = getattr(ingesting, step)
    begun, over = threading.Event(), threading.Event()

    def wait(*given: object, **named: object) -> object:
        made = before(*given, **named)
        begun.set()
        assert over.wait(30)
        return made

    failed: list[Exception] = []

    def run() -> None:
        try:
            work(library.jobs, library.ingester, claim)
        except Unavailable as error:  # the task logs it: nothing could be written down
            failed.append(error)

    with monkeypatch.context() as patched:
        patched.setattr(ingesting, step, wait)
        worker = threading.Thread(target=run)
        worker.start()
        assert begun.wait(30)
        with held(database_url):
            over.set()
            worker.join(30)
            assert not worker.is_alive()
    assert len(failed) == 1
    assert library.jobs.get(job).status is JobStatus.RUNNING
    library.clock.now += LEASE_S + 1
    assert library.jobs.reap() == 1
    library.clock.now += 100
    library.run(job)
    row = library.jobs.get(job)
    assert (row.status, row.attempts, row.total) == (JobStatus.DONE, 2, 1)
    assert [view.chunks for view in library.catalog.documents()[0]] == [1]


@on_both
def test_a_job_keeps_its_worker_when_both_waited_for_the_database(
    library: Library, database_url: str
) -> None:
    claim = library.jobs.claim(library.take("a.txt", "The walrus sleeps on the ice.").job)
    library.clock.now += LEASE_S + 1
    with held(database_url):
        for call in (library.jobs.reap, lambda: library.jobs.renew(claim)):
            with pytest.raises(Unavailable, match="another program holds the database"):
                call()
    assert library.jobs.reap() == 0
    assert library.jobs.renew(claim)
    assert library.jobs.reap() == 0
    library.clock.now += LEASE_S + 1
    assert library.jobs.reap() == 1
