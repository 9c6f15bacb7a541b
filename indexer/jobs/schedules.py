"""Jobs that begin by the clock: rows that the relay looks at, each due at a moment."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import col, select

from indexer.catalog.catalog import collection_row
from indexer.jobs.claims import bounded
from indexer.jobs.submit import add_job
from indexer.jobs.times import next_time, parse_when, parse_zone
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, ScheduleRow
from pipeline.errors import InvalidInput, NotFound
from pipeline.types import JobKind

SCHEDULED = (JobKind.WATCH, JobKind.EXPIRE, JobKind.REINDEX, JobKind.MERGE, JobKind.BACKUP)
"""The kinds that may be scheduled. A backup is of everything; the others are of a collection."""
_MOST_PAYLOAD = 2**14
_MOST_SCHEDULES = 1_000
_AFTER_FAILURE_S = 3600.0
_log = logging.getLogger("zhinao.schedules")


@dataclass(frozen=True, slots=True)
class Schedule:
    """`when` in a `zone`; `next` and `last` are seconds since 1970, `job` the last one that it began."""

    id: str
    kind: JobKind
    collection: str
    when: str
    zone: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    next: float = 0.0
    last: float | None = None
    job: str | None = None


class Schedules:
    """The schedule table. Every process may look at it: a row is locked while its job is begun."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        kind: JobKind,
        when: str,
        *,
        zone: str = "UTC",
        collection: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> Schedule:
        """A new schedule. Raises InvalidInput for a time, zone, kind or payload that makes none, NotFound."""
        if kind not in SCHEDULED:
            names = ", ".join(one.value for one in SCHEDULED)
            raise InvalidInput(
                f"jobs of the kind {kind.value} are not scheduled: use one of {names}"
            )
        if (collection is None) is not (kind is JobKind.BACKUP):
            raise InvalidInput("name the collection; only a backup is of everything and names none")
        due = next_time(parse_when(when), parse_zone(zone), self._clock())
        given = bounded(
            check_payload(kind, payload or {}), _MOST_PAYLOAD, "the payload of a schedule"
        )
        with self._database.write() as session:
            owner = collection_row(session, collection) if collection else None
            if len(session.exec(select(ScheduleRow.id)).all()) >= _MOST_SCHEDULES:
                raise InvalidInput(f"there are {_MOST_SCHEDULES} schedules already: remove some")
            row = ScheduleRow(
                kind=kind.value,
                collection_id=owner.id if owner else "",
                when=when,
                zone=zone,
                payload=given,
                next=due,
            )
            session.add(row)
            return _shown(row, owner.name if owner else "")

    def all(self) -> list[Schedule]:
        """Every schedule, the next one first."""
        with self._database.read() as session:
            rows = session.exec(select(ScheduleRow).order_by(col(ScheduleRow.next))).all()
            names = dict(session.execute(select(CollectionRow.id, CollectionRow.name)).all())
        gone = [row for row in rows if row.collection_id and row.collection_id not in names]
        return [_shown(row, names.get(row.collection_id, "")) for row in rows if row not in gone]

    def remove(self, schedule_id: str) -> None:
        """Raises NotFound."""
        with self._database.write() as session:
            row = locked(session, ScheduleRow, schedule_id)
            if row is None:
                raise NotFound(f'there is no schedule "{schedule_id}": see GET /schedules')
            session.delete(row)

    def begin_due(self) -> list[str]:
        """Queue a job for every schedule whose time has come. Returns the jobs.

        However many times were missed, one job makes up for them. One that is still open is not doubled. The schedule
        of a collection that is gone goes, too. One whose zone this machine does not know keeps no other waiting.
        """
        due = select(ScheduleRow.id).where(ScheduleRow.next <= self._clock())
        with self._database.read() as session:
            ids = session.exec(due.order_by(col(ScheduleRow.next))).all()
        begun: list[str] = []
        for schedule_id in ids:
            try:
                job = self._begin(schedule_id)
            except InvalidInput as error:
                _log.error("the schedule %s cannot begin its job: %s", schedule_id, error)
                self._postpone(schedule_id)
            else:
                begun += [job] if job is not None else []
        return begun

    def _begin(self, schedule_id: str) -> str | None:
        with self._database.write() as session:
            seen = session.get(ScheduleRow, schedule_id)
            owner_id = seen.collection_id if seen is not None else ""
            owner = locked(session, CollectionRow, owner_id) if owner_id else None
            row = locked(session, ScheduleRow, schedule_id)
            now = self._clock()
            if row is None or row.next > now:
                return None  # another process was quicker
            if row.collection_id and owner is None:
                session.delete(row)
                return None
            job = add_job(session, JobKind(row.kind), owner, row.payload or {}, now, alone=True)
            row.next = next_time(parse_when(row.when), parse_zone(row.zone), now)
            row.last, row.job_id = now, job
            session.add(row)
            return job

    def _postpone(self, schedule_id: str) -> None:
        with self._database.write() as session:
            row = locked(session, ScheduleRow, schedule_id)
            if row is not None:
                row.next = self._clock() + _AFTER_FAILURE_S
                session.add(row)


def check_payload(kind: JobKind, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a scheduled job is given. Raises InvalidInput that says what is missing."""
    if kind is JobKind.WATCH:
        if not isinstance(payload.get("folder"), str) or set(payload) != {"folder"}:
            raise InvalidInput(
                'watching needs {"folder": "/a/directory/on/the/server"} and no more'
            )
    elif kind is JobKind.EXPIRE:
        days = payload.get("days")
        if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < 36_525:
            raise InvalidInput('expiry needs {"days": N}: how old a document may become')
        if set(payload) != {"days"}:
            raise InvalidInput('expiry needs {"days": N} and no more')
    return payload


def _shown(row: ScheduleRow, collection: str) -> Schedule:
    return Schedule(
        row.id,
        JobKind(row.kind),
        collection,
        row.when,
        row.zone,
        row.payload or {},
        row.next,
        row.last,
        row.job_id,
    )
