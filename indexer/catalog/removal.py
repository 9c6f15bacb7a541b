"""Documents out of every answer and every store, with what came out of them."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import and_, delete
from sqlmodel import Session, col, select

from indexer.catalog.similar import forget_similar, forget_similar_to
from indexer.catalog.spans import note_deaths
from indexer.folders import Folders
from indexer.segments.staging import discard_staged, staged_in
from indexer.sql.locks import locked_jobs
from indexer.sql.tables import (
    BandRow,
    ChunkRow,
    CollectionRow,
    DocumentRow,
    ExpectedRow,
    GenerationRow,
    JobRow,
    MemberRow,
    QuestionRow,
    RecentQueryRow,
    ReservationRow,
    ScheduleRow,
    SegmentRow,
    SignatureRow,
    SimilarRow,
    SpanRow,
    TextRow,
    TombstoneRow,
    VersionRow,
    WatchedRow,
    known,
)

WITH_COMPACTION = ("vectors", "words")
"""Stores whose files are written once: a merge leaves out what was deleted, or compaction does."""
_CURRENT = ("pending", "expanded", "staged", "live")


def remove(
    session: Session, folders: Folders, collection: CollectionRow, roots: Sequence[str]
) -> dict[str, int]:
    """Documents of a locked collection with all versions and members. Returns counts by store.

    A member whose bytes another archive holds too goes on as that one's.
    """
    ids = [*roots, *_members_of(session, roots)]
    locked_jobs(session, col(JobRow.document_id).in_(ids))
    versions = session.exec(select(VersionRow).where(col(VersionRow.document_id).in_(ids))).all()
    version_ids = [known(v.id) for v in versions]
    chunks = bury(session, collection, *ids)
    forget_similar(session, version_ids)
    forget_similar_to(session, *ids)
    questions = _forget_expected(session, ids)
    texts = session.execute(delete(TextRow).where(col(TextRow.version_id).in_(version_ids)))
    jobs = session.execute(delete(JobRow).where(col(JobRow.document_id).in_(ids)))
    session.execute(delete(MemberRow).where(col(MemberRow.version_id).in_(version_ids)))
    session.execute(delete(VersionRow).where(col(VersionRow.document_id).in_(ids)))
    session.execute(delete(DocumentRow).where(col(DocumentRow.id).in_(ids)))
    session.flush()
    kept = set(
        session.exec(
            select(VersionRow.sha256).where(
                VersionRow.collection_id == collection.id,
                col(VersionRow.sha256).in_([v.sha256 for v in versions]),
            )
        ).all()
    )
    collection.epoch += 1
    session.add(collection)
    # Inside the transaction: an upload of the same bytes waits for it, and then looks for its file.
    gone = {v.sha256 for v in versions} - kept
    for sha256 in gone:
        folders.original(collection.id, sha256).unlink(missing_ok=True)
    forget_staged(session, folders, collection.id, version_ids)
    return {
        "chunks": chunks,
        "vectors": chunks,
        "words": chunks,
        "texts": texts.rowcount,  # type: ignore[attr-defined]
        "versions": len(versions),
        "members": len(ids) - len(roots),
        "originals": len(gone),
        "jobs": jobs.rowcount,  # type: ignore[attr-defined]
        "questions": questions,
    }


_OWNED = (VersionRow, DocumentRow, GenerationRow, RecentQueryRow, WatchedRow, ScheduleRow)
"""What else names its collection, and says something of what was in it."""


def remove_collection(session: Session, collection: CollectionRow) -> None:
    """A locked collection and all that it holds. Its folder is the caller's to remove, behind the commit."""
    locked_jobs(session, col(JobRow.collection_id) == collection.id)
    generations = session.exec(
        select(GenerationRow.id).where(GenerationRow.collection_id == collection.id)
    ).all()
    versions = select(VersionRow.id).where(VersionRow.collection_id == collection.id)
    for told in (MemberRow, TextRow, SimilarRow, SignatureRow, BandRow):
        session.execute(delete(told).where(col(told.version_id).in_(versions)))
    for generation in generations:
        for keyed in (ChunkRow, TombstoneRow, SegmentRow, SpanRow, ReservationRow):
            session.execute(delete(keyed).where(col(keyed.generation_id) == generation))
    forget_questions(session, collection.id)
    for owned in (*_OWNED, JobRow):
        session.execute(delete(owned).where(col(owned.collection_id) == collection.id))
    session.delete(collection)


def forget_staged(
    session: Session, folders: Folders, collection_id: str, version_ids: Sequence[int]
) -> None:
    """Remove what was made of versions on their way into the index, in every generation of their collection.

    Inside the transaction that ends their jobs, or sees them ended: a retry waits for it.
    """
    for generation_id in _generations(session, collection_id):
        folder = folders.staged(collection_id, generation_id, 0).parent
        for version_id in staged_in(folder).intersection(version_ids):
            discard_staged(folder / str(version_id))


def forget_questions(session: Session, collection_id: str) -> None:
    """Remove all questions of a locked collection."""
    mine = select(QuestionRow.id).where(QuestionRow.collection_id == collection_id)
    session.execute(delete(ExpectedRow).where(col(ExpectedRow.question_id).in_(mine)))
    session.execute(delete(QuestionRow).where(col(QuestionRow.collection_id) == collection_id))


def _forget_expected(session: Session, document_ids: Sequence[str]) -> int:
    """No question expects these documents any more; one that expected no other is removed, as it may quote them.

    Returns how many questions were removed.
    """
    mine = col(ExpectedRow.document_id).in_(document_ids)
    asked = session.exec(select(ExpectedRow.question_id).where(mine).distinct()).all()
    session.execute(delete(ExpectedRow).where(mine))
    others = select(ExpectedRow.question_id).where(col(ExpectedRow.question_id).in_(asked))
    lost = session.execute(
        delete(QuestionRow).where(
            col(QuestionRow.id).in_(asked), col(QuestionRow.id).not_in(others)
        )
    )
    return int(lost.rowcount)  # type: ignore[attr-defined]


def bury(
    session: Session, collection: CollectionRow, *document_ids: str, generation: int | None = None
) -> int:
    """Take the live chunks of documents of a locked collection out of every search, in one generation or in all.

    They die at the epoch that comes next; their keys wait to leave the words index. Returns how many.
    """
    generations = [generation] if generation is not None else _generations(session, collection.id)
    count = 0
    for each in generations:
        mine = and_(
            col(ChunkRow.generation_id) == each,
            col(ChunkRow.document_id).in_(document_ids),
        )
        keys = np.sort(np.asarray(session.exec(select(ChunkRow.key).where(mine)).all(), np.int64))
        if len(keys):
            note_deaths(session, each, keys, collection.epoch + 1)
            session.execute(delete(ChunkRow).where(mine))
        count += len(keys)
    return count


def _generations(session: Session, collection_id: str) -> list[int]:
    mine = GenerationRow.collection_id == collection_id
    return [known(each) for each in session.exec(select(GenerationRow.id).where(mine)).all()]


def rename(session: Session, document: DocumentRow, name: str) -> bool:
    """Give a document and its members another path; False where the name is taken or too long."""
    taken = select(DocumentRow.id).where(
        DocumentRow.collection_id == document.collection_id, DocumentRow.name == name
    )
    if len(name) > 500 or session.exec(taken).first() is not None:
        return False
    before = f"{document.name}/"
    document.name = name
    collection = session.get_one(CollectionRow, document.collection_id)
    collection.epoch += 1  # hits show names
    session.add_all([document, collection])
    session.flush()
    children = session.exec(select(DocumentRow).where(DocumentRow.parent_id == document.id)).all()
    for child in children:
        if child.name.startswith(before):
            rename(session, child, f"{name}/{child.name.removeprefix(before)}")
    return True


def _members_of(session: Session, roots: Sequence[str]) -> list[str]:
    """What came out of documents, and out of that; heirs are given what they hold too."""
    below: dict[str, str] = {}
    level = list(roots)
    while level:
        rows = session.exec(select(DocumentRow).where(col(DocumentRow.parent_id).in_(level))).all()
        level = [row.id for row in rows if row.id not in below]
        below.update((row.id, row.parent_id or "") for row in rows)
    kept = _handed_over(session, {*roots, *below}, list(below))
    return [
        document_id
        for document_id in below
        if not any(above in kept for above in _line(document_id, below))
    ]


def _line(document_id: str, parents: dict[str, str]) -> list[str]:
    line = [document_id]
    while line[-1] in parents:
        line.append(parents[line[-1]])
    return line


def _handed_over(session: Session, leaving: set[str], members: Sequence[str]) -> set[str]:
    """The members that an archive which stays holds too; each is now that one's, under its path there."""
    heirs = session.execute(
        select(MemberRow.document_id, MemberRow.name, VersionRow.document_id)
        .join(VersionRow, col(VersionRow.id) == col(MemberRow.version_id))
        .where(
            col(MemberRow.document_id).in_(members),
            col(VersionRow.document_id).not_in(leaving),
            col(VersionRow.status).in_(_CURRENT),
        )
        .order_by(col(MemberRow.version_id), col(MemberRow.position))
    ).all()
    kept: set[str] = set()
    for document_id, path, heir_id in heirs:
        heir = session.get(DocumentRow, heir_id)
        document = session.get(DocumentRow, document_id)
        if document_id in kept or heir is None or document is None:
            continue
        document.parent_id = heir.id
        rename(session, document, f"{heir.name}/{path}")
        session.add(document)
        kept.add(document_id)
    return kept
