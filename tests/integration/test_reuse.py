"""A new version embeds what is new in it, and its rows are those that embedding everything would give."""

import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from library import Library

from indexer.ingest import reuse
from models.embed import joined
from models.fakes import HashEmbedder
from pipeline.errors import DamagedIndex
from pipeline.quantise import dequantise, quantise
from pipeline.types import DocumentId, Embeddings, Passage

WORDS = ("kettle", "violin", "walrus", "teapot", "lantern", "anchor", "saddle", "compass")
SECTIONS = [
    f"# Part {word}\n\nThe {word} stands in room {n}. {f'It is {word} blue. ' * 9}"
    for n, word in enumerate(WORDS)
]
CHOSEN = st.lists(st.integers(0, len(SECTIONS) - 1), min_size=1, max_size=8, unique=True)


class CountingEmbedder(HashEmbedder):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.passages: list[Passage] = []

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        self.passages += passages
        return await super().embed_passages(passages)


@pytest.fixture
def counting(library: Library) -> CountingEmbedder:
    counting = CountingEmbedder()
    library.ingester._embedder = counting
    return counting


def live(library: Library, document: str) -> dict[int, Passage]:
    snapshot = library.snapshots.open("default")
    keys = snapshot.keys_of([DocumentId(document)]).tolist()
    return {int(chunk.key): Passage(chunk.context, chunk.text) for chunk in snapshot.chunks(keys)}


@given(first=CHOSEN, second=CHOSEN)
@settings(
    deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_only_new_passages_are_embedded_and_every_row_is_right(
    library: Library, counting: CountingEmbedder, first: list[int], second: list[int]
) -> None:
    assume(first != second)
    name = f"{uuid.uuid4().hex}.md"
    marked = [[f"{SECTIONS[i]} {name}" for i in chosen] for chosen in (first, second)]
    document = library.add(name, "\n\n".join(marked[0])).document
    before = set(live(library, document).values())
    assert sorted(map(str, counting.passages)) == sorted(map(str, before))
    counting.passages.clear()
    library.add(name, "\n\n".join(marked[1]))
    after = live(library, document)
    assert set(counting.passages) == set(after.values()) - before
    assert len(counting.passages) == len(set(counting.passages))
    counting.passages.clear()

    keys = np.asarray(sorted(after), dtype=np.int64)
    snapshot = library.snapshots.open("default")
    stored = snapshot.tokens.get(keys.tolist())
    for key, tokens in zip(keys.tolist(), stored, strict=True):
        words = counting._vectors(joined(after[key]))
        np.testing.assert_array_equal(dequantise(quantise(words)), tokens)
        own = words.mean(axis=0)
        score = snapshot.vectors.score(own / np.linalg.norm(own), np.array([key]))
        assert score[0] == pytest.approx(1, abs=2e-3)


def test_an_equal_passage_of_another_document_is_embedded_all_the_same(
    library: Library, counting: CountingEmbedder
) -> None:
    library.add("a.md", SECTIONS[0])
    counting.passages.clear()
    library.add("b.md", f"{SECTIONS[0]} More.")
    assert counting.passages


def test_a_segment_that_a_merge_takes_away_costs_an_embedding_and_no_error(
    library: Library, counting: CountingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add("a.md", SECTIONS[0])
    counting.passages.clear()

    class Gone:
        @staticmethod
        def open(*_: object, **__: object) -> None:
            raise DamagedIndex("the segment is gone")

    with monkeypatch.context() as patched:
        patched.setattr(reuse, "Segment", Gone)
        taken = library.take("a.md", f"{SECTIONS[0]}\n\n{SECTIONS[1]}")
        library.run(taken.job)
    assert len(counting.passages) == len(live(library, taken.document))


def test_nothing_is_taken_over_from_the_index_of_another_embedder(library: Library) -> None:
    """A re-index may switch between the look at the collection and this one: the upload goes on."""
    document = library.add("a.txt", "The walrus sleeps on the ice.").document
    place = (library.database, library.folders, library.catalog.collection_id("default"), document)
    assert reuse.embedded_before(*place, library.embedder.fingerprint)
    assert reuse.embedded_before(*place, HashEmbedder(dim=32).fingerprint) == {}
