"""Documents of a collection that are nearly the same, found when a version is read."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from indexer.catalog.minhash import Signature, bands, similarity
from indexer.sql.tables import BandRow, DocumentRow, SignatureRow, SimilarRow, VersionRow, known

LEAST = 0.8
"""From so much on, two documents are reported as nearly the same."""
MOST = 5
_CANDIDATES = 50


def note_similar(session: Session, version: VersionRow, signed: Signature | None) -> None:
    """Keep a version's signature, and which documents of its collection are like it.

    Runs again without harm. Versions that are superseded are no candidates.
    """
    version_id = known(version.id)
    if session.get(SignatureRow, version_id) is not None:  # it is read again
        forget_similar(session, [version_id])
    forget_similar_to(session, version.document_id)
    if signed is None:
        return
    hashes = bands(signed)
    for other_version, other, share in _alike(session, version, signed, hashes):
        session.add(SimilarRow(version_id=version_id, other_id=other, share=share))
        session.add(SimilarRow(version_id=other_version, other_id=version.document_id, share=share))
    session.add(SignatureRow(version_id=version_id, minhash=signed.astype("<u4").tobytes()))
    rows = [
        {"version_id": version_id, "band": band, "collection_id": version.collection_id}
        for band in set(hashes)
    ]
    session.execute(insert(BandRow), rows)


def _alike(
    session: Session, version: VersionRow, signed: Signature, hashes: Sequence[int]
) -> list[tuple[int, str, float]]:
    shared = func.count()
    rows = session.execute(
        select(VersionRow.id, VersionRow.document_id, SignatureRow.minhash)
        .join(BandRow, col(BandRow.version_id) == col(VersionRow.id))
        .join(SignatureRow, col(SignatureRow.version_id) == col(VersionRow.id))
        .where(
            BandRow.collection_id == version.collection_id,
            col(BandRow.band).in_(hashes),
            VersionRow.document_id != version.document_id,
            col(VersionRow.status).in_(("live", "staged")),
        )
        .group_by(col(VersionRow.id), col(VersionRow.document_id), col(SignatureRow.minhash))
        .order_by(shared.desc(), col(VersionRow.id))
        .limit(_CANDIDATES)
    ).all()
    scored = [
        (known(row.id), row.document_id, similarity(signed, np.frombuffer(row.minhash, "<u4")))
        for row in rows
    ]
    alike = sorted((row for row in scored if row[2] >= LEAST), key=lambda row: -row[2])
    return alike[:MOST]


def forget_similar(session: Session, version_ids: Sequence[int]) -> None:
    """Take versions out of what others are compared with."""
    for table in (BandRow, SignatureRow, SimilarRow):
        session.execute(delete(table).where(col(table.version_id).in_(version_ids)))


def forget_similar_to(session: Session, *document_ids: str) -> None:
    """Documents are gone: nothing is like them any more."""
    session.execute(delete(SimilarRow).where(col(SimilarRow.other_id).in_(document_ids)))


def similar_documents(
    session: Session, version_ids: Sequence[int]
) -> dict[int, list[tuple[str, str, float]]]:
    """Id, name and share of the documents like each version, the likest first."""
    rows = session.execute(
        select(SimilarRow.version_id, DocumentRow.id, DocumentRow.name, SimilarRow.share)
        .join(DocumentRow, col(DocumentRow.id) == col(SimilarRow.other_id))
        .where(col(SimilarRow.version_id).in_(version_ids))
        .order_by(col(SimilarRow.share).desc(), col(DocumentRow.name))
    )
    found: dict[int, list[tuple[str, str, float]]] = {}
    for row in rows:
        mine = found.setdefault(row.version_id, [])
        if len(mine) < MOST:
            mine.append((row.id, row.name, row.share))
    return found
