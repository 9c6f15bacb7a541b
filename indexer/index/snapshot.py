"""What a search sees: one state of a collection, read at one epoch, the same for both legs."""

import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from sqlmodel import Session, col, select

from indexer.catalog.catalog import collection_row
from indexer.folders import Folders
from indexer.index.live import Live, advanced, read_live
from indexer.index.milvus_leg import MilvusReader
from indexer.segments.live import LiveRows
from indexer.segments.rows import RowIndex
from indexer.segments.segment import Segment, SegmentCache
from indexer.segments.vectors import SegmentedVectors, StoredTokens, on_cpu
from indexer.segments.words import WordSearcher
from indexer.sql.database import Database
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    SegmentRow,
    TextRow,
    VersionRow,
)
from indexer.text.stored import decode_layout, locate, tables_of
from pipeline.errors import DamagedIndex, IndexMismatch, NotFound, Unavailable
from pipeline.ports import VectorIndex, WordIndex
from pipeline.types import Box, Chunk, ChunkId, DocumentId, Key, Keys, Script

_TRIES = 5
_MOST_KEPT = 64
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
        vectors: VectorIndex,
        words: WordIndex,
        tokens: StoredTokens,
        live: Live,
        rows: LiveRows,
    ) -> None:
        self._database = database
        self.vectors = vectors
        self.words = words
        self.tokens = tokens
        self.state = state
        self.live = live
        self.rows = rows

    @property
    def fingerprint(self) -> str:
        """Of the embedder that made its vectors."""
        return self.state.fingerprint

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
                        ChunkRow.generation_id == self.state.generation_id,
                        col(ChunkRow.key).in_(keys[start : start + _VARIABLES]),
                    )
                ).all()
                found.update((row.key, _chunk(row, name, number)) for row, name, number in rows)
        return [found[key] for key in keys if key in found]

    def keys_of(self, documents: Sequence[DocumentId]) -> Keys:
        """The live keys of these documents, sorted. Raises NotFound for one that the collection does not hold."""
        keys, without = self.live.of(set(documents))
        for document in without:
            with self._database.read() as session:  # one that has no searchable version yet
                row = session.get(DocumentRow, document)
            if row is None or row.collection_id != self.state.collection_id:
                raise NotFound(
                    f'the collection holds no document "{document}": it was deleted, or the id is wrong'
                )
        return keys

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
    """Opens snapshots; one a collection is kept while its epoch stands, of the 64 last searched.

    `fingerprint` is the embedder's, `also` are those of others that are here too. `place` says where
    segments are searched.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        *,
        fingerprint: str,
        also: Collection[str] = (),
        milvus: MilvusReader | None = None,
        place: Callable[[Sequence[Segment]], Sequence[RowIndex]] = on_cpu,
    ) -> None:
        self._database = database
        self._folders = folders
        self._fingerprints = frozenset({fingerprint, *also})
        self._milvus = milvus or MilvusReader(database, None)
        self._place = place
        self._segments = SegmentCache()
        self._kept: OrderedDict[str, tuple[_State, IndexSnapshot]] = OrderedDict()
        self._guard = Lock()
        self._loading: dict[str, Lock] = {}

    def open(self, collection: str) -> IndexSnapshot:
        """The newest state. Raises NotFound, or IndexMismatch when another embedder wrote the collection."""
        state = self._state(collection)
        for _ in range(_TRIES):
            if (kept := self._get(state)) is not None:
                return kept
            with self._lock_of(state):
                if (kept := self._get(state)) is not None:
                    return kept
                try:
                    snapshot = self._load(state)
                except DamagedIndex:
                    # A merge may have taken a segment away between its row and its file.
                    before, state = state, self._state(collection)
                    if state == before:
                        raise
                    continue
                if snapshot is not None:
                    self._keep(state, snapshot)
                    return snapshot
            state = self._state(collection)
        raise Unavailable("the index changed five times while it was opened: try again")

    def open_generation(self, collection: str, generation_id: int) -> IndexSnapshot:
        """The newest state of a generation, be it the live one or not; it is not kept.

        Raises NotFound when collection or generation are gone, IndexMismatch as `open` does.
        """
        state = self._state(collection, generation_id)
        for _ in range(_TRIES):
            before = state
            try:
                with self._lock_of(state):
                    snapshot = self._load(state)
            except DamagedIndex:  # as in `open`
                state = self._state(collection, generation_id)
                if state == before:
                    raise
                continue
            if snapshot is not None:
                return snapshot
            state = self._state(collection, generation_id)
        raise Unavailable("the index changed five times while it was opened: try again")

    def _lock_of(self, state: _State) -> Lock:
        with self._guard:
            return self._loading.setdefault(state.collection_id, Lock())

    def _get(self, state: _State) -> IndexSnapshot | None:
        with self._guard:
            kept = self._kept.get(state.collection_id)
            if kept is None or kept[0] != state:
                return None
            self._kept.move_to_end(state.collection_id)
            return kept[1]

    def _keep(self, state: _State, snapshot: IndexSnapshot) -> None:
        with self._guard:
            self._kept[state.collection_id] = (state, snapshot)
            self._kept.move_to_end(state.collection_id)
            while len(self._kept) > _MOST_KEPT:
                gone, _ = self._kept.popitem(last=False)
                self._loading.pop(gone, None)

    def _state(self, collection: str, generation_id: int | None = None) -> _State:
        with self._database.read() as session:
            row = collection_row(session, collection)
            generation = session.get(GenerationRow, generation_id or row.generation_id)
            if generation is None or generation.id is None or generation.collection_id != row.id:
                raise NotFound(f'the collection "{collection}" has no such index any more')
            state = _State(row.id, generation.id, row.epoch, generation.fingerprint)
        if state.fingerprint not in self._fingerprints:
            raise IndexMismatch(
                f'the collection "{collection}" was indexed by another embedder ({state.fingerprint}): start with that '
                "one again (as ZHINAO_EMBEDDER__* or ZHINAO_NEXT_EMBEDDER__*), or re-index the collection"
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
            live, before, died = self._read(session, state)
        segments = [
            self._segments.open(
                self._folders.segment(state.collection_id, state.generation_id, segment_id),
                fingerprint=state.fingerprint,
            )
            for segment_id in segment_ids
            if segment_id is not None
        ]
        rows = (
            LiveRows.of(segments, live.keys)
            if before is None
            else before.after(segments, live.keys, died)
        )
        raw = SegmentedVectors(segments, rows, place=self._place)
        tokens = StoredTokens(segments, rows)
        vectors, words = self._milvus.legs(state.generation_id, live.keys, raw) or (
            raw,
            WordSearcher(self._folders.words(state.collection_id, state.generation_id), live.keys),
        )
        return IndexSnapshot(self._database, state, vectors, words, tokens, live, rows)

    def _read(self, session: Session, state: _State) -> tuple[Live, LiveRows | None, Keys]:
        """The live chunks of the session's state; and where they are told from those of the last snapshot, as long as
        its deaths are still told, that one's rows and the keys that died since.
        """
        with self._guard:
            _, before = self._kept.get(state.collection_id, (None, None))
        if before is not None and before.state.generation_id == state.generation_id:
            horizon = session.get_one(GenerationRow, state.generation_id).horizon
            if before.state.epoch >= horizon:
                epoch = before.state.epoch
                live, died = advanced(session, state.generation_id, before.live, epoch)
                return live, before.rows, died
        return read_live(session, state.generation_id), None, np.zeros(0, np.int64)


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
        tables=tables_of(row.tables),
        turns=tuple((at, page) for at, page in json.loads(row.turns)) if row.turns else (),
    )
