"""What collections were searched for of late: a bounded sample, kept so that a new index can be judged by it.

A search only notes its words in memory; `write` puts them into the database later, and forgets what is over the
limits. What was noted since the last `write` is lost with the process.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow, RecentQueryRow
from pipeline.types import Query

LONGEST = 500
"""Code points of a query that is kept; what is longer is a pasted text rather than a question."""
_SWEPT_EVERY_S = 3600.0
_DAY_S = 86_400.0


class RecentQueries:
    """Keeps the last `kept` different queries of each collection for `days` days; none with `kept` 0.

    Threads may share it, and processes the database. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        kept: int,
        days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._kept = kept
        self._days = days
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: deque[tuple[str, str, float]] = deque(maxlen=max(kept, 1))
        self._swept: float | None = None

    def note(self, query: Query) -> None:
        """Remember a query of a whole collection; one of chosen documents says too little of the others."""
        text = query.text.strip()
        kept = 0 < len(text) <= LONGEST and "\0" not in text  # which PostgreSQL does not store
        if self._kept and query.documents is None and kept:
            with self._lock:
                self._noted.append((query.collection, text, self._clock()))

    def write(self) -> None:
        """Store what was noted, a short transaction a collection; once an hour forget what is too old."""
        with self._lock:
            noted = list(self._noted)
            self._noted.clear()
        for name in dict.fromkeys(collection for collection, _, _ in noted):
            self._store(name, {text: asked for owner, text, asked in noted if owner == name})
        now = self._clock()
        if self._swept is None or now - self._swept >= _SWEPT_EVERY_S:
            self._sweep(now)
            self._swept = now

    def _store(self, name: str, asked: dict[str, float]) -> None:
        with self._database.write() as session:
            # Locked, so that nothing is written for a collection that is being deleted.
            owner = session.exec(
                select(CollectionRow.id).where(CollectionRow.name == name).with_for_update()
            ).first()
            if owner is None:
                return
            for text, when in asked.items():
                digest = hashlib.sha256(text.encode()).hexdigest()
                row = session.get(RecentQueryRow, (owner, digest))
                row = row or RecentQueryRow(collection_id=owner, sha256=digest, text=text, asked=0)
                row.asked = max(row.asked, when)
                session.add(row)
            session.flush()
            _keep(session, owner, self._kept)

    def _sweep(self, now: float) -> None:
        """What the limits of today do not allow, whatever they were when it was written."""
        oldest = now - self._days * _DAY_S
        with self._database.write() as session:
            session.execute(delete(RecentQueryRow).where(col(RecentQueryRow.asked) < oldest))
            for owner in session.exec(select(RecentQueryRow.collection_id).distinct()).all():
                _keep(session, owner, self._kept)


def _keep(session: Session, owner: str, count: int) -> None:
    over = (
        select(RecentQueryRow.sha256)
        .where(RecentQueryRow.collection_id == owner)
        .order_by(col(RecentQueryRow.asked).desc(), col(RecentQueryRow.sha256))
        .offset(count)
    )
    gone = session.exec(over).all()
    session.execute(
        delete(RecentQueryRow).where(
            col(RecentQueryRow.collection_id) == owner, col(RecentQueryRow.sha256).in_(gone)
        )
    )


def recent_queries(database: Database, collection_id: str, most: int) -> Sequence[str]:
    """The last queries of a collection, the newest first."""
    with database.read() as session:
        return session.exec(
            select(RecentQueryRow.text)
            .where(RecentQueryRow.collection_id == collection_id)
            .order_by(col(RecentQueryRow.asked).desc(), col(RecentQueryRow.sha256))
            .limit(most)
        ).all()
