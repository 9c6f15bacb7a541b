"""Job rows: who works on what, how far it is, and what was wrong. Statements only, no queue."""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from indexer.catalog.catalog import collection_row
from indexer.catalog.precedence import BULK
from indexer.jobs.claims import (
    LEASE_S,
    Claim,
    claimed,
    cut,
    end,
    fail_version,
    give_back,
    hand_back,
    owned,
)
from indexer.jobs.kinds import kinds_of, queue_of
from indexer.jobs.listing import ListedJobs
from indexer.jobs.submit import add_job
from indexer.jobs.turns import (
    oldest,
    read_turns,
    should_give_way,
    small_one_follows,
    unsend_another,
)
from indexer.jobs.waiting import wake
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import JobRow
from pipeline.types import JobId, JobKind, JobStatus

_RESEND_S = 10.0
_PATIENCE_S = 5.0
"""So long a job waits for a worker that gets free before another gives way: messages take a second to be sent."""
_HELD_UP_S = 1.0
PUT_OFF_S = 2.0
"""A version of a bulk is searchable so much later, and costs half as much: a publish has about forty statements and a
segment, for one version or for a hundred."""


class Jobs(ListedJobs):
    """The job table."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(database)
        self._clock = clock
        self._dice = dice
        self._held_up = False

    def submit(
        self,
        kind: JobKind,
        *,
        collection: str | None = None,
        payload: Mapping[str, Any] | None = None,
        priority: int | None = None,
        about: str | None = None,
        detached: bool = False,
        alone: bool = False,
    ) -> JobId:
        """A queued job of any kind but `ingest`, whose rows an upload makes; the relay sends it within a second.

        `about` is shown where a file's name would be. A `detached` job shows the collection's name and outlives it.
        With `alone` an open job of the same kind, collection and payload is returned instead of a second one.
        Raises NotFound without the collection, InvalidInput for a payload that is no JSON or has over 1 MiB, and for a
        kind that this version does not run.
        """
        with self._database.write() as session:
            owner = collection_row(session, collection, lock=True) if collection else None
            return add_job(
                session,
                kind,
                owner,
                payload or {},
                self._clock(),
                priority=priority,
                about=about,
                detached=detached,
                alone=alone,
            )

    def claim(self, job_id: str) -> Claim | None:
        """Take a queued job; None when it is gone, ended or in another worker's hands."""
        with self._database.write() as session:
            row = locked(session, JobRow, job_id)
            now = self._clock()
            early = row is not None and row.not_before is not None and row.not_before > now
            if row is None or early or row.status != JobStatus.QUEUED:
                return None
            return claimed(session, row, now)

    def claim_next(self, kinds: Collection[JobKind] = tuple(JobKind)) -> Claim | None:
        """Take the job of these kinds whose turn it is; None when none is due.

        The lowest priority goes first; among equals a job of the collection with the fewest running jobs, so that
        one collection's thousand files do not keep another's one waiting; then the oldest.
        """
        turns = read_turns(self._database, kinds, self._clock())
        # Jobs in other hands are passed over. They are waited for at the end: those hands may only have noted
        # that a job was sent.
        for free in (True, False):
            for turn in turns:
                with self._database.write() as session:
                    now = self._clock()
                    row = oldest(session, turn, kinds, now, free=free)
                    if row is not None:
                        if row.sent is None:  # it is done for the message of another
                            unsend_another(session, row, kinds, now)
                        return claimed(session, row, now)
        return None

    def renew(self, claim: Claim) -> bool:
        """Push the lease on; False when the job is no longer this worker's."""
        return self._update(claim, {})

    def progress(self, claim: Claim, stage: str, done: int, total: int) -> bool:
        """Say how far a job is; False when it is no longer this worker's."""
        return self._update(claim, {"stage": stage, "done": done, "total": total})

    def fail(self, claim: Claim, error: str, error_type: str, trace: str | None = None) -> None:
        """End a job, and its version with it; `trace` is kept for operators."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is None:
                return
            row.status, row.error, row.error_type = JobStatus.FAILED.value, error, error_type
            row.lease_until, row.updated, row.traceback = None, self._clock(), cut(trace)
            fail_version(session, row.version_id)
            session.add(row)

    def release(
        self, claim: Claim, error: str, trace: str | None = None, *, error_type: str | None = None
    ) -> None:
        """Give a job back to the queue after an error that may pass; the last attempt ends it as dead."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is not None:
                give_back(
                    session,
                    row,
                    error,
                    self._clock(),
                    error_type=error_type,
                    trace=trace,
                    dice=self._dice(),
                )

    def finish(self, claim: Claim, result: Mapping[str, Any]) -> bool:
        """End a job well; False when it is no longer this worker's. Raises InvalidInput for too large a result."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is not None:
                end(session, row, result, self._clock())
            return row is not None

    def hand_back(self, claim: Claim) -> None:
        """Queue a job again at once, without counting the attempt: its worker is told to end."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is not None:
                hand_back(session, row, self._clock())

    def give_way(self, claim: Claim) -> bool:
        """Hand a job back where one that goes first found every worker busy for a while; whether it was."""
        kinds = kinds_of(queue_of(claim.kind))
        if not should_give_way(self._database, claim.job, kinds, self._clock() - _PATIENCE_S):
            return False
        self.hand_back(claim)
        return True

    def put_off(self, claim: Claim, *, chunks: int) -> bool:
        """Queue a job of bulk again for a moment where another small one comes next; whether it was.

        What they leave behind is published together: by the last of them, or by the first whose moment is over.
        `chunks` is how many it has staged.
        """
        with self._database.write() as session:
            row = owned(session, claim)
            now = self._clock()
            if row is None or row.priority < BULK or not small_one_follows(session, row, now):
                return False
            hand_back(session, row, now)
            row.not_before = now + PUT_OFF_S
            row.stage, row.done, row.total = "publish", chunks, chunks
            return True

    def reap(self) -> int:
        """Give back the jobs whose worker stopped breathing. Returns how many.

        Where this had to wait for the database, so had the workers, whose breath comes first: nothing is given back
        then, nor by the next call.
        """
        asked = self._clock()
        expired = select(JobRow).where(
            JobRow.status == JobStatus.RUNNING.value, col(JobRow.lease_until) < asked
        )
        with self._database.read() as session:
            if session.exec(expired.limit(1)).first() is None:
                return 0
        before, self._held_up = (
            self._held_up,
            True,
        )  # unless the first statement gets through at once
        with self._database.write() as session:
            # One that another process gives back or ends at this moment is left to it.
            rows = session.exec(expired.with_for_update(skip_locked=True)).all()
            self._held_up = self._clock() - asked > _HELD_UP_S
            if before or self._held_up:
                return 0
            for row in rows:
                error = "its worker stopped while it ran"
                give_back(
                    session,
                    row,
                    error,
                    self._clock(),
                    error_type="WorkerStopped",
                    dice=self._dice(),
                    lost=True,
                )
            return len(rows)

    def wake(self) -> int:
        """Queue the jobs of archives whose members have all ended. Returns how many."""
        return wake(self._database)

    def queued_kinds(self) -> frozenset[JobKind]:
        """The kinds of which a job is queued."""
        with self._database.read() as session:
            kinds = session.exec(
                select(JobRow.kind).where(JobRow.status == JobStatus.QUEUED.value).distinct()
            ).all()
        return frozenset(kind for kind in JobKind if kind.value in kinds)

    def unsent(
        self, *, stale: bool, kinds: Collection[JobKind] = tuple(JobKind), limit: int = 100
    ) -> Sequence[str]:
        """Queued jobs whose time has come and that were never sent, or (`stale`) sent long ago; oldest first."""
        now = self._clock()
        sent = col(JobRow.sent)
        with self._database.read() as session:
            return session.exec(
                select(JobRow.id)
                .where(
                    JobRow.status == JobStatus.QUEUED.value,
                    col(JobRow.kind).in_([kind.value for kind in kinds]),
                    sent < now - _RESEND_S if stale else sent.is_(None),
                    col(JobRow.not_before).is_(None) | (col(JobRow.not_before) <= now),
                )
                .order_by(col(JobRow.created))
                .limit(limit)
            ).all()

    def mark_sent(self, job_ids: Sequence[str]) -> None:
        """Note that the queue took these ids; a claim does not ask for it."""
        if not job_ids:
            return
        with self._database.write() as session:
            # A row in other hands is being claimed: it needs no mark.
            free = (
                select(JobRow.id)
                .where(col(JobRow.id).in_(job_ids))
                .with_for_update(skip_locked=True)
            )
            ids = session.exec(free).all()
            session.execute(
                update(JobRow).where(col(JobRow.id).in_(ids)).values(sent=self._clock())
            )

    def _update(self, claim: Claim, values: Mapping[str, object]) -> bool:
        """Renew the lease, and write values if there are some."""
        with self._database.write() as session:
            session.connection()  # SQLite's writer waits here for the one before
            now = self._clock()
            told = {**values, "updated": now} if values else {}
            changed = session.execute(
                update(JobRow)
                .where(
                    col(JobRow.id) == claim.job,
                    col(JobRow.token) == claim.token,
                    col(JobRow.status) == JobStatus.RUNNING.value,
                )
                .values(**told, lease_until=now + LEASE_S)
            )
            return bool(changed.rowcount)  # type: ignore[attr-defined]
