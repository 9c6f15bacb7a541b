"""Many documents, or a whole collection, deleted in the background: a few at a time, so that nobody waits long."""

import shutil
import time
from collections.abc import Iterator, Sequence

from sqlmodel import col, select

from indexer.catalog.catalog import Catalog
from indexer.catalog.removal import remove, remove_collection
from indexer.folders import Folders
from indexer.jobs.claims import Claim, end, owned
from indexer.jobs.jobs import Jobs
from indexer.jobs.work import Result, Say, Superseded
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, DocumentRow
from pipeline.errors import InvalidInput
from pipeline.types import JobId, JobKind

_AT_ONCE = 50


def submit_delete(
    jobs: Jobs, catalog: Catalog, *, collection: str, documents: Sequence[str] | None = None
) -> JobId:
    """A job that deletes these documents of a collection, or with None the collection and all that is in it.

    The job shows the collection's name and outlives it. Raises NotFound without the collection, InvalidInput for no
    documents.
    """
    if documents is not None and not documents:
        raise InvalidInput("there is nothing to delete: name documents, or the collection alone")
    payload: dict[str, object] = {"collection_id": catalog.collection_id(collection)}
    if documents is not None:
        payload["documents"] = list(documents)
    about = None if documents is None else f"{len(documents)} documents"
    return jobs.submit(
        JobKind.DELETE,
        collection=collection,
        payload=payload,
        about=about,
        detached=True,
        alone=True,
    )


class Deleting:
    """Implements Handler. Its result counts what each store lost, and the documents that were gone already."""

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders

    def run(self, claim: Claim, say: Say) -> Result | None:
        collection_id: str = claim.payload["collection_id"]
        named: list[str] | None = claim.payload.get("documents")
        lost: dict[str, int] = {"documents": 0}
        total = len(named) if named is not None else self._count(collection_id)
        say("delete", 0, total)
        asked = 0
        for ids in self._batches(collection_id, named):
            for store, count in self._remove(claim, collection_id, ids).items():
                lost[store] = lost.get(store, 0) + count
            asked += len(ids)
            say("delete", min(asked, total), total)
        if named is not None:
            return {"lost": lost, "gone_before": len(named) - lost["documents"]}
        self._remove_collection(claim, collection_id, {"lost": lost, "collection": "deleted"})
        return None

    def interrupt(self) -> None:
        """A batch takes no time to speak of; the next word ends the job."""

    def _batches(self, collection_id: str, named: list[str] | None) -> Iterator[list[str]]:
        if named is not None:
            for start in range(0, len(named), _AT_ONCE):
                yield named[start : start + _AT_ONCE]
            return
        while True:
            with self._database.read() as session:
                ids = session.exec(
                    select(DocumentRow.id)
                    .where(
                        DocumentRow.collection_id == collection_id,
                        col(DocumentRow.parent_id).is_(None),
                    )
                    .limit(_AT_ONCE)
                ).all()
            if not ids:
                return
            yield list(ids)

    def _remove(self, claim: Claim, collection_id: str, ids: Sequence[str]) -> dict[str, int]:
        with self._database.write() as session:
            collection = locked(session, CollectionRow, collection_id)
            if owned(session, claim) is None:
                raise Superseded
            if collection is None:
                return {}
            # Members of an archive may have gone with it.
            roots = session.exec(
                select(DocumentRow.id).where(
                    DocumentRow.collection_id == collection_id, col(DocumentRow.id).in_(ids)
                )
            ).all()
            if not roots:
                return {}
            lost = remove(session, self._folders, collection, list(roots))
            return {"documents": len(roots), **lost}

    def _remove_collection(self, claim: Claim, collection_id: str, result: Result) -> None:
        """The collection itself, and the end of the job: cancelled before, it leaves the collection there."""
        with self._database.write() as session:
            collection = locked(session, CollectionRow, collection_id)
            job = owned(session, claim)
            if job is None:
                raise Superseded
            if collection is not None:
                remove_collection(session, collection)
            end(session, job, result, time.time())
        shutil.rmtree(self._folders.collection(collection_id), ignore_errors=True)

    def _count(self, collection_id: str) -> int:
        with self._database.read() as session:
            found = select(DocumentRow.id).where(
                DocumentRow.collection_id == collection_id, col(DocumentRow.parent_id).is_(None)
            )
            return len(session.exec(found).all())
