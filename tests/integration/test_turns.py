"""Whose turn it is: urgent before bulk, a quiet collection before a busy one, the oldest first; each job once."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from databases import on_both
from library import Library
from sqlalchemy import func
from sqlmodel import SQLModel, select

from indexer.catalog.catalog import Upload
from indexer.jobs.claims import Claim
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.work import Superseded, Teller
from indexer.sql.tables import ChunkRow, JobRow, SegmentRow
from pipeline.types import JobKind

pytestmark = on_both


def take(
    library: Library, name: str, collection: str = "default", *, bulk: bool = False, size: int = 1
) -> str:
    digest = f"{random.getrandbits(128):032x}"
    path = library.folders.original(library.catalog.collection_id(collection), digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"The walrus sleeps on the ice.")
    job = library.catalog.take(collection, Upload(name, digest, size, "text/plain", bulk=bulk)).job
    assert job is not None
    return job


def chunks(library: Library) -> int:
    return counted(library, ChunkRow)


def segments(library: Library) -> int:
    return counted(library, SegmentRow)


def counted(library: Library, table: type[SQLModel]) -> int:
    with library.database.read() as session:
        return session.exec(select(func.count()).select_from(table)).one()


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


def test_a_long_bulk_file_gives_way_to_a_single_one_that_waits_and_goes_on_behind_it(
    library: Library,
) -> None:
    long = take(library, "long.pdf", bulk=True)
    claim = library.jobs.claim_next()
    assert not library.jobs.give_way(claim)
    one = take(library, "mine.txt")
    assert not library.jobs.give_way(claim)  # a worker may be free
    library.clock.now += 6
    say = Teller(library.jobs, claim, clock=lambda: library.clock.now)
    say("embed", 1, 9)
    library.clock.now += 6
    with pytest.raises(Superseded):
        say("embed", 2, 9)
    assert not library.jobs.renew(claim)
    assert library.jobs.get(long).attempts == 0
    assert [each.job for each in claimed(library)] == [one, long]


def test_a_collection_that_has_all_workers_gives_one_to_another(library: Library) -> None:
    library.catalog.create_collection("other")
    ours = [take(library, f"{n}.pdf") for n in range(3)]
    first, second = (library.jobs.claim_next() for _ in range(2))
    theirs = take(library, "theirs.txt", "other")
    library.clock.now += 6
    assert library.jobs.give_way(first)
    assert library.jobs.claim_next().job == theirs
    library.clock.now += 6
    assert not library.jobs.give_way(second)  # one each
    assert [each.job for each in claimed(library)] == ours[:1] + ours[2:]


def test_equals_of_a_collection_a_merge_and_one_who_pauses_make_nobody_give_way(
    library: Library,
) -> None:
    take(library, "a.pdf")
    claim = library.jobs.claim_next()
    take(library, "b.pdf")
    merge = library.jobs.submit(JobKind.MERGE, collection="default")
    other = take(library, "c.pdf")
    library.jobs.release(library.jobs.claim(other), "the disk is full")
    library.clock.now += 6
    assert not library.jobs.give_way(claim)
    merging = library.jobs.claim(merge)
    library.jobs.submit(JobKind.BACKUP)
    library.clock.now += 6
    say = Teller(library.jobs, merging, clock=lambda: library.clock.now)
    for _ in range(3):
        library.clock.now += 6
        library.jobs.renew(claim)
        say("merge", 1, 2)


def test_a_re_index_of_days_lets_a_merge_and_a_backup_go_first(library: Library) -> None:
    re_index = library.jobs.submit(JobKind.REINDEX, collection="default")
    claim = library.jobs.claim_next(kinds_of(Queue.INDEX))
    merge = library.jobs.submit(JobKind.MERGE, collection="default")
    backup = library.jobs.submit(JobKind.BACKUP)
    library.clock.now += 6
    assert library.jobs.give_way(claim)
    order = [library.jobs.claim_next(kinds_of(Queue.INDEX)).job for _ in range(3)]
    assert (set(order[:2]), order[2]) == ({merge, backup}, re_index)


def test_files_of_a_bulk_that_follow_each_other_are_published_together(library: Library) -> None:
    many = [take(library, f"{n}.txt", bulk=True) for n in range(5)]
    claims = [library.jobs.claim_next() for _ in many[:4]]
    for claim in claims:
        library.ingest(claim)
    waiting = [library.jobs.get(job) for job in many[:4]]
    told = {(job.status.value, job.attempts, job.stage, job.done, job.total) for job in waiting}
    assert told == {("queued", 0, "publish", 1, 1)}
    assert chunks(library) == 0
    last = library.jobs.claim_next()
    assert last.job == many[4]  # those that are put off let it go first
    library.ingest(last)
    ended = [library.jobs.get(job) for job in many]
    assert {(job.status.value, job.attempts) for job in ended} == {("done", 1)}
    assert (chunks(library), segments(library)) == (5, 1)


def test_a_file_that_is_put_off_is_published_when_its_moment_is_over(library: Library) -> None:
    first, second = (take(library, f"{n}.txt", bulk=True) for n in range(2))
    library.ingest(library.jobs.claim_next())
    other = library.jobs.claim_next()  # and its worker dies
    assert other.job == second
    assert library.jobs.claim_next() is None
    assert list(library.jobs.unsent(stale=False)) == []
    library.clock.now += 3
    assert list(library.jobs.unsent(stale=False)) == [first]
    library.ingest(library.jobs.claim_next())
    assert library.jobs.get(first).status.value == "done"
    assert library.jobs.get(second).status.value == "running"


def test_a_file_is_not_put_off_for_a_long_one_or_for_another_collections(library: Library) -> None:
    library.catalog.create_collection("other")
    take(library, "theirs.txt", "other", bulk=True)
    mine = take(library, "mine.txt", bulk=True)
    take(library, "scan.pdf", bulk=True, size=10**7)
    take(library, "small.txt", bulk=True)  # it comes behind the scan
    library.ingest(library.jobs.claim(mine))
    assert library.jobs.get(mine).status.value == "done"


def test_who_is_claimed_without_a_message_of_his_own_leaves_one_to_the_next(
    library: Library,
) -> None:
    first, *others = [take(library, f"{n}.txt", bulk=True) for n in range(3)]
    library.jobs.mark_sent([first, *others])
    library.ingest(library.jobs.claim_next())  # for the first message
    library.clock.now += 3
    assert library.jobs.claim_next().job == first  # for the second one: it is due again
    unsent = list(library.jobs.unsent(stale=False))
    assert len(unsent) == 1
    assert unsent[0] in others
    library.jobs.mark_sent(unsent)
    assert {library.jobs.claim_next().job for _ in others} == set(others)
    assert list(library.jobs.unsent(stale=False)) == []


def test_a_file_that_is_put_off_can_be_cancelled_and_leaves_nothing(library: Library) -> None:
    first, second = (take(library, f"{n}.txt", bulk=True) for n in range(2))
    library.ingest(library.jobs.claim_next())
    assert list(library.folder.glob("collections/*/*/staged/*"))
    library.control.cancel(first)
    assert not list(library.folder.glob("collections/*/*/staged/*"))
    library.ingest(library.jobs.claim_next())
    assert [library.jobs.get(job).status.value for job in (first, second)] == ["cancelled", "done"]
    assert chunks(library) == 1


def test_a_file_that_somebody_waits_for_is_not_put_off_and_takes_the_others_along(
    library: Library,
) -> None:
    many = [take(library, f"{n}.txt", bulk=True) for n in range(3)]
    library.ingest(library.jobs.claim_next())
    mine = take(library, "mine.txt")
    library.ingest(library.jobs.claim_next())
    states = [library.jobs.get(job).status.value for job in (mine, *many)]
    assert states == ["done", "done", "queued", "queued"]


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
