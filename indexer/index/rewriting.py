"""The words of a generation put right from the rows of its chunks, while readers go on with what they have open."""

import shutil
from collections.abc import Sequence

import numpy as np
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Target, forget, raise_epoch
from indexer.index.words import chunks_after
from indexer.jobs.lease import Lease, check, holding
from indexer.segments.words import WordWriter, stored_keys
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    GenerationRow,
    PlaceRow,
    TombstoneRow,
    known,
)
from pipeline.analyze import terms
from pipeline.errors import DamagedIndex


def rewrite_words(database: Database, folders: Folders, target: Target, held: Lease) -> int:
    """Every live chunk anew and nothing else, in one commit; returns how many.

    `held` is the generation's publish lease. An index that cannot be read is made anew in its place.
    """
    folder = folders.words(target.collection_id, target.generation_id)
    try:
        stored_keys(folder)
    except DamagedIndex:
        shutil.rmtree(folder, ignore_errors=True)
    with database.read() as session:
        gone = dying(session, target.generation_id)
    count, last = 0, -1
    with WordWriter.open(folder) as writer:
        writer.clear()
        while rows := chunks_after(database, target.generation_id, last):
            for key, found in rows:
                writer.add(key, found)
            count, last = count + len(rows), rows[-1][0]
        writer.commit()
        writer.collect()
    with database.write() as session:
        check(session, held)
        if locked(session, CollectionRow, target.collection_id) is not None:
            forget(session, target, gone)
            raise_epoch(session, target)  # readers open the words anew
    return count


def put_words(
    database: Database,
    folders: Folders,
    target: Target,
    held: Lease,
    *,
    missing: Sequence[int],
    extra: Sequence[int],
) -> None:
    """Add the chunks that the words index lacks, and take out what is not live."""
    folder = folders.words(target.collection_id, target.generation_id)
    with WordWriter.open(folder) as writer:
        writer.delete(extra)
        for start in range(0, len(missing), 500):
            with database.read() as session:
                rows = session.execute(
                    select(ChunkRow.key, ChunkRow.context, ChunkRow.text).where(
                        ChunkRow.generation_id == target.generation_id,
                        col(ChunkRow.key).in_(missing[start : start + 500]),
                    )
                ).all()
            for key, context, text in rows:
                writer.add(key, terms(f"{context}\n{text}"))
        writer.commit()
    with database.write() as session:
        check(session, held)
        if locked(session, CollectionRow, target.collection_id) is not None:
            raise_epoch(session, target)


def dying(session: Session, generation_id: int) -> list[int]:
    """Keys that died and may stand in the words index yet."""
    return list(
        session.exec(
            select(TombstoneRow.key).where(
                TombstoneRow.generation_id == generation_id, col(TombstoneRow.words).is_(True)
            )
        ).all()
    )


def mend_words(database: Database, folders: Folders) -> dict[str, str]:
    """Write the words again of each generation that lacks some, as after a crash or a lost folder.

    Returns what was wrong by the collection's name. Reads the keys alone, where all is well. A generation that
    another process works on is left to it.
    """
    with database.read() as session:
        rows = session.execute(
            select(GenerationRow, CollectionRow.name)
            .join(CollectionRow, col(CollectionRow.id) == col(GenerationRow.collection_id))
            .where(col(GenerationRow.id).not_in(select(PlaceRow.generation_id)))
        ).all()
    mended: dict[str, str] = {}
    for row, name in rows:
        target = Target(row.collection_id, known(row.id), row.fingerprint)
        if words_differ(database, folders, target) is None:
            continue
        with holding(database, f"publish {target.generation_id}") as held:
            # Looked at again: a publish may have ended between the two looks.
            if held is not None and (why := words_differ(database, folders, target)) is not None:
                rewrite_words(database, folders, target, held)
                mended[name] = why
    return mended


def words_differ(database: Database, folders: Folders, target: Target) -> str | None:
    """Why the words of a generation have to be written again; None when every live chunk is there."""
    with database.read() as session:
        live = session.exec(
            select(ChunkRow.key).where(ChunkRow.generation_id == target.generation_id)
        ).all()
    try:
        stored = stored_keys(folders.words(target.collection_id, target.generation_id))
    except DamagedIndex as error:
        return str(error)
    missing = len(np.setdiff1d(np.asarray(live, np.int64), stored))
    return f"{missing} live passages are not in the words index" if missing else None
