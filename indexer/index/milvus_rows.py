"""The rows of a generation in Milvus put right from its chunks and raw vectors, and nothing else left there."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import update
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Target, forget, live_keys, raise_epoch
from indexer.index.milvus_leg import place_of, sparse_rows
from indexer.index.rewriting import dying
from indexer.index.words import chunks_after
from indexer.jobs.lease import Lease, check
from indexer.milvus.store import MilvusRows, MilvusStore
from indexer.milvus.vocabulary import Vocabulary
from indexer.segments.segment import Segment
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, PlaceRow, SegmentRow, known
from pipeline.errors import DamagedIndex
from pipeline.types import Keys

_NO_KEYS = np.zeros(0, np.int64)


def rewrite_rows(
    database: Database,
    folders: Folders,
    store: MilvusStore,
    target: Target,
    held: Lease,
) -> tuple[int, int]:
    """Put the live rows that Milvus lacks or has twice, delete all others, count the terms again.

    Returns how many were put and how many deleted. `held` is the generation's publish lease, with the merge lease
    beside it, so no segment changes; documents may be deleted meanwhile. A Milvus collection that is gone is filled
    under another name, so that no search sees half of it. Raises DamagedIndex where a segment cannot be read.
    """
    with database.read() as session:
        place = place_of(session, target.generation_id)
        segments = _opened(session, folders, target)
    if place is None:
        raise DamagedIndex("the collection left Milvus meanwhile")
    if not segments:
        raise DamagedIndex("the collection has no segment, so nothing can be put in Milvus")
    name = place.name
    try:
        stored = stored_in(store, name)
    except DamagedIndex:  # it is gone
        name = f"{store.name(target.collection_id, target.generation_id)}_{held.token}"
        store.make(name, segments[0].dim)
        stored = _NO_KEYS
    doubled = twice(stored)
    store.delete(name, doubled)
    there = np.setdiff1d(stored, doubled)
    words = Vocabulary(database, target.generation_id)
    counts: Counter[int] = Counter()
    counted, put = [_NO_KEYS], [_NO_KEYS]
    last = -1
    while chunks := chunks_after(database, target.generation_id, last):
        keys, found = np.array([key for key, _ in chunks], np.int64), [own for _, own in chunks]
        last = int(keys[-1])
        with database.write() as session:
            check(session, held)
            numbers = words.number(session, {term for own in found for term in own})
        sparse = sparse_rows(found, numbers, place.mean)
        new = keys[~np.isin(keys, there)]
        own_keys, vectors, scripts = _raw(segments, new)
        sparse_of = dict(zip(keys.tolist(), sparse, strict=True))
        store.put(
            name,
            MilvusRows(own_keys, scripts, vectors, [sparse_of[key] for key in own_keys.tolist()]),
        )
        put.append(own_keys)
        held_now = np.setdiff1d(keys, np.setdiff1d(new, own_keys))
        for key in held_now.tolist():
            counts.update(sparse_of[key].keys())
        counted.append(held_now)
    with database.read() as session:
        live = live_keys(session, target.generation_id)
        gone = dying(session, target.generation_id)
    alive = np.setdiff1d(live, np.asarray(gone, np.int64))
    died = np.setdiff1d(np.concatenate(counted), alive)
    for own_numbers in store.terms(name, died).values():
        counts.subtract(own_numbers)
    dead = np.setdiff1d(np.concatenate([there, *put]), alive)
    store.delete(name, dead)
    with database.write() as session:
        check(session, held)
        if locked(session, CollectionRow, target.collection_id) is not None:
            words.recount(session, counts)
            session.execute(
                update(PlaceRow)
                .where(col(PlaceRow.generation_id) == target.generation_id)
                .values(name=name)
            )
            forget(session, target, gone)
            raise_epoch(session, target)
    return sum(map(len, put)), len(dead)


def stored_in(store: MilvusStore, name: str) -> Keys:
    """All keys there, ascending, one that is there twice twice."""
    return np.concatenate([_NO_KEYS, *store.keys(name)])


def twice(stored: Keys) -> Keys:
    """Those of ascending keys that are there more than once."""
    return np.unique(stored[:-1][np.diff(stored) == 0])


def _opened(session: Session, folders: Folders, target: Target) -> list[Segment]:
    number = target.generation_id
    ids = session.exec(
        select(SegmentRow.id).where(
            SegmentRow.generation_id == number, col(SegmentRow.published).is_(True)
        )
    ).all()
    return [
        Segment.open(
            folders.segment(target.collection_id, number, known(each)),
            fingerprint=target.fingerprint,
        )
        for each in ids
    ]


def _raw(
    segments: Sequence[Segment], keys: Keys
) -> tuple[Keys, NDArray[np.float16], NDArray[np.uint8]]:
    """Those of the keys that some segment holds, ascending, with their vectors and scripts."""
    rows_of = [segment.rows_of(keys) for segment in segments]
    pairs = list(zip(segments, rows_of, strict=True))
    found, first = np.unique(
        np.concatenate([segment.keys[rows] for segment, rows in pairs]), return_index=True
    )
    vectors = np.concatenate([segment.vectors[rows] for segment, rows in pairs])
    scripts = np.concatenate([segment.scripts[rows] for segment, rows in pairs])
    return found, vectors[first], scripts[first]
