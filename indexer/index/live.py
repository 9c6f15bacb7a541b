"""The live chunks of a generation as arrays, and the step from one epoch to the next.

Chunks become live in the order of their keys, and a key that died is noted with its epoch: what is new is read alone.
Arrays are never changed: an older state stays what it was.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session, col, select

from indexer.sql.tables import ChunkRow, TombstoneRow
from pipeline.types import Keys

_AT_ONCE = 50_000


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
    """All live chunks of a generation."""
    empty = Live(np.zeros(0, np.int64), np.zeros(0, np.int32), {}, 0)
    return _with_born(session, generation_id, empty)


def advanced(session: Session, generation_id: int, live: Live, epoch: int) -> Live:
    """The state of the session, from the one of an `epoch` that is not before the generation's horizon."""
    died = session.exec(
        select(TombstoneRow.key).where(
            TombstoneRow.generation_id == generation_id, col(TombstoneRow.epoch) > epoch
        )
    ).all()
    if died:
        keep = ~np.isin(live.keys, np.asarray(died, np.int64))
        live = Live(live.keys[keep], live.codes[keep], live.documents, live.following)
    return _with_born(session, generation_id, live)


def _with_born(session: Session, generation_id: int, live: Live) -> Live:
    query = select(ChunkRow.key, ChunkRow.document_id).where(
        ChunkRow.generation_id == generation_id
    )
    if live.following:
        query = query.where(col(ChunkRow.key) >= live.following)
    # In no order: so all of them are read from the index on documents, and no text is touched.
    found = session.connection().execute(
        query,
        execution_options={"yield_per": _AT_ONCE},
    )
    documents = live.documents
    keys, codes = [live.keys], [live.codes]
    for rows in found.partitions():
        keys.append(np.fromiter((row[0] for row in rows), np.int64, len(rows)))
        codes.append(
            np.fromiter(
                (documents.setdefault(row[1], len(documents)) for row in rows), np.int32, len(rows)
            )
        )
    if len(keys) == 1:
        return live
    born, of = np.concatenate(keys[1:]), np.concatenate(codes[1:])
    order = np.argsort(born)
    together = np.concatenate([live.keys, born[order]])
    return Live(together, np.concatenate([live.codes, of[order]]), documents, int(together[-1]) + 1)
