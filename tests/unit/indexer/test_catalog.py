from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import on_both
from sqlmodel import select

from indexer.catalog.catalog import Catalog, Taken, Upload
from indexer.folders import Folders
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, CollectionRow, DocumentRow, TombstoneRow, VersionRow
from pipeline.errors import Conflict, InvalidInput, NotFound, Unavailable

pytestmark = on_both


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def catalog(database: Database, tmp_path: Path) -> Catalog:
    made = Shelf(database, Folders(tmp_path), fingerprint="f", chunking="c")
    made.create_collection("default")
    return made


class Shelf(Catalog):
    """A catalog whose uploads have their bytes in place, as the API puts them there first."""

    def take(self, collection: str, upload: Upload) -> Taken:
        folder = self._folders.original(self.collection_id(collection), upload.sha256)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.write_bytes(b"x")
        return super().take(collection, upload)


def upload(name: str, sha256: str) -> Upload:
    return Upload(name, sha256, 10, "text/plain")


def publish(database: Database, taken: Taken) -> None:
    """Make the taken version live with one chunk, as the publisher does."""
    with database.write() as session:
        version = session.exec(
            select(VersionRow).where(
                VersionRow.document_id == taken.document, VersionRow.number == taken.version
            )
        ).one()
        version.status = "live"
        document = session.get_one(DocumentRow, taken.document)
        document.live_version_id = version.id
        collection = session.get_one(CollectionRow, document.collection_id)
        session.add_all([version, document])
        session.add(
            ChunkRow(
                generation_id=collection.generation_id,
                key=version.id,
                version_id=version.id,
                document_id=document.id,
                text="t",
                start=0,
                end=1,
                heading="[]",
                context="",
                script="latin",
            )
        )


def epoch(database: Database) -> int:
    with database.read() as session:
        return session.exec(select(CollectionRow.epoch)).one()


def test_the_same_bytes_are_the_same_document_whatever_their_name(catalog: Catalog) -> None:
    first = catalog.take("default", upload("a.txt", "1"))
    second = catalog.take("default", upload("b.txt", "1"))
    assert (second.document, second.duplicate) == (first.document, True)


def test_other_bytes_under_a_known_name_are_the_next_version(catalog: Catalog) -> None:
    first = catalog.take("default", upload("a.txt", "1"))
    second = catalog.take("default", upload("a.txt", "2"))
    assert (second.document, second.version, second.duplicate) == (first.document, 2, False)
    assert catalog.document(first.document).versions == (1, 2)


def test_bytes_of_another_collection_are_never_reported(catalog: Catalog) -> None:
    catalog.create_collection("other")
    first = catalog.take("default", upload("a.txt", "1"))
    second = catalog.take("other", upload("a.txt", "1"))
    assert second.document != first.document
    assert not second.duplicate


def test_bytes_whose_reading_failed_may_be_sent_again(catalog: Catalog, database: Database) -> None:
    first = catalog.take("default", upload("a.txt", "1"))
    with database.write() as session:
        version = session.exec(select(VersionRow)).one()
        version.status = "failed"
        session.add(version)
    again = catalog.take("default", upload("a.txt", "1"))
    assert (again.document, again.version, again.duplicate) == (first.document, 2, False)


def test_a_deleted_document_leaves_every_table_and_its_key_waits_for_the_words(
    catalog: Catalog, database: Database
) -> None:
    kept = catalog.take("default", upload("a.txt", "1"))
    gone = catalog.take("default", upload("b.txt", "2"))
    publish(database, kept)
    publish(database, gone)
    before = epoch(database)
    receipt = catalog.delete_document(gone.document)
    assert receipt["chunks"] == receipt["versions"] == receipt["jobs"] == 1
    assert epoch(database) == before + 1
    with database.read() as session:
        assert session.exec(select(ChunkRow.document_id)).all() == [kept.document]
        assert session.exec(select(TombstoneRow.key)).all() == [2]
    with pytest.raises(NotFound):
        catalog.document(gone.document)


def test_an_original_goes_with_the_last_version_that_names_it(
    catalog: Catalog, tmp_path: Path
) -> None:
    collection = catalog.collection_id("default")
    taken = catalog.take("default", upload("a.txt", "1"))
    path = Folders(tmp_path).original(collection, "1")
    assert path.exists()
    assert catalog.delete_document(taken.document)["originals"] == 1
    assert not path.exists()


def test_pages_of_documents_hold_each_once_newest_first(catalog: Catalog) -> None:
    ids = [catalog.take("default", upload(f"{n}.txt", str(n))).document for n in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = catalog.documents(collection="default", limit=3, cursor=cursor)
        seen += [view.id for view in page]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_a_status_filter_fills_its_pages(catalog: Catalog, database: Database) -> None:
    taken = [catalog.take("default", upload(f"{n}.txt", str(n))) for n in range(8)]
    for row in taken[::4]:
        publish(database, row)
    page, cursor = catalog.documents(status="ready", limit=2)
    assert [view.id for view in page] == [taken[4].document, taken[0].document]
    assert cursor is None


def test_names_are_found_as_they_stand(catalog: Catalog) -> None:
    catalog.take("default", upload("100%_报告.txt", "1"))
    catalog.take("default", upload("1000 报告.txt", "2"))
    catalog.take("default", upload("Annual Report.txt", "3"))
    page, _ = catalog.documents(name_contains="100%_")
    assert [view.name for view in page] == ["100%_报告.txt"]
    page, _ = catalog.documents(name_contains="REPORT")
    assert [view.name for view in page] == ["Annual Report.txt"]


def test_collections_stand_in_the_order_of_code_points_on_every_database(catalog: Catalog) -> None:
    names = ["b", "B", "a b", "ab", "é", "中文", "_", "Z", "z", "😀"]
    for name in names:
        catalog.create_collection(name)
    assert [view.name for view in catalog.collections()] == sorted([*names, "default"])


def test_unknown_and_doubled_collections_say_what_to_do(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="create it"):
        catalog.take("missing", upload("a.txt", "1"))
    with pytest.raises(Conflict, match="another name"):
        catalog.create_collection("default")
    with pytest.raises(InvalidInput):
        catalog.create_collection("\x00")


def test_a_deleted_collection_leaves_nothing(
    catalog: Catalog, database: Database, tmp_path: Path
) -> None:
    taken = catalog.take("default", upload("a.txt", "1"))
    publish(database, taken)
    folder = Folders(tmp_path).collection(catalog.collection_id("default"))
    assert folder.exists()
    catalog.delete_collection("default")
    assert not folder.exists()
    with database.read() as session:
        for table in (ChunkRow, DocumentRow, VersionRow, CollectionRow):
            assert session.exec(select(table)).all() == []


def test_the_old_bytes_sent_again_while_other_ones_wait_are_the_next_version(
    catalog: Catalog, database: Database
) -> None:
    first = catalog.take("default", upload("a.txt", "1"))
    publish(database, first)
    catalog.take("default", upload("a.txt", "2"))
    again = catalog.take("default", upload("a.txt", "1"))
    assert (again.version, again.duplicate) == (3, False)


def test_an_upload_whose_bytes_are_gone_is_sent_again(catalog: Catalog) -> None:
    with pytest.raises(Unavailable, match="upload it again"):
        Catalog.take(catalog, "default", upload("a.txt", "missing"))
