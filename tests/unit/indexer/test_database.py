import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel, select

from indexer.database import Database
from indexer.tables import LeaseRow
from pipeline.errors import Unavailable


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()


def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    database.migrate()  # a second time changes nothing
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_block_that_raises_writes_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:  # noqa: PT012
        session.add(LeaseRow(name="a", owner="b", token=1, until=0))
        session.flush()
        raise ZeroDivisionError
    with database.read() as session:
        assert session.exec(select(LeaseRow)).all() == []


def test_writers_at_the_same_time_wait_for_each_other(database: Database) -> None:
    with database.write() as session:
        session.add(LeaseRow(name="a", owner="", token=0, until=0))

    def count() -> None:
        for _ in range(20):
            with database.write() as session:
                row = session.get_one(LeaseRow, "a")
                row.token += 1
                session.add(row)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.get_one(LeaseRow, "a").token == 80


def test_a_reader_sees_one_state_while_a_writer_commits(database: Database) -> None:
    with database.read() as reading:
        assert reading.exec(select(LeaseRow)).all() == []
        with database.write() as session:
            session.add(LeaseRow(name="a", owner="", token=0, until=0))
        assert reading.exec(select(LeaseRow)).all() == []
    with database.read() as reading:
        assert len(reading.exec(select(LeaseRow)).all()) == 1


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    gone = Database(f"sqlite:///{tmp_path / 'missing' / 'test.db'}")
    with pytest.raises(Unavailable, match="disk"), gone.read() as session:
        session.exec(select(LeaseRow)).all()
    gone.close()
