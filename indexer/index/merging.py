"""Merges as jobs: asked for when the policy wants one, run by the workers of the queue `index`."""

import time
from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import delete
from sqlmodel import col, select

from indexer.index.merge import Merger
from indexer.jobs.claims import Claim
from indexer.jobs.submit import add_job
from indexer.jobs.work import Say
from indexer.segments.segment import to_merge
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, GenerationRow, JobRow, SegmentRow, known
from pipeline.types import JobKind, JobStatus

_AFTER_FAILURE_S = 3600.0
_ENDED_BADLY = (JobStatus.FAILED.value, JobStatus.DEAD.value, JobStatus.CANCELLED.value)


class Merging:
    """Implements Handler. Its result counts the segments that were written."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger

    def run(self, claim: Claim, say: Say) -> Mapping[str, object]:
        say("merge")
        return {"merged": self._merger.run(claim.collection_id, say=lambda: say("merge"))}

    def interrupt(self) -> None:
        """The next word ends the job, and nothing stays of the segment that is being written: one is said before each
        block of rows.
        """


def ask_for_merges(database: Database, *, now: float | None = None) -> int:
    """Queue a job for each collection whose segments want one and that has none open; returns how many.

    One that ended badly is not asked for again within the hour. Of ended ones, a collection keeps the last.
    """
    now = time.time() if now is None else now
    due = _due(database)
    if not due:
        return 0
    with database.read() as session:
        held_back = session.exec(
            select(JobRow.collection_id).where(
                JobRow.kind == JobKind.MERGE.value,
                col(JobRow.status).not_in((*_ENDED_BADLY, JobStatus.DONE.value))
                | (
                    col(JobRow.status).in_(_ENDED_BADLY)
                    & (col(JobRow.updated) > now - _AFTER_FAILURE_S)
                ),
            )
        ).all()
    asked = 0
    for collection_id in due - set(held_back):
        with database.write() as session:
            owner = locked(session, CollectionRow, collection_id)
            if owner is None:
                continue
            session.execute(
                delete(JobRow).where(
                    col(JobRow.kind) == JobKind.MERGE.value,
                    col(JobRow.collection_id) == collection_id,
                    col(JobRow.status).in_((*_ENDED_BADLY, JobStatus.DONE.value)),
                )
            )
            add_job(session, JobKind.MERGE, owner, {}, now, alone=True)
            asked += 1
    return asked


def _due(database: Database) -> set[str]:
    """The collections with segments to merge, or uncounted ones."""
    with database.read() as session:
        rows = session.execute(
            select(GenerationRow.collection_id, GenerationRow.id, SegmentRow)
            .join(SegmentRow, col(SegmentRow.generation_id) == col(GenerationRow.id))
            .where(col(SegmentRow.published).is_(True))
        ).all()
    by_generation: dict[tuple[str, int], list[SegmentRow]] = defaultdict(list)
    for collection_id, generation_id, row in rows:
        by_generation[collection_id, generation_id].append(row)
    return {
        collection_id
        for (collection_id, _), segments in by_generation.items()
        if any(row.dead is None for row in segments)
        or to_merge(
            {known(row.id): row.rows for row in segments},
            {known(row.id): row.dead or 0 for row in segments},
        )
    }
