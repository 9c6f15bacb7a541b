"""The generations of a collection: the one that answers, one that is being built, and the one that answered before.

A search and an upload touch the live one alone. Another becomes the live one in a transaction that first sees that it
holds every document that answers, so that a reader finds all of one or all of the other.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, exists, func
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Target
from indexer.jobs.claims import Claim, owned
from indexer.jobs.work import Superseded
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    ReservationRow,
    SegmentRow,
    SpanRow,
    TombstoneRow,
    known,
)
from pipeline.errors import NotFound


class State(StrEnum):
    """What a generation is for. Of a collection one is live, and at most one each of the others is there."""

    BUILDING = "building"
    LIVE = "live"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Generation:
    """Vectors of one embedder and one chunking."""

    target: Target
    state: State
    chunking: str


class Generations:
    """Begins, switches and drops generations."""

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders

    def of(self, collection_id: str) -> dict[State, Generation]:
        """The generations of a collection. Raises NotFound."""
        with self._database.read() as session:
            collection = session.get(CollectionRow, collection_id)
            if collection is None:
                raise _gone()
            return {each.state: each for each in _all(session, collection)}

    def begin(self, claim: Claim, fingerprint: str, chunking: str) -> Generation:
        """The generation that is being built with these, begun unless an earlier attempt did; any other one goes."""
        with self._database.write() as session:
            collection = _locked(session, claim)
            found = {each.state: each for each in _all(session, collection)}.get(State.BUILDING)
            wanted = (fingerprint, chunking)
            if found is not None and (found.target.fingerprint, found.chunking) == wanted:
                return found
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
                _forget(session, found.target.generation_id)
        if found is not None:
            self._remove(found.target)
        return begun

    def missing(self, target: Target, limit: int) -> list[int]:
        """The next versions that answer and are not in a generation, oldest first."""
        with self._database.read() as session:
            return [known(each) for each in session.exec(_missing(target).limit(limit)).all()]

    def chunks(self, target: Target) -> int:
        """How many live chunks a generation has."""
        with self._database.read() as session:
            query = select(func.count()).where(ChunkRow.generation_id == target.generation_id)
            return session.exec(query.select_from(ChunkRow)).one()

    def switch(
        self, claim: Claim, target: Target, ending: Callable[[Session], None] = lambda _: None
    ) -> bool:
        """Let a generation answer from the next request on; the one that did is kept as the previous one.

        False while a version that answers is missing in it. `ending` runs in the same transaction. Raises Superseded
        when the claim no longer holds.
        """
        with self._database.write() as session:
            collection = _locked(session, claim)
            if session.exec(_missing(target).limit(1)).first() is not None:
                return False
            older = [
                each.target
                for each in _all(session, collection)
                if each.state is State.PREVIOUS and each.target != target
            ]
            for each in older:
                _forget(session, each.generation_id)
            before = session.get_one(GenerationRow, collection.generation_id)
            after = session.get_one(GenerationRow, target.generation_id)
            before.state, after.state = State.PREVIOUS.value, State.LIVE.value
            collection.generation_id = target.generation_id
            collection.epoch += 1
            session.add_all([before, after, collection])
            ending(session)
        for each in older:
            self._remove(each)
        return True

    def drop(self, target: Target) -> None:
        """Remove a generation that does not answer, with its files; does nothing for the one that does."""
        with self._database.write() as session:
            collection = locked(session, CollectionRow, target.collection_id)
            row = session.get(GenerationRow, target.generation_id)
            if row is None or collection is None or collection.generation_id == row.id:
                return
            _forget(session, target.generation_id)
        self._remove(target)

    def _remove(self, target: Target) -> None:
        folder = self._folders.generation(target.collection_id, target.generation_id)
        shutil.rmtree(folder, ignore_errors=True)


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


def _locked(session: Session, claim: Claim) -> CollectionRow:
    """The collection, locked, with the claim still held."""
    collection = locked(session, CollectionRow, claim.collection_id)
    if owned(session, claim) is None:
        raise Superseded
    if collection is None:
        raise _gone()
    return collection


def _forget(session: Session, generation_id: int) -> None:
    for table in (ChunkRow, TombstoneRow, SpanRow, SegmentRow, ReservationRow):
        session.execute(delete(table).where(col(table.generation_id) == generation_id))
    session.execute(delete(GenerationRow).where(col(GenerationRow.id) == generation_id))


def _gone() -> NotFound:
    return NotFound("the collection was deleted while it was re-indexed")
