"""Segments are merged behind the publisher."""

from library import Library
from sqlmodel import select

from indexer.sql.tables import ChunkRow, SegmentRow
from pipeline.types import Query


async def test_many_uploads_leave_few_segments_and_lose_nothing(library: Library) -> None:
    words = [f"subject{n}" for n in range(40)]
    for word in words:
        library.add(f"{word}.txt", f"This note speaks of {word} only.")
    with library.database.read() as session:
        assert len(session.exec(select(SegmentRow)).all()) <= 14
        assert len(session.exec(select(ChunkRow)).all()) == 40
    for word in words[::7]:
        hits = (await library.retriever.search(Query(word, top_k=1))).hits
        assert hits[0].chunk.name == f"{word}.txt"
