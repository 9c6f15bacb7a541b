"""A collection in Milvus answers as it does from the data folder, through moves, uploads, deletes and crashes."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from databases import on_both
from library import Library
from reindexing import SIZES, Changing, filled
from reindexing import text_of as reindexed_text
from sqlmodel import select

from indexer.folders import Folders
from indexer.index.backup import back_up
from indexer.index.compaction import compact
from indexer.index.generations import Generations, State
from indexer.index.inspection import inspect
from indexer.index.milvus_leg import MilvusLeg, MilvusReader
from indexer.index.move import Mover
from indexer.index.publish import Publisher
from indexer.index.restore import restore
from indexer.index.snapshot import Snapshots
from indexer.index.vault import Vault
from indexer.ingest.reindex import Reindexing
from indexer.milvus import search as searching
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.milvus.vocabulary import Vocabulary
from indexer.sql.tables import ChunkRow, GenerationRow, PlaceRow, WordRow
from models.fakes import HashEmbedder
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, Unavailable
from pipeline.retrieve import Retriever
from pipeline.types import Query

ANIMALS = ("walrus", "海象", "otter", "heron", "水獭", "badger", "lynx", "stork", "松鼠", "mole")


@pytest.fixture(autouse=True)
def from_milvus(monkeypatch):
    """Small tests ask Milvus, too, and not the raw vectors alone."""
    monkeypatch.setattr(searching, "EXACT_ROWS", 0)


@pytest.fixture
def library(tmp_path: Path, database_url: str, store: MilvusStore) -> Iterator[Library]:
    """Its collections begin in Milvus."""
    made = Library.open(tmp_path, database_url, milvus=store, everything=True)
    yield made
    made.close()


def text_of(number: int) -> str:
    animal = ANIMALS[number % len(ANIMALS)]
    return f"The {animal} number{number} sleeps on floe{number * 7}. 第{number}号动物睡在冰上。"


def name_of(library: Library) -> str | None:
    with library.database.read() as session:
        row = session.get(PlaceRow, 1)
        return row and row.name


async def answers(library: Library, query: str, mode: str = "hybrid") -> dict[str, float]:
    found = await library.retriever.search(Query(query, top_k=50, mode=mode))
    return {hit.chunk.name: hit.score for hit in found.hits}


async def check_every_chunk_finds_itself(library: Library) -> int:
    with library.database.read() as session:
        chunks = session.execute(select(ChunkRow.key, ChunkRow.text)).all()
    for key, text in chunks:
        for mode in ("dense", "words"):
            hits = (await library.retriever.search(Query(text, top_k=3, mode=mode))).hits
            assert key in [hit.chunk.key for hit in hits], (mode, text)
    return len(chunks)


def counted(library: Library) -> dict[str, int]:
    """Rows of each term, as SQL counts them."""
    with library.database.read() as session:
        return {row.term: row.rows for row in session.exec(select(WordRow)) if row.rows}


@on_both
async def test_a_collection_moves_there_and_back_and_answers_the_same(
    tmp_path: Path, database_url: str, store: MilvusStore
) -> None:
    library = Library.open(tmp_path, database_url, milvus=store)
    for number in range(6):
        library.add(f"{number}.txt", text_of(number))
    before = await answers(library, "海象睡在冰上")
    calls = library.embedder
    mover = Mover(library.database, library.folders, store, grace_s=0)
    heard: list[tuple[int, int]] = []
    with pytest.raises(Conflict, match="data folder already"):
        mover.to_folder("default")
    assert mover.to_milvus("default", lambda done, total: heard.append((done, total))) == 6
    assert heard[-1] == (6, 6)
    assert not library.folders.words(library.catalog.collection_id("default"), 1).exists()
    with pytest.raises(Conflict, match="in Milvus already"):
        mover.to_milvus("default")
    there = await answers(library, "海象睡在冰上")
    assert there.keys() == before.keys()
    # The mean length is that of the move; tantivy's own follows the rows. They are the same here.
    assert there == pytest.approx(before, abs=1e-4)
    assert await check_every_chunk_finds_itself(library) == 6

    library.add("new.txt", "A violin hangs on the wall.")
    taken = library.add("0.txt", "Now a cello hangs there.")
    assert next(iter(await answers(library, "violin"))) == "new.txt"
    library.catalog.delete_document(taken.document)
    assert "0.txt" not in await answers(library, "cello hangs", "words")
    library.add("last.txt", "A flute lies on the shelf.")  # its publish sweeps the dead
    assert store.count(str(name_of(library))) == 7
    frequencies, rows = Vocabulary(library.database, 1).frequencies(["violin", "cello", "flute"])
    assert (frequencies, rows) == ([1, 0, 1], 7)
    assert await check_every_chunk_finds_itself(library) == 7

    name = str(name_of(library))
    after = await answers(library, "海象睡在冰上")
    assert mover.to_folder("default") == 7
    assert name not in store.names()
    assert counted(library) == {}
    assert (await answers(library, "海象睡在冰上")).keys() == after.keys()
    assert await check_every_chunk_finds_itself(library) == 7
    library.add("again.txt", "A drum stands in the hall.")
    assert next(iter(await answers(library, "drum"))) == "again.txt"
    assert calls is library.embedder
    library.close()


async def test_a_move_while_files_come_and_go_loses_and_doubles_nothing(
    tmp_path: Path, store: MilvusStore
) -> None:
    library = Library.open(tmp_path, milvus=store)
    for number in range(8):
        library.add(f"{number}.txt", text_of(number))
    mover = Mover(library.database, library.folders, store, grace_s=0)
    over = threading.Event()

    def write() -> int:
        dice, turn = random.Random(5), 0
        while not over.is_set():
            taken = library.add(
                f"{100 + turn % 15}.txt", f"{text_of(100 + turn % 15)} Turn {turn}."
            )
            if dice.random() < 0.4:
                library.catalog.delete_document(taken.document)
            turn += 1
        return turn

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            mover.to_milvus("default")
            mover.to_folder("default")
            mover.to_milvus("default")
        finally:
            over.set()
        assert writing.result() > 3
    library.add("last.txt", text_of(999))
    assert await check_every_chunk_finds_itself(library) >= 9
    with library.database.read() as session:
        live = set(session.exec(select(ChunkRow.key)).all())
    name = str(name_of(library))
    assert {int(key) for keys in store.keys(name) for key in keys} == live
    assert counted(library)[""] == len(live)
    store.drop(name)
    library.close()


async def test_with_the_backend_milvus_a_collection_begins_there(
    tmp_path: Path, store: MilvusStore
) -> None:
    library = Library.open(tmp_path, milvus=store, everything=True)
    assert await answers(library, "walrus") == {}
    for number in range(4):
        library.add(f"{number}.txt", text_of(number))
    assert store.count(str(name_of(library))) == 4
    assert await check_every_chunk_finds_itself(library) == 4
    library.close()

    elsewhere = Library.open(tmp_path)  # a process that was started without the setting
    with pytest.raises(Unavailable, match="ZHINAO_INDEX__MILVUS_URL"):
        await elsewhere.retriever.search(Query("walrus"))
    elsewhere.close()


async def test_a_publish_that_crashed_after_its_rows_leaves_nothing(
    tmp_path: Path, store: MilvusStore, monkeypatch
) -> None:
    library = Library.open(tmp_path, milvus=store, everything=True)
    library.add("0.txt", text_of(0))
    put = store.put

    def crashing(*given: object) -> None:
        put(*given)
        raise Unavailable("the power is cut")

    monkeypatch.setattr(store, "put", crashing)
    taken = library.take("1.txt", text_of(1))
    with pytest.raises(Unavailable, match="power"):
        library.run(taken.job)
    assert store.count(str(name_of(library))) == 2
    assert set(await answers(library, "number1 otter walrus", "words")) <= {"0.txt"}
    assert counted(library)[""] == 1
    monkeypatch.setattr(store, "put", put)
    library.clock.now += 60
    library.jobs.reap()
    library.clock.now += 60
    library.run(taken.job)
    assert store.count(str(name_of(library))) == 2
    assert counted(library)[""] == 2
    assert await check_every_chunk_finds_itself(library) == 2
    library.close()


async def test_a_deleted_collection_leaves_milvus_with_the_next_sweep(
    tmp_path: Path, store: MilvusStore
) -> None:
    library = Library.open(tmp_path, milvus=store, everything=True)
    library.add("0.txt", text_of(0))
    name = str(name_of(library))
    leg = MilvusLeg(library.database, store)
    assert leg.sweep() == []
    library.catalog.delete_collection("default")
    library.catalog.create_collection("other")
    library.add(
        "1.txt", text_of(1), "other"
    )  # a publish to Milvus sweeps; a worker does when it starts
    assert leg.sweep() == []
    assert name not in store.names()
    assert name_of(library) is None
    with library.database.read() as session:
        assert set(session.exec(select(WordRow.generation_id)).all()) == {2}
    library.close()


async def test_a_lost_milvus_is_told_and_the_way_back_needs_none_of_its_rows(
    tmp_path: Path, store: MilvusStore
) -> None:
    library = Library.open(tmp_path, milvus=store)
    mover = Mover(library.database, library.folders, store, grace_s=0)
    with pytest.raises(InvalidInput, match="holds nothing"):
        mover.to_milvus("default")
    for number in range(3):
        library.add(f"{number}.txt", text_of(number))
    mover.to_milvus("default")
    store.drop(str(name_of(library)))
    with pytest.raises(DamagedIndex, match="index move milvus faiss"):
        await library.retriever.search(Query("walrus"))
    assert mover.to_folder("default") == 3
    assert await check_every_chunk_finds_itself(library) == 3
    library.close()


async def test_what_was_in_milvus_is_restored_to_the_data_folder(
    tmp_path: Path, store: MilvusStore
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    library = Library.open(data, milvus=store, everything=True)
    for number in range(3):
        library.add(f"{number}.txt", text_of(number))
    back_up(library.database, library.folders, Vault.make(tmp_path / "vault"))
    new = tmp_path / "new"
    restore(Vault.open(tmp_path / "vault"), f"sqlite:///{new / 'zhinao.db'}", Folders(new))
    restored = Library.open(new)
    assert await check_every_chunk_finds_itself(restored) == 3
    restored.close()
    store.drop(str(name_of(library)))
    library.close()


def look(library: Library, store: MilvusStore | None) -> list[str]:
    found = inspect(library.database, library.folders, milvus=store, settled_s=0)
    return [finding.says for finding in found]


def mend(library: Library, store: MilvusStore) -> None:
    for finding in inspect(library.database, library.folders, milvus=store, settled_s=0):
        if finding.mend is not None:
            finding.mend()


def place(library: Library) -> str:
    name = name_of(library)
    assert name is not None
    return name


def lose_rows(library: Library, store: MilvusStore) -> None:
    store.delete(place(library), np.array([0, 2]))


def lose_everything(library: Library, store: MilvusStore) -> None:
    store.drop(place(library))


def leave_a_deleted_row(library: Library, store: MilvusStore) -> None:
    """As if the delete of a sweep had never reached Milvus."""
    vector = np.ones((1, library.embedder.dim), np.float16) / 8
    numbers = Vocabulary(library.database, 1).numbers(["walrus", ""])
    sparse = [dict.fromkeys(numbers.values(), 0.9)]
    store.put(place(library), MilvusRows(np.array([999]), np.zeros(1, np.uint8), vector, sparse))


def miscount(library: Library, store: MilvusStore) -> None:
    with library.database.write() as session:
        Vocabulary(library.database, 1).recount(session, {})


def stop_a_move(library: Library, store: MilvusStore) -> None:
    library.catalog.create_collection("other")
    collection = library.catalog.collection_id("other")
    with library.database.read() as session:
        row = session.exec(
            select(GenerationRow.id).where(GenerationRow.collection_id == collection)
        ).one()
    store.make(store.name(collection, row), 8)


DAMAGE = [
    (lose_rows, "2 live passages are not in Milvus"),
    (lose_everything, "no collection"),
    (leave_a_deleted_row, "1 rows of Milvus belong to no passage"),
    (miscount, "the words of 0 rows are counted, and 3 are there"),
    (stop_a_move, "left of a move or a publish that stopped"),
]


@pytest.mark.parametrize(("harm", "says"), DAMAGE, ids=[harm.__name__ for harm, _ in DAMAGE])
async def test_damage_in_milvus_is_named_and_mended_from_the_raw_vectors(
    library: Library, store: MilvusStore, harm: Callable[[Library, MilvusStore], None], says: str
) -> None:
    for number in range(3):
        library.add(f"{number}.txt", text_of(number))
    before = await answers(library, "海象睡在冰上")
    frequencies = Vocabulary(library.database, 1).frequencies(["walrus", "ice"])
    harm(library, store)
    found = look(library, store)
    assert any(says in each for each in found), found
    mend(library, store)
    assert look(library, store) == []
    assert await answers(library, "海象睡在冰上") == pytest.approx(before, abs=1e-6)
    assert Vocabulary(library.database, 1).frequencies(["walrus", "ice"]) == frequencies
    library.add("later.txt", text_of(7))
    assert await check_every_chunk_finds_itself(library) == 4
    assert look(library, store) == []


@on_both
def test_what_was_deleted_leaves_milvus_with_a_compaction(
    library: Library, store: MilvusStore
) -> None:
    takens = [library.add(f"{number}.txt", text_of(number)) for number in range(4)]
    library.catalog.delete_document(takens[2].document)
    assert store.count(place(library)) == 4
    assert look(library, store) == [], "what the next publish sweeps is no fault"
    collection = library.catalog.collection_id("default")
    compact(library.database, library.folders, [collection], milvus=store, settled_s=0)
    assert store.count(place(library)) == 3
    assert counted(library)[""] == 3
    assert look(library, store) == []
    name = place(library)
    library.catalog.delete_collection("default")
    assert any("of an index that was removed" in each for each in look(library, store))
    compact(library.database, library.folders, [], milvus=store, settled_s=0)
    assert name not in store.names()
    assert not any("Milvus" in each or name in each for each in look(library, store))


def test_an_inspection_without_milvus_or_beside_a_stranger_says_what_to_do(
    library: Library, store: MilvusStore
) -> None:
    library.add("0.txt", text_of(0))
    assert "set ZHINAO_INDEX__MILVUS_URL" in look(library, None)[0]
    store.make(store.name("stranger", 1), 8)
    (says,) = look(library, store)
    assert "ZHINAO_INDEX__MILVUS_PREFIX" in says
    mend(library, store)
    assert store.name("stranger", 1) in store.names(), "it may be another installation's"


def changing(library: Library, store: MilvusStore) -> Changing:
    """As `Changing`, with new generations in Milvus."""
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    leg = MilvusLeg(library.database, store, everything=True)
    reader = MilvusReader(library.database, store)
    both.publisher = Publisher(library.database, library.folders, leg)
    both.snapshots = Snapshots(
        library.database,
        library.folders,
        fingerprint=library.embedder.fingerprint,
        also=["hash-48-new"],
        milvus=reader,
    )
    both.retriever = Retriever(both.spaces, both.snapshots.open, library.pool)
    both.reindexing = Reindexing(
        library.database,
        library.folders,
        library.jobs,
        both.publisher,
        both.spaces,
        SIZES,
        reader,
        leg,
    )
    both.generations = Generations(library.database, library.folders, leg)
    return both


def test_a_reindex_makes_a_second_generation_in_milvus_and_the_old_one_goes_from_there(
    library: Library, store: MilvusStore
) -> None:
    filled(library, 6)
    (first,) = store.names()
    both = changing(library, store)
    assert both.run()["chunks"] == 6
    assert both.states() == {State.PREVIOUS: "hash-64-", State.LIVE: "hash-48-new"}
    second = next(name for name in store.names() if name != first)
    library.add("after.txt", reindexed_text(90))
    assert store.count(second) == 7
    assert all(map(both.found, [0, 5, 90]))
    assert both.run(back=True)["embedder"] == "hash-64-"
    assert store.count(first) == 7, "what came meanwhile was added"
    assert all(map(both.found, [0, 5, 90]))
    assert look(library, store) == []
    both.run(force=True)
    both.generations.sweep()
    assert second not in store.names()
    assert len(store.names()) == 2
    assert look(library, store) == []
