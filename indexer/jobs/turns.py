"""Whose turn it is among the jobs that wait."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, update
from sqlmodel import Session, col, select

from indexer.sql.database import Database
from indexer.sql.tables import JobRow, VersionRow
from pipeline.types import JobKind, JobStatus

_SMALL_BYTES = 2**16
"""A file of so much is read within a second or two, whatever it is."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Some jobs of a collection and a priority wait."""

    priority: int
    collection_id: str


def read_turns(database: Database, kinds: Collection[JobKind], now: float) -> list[Turn]:
    """Who goes first, second, ... among jobs of these kinds.

    The lowest priority goes first; among equals the collection with the fewest running jobs; then the one whose job is
    the oldest.
    """
    with database.read() as session:
        waiting = session.execute(
            select(JobRow.priority, JobRow.collection_id, func.min(JobRow.created))
            .where(*_due(kinds, now))
            .group_by(col(JobRow.priority), col(JobRow.collection_id))
        ).all()
        running = _running(session, kinds)
    ordered = sorted(waiting, key=lambda row: (row[0], running.get(row[1], 0), row[2]))
    return [Turn(priority, collection) for priority, collection, _ in ordered]


def should_give_way(
    database: Database, job_id: str, kinds: Collection[JobKind], since: float
) -> bool:
    """Whether a running job keeps one of these kinds waiting, since `since` at least, that should have its worker.

    That is one of a lower priority; or of the same, whose collection has fewer running jobs even after the change.
    """
    with database.read() as session:
        own = session.get(JobRow, job_id)
        if own is None:
            return False
        waiting = session.execute(
            select(JobRow.priority, JobRow.collection_id)
            .where(
                *_due(kinds, since),
                JobRow.updated <= since,
                JobRow.priority <= own.priority,
            )
            .distinct()
        ).all()
        running = _running(session, kinds) if waiting else {}
    ours = running.get(own.collection_id, 0)
    return any(
        priority < own.priority or running.get(collection, 0) + 1 < ours
        for priority, collection in waiting
    )


def small_one_follows(session: Session, row: JobRow, now: float) -> bool:
    """Whether the next due job of a file's collection, kind and priority reads a small file, too."""
    size = session.exec(
        select(VersionRow.size)
        .join(JobRow, col(JobRow.version_id) == col(VersionRow.id))
        .where(
            *_due([JobKind(row.kind)], now),
            JobRow.collection_id == row.collection_id,
            JobRow.priority == row.priority,
            JobRow.id != row.id,
        )
        .order_by(col(JobRow.created), col(JobRow.id))
        .limit(1)
    ).first()
    return size is not None and size <= _SMALL_BYTES


def unsend_another(session: Session, row: JobRow, kinds: Collection[JobKind], now: float) -> None:
    """Have a message sent for one more due job: a locked one that has none yet takes the place of somebody's.

    Every job has a message when it is sent, and a message is worth one claim. A message too many does no harm.
    """
    another = (
        select(JobRow.id)
        .where(*_due(kinds, now), col(JobRow.sent).is_not(None), JobRow.id != row.id)
        .order_by(col(JobRow.created).desc())
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = session.exec(another).first()
    if found is not None:
        session.execute(update(JobRow).where(col(JobRow.id) == found).values(sent=None))


def _running(session: Session, kinds: Collection[JobKind]) -> dict[str, int]:
    """Jobs in workers' hands, by collection."""
    rows = session.execute(
        select(JobRow.collection_id, func.count())
        .where(
            JobRow.status == JobStatus.RUNNING.value,
            _of(kinds),
            col(JobRow.lease_until).is_not(None),  # an archive's waits without a worker
        )
        .group_by(col(JobRow.collection_id))
    ).all()
    return dict(rows)


def oldest(
    session: Session, turn: Turn, kinds: Collection[JobKind], now: float, *, free: bool
) -> JobRow | None:
    """The job of a turn that waits longest, locked; of those in no other hands (`free`), or of all."""
    return session.exec(
        select(JobRow)
        .where(
            *_due(kinds, now),
            JobRow.priority == turn.priority,
            JobRow.collection_id == turn.collection_id,
        )
        .order_by(col(JobRow.created), col(JobRow.id))
        .limit(1)
        .with_for_update(skip_locked=free)
    ).first()


def _of(kinds: Collection[JobKind]) -> ColumnElement[bool]:
    return col(JobRow.kind).in_([kind.value for kind in kinds])


def _due(kinds: Collection[JobKind], now: float) -> tuple[ColumnElement[bool], ...]:
    soon = col(JobRow.not_before)
    return (
        col(JobRow.status) == JobStatus.QUEUED.value,
        _of(kinds),
        soon.is_(None) | (soon <= now),
    )
