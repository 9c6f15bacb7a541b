from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Cluster
from library import Library
from sqlmodel import SQLModel, func, select

from indexer.sql.copying import copy_rows
from indexer.sql.database import Database
from indexer.sql.tables import GenerationRow, SegmentRow, TextRow, VersionRow
from pipeline.errors import Conflict
from pipeline.types import JobStatus, Query


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def urls(
    request: pytest.FixtureRequest, postgresql: Cluster, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """From where, and to where."""
    there = f"sqlite:///{tmp_path / 'zhinao.db'}"
    here = postgresql.create()
    yield (there, here) if request.param.startswith("sqlite") else (here, there)
    postgresql.drop(here)


async def test_all_that_was_indexed_answers_from_the_copy_and_goes_on(
    tmp_path: Path, urls: tuple[str, str]
) -> None:
    old = Library.open(tmp_path, urls[0])
    for n in range(6):
        old.add(f"{n}.txt", f"The walrus {n} sleeps on the ice. 海象睡在冰上。")
    gone = old.take("gone.txt", "A violin hangs on the wall.")
    old.catalog.delete_document(gone.document)  # its version's number must not come back
    waiting = old.take("later.txt", "The teapot stands in the kitchen.")
    with old.database.write() as session:
        session.add(TextRow(version_id=999, text="海象\x00" * (urls[0][0] == "s"), layout=b"\x00"))
        last = session.exec(select(func.max(VersionRow.id))).one()
    old.close()

    source, target = Database(urls[0]), Database(urls[1])
    counts = copy_rows(source, target)
    assert counts["document"] == counts["version"] == 7
    assert counts["chunk"] == 6
    for table in SQLModel.metadata.sorted_tables:
        if table.name == "version_text":
            continue  # has the NUL of an earlier version
        with source.read() as there, target.read() as here:
            rows = [set(map(tuple, s.connection().execute(select(table)))) for s in (there, here)]
        assert rows[0] == rows[1]
        assert len(rows[0]) == counts[table.name]
    with pytest.raises(Conflict, match="empty"):
        copy_rows(source, target)
    with target.read() as session:
        row = session.get_one(TextRow, 999)
        assert (row.text, row.layout) == ("海象\ufffd" * (urls[0][0] == "s"), b"\x00")
    source.close()
    target.close()

    new = Library.open(tmp_path, urls[1])
    hits = (await new.retriever.search(Query("walrus", top_k=50))).hits
    assert {hit.chunk.name for hit in hits} == {f"{n}.txt" for n in range(6)}
    new.run(waiting.job)
    assert new.jobs.get(waiting.job).status is JobStatus.DONE
    taken = new.add("new.txt", "A violin hangs on the wall.")
    assert (await new.retriever.search(Query("violin"))).hits[0].chunk.name == "new.txt"
    with new.database.read() as session:
        ids = session.exec(select(VersionRow.id).where(VersionRow.document_id == taken.document))
        assert ids.one() > last
        assert session.exec(select(func.count()).select_from(SegmentRow)).one() >= 1
    new.catalog.create_collection("second")
    with new.database.read() as session:
        assert sorted(session.exec(select(GenerationRow.id)).all()) == [1, 2]
    new.close()


def test_nothing_is_copied_when_something_is_there(tmp_path: Path) -> None:
    old = Library.open(tmp_path)
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    with other.write() as session:
        session.add(TextRow(version_id=1, text="mine", layout=b""))
    with pytest.raises(Conflict, match="version_text"):
        copy_rows(old.database, other)
    with other.read() as session:
        assert session.exec(select(GenerationRow)).all() == []
    other.close()
    old.close()
