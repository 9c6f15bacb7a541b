"""How the jobs are, as numbers: what waits, for how long, and which worker was not heard of."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import case, func
from sqlmodel import col, select

from indexer.jobs.claims import LEASE_S
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.submit import WITHOUT_HANDLER
from indexer.sql.database import Database
from indexer.sql.tables import JobRow
from pipeline.types import JobKind, JobStatus

_HELD = (
    col(JobRow.status) == JobStatus.RUNNING.value,
    col(JobRow.lease_until).is_not(None),
)
"""A job in a worker's hands: an archive's waits for its members without a lease."""

_DUE = case(
    (col(JobRow.not_before) > col(JobRow.updated), col(JobRow.not_before)),
    else_=col(JobRow.updated),
)
"""Since when a queued job waits: whoever queues one writes `updated`, and nobody else until a worker takes it."""

_RUNNABLE = col(JobRow.kind).not_in([kind.value for kind in WITHOUT_HANDLER])


@dataclass(frozen=True, slots=True)
class Vitals:
    """`jobs` by kind and status, `held` those in a worker's hands by kind: an archive that waits for its members runs
    and is in nobody's. The times are seconds: since the job that waits longest could have begun, and since the worker
    that was silent longest renewed its lease, and since the held job that stands still longest was begun or got on; 0
    where nothing waits or is held. `waiting_s` is the first of them by kind, where one waits; what no worker of this
    version runs does not count as waiting.
    """

    jobs: Mapping[tuple[str, str], int]
    oldest_waiting_s: float
    longest_silence_s: float
    waiting_s: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    longest_still_s: float = 0.0

    @property
    def running(self) -> int:
        """Jobs in a worker's hands."""
        return sum(self.held.values())

    def alone(self, longer_than_s: float) -> list[Queue]:
        """The queues of which a job waits for longer than this, while no worker has one of them."""
        return [
            queue
            for queue in Queue
            if max((self.waiting_s.get(kind.value, 0.0) for kind in kinds_of(queue)), default=0.0)
            > longer_than_s
            and not any(self.held.get(kind.value) for kind in kinds_of(queue))
        ]


def read_vitals(database: Database, *, now: float | None = None) -> Vitals:
    """The state of this moment."""
    now = time.time() if now is None else now
    with database.read() as session:
        rows = session.execute(
            select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        ).all()
        waits = session.execute(
            select(JobRow.kind, func.min(_DUE))
            .where(JobRow.status == JobStatus.QUEUED.value, now >= _DUE, _RUNNABLE)
            .group_by(JobRow.kind)
        ).all()
        held = session.execute(
            select(
                JobRow.kind,
                func.count(),
                func.min(JobRow.lease_until),
                func.min(JobRow.updated),
            )
            .where(*_HELD)
            .group_by(JobRow.kind)
        ).all()
    waiting = {kind: max(0.0, now - since) for kind, since in waits}
    return Vitals(
        {(kind, status): count for kind, status, count in rows},
        max(waiting.values(), default=0.0),
        max([0.0, *(now - (until - LEASE_S) for _, _, until, _ in held)]),
        waiting,
        {kind: count for kind, count, _, _ in held},
        max([0.0, *(now - moved for _, _, _, moved in held)]),
    )


@dataclass(frozen=True, slots=True)
class Still:
    """A job in a worker's hands that stands still for `for_s`: its heart beats, and nothing is told of it."""

    job: str
    kind: str
    stage: str
    for_s: float


def read_still(
    database: Database, longer_than_s: float, *, now: float | None = None
) -> list[Still]:
    """Which jobs were neither begun nor got on for longer than this, the one that stands still longest first."""
    now = time.time() if now is None else now
    with database.read() as session:
        rows = session.execute(
            select(JobRow.id, JobRow.kind, JobRow.stage, JobRow.updated)
            .where(*_HELD, JobRow.updated < now - longer_than_s)
            .order_by(col(JobRow.updated))
        ).all()
    return [Still(job, kind, stage, now - moved) for job, kind, stage, moved in rows]


def read_stranded(database: Database) -> Mapping[str, Sequence[str]]:
    """The jobs that wait for a handler that this version does not have, by kind; oldest first."""
    found: dict[str, list[str]] = {}
    with database.read() as session:
        rows = session.execute(
            select(JobRow.kind, JobRow.id)
            .where(JobRow.status == JobStatus.QUEUED.value, ~_RUNNABLE)
            .order_by(col(JobRow.created))
        ).all()
    for kind, job in rows:
        found.setdefault(kind, []).append(job)
    return found


@dataclass(frozen=True, slots=True)
class Pulse:
    """The jobs of some kinds that are in a worker's hands, and how many claims all that are known took so far."""

    running: int
    claims: int


def read_pulse(database: Database, kinds: Collection[JobKind]) -> Pulse:
    """Whether anybody works on jobs of these kinds: two readings with as many claims and none that runs say nobody."""
    of = col(JobRow.kind).in_([kind.value for kind in kinds])
    running = func.count().filter(*_HELD)
    with database.read() as session:
        counted, claims = session.execute(
            select(running, func.coalesce(func.sum(JobRow.token), 0)).where(of)
        ).one()
    return Pulse(counted, claims)
