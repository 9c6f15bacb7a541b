"""A job that begins again goes on where it was; what was kept is a help and never a harm."""

import io
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from databases import on_both
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from library import Library
from reportlab.pdfgen.canvas import Canvas
from sqlmodel import select

from indexer.ingest import ingest as ingesting
from indexer.ingest import unfinished
from indexer.ingest.embedding import BATCH
from indexer.ingest.unfinished import Unfinished, digest_of
from indexer.parse import pool
from indexer.parse.pool import ParserPool
from indexer.sql.tables import ChunkRow, TextRow
from models.fakes import HashEmbedder
from pipeline.errors import DamagedDocument
from pipeline.types import Element, Embeddings, JobStatus, Parsed, Passage

TEXT = "\n\n".join(f"Walrus number {n} sleeps on the ice. " * 6 for n in range(60))


class Killed(BaseException):
    """Stands for `kill -9`."""


class Counting(HashEmbedder):
    """Dies at the batch `last`."""

    def __init__(self) -> None:
        super().__init__()
        self.passages: list[Passage] = []
        self.last: int | None = None

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        if self.last is not None and len(self.passages) >= self.last * BATCH:
            raise Killed
        self.passages += passages
        return await super().embed_passages(passages)


class CountingParser:
    """The real parser, counted."""

    def __init__(self, parser) -> None:
        self._parser = parser
        self.calls = 0

    @property
    def media_types(self):
        return self._parser.media_types

    def parse(self, data: bytes, name: str) -> Parsed:
        self.calls += 1
        return self._parser.parse(data, name)


@pytest.fixture
def counting(library: Library, monkeypatch: pytest.MonkeyPatch) -> Counting:
    library.ingester._embedder = counting = Counting()
    library.ingester._parser = CountingParser(library.ingester._parser)
    monkeypatch.setattr(ingesting, "SLOW_S", 0.0)
    return counting


def left(library: Library) -> list[Path]:
    return [path for path in library.folder.rglob("staged/*") if path.is_file()]


def killed_at(library: Library, counting: Counting, batch: int) -> str:
    """A job that died after so many batches, given back to the queue."""
    job = library.take("a.txt", TEXT).job
    counting.last = batch
    with pytest.raises(Killed):
        library.ingest(library.jobs.claim(job))
    counting.last = None
    library.clock.now += 20
    assert library.jobs.reap() == 1
    library.clock.now += 20
    return job


@on_both
def test_a_killed_job_neither_reads_nor_embeds_again_what_it_has(
    library: Library, counting: Counting
) -> None:
    job = killed_at(library, counting, 2)
    assert len(left(library)) == 2
    library.run(job)
    assert library.jobs.get(job).status is JobStatus.DONE
    assert library.ingester._parser.calls == 1
    assert len(counting.passages) == len(set(counting.passages)) == library.jobs.get(job).total
    assert left(library) == []
    snapshot = library.snapshots.open("default")
    with library.database.read() as session:
        keys = session.exec(select(ChunkRow.key)).all()
    assert len(keys) == library.jobs.get(job).total
    for key in keys:
        [chunk] = snapshot.chunks([key])
        words = counting._vectors(f"{chunk.context}\n{chunk.text}".strip())
        mean = words.mean(axis=0)
        score = snapshot.vectors.score(mean / np.linalg.norm(mean), np.array([key]))
        assert score[0] > 0.95


HARM = st.tuples(st.floats(0, 0.999), st.booleans(), st.integers(0, 7))


@on_both
@given(harms=st.tuples(HARM, HARM))
@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_became_of_the_kept_files_the_job_ends_with_all_rows(
    library: Library, counting: Counting, harms: tuple[tuple[float, bool, int], ...]
) -> None:
    library.catalog.create_collection(name := f"c{library.clock.now}-{len(counting.passages)}")
    job = library.take("a.txt", TEXT, name).job
    counting.last = len(counting.passages) // BATCH + 3
    with pytest.raises(Killed):
        library.ingest(library.jobs.claim(job))
    counting.last = None
    for path, (share, cut_off, bit) in zip(sorted(left(library)), harms, strict=True):
        content = bytearray(path.read_bytes())
        at = int(share * len(content))
        if cut_off:
            del content[at:]
        else:
            content[at] ^= 1 << bit
        path.write_bytes(content)
    library.clock.now += 20
    library.jobs.reap()
    library.clock.now += 20
    library.run(job)
    ended = library.jobs.get(job)
    assert ended.status is JobStatus.DONE
    chunks = library.catalog.document(ended.document).chunks
    assert chunks == ended.total
    snapshot = library.snapshots.open(name)
    stored = snapshot.tokens.get(snapshot.live.keys.tolist())
    assert all(tokens is not None for tokens in stored)
    assert left(library) == []


def test_rows_of_another_embedder_are_not_taken(tmp_path: Path) -> None:
    passage = Passage("a", "b")
    vectors = np.ones((1, 4), np.float16)
    tokens = [np.ones((3, 2), np.int8)]
    own = Unfinished(tmp_path / "7", token=1, fingerprint="one")
    own.keep_rows([passage], vectors, tokens)
    Unfinished(tmp_path / "7", token=2, fingerprint="one").keep_rows(
        [Passage("a", "c")], vectors, None
    )
    found = Unfinished(tmp_path / "7", token=3, fingerprint="one").rows()
    assert found.keys() == {digest_of(passage), digest_of(Passage("a", "c"))}
    np.testing.assert_array_equal(found[digest_of(passage)].tokens, tokens[0])
    np.testing.assert_array_equal(found[digest_of(passage)].vector, vectors[0])
    assert found[digest_of(Passage("a", "c"))].tokens is None
    assert Unfinished(tmp_path / "7", token=3, fingerprint="other").rows() == {}
    assert Unfinished(tmp_path / "70", token=3, fingerprint="one").rows() == {}


def test_what_was_read_comes_back_as_it_was(tmp_path: Path) -> None:
    parsed = Parsed((Element("年假\n五天", page=3, heading=("第一章",)),), "手册", 12)
    kept = Unfinished(tmp_path / "new" / "7", token=1, fingerprint="one")
    assert kept.parsed() is None
    kept.keep_parsed(parsed)
    assert kept.parsed() == parsed


PIECE = st.tuples(st.integers(0, 30), st.integers(1, 8), st.binary(max_size=200))


@given(
    claims=st.lists(st.lists(PIECE, max_size=6), min_size=1, max_size=3),
    cut_off=st.tuples(st.integers(0, 2), st.floats(0, 1)),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_come_back_as_they_were_noted_and_no_page_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: list, cut_off: tuple[int, float]
) -> None:
    monkeypatch.setattr(unfinished, "SLOW_S", -1.0)
    folder = tmp_path / uuid.uuid4().hex
    noted: set[tuple[range, bytes]] = set()
    for token, pieces in enumerate(claims):
        pages = Unfinished(folder / "7", token=token, fingerprint="one").pages(lambda *_: None)
        pages.begin(40)
        for first, count, read in pieces:
            pages.note(range(first, first + count), read)
            noted.add((range(first, first + count), read))
    whole = folder / f"7.{cut_off[0]}.pages"
    if whole.exists():
        data = whole.read_bytes()
        whole.write_bytes(data[: int(len(data) * cut_off[1])])
    told: list[tuple[int, int]] = []
    last = Unfinished(folder / "7", token=9, fingerprint="one")
    found = last.pages(lambda *at: told.append(at)).begin(40)
    assert set(found) <= noted
    seen = [page for pages, _ in found for page in pages]
    assert len(seen) == len(set(seen))
    assert told == [(len(seen), 40)]
    if not whole.exists():  # nothing was cut off: what is missing is there by other pieces
        assert all(not set(seen).isdisjoint(pages) for pages, _ in noted)
    assert last.pages(lambda *_: None).begin(41) == []
    assert (
        Unfinished(folder / "70", token=9, fingerprint="one").pages(lambda *_: None).begin(40) == []
    )


def test_a_killed_job_goes_on_behind_the_pages_that_it_has_read(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real children, and a real PDF; what is shown of the job counts its pages."""
    monkeypatch.setattr(unfinished, "SLOW_S", -1.0)
    monkeypatch.setattr(pool, "_MOST_PAGES", 5)
    library.ingester._parser = readers = ParserPool(children=1)
    data = io.BytesIO()
    canvas = Canvas(data)
    for page in range(1, 31):
        canvas.drawString(60, 700, f"The walrus of page {page} sleeps on the ice of bay {page}.")
        canvas.showPage()
    canvas.save()
    read: list[range] = []
    real = unfinished.KeptPages.note

    def note(self: unfinished.KeptPages, pages: range, sheets: bytes) -> None:
        if len(read) == 3:
            raise Killed
        real(self, pages, sheets)
        read.append(pages)

    monkeypatch.setattr(unfinished.KeptPages, "note", note)
    job = library.take("a.pdf", data.getvalue()).job
    with pytest.raises(Killed):
        library.ingest(library.jobs.claim(job))
    kept = sum(map(len, read))
    shown = library.jobs.get(job)
    assert (shown.stage, shown.total) == ("parse", 30)
    monkeypatch.setattr(
        unfinished.KeptPages, "note", lambda *told: read.append(told[1]) or real(*told)
    )
    library.clock.now += 20
    assert library.jobs.reap() == 1
    library.clock.now += 20
    library.run(job)
    readers.close()
    assert library.jobs.get(job).status is JobStatus.DONE
    assert sorted(page for pages in read for page in pages) == list(range(30))
    assert kept < 30
    with library.database.read() as session:
        [text] = session.exec(select(TextRow.text)).all()
    assert all(f"The walrus of page {page} sleeps" in text for page in range(1, 31))
    assert left(library) == []


@on_both
def test_bad_input_leaves_nothing_behind(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DamagedDocument("no")

    job = library.take("a.txt", TEXT).job
    monkeypatch.setattr(ingesting, "cut", refuse)
    with pytest.raises(DamagedDocument):
        library.ingest(library.jobs.claim(job))
    assert left(library) == []
