"""Which segment holds which keys, and how many of its rows are dead: in SQL, so that nobody opens segments to ask."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import delete, func, insert, update
from sqlmodel import Session, col, select

from indexer.sql.tables import ChunkRow, SegmentRow, SpanRow, TombstoneRow
from pipeline.types import Keys

Span = tuple[int, int]
"""First key and count."""


def runs(keys: Keys) -> list[Span]:
    """Sorted keys as stretches without a gap.

    >>> runs(np.array([3, 4, 5, 9]))
    [(3, 3), (9, 1)]
    """
    if not len(keys):
        return []
    begins = np.flatnonzero(np.diff(keys, prepend=keys[0] - 2) != 1)
    counts = np.diff(begins, append=len(keys))
    return list(zip(keys[begins].tolist(), counts.tolist(), strict=True))


def joined(spans: Sequence[Span]) -> list[Span]:
    """Sorted spans, those that touch made one.

    >>> joined([(0, 3), (3, 2), (7, 1)])
    [(0, 5), (7, 1)]
    """
    made: list[Span] = []
    for first, count in spans:
        if made and sum(made[-1]) == first:
            made[-1] = (made[-1][0], made[-1][1] + count)
        else:
            made.append((first, count))
    return made


def add_spans(session: Session, generation_id: int, segment_id: int, spans: Sequence[Span]) -> None:
    """Note what keys a segment holds."""
    rows = [
        {"generation_id": generation_id, "first": first, "count": count, "segment_id": segment_id}
        for first, count in spans
        if count
    ]
    if rows:
        session.execute(insert(SpanRow), rows)


def spans_of(session: Session, segment_ids: Sequence[int]) -> list[Span]:
    """The spans of some segments, sorted."""
    rows = session.execute(
        select(SpanRow.first, SpanRow.count)
        .where(col(SpanRow.segment_id).in_(segment_ids))
        .order_by(col(SpanRow.first))
    ).all()
    return [(first, count) for first, count in rows]


def take_over(session: Session, generation_id: int, old: Sequence[int], segment_id: int) -> None:
    """Give the spans of merged segments to the one that they became."""
    spans = joined(spans_of(session, old))
    session.execute(delete(SpanRow).where(col(SpanRow.segment_id).in_(old)))
    add_spans(session, generation_id, segment_id, spans)


def touched(session: Session, generation_id: int, keys: Keys) -> set[int]:
    """The segments that hold any of these sorted keys."""
    return set(_shares(session, generation_id, keys))


def note_deaths(session: Session, generation_id: int, keys: Keys, epoch: int) -> None:
    """Sorted keys died at an epoch: they leave the words index later, and their segments count them."""
    if not len(keys):
        return
    session.execute(
        insert(TombstoneRow),
        [{"generation_id": generation_id, "key": key, "epoch": epoch} for key in keys.tolist()],
    )
    for segment_id, count in sorted(_shares(session, generation_id, keys).items()):
        session.execute(
            update(SegmentRow)
            .where(col(SegmentRow.id) == segment_id)
            .values(dead=col(SegmentRow.dead) + count)
        )


def live_in(session: Session, generation_id: int, spans: Sequence[Span]) -> Keys:
    """The live keys of some spans, sorted."""
    found: list[Keys] = [np.zeros(0, np.int64)]
    for first, count in joined(spans):
        keys = session.exec(
            select(ChunkRow.key).where(
                ChunkRow.generation_id == generation_id,
                col(ChunkRow.key).between(first, first + count - 1),
            )
        ).all()
        found.append(np.sort(np.asarray(keys, np.int64)))
    return np.concatenate(found)


def count_dead(session: Session, generation_id: int, segment_id: int, keys: Keys) -> None:
    """Spans and dead rows of a segment anew from its keys; the collection is locked, so that none dies meanwhile."""
    session.execute(delete(SpanRow).where(col(SpanRow.segment_id) == segment_id))
    spans = runs(keys)
    # A span that another segment's rows claim is drift that `inspect` tells of.
    for first, count in spans:
        session.execute(
            delete(SpanRow).where(
                col(SpanRow.generation_id) == generation_id,
                col(SpanRow.first).between(first, first + count - 1),
            )
        )
    add_spans(session, generation_id, segment_id, spans)
    dead = len(keys) - len(live_in(session, generation_id, spans))
    session.execute(
        update(SegmentRow).where(col(SegmentRow.id) == segment_id).values(dead=dead, rows=len(keys))
    )


def _shares(session: Session, generation_id: int, keys: Keys) -> dict[int, int]:
    """How many of the sorted keys each segment holds."""
    shares: dict[int, int] = {}
    for first, count in runs(keys):
        last = first + count - 1
        before = (
            select(func.max(SpanRow.first))
            .where(SpanRow.generation_id == generation_id, col(SpanRow.first) <= first)
            .scalar_subquery()
        )
        rows = session.execute(
            select(SpanRow.first, SpanRow.count, SpanRow.segment_id).where(
                SpanRow.generation_id == generation_id,
                col(SpanRow.first) >= func.coalesce(before, first),
                col(SpanRow.first) <= last,
            )
        ).all()
        for at, length, segment_id in rows:
            both = min(at + length - 1, last) - max(at, first) + 1
            if both > 0:
                shares[segment_id] = shares.get(segment_id, 0) + both
    return shares
