"""The SQL database: short read and write sessions, and the schema."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, create_engine

from pipeline.errors import InvalidInput, Overloaded, Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_S = 10.0


class Database:
    """Sessions on SQLite (WAL). A session is never open across a model call."""

    def __init__(self, url: str) -> None:
        if not url.startswith("sqlite"):
            raise InvalidInput(
                "DATABASE_URL names another database than SQLite, which this version does not run on yet: unset it"
            )
        arguments: dict[str, Any] = {"timeout": _BUSY_S, "check_same_thread": False}
        self._engine = create_engine(url, connect_args=arguments, pool_size=16, max_overflow=32)
        event.listen(self._engine, "connect", _configure_sqlite)
        event.listen(self._engine, "begin", _begin_sqlite)
        # A writer takes SQLite's write lock at once: two that read first and write later would both fail.
        self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading: one consistent view."""
        with _translated(), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits when the block ends, and rolls back when it raises."""
        with (
            _translated(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def migrate(self) -> None:
        """Bring the schema to the newest revision; does nothing when it is there."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._writer.connect() as connection:
            config.attributes["connection"] = connection
            with connection.begin():
                command.upgrade(config, "head")

    @property
    def engine(self) -> Engine:
        return self._engine

    def close(self) -> None:
        self._engine.dispose()


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, not the driver's
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(
            f"the database does not answer ({error.orig}): check the disk's free space, then try again"
        ) from error
    except PoolTimeout as error:
        raise Overloaded(
            "too many requests wait for the database: try again in a moment"
        ) from error
