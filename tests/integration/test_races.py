"""Two processes of three threads each do the same thing at the same moment: one of them wins, and nothing is lost."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import racers
from databases import on_both
from library import Library
from sqlmodel import select

from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    GenerationRow,
    JobRow,
    ReservationRow,
    VersionRow,
)
from pipeline.types import JobStatus, Query

pytestmark = on_both
PROCESSES = 2
Race = Callable[[str, Any], list[Any]]


@pytest.fixture(scope="session")
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    root = Path(__file__).parents[2]
    started = [
        subprocess.Popen(
            [sys.executable, racers.__file__, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        )
        for number in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    yield started
    for process in started:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def race(processes: list[subprocess.Popen[str]], database_url: str, library: Library) -> Race:
    """Run a race; one result a thread."""

    def run(name: str, given: Any) -> list[Any]:
        order = {
            "race": name,
            "url": database_url,
            "folder": str(library.folder),
            "given": given,
            "at": time.time() + 0.3,
        }
        for process in processes:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in processes]
        assert all(answers), "a racer died: its error stands above"
        return list(itertools.chain.from_iterable(map(json.loads, answers)))

    return run


@pytest.mark.parametrize("way", ["claims", "turns"])
def test_every_job_is_claimed_once(race: Race, library: Library, way: str) -> None:
    jobs = [library.take(f"{n}.txt", f"text {n}").job for n in range(40)]
    won = race(way, jobs)
    assert sorted(itertools.chain.from_iterable(won)) == sorted(jobs)
    assert {(job.status, job.attempts) for job in library.jobs.page()[0]} == {
        (JobStatus.RUNNING, 1)
    }


def test_every_lost_job_is_given_back_once(race: Race, library: Library) -> None:
    jobs = [library.take(f"{n}.txt", f"text {n}").job for n in range(30)]
    for job in jobs:
        assert library.jobs.claim(job)
    assert sum(race("reaps", None)) == len(jobs)
    with library.database.read() as session:
        rows = session.exec(select(JobRow)).all()
    assert {(row.status, row.token, row.attempts) for row in rows} == {("queued", 2, 1)}


def test_a_lease_never_has_two_owners_and_its_token_always_rises(race: Race) -> None:
    tokens = list(itertools.chain.from_iterable(race("leases", 30)))
    assert sorted(tokens) == list(range(1, len(tokens) + 1))


def test_a_key_is_given_once_though_leases_run_out(race: Race, library: Library) -> None:
    given = list(itertools.chain.from_iterable(race("reserves", 15)))
    assert given
    keys = [key for _, first, count, _ in given for key in range(first, first + count)]
    with library.database.read() as session:
        assert sorted(keys) == list(range(session.get_one(GenerationRow, 1).next_key))
        assert len(session.exec(select(ReservationRow)).all()) == len(given)
    # An owner that was fenced off gets nothing any more: keys rise with the owners' tokens.
    assert [token for token, *_ in sorted(given, key=lambda row: row[1])] == sorted(
        token for token, *_ in given
    )
    assert len({segment for *_, segment in given}) == len(given)


def test_uploads_of_one_name_are_numbered_and_the_same_bytes_are_kept_once(
    race: Race, library: Library
) -> None:
    turns = 5
    results = race("names", turns)
    versions = [one for racer in results for one, _ in racer]
    assert len({document for document, *_ in versions}) == 1
    numbers = sorted(number for _, number, _ in versions)
    assert numbers == list(range(1, turns * len(results) + 1))
    for turn in range(turns):
        same = [racer[turn][1] for racer in results]
        assert len({document for document, *_ in same}) == 1
        assert sum(not duplicate for *_, duplicate in same) == 1


def test_a_collection_is_made_once(race: Race, library: Library) -> None:
    made = race("collections", 8)
    assert sorted(itertools.chain.from_iterable(made)) == list(range(8))
    with library.database.read() as session:
        generations = session.exec(select(GenerationRow.id)).all()
        assert sorted(session.exec(select(CollectionRow.generation_id)).all()) == sorted(
            generations
        )


def test_documents_that_are_read_at_once_find_each_other_alike(
    race: Race, library: Library
) -> None:
    documents = race("alike", None)
    views = [library.catalog.document(document) for document in documents]
    for view in views:
        assert {one for one, *_ in view.similar} == set(documents) - {view.id}


async def test_uploads_deletes_and_readers_at_once_tear_and_lose_nothing(
    race: Race, library: Library
) -> None:
    assert race("everything", 8) == [[]] * (PROCESSES * racers.THREADS)
    library.add("last.txt", "The violin hangs on the wall.")
    assert racers.torn(library.database) == []
    with library.database.read() as session:
        live = session.exec(select(VersionRow).where(VersionRow.status == "live")).all()
        chunks = session.exec(select(ChunkRow)).all()
        assert session.exec(select(ReservationRow)).all() == []
    assert {chunk.version_id for chunk in chunks} == {version.id for version in live}
    hits = (await library.retriever.search(Query("walrus violin", top_k=100))).hits
    assert {hit.chunk.document for hit in hits} == {version.document_id for version in live}
