"""Whether a new generation finds what the old one finds: the same questions asked of both before the switch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from sqlmodel import col, select

from indexer.index.commit import Target
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow
from pipeline.evaluate import recall
from pipeline.retrieve import Retriever
from pipeline.sentences import sentences
from pipeline.types import DocumentId, Query, SearchMode

TOP = 10
SAMPLE = 100
"""Passages of a collection that are asked for when nobody gives questions."""
MARGIN = 0.02
"""What the new generation may find less of; 2 of 100 questions."""
_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the documents that answer it."""

    question: str
    documents: tuple[DocumentId, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Mean recall of the known documents among the first ten hits, before and after: as collections are searched, and by
    vectors alone, since the words of a question would hide what an embedder does not find. `overlap` is the mean share
    of the documents among the old ten hits that are among the new ten, too.
    """

    questions: int
    before: float
    after: float
    dense_before: float
    dense_after: float
    overlap: float

    @property
    def told(self) -> str:
        return (
            f"of {self.questions} questions the old index finds {self.before:.1%} of the known documents among the "
            f"first {TOP} hits ({self.dense_before:.1%} by vectors alone), the new one {self.after:.1%} "
            f"({self.dense_after:.1%}); the hits share {self.overlap:.1%}"
        )

    def worse(self, margin: float) -> bool:
        """Whether more is lost than the margin allows, in one way of searching or the other."""
        lost = max(self.before - self.after, self.dense_before - self.dense_after)
        return lost > margin


def known_items(database: Database, target: Target, count: int = SAMPLE) -> list[Asked]:
    """Questions whose answer is known: the first sentence of some passages, and the document that it stands in.

    The same passages at every attempt. They share their words with the passage, so both generations find nearly all;
    one that does not is broken.
    """
    with database.read() as session:
        mine = ChunkRow.generation_id == target.generation_id
        keys = session.exec(select(ChunkRow.key).where(mine)).all()
        chosen = random.Random(target.generation_id).sample(sorted(keys), min(count, len(keys)))  # noqa: S311
        rows = session.exec(select(ChunkRow).where(mine, col(ChunkRow.key).in_(chosen))).all()
        return [
            Asked(_first(row.text), (DocumentId(row.document_id),))
            for row in sorted(rows, key=lambda row: row.key)
        ]


async def compared(
    before: Retriever,
    after: Retriever,
    collection: str,
    asked: Sequence[Asked],
    say: Callable[[int], None],
) -> Figures:
    """Ask both; `say` hears how many questions are done."""
    rows: list[tuple[float, ...]] = []
    for done, each in enumerate(asked):
        say(done)
        hybrid = Query(each.question, collection, top_k=TOP, rerank=False)
        dense = replace(hybrid, mode=SearchMode.DENSE)
        found = [
            await _documents(retriever, query)
            for query in (hybrid, dense)
            for retriever in (before, after)
        ]
        old, new = found[:2]
        overlap = recall(new, set(old), TOP) if old else 1.0
        rows.append((*(recall(one, each.documents, TOP) for one in found), overlap))
    if not rows:
        return Figures(0, 1.0, 1.0, 1.0, 1.0, 1.0)
    return Figures(len(rows), *map(mean, zip(*rows, strict=True)))


async def _documents(retriever: Retriever, query: Query) -> list[DocumentId]:
    found = await retriever.search(query)
    return [hit.chunk.document for hit in found.hits]


def _first(text: str) -> str:
    span = next(iter(sentences(text)), None)
    return text[:_LONGEST] if span is None else text[span.start : span.end][:_LONGEST]
