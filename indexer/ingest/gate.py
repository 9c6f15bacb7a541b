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
from pipeline.evaluate import contains, recall
from pipeline.retrieve import Retriever
from pipeline.sentences import sentences
from pipeline.types import DocumentId, Hit, Query, SearchMode

TOP = 10
SAMPLE = 100
"""Passages of a collection that are asked for when nobody gives questions."""
MARGIN = 0.02
"""What the new generation may find less of; 2 of 100 questions."""
QUERIES = 100
"""Recent queries that are asked when nobody gives questions."""
AGREEMENT = 0.6
"""The share of recent queries whose best hit before must be among the first ten hits afterwards."""
_ENOUGH = 10
"""Recent queries that decide; fewer are only told of."""
_ROUNDING = 1e-9
"""1 - 0.98 is more than 0.02 in floats."""
_LONGEST = 120
_AROUND = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the documents that answer it; with `passage`, words of theirs that do, and with `place`, the
    code points of their text.
    """

    question: str
    documents: tuple[DocumentId, ...]
    place: tuple[int, int] | None = None
    passage: str | None = None

    def answered(self, hit: Hit) -> bool:
        """Whether a hit is of the documents, and holds the passage where there is one."""
        return hit.chunk.document in self.documents and (
            self.passage is None or contains(hit.chunk.text, [self.passage])
        )

    def found(self, hits: Sequence[Hit]) -> float:
        """The share of the documents among the hits; of a passage or place 1.0 or 0.0, and the words of a place count
        elsewhere, too.
        """
        if self.passage is not None:
            return float(any(map(self.answered, hits)))
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
    mean share of the passages among the old ten hits that the new ten have, too, in whole or in part. `source` says
    whose questions these are: given with the job, stored with the collection, or made of its passages.

    Of recent queries nobody knows the answers, so the old index is the measure: `agreement` is the share of them whose
    best hit before is among the first ten afterwards, `queries_overlap` their overlap.
    """

    questions: int
    before: float
    after: float
    dense_before: float
    dense_after: float
    overlap: float
    source: str = "passages"
    queries: int = 0
    agreement: float = 1.0
    queries_overlap: float = 1.0

    @property
    def told(self) -> str:
        recent = (
            f"; of {self.queries} recent queries {self.agreement:.1%} find what they found first"
            if self.queries
            else ""
        )
        return (
            f"of {self.questions} questions the old index finds {self.before:.1%} of what is known to answer them "
            f"among the first {TOP} hits ({self.dense_before:.1%} by vectors alone), the new one {self.after:.1%} "
            f"({self.dense_after:.1%}); the hits share {self.overlap:.1%}{recent}"
        )

    def worse(self, margin: float, agreement: float = AGREEMENT) -> bool:
        """Whether more is lost than the margin allows, in one way of searching or the other, or recent queries agree
        too seldom.
        """
        lost = max(self.before - self.after, self.dense_before - self.dense_after)
        return lost > margin + _ROUNDING or (self.queries >= _ENOUGH and self.agreement < agreement)


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


async def agreeing(
    before: Retriever,
    after: Retriever,
    collection: str,
    queries: Sequence[str],
    say: Callable[[int], None],
) -> tuple[int, float, float]:
    """Ask both recent queries. Returns how many the old index finds something for, the agreement, and the overlap."""
    rows: list[tuple[float, float]] = []
    for done, text in enumerate(queries):
        say(done)
        query = Query(text, collection, top_k=TOP, rerank=False)
        old, new = [(await each.search(query)).hits for each in (before, after)]
        if old:
            rows.append((_shared(old[:1], new), _shared(old, new)))
    if not rows:
        return 0, 1.0, 1.0
    agreement, overlap = map(mean, zip(*rows, strict=True))
    return len(rows), agreement, overlap


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
