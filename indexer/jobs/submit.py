"""The row of a job that reads no file."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select

from indexer.jobs.claims import bounded
from indexer.jobs.kinds import RULES
from indexer.sql.tables import CollectionRow, JobRow
from pipeline.errors import InvalidInput
from pipeline.types import JobId, JobKind, JobStatus

WITHOUT_HANDLER = frozenset({JobKind.SFT})
"""Kinds that no worker of this version runs: none is taken, and one that another version left waits for ever."""
_MOST_PAYLOAD = 2**20
_OPEN = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)


def add_job(
    session: Session,
    kind: JobKind,
    owner: CollectionRow | None,
    payload: Mapping[str, Any],
    now: float,
    *,
    priority: int | None = None,
    about: str | None = None,
    detached: bool = False,
    alone: bool = False,
) -> JobId:
    """A queued job of a locked collection, or of none; `Jobs.submit` says what the options are."""
    assert kind is not JobKind.INGEST
    if kind in WITHOUT_HANDLER:
        raise InvalidInput(
            f"jobs of the kind {kind.value} are not run by this version: update the program, or ask for another kind"
        )
    given = bounded(payload, _MOST_PAYLOAD, "the payload of a job")
    owner_id = owner.id if owner is not None and not detached else ""
    name = owner.name if owner is not None else ""
    if alone:
        same = session.exec(
            select(JobRow).where(
                JobRow.kind == kind.value,
                JobRow.collection_id == owner_id,
                JobRow.collection == name,
                col(JobRow.status).in_(_OPEN),
            )
        ).all()
        for row in same:
            if (row.payload or {}) == given:
                return JobId(row.id)
    row = JobRow(
        kind=kind.value,
        collection_id=owner_id,
        collection=name,
        filename=about,
        payload=given,
        priority=RULES[kind].priority if priority is None else priority,
        created=now,
        updated=now,
    )
    session.add(row)
    session.flush()
    return JobId(row.id)
