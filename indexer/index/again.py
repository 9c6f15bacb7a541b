"""Documents that are read again from their originals, because something of theirs in the index is lost."""

import time
from collections.abc import Sequence

from sqlmodel import Session, col, select

from indexer.catalog.removal import bury
from indexer.sql.tables import CollectionRow, DocumentRow, JobRow, VersionRow, new_id
from pipeline.types import JobKind, JobStatus

_OPEN = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)


def read_again(session: Session, collection: CollectionRow, documents: Sequence[str]) -> int:
    """Take documents of a locked collection out of the index and queue the job of their live version; returns how many.

    They answer again when their jobs are done. Newer versions that wait are not touched.
    """
    count = 0
    for document_id in documents:
        document = session.get(DocumentRow, document_id)
        if document is None or document.collection_id != collection.id:
            continue
        bury(session, collection, document_id)
        version = session.get(VersionRow, document.live_version_id or -1)
        if version is None:
            continue
        version.status, document.live_version_id = "pending", None
        session.add_all([version, document])
        _queue(session, collection, document, version)
        count += 1
    return count


def _queue(
    session: Session, collection: CollectionRow, document: DocumentRow, version: VersionRow
) -> None:
    job = session.exec(
        select(JobRow)
        .where(JobRow.version_id == version.id, JobRow.kind == JobKind.INGEST.value)
        .order_by(col(JobRow.id))
        .with_for_update()
    ).first()
    if job is not None and job.status in _OPEN:
        return
    job = job or JobRow(
        id=new_id(),
        kind=JobKind.INGEST.value,
        collection_id=collection.id,
        collection=collection.name,
        document_id=document.id,
        version_id=version.id,
        filename=document.name,
    )
    job.status, job.stage, job.error, job.error_type = JobStatus.QUEUED.value, "", None, None
    job.done = job.total = job.attempts = 0
    job.token += 1
    job.sent = job.not_before = job.lease_until = None
    job.updated = time.time()
    session.add(job)
