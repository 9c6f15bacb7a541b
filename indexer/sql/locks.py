"""Rows that no other writer changes until a session ends.

PostgreSQL has many writers at a time, each of which sees what others commit between its statements: whoever reads a
row in order to change it, or changes several, locks first. All lock in one order, so that nobody waits in a circle: the
lease, the collection, its jobs by their ids, then the rest. On SQLite, which has one writer, the locks are empty words.
"""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement
from sqlmodel import Session, SQLModel, col, select

from indexer.sql.tables import JobRow

Row = TypeVar("Row", bound=SQLModel)


def locked(session: Session, row: type[Row], key: object) -> Row | None:
    """The row of a key as it is now, locked; None when there is none."""
    return session.get(row, key, with_for_update=True, populate_existing=True)


def locked_jobs(session: Session, *which: ColumnElement[bool]) -> Sequence[JobRow]:
    """Jobs in the order of their ids, locked: no worker writes them, and no publish ends them."""
    return session.exec(
        select(JobRow)
        .where(*which)
        .order_by(col(JobRow.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
