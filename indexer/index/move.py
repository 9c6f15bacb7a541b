"""A collection from the data folder to Milvus and back, while it is searched and written; nothing is embedded again.

To Milvus: rows are copied while everything goes on, then publishing waits for the few that came meanwhile, and one
transaction switches. Back: the words index is made anew while publishing waits; the vectors stayed in their segments.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func
from sqlmodel import col, select

from indexer.catalog.catalog import collection_row
from indexer.folders import Folders
from indexer.index.commit import Target, live_keys, raise_epoch
from indexer.index.milvus_leg import Place, place_of, sparse_rows
from indexer.index.words import chunks_after, make_words
from indexer.jobs.lease import Lease, check, holding
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.milvus.vocabulary import Vocabulary
from indexer.segments.segment import Segment
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, GenerationRow, PlaceRow, SegmentRow, WordRow, known
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, Unavailable
from pipeline.types import Keys

Say = Callable[[int, int], None]
_WAIT_S = 120.0
_POLL_S = 0.2
_TRIES = 5


class Mover:
    """Moves one collection at a time. `say` hears the chunks that are done, and all there are.

    What is left behind is removed `grace_s` seconds after the switch.
    """

    def __init__(
        self, database: Database, folders: Folders, store: MilvusStore, *, grace_s: float = 3.0
    ) -> None:
        self._database = database
        self._grace_s = grace_s
        self._folders = folders
        self._store = store

    def to_milvus(self, collection: str, say: Say = lambda _done, _total: None) -> int:
        """Returns the number of chunks there. What stops in between leaves the collection where it was.

        Raises Conflict when it is there already or is being moved, InvalidInput when it is empty, Unavailable when
        Milvus does not answer.
        """
        target, place = self._found(collection)
        if place is not None:
            raise Conflict(f'the collection "{collection}" is in Milvus already')
        with self._alone(f"move {target.generation_id}"):
            copy = _Copy(self._database, self._folders, self._store, target, say)
            copy.begin()
            copy.go_on()
            with self._publishing(target) as held:
                copy.go_on()
                count = copy.switch(held)
        time.sleep(self._grace_s)
        shutil.rmtree(
            self._folders.words(target.collection_id, target.generation_id), ignore_errors=True
        )
        return count

    def to_folder(self, collection: str, say: Say = lambda _done, _total: None) -> int:
        """Returns the number of chunks. Milvus need not have its rows any more, but must answer.

        Raises Conflict when the collection is not in Milvus or is being moved.
        """
        target, place = self._found(collection)
        if place is None:
            raise Conflict(f'the collection "{collection}" is in the data folder already')
        total, done = self._count(target), 0
        with self._alone(f"move {target.generation_id}"), self._publishing(target) as held:
            for some in make_words(
                self._database, self._folders, target.collection_id, target.generation_id
            ):
                done += some
                say(done, total)
            with self._database.write() as session:
                check(session, held)
                for table in (WordRow, PlaceRow):
                    mine = col(table.generation_id) == target.generation_id
                    session.execute(delete(table).where(mine))
                raise_epoch(session, target)
        time.sleep(self._grace_s)  # searches that began before go on there
        self._store.drop(place.name)
        return done

    def _found(self, collection: str) -> tuple[Target, Place | None]:
        with self._database.read() as session:
            row = collection_row(session, collection)
            generation = session.get_one(GenerationRow, row.generation_id)
            target = Target(row.id, row.generation_id, generation.fingerprint)
            return target, place_of(session, row.generation_id)

    def _count(self, target: Target) -> int:
        with self._database.read() as session:
            return session.exec(
                select(func.count())
                .select_from(ChunkRow)
                .where(ChunkRow.generation_id == target.generation_id)
            ).one()

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with holding(self._database, name) as held:
            if held is None:
                raise Conflict("the collection is being moved already: wait for that")
            yield

    @contextmanager
    def _publishing(self, target: Target) -> Iterator[Lease]:
        """The publisher's lease, so that nothing is published meanwhile."""
        end = time.monotonic() + _WAIT_S
        while True:
            with holding(self._database, f"publish {target.generation_id}") as held:
                if held is not None:
                    yield held
                    return
            if time.monotonic() > end:
                raise Unavailable("uploads are published without a pause: try again later")
            time.sleep(_POLL_S)


class _Copy:
    """Rows of one generation on their way to Milvus, in the order of their keys."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        store: MilvusStore,
        target: Target,
        say: Say,
    ) -> None:
        self._database = database
        self._folders = folders
        self._store = store
        self._target = target
        self._say = say
        self._words = Vocabulary(database, target.generation_id)
        self._name = store.name(target.collection_id, target.generation_id)
        self._segments: list[Segment] = []
        self._counts: Counter[int] = Counter()
        self._copied: list[Keys] = []
        self._done = 0
        self._mean = 0.0

    def begin(self) -> None:
        """An empty collection in Milvus, and no terms."""
        self._reopen()
        first = chunks_after(self._database, self._target.generation_id, -1)
        if not first or not self._segments:
            raise InvalidInput("the collection holds nothing yet: add documents, then move it")
        self._mean = max(1.0, sum(len(found) for _, found in first) / len(first))
        with self._database.write() as session:
            self._words.forget(session)
        self._store.make(self._name, self._segments[0].dim)

    def go_on(self) -> None:
        """Copy the live chunks behind the last one that was copied."""
        last = int(self._copied[-1][-1]) if self._copied else -1
        with self._database.read() as session:
            total = self._done + len(live_keys(session, self._target.generation_id))
        while rows := chunks_after(self._database, self._target.generation_id, last):
            keys = np.array([key for key, _ in rows], np.int64)
            found = [words for _, words in rows]
            with self._database.write() as session:
                numbers = self._words.number(session, {term for words in found for term in words})
            sparse = sparse_rows(found, numbers, self._mean)
            for row in sparse:
                self._counts.update(row.keys())
            keys_there, vectors, scripts = self._raw(keys)
            there = np.isin(keys, keys_there)
            kept = [row for row, is_there in zip(sparse, there, strict=True) if is_there]
            self._store.put(self._name, MilvusRows(keys_there, scripts, vectors, kept))
            for row, is_there in zip(sparse, there, strict=True):
                if not is_there:  # deleted since it was read
                    self._counts.subtract(row.keys())
            self._copied.append(keys)
            last = int(keys[-1])
            self._done += len(keys)
            self._say(self._done, max(total, self._done))

    def switch(self, held: Lease) -> int:
        """Delete what died meanwhile, then search in Milvus from here on."""
        with self._database.read() as session:
            live = live_keys(session, self._target.generation_id)
        dead = np.setdiff1d(np.concatenate(self._copied), live)
        for numbers in self._store.terms(self._name, dead).values():
            self._counts.subtract(numbers)
        self._store.delete(self._name, dead)
        if (there := self._store.count(self._name)) != len(live):
            raise Unavailable(
                f"{there} rows arrived in Milvus, not {len(live)}: the collection stays where it was; try again"
            )
        with self._database.write() as session:
            check(session, held)
            self._words.count(session, self._counts)
            session.add(
                PlaceRow(generation_id=self._target.generation_id, name=self._name, mean=self._mean)
            )
            raise_epoch(session, self._target)
        return len(live)

    def _raw(self, keys: Keys) -> tuple[Keys, NDArray[np.float16], NDArray[np.uint8]]:
        """The raw vectors of the keys that a segment holds: one that died may be merged away."""
        for _ in range(_TRIES):
            parts = [self._of(segment, keys) for segment in self._segments]
            if parts:
                found = np.concatenate([own for own, _, _ in parts])
                if len(found) == len(keys) or self._gone(keys, found):
                    order = np.argsort(found)
                    vectors = np.concatenate([own for _, own, _ in parts])[order]
                    scripts = np.concatenate([own for _, _, own in parts])[order]
                    return found[order], vectors, scripts
            self._reopen()
        raise Unavailable("the segments changed five times while they were read: try again")

    def _gone(self, keys: Keys, found: Keys) -> bool:
        """Whether the keys that no segment holds have died."""
        missing = np.setdiff1d(keys, found)
        with self._database.read() as session:
            alive = session.exec(
                select(ChunkRow.key)
                .where(
                    ChunkRow.generation_id == self._target.generation_id,
                    col(ChunkRow.key).in_(missing.tolist()),
                )
                .limit(1)
            ).first()
        return alive is None

    def _of(
        self, segment: Segment, keys: Keys
    ) -> tuple[Keys, NDArray[np.float16], NDArray[np.uint8]]:
        rows = segment.rows_of(keys)
        return segment.keys[rows], segment.vectors[rows], segment.scripts[rows]

    def _reopen(self) -> None:
        with self._database.read() as session:
            ids = session.exec(
                select(SegmentRow.id).where(
                    SegmentRow.generation_id == self._target.generation_id,
                    col(SegmentRow.published).is_(True),
                )
            ).all()
        place = (self._target.collection_id, self._target.generation_id)
        try:
            self._segments = [
                Segment.open(
                    self._folders.segment(*place, known(segment)),
                    fingerprint=self._target.fingerprint,
                )
                for segment in ids
            ]
        except DamagedIndex:  # one was merged away between its row and its file
            time.sleep(_POLL_S)
            self._segments = []
