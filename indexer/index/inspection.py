"""Whether the stores agree: every segment's bytes, keys against rows, words against keys, texts against originals."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from sqlalchemy import delete
from sqlmodel import Session, col, select

from indexer.catalog.spans import count_dead, joined, live_in, spans_of
from indexer.folders import Folders
from indexer.index.again import read_again
from indexer.index.commit import Target, live_keys, raise_epoch
from indexer.index.documents import originals, texts
from indexer.index.findings import Finding
from indexer.index.generations import State
from indexer.index.holding import alone_in
from indexer.index.leftovers import leftover_files, leftover_rows
from indexer.index.milvus_inspection import InMilvus, leftover_in_milvus
from indexer.index.milvus_leg import place_of
from indexer.index.rewriting import dying, put_words, rewrite_words
from indexer.milvus.store import MilvusStore
from indexer.segments.segment import Segment
from indexer.segments.words import stored_keys
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    GenerationRow,
    ReservationRow,
    SegmentRow,
    SpanRow,
    known,
)
from pipeline.errors import DamagedIndex, IndexMismatch
from pipeline.types import Keys

SETTLED_S = 60.0
_AGAIN_S = 1.0
Say = Callable[[str], None]


def inspect(
    database: Database,
    folders: Folders,
    *,
    milvus: MilvusStore | None = None,
    settled_s: float = SETTLED_S,
    say: Say = lambda _: None,
) -> list[Finding]:
    """Look at everything, change nothing; read every byte of segments and originals, and all keys in Milvus.

    Uploads, publishes and merges may run: what is found is looked at once more, and files younger than `settled_s`
    are let be. `say` hears what is looked at.
    """
    found = list(_inspect(database, folders, milvus, settled_s, say))
    if not found:
        return []
    say("looking once more at what was found")
    time.sleep(_AGAIN_S if settled_s else 0.0)
    second = list(_inspect(database, folders, milvus, settled_s, lambda _: None))
    return [finding for finding in second if finding in found]


def _inspect(
    database: Database,
    folders: Folders,
    milvus: MilvusStore | None,
    settled_s: float,
    say: Say,
) -> Iterator[Finding]:
    with database.read() as session:
        collections = session.exec(select(CollectionRow).order_by(CollectionRow.name)).all()
        generations = session.exec(select(GenerationRow)).all()
    for collection in collections:
        mine = [
            row
            for row in generations
            if row.collection_id == collection.id and row.state != State.GONE.value
        ]
        if collection.generation_id not in {row.id for row in mine}:
            yield Finding(
                "catalog", collection.name, "its generation is gone: restore it from a backup"
            )
        for row in mine:
            say(f"{collection.name}: index")
            target = Target(collection.id, known(row.id), row.fingerprint)
            yield from _Generation(database, folders, target, collection.name, milvus).findings()
        say(f"{collection.name}: texts and originals")
        yield from texts(database, collection)
        yield from originals(database, folders, collection)
    say("what belongs to nothing")
    yield from leftover_rows(database)
    yield from leftover_files(database, folders, settled_s=settled_s)
    yield from leftover_in_milvus(database, milvus)


class _Generation:
    """The segments and words of one generation against its rows."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        target: Target,
        name: str,
        milvus: MilvusStore | None,
    ) -> None:
        self._milvus = milvus
        self._database = database
        self._folders = folders
        self._target = target
        self._name = name

    def findings(self) -> Iterator[Finding]:
        number = self._target.generation_id
        with self._database.read() as session:
            rows = session.exec(
                select(SegmentRow).where(
                    SegmentRow.generation_id == number, col(SegmentRow.published).is_(True)
                )
            ).all()
            live = live_keys(session, number)
            spans = {known(row.id): spans_of(session, [known(row.id)]) for row in rows}
            gone = dying(session, number)
            reserved = session.exec(
                select(ReservationRow).where(ReservationRow.generation_id == number)
            ).all()
            place = place_of(session, number)
        held: list[Keys] = []
        for row in rows:
            segment_id = known(row.id)
            folder = self._folders.segment(self._target.collection_id, number, segment_id)
            try:
                keys = Segment.open(folder, fingerprint=self._target.fingerprint, verify=True).keys
            except (DamagedIndex, IndexMismatch) as error:
                told = [np.arange(first, first + count) for first, count in spans[segment_id]]
                held.append(np.intersect1d(np.concatenate([np.zeros(0, np.int64), *told]), live))
                yield self._finding("segments", str(error), partial(self._drop, segment_id))
                continue
            held.append(keys)
            yield from self._counts(row, keys, spans[segment_id], live)
        yield from self._placed(live, np.concatenate([np.zeros(0, np.int64), *held]))
        if place is not None:
            in_milvus = InMilvus(
                self._database, self._folders, self._milvus, self._target, self._name
            )
            yield from in_milvus.findings(place)
        else:
            unborn = [np.arange(row.first, row.first + row.count) for row in reserved]
            yield from self._words(live, np.concatenate([np.asarray(gone, np.int64), *unborn]))

    def _counts(
        self, row: SegmentRow, keys: Keys, spans: Sequence[tuple[int, int]], live: Keys
    ) -> Iterator[Finding]:
        if row.dead is None:  # the next merge counts it
            return
        dead = len(keys) - int(np.isin(keys, live).sum())
        told = [np.arange(first, first + count) for first, count in joined(spans)]
        unknown = np.setdiff1d(keys, np.concatenate([np.zeros(0, np.int64), *told]))
        if (row.rows, row.dead) != (len(keys), dead) or len(unknown):
            yield self._finding(
                "catalog",
                f"segment {row.id} is said to have {row.rows} rows, {row.dead} of them dead, and has {len(keys)} and "
                f"{dead}",
                partial(self._count, known(row.id), keys),
            )

    def _placed(self, live: Keys, held: Keys) -> Iterator[Finding]:
        there, count = np.unique(held[np.isin(held, live)], return_counts=True)
        missing, doubled = np.setdiff1d(live, there), there[count > 1]
        for keys, what in ((missing, "in no segment"), (doubled, "in two segments")):
            if len(keys):
                yield self._finding(
                    "segments", f"{len(keys)} passages are {what}", partial(self._again, keys)
                )

    def _words(self, live: Keys, excused: Keys) -> Iterator[Finding]:
        folder = self._folders.words(self._target.collection_id, self._target.generation_id)
        try:
            stored = stored_keys(folder)
        except DamagedIndex as error:
            yield self._finding("words", str(error), self._rewrite)
            return
        missing = np.setdiff1d(live, stored)
        if len(missing) and not len(stored):
            yield self._finding("words", "the words index is empty or gone", self._rewrite)
            return
        extra = np.setdiff1d(stored, np.concatenate([live, excused]))
        twice = np.unique(stored[:-1][np.diff(stored) == 0])
        for keys, what in (
            (missing, "live passages are not in the words index"),
            (extra, "rows of the words index belong to no passage"),
            (twice, "passages stand in the words index twice"),
        ):
            if len(keys):
                put = np.union1d(missing, twice).tolist()
                yield self._finding(
                    "words", f"{len(keys)} {what}", partial(self._put, put, extra.tolist())
                )

    def _finding(self, part: str, says: str, mend: Callable[[], str]) -> Finding:
        return Finding(part, self._name, says, mend)

    def _drop(self, segment_id: int) -> str:
        """A damaged segment: its documents are read again from their originals."""
        with alone_in(self._database, self._target), self._database.write() as session:
            collection = self._collection(session)
            keys = live_in(session, self._target.generation_id, spans_of(session, [segment_id]))
            count = self._read_again(session, collection, keys)
            session.execute(delete(SpanRow).where(col(SpanRow.segment_id) == segment_id))
            session.execute(delete(SegmentRow).where(col(SegmentRow.id) == segment_id))
            raise_epoch(session, self._target)
        return f"the segment was taken out; {count} documents are read again by their jobs"

    def _again(self, keys: Keys) -> str:
        with alone_in(self._database, self._target), self._database.write() as session:
            count = self._read_again(session, self._collection(session), keys)
            raise_epoch(session, self._target)
        return f"{count} documents are read again by their jobs"

    def _read_again(self, session: Session, collection: CollectionRow, keys: Keys) -> int:
        documents: set[str] = set()
        wanted = keys.tolist()
        for start in range(0, len(wanted), 500):
            documents |= set(
                session.exec(
                    select(ChunkRow.document_id).where(
                        ChunkRow.generation_id == self._target.generation_id,
                        col(ChunkRow.key).in_(wanted[start : start + 500]),
                    )
                ).all()
            )
        return read_again(session, collection, sorted(documents))

    def _count(self, segment_id: int, keys: Keys) -> str:
        with alone_in(self._database, self._target), self._database.write() as session:
            self._collection(session)
            count_dead(session, self._target.generation_id, segment_id, keys)
        return "counted again"

    def _collection(self, session: Session) -> CollectionRow:
        collection = locked(session, CollectionRow, self._target.collection_id)
        if collection is None:
            raise DamagedIndex("the collection was deleted meanwhile")
        return collection

    def _rewrite(self) -> str:
        with alone_in(self._database, self._target) as held:
            count = rewrite_words(self._database, self._folders, self._target, held)
        return f"the words of {count} passages were written again"

    def _put(self, missing: Sequence[int], extra: Sequence[int]) -> str:
        with alone_in(self._database, self._target) as held:
            put_words(
                self._database, self._folders, self._target, held, missing=missing, extra=extra
            )
        return f"{len(missing)} passages were added and {len(extra)} rows taken out"
