"""How the jobs are, as numbers: what waits, for how long, and which worker was not heard of."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import func
from sqlmodel import col, select

from indexer.jobs.claims import LEASE_S
from indexer.jobs.kinds import Queue, kinds_of
from indexer.sql.database import Database
from indexer.sql.tables import JobRow
from pipeline.types import JobKind, JobStatus


@dataclass(frozen=True, slots=True)
class Vitals:
    """`jobs` by kind and status. The times are seconds: since the job that waits longest could have begun, and since
    the worker that was silent longest renewed its lease; 0 where nothing waits or runs. `waiting_s` is the first of
    them by kind, where one waits.
    """

    jobs: Mapping[tuple[str, str], int]
    oldest_waiting_s: float
    longest_silence_s: float
    waiting_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def running(self) -> int:
        """Jobs in a worker's hands."""
        return sum(n for (_, status), n in self.jobs.items() if status == JobStatus.RUNNING)

    def alone(self, longer_than_s: float) -> list[Queue]:
        """The queues of which a job waits for longer than this, while none of them runs."""
        return [
            queue
            for queue in Queue
            if max((self.waiting_s.get(kind.value, 0.0) for kind in kinds_of(queue)), default=0.0)
            > longer_than_s
            and not any(self.jobs.get((kind.value, "running")) for kind in kinds_of(queue))
        ]


def read_vitals(database: Database, *, now: float | None = None) -> Vitals:
    """The state of this moment."""
    now = time.time() if now is None else now
    due = func.coalesce(JobRow.not_before, JobRow.created)
    with database.read() as session:
        rows = session.execute(
            select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        ).all()
        waits = session.execute(
            select(JobRow.kind, func.min(due))
            .where(JobRow.status == JobStatus.QUEUED.value, due <= now)
            .group_by(JobRow.kind)
        ).all()
        until = session.exec(
            select(func.min(col(JobRow.lease_until))).where(
                JobRow.status == JobStatus.RUNNING.value
            )
        ).one()
    waiting = {kind: max(0.0, now - since) for kind, since in waits}
    return Vitals(
        {(kind, status): count for kind, status, count in rows},
        max(waiting.values(), default=0.0),
        max(0.0, now - (until - LEASE_S)) if until is not None else 0.0,
        waiting,
    )


@dataclass(frozen=True, slots=True)
class Pulse:
    """The jobs of some kinds that are in a worker's hands, and how many claims all that are known took so far."""

    running: int
    claims: int


def read_pulse(database: Database, kinds: Collection[JobKind]) -> Pulse:
    """Whether anybody works on jobs of these kinds: two readings with as many claims and none that runs say nobody."""
    of = col(JobRow.kind).in_([kind.value for kind in kinds])
    running = func.count().filter(col(JobRow.status) == JobStatus.RUNNING.value)
    with database.read() as session:
        counted, claims = session.execute(
            select(running, func.coalesce(func.sum(JobRow.token), 0)).where(of)
        ).one()
    return Pulse(counted, claims)
