"""Jobs that somebody stops, or starts again."""

import contextlib
import time
from collections.abc import Callable, Collection

from sqlalchemy import ColumnElement
from sqlmodel import Session, col

from indexer.catalog.catalog import collection_row
from indexer.catalog.removal import forget_staged
from indexer.catalog.similar import forget_similar
from indexer.folders import Folders
from indexer.jobs.waiting import family
from indexer.sql.database import Database
from indexer.sql.locks import locked, locked_jobs
from indexer.sql.tables import CollectionRow, JobRow, TextRow, VersionRow, known
from pipeline.errors import Conflict, NotFound
from pipeline.types import JobKind, JobStatus

_OPEN = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)
_ENDED_BADLY = (JobStatus.FAILED.value, JobStatus.DEAD.value, JobStatus.CANCELLED.value)
CANCELLED = "cancelled: retry the job, or delete the document"
STOPPED = "cancelled: retry the job if it is wanted after all"


class Control:
    """What a person may do to a job. A worker learns of it at its next breath, and can write nothing from here on."""

    def __init__(
        self, database: Database, folders: Folders, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._folders = folders
        self._clock = clock

    def cancel(self, job_id: str) -> int:
        """End an open job and the open jobs of its members. Returns how many; 0 where it was cancelled before.

        Nothing of a cancelled version can be found, and nothing that was made of it stays; its file does, so that the
        job can be retried.
        Raises NotFound, and Conflict for a job that has ended otherwise.
        """
        with self._database.write() as session:
            found = _job(session, job_id)
            # A publish ends before this, or sees it.
            locked(session, CollectionRow, found.collection_id)
            rows = locked_jobs(session, family(job_id))
            own = next((row for row in rows if row.id == job_id), None)
            if own is None:
                raise _gone(job_id)
            open_rows = [row for row in rows if row.status in _OPEN]
            if not open_rows and own.status != JobStatus.CANCELLED:
                raise Conflict(
                    f"the job has ended already ({own.status}): there is nothing to cancel"
                )
            for row in open_rows:
                self._end(session, row)
            versions = [row.version_id for row in open_rows if row.version_id is not None]
            with contextlib.suppress(OSError):  # the next sweep takes what this process may not
                forget_staged(session, self._folders, found.collection_id, versions)
            return len(open_rows)

    def retry(self, job_id: str) -> None:
        """Queue a job that failed, died or was cancelled, as if it were new.

        Raises NotFound, and Conflict for one that is open or done, or whose file is gone.
        """
        with self._database.write() as session:
            row = locked(session, JobRow, job_id)
            if row is None:
                raise _gone(job_id)
            if row.status not in _ENDED_BADLY:
                state = "done" if row.status == JobStatus.DONE else "still open"
                raise Conflict(f"the job is {state}: there is nothing to retry")
            if not self._again(session, row):
                raise Conflict("the file of this job is gone: upload it again")

    def retry_all(
        self, collection: str | None = None, kinds: Collection[JobKind] | None = None
    ) -> int:
        """Retry every job that failed or died, of one collection or of all, of some kinds or of all.

        Cancelled ones stay. Returns how many.
        """
        ended = col(JobRow.status).in_((JobStatus.FAILED.value, JobStatus.DEAD.value))
        with self._database.write() as session:
            which: list[ColumnElement[bool]] = [ended]
            if collection is not None:
                which.append(col(JobRow.collection_id) == collection_row(session, collection).id)
            if kinds is not None:
                which.append(col(JobRow.kind).in_([kind.value for kind in kinds]))
            return sum(self._again(session, row) for row in locked_jobs(session, *which))

    def _end(self, session: Session, row: JobRow) -> None:
        row.status, row.error_type = JobStatus.CANCELLED.value, "Cancelled"
        row.error = STOPPED if row.version_id is None else CANCELLED
        row.token += 1
        row.lease_until, row.not_before, row.updated = None, None, self._clock()
        session.add(row)
        version = None if row.version_id is None else session.get(VersionRow, row.version_id)
        if version is None or version.status not in ("pending", "expanded", "staged"):
            return
        version.status = "failed"
        session.add(version)
        forget_similar(session, [known(version.id)])
        if (text := session.get(TextRow, version.id)) is not None:
            session.delete(text)

    def _again(self, session: Session, row: JobRow) -> bool:
        if row.version_id is not None and not self._readable(session, row, row.version_id):
            return False
        row.status, row.stage, row.error, row.error_type = JobStatus.QUEUED.value, "", None, None
        row.done = row.total = row.attempts = row.lost = 0
        row.token += 1
        row.sent = row.not_before = row.lease_until = None
        row.updated, row.traceback, row.result = self._clock(), None, None
        session.add(row)
        return True

    def _readable(self, session: Session, row: JobRow, version_id: int) -> bool:
        """Whether a job's file is there to be read again; its version waits then."""
        version = session.get(VersionRow, version_id)
        if version is None:
            return False
        if not self._folders.original(row.collection_id, version.sha256).exists():
            return False
        version.status = "pending"
        session.add(version)
        return True


def _job(session: Session, job_id: str) -> JobRow:
    row = session.get(JobRow, job_id)
    if row is None:
        raise _gone(job_id)
    return row


def _gone(job_id: str) -> NotFound:
    return NotFound(f'there is no job "{job_id}": its document was deleted, or the id is wrong')
