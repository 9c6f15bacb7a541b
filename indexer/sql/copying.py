"""All rows of one database into another, empty one: the way from SQLite to PostgreSQL, and back."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Integer, Table, delete, func, insert, select, text
from sqlmodel import Session, SQLModel

import indexer.sql.tables  # noqa: F401  (registers the tables)
from indexer.sql.database import Database
from pipeline.errors import Conflict, Unavailable

_AT_ONCE = 100


def copy_rows(source: Database, target: Database, *, replace: bool = False) -> dict[str, int]:
    """Rows a table, copied and counted in one transaction of the target: all of them arrive, or none.

    Both are brought to the newest revision first. Numbers that the source gave out are not given again. Raises
    Conflict when the target holds rows already; with `replace` those are removed in the same transaction.
    """
    source.migrate()
    with source.read() as reading:
        return copy_state(reading, target, replace=replace)


def copy_state(
    reading: Session,
    target: Database,
    *,
    replace: bool = False,
    breathe: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """As `copy_rows`, of the state that an open session reads, whose database is of the newest revision.

    `breathe` runs before each block of rows, and may raise.
    """
    target.migrate()
    tables = SQLModel.metadata.sorted_tables
    with target.write() as writing:
        there, here = reading.connection(), writing.connection()
        for table in reversed(tables):
            if replace:
                here.execute(delete(table))
            elif here.execute(select(table).limit(1)).first() is not None:
                raise Conflict(
                    f"the database to copy to holds rows already (in the table {table.name}): name an empty one"
                )
        for table in tables:
            for rows in _read(there, table):
                breathe()
                here.execute(insert(table), rows)
            _go_on(here, table, _last(there, table))
        counts = {table.name: _count(here, table) for table in tables}
        missing = [table.name for table in tables if counts[table.name] != _count(there, table)]
        if missing:
            raise Unavailable(f"not all rows of {', '.join(missing)} arrived: nothing was copied")
    return counts


def settle(path: Path) -> None:
    """Make a SQLite database that nobody has open one file, without a log beside it."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")


def _read(connection: Connection, table: Table) -> Iterator[Sequence[Mapping[str, Any]]]:
    found = connection.execute(select(table), execution_options={"yield_per": _AT_ONCE})
    for rows in found.mappings().partitions():
        yield [{name: _held(value) for name, value in row.items()} for row in rows]


def _held(value: object) -> object:
    """PostgreSQL holds no NUL; SQLite may have some of earlier versions. One for one: no place in a text moves."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _numbered(table: Table) -> bool:
    return [key.name for key in table.primary_key if isinstance(key.type, Integer)] == ["id"]


def _last(connection: Connection, table: Table) -> int | None:
    """The last number that the database gave to a row, None where it gave none."""
    if not _numbered(table):
        return None
    if connection.dialect.name == "sqlite":
        found = connection.execute(
            text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name}
        )
    else:
        found = connection.execute(
            text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id'))"),
            {"name": table.name},
        )
    return found.scalar()


def _go_on(connection: Connection, table: Table, last: int | None) -> None:
    if last is None:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(
            text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name}
        )
        statement = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"
    else:
        statement = "SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"
    connection.execute(text(statement), {"name": table.name, "last": last})
