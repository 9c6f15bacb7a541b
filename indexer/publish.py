"""The publisher: staged versions become searchable in one SQL transaction, or not at all.

Files and words are written first; without the transaction's rows they are rubbish, and the next publisher sweeps it.
One publisher works on a generation at a time; it takes every version that waits.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from indexer.catalog import bury
from indexer.database import Database
from indexer.folders import Folders
from indexer.jobs import Claim, give_back
from indexer.lease import Lease, check, holding
from indexer.segments import Segment, merge_segments, to_merge, write_segment
from indexer.staging import StagedVersion, discard_staged, load_staged, staged_bytes
from indexer.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    JobRow,
    ReservationRow,
    SegmentRow,
    TombstoneRow,
    VersionRow,
    known,
)
from indexer.words import WordWriter
from pipeline.analyze import terms
from pipeline.errors import DamagedIndex
from pipeline.types import JobStatus, Keys

_MOST_BYTES = 256 * 2**20
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class _Target:
    """The generation that is published to."""

    collection_id: str
    generation_id: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Reserved:
    segment_id: int
    first: int
    count: int

    @property
    def keys(self) -> Keys:
        return np.arange(self.first, self.first + self.count, dtype=np.int64)


class Publisher:
    """Publishes, and merges segments behind it."""

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders

    def publish(self, claim: Claim, *, on_wait: Callable[[], None]) -> None:
        """Return when the claimed version is published, by this process or another, or has gone.

        `on_wait` runs while another process publishes.
        """
        while (target := self._target(claim)) is not None:
            with holding(self._database, f"publish {target.generation_id}") as held:
                if held is not None:
                    self._publish_waiting(target, held)
                    self._merge(target, held)
                    continue
            on_wait()
            time.sleep(_POLL_S)

    def _target(self, claim: Claim) -> _Target | None:
        with self._database.read() as session:
            version = session.get(VersionRow, claim.version_id)
            if version is None or version.status != "staged":
                return None
            collection = session.get_one(CollectionRow, claim.collection_id)
            generation = session.get_one(GenerationRow, collection.generation_id)
            return _Target(collection.id, known(generation.id), generation.fingerprint)

    def _publish_waiting(self, target: _Target, held: Lease) -> None:
        leftover = self._sweep(target, held)
        waiting = self._waiting(target)
        if not waiting:
            return
        reserved = self._reserve(target, held, sum(len(version.cuts) for version in waiting))
        write_segment(
            self._segment_folder(target, reserved.segment_id),
            reserved.keys,
            [version.rows for version in waiting],
            fingerprint=target.fingerprint,
        )
        buried = self._buried(target)
        self._add_words(target, waiting, reserved, [*leftover, *buried])
        self._commit(target, held, waiting, reserved, buried)
        for version in waiting:
            discard_staged(self._path(target, version.version_id))

    def _waiting(self, target: _Target) -> list[StagedVersion]:
        with self._database.read() as session:
            ids = session.exec(
                select(VersionRow.id)
                .where(
                    VersionRow.collection_id == target.collection_id, VersionRow.status == "staged"
                )
                .order_by(col(VersionRow.id))
            ).all()
        found: list[StagedVersion] = []
        size = 0
        for version_id in map(known, ids):
            path = self._path(target, version_id)
            try:
                size += staged_bytes(path)
                if found and size > _MOST_BYTES:
                    break
                found.append(load_staged(path, version_id, fingerprint=target.fingerprint))
            except (FileNotFoundError, DamagedIndex) as error:
                self._again(version_id, str(error))
        return found

    def _again(self, version_id: int, error: str) -> None:
        """A version whose staged files are gone or broken goes back to the start of the line."""
        with self._database.write() as session:
            version = session.get(VersionRow, version_id)
            if version is None:
                return
            version.status = "pending"
            session.add(version)
            for job in session.exec(select(JobRow).where(JobRow.version_id == version_id)):
                give_back(session, job, f"what was read of the file is gone ({error})", time.time())

    def _path(self, target: _Target, version_id: int) -> Path:
        return self._folders.staged(target.collection_id, target.generation_id, version_id)

    def _reserve(self, target: _Target, held: Lease, count: int) -> _Reserved:
        """Keys and a segment number that no other publish will ever get."""
        with self._database.write() as session:
            check(session, held)
            generation = session.get_one(GenerationRow, target.generation_id)
            first = generation.next_key
            generation.next_key += count
            segment = SegmentRow(generation_id=target.generation_id, rows=count)
            session.add_all([generation, segment])
            if count:
                session.add(
                    ReservationRow(generation_id=target.generation_id, first=first, count=count)
                )
            session.flush()
            return _Reserved(known(segment.id), first, count)

    def _add_words(
        self,
        target: _Target,
        waiting: Sequence[StagedVersion],
        reserved: _Reserved,
        gone: Sequence[int],
    ) -> None:
        writer = WordWriter.open(self._folders.words(target.collection_id, target.generation_id))
        try:
            if gone:
                writer.delete(np.asarray(gone, dtype=np.int64))
            cuts = [cut for version in waiting for cut in version.cuts]
            for key, cut in zip(reserved.keys.tolist(), cuts, strict=True):
                writer.add(key, terms(f"{cut.context}\n{cut.text}"))
            writer.commit()
        finally:
            writer.close()

    def _commit(
        self,
        target: _Target,
        held: Lease,
        waiting: Sequence[StagedVersion],
        reserved: _Reserved,
        buried: Sequence[int],
    ) -> None:
        """The one commit point."""
        with self._database.write() as session:
            check(session, held)
            first = reserved.first
            for version in waiting:
                keys = range(first, first + len(version.cuts))
                first += len(version.cuts)
                if not _switch(session, target, version, keys):
                    _bury_keys(session, target, keys)
            segment = session.get_one(SegmentRow, reserved.segment_id)
            segment.published = True
            session.add(segment)
            _forget(session, target, buried)
            session.execute(
                delete(ReservationRow).where(
                    col(ReservationRow.generation_id) == target.generation_id
                )
            )
            _raise_epoch(session, target)

    def _buried(self, target: _Target) -> list[int]:
        with self._database.read() as session:
            return list(
                session.exec(
                    select(TombstoneRow.key).where(
                        TombstoneRow.generation_id == target.generation_id
                    )
                ).all()
            )

    def _sweep(self, target: _Target, held: Lease) -> list[int]:
        """Remove what dead publishes left; returns the keys that may stand in the words index without a row.

        Only folders of numbers given out before are removed: a later one may be a newer owner's.
        """
        mine = col(SegmentRow.generation_id) == target.generation_id
        with self._database.write() as session:
            check(session, held)
            last = session.exec(select(func.max(SegmentRow.id)).where(mine)).one() or 0
            session.execute(delete(SegmentRow).where(mine, col(SegmentRow.published).is_(False)))
            kept = set(session.exec(select(SegmentRow.id).where(mine)).all())
            reservations = session.exec(
                select(ReservationRow).where(ReservationRow.generation_id == target.generation_id)
            ).all()
        folder = self._segment_folder(target, 0).parent
        for path in folder.glob("*") if folder.exists() else ():
            number = path.name.strip(".").split(".")[0]
            given = number.isdigit() and int(number) <= last
            if given and (path.name.startswith(".") or int(number) not in kept):
                shutil.rmtree(path, ignore_errors=True)
        return [key for r in reservations for key in range(r.first, r.first + r.count)]

    def _merge(self, target: _Target, held: Lease) -> None:
        """Join segments of like size until the policy is content."""
        while True:
            with self._database.read() as session:
                rows = session.exec(
                    select(SegmentRow).where(
                        SegmentRow.generation_id == target.generation_id,
                        col(SegmentRow.published).is_(True),
                    )
                ).all()
                live = _live(session, target.generation_id)
            segments = {known(row.id): self._open(target, known(row.id)) for row in rows}
            dead = {i: s.keys.size - s.rows_of(live).size for i, s in segments.items()}
            chosen = to_merge({i: s.keys.size for i, s in segments.items()}, dead)
            if not chosen:
                return
            self._merge_into_one(target, held, [segments[i] for i in chosen], chosen, live)

    def _merge_into_one(
        self,
        target: _Target,
        held: Lease,
        segments: Sequence[Segment],
        ids: Sequence[int],
        live: Keys,
    ) -> None:
        new_id = self._reserve(target, held, 0).segment_id
        merge_segments(
            segments, live, self._segment_folder(target, new_id), fingerprint=target.fingerprint
        )
        merged = self._open(target, new_id)
        with self._database.write() as session:
            check(session, held)
            row = session.get_one(SegmentRow, new_id)
            row.rows, row.published = merged.keys.size, True
            session.add(row)
            session.execute(delete(SegmentRow).where(col(SegmentRow.id).in_(ids)))
            _raise_epoch(session, target)
        for segment_id in ids:  # a reader that has them open goes on reading them
            shutil.rmtree(self._segment_folder(target, segment_id), ignore_errors=True)

    def _segment_folder(self, target: _Target, segment_id: int) -> Path:
        return self._folders.segment(target.collection_id, target.generation_id, segment_id)

    def _open(self, target: _Target, segment_id: int) -> Segment:
        return Segment.open(
            self._segment_folder(target, segment_id), fingerprint=target.fingerprint
        )


def _switch(session: Session, target: _Target, staged: StagedVersion, keys: range) -> bool:
    """Point the document at this version and end its job; False when it is no longer wanted."""
    version = session.get(VersionRow, staged.version_id)
    document = session.get(DocumentRow, version.document_id) if version else None
    if version is None or document is None:
        return False
    live = session.get(VersionRow, document.live_version_id) if document.live_version_id else None
    newer = live is not None and live.number > version.number
    if newer:
        version.status = "superseded"
    else:
        bury(session, document.id)
        if live is not None:
            live.status = "superseded"
            session.add(live)
        version.status = "live"
        document.live_version_id = version.id
        document.updated = time.time()
        session.execute(
            insert(ChunkRow),
            [
                staged.row(cut, key, target.generation_id, document.id)
                for cut, key in zip(staged.cuts, keys, strict=True)
            ],
        )
    session.add_all([version, document])
    job = session.exec(
        select(JobRow).where(
            JobRow.version_id == version.id,
            col(JobRow.status).in_((JobStatus.RUNNING.value, JobStatus.QUEUED.value)),
        )
    ).first()
    if job is not None:
        job.status, job.stage, job.error = JobStatus.DONE.value, "done", None
        job.done = job.total = len(staged.cuts)
        job.lease_until, job.updated = None, time.time()
        session.add(job)
    return not newer


def _bury_keys(session: Session, target: _Target, keys: range) -> None:
    if keys:
        session.execute(
            insert(TombstoneRow), [{"generation_id": target.generation_id, "key": k} for k in keys]
        )


def _forget(session: Session, target: _Target, keys: Sequence[int]) -> None:
    for start in range(0, len(keys), 500):
        session.execute(
            delete(TombstoneRow).where(
                col(TombstoneRow.generation_id) == target.generation_id,
                col(TombstoneRow.key).in_(keys[start : start + 500]),
            )
        )


def _raise_epoch(session: Session, target: _Target) -> None:
    collection = session.get(CollectionRow, target.collection_id)
    if collection is not None:
        collection.epoch += 1
        session.add(collection)


def _live(session: Session, generation_id: int) -> Keys:
    keys = session.exec(
        select(ChunkRow.key)
        .where(ChunkRow.generation_id == generation_id)
        .order_by(col(ChunkRow.key))
    ).all()
    return np.asarray(keys, dtype=np.int64)
