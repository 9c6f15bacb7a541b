"""When a comparison of two indexes keeps the old one."""

from dataclasses import replace

from indexer.ingest.gate import Asked, Figures
from pipeline.types import Chunk, ChunkId, DocumentId, Hit, Key, Script

SAME = Figures(100, 1.0, 1.0, 1.0, 1.0, 1.0)


def hit(document: str, text: str) -> Hit:
    chunk = Chunk(
        *(ChunkId("1-1"), Key(1), DocumentId(document), "n", 1, text, 0, len(text), None, (), ""),
        Script.LATIN,
    )
    return Hit(chunk, 1.0)


def test_the_margin_itself_may_be_lost_and_no_more() -> None:
    for lost in (0.98, 0.97):
        allowed = lost == 0.98
        assert replace(SAME, after=lost).worse(0.02) is not allowed
        assert replace(SAME, dense_after=lost).worse(0.02) is not allowed
    assert not replace(SAME, before=0.5).worse(0.0)


def test_few_recent_queries_decide_nothing() -> None:
    assert not replace(SAME, queries=9, agreement=0.0).worse(0.02)
    assert replace(SAME, queries=10, agreement=0.5).worse(0.02)
    assert not replace(SAME, queries=10, agreement=0.5).worse(0.02, 0.5)


def test_a_passage_is_found_in_its_document_alone_however_it_is_spaced() -> None:
    asked = Asked("q", (DocumentId("a"),), passage="Notice  period: THREE months")
    assert asked.found([hit("a", "the notice period: three\nmonths.")]) == 1.0
    assert asked.found([hit("b", "the notice period: three months.")]) == 0.0
    assert asked.found([hit("a", "another clause")]) == 0.0
    assert Asked("q", (DocumentId("a"), DocumentId("b"))).found([hit("a", "x")]) == 0.5
