"""What the API shows of the catalog, read with few queries a page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func
from sqlmodel import Session, col, select

from indexer.catalog.outcomes import Counts, counts_of_members
from indexer.catalog.similar import similar_documents
from indexer.sql.tables import ChunkRow, CollectionRow, DocumentRow, JobRow, VersionRow
from pipeline.types import JobStatus


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document, the version that answers (None while there is none) and its newest upload.

    `similar` has id, name and share (0 to 1) of the documents that are nearly the same. `parent` is the archive or
    mail that it came out of, `members` counts what came out of it, `source` is the URL that it was fetched from.
    """

    id: str
    collection: str
    name: str
    title: str | None
    live: int | None
    versions: tuple[int, ...]
    media_type: str
    size: int
    pages: int | None
    chunks: int
    status: str
    error: str | None
    job: str | None
    similar: tuple[tuple[str, str, float], ...]
    created: float
    updated: float
    parent: str | None = None
    members: Counts | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionView:
    """A collection with its counts of documents and live chunks."""

    name: str
    rerank: bool
    documents: int
    chunks: int
    created: float


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version of a document: where its bytes are and what they are called."""

    id: int
    document_id: str
    collection_id: str
    name: str
    number: int
    sha256: str
    media_type: str


def document_views(session: Session, rows: Sequence[DocumentRow]) -> list[DocumentView]:
    """Views of a page of documents, in their order."""
    ids = [row.id for row in rows]
    names = dict(session.execute(select(CollectionRow.id, CollectionRow.name)).all())
    versions: dict[str, list[VersionRow]] = {}
    for version in session.exec(
        select(VersionRow)
        .where(col(VersionRow.document_id).in_(ids))
        .order_by(col(VersionRow.number))
    ):
        versions.setdefault(version.document_id, []).append(version)
    jobs = {
        job.version_id: job
        for job in session.exec(select(JobRow).where(col(JobRow.document_id).in_(ids)))
    }
    counts = dict(
        session.execute(
            select(ChunkRow.version_id, func.count())
            .where(
                col(ChunkRow.document_id).in_(ids),
                col(ChunkRow.generation_id).in_(select(CollectionRow.generation_id)),
            )
            .group_by(col(ChunkRow.version_id))
        ).all()
    )
    shown = [row.live_version_id for row in rows if row.live_version_id is not None]
    similar = similar_documents(session, shown)
    views = [
        _view(row, names[row.collection_id], versions[row.id], jobs, counts, similar)
        for row in rows
    ]
    newest = {row.id: row.live_version_id or versions[row.id][-1].id for row in rows}
    members = counts_of_members(session, list(newest.values()))
    return [replace(view, members=members.get(newest[view.id] or 0)) for view in views]


def _view(
    row: DocumentRow,
    collection: str,
    versions: Sequence[VersionRow],
    jobs: dict[int | None, JobRow],
    counts: dict[int, int],
    similar: dict[int, list[tuple[str, str, float]]],
) -> DocumentView:
    newest = versions[-1]
    live = next((v for v in versions if v.id == row.live_version_id), None)
    shown = live or newest
    job = jobs.get(newest.id)
    status = {"live": "ready", "superseded": "ready", "failed": "failed"}.get(
        newest.status, "processing"
    )
    return DocumentView(
        id=row.id,
        collection=collection,
        name=row.name,
        title=shown.title,
        live=live.number if live else None,
        versions=tuple(v.number for v in versions),
        media_type=shown.media_type,
        size=shown.size,
        pages=shown.pages,
        chunks=counts.get(row.live_version_id, 0) if row.live_version_id else 0,
        status=status,
        error=job.error if job and newest.status == "failed" else None,
        job=job.id if job and job.status != JobStatus.DONE.value else None,
        similar=tuple(similar.get(row.live_version_id or 0, ())),
        created=row.created,
        updated=row.updated,
        parent=row.parent_id,
        source=row.source,
    )


def counts_by(session: Session, column: object) -> dict[object, int]:
    """How many rows of a table have each value of a column."""
    return dict(session.execute(select(column, func.count()).group_by(column)).all())  # type: ignore[call-overload]
