import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from databases import PASSWORD, Cluster, on_both, on_postgresql
from sqlmodel import select

from indexer.sql.database import MIGRATIONS, Database, newest_revision, shown
from indexer.sql.locks import locked
from indexer.sql.tables import LeaseRow, TextRow, TombstoneRow
from pipeline.errors import InvalidInput, Overloaded, Unavailable


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()


@on_both
def test_a_block_that_raises_writes_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:  # noqa: PT012
        session.add(LeaseRow(name="a", owner="b", token=1, until=0))
        session.flush()
        raise ZeroDivisionError
    with database.read() as session:
        assert session.exec(select(LeaseRow)).all() == []


@on_both
def test_writers_at_the_same_time_wait_for_each_other(database: Database) -> None:
    with database.write() as session:
        session.add(LeaseRow(name="a", owner="", token=0, until=0))

    def count() -> None:
        for _ in range(20):
            with database.write() as session:
                row = locked(session, LeaseRow, "a")
                row.token += 1
                session.add(row)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.get_one(LeaseRow, "a").token == 80


@on_both
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


@on_both
def test_large_numbers_and_every_character_but_nul_come_back(database: Database) -> None:
    text = "".join(map(chr, [*range(1, 0x300), 0xFFFE, 0xFFFF, 0x1F600, 0x10FFFF])) + "海象"
    with database.write() as session:
        session.add(TombstoneRow(generation_id=1, key=2**62))
        session.add(TextRow(version_id=1, text=text, layout=bytes(range(256))))
    with database.read() as session:
        assert session.exec(select(TombstoneRow.key)).one() == 2**62
        row = session.get_one(TextRow, 1)
        assert (row.text, row.layout) == (text, bytes(range(256)))


@on_postgresql
def test_what_postgresql_cannot_hold_is_bad_input(database: Database) -> None:
    with pytest.raises(InvalidInput, match="NUL"), database.read() as session:
        session.exec(select(LeaseRow).where(LeaseRow.name == "a\x00")).all()


@on_postgresql
def test_a_server_that_went_away_is_said_without_the_password_and_found_again(
    database: Database, postgresql: Cluster
) -> None:
    with database.read() as session:
        session.exec(select(LeaseRow)).all()
    postgresql.stop()
    for session_of in (database.read, database.write):
        with pytest.raises(Unavailable, match="zhinao@") as caught, session_of() as session:
            session.exec(select(LeaseRow)).all()
        assert PASSWORD not in str(caught.value)
    postgresql.start()
    with database.write() as session:
        session.add(LeaseRow(name="a", owner="", token=0, until=0))


@on_postgresql
def test_a_session_cut_off_in_its_middle_is_unavailable(
    database: Database, postgresql: Cluster
) -> None:
    with pytest.raises(Unavailable), database.write() as session:  # noqa: PT012
        session.add(LeaseRow(name="a", owner="", token=0, until=0))
        session.flush()
        postgresql.stop()
        postgresql.start()
        session.exec(select(LeaseRow)).all()
    with database.read() as session:
        assert session.exec(select(LeaseRow)).all() == []


@on_postgresql
def test_a_lock_that_is_never_let_go_is_waited_for_ten_seconds_at_most(
    database: Database, database_url: str
) -> None:
    hasty = Database(database_url + "&options=-c%20lock_timeout%3D200ms")
    with database.write() as session:
        session.add(LeaseRow(name="a", owner="", token=0, until=0))
    with database.write() as holding:
        assert locked(holding, LeaseRow, "a")
        with pytest.raises(Unavailable, match="lock timeout"), hasty.write() as session:
            locked(session, LeaseRow, "a")
    hasty.close()
    with database.read() as session:
        assert session.connection().exec_driver_sql("SHOW lock_timeout").scalar() == "10s"


@on_postgresql
def test_what_was_committed_outlives_a_crash_although_the_server_would_lose_it(
    database: Database, postgresql: Cluster
) -> None:
    for turn in range(5):
        with database.write() as session:
            session.add(LeaseRow(name=str(turn), owner="", token=0, until=0))
        postgresql.stop()
        postgresql.start()
        with database.read() as session:
            assert len(session.exec(select(LeaseRow)).all()) == turn + 1


@on_postgresql
def test_writers_who_wait_in_a_circle_are_told_to_try_again(database: Database) -> None:
    with database.write() as session:
        session.add_all([LeaseRow(name=name, owner="", token=0, until=0) for name in "ab"])
    both = threading.Barrier(2, timeout=30)
    ended: list[str] = []

    def lock(first: str, second: str) -> None:
        try:
            with database.write() as session:
                locked(session, LeaseRow, first)
                both.wait()
                locked(session, LeaseRow, second)
            ended.append("done")
        except Unavailable as error:
            ended.append(str(error))

    threads = [threading.Thread(target=lock, args=names) for names in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = "".join(one for one in ended if one != "done")
    assert len(ended) == 2
    assert "done" in ended
    assert "deadlock" in said


def test_the_last_file_has_the_newest_revision() -> None:
    assert newest_revision() == ScriptDirectory(str(MIGRATIONS)).get_current_head()


@on_postgresql
def test_a_reader_can_write_nothing(database: Database) -> None:
    from sqlalchemy.exc import InternalError

    with pytest.raises(InternalError, match="read-only"), database.read() as session:  # noqa: PT012
        session.add(LeaseRow(name="a", owner="", token=0, until=0))
        session.flush()


def test_a_database_without_chinese_is_refused(postgresql: Cluster) -> None:
    western = "template0 ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc"
    url = postgresql.create(template=western)
    made = Database(url)
    with pytest.raises(InvalidInput, match="LATIN1"):
        made.migrate()
    made.close()
    postgresql.drop(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:geheim@h/d", "mysql"),
        ("postgresql+asyncpg://u:geheim@h/d", "asyncpg"),
        ("u:geheim@h", "is no URL"),
        ("postgresql://u:gehe/im@h:port/d", "is no URL"),
    ],
)
def test_a_url_of_no_use_is_said_without_its_password(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        Database(url)
    assert "gehe" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_three_names_of_postgresql_are_one(kind: str) -> None:
    url = f"{kind}://rag:gehe%40im@db:5433/docs?password=more&sslmode=require"
    assert shown(url) == "postgresql://rag@db:5433/docs"
    made = Database(url)
    assert made.engine.url.drivername == "postgresql+psycopg"
    assert "gehe" not in repr(made.engine)
    made.close()


def test_too_many_requests_at_once_are_told_to_wait(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.01)
    sessions = [database.read() for _ in range(48)]
    for one in sessions:
        one.__enter__().exec(select(LeaseRow)).all()
    with pytest.raises(Overloaded), database.read() as session:
        session.exec(select(LeaseRow)).all()
    for one in sessions:
        one.__exit__(None, None, None)


@pytest.mark.parametrize("harm", ["another-file", "a-page"])
def test_a_damaged_file_is_named_with_what_brings_it_back(tmp_path: Path, harm: str) -> None:
    path = filled(tmp_path)
    damage(path, harm)
    broken = Database(f"sqlite:///{path}")
    for look in (broken.check_whole, lambda: read_all(broken)):
        with pytest.raises(Unavailable, match=r"zhinao\.db is damaged .*zhinao restore"):
            look()
    broken.close()


def test_a_whole_file_is_whole(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{filled(tmp_path)}")
    database.check_whole()
    database.check_writable()
    read_all(database)
    database.close()


def test_sqlites_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path)
    kept = Database(f"sqlite:///{path}")
    with kept.read() as session:
        session.get(LeaseRow, "a")  # a log of its own cannot be made by who only reads
    reading = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    read_all(reading)
    with pytest.raises(Unavailable, match=r"takes no writes \(attempt to write a readonly"):
        reading.check_writable()
    reading.close()
    kept.close()


def test_a_postgresql_that_takes_no_writes_is_named(postgresql: Cluster) -> None:
    reading = Database(f"{postgresql.url}&options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(Unavailable, match=r"takes no writes \(cannot execute UPDATE"):
        reading.check_writable()
    read_all(reading)
    reading.close()
    writing = Database(postgresql.url)
    writing.check_writable()
    writing.close()


def filled(folder: Path) -> Path:
    """A SQLite file of ours with many rows."""
    path = folder / "zhinao.db"
    made = Database(f"sqlite:///{path}")
    made.migrate()
    with made.write() as session:
        for number in range(2000):
            session.add(LeaseRow(name=f"lease {number}" * 5, owner="", token=0, until=0))
    made.close()
    return path


def damage(path: Path, harm: str) -> None:
    """Other bytes: a text in the file's place, or in its rows."""
    if harm == "another-file":
        path.write_text("not a database " * 10_000)
        return
    data = bytearray(path.read_bytes())
    at = data.rindex(b"lease 1000") // 4096 * 4096
    data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)


def read_all(database: Database) -> None:
    with database.read() as session:
        session.exec(select(LeaseRow)).all()
