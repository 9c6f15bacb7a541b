"""The publisher: staged versions become searchable in one SQL transaction, or not at all.

Files and words are written first; without the transaction's rows they are rubbish, and the next publisher sweeps it.
One publisher works on a generation at a time; it takes every version that waits. Merging is another's work
(indexer/index/merge.py).
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Moved, Reserved, Target, forget, make_filled, make_live
from indexer.index.milvus_leg import MilvusLeg
from indexer.index.sweeping import sweep_publishes, sweep_staged
from indexer.jobs.claims import FileClaim, give_back
from indexer.jobs.lease import Lease, LostLease, check, holding
from indexer.jobs.work import Superseded
from indexer.segments.ivf import DEFAULT_RULE
from indexer.segments.segment import IndexRule, write_segment
from indexer.segments.staging import StagedVersion, discard_staged, load_staged, staged_bytes
from indexer.segments.words import WordWriter
from indexer.sql.database import Database
from indexer.sql.locks import locked, locked_jobs
from indexer.sql.tables import (
    CollectionRow,
    GenerationRow,
    JobRow,
    ReservationRow,
    SegmentRow,
    TombstoneRow,
    VersionRow,
    known,
)
from pipeline.analyze import terms
from pipeline.errors import DamagedIndex, NotFound
from pipeline.types import JobStatus

_MOST_BYTES = 256 * 2**20
_POLL_S = 0.1
_log = logging.getLogger("zhinao.publish")
Commit = Callable[[Session, Target, Sequence[StagedVersion], Reserved], None]
"""What makes the rows of a segment that is written: `make_live` or `make_filled`."""


class Publisher:
    """Makes what waits searchable."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        milvus: MilvusLeg | None = None,
        *,
        rule: IndexRule = DEFAULT_RULE,
    ) -> None:
        self._database = database
        self._folders = folders
        self._milvus = milvus or MilvusLeg(database, None)
        self._rule = rule

    def publish(self, claim: FileClaim, *, on_wait: Callable[[], None]) -> None:
        """Return when the claimed version is published, by this process or another.

        `on_wait` runs while another process publishes. Raises Superseded when the version is no longer to be
        published: it was cancelled, it has gone, or it is read anew.
        """
        while (target := self._target(claim)) is not None:
            with holding(self._database, f"publish {target.generation_id}") as held:
                if held is not None:
                    if self._target(claim) != target:  # switched while the lease was waited for
                        continue
                    try:
                        self._publish_waiting(target, held, claim.version_id)
                    except Moved:
                        continue
                    except NotFound:  # the collection was deleted, and came back as a folder
                        gone = self._folders.collection(target.collection_id)
                        shutil.rmtree(gone, ignore_errors=True)
                        raise
                    continue
            on_wait()
            time.sleep(_POLL_S)

    def _target(self, claim: FileClaim) -> Target | None:
        with self._database.read() as session:
            version = session.get(VersionRow, claim.version_id)
            if version is None or version.status not in ("staged", "live", "superseded"):
                raise Superseded
            if version.status != "staged":
                return None
            collection = session.get_one(CollectionRow, claim.collection_id)
            generation = session.get_one(GenerationRow, collection.generation_id)
            return Target(collection.id, known(generation.id), generation.fingerprint)

    def fill(
        self, target: Target, versions: Sequence[StagedVersion], *, on_wait: Callable[[], None]
    ) -> None:
        """Put versions that answer already into a generation that is not searched.

        `on_wait` runs while another process publishes to it. Raises NotFound when the collection was deleted.
        """
        while True:
            with holding(self._database, f"publish {target.generation_id}") as held:
                if held is not None:
                    self._write(target, held, versions, make_filled)
                    return
            on_wait()
            time.sleep(_POLL_S)

    def _publish_waiting(self, target: Target, held: Lease, own: int) -> None:
        """All that waits; where that fails the claimed version alone, as the fault may be another one's.

        A version's own job is told what is wrong with it, and no other.
        """
        sweep_staged(self._database, self._folders, target)
        waiting = self._waiting(target)
        try:
            self._publish_versions(target, held, waiting)
        except (LostLease, Moved, NotFound):
            raise
        except Exception as error:
            if waiting == [own]:
                raise
            _log.warning("%d versions are published one by one: %s", len(waiting), error)
            self._publish_versions(target, held, [each for each in waiting if each == own])

    def _publish_versions(self, target: Target, held: Lease, version_ids: Sequence[int]) -> None:
        versions = self._loaded(target, held, version_ids)
        if not versions:
            return
        self._write(target, held, versions, make_live)
        for version in versions:
            discard_staged(self._path(target, version.version_id))

    def _write(
        self,
        target: Target,
        held: Lease,
        versions: Sequence[StagedVersion],
        commit: Commit,
    ) -> None:
        """Files and words, then the one commit point."""
        leftover = sweep_publishes(self._database, self._folders, target, held)
        reserved = self._reserve(target, held, sum(len(version.cuts) for version in versions))
        write_segment(
            self._segment_folder(target, reserved.segment_id),
            reserved.keys,
            [version.rows for version in versions],
            fingerprint=target.fingerprint,
            rule=self._rule,
        )
        buried = self._buried(target)
        place = self._milvus.place(target, held, versions[0].rows.vectors.shape[1])
        counts: Mapping[int, int] = {}
        if place is None:
            with self._words(target, versions, reserved, [*leftover, *buried]):
                self._commit(target, held, versions, reserved, buried, counts, commit)
        else:
            counts = self._milvus.put(target, place, held, versions, reserved, leftover, buried)
            self._commit(target, held, versions, reserved, buried, counts, commit)

    def _waiting(self, target: Target) -> list[int]:
        with self._database.read() as session:
            ids = session.exec(
                select(VersionRow.id)
                .where(
                    VersionRow.collection_id == target.collection_id, VersionRow.status == "staged"
                )
                .order_by(col(VersionRow.id))
            ).all()
            return list(map(known, ids))

    def _loaded(
        self, target: Target, held: Lease, version_ids: Sequence[int]
    ) -> list[StagedVersion]:
        """The first of these versions that one publish may take together; a broken one goes back."""
        found: list[StagedVersion] = []
        size = 0
        for version_id in version_ids:
            path = self._path(target, version_id)
            try:
                size += staged_bytes(path)
                if found and size > _MOST_BYTES:
                    break
                found.append(load_staged(path, version_id, fingerprint=target.fingerprint))
            except (OSError, DamagedIndex) as error:
                self._again(held, version_id, error)
        return found

    def _again(self, held: Lease, version_id: int, error: Exception) -> None:
        """A version whose staged files are gone or broken goes back to the start of the line."""
        with self._database.write() as session:
            check(session, held)
            jobs = locked_jobs(
                session,
                col(JobRow.version_id) == version_id,
                col(JobRow.status).in_((JobStatus.QUEUED.value, JobStatus.RUNNING.value)),
            )
            version = session.get(VersionRow, version_id)
            if version is None or version.status != "staged":  # deleted, or cancelled meanwhile
                return
            version.status = "pending"
            session.add(version)
            for job in jobs:
                job.attempts += job.status == JobStatus.QUEUED.value  # it was put off, uncounted
                give_back(
                    session,
                    job,
                    f"what was read of the file is gone ({error})",
                    time.time(),
                    error_type=type(error).__name__,
                )

    def _path(self, target: Target, version_id: int) -> Path:
        return self._folders.staged(target.collection_id, target.generation_id, version_id)

    def _reserve(self, target: Target, held: Lease, count: int) -> Reserved:
        """Keys and a segment number that no other publish will ever get. Raises NotFound without the generation."""
        with self._database.write() as session:
            check(session, held)
            generation = locked(session, GenerationRow, target.generation_id)
            if generation is None:
                raise NotFound("the collection was deleted while its files were indexed")
            first = generation.next_key
            generation.next_key += count
            segment = SegmentRow(generation_id=target.generation_id, rows=count)
            session.add_all([generation, segment])
            if count:
                session.add(
                    ReservationRow(generation_id=target.generation_id, first=first, count=count)
                )
            session.flush()
            return Reserved(known(segment.id), first, count)

    @contextmanager
    def _words(
        self,
        target: Target,
        waiting: Sequence[StagedVersion],
        reserved: Reserved,
        gone: Sequence[int],
    ) -> Iterator[None]:
        """The words are on the disk while the block runs; the index joins its parts behind it."""
        writer = WordWriter.open(self._folders.words(target.collection_id, target.generation_id))
        try:
            if gone:
                writer.delete(np.asarray(gone, dtype=np.int64))
            cuts = [cut for version in waiting for cut in version.cuts]
            for key, cut in zip(reserved.keys.tolist(), cuts, strict=True):
                writer.add(key, terms(f"{cut.passage.context}\n{cut.passage.text}"))
            writer.commit()
            yield
        finally:
            writer.close()

    def _commit(
        self,
        target: Target,
        held: Lease,
        versions: Sequence[StagedVersion],
        reserved: Reserved,
        buried: Sequence[int],
        counts: Mapping[int, int],
        commit: Commit,
    ) -> None:
        """The one commit point."""
        with self._database.write() as session:
            check(session, held)
            commit(session, target, versions, reserved)
            forget(session, target, buried)
            self._milvus.commit(session, target, counts)

    def _buried(self, target: Target) -> list[int]:
        with self._database.read() as session:
            return list(
                session.exec(
                    select(TombstoneRow.key).where(
                        TombstoneRow.generation_id == target.generation_id,
                        col(TombstoneRow.words).is_(True),
                    )
                ).all()
            )

    def _segment_folder(self, target: Target, segment_id: int) -> Path:
        return self._folders.segment(target.collection_id, target.generation_id, segment_id)
