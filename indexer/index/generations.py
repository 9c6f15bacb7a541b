"""The generations of a collection: the one that answers, one that is being built, and the one that answered before.

A search and an upload touch the live one alone. Another becomes the live one in a transaction that first sees that it
holds every document that answers, so that a reader finds all of one or all of the other.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Delete, and_, delete, exists, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Target
from indexer.index.milvus_leg import MilvusLeg
from indexer.jobs.claims import Claim, end, hand_back, owned
from indexer.jobs.lease import Lease, check, holding
from indexer.jobs.work import Superseded
from indexer.segments.staging import discard_staged
from indexer.sql.database import Database
from indexer.sql.locks import locked, locked_jobs
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    JobRow,
    ReservationRow,
    SegmentRow,
    SpanRow,
    TombstoneRow,
    VersionRow,
    known,
)
from pipeline.errors import Conflict, NotFound, Unavailable
from pipeline.types import JobKind, JobStatus

_ROWS_AT_ONCE = 5000
_OPEN = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)


class State(StrEnum):
    """What a generation is for. Of a collection one is live, at most one is building and one previous; what is gone is
    on its way out.
    """

    BUILDING = "building"
    LIVE = "live"
    PREVIOUS = "previous"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Generation:
    """Vectors of one embedder and one chunking."""

    target: Target
    state: State
    chunking: str


class Generations:
    """Begins, switches and drops generations."""

    def __init__(
        self, database: Database, folders: Folders, milvus: MilvusLeg | None = None
    ) -> None:
        self._database = database
        self._folders = folders
        self._milvus = milvus

    def of(self, collection_id: str) -> dict[State, Generation]:
        """The generations of a collection that are there to stay. Raises NotFound."""
        with self._database.read() as session:
            collection = session.get(CollectionRow, collection_id)
            if collection is None:
                raise _gone()
            found = _all(session, collection)
            return {each.state: each for each in found if each.state is not State.GONE}

    def begin(self, claim: Claim, fingerprint: str, chunking: str) -> Generation:
        """The generation that is being built with these, begun unless an earlier attempt did; any other one goes."""
        with self._database.write() as session:
            collection = locked(session, CollectionRow, claim.collection_id)
            if owned(session, claim) is None:
                raise Superseded
            if collection is None:
                raise _gone()
            found = {each.state: each for each in _all(session, collection)}.get(State.BUILDING)
            wanted = (fingerprint, chunking)
            if found is not None and (found.target.fingerprint, found.chunking) == wanted:
                return found
            if found is not None:
                _give_up(session, found.target)
            row = GenerationRow(
                collection_id=collection.id,
                fingerprint=fingerprint,
                chunking=chunking,
                state=State.BUILDING.value,
            )
            session.add(row)
            session.flush()
            begun = _generation(row)
        if found is not None:
            self._remove(found.target)
        return begun

    def newest(self, collection_id: str) -> int:
        """The number of the newest version that answers, 0 where none does."""
        with self._database.read() as session:
            query = select(func.max(DocumentRow.live_version_id))
            return session.exec(query.where(DocumentRow.collection_id == collection_id)).one() or 0

    def missing(self, target: Target, limit: int, *, newest: int) -> list[int]:
        """The next versions that answer and are not in a generation, oldest first, none after `newest`."""
        with self._database.read() as session:
            query = _missing(target).where(col(DocumentRow.live_version_id) <= newest)
            return [known(each) for each in session.exec(query.limit(limit)).all()]

    def chunks(self, target: Target) -> int:
        """How many live chunks a generation has."""
        with self._database.read() as session:
            return _count(session, target)

    def switch(
        self,
        claim: Claim,
        before: Target,
        after: Target,
        held: Lease,
        result: Callable[[int], Mapping[str, object]],
    ) -> bool:
        """Let `after` answer from the next request on and end the claimed job with the `result` of its chunks.

        `before`, whose publish lease is held, is kept as the previous one; what waits to be published to it is read
        anew, at no cost of an attempt. False while a version that answers is missing, or where another generation
        answers. Raises Superseded when the claim no longer holds, LostLease when the lease does not, and Conflict when
        another job has switched to `after` or removed it.
        """
        with self._database.write() as session:
            check(session, held)
            collection = locked(session, CollectionRow, claim.collection_id)
            jobs = {row.id: row for row in locked_jobs(session, _concerned(claim))}
            own = jobs.pop(claim.job, None)
            if own is None or own.token != claim.token or own.status != JobStatus.RUNNING:
                raise Superseded
            if collection is None:
                raise _gone()
            ready = session.get(GenerationRow, after.generation_id)
            if ready is None or ready.state not in (
                State.BUILDING.value,
                State.PREVIOUS.value,
            ):
                raise Conflict("another job has re-indexed the collection meanwhile")
            if collection.generation_id != before.generation_id:
                return False
            if session.exec(_missing(after).limit(1)).first() is not None:
                return False
            older = [
                each.target
                for each in _all(session, collection)
                if each.state is State.PREVIOUS and each.target != after
            ]
            for each in older:
                _give_up(session, each)
            for target, state in ((before, State.PREVIOUS), (after, State.LIVE)):
                row = session.get_one(GenerationRow, target.generation_id)
                row.state = state.value
                session.add(row)
            collection.generation_id = after.generation_id
            collection.epoch += 1
            session.add(collection)
            waiting = _unstage(session, collection.id)
            for job in jobs.values():
                hand_back(session, job, time.time())
            end(session, own, result(_count(session, after)), time.time())
        for version_id in waiting:
            place = (before.collection_id, before.generation_id, version_id)
            discard_staged(self._folders.staged(*place))
        for each in older:
            self._remove(each)
        return True

    def drop(self, claim: Claim, target: Target) -> None:
        """Remove a generation that the claimed job built, with its files; does nothing for the one that answers.

        Where somebody writes to it at this moment, the next `sweep` does. Raises Superseded when the claim no longer
        holds: whoever has the job now builds on.
        """
        with self._database.write() as session:
            collection = locked(session, CollectionRow, target.collection_id)
            if owned(session, claim) is None:
                raise Superseded
            if collection is None or collection.generation_id == target.generation_id:
                return
            _give_up(session, target)
        self._remove(target)

    def sweep(self) -> int:
        """Remove what is on its way out, and what was being built by jobs that have ended; returns how many."""
        with self._database.read() as session:
            rows = session.exec(
                select(GenerationRow).where(
                    col(GenerationRow.state).in_((State.GONE.value, State.BUILDING.value))
                )
            ).all()
            found = [_generation(row) for row in rows]
        gone = 0
        for each in found:
            if each.state is State.GONE or self._abandoned(each.target):
                gone += self._remove(each.target)
        return gone

    def _abandoned(self, target: Target) -> bool:
        """Whether no job builds it any more; it is given up then."""
        with self._database.write() as session:
            if locked(session, CollectionRow, target.collection_id) is None:
                return False
            row = session.get(GenerationRow, target.generation_id)
            job = session.exec(
                select(JobRow.id)
                .where(
                    JobRow.collection_id == target.collection_id,
                    JobRow.kind == JobKind.REINDEX.value,
                    col(JobRow.status).in_(_OPEN),
                )
                .limit(1)
            ).first()
            if row is None or row.state != State.BUILDING.value or job is not None:
                return False
            _give_up(session, target)
            return True

    def _remove(self, target: Target) -> bool:
        """Files, then rows, of a generation that was given up; False while somebody writes to it."""
        number = target.generation_id
        with (
            holding(self._database, f"merge {number}") as merging,
            holding(self._database, f"publish {number}") as publishing,
        ):
            if merging is None or publishing is None:
                return False
            folder = self._folders.generation(target.collection_id, number)
            shutil.rmtree(folder, ignore_errors=True)
            self._empty(ChunkRow, number)
            self._empty(TombstoneRow, number)
            for small in (SpanRow, SegmentRow, ReservationRow):
                self._delete(delete(small).where(col(small.generation_id) == number))
            self._delete(delete(GenerationRow).where(col(GenerationRow.id) == number))
        if self._milvus is not None:
            with contextlib.suppress(Unavailable):  # the next publish sweeps it
                self._milvus.sweep()
        return True

    def _empty(self, table: type[ChunkRow] | type[TombstoneRow], number: int) -> None:
        """A few thousand rows at a time, so that nobody waits long for the database."""
        each = aliased(table)
        some = select(each.key).where(each.generation_id == number).limit(_ROWS_AT_ONCE)
        mine = and_(col(table.generation_id) == number, col(table.key).in_(some))
        while self._delete(delete(table).where(mine)):
            pass

    def _delete(self, statement: Delete) -> int:
        with self._database.write() as session:
            done = session.execute(statement)
            return int(done.rowcount)  # type: ignore[attr-defined]


def _missing(target: Target) -> Any:  # noqa: ANN401  (a statement whose type mypy cannot say)
    there = exists().where(
        col(ChunkRow.generation_id) == target.generation_id,
        col(ChunkRow.document_id) == col(DocumentRow.id),
        col(ChunkRow.version_id) == col(DocumentRow.live_version_id),
    )
    return (
        select(DocumentRow.live_version_id)
        .where(
            DocumentRow.collection_id == target.collection_id,
            col(DocumentRow.live_version_id).is_not(None),
            ~there,
        )
        .order_by(col(DocumentRow.live_version_id))
    )


def _all(session: Session, collection: CollectionRow) -> Sequence[Generation]:
    query = select(GenerationRow).where(GenerationRow.collection_id == collection.id)
    rows = session.exec(query.order_by(col(GenerationRow.id))).all()
    return [_generation(row) for row in rows]


def _generation(row: GenerationRow) -> Generation:
    target = Target(row.collection_id, known(row.id), row.fingerprint)
    return Generation(target, State(row.state), row.chunking)


def _count(session: Session, target: Target) -> int:
    query = select(func.count()).select_from(ChunkRow)
    return session.exec(query.where(ChunkRow.generation_id == target.generation_id)).one()


def _concerned(claim: Claim) -> Any:  # noqa: ANN401
    """The claimed job, and the open ones of versions that wait to be published."""
    staged = select(VersionRow.id).where(
        VersionRow.collection_id == claim.collection_id, VersionRow.status == "staged"
    )
    waiting = and_(col(JobRow.version_id).in_(staged), col(JobRow.status).in_(_OPEN))
    return or_(col(JobRow.id) == claim.job, waiting)


def _unstage(session: Session, collection_id: str) -> list[int]:
    """Versions that wait to be published in the generation that answered are read anew; returns them."""
    rows = session.exec(
        select(VersionRow).where(
            VersionRow.collection_id == collection_id, VersionRow.status == "staged"
        )
    ).all()
    for row in rows:
        row.status = "pending"
        session.add(row)
    return [known(row.id) for row in rows]


def _give_up(session: Session, target: Target) -> None:
    row = session.get(GenerationRow, target.generation_id)
    if row is not None:
        row.state = State.GONE.value
        session.add(row)


def _gone() -> NotFound:
    return NotFound("the collection was deleted while it was re-indexed")
