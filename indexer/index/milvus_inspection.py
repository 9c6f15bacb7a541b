"""Whether Milvus holds the rows that the catalog tells of, each once and no other, and nothing of what is gone."""

import re
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
from sqlmodel import Session, col, select

from indexer.folders import Folders
from indexer.index.commit import Target, live_keys
from indexer.index.findings import Finding
from indexer.index.holding import alone_in
from indexer.index.milvus_leg import MilvusLeg, Place, set_up
from indexer.index.milvus_rows import rewrite_rows, stored_in, twice
from indexer.index.rewriting import dying
from indexer.jobs.lease import holding
from indexer.milvus.store import MilvusStore
from indexer.milvus.vocabulary import Vocabulary
from indexer.sql.database import Database
from indexer.sql.tables import (
    CollectionRow,
    GenerationRow,
    LeaseRow,
    PlaceRow,
    ReservationRow,
)
from pipeline.errors import Conflict, DamagedIndex, Unavailable

_PART = "milvus"


class InMilvus:
    """The rows of one generation in Milvus against its chunks. `collection` is its name."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        store: MilvusStore | None,
        target: Target,
        collection: str,
    ) -> None:
        self._database = database
        self._folders = folders
        self._store = store
        self._target = target
        self._collection = collection

    def findings(self, place: Place) -> Iterator[Finding]:
        try:
            yield from self._rows(set_up(self._store), place)
        except Unavailable as error:
            yield Finding(_PART, self._collection, str(error))

    def _rows(self, store: MilvusStore, place: Place) -> Iterator[Finding]:
        number = self._target.generation_id
        with self._database.read() as session:
            live = live_keys(session, number)
            gone = np.asarray(dying(session, number), np.int64)
            reserved = session.exec(
                select(ReservationRow).where(ReservationRow.generation_id == number)
            ).all()
        try:
            stored = stored_in(store, place.name)
        except DamagedIndex as error:
            yield self._finding(str(error))
            return
        unborn = [np.arange(row.first, row.first + row.count) for row in reserved]
        _, rows = Vocabulary(self._database, number).frequencies([])
        counted = len(np.intersect1d(stored, np.union1d(live, gone)))
        for count, what in (
            (len(np.setdiff1d(live, stored)), "live passages are not in Milvus"),
            (
                len(np.setdiff1d(stored, np.concatenate([live, gone, *unborn]))),
                "rows of Milvus belong to no passage",
            ),
            (len(twice(stored)), "passages stand in Milvus twice"),
        ):
            if count:
                yield self._finding(f"{count} {what}")
        if rows != counted:
            yield self._finding(f"the words of {rows} rows are counted, and {counted} are there")

    def _finding(self, says: str) -> Finding:
        return Finding(_PART, self._collection, says, self._mend)

    def _mend(self) -> str:
        store = set_up(self._store)
        with alone_in(self._database, self._target) as held:
            put, deleted = rewrite_rows(self._database, self._folders, store, self._target, held)
        return f"{put} rows were put from the raw vectors and {deleted} deleted"


def leftover_in_milvus(database: Database, store: MilvusStore | None) -> Iterator[Finding]:
    """The Milvus collections that no generation is searched in."""
    with database.read() as session:
        places = session.exec(select(PlaceRow)).all()
        generations = set(session.exec(select(GenerationRow.id)).all())
        collections = session.exec(select(CollectionRow.id, CollectionRow.name)).all()
    if store is None:
        return
    try:
        names = store.names()
    except Unavailable as error:
        yield Finding(_PART, "", str(error))
        return
    for place in places:
        if place.generation_id not in generations and place.name in names:
            yield Finding(
                _PART,
                "",
                f"{place.name} is of an index that was removed",
                lambda: f"dropped {', '.join(MilvusLeg(database, store).sweep())}",
            )
    yield from _unknown(
        database,
        store,
        names,
        {row.name for row in places},
        {row[0]: row[1] for row in collections},
    )


def _unknown(
    database: Database,
    store: MilvusStore,
    names: list[str],
    known: set[str],
    collections: dict[str, str],
) -> Iterator[Finding]:
    for name in names:
        if name in known:
            continue
        for collection_id, collection in collections.items():
            before = re.escape(store.name(collection_id, 0)[:-1])
            if own := re.fullmatch(rf"{before}(\d+)(_\d+)?", name):
                number = int(own[1])
                if not _busy(database, number):
                    target = Target(collection_id, number, "")
                    yield Finding(
                        _PART,
                        collection,
                        f"{name} is left of a move or a publish that stopped",
                        partial(_drop, database, store, target, name),
                    )
                break
        else:
            yield Finding(
                _PART,
                "",
                f"{name} is of no collection here: drop it in Milvus, or give each installation that shares "
                "this Milvus a ZHINAO_INDEX__MILVUS_PREFIX of its own",
            )


def _busy(database: Database, number: int) -> bool:
    """Whether a move or a publish of the generation may be making it at this moment."""
    with database.read() as session:
        rows = [session.get(LeaseRow, f"{work} {number}") for work in ("move", "publish")]
    return any(row is not None and row.owner and row.until > time.time() for row in rows)


def _drop(database: Database, store: MilvusStore, target: Target, name: str) -> str:
    with holding(database, f"move {target.generation_id}") as moving:
        if moving is None:
            raise Conflict("the collection is being moved at this moment")
        with alone_in(database, target):
            with database.read() as session:
                if _is_searched(session, name):
                    raise Conflict("the collection is searched there meanwhile")
            store.drop(name)
    return "dropped"


def _is_searched(session: Session, name: str) -> bool:
    return session.exec(select(PlaceRow).where(col(PlaceRow.name) == name)).first() is not None
