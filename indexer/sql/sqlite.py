"""Engines for SQLite: what its connections are told, and which of them are kept."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import create_engine


def sqlite_engine(url: URL, *, busy_s: float) -> Engine:
    """Connections to a SQLite file, each of which waits `busy_s` seconds for another writer at most."""
    arguments: dict[str, Any] = {"timeout": float(busy_s), "check_same_thread": False}
    engine = create_engine(url, connect_args=arguments, pool_size=16, max_overflow=32)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    _keep_writing_ones(engine, url.database or "")
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, not the driver's
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _keep_writing_ones(engine: Engine, path: str) -> None:
    """A connection that was opened on a read-only disk stays read-only for ever: it is used once.

    And so do those that this process opens while it is there, as they share the index of SQLite's log.
    """

    def look(_connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info["read-only"] = Path(path).exists() and not os.access(path, os.W_OK)

    def close(connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
        if connection is not None and record.info["read-only"]:
            record.invalidate()

    event.listen(engine, "connect", look)
    event.listen(engine, "checkin", close)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
