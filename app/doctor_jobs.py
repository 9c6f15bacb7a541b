"""What `zhinao doctor` says of the background work: what stands still, and the command that moves it again."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import make_url

from app.metrics import IDLE_S
from app.settings import Settings
from indexer.jobs.claims import LEASE_S
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.schedules import Schedule, Schedules
from indexer.jobs.vitals import Still, Vitals, read_still, read_stranded, read_vitals
from indexer.sql.database import MIGRATIONS, Database
from pipeline.errors import NotFound, Unavailable
from pipeline.types import Job, JobStatus

_LATE_S = 60.0
_STILL_S = 3600.0
"""A long file, or making an index anew, tells of itself many times an hour."""
_FAILED = (JobStatus.FAILED, JobStatus.DEAD)


def jobs_say(settings: Settings) -> str:
    """How many jobs wait, run and have ended. Raises Unavailable that names all that stands still; changes nothing."""
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return "none yet"
    with closing(Database(settings.database)) as database:
        if not is_current(database):
            return "not looked at: the next start brings the database up to date"
        now = time.time()
        vitals = read_vitals(database, now=now)
        listed = Schedules(database).all()
        last = list(_last(Jobs(database), listed))
        hanging = [*stuck(read_still(database, _STILL_S, now=now))]
        hanging += stranded(read_stranded(database))
    if wrong := [*standing(vitals), *hanging, *missed(listed, last, now)]:
        raise Unavailable("; ".join(wrong))
    counts = {status.value: _count(vitals, status) for status in JobStatus}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none yet"
    return f"{told}; {len(listed)} schedules" if listed else told


def standing(vitals: Vitals) -> Iterator[str]:
    """A sentence for each reason why jobs do not go on."""
    for queue in vitals.alone(IDLE_S):
        waited = max(vitals.waiting_s.get(kind.value, 0.0) for kind in kinds_of(queue))
        which = "" if queue is Queue.INGEST else f" --queue {queue.value}"
        yield (
            f"jobs of the queue {queue.value} wait for {waited:.0f} s and no worker takes them: start zhinao serve, "
            f"or zhinao worker{which} beside it"
        )
    if vitals.longest_silence_s > 2 * LEASE_S:
        yield (
            f"a worker was not heard of for {vitals.longest_silence_s:.0f} s, and nobody gives its job back: start "
            "zhinao serve"
        )
    if dead := _count(vitals, JobStatus.DEAD):
        yield (
            f"{dead} jobs were given up: mend what zhinao jobs says of them, then zhinao retry --failed"
        )


def stuck(still: Collection[Still]) -> Iterator[str]:
    """A sentence for each job that a worker has and does nothing for."""
    for one in still:
        stage = f", stage {one.stage}" if one.stage else ""
        yield (
            f"the job {one.job} ({one.kind}{stage}) stands still for {one.for_s / 60:.0f} minutes in its worker's "
            f"hands: zhinao cancel {one.job}, then zhinao retry {one.job}"
        )


def stranded(waiting: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A sentence for each kind of waiting jobs that this version has no handler for."""
    for kind, ids in waiting.items():
        which = f"the job {ids[0]}" if len(ids) == 1 else f"{len(ids)} jobs ({ids[0]}, ...)"
        yield (
            f"{which} of the kind {kind} will not be run, as this version has no handler for it: "
            f"zhinao cancel {ids[0]}"
        )


def missed(schedules: Collection[Schedule], last: Collection[Job], now: float) -> Iterator[str]:
    """A sentence for each schedule that was not begun, or whose last job (among `last`) ended badly."""
    ended: dict[str, Job] = {job.id: job for job in last}
    for one in schedules:
        name = f"the schedule {one.id} ({one.kind.value} {one.when})"
        if (late := now - one.next) > _LATE_S:
            yield f"{name} is late by {late:.0f} s: start zhinao serve, which begins it"
        job = ended.get(one.job) if one.job else None
        if job is not None and job.status in _FAILED:
            yield f"{name} failed the last time: {job.error}"


def _last(jobs: Jobs, schedules: Collection[Schedule]) -> Iterator[Job]:
    for one in schedules:
        with suppress(NotFound):  # jobs go with their documents
            if one.job is not None:
                yield jobs.get(one.job)


def _count(vitals: Vitals, status: JobStatus) -> int:
    return sum(n for (_, of), n in vitals.jobs.items() if of == status.value)


def is_current(database: Database) -> bool:
    """Whether the schema is that of this version."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with database.read() as session:
        at = MigrationContext.configure(session.connection()).get_current_revision()
    return at == ScriptDirectory(str(MIGRATIONS)).get_current_head()
