"""Backups while the index is written, restored into an empty folder, answer what was there."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from databases import Cluster, on_both
from library import Library
from small_disk import small_disk
from sqlmodel import func, select

from indexer.folders import Folders
from indexer.index.backing import Backing, submit_backup
from indexer.index.backup import ROWS, Made, back_up
from indexer.index.manifest import Backup
from indexer.index.restore import restore
from indexer.index.vault import Vault
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, SegmentRow, VersionRow
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, NotFound, Unavailable
from pipeline.types import JobKind, JobStatus, Query
from workers.tasks import work

ANIMALS = ("walrus", "海象", "otter", "heron", "水獭", "badger", "lynx", "stork", "松鼠", "mole")


def text_of(number: int) -> str:
    animal = ANIMALS[number % len(ANIMALS)]
    return f"The {animal} number{number} sleeps on floe{number * 7}. 第{number}号动物睡在冰上。"


def data_of(tmp_path: Path, name: str = "data") -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder


def opened(tmp_path: Path, database_url: str) -> Library:
    """A library whose SQLite file lies in its data folder, as with `zhinao serve`."""
    data = data_of(tmp_path)
    own = f"sqlite:///{data / 'zhinao.db'}"
    return Library.open(data, own if database_url.startswith("sqlite") else database_url)


def backed_up(library: Library, folder: Path) -> Made:
    return back_up(library.database, library.folders, Vault.make(folder))


def restored(folder: Path, data: Path, **given: object) -> Library:
    restore(Vault.open(folder), f"sqlite:///{data / 'zhinao.db'}", Folders(data), **given)
    return Library.open(data)


async def check_every_chunk_finds_itself(library: Library) -> int:
    """By its own text and by its words; returns how many there are."""
    with library.database.read() as session:
        chunks = session.execute(select(ChunkRow.key, ChunkRow.text)).all()
    for key, text in chunks:
        for mode in ("dense", "words"):
            hits = (await library.retriever.search(Query(text, top_k=3, mode=mode))).hits
            assert key in [hit.chunk.key for hit in hits], (mode, text)
    return len(chunks)


@on_both
async def test_what_was_indexed_answers_from_the_restored_folder_and_goes_on(
    tmp_path: Path, database_url: str
) -> None:
    library = opened(tmp_path, database_url)
    for number in range(12):
        library.add(f"{number}.txt", text_of(number))
    library.catalog.delete_document(library.add("gone.txt", "A violin hangs here.").document)
    waiting = library.take("later.txt", "The teapot stands in the kitchen.")
    running = library.take("running.txt", "The kettle boils.")
    assert library.jobs.claim(str(running.job)) is not None
    before = (await library.retriever.search(Query("海象睡在冰上", top_k=20))).hits
    made = backed_up(library, tmp_path / "vault")
    assert made.missing == ()
    assert made.backup.about["documents"] == 14
    assert not library.folders.held.exists() or not list(library.folders.held.iterdir())
    library.close()

    new = restored(tmp_path / "vault", data_of(tmp_path, "new"))
    hits = (await new.retriever.search(Query("海象睡在冰上", top_k=20))).hits
    # The old words index counts the deleted row in its frequencies until it merges; the new one has none.
    assert {h.chunk.name: h.score for h in hits} == pytest.approx(
        {h.chunk.name: h.score for h in before}, abs=0.01
    )
    assert {(h.chunk.id, h.chunk.text) for h in hits} == {
        (h.chunk.id, h.chunk.text) for h in before
    }
    assert await check_every_chunk_finds_itself(new) == 12
    found = (await new.retriever.search(Query("violin", mode="words", top_k=50))).hits
    assert all("violin" not in hit.chunk.text for hit in found)
    for job in (waiting.job, running.job):
        new.run(job)
        assert new.jobs.get(str(job)).status is JobStatus.DONE
    assert {path.name for path in (tmp_path / "new").iterdir()} >= {ROWS, "collections"}
    assert not {"restoring", "replaced"} & {path.name for path in (tmp_path / "new").iterdir()}
    new.close()


@on_both
async def test_a_backup_during_uploads_deletes_and_merges_is_one_state(
    tmp_path: Path, database_url: str
) -> None:
    library = opened(tmp_path, database_url)
    for number in range(9):
        library.add(f"{number}.txt", text_of(number))
    over, turns = threading.Event(), threading.Semaphore(0)

    def write(worker: int) -> int:
        dice, turn = random.Random(worker), 0
        while not over.is_set():
            number = 100 * (worker + 1) + turn % 40
            taken = library.add(f"{number}.txt", f"{text_of(number)} Turn {turn} of {worker}.")
            if dice.random() < 0.3:
                library.catalog.delete_document(taken.document)
            turn += 1
            turns.release()
        return turn

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, worker) for worker in range(2)]
        made = []
        try:
            for _ in range(4):
                for _ in range(3):
                    assert await asyncio.to_thread(turns.acquire, timeout=60)
                made.append(backed_up(library, tmp_path / "vault"))
        finally:
            over.set()
        assert sum(writer.result() for writer in writers) >= 12
    library.close()
    counts = []
    for number, one in enumerate(made):
        new = restored(
            tmp_path / "vault", data_of(tmp_path, f"new{number}"), backup_id=one.backup.id
        )
        counts.append(await check_every_chunk_finds_itself(new))
        assert counts[-1] == one.backup.about["chunks"]
        originals = {
            path.name for path in (tmp_path / f"new{number}").glob("collections/*/originals/*")
        }
        versions = {v.sha256 for v in _versions(new.database)}
        assert originals == versions
        new.close()
    assert len(set(counts)) > 1  # the index did change meanwhile


def _versions(database: Database) -> list[VersionRow]:
    with database.read() as session:
        return list(session.exec(select(VersionRow)).all())


def test_a_second_backup_copies_what_is_new_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = 2**13
    monkeypatch.setattr(
        "indexer.index.contents.PART", part
    )  # rows of a small test are many parts then
    library = opened(tmp_path, "sqlite")
    for number in range(3):
        library.add(f"{number}.txt", " ".join(f"word{number}x{n}" for n in range(8_000)))
    first = backed_up(library, tmp_path / "vault")
    contents = {p.sha256: p.size for entry in first.backup.files for p in entry.parts}
    assert first.new_bytes == sum(contents.values())
    library.add("new.txt", text_of(7))
    second = backed_up(library, tmp_path / "vault")
    paths = {entry.path for entry in first.backup.files}
    fresh = [entry for entry in second.backup.files if entry.path not in paths]
    manifests = sum(entry.size for entry in fresh)
    assert len([e for e in fresh if e.path.endswith("manifest.json")]) == 1
    [rows] = [entry for entry in second.backup.files if entry.path == ROWS]
    assert rows.size > 40 * part
    assert second.new_bytes < manifests + rows.size / 2
    third = backed_up(library, tmp_path / "vault")
    assert third.new_bytes <= part
    assert third.new_files == 0
    assert [b.id for b in Vault.open(tmp_path / "vault").backups()] == [
        third.backup.id,
        second.backup.id,
        first.backup.id,
    ]
    library.close()


def test_a_flipped_byte_is_named_and_nothing_is_restored(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    vault = Vault.make(tmp_path / "vault")
    backup = back_up(library.database, library.folders, vault).backup
    [vectors] = [entry for entry in backup.files if entry.path.endswith("vectors.npy")]
    content = tmp_path / "vault" / "files" / vectors.parts[0].sha256[:2] / vectors.parts[0].sha256
    data = bytearray(content.read_bytes())
    data[len(data) // 2] ^= 1
    content.write_bytes(data)
    wrong = vault.verify(backup, set(), lambda _bytes: None)
    assert len(wrong) == 1
    assert vectors.path in wrong[0]
    data_of(tmp_path, "new")
    with pytest.raises(DamagedIndex, match=vectors.path):
        restored(tmp_path / "vault", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []

    # What was damaged is set aside, and the next backup mends the one before, too.
    second = back_up(library.database, library.folders, vault)
    assert second.new_files == 1
    assert vault.verify(backup, set(), lambda _bytes: None) == []
    library.close()
    restored(tmp_path / "vault", tmp_path / "new", backup_id=backup.id).close()


def test_a_changed_manifest_is_no_backup(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    vault = Vault.make(tmp_path / "vault")
    backup = back_up(library.database, library.folders, vault).backup
    library.close()
    path = tmp_path / "vault" / "backups" / f"{backup.id}.json"
    told = json.loads(path.read_bytes())
    told["backup"]["files"][0]["path"] = "../../etc/passwd"
    path.write_text(json.dumps(told))
    with pytest.raises(DamagedIndex, match="has changed"):
        restored(tmp_path / "vault", data_of(tmp_path, "new"))


def test_a_changed_segment_is_not_backed_up_as_if_it_were_whole(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    backed_up(library, tmp_path / "whole")
    [vectors] = library.folders.data.glob("collections/*/*/segments/*/vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    with pytest.raises(DamagedIndex, match=r"vectors.npy .* has changed"):
        backed_up(library, tmp_path / "vault")
    assert Vault.open(tmp_path / "vault").backups() == []
    vectors.unlink()
    with pytest.raises(DamagedIndex, match=r"vectors.npy of segment \d+ is missing"):
        backed_up(library, tmp_path / "vault")
    library.close()


def test_an_original_that_is_gone_for_good_does_not_stop_the_rest(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    library.add("b.txt", text_of(2))
    lost = min(library.folders.data.glob("collections/*/originals/*"))
    lost.unlink()
    made = backed_up(library, tmp_path / "vault")
    assert made.missing == (str(lost.relative_to(library.folders.data)),)
    assert made.backup.about["missing"] == 1
    library.close()
    restored(tmp_path / "vault", data_of(tmp_path, "new")).close()


KILLED = """
import sys, time
from pathlib import Path
from library import Library
from indexer.index.backup import back_up
from indexer.index.contents import Contents
from indexer.index.vault import Vault

library = Library.open(Path(sys.argv[1]))
keep = Contents._keep

def slow(self, *given):
    done = keep(self, *given)
    print("stored", flush=True)
    time.sleep(0.2)
    return done

Contents._keep = slow
back_up(library.database, library.folders, Vault.make(Path(sys.argv[2])))
"""


def test_a_killed_backup_leaves_the_earlier_ones_whole_and_is_swept(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    first = backed_up(library, tmp_path / "vault").backup
    library.add("b.txt", text_of(2))
    places = [str(Path(__file__).parents[1] / "fixtures"), str(Path(__file__).parents[2])]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(library.folders.data), str(tmp_path / "vault")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    )
    with child:
        assert child.stdout is not None
        for _ in range(2):
            assert child.stdout.readline() == b"stored\n"
        with pytest.raises(Conflict, match="being written"):
            backed_up(library, tmp_path / "vault")
        child.send_signal(signal.SIGKILL)
    vault = Vault.open(tmp_path / "vault")
    assert [backup.id for backup in vault.backups()] == [first.id]
    assert vault.verify(first, set(), lambda _bytes: None) == []
    assert list(library.folders.held.iterdir())  # what it held
    second = backed_up(library, tmp_path / "vault").backup
    assert list(library.folders.held.iterdir()) == []
    assert not (tmp_path / "vault" / "partial").exists()
    assert vault.verify(second, set(), lambda _bytes: None) == []
    library.close()
    restored(tmp_path / "vault", data_of(tmp_path, "new"), backup_id=first.id).close()


def test_pruning_keeps_the_newest_whole_and_frees_the_rest(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    backups: list[Backup] = []
    vault = Vault.make(tmp_path / "vault")
    for number in range(4):
        library.add("same name.txt", text_of(number))
        backups.append(back_up(library.database, library.folders, vault).backup)
    with vault.writing():
        gone, freed = vault.prune(2)
    assert gone == [backups[1].id, backups[0].id]
    assert freed > 0
    assert [backup.id for backup in vault.backups()] == [backups[3].id, backups[2].id]
    used = {p.sha256 for b in vault.backups() for e in b.files for p in e.parts}
    assert {path.name for path in (tmp_path / "vault" / "files").glob("*/*")} == used
    assert all(vault.verify(backup, set(), lambda _bytes: None) == [] for backup in vault.backups())
    with vault.writing(), pytest.raises(InvalidInput):
        vault.prune(0)
    with pytest.raises(NotFound, match=backups[0].id):
        vault.get(backups[0].id)
    library.close()


def test_what_is_there_is_replaced_by_force_alone(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    backed_up(library, tmp_path / "vault")
    library.add("b.txt", text_of(2))
    library.close()
    data = tmp_path / "data"
    before = sorted(path for path in data.rglob("*") if path.name != "serve.lock")
    with pytest.raises(Conflict, match="--force"):
        restored(tmp_path / "vault", data)
    assert sorted(path for path in data.rglob("*") if path.name != "serve.lock") == before
    again = restored(tmp_path / "vault", data, force=True)
    with again.database.read() as session:
        assert session.exec(select(func.count()).select_from(ChunkRow)).one() == 1
        segments = session.exec(select(SegmentRow.id)).all()
    assert {int(p.name) for p in data.glob("collections/*/*/segments/*")} == set(segments)
    again.close()


async def test_rows_go_into_postgresql_and_come_back_from_it(
    tmp_path: Path, postgresql: Cluster
) -> None:
    library = opened(tmp_path, "sqlite")
    for number in range(3):
        library.add(f"{number}.txt", text_of(number))
    backed_up(library, tmp_path / "vault")
    library.close()
    url = postgresql.create()
    data = data_of(tmp_path, "new")
    vault = Vault.open(tmp_path / "vault")
    restore(vault, url, Folders(data))
    assert not (data / ROWS).exists()
    new = Library.open(data, url)
    assert await check_every_chunk_finds_itself(new) == 3
    with pytest.raises(Conflict, match="holds collections"):
        restore(vault, url, Folders(data_of(tmp_path, "third")))
    new.add("more.txt", text_of(5))
    made = backed_up(new, tmp_path / "vault")
    assert made.backup.about["database"] == "postgresql"
    new.close()
    back = restored(tmp_path / "vault", data_of(tmp_path, "fourth"))
    assert await check_every_chunk_finds_itself(back) == 4
    back.close()
    postgresql.drop(url)


def test_a_vault_is_not_made_among_other_files_nor_in_the_data_folder(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    with pytest.raises(InvalidInput, match="other files"):
        Vault.make(tmp_path)
    with pytest.raises(InvalidInput, match="data folder"):
        backed_up(library, library.folders.data / "backups")
    with pytest.raises(NotFound, match="no backups"):
        Vault.open(tmp_path / "nowhere")
    library.close()


def test_a_backup_is_a_job_that_can_be_cancelled(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    with pytest.raises(InvalidInput, match="ZHINAO_BACKUP__FOLDER"):
        submit_backup(library.jobs, None)
    folder = tmp_path / "vault"
    handler = Backing(library.database, library.folders, folder=folder, keep=2)
    for _ in range(3):
        job = submit_backup(library.jobs, folder)
        assert submit_backup(library.jobs, folder) == job
        claim = library.jobs.claim_next({JobKind.BACKUP})
        assert claim is not None
        work(library.jobs, handler, claim)
        done = library.jobs.get(job)
        assert done.status is JobStatus.DONE
        assert done.result["id"] == Vault.open(folder).backups()[0].id
    assert len(Vault.open(folder).backups()) == 2
    assert len(done.result["pruned"]) == 1

    job = submit_backup(library.jobs, folder)
    claim = library.jobs.claim_next({JobKind.BACKUP})
    assert claim is not None
    library.control.cancel(job)
    work(library.jobs, handler, claim)
    assert library.jobs.get(job).status is JobStatus.CANCELLED
    assert Vault.open(folder).backups()[0].id == done.result["id"]
    assert not (folder / "partial").exists()
    library.close()
    new = restored(folder, data_of(tmp_path, "new"))
    with pytest.raises(NotFound):  # the job of the backup itself is not run again
        new.jobs.get(str(done.id))
    new.close()


def test_a_full_disk_is_a_sentence_and_the_earlier_backup_stays_whole(tmp_path: Path) -> None:
    library = opened(tmp_path, "sqlite")
    library.add("a.txt", text_of(1))
    with small_disk("64m") as disk:
        folder = disk.path / "vault"
        first = backed_up(library, folder).backup
        library.add("b.txt", " ".join(f"word{n}" for n in range(6_000)))
        disk.leave(100_000)
        with pytest.raises(Unavailable, match="free some"):
            backed_up(library, folder)
        vault = Vault.open(folder)
        assert [backup.id for backup in vault.backups()] == [first.id]
        assert vault.verify(first, set(), lambda _bytes: None) == []
        disk.grow()
        backed_up(library, folder)
        data = disk.path / "data"
        disk.leave(100_000)
        with pytest.raises(Unavailable, match="free some"):
            restored(folder, data)
        assert not data.exists() or list(data.iterdir()) == []
    library.close()
