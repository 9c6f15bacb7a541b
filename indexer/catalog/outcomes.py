"""What became of the members of an archive or mail."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from indexer.sql.tables import DocumentRow, JobRow, MemberRow, VersionRow

_READ = ("live", "superseded")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A member by its path inside; `shown` also names the document that it is the same as."""

    name: str
    shown: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many files a version holds, and how many of them are read."""

    total: int
    read: int


def open_members(session: Session, version_id: int | None, document_id: str | None) -> int:
    """How many members of a version have not ended.

    A member that was there before is waited for while it is read, but not while it waits itself: two archives that
    hold each other would wait for ever.
    """
    return int(
        session.execute(
            select(func.count())
            .select_from(MemberRow)
            .join(VersionRow, col(VersionRow.id) == col(MemberRow.member_version_id))
            .join(DocumentRow, col(DocumentRow.id) == col(VersionRow.document_id))
            .where(col(MemberRow.version_id) == version_id, _is_open(document_id))
        ).scalar_one()
    )


def _is_open(document_id: str | None) -> ColumnElement[bool]:
    return or_(
        col(VersionRow.status).in_(("pending", "staged")),
        and_(col(VersionRow.status) == "expanded", col(DocumentRow.parent_id) == document_id),
    )


def outcomes(session: Session, version_id: int, holder: str) -> list[Outcome]:
    """The members of a version in their order."""
    rows = session.execute(
        select(MemberRow, VersionRow.status, DocumentRow.name, JobRow.error)
        .outerjoin(VersionRow, col(VersionRow.id) == col(MemberRow.member_version_id))
        .outerjoin(DocumentRow, col(DocumentRow.id) == col(VersionRow.document_id))
        .outerjoin(JobRow, col(JobRow.version_id) == col(VersionRow.id))
        .where(col(MemberRow.version_id) == version_id)
        .order_by(col(MemberRow.position))
    ).all()
    return [_outcome(row, status, name, error, holder) for row, status, name, error in rows]


def _outcome(
    row: MemberRow, status: str | None, name: str | None, error: str | None, holder: str
) -> Outcome:
    problem = row.error
    if problem is None and status is None:
        problem = "it was deleted"
    elif problem is None and status not in (*_READ, "pending", "staged", "expanded"):
        problem = error or "it could not be read"
    same = name is not None and name != f"{holder}/{row.name}"
    shown = f"{row.name} (the same as {name})" if same else row.name
    return Outcome(row.name, shown, problem)


def counts_of_members(session: Session, version_ids: Sequence[int | None]) -> dict[int, Counts]:
    """Of the versions that hold any."""
    read = func.count(col(VersionRow.id)).filter(col(VersionRow.status).in_(_READ))
    rows = session.execute(
        select(MemberRow.version_id, func.count(), read)
        .outerjoin(VersionRow, col(VersionRow.id) == col(MemberRow.member_version_id))
        .where(col(MemberRow.version_id).in_(version_ids))
        .group_by(col(MemberRow.version_id))
    ).all()
    return {row[0]: Counts(row[1], row[2]) for row in rows}
