"""Jobs of archives that wait, without a worker, for what was inside."""

import time

from sqlalchemy import ColumnElement
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from indexer.catalog.outcomes import open_members
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import JobRow
from pipeline.types import JobStatus

WAITING = "members"
"""The stage of a job that waits for its members: it runs, and no worker holds it."""


def family(job_id: str) -> ColumnElement[bool]:
    """Which jobs are this one, or read what came out of its file, at any depth."""
    tree = select(JobRow.id).where(JobRow.id == job_id).cte(recursive=True)
    below = aliased(JobRow)
    tree = tree.union_all(select(below.id).where(col(below.parent_id) == tree.c.id))
    return col(JobRow.id).in_(select(tree.c.id))


def wake(database: Database) -> int:
    """Queue the jobs whose members have all ended, and count those of the others. Returns how many were queued.

    Every process may do it at any time.
    """
    waiting = select(JobRow.id).where(
        JobRow.status == JobStatus.RUNNING.value,
        JobRow.stage == WAITING,
        col(JobRow.lease_until).is_(None),
    )
    with database.read() as session:
        jobs = [session.get_one(JobRow, job_id) for job_id in session.exec(waiting).all()]
        seen = [(job, open_members(session, job.version_id, job.document_id)) for job in jobs]
    woken = 0
    for job, open_before in seen:
        if open_before and job.done == job.total - open_before:
            continue
        with database.write() as session:
            row = locked(session, JobRow, job.id)
            if row is None or row.stage != WAITING or row.lease_until is not None:
                continue
            if row.status != JobStatus.RUNNING.value:
                continue
            left = open_members(session, row.version_id, row.document_id)  # one may be retried now
            row.done, row.updated = row.total - left, time.time()
            if left == 0:
                row.status, row.sent, row.not_before = JobStatus.QUEUED.value, None, None
                woken += 1
            session.add(row)
    return woken
