"""Rows for files that have arrived: document, next version and job."""

import time
from dataclasses import dataclass

from sqlalchemy import exists, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from indexer.catalog.precedence import BULK, INTERACTIVE
from indexer.catalog.removal import rename
from indexer.folders import Folders
from indexer.sql.tables import CollectionRow, DocumentRow, JobRow, VersionRow, new_id
from pipeline.errors import InvalidInput, Unavailable
from pipeline.types import JobKind

MOST_NAME = 500
"""Characters of a document's name with its path."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived: its name in the collection and its bytes' digest.

    `source` is its URL, if any. A `bulk` one waits until no other is waiting.
    """

    name: str
    sha256: str
    size: int
    media_type: str
    source: str | None = None
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Parent:
    """The archive or mail that a file came out of, and the job that took it out."""

    document: str
    job: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an upload. `job` is None for a duplicate that is indexed already."""

    document: str
    version: int
    job: str | None
    duplicate: bool


def take_row(
    session: Session,
    folders: Folders,
    owner: CollectionRow,
    upload: Upload,
    parent: Parent | None = None,
) -> tuple[Taken, VersionRow]:
    """Rows for a file whose bytes lie in the originals of a locked collection.

    The same bytes in the collection are a duplicate, unless their ingestion failed; a member that is uploaded by
    itself takes that name. A document that was there under the name of a member becomes that member. Raises
    Unavailable when the bytes are gone.
    """
    check_name(upload.name)
    if not folders.original(owner.id, upload.sha256).exists():
        raise Unavailable("the file was deleted while it was stored: upload it again")
    if same := _newest_with(session, owner.id, upload.sha256):
        job = session.exec(
            select(JobRow.id).where(JobRow.version_id == same.id, JobRow.status != "done")
        ).first()
        if parent is None:
            _stand_alone(session, same.document_id, upload.name)
        return Taken(same.document_id, same.number, job, duplicate=True), same
    document = session.exec(
        select(DocumentRow).where(
            DocumentRow.collection_id == owner.id, DocumentRow.name == upload.name
        )
    ).first() or DocumentRow(collection_id=owner.id, name=upload.name)
    document.updated = time.time()
    document.source = upload.source or document.source
    if parent is not None:
        document.parent_id = parent.document
    session.add(document)
    last = session.exec(
        select(func.max(VersionRow.number)).where(VersionRow.document_id == document.id)
    ).one()
    version = VersionRow(
        document_id=document.id,
        collection_id=owner.id,
        number=(last or 0) + 1,
        sha256=upload.sha256,
        media_type=upload.media_type,
        size=upload.size,
    )
    session.add(version)
    session.flush()
    job_row = JobRow(
        id=new_id(),
        kind=JobKind.INGEST.value,
        collection_id=owner.id,
        collection=owner.name,
        document_id=document.id,
        version_id=version.id,
        parent_id=parent.job if parent else None,
        filename=upload.name,
        priority=BULK if upload.bulk else INTERACTIVE,
    )
    session.add(job_row)
    return Taken(document.id, version.number, job_row.id, duplicate=False), version


def _stand_alone(session: Session, document_id: str, name: str) -> None:
    """A member that is uploaded by itself, too, does not go with its archive any more."""
    document = session.get_one(DocumentRow, document_id)
    if document.parent_id is not None:
        document.parent_id = None
        session.add(document)
        rename(session, document, name)


def _newest_with(session: Session, collection_id: str, sha256: str) -> VersionRow | None:
    """The newest version of some document that has these bytes and did not fail.

    An older version's bytes are no duplicate: they come to replace what followed.
    """
    newer = aliased(VersionRow)
    follows = exists().where(
        col(newer.document_id) == col(VersionRow.document_id),
        col(newer.number) > col(VersionRow.number),
        col(newer.status) != "failed",
    )
    return session.exec(
        select(VersionRow).where(
            VersionRow.collection_id == collection_id,
            VersionRow.sha256 == sha256,
            VersionRow.status != "failed",
            ~follows,
        )
    ).first()


def check_name(name: str) -> None:
    """Raises InvalidInput for a name that no list could show."""
    if (
        not name.strip()
        or len(name) > MOST_NAME
        or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in name)
    ):
        raise InvalidInput(f"a name needs 1 to {MOST_NAME} printable characters")
