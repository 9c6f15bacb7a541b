"""How a cross-encoder's scores order the hits."""

from collections.abc import Sequence
from dataclasses import replace

from library import CALIBRATION, Library

from pipeline.calibration import UNMEASURED
from pipeline.ports import EncodedQuery
from pipeline.retrieve import Retriever
from pipeline.types import Hit, Leg, Query


class Shortest:
    """Scores a passage by how short it is in tens of characters: 0 to 1, with ties."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def score(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[float]:
        self.seen.append(len(hits))
        return [1 / (1 + len(hit.chunk.text) // 10) for hit in hits]


def retriever(library: Library, reranker: Shortest, depth: int = 30) -> Retriever:
    calibration = replace(UNMEASURED, rerank_leads=True, rerank_depth=depth)
    return library.reading(calibration=calibration, reranker=lambda _: reranker)


async def test_its_score_orders_the_hits_and_the_fused_score_breaks_ties(library: Library) -> None:
    for n in range(8):
        ice = "ice " * n
        library.add(f"{n}.txt", f"The walrus number {n} sleeps on the {ice}.")
    found = (await retriever(library, Shortest()).search(Query("walrus on ice", top_k=8))).hits
    assert [hit.score for hit in found] == [hit.scores[Leg.RERANK] for hit in found]
    keys = [(-hit.score, -hit.scores[Leg.FUSED], hit.chunk.key) for hit in found]
    assert keys == sorted(keys)
    assert len({hit.score for hit in found}) < len(found) == 8
    by_fused = sorted(found, key=lambda hit: -hit.scores[Leg.FUSED])
    assert list(found) != by_fused


async def test_every_hit_that_is_shown_has_its_score(library: Library) -> None:
    for n in range(12):
        library.add(f"{n}.txt", f"The walrus number {n} sleeps on the ice.")
    reranker = Shortest()
    found = (await retriever(library, reranker, depth=3).search(Query("walrus", top_k=7))).hits
    assert reranker.seen == [7]
    assert all(Leg.RERANK in hit.scores for hit in found)
    (await retriever(library, reranker, depth=9).search(Query("walrus", top_k=2)))
    assert reranker.seen == [7, 9]


async def test_without_a_cross_encoder_the_scores_are_added(library: Library) -> None:
    for n in range(4):
        library.add(f"{n}.txt", f"The walrus number {n} sleeps on the ice.")
    assert not CALIBRATION.rerank_leads
    plain = library.reading(calibration=UNMEASURED, reranker=lambda _: Shortest())
    for hit in (await plain.search(Query("walrus"))).hits:
        assert hit.score != hit.scores[Leg.RERANK]
