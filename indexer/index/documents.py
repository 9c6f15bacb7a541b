"""Whether each document's passages stand in its stored text, and its original is what was uploaded."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlmodel import col, select

from indexer.folders import Folders
from indexer.index.again import read_again
from indexer.index.findings import Finding
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import ChunkRow, CollectionRow, DocumentRow, TextRow, VersionRow


def texts(database: Database, collection: CollectionRow) -> Iterator[Finding]:
    """Every live chunk is of its document's live version and stands in the stored text as it is told."""
    with database.read() as session:
        documents = session.exec(
            select(DocumentRow).where(DocumentRow.collection_id == collection.id)
        ).all()
    for document in documents:
        with database.read() as session:
            chunks = session.execute(
                select(ChunkRow.version_id, ChunkRow.text, ChunkRow.start, ChunkRow.end).where(
                    ChunkRow.generation_id == collection.generation_id,
                    ChunkRow.document_id == document.id,
                )
            ).all()
            live = session.exec(
                select(DocumentRow.live_version_id).where(DocumentRow.id == document.id)
            ).first()
            text = session.exec(select(TextRow.text).where(TextRow.version_id == live)).first()
        wrong = None
        if {row.version_id for row in chunks} != ({live} if live is not None else set()):
            wrong = "its searchable passages are not those of its live version"
        elif live is not None and text is None:
            wrong = "its stored text is gone"
        elif text is not None and any(text[row.start : row.end] != row.text for row in chunks):
            wrong = "its passages do not stand in its stored text as they are cited"
        if wrong is not None:
            mend = partial(_one_again, database, collection.id, document.id)
            yield Finding("catalog", collection.name, f"{document.name}: {wrong}", mend)


def _one_again(database: Database, collection_id: str, document_id: str) -> str:
    with database.write() as session:
        collection = locked(session, CollectionRow, collection_id)
        count = read_again(session, collection, [document_id]) if collection else 0
        if collection is not None:
            collection.epoch += 1
            session.add(collection)
    return f"{count} document is read again by its job"


def originals(database: Database, folders: Folders, collection: CollectionRow) -> Iterator[Finding]:
    """The bytes of every version's file against the digest it was taken with."""
    with database.read() as session:
        rows = session.execute(
            select(VersionRow.sha256, VersionRow.number, DocumentRow.name)
            .join(DocumentRow, col(DocumentRow.id) == col(VersionRow.document_id))
            .where(VersionRow.collection_id == collection.id, VersionRow.status != "failed")
        ).all()
    checked: dict[str, str | None] = {}
    for sha256, number, name in rows:
        if sha256 not in checked:
            checked[sha256] = _wrong(folders.original(collection.id, sha256), sha256)
        if (wrong := checked[sha256]) is not None:
            yield Finding(
                "originals",
                collection.name,
                f"{name}, version {number}: its file {wrong}: upload it again, or restore it from a backup",
            )


def _wrong(path: Path, sha256: str) -> str | None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest == sha256 else "has changed since it was uploaded"
