"""Job rows: who works on what, how far it is, and what was wrong. Statements only, no queue.

A worker claims a job for a lease's length and renews it; `token` rises with every claim, so that a worker that comes
back after its lease ran out can no longer write.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, tuple_, update
from sqlmodel import Session, col, select

from indexer.catalog.catalog import Cursor, collection_row
from indexer.jobs.waiting import wake
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import JobRow, VersionRow
from pipeline.errors import NotFound
from pipeline.types import DocumentId, Job, JobId, JobKind, JobStatus

LEASE_S = 15.0
MOST_ATTEMPTS = 5
_RESEND_S = 10.0
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in a worker's hands. `token` must still be the row's when the worker writes."""

    job: JobId
    token: int
    collection_id: str
    document: str
    version_id: int


class Jobs:
    """The job table."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def get(self, job_id: str) -> Job:
        with self._database.read() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise NotFound(
                    f'there is no job "{job_id}": its document was deleted, or the id is wrong'
                )
            return _job(row)

    def page(
        self,
        *,
        collection: str | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: Cursor | None = None,
    ) -> tuple[list[Job], Cursor | None]:
        """A page of jobs, newest first, and where the next one starts."""
        with self._database.read() as session:
            query = select(JobRow).order_by(col(JobRow.created).desc(), col(JobRow.id).desc())
            if collection is not None:
                query = query.where(JobRow.collection_id == collection_row(session, collection).id)
            if status is not None:
                query = query.where(JobRow.status == status)
            if cursor:
                query = query.where(tuple_(JobRow.created, JobRow.id) < cursor)
            rows = session.exec(query.limit(limit + 1)).all()
        following = (rows[limit - 1].created, rows[limit - 1].id) if len(rows) > limit else None
        return [_job(row) for row in rows[:limit]], following

    def counts(self, collection: str | None = None) -> dict[str, int]:
        """Jobs by status, of one collection or of all."""
        with self._database.read() as session:
            query = select(JobRow.status, func.count()).group_by(JobRow.status)
            if collection is not None:
                query = query.where(JobRow.collection_id == collection_row(session, collection).id)
            rows = session.execute(query)
            return {row[0]: row[1] for row in rows}

    def claim(self, job_id: str) -> Claim | None:
        """Take a queued job; None when it is gone, ended or in another worker's hands."""
        now = self._clock()
        with self._database.write() as session:
            row = locked(session, JobRow, job_id)
            early = row is not None and row.not_before is not None and row.not_before > now
            if row is None or early or row.status != JobStatus.QUEUED or row.document_id is None:
                return None
            return _claimed(session, row, now)

    def claim_next(self) -> Claim | None:
        """Take the job whose turn it is; None when none is due.

        The lowest priority goes first; among equals a job of the collection with the fewest running jobs, so that
        one collection's thousand files do not keep another's one waiting; then the oldest.
        """
        due = self._due()
        with self._database.read() as session:
            waiting = session.execute(
                select(JobRow.priority, JobRow.collection_id, func.min(JobRow.created))
                .where(*due)
                .group_by(col(JobRow.priority), col(JobRow.collection_id))
            ).all()
            running = dict(
                session.execute(
                    select(JobRow.collection_id, func.count())
                    .where(
                        JobRow.status == JobStatus.RUNNING.value,
                        col(JobRow.lease_until).is_not(None),  # an archive's waits without a worker
                    )
                    .group_by(col(JobRow.collection_id))
                ).all()
            )
        turns = sorted(waiting, key=lambda row: (row[0], running.get(row[1], 0), row[2]))
        # Jobs in other hands are passed over. They are waited for at the end: those hands may only have noted
        # that a job was sent.
        for free in (True, False):
            for priority, collection, _ in turns:
                if (claim := self._claim_oldest(priority, collection, free=free)) is not None:
                    return claim
        return None

    def _claim_oldest(self, priority: int, collection: str, *, free: bool) -> Claim | None:
        """Take the job of this priority and collection that waits longest, of the `free` ones or of all."""
        with self._database.write() as session:
            row = session.exec(
                select(JobRow)
                .where(
                    *self._due(), JobRow.priority == priority, JobRow.collection_id == collection
                )
                .order_by(col(JobRow.created), col(JobRow.id))
                .limit(1)
                .with_for_update(skip_locked=free)
            ).first()
            return None if row is None else _claimed(session, row, self._clock())

    def _due(self) -> tuple[ColumnElement[bool], ...]:
        soon = col(JobRow.not_before)
        return (
            col(JobRow.status) == JobStatus.QUEUED.value,
            col(JobRow.document_id).is_not(None),
            soon.is_(None) | (soon <= self._clock()),
        )

    def renew(self, claim: Claim) -> bool:
        """Push the lease on; False when the job is no longer this worker's."""
        return self._update(claim, lease_until=self._clock() + LEASE_S)

    def progress(self, claim: Claim, stage: str, done: int, total: int) -> bool:
        """Say how far a job is; False when it is no longer this worker's."""
        now = self._clock()
        return self._update(
            claim, stage=stage, done=done, total=total, updated=now, lease_until=now + LEASE_S
        )

    def fail(self, claim: Claim, error: str, error_type: str) -> None:
        """End a job, and its version with it."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is None:
                return
            row.status, row.error, row.error_type = JobStatus.FAILED.value, error, error_type
            row.lease_until, row.updated = None, self._clock()
            version = session.get(VersionRow, claim.version_id)
            if version is not None:
                version.status = "failed"
                session.add(version)
            session.add(row)

    def release(self, claim: Claim, error: str) -> None:
        """Give a job back to the queue after an error that may pass; the last attempt ends it as dead."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is not None:
                give_back(session, row, error, self._clock())

    def hand_back(self, claim: Claim) -> None:
        """Queue a job again at once, without counting the attempt: its worker is told to end."""
        with self._database.write() as session:
            row = owned(session, claim)
            if row is None:
                return
            row.status, row.sent, row.not_before = JobStatus.QUEUED.value, None, None
            row.lease_until, row.updated = None, self._clock()
            row.token += 1
            row.attempts -= 1
            session.add(row)

    def reap(self) -> int:
        """Give back the jobs whose worker stopped breathing. Returns how many."""
        expired = select(JobRow).where(
            JobRow.status == JobStatus.RUNNING.value, col(JobRow.lease_until) < self._clock()
        )
        with self._database.read() as session:
            if session.exec(expired.limit(1)).first() is None:
                return 0
        with self._database.write() as session:
            # One that another process gives back or ends at this moment is left to it.
            rows = session.exec(expired.with_for_update(skip_locked=True)).all()
            for row in rows:
                give_back(session, row, "its worker stopped while it ran", self._clock())
            return len(rows)

    def wake(self) -> int:
        """Queue the jobs of archives whose members have all ended. Returns how many."""
        return wake(self._database)

    def unsent(self, *, stale: bool, limit: int = 100) -> Sequence[str]:
        """Queued jobs whose time has come and that were never sent, or (`stale`) sent long ago; oldest first."""
        now = self._clock()
        sent = col(JobRow.sent)
        with self._database.read() as session:
            return session.exec(
                select(JobRow.id)
                .where(
                    JobRow.status == JobStatus.QUEUED.value,
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

    def _update(self, claim: Claim, **values: object) -> bool:
        with self._database.write() as session:
            changed = session.execute(
                update(JobRow)
                .where(
                    col(JobRow.id) == claim.job,
                    col(JobRow.token) == claim.token,
                    col(JobRow.status) == JobStatus.RUNNING.value,
                )
                .values(**values)
            )
            return bool(changed.rowcount)  # type: ignore[attr-defined]


def give_back(session: Session, row: JobRow, error: str, now: float) -> None:
    """Queue a locked job again, later with every attempt (5, 10, 20, 40 s); after the last one it is dead."""
    row.lease_until, row.updated, row.error = None, now, error
    row.token += 1  # fences off the worker that lost it
    version = session.get(VersionRow, row.version_id)
    if row.attempts >= MOST_ATTEMPTS:
        row.status = JobStatus.DEAD.value
        row.error = (
            f"{error}; given up after {row.attempts} attempts: mend that, then retry the job"
        )
        if version is not None:
            version.status = "failed"
            session.add(version)
    else:
        row.status, row.sent = JobStatus.QUEUED.value, None
        row.not_before = now + _PAUSE_S * 2 ** (row.attempts - 1)
    session.add(row)


def _claimed(session: Session, row: JobRow, now: float) -> Claim:
    """A locked, queued job, given to a worker."""
    assert row.version_id is not None
    assert row.document_id is not None
    row.status = JobStatus.RUNNING.value
    row.token += 1
    row.attempts += 1
    row.lease_until = now + LEASE_S
    row.updated = now
    session.add(row)
    return Claim(JobId(row.id), row.token, row.collection_id, row.document_id, row.version_id)


def owned(session: Session, claim: Claim) -> JobRow | None:
    """The claimed job's row, None when the claim no longer holds; nobody takes it away while the session is open."""
    row = locked(session, JobRow, claim.job)
    held = row is not None and row.token == claim.token and row.status == JobStatus.RUNNING.value
    return row if held else None


def _job(row: JobRow) -> Job:
    return Job(
        id=JobId(row.id),
        kind=JobKind(row.kind),
        status=JobStatus(row.status),
        stage=row.stage,
        done=row.done,
        total=row.total,
        error=row.error,
        collection=row.collection,
        document=DocumentId(row.document_id) if row.document_id else None,
        filename=row.filename,
        parent=JobId(row.parent_id) if row.parent_id else None,
        attempts=row.attempts,
        created=row.created,
        updated=row.updated,
    )
