"""What exists: collections, documents, versions.

Every change of what a search may see raises the collection's epoch in the same transaction.
"""

import shutil
from collections.abc import Sequence

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from indexer.catalog.removal import remove, remove_collection
from indexer.catalog.taking import Taken, Upload, check_name, take_row
from indexer.catalog.views import (
    CollectionView,
    DocumentView,
    VersionView,
    counts_by,
    document_views,
)
from indexer.folders import Folders
from indexer.sql.database import Database, add_missing
from indexer.sql.locks import locked
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    TextRow,
    VersionRow,
    known,
)
from indexer.text.stored import Stored, decode_layout
from pipeline.errors import Conflict, NotFound

_NO_TEXT = "this version has no text: its file is not read yet, or could not be read; see its job"
Cursor = tuple[float, str]
"""Creation time and id of the last row of a page."""


class Catalog:
    """The one owner of what exists. Methods are synchronous and short: call them in a thread."""

    def __init__(
        self, database: Database, folders: Folders, *, fingerprint: str, chunking: str
    ) -> None:
        self._database = database
        self._folders = folders
        self._fingerprint = fingerprint
        self._chunking = chunking

    def create_collection(self, name: str, *, rerank: bool = True) -> CollectionView:
        """A new, empty collection. Raises Conflict when the name is taken."""
        check_name(name)
        with self._database.write() as session:
            row = CollectionRow(name=name, rerank=rerank, generation_id=0)
            generation = GenerationRow(
                collection_id=row.id, fingerprint=self._fingerprint, chunking=self._chunking
            )
            session.add(generation)
            session.flush()
            row.generation_id = known(generation.id)
            if not add_missing(session, CollectionRow, row.model_dump()):
                raise Conflict(f'a collection named "{name}" exists already: choose another name')
            return CollectionView(name, rerank, 0, 0, row.created)

    def ensure_collection(self, name: str) -> None:
        """Create a collection unless it is there."""
        with self._database.read() as session:
            if session.exec(select(CollectionRow.id).where(CollectionRow.name == name)).first():
                return
        try:
            self.create_collection(name)
        except Conflict:
            return  # another process was quicker

    def collections(self) -> list[CollectionView]:
        """All collections, by name."""
        with self._database.read() as session:
            # Sorted here: a database's own order of names depends on its locale.
            rows = sorted(session.exec(select(CollectionRow)).all(), key=lambda row: row.name)
            documents = counts_by(session, DocumentRow.collection_id)
            chunks = counts_by(session, ChunkRow.generation_id)
            return [
                CollectionView(
                    r.name,
                    r.rerank,
                    documents.get(r.id, 0),
                    chunks.get(r.generation_id, 0),
                    r.created,
                )
                for r in rows
            ]

    def delete_collection(self, name: str) -> None:
        """A collection and all that it holds, gone from the next request on."""
        with self._database.write() as session:
            row = collection_row(session, name, lock=True)
            remove_collection(session, row)
        shutil.rmtree(self._folders.collection(row.id), ignore_errors=True)

    def collection_id(self, name: str) -> str:
        with self._database.read() as session:
            return collection_row(session, name).id

    def take(self, collection: str, upload: Upload) -> Taken:
        """Rows for an upload whose bytes lie in the collection's originals: document, next version and job.

        The same bytes in the collection are a duplicate, unless their ingestion failed.
        """
        with self._database.write() as session:
            owner = collection_row(session, collection, lock=True)
            return take_row(session, self._folders, owner, upload)[0]

    def name_for(self, collection: str, source: str, wished: Sequence[str]) -> str:
        """The name of the document that was fetched from a URL before, else the first wish that is free."""
        with self._database.read() as session:
            owner = collection_row(session, collection).id
            mine = col(DocumentRow.collection_id) == owner
            before = session.exec(
                select(DocumentRow.name)
                .where(mine, DocumentRow.source == source)
                .order_by(col(DocumentRow.created))
            ).first()
            tried = [*wished, *(f"{number}/{wished[-1]}" for number in range(2, 100))]
            taken = set(
                session.exec(
                    select(DocumentRow.name).where(mine, col(DocumentRow.name).in_(tried))
                ).all()
            )
        return before or next((name for name in tried if name not in taken), wished[-1])

    def documents(
        self,
        *,
        collection: str | None = None,
        status: str | None = None,
        name_contains: str | None = None,
        limit: int = 100,
        cursor: Cursor | None = None,
    ) -> tuple[list[DocumentView], Cursor | None]:
        """A page of documents, newest first, and where the next one starts."""
        with self._database.read() as session:
            query = select(DocumentRow).order_by(
                col(DocumentRow.created).desc(), col(DocumentRow.id).desc()
            )
            if collection is not None:
                query = query.where(
                    DocumentRow.collection_id == collection_row(session, collection).id
                )
            if name_contains:
                query = query.where(col(DocumentRow.name).icontains(name_contains, autoescape=True))
            views: list[DocumentView] = []
            while len(views) <= limit:
                page = query
                if cursor:
                    page = page.where(tuple_(DocumentRow.created, DocumentRow.id) < cursor)
                rows = session.exec(page.limit(limit + 1)).all()
                views.extend(v for v in document_views(session, rows) if status in (None, v.status))
                if len(rows) <= limit:
                    break
                cursor = (rows[-1].created, rows[-1].id)
        if len(views) <= limit:
            return views, None
        return views[:limit], (views[limit - 1].created, views[limit - 1].id)

    def document(self, document_id: str) -> DocumentView:
        with self._database.read() as session:
            row = session.get(DocumentRow, document_id)
            if row is None:
                raise _unknown_document(document_id)
            return document_views(session, [row])[0]

    def version(self, document_id: str, number: int | None) -> VersionView:
        """A version by number; None means the one that answers, else the newest."""
        with self._database.read() as session:
            document = session.get(DocumentRow, document_id)
            if document is None:
                raise _unknown_document(document_id)
            query = select(VersionRow).where(VersionRow.document_id == document_id)
            if number is not None:
                query = query.where(VersionRow.number == number)
            elif document.live_version_id is not None:
                query = query.where(VersionRow.id == document.live_version_id)
            row = session.exec(query.order_by(col(VersionRow.number).desc())).first()
            if row is None:
                raise NotFound(
                    f"the document has no version {number}: see its versions at /documents/{document_id}"
                )
            return VersionView(
                known(row.id),
                document.id,
                row.collection_id,
                document.name,
                row.number,
                row.sha256,
                row.media_type,
            )

    def text(self, document_id: str, number: int | None) -> str:
        """The stored text of a version. Raises NotFound while it is not read yet."""
        version = self.version(document_id, number)
        with self._database.read() as session:
            text = session.exec(
                select(TextRow.text).where(TextRow.version_id == version.id)
            ).first()
        if text is None:
            raise NotFound(_NO_TEXT)
        return text

    def stored(self, document_id: str, number: int | None) -> Stored:
        """The stored text of a version with its elements. Raises NotFound while it is not read yet."""
        version = self.version(document_id, number)
        with self._database.read() as session:
            row = session.get(TextRow, version.id)
            if row is None:
                raise NotFound(_NO_TEXT)
            text, layout = row.text, row.layout
        return decode_layout(text, layout)

    def delete_document(self, document_id: str) -> dict[str, int]:
        """A document with all versions and what came out of it, out of every answer from the next request on.

        Returns counts by store.
        """
        with self._database.write() as session:
            collection, _ = _lock_document(session, document_id)
            return remove(session, self._folders, collection, [document_id])


def collection_row(session: Session, name: str, *, lock: bool = False) -> CollectionRow:
    """The row of a collection. Raises NotFound.

    With `lock`, uploads, deletes and publishes of the collection wait until the session ends.
    """
    query = select(CollectionRow).where(CollectionRow.name == name)
    row = session.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f'there is no collection named "{name}": create it, or see GET /collections')
    return row


def _lock_document(session: Session, document_id: str) -> tuple[CollectionRow, DocumentRow]:
    """A document whose collection is locked. Raises NotFound, also when another request deleted it meanwhile."""
    found = session.get(DocumentRow, document_id)
    collection = locked(session, CollectionRow, found.collection_id) if found else None
    document = locked(session, DocumentRow, document_id) if collection else None
    if collection is None or document is None:
        raise _unknown_document(document_id)
    return collection, document


def _unknown_document(document_id: str) -> NotFound:
    return NotFound(f'there is no document "{document_id}": it was deleted, or the id is wrong')
