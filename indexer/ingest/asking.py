"""Asking for a re-index: one at a time in a collection."""

import time
from collections.abc import Sequence

from sqlmodel import Session, col, select

from indexer.catalog.catalog import collection_row
from indexer.ingest.gate import AGREEMENT, MARGIN, Asked
from indexer.jobs.claims import Claim
from indexer.jobs.submit import add_job
from indexer.sql.database import Database
from indexer.sql.tables import JobRow
from pipeline.errors import Conflict
from pipeline.types import JobId, JobKind, JobStatus

_OPEN = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)


def submit_reindex(
    database: Database,
    collection: str,
    *,
    back: bool = False,
    force: bool = False,
    margin: float = MARGIN,
    agreement: float = AGREEMENT,
    questions: Sequence[Asked] = (),
) -> JobId:
    """A job that indexes a collection anew, or with `back` goes back to the index before; the same one, if it is open.

    Raises NotFound, and Conflict while the collection is re-indexed in another way.
    """
    asked = [
        {"question": each.question, "document_ids": each.documents, "passage": each.passage}
        for each in questions
    ]
    payload = {
        "back": back,
        "force": force,
        "margin": margin,
        "agreement": agreement,
        "questions": asked,
    }
    with database.write() as session:
        owner = collection_row(session, collection, lock=True)
        job = add_job(session, JobKind.REINDEX, owner, payload, time.time(), alone=True)
        if other := _others(session, owner.id, job):
            raise _busy(other[0].id)
        return job


def check_alone(database: Database, claim: Claim) -> None:
    """Of two jobs, as a schedule may begin them, the one that was there first goes on. Raises Conflict."""
    with database.read() as session:
        own = session.get(JobRow, claim.job)
        others = _others(session, claim.collection_id, claim.job)
        first = others[0] if others else None
        if own and first and (first.created, first.id) < (own.created, own.id):
            raise _busy(first.id)


def _others(session: Session, collection_id: str, job: str) -> Sequence[JobRow]:
    """The other open jobs that re-index a collection, the oldest first."""
    return session.exec(
        select(JobRow)
        .where(
            JobRow.collection_id == collection_id,
            JobRow.kind == JobKind.REINDEX.value,
            JobRow.id != job,
            col(JobRow.status).in_(_OPEN),
        )
        .order_by(col(JobRow.created), col(JobRow.id))
    ).all()


def _busy(job: str) -> Conflict:
    return Conflict(
        f"the collection is being re-indexed in another way by the job {job}: wait for it, or cancel it"
    )
