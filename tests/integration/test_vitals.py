"""The numbers of the jobs, on both databases, and as Prometheus reads them."""

import pytest
from databases import on_both
from library import Library
from prometheus_client.parser import text_string_to_metric_families

from app.doctor_jobs import standing
from app.metrics import IDLE_S, exposition, unattended
from indexer.index.restore import _release
from indexer.jobs.claims import LEASE_S
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.vitals import Vitals, read_pulse, read_vitals
from indexer.sql.tables import JobRow

pytestmark = on_both


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_waits_and_who_is_silent_is_counted_in_seconds(library: Library) -> None:
    assert read_vitals(library.database) == Vitals({}, 0.0, 0.0)
    library.add("done.txt", "The walrus sleeps.")
    waiting = library.take("a.txt", "The teapot stands.").job
    later = library.take("b.txt", "The violin hangs.").job
    now = library.jobs.get(waiting).created
    assert read_vitals(library.database, now=now + 40).oldest_waiting_s == pytest.approx(
        40, abs=0.01
    )
    library.jobs.release(library.jobs.claim(waiting), "the disk is full")  # it waits for 5 s first
    second = library.jobs.get(later).created
    assert read_vitals(library.database, now=second + 2).oldest_waiting_s == pytest.approx(
        2, abs=0.1
    )
    claim = library.jobs.claim(later)
    seen = read_vitals(library.database, now=second + 3)
    assert seen.oldest_waiting_s == 0
    assert 0 <= seen.longest_silence_s < 5
    assert read_vitals(library.database, now=second + 3 + LEASE_S).longest_silence_s > LEASE_S
    assert seen.jobs == {("ingest", "done"): 1, ("ingest", "queued"): 1, ("ingest", "running"): 1}
    assert seen.running == 1
    assert library.jobs.renew(claim)


@pytest.mark.parametrize("queued", ["retried", "handed back", "given back", "woken", "restored"])
def test_a_job_of_yesterday_waits_since_it_was_queued_again(
    library: Library, waiting_archive: str, queued: str
) -> None:
    member = next(job.id for job in library.jobs.page()[0] if job.id != waiting_archive)
    claim = library.jobs.claim(member)
    if queued == "woken":
        library.control.cancel(member)
    elif queued == "retried":
        library.jobs.fail(claim, "the file is encrypted", "DamagedDocument")
    job = waiting_archive if queued == "woken" else member
    with library.database.write() as session:
        row = session.get_one(JobRow, job)
        row.created -= 86_400
        row.updated -= 3_600
        session.add(row)
    match queued:
        case "retried":
            library.control.retry(job)
        case "handed back":
            library.jobs.hand_back(claim)
        case "given back":
            library.jobs.release(claim, "the disk is full")
        case "woken":
            assert library.jobs.wake() == 1
        case "restored":
            _release(library.database)
    seen = read_vitals(library.database, now=library.clock() + 60)
    assert seen.waiting_s["ingest"] == pytest.approx(60, abs=20)


def test_prometheus_reads_every_number(library: Library) -> None:
    library.add("done.txt", "The walrus sleeps.")
    library.take("a.txt", "The teapot stands.")
    later = library.clock() + IDLE_S + 5
    told = samples(
        exposition(
            read_vitals(library.database, now=later),
            messages=3,
            restarts={"redis": 0, "worker index": 2},
        )
    )
    assert told["zhinao_jobs", "ingest", "done"] == told["zhinao_jobs", "ingest", "queued"] == 1
    assert told["zhinao_jobs", "ingest", "dead"] == 0
    assert told["zhinao_job_oldest_waiting_seconds",] > IDLE_S
    assert told["zhinao_queue_unattended",] == told["zhinao_queue_up",] == 1
    assert told["zhinao_queue_messages",] == 3
    restarts = [told["zhinao_child_restarts", child] for child in ("redis", "worker index")]
    assert (restarts, told["zhinao_child_restarts_total",]) == ([0, 2], 2)
    down = samples(exposition(read_vitals(library.database), messages=None, restarts={}))
    assert down["zhinao_queue_up",] == 0
    assert ("zhinao_queue_messages",) not in down


@pytest.mark.parametrize(
    ("waited", "running", "alone"), [(31, 0, True), (31, 1, False), (9, 0, False)]
)
def test_a_queue_is_unattended_when_jobs_wait_and_none_runs(
    library: Library, waited: int, running: int, *, alone: bool
) -> None:
    held = {"ingest": running}
    assert unattended(Vitals({}, waited, 0.0, {"ingest": waited}, held)) is alone


def test_an_archive_that_waits_for_its_members_is_in_nobodys_hands(
    library: Library, waiting_archive: str
) -> None:
    now = library.jobs.get(waiting_archive).updated + 2 * IDLE_S
    seen = read_vitals(library.database, now=now)
    assert seen.jobs == {("ingest", "running"): 1, ("ingest", "queued"): 1}
    assert (seen.running, seen.longest_silence_s) == (0, 0)
    assert read_pulse(library.database, kinds_of(Queue.INGEST)).running == 0
    assert seen.alone(IDLE_S) == [Queue.INGEST]
    assert len(list(standing(seen))) == 1
    told = samples(exposition(seen, messages=1, restarts={}))
    assert told["zhinao_queue_without_consumer", "ingest"] == told["zhinao_queue_unattended",] == 1
    assert library.jobs.claim_next() is not None  # the member is in somebody's
    seen = read_vitals(library.database, now=now)
    assert (seen.running, seen.alone(IDLE_S)) == (1, [])
    assert read_pulse(library.database, kinds_of(Queue.INGEST)).running == 1
