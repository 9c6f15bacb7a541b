"""Job rows as they are shown: one, a page of them, how many there are."""

from collections.abc import Collection

from sqlalchemy import func, tuple_
from sqlmodel import col, select

from indexer.catalog.catalog import Cursor, collection_row
from indexer.sql.database import Database
from indexer.sql.tables import JobRow
from pipeline.errors import NotFound
from pipeline.types import DocumentId, Job, JobId, JobKind, JobStatus


class ListedJobs:
    """Reads the job table, and writes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> Job:
        with self._database.read() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise NotFound(
                    f'there is no job "{job_id}": its document was deleted, or the id is wrong'
                )
            return _job(row)

    def trace(self, job_id: str) -> str | None:
        """The end of the traceback of a job's last error, for operators alone. Raises NotFound."""
        with self._database.read() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise NotFound(f'there is no job "{job_id}" in this database')
            return row.traceback

    def page(
        self,
        *,
        collection: str | None = None,
        status: str | None = None,
        kinds: Collection[JobKind] | None = None,
        parent: str | None = None,
        limit: int = 100,
        cursor: Cursor | None = None,
    ) -> tuple[list[Job], Cursor | None]:
        """A page of jobs, newest first, and where the next one starts; those of an archive's files with `parent`."""
        with self._database.read() as session:
            query = select(JobRow).order_by(col(JobRow.created).desc(), col(JobRow.id).desc())
            if collection is not None:
                query = query.where(JobRow.collection_id == collection_row(session, collection).id)
            if status is not None:
                query = query.where(JobRow.status == status)
            if kinds is not None:
                query = query.where(col(JobRow.kind).in_([kind.value for kind in kinds]))
            if parent is not None:
                query = query.where(JobRow.parent_id == parent)
            if cursor:
                query = query.where(tuple_(JobRow.created, JobRow.id) < cursor)
            rows = session.exec(query.limit(limit + 1)).all()
        following = (rows[limit - 1].created, rows[limit - 1].id) if len(rows) > limit else None
        return [_job(row) for row in rows[:limit]], following

    def counts(
        self, collection: str | None = None, kinds: Collection[JobKind] | None = None
    ) -> dict[str, int]:
        """Jobs by status, of one collection or of all, of some kinds or of all."""
        with self._database.read() as session:
            query = select(JobRow.status, func.count()).group_by(JobRow.status)
            if collection is not None:
                query = query.where(JobRow.collection_id == collection_row(session, collection).id)
            if kinds is not None:
                query = query.where(col(JobRow.kind).in_([kind.value for kind in kinds]))
            rows = session.execute(query)
            return {row[0]: row[1] for row in rows}


def _job(row: JobRow) -> Job:
    return Job(
        id=JobId(row.id),
        kind=JobKind(row.kind),
        status=JobStatus(row.status),
        stage=row.stage,
        done=row.done,
        total=row.total,
        error=row.error,
        error_type=row.error_type,
        collection=row.collection,
        document=DocumentId(row.document_id) if row.document_id else None,
        filename=row.filename,
        parent=JobId(row.parent_id) if row.parent_id else None,
        attempts=row.attempts,
        created=row.created,
        updated=row.updated,
        payload=row.payload or {},
        result=row.result or {},
    )
