"""The live chunks of a generation as arrays, and the step from one epoch to the next.

Chunks become live in the order of their keys, and a key that died is noted with its epoch: what is new is read alone.
Arrays are never changed: an older state stays what it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Executable, Text, cast
from sqlmodel import Session, col, func, select

from indexer.segments.live import find
from indexer.sql.tables import ChunkRow, TombstoneRow
from pipeline.types import Keys

_AT_ONCE = 50_000
_NO_KEYS, _NO_CODES = np.zeros(0, np.int64), np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """`keys` (n,) sorted; `codes` (n,) int32, each key's document as its place in `documents`.

    `documents` is shared with later states and only ever gains ids; `following` is the first key not read yet.
    """

    keys: Keys
    codes: NDArray[np.int32]
    documents: dict[str, int]
    following: int

    def of(self, documents: set[str]) -> tuple[Keys, set[str]]:
        """The keys of these documents, sorted, and the documents that have none."""
        named = {self.documents[each]: each for each in documents if each in self.documents}
        mine = np.isin(self.codes, np.fromiter(named, np.int32, len(named)))
        there = {named[code] for code in np.unique(self.codes[mine]).tolist()}
        return self.keys[mine], documents - there


def read_live(session: Session, generation_id: int) -> Live:
    """All live chunks of a generation.

    The keys of a document come in one row, as text: a row a chunk would take six times as long.
    """
    keys = func.aggregate_strings(cast(ChunkRow.key, Text), ",")
    # The index on documents answers it, so no text of a chunk is touched.
    query = (
        select(ChunkRow.document_id, keys)
        .where(ChunkRow.generation_id == generation_id)
        .group_by(ChunkRow.document_id)
    )
    read, documents = _Columns(), dict[str, int]()
    for rows in _partitions(session, query):
        ids, texts = zip(*rows, strict=True)
        codes = np.arange(len(documents), len(documents) + len(ids), dtype=np.int32)
        documents.update(zip(ids, codes.tolist(), strict=True))
        counts = [text.count(",") + 1 for text in texts]
        read.add(np.fromstring(",".join(texts), np.int64, sep=","), np.repeat(codes, counts))
    return read.after(Live(_NO_KEYS, _NO_CODES, documents, 0))


def advanced(session: Session, generation_id: int, live: Live, epoch: int) -> tuple[Live, Keys]:
    """The state of the session, from the one of an `epoch` that is not before the generation's horizon; and the keys
    of that one, sorted, that died since.
    """
    dead = session.exec(
        select(TombstoneRow.key).where(
            TombstoneRow.generation_id == generation_id, col(TombstoneRow.epoch) > epoch
        )
    ).all()
    died = np.sort(np.array(dead, np.int64))
    places, there = find(live.keys, died)  # one that was born since, too, was never live here
    died, places = died[there], places[there]
    if len(died):
        keys, codes = np.delete(live.keys, places), np.delete(live.codes, places)
        live = Live(keys, codes, live.documents, live.following)
    born, key = _Columns(), col(ChunkRow.key)
    query = select(key, ChunkRow.document_id).where(
        ChunkRow.generation_id == generation_id, key >= live.following
    )
    documents = live.documents
    for rows in _partitions(session, query):
        numbers = [documents.setdefault(row[1], len(documents)) for row in rows]
        born.add(np.array([row[0] for row in rows], np.int64), np.array(numbers, np.int32))
    return born.after(live), died


class _Columns:
    """Keys and codes that were read, in parts."""

    def __init__(self) -> None:
        self._keys: list[Keys] = []
        self._codes: list[NDArray[np.int32]] = []

    def add(self, keys: Keys, codes: NDArray[np.int32]) -> None:
        self._keys.append(keys)
        self._codes.append(codes)

    def after(self, live: Live) -> Live:
        """The state with these keys, which all follow those of `live`."""
        keys = np.concatenate([_NO_KEYS, *self._keys])
        if not len(keys):
            return live
        codes = np.concatenate([_NO_CODES, *self._codes])
        order = np.argsort(keys, kind="stable")
        together = np.concatenate([live.keys, keys[order]])
        of = np.concatenate([live.codes, codes[order]])
        return Live(together, of, live.documents, int(together[-1]) + 1)


def _partitions(session: Session, query: Executable) -> Iterator[Sequence[Any]]:
    found = session.connection().execute(query, execution_options={"yield_per": _AT_ONCE})
    return found.partitions()
