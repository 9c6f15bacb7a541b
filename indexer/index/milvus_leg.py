"""What a publish does to a generation that is searched in Milvus: its rows go there in place of the words index.

Rows are put before the SQL commit and counted in it; a publish that crashed leaves rubbish that nothing finds, and the
next one deletes it. Segments are written as for any other generation: they are the raw vectors, the backup and the way
back.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import delete
from sqlmodel import Session, col, select

from indexer.index.commit import Reserved, Target
from indexer.jobs.lease import Lease, check
from indexer.milvus.search import MilvusVectors, MilvusWords, RawVectors
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.milvus.vocabulary import EVERY, MEAN, Vocabulary, saturated
from indexer.segments.staging import StagedVersion
from indexer.sql.database import Database
from indexer.sql.tables import GenerationRow, PlaceRow, SegmentRow, WordRow
from pipeline.analyze import terms
from pipeline.errors import Unavailable
from pipeline.types import Keys


@dataclass(frozen=True, slots=True)
class Place:
    """Where in Milvus a generation is."""

    name: str
    mean: float


def place_of(session: Session, generation_id: int) -> Place | None:
    """None for a generation that is searched in the data folder."""
    row = session.get(PlaceRow, generation_id)
    return None if row is None else Place(row.name, row.mean)


class MilvusLeg:
    """The publisher's side of Milvus. With `everything` a generation without a segment begins there."""

    def __init__(
        self, database: Database, store: MilvusStore | None, *, everything: bool = False
    ) -> None:
        self._database = database
        self._given = store
        self._everything = everything

    @property
    def _store(self) -> MilvusStore:
        return set_up(self._given)

    def place(self, target: Target, held: Lease, dim: int) -> Place | None:
        """Where the generation is, made where it begins in Milvus."""
        with self._database.read() as session:
            found = place_of(session, target.generation_id)
            begun = session.exec(
                select(SegmentRow.id)
                .where(
                    SegmentRow.generation_id == target.generation_id,
                    col(SegmentRow.published).is_(True),
                )
                .limit(1)
            ).first()
        if found is not None or begun is not None or not self._everything:
            return found
        name = self._store.name(target.collection_id, target.generation_id)
        self._store.make(name, dim)
        with self._database.write() as session:
            check(session, held)
            session.add(PlaceRow(generation_id=target.generation_id, name=name, mean=MEAN))
        return Place(name, MEAN)

    def put(
        self,
        target: Target,
        place: Place,
        held: Lease,
        waiting: Sequence[StagedVersion],
        reserved: Reserved,
        leftover: Sequence[int],
        buried: Sequence[int],
    ) -> Mapping[int, int]:
        """Delete what is gone and put what is new; returns how the rows of each term change with the commit.

        `leftover` are keys of publishes that never committed, so nothing counted them.
        """
        self.sweep()
        changes: Counter[int] = Counter()
        gone = np.asarray(buried, np.int64)
        for numbers in self._store.terms(place.name, gone).values():
            changes.subtract(numbers)
        self._store.delete(place.name, np.asarray([*leftover, *buried], np.int64))
        found = [
            terms(f"{cut.passage.context}\n{cut.passage.text}")
            for version in waiting
            for cut in version.cuts
        ]
        with self._database.write() as session:
            check(session, held)
            given = Vocabulary(self._database, target.generation_id).number(
                session, {term for words in found for term in words}
            )
        sparse = sparse_rows(found, given, place.mean)
        for row in sparse:
            changes.update(row.keys())
        rows = MilvusRows(
            reserved.keys,
            np.concatenate([version.rows.script_codes for version in waiting]),
            np.concatenate([version.rows.vectors for version in waiting]),
            sparse,
        )
        self._store.put(place.name, rows)
        return changes

    def commit(self, session: Session, target: Target, changes: Mapping[int, int]) -> None:
        """Count the terms, in the transaction that makes the rows live."""
        Vocabulary(self._database, target.generation_id).count(session, changes)

    def sweep(self) -> list[str]:
        """Drop the Milvus collections of generations that are gone; returns their names."""
        with self._database.read() as session:
            gone = session.exec(
                select(PlaceRow).where(col(PlaceRow.generation_id).not_in(select(GenerationRow.id)))
            ).all()
        for row in gone:
            self._store.drop(row.name)
            with self._database.write() as session:
                for table in (WordRow, PlaceRow):
                    mine = col(table.generation_id) == row.generation_id
                    session.execute(delete(table).where(mine))
        return [row.name for row in gone]


def sparse_rows(
    found: Sequence[Sequence[str]], numbers: Mapping[str, int], mean: float
) -> list[dict[int, float]]:
    """The sparse vector of each row, from its terms and their numbers."""
    assert EVERY in numbers
    return [
        {numbers[term]: value for term, value in saturated(words, mean).items()} for words in found
    ]


class MilvusReader:
    """A reader's side of Milvus: the two legs of a generation that is there."""

    def __init__(self, database: Database, store: MilvusStore | None) -> None:
        self._database = database
        self._store = store

    def legs(
        self, generation_id: int, live: Keys, raw: RawVectors
    ) -> tuple[MilvusVectors, MilvusWords] | None:
        """None for a generation in the data folder. `raw` has the stored vectors of the `live` rows.

        Raises Unavailable where no Milvus is set.
        """
        with self._database.read() as session:
            place = place_of(session, generation_id)
        if place is None:
            return None
        words = Vocabulary(self._database, generation_id)
        store = set_up(self._store)
        return (
            MilvusVectors(store, place.name, live, raw),
            MilvusWords(store, place.name, live, words),
        )


def set_up(store: MilvusStore | None) -> MilvusStore:
    """Raises Unavailable where no Milvus is set."""
    if store is None:
        raise Unavailable(
            "this collection is searched in Milvus, and no Milvus is set: set ZHINAO_INDEX__MILVUS_URL and start again"
        )
    return store
