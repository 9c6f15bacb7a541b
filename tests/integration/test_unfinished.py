"""A job that begins again goes on where it was; what was kept is a help and never a harm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from library import Library
from sqlmodel import select

from indexer.ingest import ingest as ingesting
from indexer.ingest.embedding import BATCH
from indexer.ingest.unfinished import Unfinished, digest_of
from indexer.sql.tables import ChunkRow
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
    monkeypatch.setattr(ingesting, "_SLOW_S", 0.0)
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
