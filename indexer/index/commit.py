"""The transaction that makes a publish visible: versions switched, chunks live, jobs ended, the epoch raised."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import delete, insert, update
from sqlmodel import Session, col, select

from indexer.catalog.removal import bury
from indexer.catalog.spans import add_spans, note_deaths
from indexer.jobs.claims import mark_done
from indexer.segments.staging import StagedVersion
from indexer.sql.locks import locked, locked_jobs
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    JobRow,
    ReservationRow,
    SegmentRow,
    TombstoneRow,
    VersionRow,
)
from pipeline.errors import NotFound, Unavailable
from pipeline.types import JobStatus, Keys

KEPT_EPOCHS = 1000
"""Deaths stay noted for so many epochs: a reader that slept longer reads everything again."""
_OPEN = (JobStatus.RUNNING.value, JobStatus.QUEUED.value)


class Moved(Unavailable):
    """Another generation answers now: what waits is published there."""


@dataclass(frozen=True, slots=True)
class Target:
    """The generation that is published to."""

    collection_id: str
    generation_id: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """A segment's number and its keys, `count` from `first` on."""

    segment_id: int
    first: int
    count: int

    @property
    def keys(self) -> Keys:
        return np.arange(self.first, self.first + self.count, dtype=np.int64)


def make_live(
    session: Session, target: Target, waiting: Sequence[StagedVersion], reserved: Reserved
) -> None:
    """Everything of one publish; what is no longer wanted is buried at once.

    Raises NotFound when the collection was deleted meanwhile, Moved when it is searched in another generation now.
    """
    collection = _published(session, target, reserved)
    if collection.generation_id != target.generation_id:
        raise Moved("the collection was re-indexed while its files were indexed")
    version_ids = [version.version_id for version in waiting]
    jobs = _open_jobs(session, version_ids)
    there = _documents(session, version_ids)
    with session.no_autoflush:  # the rows are written together, behind the last one
        for version, keys in _with_keys(waiting, reserved):
            found, job = there.get(version.version_id), jobs.get(version.version_id)
            if found is None or not _switch(session, target, collection, version, keys, found, job):
                never_live = np.asarray(keys, np.int64)
                note_deaths(session, target.generation_id, never_live, collection.epoch + 1)
    _end(session, target)


def make_filled(
    session: Session, target: Target, versions: Sequence[StagedVersion], reserved: Reserved
) -> None:
    """Versions that answer already, in a generation that is not searched; one that no longer answers is buried.

    Raises NotFound when the collection was deleted meanwhile.
    """
    collection = _published(session, target, reserved)
    for staged, keys in _with_keys(versions, reserved):
        version = session.get(VersionRow, staged.version_id)
        document = session.get(DocumentRow, version.document_id) if version else None
        if document is None or document.live_version_id != staged.version_id:
            never_live = np.asarray(keys, np.int64)
            note_deaths(session, target.generation_id, never_live, collection.epoch + 1)
            continue
        bury(session, collection, document.id, generation=target.generation_id)
        _insert(session, target, staged, keys, document.id)
    _end(session, target)


def _published(session: Session, target: Target, reserved: Reserved) -> CollectionRow:
    collection = locked(session, CollectionRow, target.collection_id)
    if collection is None:
        raise NotFound("the collection was deleted while its files were indexed")
    segment = session.get_one(SegmentRow, reserved.segment_id)
    segment.published, segment.dead = True, 0
    session.add(segment)
    session.flush()
    add_spans(
        session, target.generation_id, reserved.segment_id, [(reserved.first, reserved.count)]
    )
    return collection


def _with_keys(
    versions: Sequence[StagedVersion], reserved: Reserved
) -> Iterator[tuple[StagedVersion, range]]:
    first = reserved.first
    for version in versions:
        yield version, range(first, first + len(version.cuts))
        first += len(version.cuts)


def _end(session: Session, target: Target) -> None:
    session.execute(
        delete(ReservationRow).where(col(ReservationRow.generation_id) == target.generation_id)
    )
    raise_epoch(session, target)


def _insert(
    session: Session, target: Target, staged: StagedVersion, keys: range, document_id: str
) -> None:
    session.execute(
        insert(ChunkRow),
        [
            staged.row(cut, key, target.generation_id, document_id)
            for cut, key in zip(staged.cuts, keys, strict=True)
        ],
    )


def _open_jobs(session: Session, version_ids: Sequence[int]) -> dict[int | None, JobRow]:
    """The jobs of these versions that have not ended, locked."""
    jobs: dict[int | None, JobRow] = {}
    for start in range(0, len(version_ids), 500):
        rows = locked_jobs(
            session,
            col(JobRow.version_id).in_(version_ids[start : start + 500]),
            col(JobRow.status).in_(_OPEN),
        )
        jobs.update((job.version_id, job) for job in rows)
    return jobs


def _documents(
    session: Session, version_ids: Sequence[int]
) -> dict[int | None, tuple[VersionRow, DocumentRow]]:
    """The versions that are there, and their documents."""
    found: dict[int | None, tuple[VersionRow, DocumentRow]] = {}
    for start in range(0, len(version_ids), 500):
        rows = session.exec(
            select(VersionRow, DocumentRow)
            .join(DocumentRow, col(DocumentRow.id) == col(VersionRow.document_id))
            .where(col(VersionRow.id).in_(version_ids[start : start + 500]))
        ).all()
        found.update((version.id, (version, document)) for version, document in rows)
    return found


def _switch(
    session: Session,
    target: Target,
    collection: CollectionRow,
    staged: StagedVersion,
    keys: range,
    found: tuple[VersionRow, DocumentRow],
    job: JobRow | None,
) -> bool:
    """Point the document at this version and end its job; False when it is no longer wanted."""
    version, document = found
    if version.status != "staged":  # cancelled
        return False
    live = session.get(VersionRow, document.live_version_id) if document.live_version_id else None
    newer = live is not None and live.number > version.number
    if newer:
        version.status = "superseded"
    else:
        if live is not None:
            bury(session, collection, document.id)
            live.status = "superseded"
            session.add(live)
        version.status = "live"
        document.live_version_id = version.id
        document.updated = time.time()
        _insert(session, target, staged, keys, document.id)
    session.add_all([version, document])
    if job is not None:
        mark_done(job, time.time())
        job.done = job.total = len(staged.cuts)
        session.add(job)
    return not newer


def forget(session: Session, target: Target, keys: Sequence[int]) -> None:
    """The words index has lost these keys; deaths of long ago, which no reader asks for, go."""
    mine = col(TombstoneRow.generation_id) == target.generation_id
    for start in range(0, len(keys), 500):
        session.execute(
            update(TombstoneRow)
            .where(mine, col(TombstoneRow.key).in_(keys[start : start + 500]))
            .values(words=False)
        )
    epoch = session.exec(
        select(CollectionRow.epoch).where(CollectionRow.id == target.collection_id)
    ).one()
    horizon = epoch - KEPT_EPOCHS
    old = (mine, col(TombstoneRow.epoch) <= horizon, col(TombstoneRow.words).is_(False))
    gone = session.execute(delete(TombstoneRow).where(*old))
    if gone.rowcount:  # type: ignore[attr-defined]
        session.execute(
            update(GenerationRow)
            .where(col(GenerationRow.id) == target.generation_id)
            .values(horizon=horizon)
        )


def raise_epoch(session: Session, target: Target) -> None:
    """What a search may see has changed."""
    session.execute(
        update(CollectionRow)
        .where(col(CollectionRow.id) == target.collection_id)
        .values(epoch=CollectionRow.epoch + 1)
    )


def live_keys(session: Session, generation_id: int) -> Keys:
    """The live keys of a generation, sorted."""
    keys = session.exec(
        select(ChunkRow.key)
        .where(ChunkRow.generation_id == generation_id)
        .order_by(col(ChunkRow.key))
    ).all()
    return np.asarray(keys, dtype=np.int64)
