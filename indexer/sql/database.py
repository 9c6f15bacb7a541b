"""The SQL database, SQLite or PostgreSQL: short read and write sessions, and the schema.

What the two do differently stands here, and in indexer/sql/copying.py for their counters. SQLite has one
writer at a time; PostgreSQL has many, which lock the rows that they read in order to change them
(indexer/sql/locks.py).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, SQLModel, create_engine

from indexer.sql.refusals import damaged, is_state, mended, said
from indexer.sql.sqlite import sqlite_engine
from pipeline.errors import InvalidInput, Overloaded, Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_S = 10
_FROZEN_S = 60
_MIGRATION = 0x7A68696E616F  # the key of an advisory lock: "zhinao"
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")


class Database:
    """Sessions on SQLite (WAL) or PostgreSQL. A session is never open across a model call."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. Raises InvalidInput for a URL of another database."""
        parsed = _parsed(url)
        self._name = shown(url)
        if parsed.get_backend_name() == "sqlite":
            self._engine = sqlite_engine(parsed, busy_s=_BUSY_S)
            self._reader = self._engine
            # A writer takes SQLite's write lock at once: two that read first and write later would both fail.
            self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        else:
            self._engine = _postgresql(parsed)
            self._reader = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            # Each statement sees what was committed before it, and so what a lock had to wait for.
            self._writer = self._engine.execution_options(isolation_level="READ COMMITTED")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading: one consistent view.

        Raises Unavailable when the database does not answer, InvalidInput for a text that it cannot hold.
        """
        with self._translated(), Session(self._reader) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits when the block ends, and rolls back when it raises. Raises what `read` raises."""
        with (
            self._translated(writing=True),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def version(self) -> str:
        """The kind of database and its version. Raises Unavailable when it does not answer."""
        with self._translated(), self._reader.connect() as connection:
            numbers = connection.dialect.server_version_info or ()
            kind = "PostgreSQL" if connection.dialect.name == "postgresql" else "SQLite"
        return f"{kind} {'.'.join(map(str, numbers))}"

    def migrate(self) -> None:
        """Bring the schema to the newest revision; does nothing when it is there. Processes may call it at once.

        Raises Unavailable when the database does not answer, InvalidInput when it cannot hold our tables.
        """
        with self._translated(), self._reader.connect() as connection:
            if _revision(connection) == newest_revision():
                return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._translated(), self._writer.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                _alone_in_utf8(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check_whole(self) -> None:
        """Raises Unavailable for a SQLite file with a damaged page, and what `read` raises; reads all of it."""
        if self._engine.dialect.name != "sqlite":
            return  # PostgreSQL looks after its own pages
        with self._translated(), self._reader.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if found != "ok":
            told = str(found).strip().splitlines()[-1]
            raise Unavailable(damaged(self._name, told))

    def check_writable(self) -> None:
        """Write a row as it is, to the disk. Raises Unavailable where that is not possible."""
        with self.write() as session:
            session.connection().exec_driver_sql(
                "UPDATE alembic_version SET version_num = version_num"
            )

    def vacuum(self) -> str:
        """Write SQLite's file anew, so that no deleted row is left in it or in its log; says what was done.

        PostgreSQL vacuums by itself: deleted rows are in its files until it does. Raises Unavailable while
        another process keeps SQLite from it.
        """
        if self._engine.dialect.name != "sqlite":
            return "PostgreSQL frees deleted rows by itself (autovacuum); VACUUM FULL writes its files anew at once"
        with self._translated(), self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            try:
                raw.execute("VACUUM")
                busy = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                raise Unavailable(
                    f"SQLite's file cannot be written anew now ({error}): try again"
                ) from error
        if busy:
            raise Unavailable(
                "readers keep SQLite's log open: try again in a moment, or stop the server first"
            )
        return "SQLite's file and log were written anew"

    @property
    def engine(self) -> Engine:
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise Overloaded(
                "too many requests wait for the database: try again in a moment"
            ) from error
        except DataError as error:
            raise InvalidInput(
                "the database cannot hold such a text or number: leave out NUL characters and numbers of 20 digits"
            ) from error
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != "42501":
                raise
            raise InvalidInput(
                f"the user of DATABASE_URL may not use the tables of {self._name} ({said(error)}): make it the owner "
                "of that database"
            ) from error
        except DBAPIError as error:
            if not is_state(error, writing=writing):
                raise
            is_sqlite = self._engine.dialect.name == "sqlite"
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
                self._engine.dispose()  # what was opened beside a read-only connection (indexer/sql/sqlite.py)
            raise Unavailable(mended(error, self._name, sqlite=is_sqlite)) from error


def newest_revision() -> str:
    """That of this code, by the numbers in the migrations' file names: Alembic takes a while to import."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def shown(url: str) -> str:
    """A database's URL as logs and people may see it: without its password, and without its options.

    >>> shown("postgres://rag:secret@db:5433/docs?sslmode=require&password=x")
    'postgresql://rag@db:5433/docs'
    >>> shown("sqlite:////data/zhinao.db")
    'sqlite:////data/zhinao.db'
    """
    parsed = _parsed(url)
    backend = parsed.get_backend_name()
    return parsed._replace(drivername=backend, password=None, query={}).render_as_string()  # type: ignore[arg-type]


def add_missing(session: Session, row: type[SQLModel], values: dict[str, object]) -> bool:
    """Insert a row unless one with its key is there; True when it was inserted."""
    given = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    table = inspect(row).local_table
    statement = given.insert(table).values(values).on_conflict_do_nothing()
    added = session.connection().execute(statement.returning(*table.primary_key))
    return added.first() is not None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause could repeat the password.
        raise InvalidInput(
            "DATABASE_URL is no URL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, %2F for / "
            "and %25 for % in the password"
        ) from None
    if parsed.drivername in _POSTGRESQL:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise InvalidInput(
            f"DATABASE_URL names a database of the kind {parsed.drivername}: use postgresql:// or sqlite:///, or unset "
            "it"
        )
    return parsed


def _postgresql(url: URL) -> Engine:
    """Connections are checked when they are taken, as the server may have been restarted; nobody waits forever: not for
    a lock, not for a process that froze in a transaction, not for a host that is gone.
    """
    settings = (
        f"-c lock_timeout={_BUSY_S}s -c idle_in_transaction_session_timeout={_FROZEN_S}s "
        # Files are removed after a commit, and rows that a crash brings back would still name them.
        "-c synchronous_commit=on"
    )
    arguments: dict[str, Any] = {
        "connect_timeout": _BUSY_S,
        "application_name": "zhinao",
        "options": settings,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": _FROZEN_S * 1000,
    }
    own = {name: value for name, value in arguments.items() if name not in url.query}
    return create_engine(
        url,
        connect_args=own,
        pool_size=5,
        max_overflow=15,
        pool_timeout=_BUSY_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _alone_in_utf8(connection: Connection) -> None:
    """Wait until no other process migrates; the lock ends with the transaction."""
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise InvalidInput(
            f"the database of DATABASE_URL is encoded in {encoding}, which has no Chinese: create one with "
            "CREATE DATABASE zhinao ENCODING 'UTF8' TEMPLATE template0"
        )
    connection.execute(text("SET LOCAL lock_timeout = '10min'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION})
