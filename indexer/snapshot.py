"""What a search sees: one state of a collection, read at one epoch, the same for both legs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from sqlmodel import col, select

from indexer.catalog import collection_row
from indexer.database import Database
from indexer.folders import Folders
from indexer.segments import SegmentCache
from indexer.stored import decode_layout, locate
from indexer.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    SegmentRow,
    TextRow,
    VersionRow,
)
from indexer.vectors import SegmentedVectors, StoredTokens
from indexer.words import WordSearcher
from pipeline.errors import DamagedIndex, IndexMismatch, NotFound, Unavailable
from pipeline.types import Box, Chunk, ChunkId, DocumentId, Key, Keys, Script

_TRIES = 5
_VARIABLES = 500  # bound values a statement; SQLite takes 32,766, PostgreSQL's planner likes fewer


@dataclass(frozen=True, slots=True)
class _State:
    collection_id: str
    generation_id: int
    epoch: int
    fingerprint: str


class IndexSnapshot:
    """Implements `pipeline.ports.Snapshot`."""

    def __init__(
        self,
        database: Database,
        state: _State,
        vectors: SegmentedVectors,
        words: WordSearcher,
        tokens: StoredTokens,
    ) -> None:
        self._database = database
        self._state = state
        self.vectors = vectors
        self.words = words
        self.tokens = tokens

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        """The chunks of these keys in their order; one that was deleted meanwhile is left out."""
        found: dict[int, Chunk] = {}
        with self._database.read() as session:
            for start in range(0, len(keys), _VARIABLES):
                rows = session.execute(
                    select(ChunkRow, DocumentRow.name, VersionRow.number)
                    .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
                    .join(VersionRow, col(VersionRow.id) == col(ChunkRow.version_id))
                    .where(
                        ChunkRow.generation_id == self._state.generation_id,
                        col(ChunkRow.key).in_(keys[start : start + _VARIABLES]),
                    )
                ).all()
                found.update((row.key, _chunk(row, name, number)) for row, name, number in rows)
        return [found[key] for key in keys if key in found]

    def keys_of(self, documents: Sequence[DocumentId]) -> Keys:
        """The live keys of these documents, sorted. Raises NotFound for one that the collection does not hold."""
        wanted = list(dict.fromkeys(documents))
        keys: list[int] = []
        with self._database.read() as session:
            for start in range(0, len(wanted), _VARIABLES):
                part = wanted[start : start + _VARIABLES]
                there = set(
                    session.exec(
                        select(DocumentRow.id).where(
                            DocumentRow.collection_id == self._state.collection_id,
                            col(DocumentRow.id).in_(part),
                        )
                    ).all()
                )
                if missing := [d for d in part if d not in there]:
                    raise NotFound(
                        f'the collection holds no document "{missing[0]}": it was deleted, or the id is wrong'
                    )
                keys.extend(
                    session.exec(
                        select(ChunkRow.key).where(
                            ChunkRow.generation_id == self._state.generation_id,
                            col(ChunkRow.document_id).in_(part),
                        )
                    ).all()
                )
        return np.asarray(sorted(keys), dtype=np.int64)

    def locate(
        self, document: DocumentId, version: int, start: int, end: int
    ) -> tuple[int | None, tuple[Box, ...]]:
        """Page and line boxes of `text[start:end]` of a stored version; (None, ()) when it has gone."""
        with self._database.read() as session:
            row = session.exec(
                select(TextRow)
                .join(VersionRow, col(VersionRow.id) == col(TextRow.version_id))
                .where(VersionRow.document_id == document, VersionRow.number == version)
            ).first()
            if row is None:
                return None, ()
            text, layout = row.text, row.layout
        return locate(decode_layout(text, layout), start, end)


class Snapshots:
    """Opens snapshots; one a collection is kept while its epoch stands."""

    def __init__(self, database: Database, folders: Folders, *, fingerprint: str) -> None:
        self._database = database
        self._folders = folders
        self._fingerprint = fingerprint
        self._segments = SegmentCache()
        self._kept: dict[str, tuple[_State, IndexSnapshot]] = {}
        self._lock = Lock()

    def open(self, collection: str) -> IndexSnapshot:
        """The newest state. Raises NotFound, or IndexMismatch when another embedder wrote the collection."""
        state = self._state(collection)
        for _ in range(_TRIES):
            kept = self._kept.get(state.collection_id)
            if kept is not None and kept[0] == state:
                return kept[1]
            try:
                with self._lock:
                    snapshot = self._load(state)
            except DamagedIndex:
                # A merge may have taken a segment away between its row and its file.
                before, state = state, self._state(collection)
                if state == before:
                    raise
                continue
            if snapshot is not None:
                self._kept[state.collection_id] = (state, snapshot)
                return snapshot
            state = self._state(collection)
        raise Unavailable("the index changed five times while it was opened: try again")

    def _state(self, collection: str) -> _State:
        with self._database.read() as session:
            row = collection_row(session, collection)
            generation = session.get_one(GenerationRow, row.generation_id)
            state = _State(row.id, row.generation_id, row.epoch, generation.fingerprint)
        if state.fingerprint != self._fingerprint:
            raise IndexMismatch(
                f'the collection "{collection}" was indexed by another embedder ({state.fingerprint}): start with that '
                "one again, or index the collection anew"
            )
        return state

    def _load(self, state: _State) -> IndexSnapshot | None:
        """The state's files, opened; None when the epoch moved on before they were read."""
        with self._database.read() as session:
            collection = session.get(CollectionRow, state.collection_id)
            if collection is None or collection.epoch != state.epoch:
                return None
            segment_ids = session.exec(
                select(SegmentRow.id)
                .where(
                    SegmentRow.generation_id == state.generation_id,
                    col(SegmentRow.published).is_(True),
                )
                .order_by(col(SegmentRow.id))
            ).all()
            live: Keys = np.asarray(
                session.exec(
                    select(ChunkRow.key)
                    .where(ChunkRow.generation_id == state.generation_id)
                    .order_by(col(ChunkRow.key))
                ).all(),
                dtype=np.int64,
            )
        segments = [
            self._segments.open(
                self._folders.segment(state.collection_id, state.generation_id, segment_id),
                fingerprint=state.fingerprint,
            )
            for segment_id in segment_ids
            if segment_id is not None
        ]
        vectors = SegmentedVectors(segments, live)
        words = WordSearcher(self._folders.words(state.collection_id, state.generation_id), live)
        return IndexSnapshot(self._database, state, vectors, words, StoredTokens(segments, live))


def _chunk(row: ChunkRow, name: str, number: int) -> Chunk:
    return Chunk(
        id=ChunkId(f"{row.generation_id}-{row.key}"),
        key=Key(row.key),
        document=DocumentId(row.document_id),
        name=name,
        version=number,
        text=row.text,
        start=row.start,
        end=row.end,
        page=row.page,
        heading=tuple(json.loads(row.heading)),
        context=row.context,
        script=Script(row.script),
    )
