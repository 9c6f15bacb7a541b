"""A collection is indexed anew while it is searched and added to: nothing fails, nothing is mixed, nothing is lost."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from library import Library

from indexer.index.generations import Generations, State
from indexer.index.publish import Publisher
from indexer.index.snapshot import Snapshots
from indexer.ingest.reindex import Reindexing, submit_reindex
from indexer.jobs.work import Superseded, Teller
from indexer.text.chunk import Chunking
from models.fakes import HashEmbedder
from models.sentence_scorer import TokenSentenceScorer
from pipeline.errors import Conflict
from pipeline.retrieve import Retriever, Space
from pipeline.types import Embeddings, JobStatus, Leg, Passage, Query

SIZES = Chunking(60, 120, 20)
BIRDS = ["heron", "walrus", "gannet", "puffin", "curlew", "dunlin", "plover", "avocet"]


def text_of(number: int) -> str:
    bird = BIRDS[number % len(BIRDS)]
    return f"Record {number} of the {bird}: seen at station s{number}. It stayed {number} days."


class Worse(HashEmbedder):
    """Knows no words: every passage has a direction of its own, which no query has."""

    @property
    def fingerprint(self) -> str:
        return "worse"

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        made = await super().embed_passages(passages)
        rng = np.random.default_rng(len(passages))
        vectors = rng.normal(size=made.vectors.shape).astype(np.float32)
        return replace(made, vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


class Changing:
    """A library whose processes also have a second embedder."""

    def __init__(
        self, library: Library, embedder: HashEmbedder, chunking: Chunking = SIZES
    ) -> None:
        self.library = library
        self.new = replace(library.space, embedder=embedder, scorer=TokenSentenceScorer(embedder))
        self.spaces = [self.new, library.space]
        self.snapshots = Snapshots(
            library.database,
            library.folders,
            fingerprint=library.embedder.fingerprint,
            also=[embedder.fingerprint],
        )
        self.retriever = Retriever(self.spaces, self.snapshots.open, library.pool)
        self.publisher = Publisher(library.database, library.folders)
        self.reindexing = Reindexing(
            library.database, library.folders, library.jobs, self.publisher, self.spaces, chunking
        )
        library.ingester._also = (embedder,)
        self.generations = Generations(library.database, library.folders)

    def states(self) -> dict[State, str]:
        found = self.generations.of(self.library.catalog.collection_id("default"))
        return {state: each.target.fingerprint for state, each in found.items()}

    def folders(self) -> set[str]:
        """The generations that lie on the disk."""
        folder = self.library.folders.collection(self.library.catalog.collection_id("default"))
        return {each.name for each in folder.iterdir() if each.name.isdigit()}

    def claim(self, **how: object):
        job = submit_reindex(self.library.jobs, "default", **how)
        claim = self.library.jobs.claim(job)
        assert claim is not None
        return claim

    def run(self, **how: object):
        claim = self.claim(**how)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(
                self.reindexing.run, claim, Teller(self.library.jobs, claim)
            ).result()

    def found(self, number: int) -> bool:
        query = Query(f"station s{number}", top_k=10)
        hits = asyncio.run(self.retriever.search(query)).hits
        return any(f"s{number}." in hit.chunk.text for hit in hits)


def filled(library: Library, count: int) -> None:
    for number in range(count):
        library.add(f"{number}.txt", text_of(number))


def test_another_embedder_takes_over_and_gives_back(library: Library) -> None:
    filled(library, 12)
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    result = both.run()
    assert result["chunks"] == 12
    assert result["compared"]["dense_after"] == 1.0
    assert both.states() == {State.PREVIOUS: "hash-64-", State.LIVE: "hash-48-new"}
    library.add("after.txt", text_of(90))
    assert all(map(both.found, [*range(12), 90]))
    assert both.snapshots.open("default").fingerprint == "hash-48-new"

    assert both.run(back=True)["embedder"] == "hash-64-"
    assert both.states() == {State.LIVE: "hash-64-", State.PREVIOUS: "hash-48-new"}
    assert all(map(both.found, [*range(12), 90]))
    library.add("later.txt", text_of(91))
    assert both.found(91)


def test_other_sizes_of_chunks_take_over_without_embedding_what_stays(library: Library) -> None:
    long = "\n\n".join(text_of(number) * 3 for number in range(20))
    library.add("long.txt", long)
    before = len(library.snapshots.open("default").live.keys)
    both = Changing(library, library.embedder, Chunking(30, 60, 10))
    assert both.run()["chunks"] > before
    assert all(map(both.found, range(20)))
    assert library.catalog.document(library.catalog.documents()[0][0].id).chunks > before


def test_a_worse_embedder_is_refused_and_nothing_stays_of_it(library: Library) -> None:
    filled(library, 30)
    both = Changing(library, Worse(dim=32))
    asked = Query("station s3", mode="dense")
    before = [hit.chunk.id for hit in asyncio.run(both.retriever.search(asked)).hits]
    with pytest.raises(Conflict, match="finds less: of 30 questions"):
        both.run()
    assert both.states() == {State.LIVE: "hash-64-"}
    assert len(both.folders()) == 1
    assert [hit.chunk.id for hit in asyncio.run(both.retriever.search(asked)).hits] == before
    assert both.run(force=True)["embedder"] == "worse"


def test_there_is_nothing_to_go_back_to_before(library: Library) -> None:
    filled(library, 1)
    with pytest.raises(Conflict, match="no index to go back to"):
        Changing(library, HashEmbedder(seed="new")).run(back=True)


def test_a_job_that_is_cancelled_leaves_nothing(library: Library) -> None:
    filled(library, 6)
    both = Changing(library, HashEmbedder(seed="new"))
    claim = both.claim()

    def say(stage: str, done: int = 0, total: int = 0) -> None:
        if done >= 3:
            library.control.cancel(claim.job)
        Teller(library.jobs, claim)(stage, done, total)

    with ThreadPoolExecutor(1) as pool, pytest.raises(Superseded):
        pool.submit(both.reindexing.run, claim, say).result()
    assert library.jobs.get(claim.job).status is JobStatus.CANCELLED
    assert both.states() == {State.LIVE: "hash-64-"}
    assert len(both.folders()) == 1
    assert all(map(both.found, range(6)))


class Killed(BaseException):
    """Stands for `kill -9`."""


def test_a_killed_job_goes_on_where_it_was(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(library, 6)
    new = HashEmbedder(seed="new")
    both = Changing(library, new)
    monkeypatch.setattr("indexer.ingest.reindex._CHUNKS_AT_ONCE", 2)
    embedded: list[Passage] = []
    embed = new.embed_passages

    async def counted(passages: Sequence[Passage]) -> Embeddings:
        if len(embedded) == 5:
            embedded.append(passages[0])
            raise Killed
        embedded.extend(passages)
        return await embed(passages)

    monkeypatch.setattr(new, "embed_passages", counted)
    claim = both.claim()
    with ThreadPoolExecutor(1) as pool, pytest.raises(Killed):
        pool.submit(both.reindexing.run, claim, Teller(library.jobs, claim)).result()
    assert both.found(5)
    library.clock.now += 20
    assert library.jobs.reap() == 1
    library.clock.now += 60
    again = library.jobs.claim(claim.job)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(both.reindexing.run, again, Teller(library.jobs, again)).result()
    assert len(embedded) <= 6 + 2
    assert all(map(both.found, range(6)))
    assert both.states()[State.LIVE] == "hash-64-new"


@contextmanager
def repeated(work) -> Iterator[list[Exception]]:
    """Call something in a thread, again and again, as long as the block runs; what it raises is kept."""
    over, problems = threading.Event(), []

    def again() -> None:
        count = 0
        while not over.is_set():
            try:
                work(count)
            except Exception as error:  # noqa: BLE001  (the test looks at what it was)
                problems.append(error)
                return
            count += 1

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield problems
    finally:
        over.set()
        thread.join()


def check_queries(both: Changing, spaces: dict[str, Space], count: int) -> None:
    """A search whose cosines are those of one space, by brute force over the chunks that it returns."""
    query = Query(f"station s{count % 20}", mode="dense", rerank=False)
    found = asyncio.run(both.retriever.search(query))
    space = spaces[found.snapshot.fingerprint]
    asked = asyncio.run(space.embedder.embed_queries([query.text])).vectors[0]
    generations = {hit.chunk.id.split("-")[0] for hit in found.hits}
    assert len(generations) == 1
    keys = np.asarray([hit.chunk.key for hit in found.hits], np.int64)
    stored = found.snapshot.vectors.score(asked, keys)
    passages = [Passage(hit.chunk.context, hit.chunk.text) for hit in found.hits]
    own = asyncio.run(space.embedder.embed_passages(passages)).vectors @ asked
    assert np.allclose(stored, own, atol=2e-3)
    assert any(hit.scores[Leg.DENSE] for hit in found.hits)


def under_load(library: Library, count: int) -> None:
    filled(library, count)
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    spaces = {space.embedder.fingerprint: space for space in both.spaces}
    added: list[int] = []

    def upload(number: int) -> None:
        library.add(f"new{number}.txt", text_of(1000 + number))
        added.append(1000 + number)

    def delete(number: int) -> None:
        taken = library.add(f"gone{number}.txt", f"The okapi number {number} walks.")
        library.catalog.delete_document(taken.document)

    with (
        repeated(lambda number: check_queries(both, spaces, number)) as asking,
        repeated(upload) as uploading,
        repeated(delete) as deleting,
    ):
        assert both.run()["embedder"] == "hash-48-new"
        assert both.run(back=True)["embedder"] == "hash-64-"
        assert both.run()["embedder"] == "hash-48-new"
    assert (asking, uploading, deleting) == ([], [], [])
    assert added
    lost = [number for number in [*range(count), *added] if not both.found(number)]
    assert lost == []
    live = both.snapshots.open("default")
    texts = [chunk.text for chunk in live.chunks(live.live.keys.tolist())]
    assert len(texts) == len(set(texts)) == count + len(added)
    assert not any("okapi" in text for text in texts)
    assert len(both.folders()) == len(both.states()) == 2


def test_searches_and_uploads_go_on_while_the_index_is_changed(library: Library) -> None:
    under_load(library, 150)
