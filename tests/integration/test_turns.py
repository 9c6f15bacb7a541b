"""Whose turn it is: urgent before bulk, a quiet collection before a busy one, the oldest first; each job once."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from databases import on_both
from library import Library

from indexer.catalog.catalog import Upload
from indexer.jobs.claims import Claim
from indexer.sql.tables import JobRow

pytestmark = on_both


def take(library: Library, name: str, collection: str = "default", *, bulk: bool = False) -> str:
    digest = f"{random.getrandbits(128):032x}"
    path = library.folders.original(library.catalog.collection_id(collection), digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    job = library.catalog.take(collection, Upload(name, digest, 1, "text/plain", bulk=bulk)).job
    assert job is not None
    return job


def claimed(library: Library) -> list[Claim]:
    claims = []
    while (claim := library.jobs.claim_next()) is not None:
        claims.append(claim)
    return claims


def test_a_single_file_goes_before_the_bulk_that_was_there_first(library: Library) -> None:
    many = [take(library, f"{n}.txt", bulk=True) for n in range(30)]
    one = take(library, "mine.txt")
    assert [claim.job for claim in claimed(library)] == [one, *many]


def test_a_collections_thousand_files_do_not_keep_another_collections_one_waiting(
    library: Library,
) -> None:
    library.catalog.create_collection("other")
    many = [take(library, f"{n}.txt") for n in range(20)]
    first = [library.jobs.claim_next() for _ in range(2)]
    theirs = take(library, "theirs.txt", "other")
    assert [claim.job for claim in first] == many[:2]
    assert [claim.job for claim in claimed(library)] == [theirs, *many[2:]]


def test_a_job_that_pauses_after_an_error_lets_the_next_go(library: Library) -> None:
    early, later = take(library, "a.txt"), take(library, "b.txt")
    library.jobs.release(library.jobs.claim_next(), "the disk is full")
    assert [claim.job for claim in claimed(library)] == [later]
    library.clock.now += 10
    assert [claim.job for claim in claimed(library)] == [early]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_that_of_a_simulation(library: Library, seed: int) -> None:
    dice = random.Random(seed)
    names = ["default", "b", "c"]
    for name in names[1:]:
        library.catalog.create_collection(name)
    waiting = []
    for n in range(25):
        collection, bulk = dice.choice(names), dice.random() < 0.5
        waiting.append((bulk, collection, n, take(library, f"{n}.txt", collection, bulk=bulk)))
    running: list[tuple[str, Claim]] = []
    while waiting:
        busy = [collection for collection, _ in running]
        due = min(waiting, key=lambda job: (job[0], busy.count(job[1]), _oldest(waiting, job)))
        claim = library.jobs.claim_next()
        assert claim is not None
        assert claim.job == due[3]
        waiting.remove(due)
        running.append((due[1], claim))
        while running and dice.random() < 0.4:
            _, ended = running.pop(dice.randrange(len(running)))
            library.jobs.fail(ended, "no", "DamagedDocument")
    assert library.jobs.claim_next() is None


def _oldest(waiting, job) -> tuple[int, int]:
    """A collection's turn goes by its oldest job of the priority, and inside it by age."""
    same = [n for bulk, collection, n, _ in waiting if (bulk, collection) == job[:2]]
    return min(same), job[2]


def test_many_workers_take_each_job_once(library: Library) -> None:
    jobs = {take(library, f"{n}.txt", bulk=n % 2 == 0) for n in range(40)}
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: [claim.job for claim in claimed(library)], range(4)))
    taken = [job for part in parts for job in part]
    assert len(taken) == len(jobs)
    assert set(taken) == jobs
    with library.database.read() as session:
        assert {session.get(JobRow, job).token for job in jobs} == {1}
