"""What a new version shares with the version before it need not be embedded again."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlmodel import col, select

from indexer.catalog.spans import touched
from indexer.folders import Folders
from indexer.segments.segment import Segment
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, CollectionRow, GenerationRow, SegmentRow, known
from indexer.text.stored import tables_of
from pipeline.errors import DamagedIndex
from pipeline.rows import read
from pipeline.types import Passage


@dataclass(frozen=True, slots=True, eq=False)
class StoredRow:
    """Where a passage's vectors lie; both are read from the mapped file when they are asked for."""

    segment: Segment
    row: int

    @property
    def vector(self) -> NDArray[np.float16]:
        """(dim,)"""
        vector: NDArray[np.float16] = self.segment.vectors[self.row]
        return vector

    @property
    def tokens(self) -> NDArray[np.int8] | None:
        """(tokens, token_dim), None where none are stored."""
        return self.segment.tokens_of(self.row)


def embedded_before(
    database: Database, folders: Folders, collection_id: str, document_id: str, fingerprint: str
) -> Mapping[Passage, StoredRow]:
    """The passages of a document's live version and their rows in the index.

    Empty for a first version, where another embedder made the index (a re-index may have switched since the caller
    looked), and where a merge takes the segments away at this moment: then everything is embedded.
    """
    with database.read() as session:
        collection = session.get(CollectionRow, collection_id)
        if collection is None:
            return {}
        generation = collection.generation_id
        if session.get_one(GenerationRow, generation).fingerprint != fingerprint:
            return {}
        passages = {
            row.key: Passage(row.context, read(row.text, tables_of(row.tables)).text)
            for row in session.execute(
                select(ChunkRow.key, ChunkRow.context, ChunkRow.text, ChunkRow.tables).where(
                    ChunkRow.generation_id == generation, ChunkRow.document_id == document_id
                )
            )
        }
        keys = np.sort(np.fromiter(passages, np.int64, len(passages)))
        uncounted = session.exec(
            select(SegmentRow.id).where(
                SegmentRow.generation_id == generation,
                col(SegmentRow.published).is_(True),
                col(SegmentRow.dead).is_(None),  # of an earlier version: no span tells its keys
            )
        ).all()
        segments = {*touched(session, generation, keys), *map(known, uncounted)}
    if not passages:
        return {}
    found: dict[Passage, StoredRow] = {}
    try:
        for segment_id in sorted(segments):
            folder = folders.segment(collection_id, generation, segment_id)
            segment = Segment.open(folder, fingerprint=fingerprint)
            for row in segment.rows_of(keys).tolist():
                found[passages[int(segment.keys[row])]] = StoredRow(segment, row)
    except DamagedIndex:
        return {}
    return found
