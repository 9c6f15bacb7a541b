"""Whether a new generation finds what the old one finds: the same questions asked of both before the switch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

from sqlmodel import col, select

from indexer.index.commit import Target
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow
from pipeline.evaluate import recall
from pipeline.retrieve import Retriever
from pipeline.sentences import sentences
from pipeline.types import DocumentId, Query

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
    """Mean recall of the known documents among the first ten hits, before and after; `overlap` is the mean share of the
    documents among the old ten that are among the new ten, too.
    """

    questions: int
    recall_before: float
    recall_after: float
    overlap: float

    @property
    def told(self) -> str:
        return (
            f"of {self.questions} questions the old index finds {self.recall_before:.1%} of the known documents among "
            f"the first {TOP} hits, the new one {self.recall_after:.1%}; they share {self.overlap:.1%}"
        )

    def worse(self, margin: float) -> bool:
        """Whether more is lost than the margin allows."""
        return self.recall_after < self.recall_before - margin


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
    old: list[float] = []
    new: list[float] = []
    shared: list[float] = []
    for done, each in enumerate(asked):
        say(done)
        query = Query(each.question, collection, top_k=TOP, rerank=False)
        one, other = await _documents(before, query), await _documents(after, query)
        old.append(recall(one, each.documents, TOP))
        new.append(recall(other, each.documents, TOP))
        shared.append(recall(other, set(one), TOP) if one else 1.0)
    if not asked:
        return Figures(0, 1.0, 1.0, 1.0)
    return Figures(len(asked), mean(old), mean(new), mean(shared))


async def _documents(retriever: Retriever, query: Query) -> list[DocumentId]:
    found = await retriever.search(query)
    return [hit.chunk.document for hit in found.hits]


def _first(text: str) -> str:
    span = next(iter(sentences(text)), None)
    return text[:_LONGEST] if span is None else text[span.start : span.end][:_LONGEST]
