"""A collection is indexed anew while it is searched and added to: nothing fails, nothing is mixed, nothing is lost."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from between import before_write
from databases import on_both
from library import Library
from reindexing import Changing, filled, filled_with_long, text_of, under_load
from sqlmodel import delete, select

from indexer.catalog.questions import Wanted, questions_of, store_questions
from indexer.catalog.recent import RecentQueries
from indexer.index.generations import State
from indexer.index.leftovers import leftover_rows
from indexer.ingest.asking import submit_reindex
from indexer.ingest.evaluating import Evaluating, submit_evaluate
from indexer.ingest.gate import known_items
from indexer.jobs.claims import Claim, FileClaim
from indexer.jobs.work import Superseded, Teller
from indexer.sql.tables import ChunkRow, TextRow, VersionRow
from indexer.text.chunk import Chunking
from models.fakes import HashEmbedder
from pipeline.errors import Conflict, InvalidInput
from pipeline.retrieve import Retriever
from pipeline.types import Embeddings, JobStatus, Passage, Query


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
    filled_with_long(library, 50)
    both = Changing(library, Worse(dim=32))
    asked = Query("station s3", mode="dense")
    before = [hit.chunk.id for hit in asyncio.run(both.retriever.search(asked)).hits]
    with pytest.raises(Conflict, match="finds less: of 50 questions"):
        both.run()
    assert both.states() == {State.LIVE: "hash-64-"}
    assert len(both.folders()) == 1
    assert [hit.chunk.id for hit in asyncio.run(both.retriever.search(asked)).hits] == before
    assert both.run(force=True)["embedder"] == "worse"


def searched(both: Changing, count: int) -> None:
    """So many different searches, by a retriever whose queries are remembered."""
    recent = RecentQueries(both.library.database, kept=100, days=1)
    retriever = Retriever(both.spaces, both.snapshots.open, both.library.pool, recent.note)
    for number in range(count):
        found = asyncio.run(
            retriever.search(Query(f"birds of station {number % 3} that stayed {number} days"))
        )
        assert found.hits
    recent.write()


def test_recent_queries_find_what_they_found_or_the_old_index_goes_on(library: Library) -> None:
    filled_with_long(library, 50)
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    searched(both, 12)
    compared = both.run()["compared"]
    assert (compared["source"], compared["questions"], compared["queries"]) == ("passages", 50, 12)
    assert compared["agreement"] > 0.9
    assert 0.0 < compared["queries_overlap"] < 1.0
    both.run(back=True)
    # Whatever is lost of known passages may be lost here, so that the queries alone decide.
    worse = Changing(library, Worse(dim=32))
    with pytest.raises(Conflict, match="of 12 recent queries"):
        worse.run(margin=1.0, agreement=1.0)
    assert worse.run(margin=1.0, agreement=0.0)["compared"]["agreement"] < 1.0


def test_a_collection_that_has_questions_is_compared_by_them(library: Library) -> None:
    filled(library, 12)
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    searched(both, 12)
    names = [f"{number}.txt" for number in range(5)]
    store_questions(
        library.database,
        "default",
        [
            Wanted(f"station s{each[:-4]}", names=(each,), passage=f"station s{each[:-4]}")
            for each in names
        ],
    )
    compared = both.run()["compared"]
    assert (compared["source"], compared["questions"], compared["queries"]) == ("stored", 5, 0)
    assert compared["before"] == compared["after"] == 1.0


def evaluated(library: Library, claim: Claim) -> dict:
    evaluating = Evaluating(library.database, lambda: library.retriever)
    return dict(evaluating.run(claim, Teller(library.jobs, claim)))


def test_an_evaluation_counts_what_the_first_hits_answer_and_in_which_place(
    library: Library,
) -> None:
    filled(library, 12)
    with pytest.raises(Conflict, match="no questions"):
        submit_evaluate(library.database, library.jobs, "default")
    right = [Wanted(f"station s{n}", names=(f"{n}.txt",), passage=f"S{n}. it") for n in range(3)]
    wrong = Wanted("station s3", names=("4.txt",), passage="what it does not say")
    store_questions(library.database, "default", [*right, wrong])
    job = submit_evaluate(library.database, library.jobs, "default", top_k=3)
    assert submit_evaluate(library.database, library.jobs, "default", top_k=3) == job
    result = evaluated(library, library.jobs.claim(job))
    assert (result["questions"], result["top_k"]) == (4, 3)
    assert (result["missed"], result["missed_questions"]) == (1, ["station s3"])
    assert result["modes"]["words"] == {"recall": 0.75, "mrr": 0.75}
    assert set(result["modes"]) == {"hybrid", "dense", "words"}


def test_questions_go_with_the_documents_that_answer_them(library: Library) -> None:
    filled(library, 3)
    ids = {view.name: view.id for view in library.catalog.documents()[0]}
    stored = [
        Wanted("of one", documents=(ids["0.txt"],)),
        Wanted("of two", documents=(ids["0.txt"],), names=("1.txt",)),
        Wanted("of another", names=("2.txt",)),
    ]
    store_questions(library.database, "default", stored)
    with pytest.raises(InvalidInput, match=r'question 1, "x", expects "9\.txt"'):
        store_questions(library.database, "default", [Wanted("x", names=("9.txt",))])
    with pytest.raises(InvalidInput, match="names no document"):
        store_questions(library.database, "default", [Wanted("x")])
    assert library.catalog.delete_document(ids["0.txt"])["questions"] == 1
    left = questions_of(library.database, "default")
    assert [(each.text, *each.documents.values()) for each in left] == [
        ("of two", "1.txt"),
        ("of another", "2.txt"),
    ]
    store_questions(library.database, "default", [Wanted("new", names=("1.txt",))])
    assert [each.text for each in questions_of(library.database, "default")] == ["new"]
    library.catalog.delete_collection("default")
    assert list(leftover_rows(library.database)) == []


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

    with pytest.raises(Superseded):
        both.work(claim, say)
    assert library.jobs.get(claim.job).status is JobStatus.CANCELLED
    assert both.states() == {State.LIVE: "hash-64-"}
    assert len(both.folders()) == 1
    assert all(map(both.found, range(6)))


def claimed_again(library: Library, claim: Claim) -> Claim:
    """The job in the hands of a worker that took the claim's for dead."""
    library.clock.now += 20
    assert library.jobs.reap() == 1
    library.clock.now += 60
    successor = library.jobs.claim(claim.job)
    assert successor is not None
    return successor


@on_both
def test_a_worker_that_lost_its_job_does_not_drop_what_the_next_one_builds_on(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled_with_long(library, 50)
    both = Changing(library, Worse(dim=32))
    claim = both.claim()
    compare = both.reindexing._comparing.figures
    successors: list[Claim] = []

    def and_freeze(*given: object) -> object:
        figures = compare(*given)
        successors.append(claimed_again(library, claim))
        return figures

    monkeypatch.setattr(both.reindexing._comparing, "figures", and_freeze)
    with pytest.raises(Superseded):
        both.work(claim)
    assert both.states() == {State.LIVE: "hash-64-", State.BUILDING: "worse"}
    monkeypatch.undo()
    with pytest.raises(Conflict, match="finds less"):
        both.work(successors[0])
    assert both.states() == {State.LIVE: "hash-64-"}


@on_both
def test_what_was_built_stays_for_a_job_that_is_retried_as_its_cancelled_worker_tidies_up(
    library: Library,
) -> None:
    filled(library, 3)
    both = Changing(library, HashEmbedder(seed="new"))
    claim = both.claim()

    with ExitStack() as tidying:

        def say(stage: str, done: int = 0, total: int = 0) -> None:
            if stage == "compare":
                library.control.cancel(claim.job)
                retry = partial(library.control.retry, claim.job)
                came.append(tidying.enter_context(before_write(library.database, retry)))
                raise Superseded

        came: list[list[int]] = []
        with pytest.raises(Superseded):
            both.work(claim, say)
    assert came[0]
    assert set(both.states()) == {State.LIVE, State.BUILDING}
    both.work(library.jobs.claim(claim.job))
    assert both.states()[State.LIVE] == "hash-64-new"


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
    with pytest.raises(Killed):
        both.work(claim)
    assert both.found(5)
    library.clock.now += 20
    assert library.jobs.reap() == 1
    library.clock.now += 60
    both.work(library.jobs.claim(claim.job))
    assert len(embedded) <= 6 + 2
    assert all(map(both.found, range(6)))
    assert both.states()[State.LIVE] == "hash-64-new"


def test_what_a_job_built_that_was_cancelled_while_it_waited_is_swept(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(library, 3)
    both = Changing(library, HashEmbedder(seed="new"))
    claim = both.claim()
    monkeypatch.setattr(both.publisher, "fill", _killed)
    with pytest.raises(Killed):
        both.work(claim)
    assert set(both.states()) == {State.LIVE, State.BUILDING}
    assert both.generations.sweep() == 0  # the job may go on
    library.control.cancel(claim.job)
    assert both.generations.sweep() == 1
    assert set(both.states()) == {State.LIVE}
    assert len(both.folders()) == 1
    with library.database.read() as session:
        assert set(session.exec(select(ChunkRow.generation_id)).all()) == {1}


def _killed(*_: object, **__: object) -> None:
    raise Killed


def test_a_file_that_is_embedded_while_the_index_is_switched_goes_to_the_new_one(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(library, 2)
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    taken = library.take("late.txt", text_of(70))
    claim = library.jobs.claim(taken.job)
    embed, switched = library.embedder.embed_passages, []

    async def and_switch(passages: Sequence[Passage]) -> Embeddings:
        made = await embed(passages)
        if not switched:
            switched.append(await asyncio.to_thread(both.run, force=True))
        return made

    monkeypatch.setattr(library.embedder, "embed_passages", and_switch)
    library.ingest(claim)
    assert switched[0]["embedder"] == "hash-48-new"
    assert library.jobs.get(claim.job).status is JobStatus.DONE
    assert library.jobs.get(claim.job).attempts == 1
    assert both.found(70)


def test_a_file_that_waits_to_be_published_during_the_switch_is_read_anew_at_no_cost(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(library, 2)
    both = Changing(library, HashEmbedder(dim=48, seed="new"))
    taken = library.take("late.txt", text_of(70))
    claim = library.jobs.claim(taken.job)
    assert isinstance(claim, FileClaim)
    publish = library.ingester._publisher.publish

    def switch_before(claim: FileClaim, **how: object) -> None:
        monkeypatch.undo()
        both.run(force=True)
        publish(claim, **how)

    monkeypatch.setattr(library.ingester._publisher, "publish", switch_before)
    library.ingest(claim)
    job = library.jobs.get(claim.job)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    with library.database.read() as session:
        assert session.get(VersionRow, claim.version_id).status == "pending"
    library.run(claim.job)
    assert library.jobs.get(claim.job).status is JobStatus.DONE
    assert both.found(70)


def test_two_ways_at_once_are_refused(library: Library) -> None:
    filled(library, 1)
    job = submit_reindex(library.database, "default")
    assert submit_reindex(library.database, "default") == job
    with pytest.raises(Conflict, match=f"by the job {job}"):
        submit_reindex(library.database, "default", back=True)
    assert len(library.jobs.page(status="queued")[0]) == 1


def test_a_text_that_is_lost_is_told_instead_of_a_switch(library: Library) -> None:
    filled(library, 3)
    both = Changing(library, HashEmbedder(seed="new"))
    with library.database.write() as session:
        session.exec(delete(TextRow).where(TextRow.version_id == 2))
    with pytest.raises(Conflict, match=r'the text of "1\.txt" is not stored'):
        both.run()
    assert both.states()[State.LIVE] == "hash-64-"


def test_what_is_indexed_as_wanted_is_left_alone(library: Library) -> None:
    filled(library, 3)
    both = Changing(library, HashEmbedder(seed="new"))
    assert both.run()["switched"] is True
    before = both.folders()
    assert both.run() == {**both.run(), "switched": False, "chunks": 3}
    assert both.folders() == before


def test_known_passages_are_sentences_at_their_places_in_the_stored_text(library: Library) -> None:
    library.add("long.txt", "\n\n".join(text_of(number) * 3 for number in range(20)))
    both = Changing(library, library.embedder, Chunking(30, 60, 10))
    both.run(force=True)
    found = both.generations.of(library.catalog.collection_id("default"))
    asked = known_items(library.database, found[State.PREVIOUS].target, found[State.LIVE].target)
    assert len(asked) >= 10
    with library.database.read() as session:
        text = session.exec(select(TextRow)).one().text
    for each in asked:
        start, end = each.place
        assert text[start:end] == each.question
    hits = asyncio.run(both.retriever.search(Query(asked[0].question, top_k=10))).hits
    assert asked[0].found(hits) == 1.0
    elsewhere = [hit for hit in hits if asked[0].question not in hit.chunk.text]
    assert replace(asked[0], place=(10**6, 10**6 + 1)).found(elsewhere) == 0.0


def test_searches_and_uploads_go_on_while_the_index_is_changed(library: Library) -> None:
    under_load(library, 150)
