"""`doctor --deep`: whole stores are well, each kind of damage is named, and mended where that is possible."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from databases import on_both
from library import Library
from sqlmodel import delete, select

from indexer.index.compaction import compact
from indexer.index.findings import Finding
from indexer.index.inspection import inspect
from indexer.index.rewriting import mend_words, words_differ
from indexer.segments.words import WordWriter
from indexer.sql.tables import ChunkRow, JobRow, SegmentRow, TextRow, TombstoneRow, VersionRow
from pipeline.types import JobStatus, Query

TEXTS = {f"{n}.txt": f"The walrus number{n} sleeps on the ice." for n in range(5)}


def look(library: Library) -> list[Finding]:
    return inspect(library.database, library.folders, settled_s=0)


def mend(library: Library) -> list[str]:
    return [finding.mend() for finding in look(library) if finding.mend is not None]


def run_all(library: Library) -> None:
    """What the workers do with the jobs that mending queued."""
    while (claim := library.jobs.claim_next()) is not None:
        library.ingest(claim)


async def names(library: Library) -> set[str]:
    hits = (await library.retriever.search(Query("walrus", top_k=50))).hits
    assert len({hit.chunk.key for hit in hits}) == len(hits)
    return {hit.chunk.name for hit in hits}


@pytest.fixture
def filled(library: Library) -> Library:
    for name, text in TEXTS.items():
        library.add(name, text)
    return library


def path_of(library: Library, pattern: str) -> Path:
    return min(library.folder.glob(f"collections/*/{pattern}"))


def generation(library: Library) -> Path:
    return path_of(library, "[0-9]*")


@on_both
async def test_whole_stores_are_well_through_uploads_deletes_merges_and_compaction(
    filled: Library,
) -> None:
    assert look(filled) == []
    filled.add("1.txt", "The walrus number1 swims now.")
    filled.catalog.delete_document(filled.catalog.documents()[0][-1].id)
    assert look(filled) == []
    for n in range(9):
        filled.add(f"more{n}.txt", f"The walrus more{n} sleeps, too.")
    assert look(filled) == []
    collection = filled.catalog.collection_id("default")
    done = compact(filled.database, filled.folders, [collection], settled_s=0)
    assert done.words == 13
    assert look(filled) == []
    assert await names(filled) == {f"{n}.txt" for n in range(1, 5)} | {
        f"more{n}.txt" for n in range(9)
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def lose_words(library: Library) -> None:
    shutil.rmtree(generation(library) / "words")


def break_words(library: Library) -> None:
    (generation(library) / "words" / "meta.json").write_text("{")


def forget_a_word(library: Library) -> None:
    with WordWriter.open(generation(library) / "words") as writer:
        writer.delete([2])
        writer.commit()


def unknown_words(library: Library) -> None:
    """As a crash between the words' commit and SQL's leaves them, and a sweep that was lost."""
    with WordWriter.open(generation(library) / "words") as writer:
        writer.add(999, ["walrus"])
        writer.commit()


def lose_a_segment(library: Library) -> None:
    shutil.rmtree(generation(library) / "segments" / "3")


def flip_vectors(library: Library) -> None:
    flip(generation(library) / "segments" / "2" / "vectors.npy")


def lose_a_segment_row(library: Library) -> None:
    with library.database.write() as session:
        session.delete(session.get(SegmentRow, 4))


def lose_a_text(library: Library) -> None:
    with library.database.write() as session:
        session.execute(delete(TextRow).where(TextRow.version_id == 1))


def change_a_text(library: Library) -> None:
    with library.database.write() as session:
        row = session.get(TextRow, 1)
        row.text = row.text.replace("walrus", "wolf")
        session.add(row)


def lose_a_chunk(library: Library) -> None:
    with library.database.write() as session:
        session.execute(delete(ChunkRow).where(ChunkRow.version_id == 5))


def miscount(library: Library) -> None:
    with library.database.write() as session:
        row = session.get(SegmentRow, 1)
        row.dead = 1
        session.add(row)


def leave_a_text(library: Library) -> None:
    with library.database.write() as session:
        session.add(TextRow(version_id=99, text="a trace", layout=b""))


def leave_files(library: Library) -> None:
    here = generation(library)
    (here / "segments" / "77").mkdir()
    (here / "staged").mkdir(exist_ok=True)
    (here / "staged" / "55.npz").write_bytes(b"x")
    (here.parent / "originals" / ("0" * 64)).write_bytes(b"x")
    (library.folder / "collections" / "gone" / "originals").mkdir(parents=True)
    (here.parent / "9").mkdir()


DAMAGE: list[tuple[Callable[[Library], None], str, str]] = [
    (lose_words, "words", "empty or gone"),
    (break_words, "words", "cannot be read"),
    (forget_a_word, "words", "1 live passages are not in the words index"),
    (unknown_words, "words", "1 rows of the words index belong to no passage"),
    (lose_a_segment, "segments", "gone"),
    (flip_vectors, "segments", "vectors.npy has changed"),
    (lose_a_segment_row, "segments", "1 passages are in no segment"),
    (lose_a_text, "catalog", "0.txt: its stored text is gone"),
    (change_a_text, "catalog", "0.txt: its passages do not stand"),
    (lose_a_chunk, "catalog", "4.txt: its searchable passages are not those"),
    (miscount, "catalog", "segment 1 is said to have"),
    (leave_a_text, "catalog", "1 rows of the table version_text"),
    (leave_files, "files", "belongs to nothing"),
]


@pytest.mark.parametrize(
    ("harm", "part", "says"), DAMAGE, ids=[harm.__name__ for harm, *_ in DAMAGE]
)
async def test_damage_is_named_and_mended_from_the_catalog(
    filled: Library, harm: Callable[[Library], None], part: str, says: str
) -> None:
    harm(filled)
    found = look(filled)
    assert any(finding.part == part and says in finding.says for finding in found), found
    again = look(filled)
    assert found == again, "looking changes nothing"
    mend(filled)
    mend(filled)  # the files of what was taken out
    run_all(filled)
    assert look(filled) == []
    assert await names(filled) == set(TEXTS)


def test_a_lost_or_changed_original_is_told_with_what_to_do(filled: Library) -> None:
    first, second, *_ = sorted(path_of(filled, "originals").iterdir())
    first.unlink()
    flip(second)
    says = [(finding.part, finding.says, finding.mend) for finding in look(filled)]
    assert [part for part, *_ in says] == ["originals", "originals"]
    assert all("upload it again" in text and mends is None for _, text, mends in says)
    assert {text.split("its file ")[1][:7] for _, text, _ in says} == {"is gone", "has cha"}


def test_files_that_are_being_written_are_let_be(filled: Library) -> None:
    leave_files(filled)
    assert inspect(filled.database, filled.folders, settled_s=60) == []


def test_damage_is_queued_through_the_jobs_that_read_the_files(filled: Library) -> None:
    lose_a_segment(filled)
    (did,) = mend(filled)
    assert "1 documents are read again by their jobs" in did
    with filled.database.read() as session:
        queued = session.exec(select(JobRow).where(JobRow.status == JobStatus.QUEUED.value)).all()
        versions = session.exec(select(VersionRow.status)).all()
    assert [row.filename for row in queued] == ["2.txt"]
    assert sorted(versions) == ["live"] * 4 + ["pending"]
    assert len(filled.snapshots.open("default").live.keys) == 4, "the others answer meanwhile"


def test_words_are_compared_cheaply_at_the_start(filled: Library) -> None:
    target = filled.merger.targets(filled.catalog.collection_id("default"))[0]
    assert words_differ(filled.database, filled.folders, target) is None
    lose_words(filled)
    assert "5 live passages" in str(words_differ(filled.database, filled.folders, target))


@pytest.mark.parametrize(
    "harm", [lose_words, break_words, forget_a_word], ids=["lost", "broken", "one less"]
)
async def test_lost_words_are_written_again_at_the_start(
    filled: Library, harm: Callable[[Library], None]
) -> None:
    assert mend_words(filled.database, filled.folders) == {}
    harm(filled)
    assert list(mend_words(filled.database, filled.folders)) == ["default"]
    assert look(filled) == []
    assert await names(filled) == set(TEXTS)


SECRET = "zyxwvutsecret"
"""A word that stands nowhere else."""


def traces(folder: Path, needles: list[bytes]) -> list[str]:
    """The files that hold any of these bytes."""
    return [
        f"{path.relative_to(folder)}: {needle[:20]!r}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for needle in needles
        if needle in path.read_bytes()
    ]


def test_after_compaction_no_byte_of_a_deleted_document_is_left(library: Library) -> None:
    for name, text in TEXTS.items():
        library.add(name, text)
    taken = library.add(f"{SECRET}name.txt", f"The {SECRET} of the house is the {SECRET}key.")
    library.add("last.txt", "A walrus that came later.")
    segment = library.merger._open(
        library.merger.targets(library.catalog.collection_id("default"))[0], 6
    )
    vector = np.asarray(segment.vectors[-1]).tobytes()
    needles = [SECRET.encode(), vector, taken.document.encode()]
    before = traces(library.folder, needles)
    for store in ("vectors.npy", "originals/", "zhinao.db"):
        assert any(store in line for line in before), store
    receipt = library.catalog.delete_document(taken.document)
    assert receipt["chunks"] == 1
    collection = library.catalog.collection_id("default")
    compact(library.database, library.folders, [collection], settled_s=0)
    assert traces(library.folder, needles) == []
    assert look(library) == []
    with library.database.read() as session:
        assert not any(session.exec(select(TombstoneRow.words)).all())


def test_a_document_deleted_before_it_was_published_leaves_nothing_either(library: Library) -> None:
    taken = library.take(f"{SECRET}.txt", f"The {SECRET} is never read.")
    claim = library.jobs.claim(taken.job)
    library.catalog.delete_document(taken.document)
    library.ingest(claim)
    compact(
        library.database,
        library.folders,
        [library.catalog.collection_id("default")],
        settled_s=0,
    )
    assert traces(library.folder, [SECRET.encode()]) == []
