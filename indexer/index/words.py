"""The words of a generation from the rows of its chunks: what a words index is made of, and made of again."""

import shutil
from collections.abc import Iterator

from sqlmodel import col, select

from indexer.folders import Folders
from indexer.segments.words import WordWriter
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow
from pipeline.analyze import terms

_ROWS_AT_ONCE = 1000


def make_words(
    database: Database, folders: Folders, collection_id: str, generation_id: int
) -> Iterator[int]:
    """Make the words index of a generation anew from its chunks; yields how many were added, again and again."""
    folder = folders.words(collection_id, generation_id)
    shutil.rmtree(folder, ignore_errors=True)
    last = -1
    with WordWriter.open(folder) as writer:
        while rows := chunks_after(database, generation_id, last):
            for key, found in rows:
                writer.add(key, found)
            last = rows[-1][0]
            yield len(rows)
        writer.commit()


def chunks_after(database: Database, generation_id: int, key: int) -> list[tuple[int, list[str]]]:
    """The next live chunks behind a key: their keys and terms, in the order of keys; none behind the last one."""
    with database.read() as session:
        rows = session.execute(
            select(ChunkRow.key, ChunkRow.context, ChunkRow.text)
            .where(ChunkRow.generation_id == generation_id, ChunkRow.key > key)
            .order_by(col(ChunkRow.key))
            .limit(_ROWS_AT_ONCE)
        ).all()
        return [(key, terms(f"{context}\n{text}")) for key, context, text in rows]
