"""What processes left that died while they published or merged, taken away by the next one or at the start."""

import contextlib
import shutil
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Target
from indexer.index.merge import Merger
from indexer.jobs.lease import Lease, check, holding
from indexer.segments.staging import discard_staged, staged_in
from indexer.sql.database import Database
from indexer.sql.locks import locked_jobs
from indexer.sql.tables import (
    CollectionRow,
    GenerationRow,
    JobRow,
    ReservationRow,
    SegmentRow,
    VersionRow,
    known,
)
from pipeline.types import JobStatus

_AT_ONCE = 500
_ENDED = (JobStatus.CANCELLED.value, JobStatus.FAILED.value)


def sweep_publishes(database: Database, folders: Folders, target: Target, held: Lease) -> list[int]:
    """Remove what dead publishes left; returns the keys that may stand in the words index without a row.

    `held` is the generation's publish lease. Only folders of numbers given out before are removed: a later one may be
    a newer owner's. What a merge makes at this moment is left to it.
    """
    mine = col(SegmentRow.generation_id) == target.generation_id
    with database.write() as session:
        check(session, held)
        last = session.exec(select(func.max(SegmentRow.id)).where(mine)).one() or 0
        session.execute(
            delete(SegmentRow).where(
                mine, col(SegmentRow.published).is_(False), col(SegmentRow.merged).is_(False)
            )
        )
        kept = set(session.exec(select(SegmentRow.id).where(mine)).all())
        making = set(
            session.exec(
                select(SegmentRow.id).where(mine, col(SegmentRow.published).is_(False))
            ).all()
        )
        reservations = session.exec(
            select(ReservationRow).where(ReservationRow.generation_id == target.generation_id)
        ).all()
    folder = folders.segment(target.collection_id, target.generation_id, 0).parent
    for path in folder.glob("*") if folder.exists() else ():
        number = path.name.strip(".").split(".")[0]
        if not number.isdigit() or int(number) > last or int(number) in making:
            continue
        if path.name.startswith(".") or int(number) not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return [key for r in reservations for key in range(r.first, r.first + r.count)]


def sweep_staged(database: Database, folders: Folders, target: Target) -> None:
    """Remove staged files of versions that nobody works on: a worker died behind its commit, or its job has ended.

    What a dead job had done stays for its retry. Only where the generation is the collection's own are those removed
    that are published or gone: for another one a re-index stages versions that are live.
    """
    folder = folders.staged(target.collection_id, target.generation_id, 0).parent
    # Files are listed before rows are read, as a version's row comes before its files.
    listed = sorted(staged_in(folder))
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        with database.read() as session:
            some = sorted(_unwanted(session, target, some))
        if not some:
            continue
        with database.write() as session:
            locked_jobs(session, col(JobRow.version_id).in_(some))  # a retry waits for it
            for version_id in _unwanted(session, target, some):
                with contextlib.suppress(
                    OSError
                ):  # no reason not to publish: the next sweep tries again
                    discard_staged(folder / str(version_id))


def _unwanted(session: Session, target: Target, version_ids: Sequence[int]) -> set[int]:
    """Those of these versions whose job has ended, and that are published or gone."""
    ended = session.exec(
        select(JobRow.version_id).where(
            col(JobRow.version_id).in_(version_ids), col(JobRow.status).in_(_ENDED)
        )
    ).all()
    unwanted = set(map(known, ended))
    owner = session.get(CollectionRow, target.collection_id)
    if owner is not None and owner.generation_id == target.generation_id:
        unpublished = session.exec(
            select(VersionRow.id).where(
                VersionRow.collection_id == target.collection_id,
                col(VersionRow.id).in_(version_ids),
                col(VersionRow.status).not_in(("live", "superseded")),
            )
        ).all()
        unwanted |= set(version_ids) - set(map(known, unpublished))
    return unwanted


def sweep(database: Database, folders: Folders, targets: Iterable[Target]) -> frozenset[Target]:
    """Remove what the dead left in generations; returns those at which somebody is at work, or died just now.

    Keys in the words index without a row stay reserved until the next publish takes them out: no search sees them.
    """
    busy: set[Target] = set()
    merger = Merger(database, folders)
    for target in targets:
        with holding(database, f"publish {target.generation_id}") as held:
            if held is None:
                busy.add(target)
            else:
                sweep_publishes(database, folders, target, held)
                sweep_staged(database, folders, target)
        if not merger.sweep(target):
            busy.add(target)
    return frozenset(busy)


def all_targets(database: Database) -> tuple[Target, ...]:
    """Every generation of every collection."""
    with database.read() as session:
        rows = session.exec(select(GenerationRow).order_by(col(GenerationRow.id))).all()
        return tuple(Target(row.collection_id, known(row.id), row.fingerprint) for row in rows)
