"""What collections were searched for is remembered within its limits, and goes with the collection."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import on_both
from sqlmodel import select

from indexer.catalog.catalog import Catalog
from indexer.catalog.recent import LONGEST, RecentQueries, recent_queries
from indexer.folders import Folders
from indexer.sql.database import Database
from indexer.sql.tables import RecentQueryRow
from pipeline.types import DocumentId, Query

pytestmark = on_both


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def catalog(database: Database, tmp_path: Path) -> Catalog:
    made = Catalog(database, Folders(tmp_path), fingerprint="f", chunking="c")
    made.ensure_collection("default")
    return made


def kept(database: Database, clock: Clock, *, count: int = 3, days: int = 7) -> RecentQueries:
    return RecentQueries(database, kept=count, days=days, clock=clock)


def of(database: Database, catalog: Catalog, name: str = "default") -> list[str]:
    return list(recent_queries(database, catalog.collection_id(name), 100))


def test_the_last_different_queries_are_kept(
    database: Database, catalog: Catalog, clock: Clock
) -> None:
    recent = kept(database, clock)
    for text in ["滤网", "b", "c"]:
        recent.note(Query(text))
    recent.write()
    for text in ["滤网", " d "]:
        recent.note(Query(text))
    assert of(database, catalog) == ["c", "b", "滤网"]
    recent.write()
    assert of(database, catalog) == ["d", "滤网", "c"]
    assert list(recent_queries(database, catalog.collection_id("default"), 2)) == ["d", "滤网"]


def test_each_collection_has_its_own(database: Database, catalog: Catalog, clock: Clock) -> None:
    catalog.create_collection("other")
    recent = kept(database, clock)
    recent.note(Query("a"))
    recent.note(Query("b", "other"))
    recent.note(Query("c", "was never there"))
    recent.write()
    assert of(database, catalog) == ["a"]
    assert of(database, catalog, "other") == ["b"]
    catalog.delete_collection("other")
    recent.note(Query("late", "other"))
    recent.write()
    with database.read() as session:
        assert session.exec(select(RecentQueryRow.text)).all() == ["a"]


@pytest.mark.parametrize(
    "query",
    [
        Query("of one", documents=(DocumentId("d"),)),
        Query("x" * (LONGEST + 1)),
        Query(" "),
        Query("a\0b"),
    ],
    ids=["chosen documents", "long", "empty", "nul"],
)
def test_what_says_nothing_of_the_collection_is_not_kept(
    database: Database, catalog: Catalog, clock: Clock, query: Query
) -> None:
    recent = kept(database, clock)
    recent.note(query)
    recent.note(Query("x" * LONGEST))
    recent.write()
    assert of(database, catalog) == ["x" * LONGEST]


def test_what_is_too_old_or_over_a_new_limit_is_forgotten(
    database: Database, catalog: Catalog, clock: Clock
) -> None:
    recent = kept(database, clock)
    recent.note(Query("old"))
    clock.now += 6 * 86_400
    for text in "ab":
        recent.note(Query(text))
    recent.write()
    clock.now += 2 * 86_400
    recent.write()
    assert of(database, catalog) == ["b", "a"]
    kept(database, clock, count=1).write()
    assert of(database, catalog) == ["b"]


def test_with_none_kept_nothing_is_and_what_was_there_goes(
    database: Database, catalog: Catalog, clock: Clock
) -> None:
    recent = kept(database, clock)
    recent.note(Query("a"))
    recent.write()
    off = kept(database, clock, count=0)
    off.note(Query("b"))
    off.write()
    assert of(database, catalog) == []
