"""Every earlier revision, with a row in each of its tables, comes up to the newest and keeps what it had."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from databases import Cluster, on_both
from sqlalchemy import MetaData, Table, Text, insert, select
from sqlalchemy.types import Boolean, Float, Integer, LargeBinary, String, TypeEngine
from sqlmodel import SQLModel

from indexer.catalog.catalog import Catalog
from indexer.folders import Folders
from indexer.sql.database import MIGRATIONS, Database

pytestmark = on_both
REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions()))
]


@pytest.fixture
def database(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> Iterator[Database]:
    """Without any table."""
    url = f"sqlite:///{tmp_path / 'bare.db'}"
    if database_url.startswith("postgresql"):
        cluster: Cluster = request.getfixturevalue("postgresql")
        url = cluster.create()
    made = Database(url)
    yield made
    made.close()
    if database_url.startswith("postgresql"):
        cluster.drop(url)


def upgrade(database: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, revision)


def value(kind: TypeEngine[Any], name: str) -> object:
    """Something that a column can hold, Chinese where it is text."""
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, Integer):
        return 1
    if isinstance(kind, Float):
        return 1763950000.123456
    if isinstance(kind, LargeBinary):
        return b"x\x9c\x00\xff"
    assert isinstance(kind, String | Text)
    if name == "id" or name.endswith("_id"):
        return "the-one"
    return {"heading": '["第一章"]', "status": "live", "script": "han"}.get(name, f"海象 {name}")


def tables(database: Database) -> dict[str, Table]:
    metadata = MetaData()
    with database.engine.connect() as connection:
        metadata.reflect(connection)
    return {name: table for name, table in metadata.tables.items() if name != "alembic_version"}


def rows(database: Database, table: Table) -> list[dict[str, object]]:
    with database.read() as session:
        return [dict(row) for row in session.connection().execute(select(table)).mappings()]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_an_earlier_revision_keeps_its_rows(
    database: Database, revision: str, tmp_path: Path
) -> None:
    upgrade(database, revision)
    before = tables(database)
    assert "chunk" in before
    with database.write() as session:
        for table in before.values():
            values = {
                column.name: value(column.type, column.name)
                for column in table.columns
                if not column.nullable
            }
            if table.name == "tombstone":
                values["key"] = 2  # the live chunk has the other one
            session.connection().execute(insert(table).values(values))
    held = {name: rows(database, table) for name, table in before.items()}
    database.migrate()
    database.migrate()  # a second time changes nothing
    after = tables(database)
    for name, kept in held.items():
        assert kept
        now = rows(database, after[name])
        assert [{column: row[column] for column in kept[0]} for row in now] == kept
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    catalog = Catalog(database, Folders(tmp_path), fingerprint="f", chunking="c")
    assert [view.name for view in catalog.collections()] == ["海象 name"]
    assert [(view.name, view.chunks) for view in catalog.documents()[0]] == [("海象 name", 0)]
    catalog.delete_document("the-one")
    catalog.delete_collection("海象 name")
    assert catalog.collections() == []


def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_processes_that_start_together_migrate_once(database: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: database.migrate(), range(6)))
    assert "chunk" in tables(database)
