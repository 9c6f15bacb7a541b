"""Thousands of small files: python -m bench.jobs [--files 10000] [--processes 2] [--folder FOLDER]

Two data folders with the same files of 20 to 40 words, all waiting. The first is worked on by `zhinao serve`; somebody
else adds one file and asks about it once a tenth is done. The second is worked on by as many processes that take one
job after another from the database: no Celery, no Redis, no relay, no API. Both merge segments as they become due.

Files a second are counted from the twentieth part that was done to the last file, so that starting counts in neither.
Prints a Markdown table and ends with 1 where a limit is missed: answered within 10 s of the upload, and the files a
second without Celery at most 1.2 times those with it.
"""

import argparse
import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # it comes with unstructured
from sqlalchemy import func
from sqlmodel import select

from app.running import Server, running_server
from app.settings import Settings, load
from indexer.jobs.kinds import Queue
from indexer.sql.database import Database
from indexer.sql.tables import JobRow
from pipeline.types import JobKind, JobStatus

ANSWERED_S = 10.0
RATIO = 1.2
BULK, MINE = "bulk", "mine"
QUESTION = "Where does the key to the lighthouse lie?"
FACT = b"The key to the lighthouse lies under the blue mat of the harbour office."


@dataclass(frozen=True, slots=True)
class Beside:
    """What somebody's one file took while the bulk was worked on. Memory is in 10^6 bytes."""

    answered_s: float
    left_then: int
    api_mb: tuple[float, float]
    worker_mb: tuple[float, float]


def text_of(number: int) -> bytes:
    """The content of a small file, 20 to 40 words, no two alike.

    >>> sorted({len(text_of(n).split()) for n in range(100)})
    [24, 39]
    """
    more = "It was packed by hand, weighed twice, and checked by the foreman at the gate. "
    return (
        f"Order {number:05d} was placed by customer {number * 7 % 997} and holds {number % 13 + 1} items "
        f"from aisle {number % 41}. {more if number % 3 == 0 else ''}It leaves the warehouse by van "
        f"{number % 9} in week {number % 52 + 1}."
    ).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first, second = folder / "served", folder / "bare"
        prepare(first, given.files)
        shutil.copytree(first, second)
        beside = served(first, given.files, given.processes)
        bare(second, given.processes)
        with_celery, without = (rate(one) for one in (first, second))
    print(
        f"| {given.files:,} files, {given.processes} processes | files/s |\n|---|---|\n"
        f"| zhinao serve | {with_celery:.1f} |\n| without Celery | {without:.1f} |\n\n"
        f"Ratio {without / with_celery:.2f} (limit {RATIO}). One more file: a cited answer {beside.answered_s:.1f} s "
        f"after its upload (limit {ANSWERED_S:.0f} s), while {beside.left_then:,} waited.\n"
        f"Memory, a tenth done and at the end: API {beside.api_mb[0]:.0f} and {beside.api_mb[1]:.0f} MB, "
        f"largest worker process {beside.worker_mb[0]:.0f} and {beside.worker_mb[1]:.0f} MB."
    )
    if without / with_celery > RATIO or beside.answered_s > ANSWERED_S:
        sys.exit("a limit is missed")


def prepare(folder: Path, files: int) -> None:
    """A data folder in which so many files wait."""
    from app.wiring import build_core
    from app.wiring_models import build_embedder, prepare_models
    from indexer.catalog.arriving import Arrivals

    settings = load(data=folder)
    folder.mkdir(parents=True)
    prepare_models(settings)
    core = build_core(settings, build_embedder(settings, threads=1).embedder.fingerprint)
    with closing(core.database):
        arrivals = Arrivals(core.database, core.folders, core.catalog)
        for name in (BULK, MINE):
            core.catalog.create_collection(name)
        for number in range(files):
            arrivals.take(BULK, f"{number}.txt", io.BytesIO(text_of(number)), bulk=True)


def served(folder: Path, files: int, processes: int) -> Beside:
    """Have a server do all that waits; one file of somebody else comes when a tenth is done."""
    environment = {"ZHINAO_WORKER_PROCESSES": str(processes)}
    options = ("--no-samples", "--role", "api")
    with (
        running_server(folder, options=options, environment=environment) as server,
        closing(Database(_settings(folder).database)) as database,
        httpx.Client(base_url=server.url, timeout=120, trust_env=False) as http,
    ):
        _await_left(database, files - files // 10)
        early = api_mb(server), worker_mb(server)
        begun = time.monotonic()
        add(http, MINE, "mine.txt", FACT)
        while not answered(http):
            time.sleep(0.05)
        took = time.monotonic() - begun
        left = open_jobs(database, BULK)
        _await_left(database, 0)
        return Beside(took, left, (early[0], api_mb(server)), (early[1], worker_mb(server)))


def add(http: httpx.Client, collection: str, name: str, data: bytes) -> None:
    """Upload one file as a user does."""
    http.post(
        "/documents", data={"collection": collection}, files={"files": (name, data)}
    ).raise_for_status()


def answered(http: httpx.Client) -> bool:
    """Whether the question is answered with a citation from the one file."""
    reply = http.post("/ask", json={"question": QUESTION, "collection": MINE}).raise_for_status()
    return any(cited["filename"] == "mine.txt" for cited in reply.json()["citations"])


def bare(folder: Path, processes: int) -> None:
    """Do all that waits without queue and server."""
    # As the worker of a server; numpy reads it when it is imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    over = spawn.Event()
    workers = [spawn.Process(target=_read_all, args=(str(folder),)) for _ in range(processes)]
    merger = spawn.Process(target=_merge_all, args=(str(folder), over))
    for process in (*workers, merger):
        process.start()
    for process in workers:
        process.join()
    over.set()
    merger.join()


def _read_all(folder: str) -> None:
    from app.wiring import build_worker
    from workers.tasks import work

    os.nice(10)  # as the worker of a server
    # As Celery's processes: asyncio.run is slower where a signal of Ctrl-C is handled.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = build_worker(_settings(Path(folder)), Queue.INGEST)
    while True:
        claim = worker.core.jobs.claim_next(worker.handlers)
        if claim is not None:
            work(worker.core.jobs, worker.handlers[claim.kind], claim)
        elif open_jobs(worker.core.database, BULK) == 0:
            return
        else:  # the last ones are in other hands, or put off
            time.sleep(0.05)


def _merge_all(folder: str, over: Event) -> None:
    from app.wiring import build_worker
    from indexer.index.merging import ask_for_merges
    from workers.tasks import work

    os.nice(10)
    worker = build_worker(_settings(Path(folder)), Queue.INDEX)
    while not over.wait(5):
        ask_for_merges(worker.core.database)
        while (claim := worker.core.jobs.claim_next(worker.handlers)) is not None:
            work(worker.core.jobs, worker.handlers[claim.kind], claim)


def rate(folder: Path) -> float:
    """Files a second. Raises AssertionError where one did not end as done."""
    with closing(Database(_settings(folder).database)) as database, database.read() as session:
        rows = session.execute(
            select(JobRow.updated, JobRow.status).where(
                JobRow.collection == BULK, JobRow.kind == JobKind.INGEST.value
            )
        ).all()
    assert {status for _, status in rows} == {JobStatus.DONE.value}
    moments: list[float] = sorted(moment for moment, _ in rows)
    skipped = len(moments) // 20
    return (len(moments) - 1 - skipped) / (moments[-1] - moments[skipped])


def tally(database: Database, collection: str) -> dict[str, int]:
    """The jobs of a collection's files, by status."""
    counted = (
        select(JobRow.status, func.count())
        .where(JobRow.collection == collection, JobRow.kind == JobKind.INGEST.value)
        .group_by(JobRow.status)
    )
    with database.read() as session:
        return dict(session.execute(counted).all())


def open_jobs(database: Database, collection: str) -> int:
    """Files of a collection that wait or are worked on."""
    counts = tally(database, collection)
    return sum(counts.get(status.value, 0) for status in (JobStatus.QUEUED, JobStatus.RUNNING))


def _await_left(database: Database, most: int) -> None:
    while open_jobs(database, BULK) > most:
        time.sleep(1)


def api_mb(server: Server) -> float:
    """Resident memory of the server itself."""
    return _resident_mb(psutil.Process(server.process.pid))


def worker_mb(server: Server) -> float:
    """Resident memory of the largest process that takes jobs; those that read files come and go."""
    below = psutil.Process(server.process.pid).children(recursive=True)
    return max(_resident_mb(one) for one in below if _celery(one))


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.Error:  # it has ended
        return 0.0


def _celery(process: psutil.Process) -> bool:
    try:
        return "celery" in process.cmdline()
    except psutil.Error:
        return False


def _settings(folder: Path) -> Settings:
    return load(data=folder)


if __name__ == "__main__":
    main()
