"""Whether a new generation finds what the old one finds: the same questions asked of both before the switch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from indexer.index.commit import Target
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, TextRow
from pipeline.evaluate import recall
from pipeline.retrieve import Retriever
from pipeline.sentences import sentences
from pipeline.types import DocumentId, Hit, Query, SearchMode

TOP = 10
SAMPLE = 100
"""Passages of a collection that are asked for when nobody gives questions."""
MARGIN = 0.02
"""What the new generation may find less of; 2 of 100 questions."""
_LONGEST = 120
_AROUND = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the documents that answer it; with `place`, the code points of their text that do."""

    question: str
    documents: tuple[DocumentId, ...]
    place: tuple[int, int] | None = None

    def found(self, hits: Sequence[Hit]) -> float:
        """The share of the documents among the hits; of a place 1.0 or 0.0, and its words elsewhere count, too."""
        if self.place is None:
            return recall([hit.chunk.document for hit in hits], self.documents, len(hits))
        start, end = self.place
        return float(
            any(
                (hit.chunk.document in self.documents and _meet(hit, start, end))
                or self.question in hit.chunk.text
                for hit in hits
            )
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """Mean recall of what is known to answer among the first ten hits, before and after: as collections are searched,
    and by vectors alone, since the words of a question would hide what an embedder does not find. `overlap` is the
    mean share of the passages among the old ten hits that the new ten have, too, in whole or in part.
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
            f"of {self.questions} questions the old index finds {self.before:.1%} of what is known to answer them "
            f"among the first {TOP} hits ({self.dense_before:.1%} by vectors alone), the new one {self.after:.1%} "
            f"({self.dense_after:.1%}); the hits share {self.overlap:.1%}"
        )

    def worse(self, margin: float) -> bool:
        """Whether more is lost than the margin allows, in one way of searching or the other."""
        lost = max(self.before - self.after, self.dense_before - self.dense_after)
        return lost > margin


def known_items(
    database: Database, before: Target, after: Target, count: int = SAMPLE
) -> list[Asked]:
    """Questions whose answer is known: a sentence of some passages' surroundings, and its place in the stored text.

    The same passages at every attempt, of versions that both generations have. A sentence shares its words with the
    passage that holds it, so both generations find nearly all; one that does not is broken.
    """
    other = aliased(ChunkRow)
    there = select(other.version_id).where(other.generation_id == after.generation_id)
    with database.read() as session:
        mine = ChunkRow.generation_id == before.generation_id
        keys = session.exec(
            select(ChunkRow.key).where(mine, col(ChunkRow.version_id).in_(there))
        ).all()
        chosen = random.Random(before.generation_id).sample(sorted(keys), min(count, len(keys)))  # noqa: S311
        rows = session.exec(select(ChunkRow).where(mine, col(ChunkRow.key).in_(chosen))).all()
        found = [_asked(session, row) for row in sorted(rows, key=lambda row: row.key)]
    return [each for each in found if each is not None]


def _asked(session: Session, row: ChunkRow) -> Asked | None:
    """The longest sentence that reaches into a chunk, be it cut there or not; None where there is no text."""
    first = max(row.start - _AROUND, 0)
    window = session.exec(
        select(func.substr(TextRow.text, first + 1, row.end + _AROUND - first)).where(
            TextRow.version_id == row.version_id
        )
    ).first()
    spans = [
        span
        for span in sentences(window or "")
        if first + span.start < row.end and row.start < first + span.end
    ]
    if window is None or not spans:
        return None
    longest = max(spans, key=lambda span: span.end - span.start)
    end = min(longest.end, longest.start + _LONGEST)
    question = window[longest.start : end]
    return Asked(question, (DocumentId(row.document_id),), (first + longest.start, first + end))


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
            (await retriever.search(query)).hits
            for query in (hybrid, dense)
            for retriever in (before, after)
        ]
        rows.append((*map(each.found, found), _shared(*found[:2])))
    if not rows:
        return Figures(0, 1.0, 1.0, 1.0, 1.0, 1.0)
    return Figures(len(rows), *map(mean, zip(*rows, strict=True)))


def _shared(old: Sequence[Hit], new: Sequence[Hit]) -> float:
    if not old:
        return 1.0
    return mean(
        any(
            each.chunk.document == hit.chunk.document
            and _meet(each, hit.chunk.start, hit.chunk.end)
            for each in new
        )
        for hit in old
    )


def _meet(hit: Hit, start: int, end: int) -> bool:
    return hit.chunk.start < end and start < hit.chunk.end
