"""Merging: segments of like size become one, and dead rows go, while uploads are published beside it.

A merge writes its segment under a lease of its own. Only its commit shuts out publishers and deletes, for as long as a
transaction takes; rows that died while it wrote are counted dead in it.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import delete
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from indexer.catalog.spans import count_dead, live_in, spans_of, take_over
from indexer.folders import Folders
from indexer.index.commit import Target, raise_epoch
from indexer.jobs.lease import Lease, check, holding
from indexer.segments.ivf import DEFAULT_RULE
from indexer.segments.segment import IndexRule, Segment, merge_segments, to_merge
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import (
    CollectionRow,
    GenerationRow,
    SegmentRow,
    TombstoneRow,
    known,
)
from pipeline.errors import NotFound
from pipeline.types import Keys

Policy = Callable[[dict[int, int], dict[int, int]], tuple[int, ...]]
"""Which segments are merged next, by their rows and dead rows (`to_merge`)."""


def stale_first(sizes: dict[int, int], dead: dict[int, int]) -> tuple[int, ...]:
    """A policy that leaves no dead row: the next segment that has any."""
    return next(((segment,) for segment in sorted(sizes) if dead[segment]), ())


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is merged: segments and their rows that were live at an epoch."""

    segments: tuple[int, ...]
    live: Keys
    epoch: int


class Merger:
    """Merges what the policy says. Several processes may be asked at once: one of them works on a generation."""

    def __init__(
        self, database: Database, folders: Folders, *, rule: IndexRule = DEFAULT_RULE
    ) -> None:
        self._database = database
        self._folders = folders
        self._rule = rule

    def run(
        self,
        collection_id: str,
        *,
        policy: Policy = to_merge,
        say: Callable[[], None] = lambda: None,
    ) -> int:
        """Merge until the policy is content; returns how many segments were written.

        `say` runs between them and between blocks of their rows, and may raise to stop: only the search structure of a
        large segment is made in one go. Returns at once where another process merges.
        """
        return sum(
            self._run(target, policy, say)
            for target in self.targets(collection_id)
            if self._uncounted(target) or self._chosen(target, policy)
        )

    def sweep(self, target: Target) -> bool:
        """Remove what merges that died left in a generation; False where one runs at this moment."""
        with holding(self._database, f"merge {target.generation_id}") as held:
            if held is not None:
                self._sweep(target, held)
            return held is not None

    def targets(self, collection_id: str) -> list[Target]:
        """The generations of a collection; none when it is gone."""
        with self._database.read() as session:
            rows = session.exec(
                select(GenerationRow)
                .where(GenerationRow.collection_id == collection_id)
                .order_by(col(GenerationRow.id))
            ).all()
            return [Target(collection_id, known(row.id), row.fingerprint) for row in rows]

    def _run(self, target: Target, policy: Policy, say: Callable[[], None]) -> int:
        count = 0
        with holding(self._database, f"merge {target.generation_id}") as held:
            if held is None:
                return 0
            self._sweep(target, held)
            for segment_id in self._uncounted(target):
                self._count(target, held, segment_id)
            while chosen := self._chosen(target, policy):
                say()
                try:
                    self._merge(target, held, chosen, say)
                except NotFound:  # the collection was deleted, and came back as a folder
                    gone = self._folders.collection(target.collection_id)
                    shutil.rmtree(gone, ignore_errors=True)
                    return count
                count += 1
        return count

    def _chosen(self, target: Target, policy: Policy) -> tuple[int, ...]:
        with self._database.read() as session:
            rows = session.exec(_published(target)).all()
        sizes = {known(row.id): row.rows for row in rows if row.dead is not None}
        return policy(sizes, {known(row.id): row.dead for row in rows if row.dead is not None})

    def _uncounted(self, target: Target) -> list[int]:
        with self._database.read() as session:
            rows = session.exec(_published(target)).all()
            return [known(row.id) for row in rows if row.dead is None]

    def _count(self, target: Target, held: Lease, segment_id: int) -> None:
        """Count what an earlier version of this program, or a repair, left uncounted."""
        keys = self._open(target, segment_id).keys
        with self._database.write() as session:
            check(session, held)
            if locked(session, CollectionRow, target.collection_id) is not None:
                count_dead(session, target.generation_id, segment_id, keys)

    def _sweep(self, target: Target, held: Lease) -> None:
        """Remove what a merge that died left."""
        with self._database.write() as session:
            check(session, held)
            left = (
                col(SegmentRow.generation_id) == target.generation_id,
                col(SegmentRow.published).is_(False),
                col(SegmentRow.merged).is_(True),
            )
            ids = session.exec(select(SegmentRow.id).where(*left)).all()
            session.execute(delete(SegmentRow).where(*left))
        for segment_id in map(known, ids):
            folder = self._folder(target, segment_id)
            for path in (folder, *folder.parent.glob(f".{segment_id}.*")):
                shutil.rmtree(path, ignore_errors=True)

    def _merge(
        self, target: Target, held: Lease, chosen: tuple[int, ...], say: Callable[[], None]
    ) -> None:
        with self._database.read() as session:
            collection = session.get(CollectionRow, target.collection_id)
            if collection is None:
                raise NotFound("the collection was deleted while its segments were merged")
            live = live_in(session, target.generation_id, spans_of(session, chosen))
            plan = _Plan(chosen, live, collection.epoch)
        segments = [self._open(target, segment_id) for segment_id in chosen]
        new_id = self._begin(target, held)
        folder = self._folder(target, new_id)
        merge_segments(
            segments,
            plan.live,
            folder,
            fingerprint=target.fingerprint,
            rule=self._rule,
            breathe=say,
        )
        keys = self._open(target, new_id).keys
        self._commit(target, held, plan, new_id, keys)
        for segment_id in chosen:  # a reader that has them open goes on reading them
            shutil.rmtree(self._folder(target, segment_id), ignore_errors=True)

    def _begin(self, target: Target, held: Lease) -> int:
        with self._database.write() as session:
            check(session, held)
            if locked(session, GenerationRow, target.generation_id) is None:
                raise NotFound("the collection was deleted while its segments were merged")
            row = SegmentRow(generation_id=target.generation_id, rows=0, merged=True)
            session.add(row)
            session.flush()
            return known(row.id)

    def _commit(self, target: Target, held: Lease, plan: _Plan, new_id: int, keys: Keys) -> None:
        with self._database.write() as session:
            check(session, held)
            if locked(session, CollectionRow, target.collection_id) is None:
                raise NotFound("the collection was deleted while its segments were merged")
            row = session.get_one(SegmentRow, new_id)
            row.rows, row.dead, row.published = len(keys), _died(session, target, plan, keys), True
            session.add(row)
            session.execute(delete(SegmentRow).where(col(SegmentRow.id).in_(plan.segments)))
            take_over(session, target.generation_id, plan.segments, new_id)
            raise_epoch(session, target)

    def _folder(self, target: Target, segment_id: int) -> Path:
        return self._folders.segment(target.collection_id, target.generation_id, segment_id)

    def _open(self, target: Target, segment_id: int) -> Segment:
        return Segment.open(self._folder(target, segment_id), fingerprint=target.fingerprint)


def _published(target: Target) -> SelectOfScalar[SegmentRow]:
    return select(SegmentRow).where(
        SegmentRow.generation_id == target.generation_id, col(SegmentRow.published).is_(True)
    )


def _died(session: Session, target: Target, plan: _Plan, keys: Keys) -> int:
    """How many of the merged rows died since they were read."""
    died: Sequence[int] = session.exec(
        select(TombstoneRow.key).where(
            TombstoneRow.generation_id == target.generation_id,
            col(TombstoneRow.epoch) > plan.epoch,
        )
    ).all()
    return int(np.isin(np.asarray(died, np.int64), keys).sum())
