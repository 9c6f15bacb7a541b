"""A job in a worker's hands, and what becomes of its locked row.

A worker claims a job for a lease's length and renews it; `token` rises with every claim, so that a worker that comes
back after its lease ran out can no longer write.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from indexer.jobs.kinds import RULES, pause_s
from indexer.sql.locks import locked
from indexer.sql.tables import JobRow, VersionRow
from pipeline.errors import InvalidInput
from pipeline.types import JobId, JobKind, JobStatus

LEASE_S = 15.0
_MOST_RESULT = 2**16
_MOST_TRACE = 20_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in a worker's hands. `token` must still be the row's when the worker writes.

    `collection_id` is "" for work of no collection. `reached` is the stage and how much of it an earlier attempt had
    done.
    """

    job: JobId
    token: int
    kind: JobKind
    collection_id: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    reached: tuple[str, int] = ("", 0)


@dataclass(frozen=True, slots=True)
class FileClaim(Claim):
    """A claimed job that reads a version of a document."""

    document: str = field(kw_only=True)
    version_id: int = field(kw_only=True)


def give_back(
    session: Session,
    row: JobRow,
    error: str,
    now: float,
    *,
    error_type: str | None = None,
    trace: str | None = None,
    dice: float = 0.5,
    lost: bool = False,
) -> None:
    """Queue a locked job again, later with every attempt (`kinds.pause_s`); after its kind's last one it is dead.

    `lost` says that its worker died with it.
    """
    row.lease_until, row.updated = None, now
    row.error, row.error_type, row.traceback = error, error_type, cut(trace)
    row.token += 1  # fences off the worker that lost it
    row.lost += lost
    rule = RULES[JobKind(row.kind)]
    if row.attempts >= rule.attempts or row.lost >= rule.losses:
        row.status = JobStatus.DEAD.value
        row.error = (
            f"{error}; given up after {row.attempts} attempts: mend that, then retry the job"
        )
        fail_version(session, row.version_id)
    else:
        row.status, row.sent = JobStatus.QUEUED.value, None
        row.not_before = now + pause_s(row.attempts, dice)
    session.add(row)


def hand_back(session: Session, row: JobRow, now: float) -> None:
    """Queue a locked, open job again at once; the attempt that it was in is not counted."""
    row.attempts -= row.status == JobStatus.RUNNING.value
    row.status, row.sent, row.not_before = JobStatus.QUEUED.value, None, None
    row.lease_until, row.updated = None, now
    row.token += 1  # fences off the worker that had it
    session.add(row)


def end(session: Session, row: JobRow, result: Mapping[str, Any], now: float) -> None:
    """End a locked job well, in the transaction that did its work."""
    mark_done(row, now)
    row.done = row.total
    row.result = bounded(result, _MOST_RESULT, "the result of a job")
    session.add(row)


def mark_done(row: JobRow, now: float) -> None:
    """Nothing of an attempt before stays in the row of a job that ended well."""
    row.status, row.stage = JobStatus.DONE.value, "done"
    row.attempts = max(1, row.attempts)  # it was put off, uncounted, and published with another
    row.error = row.error_type = row.traceback = row.lease_until = None
    row.updated = now


def claimed(session: Session, row: JobRow, now: float) -> Claim:
    """A locked, queued job, given to a worker."""
    row.status = JobStatus.RUNNING.value
    row.token += 1
    row.attempts += 1
    row.lease_until = now + LEASE_S
    row.updated = now
    session.add(row)
    job, kind, payload = JobId(row.id), JobKind(row.kind), row.payload or {}
    reached = row.stage, row.done
    if row.document_id is None or row.version_id is None:
        return Claim(job, row.token, kind, row.collection_id, payload, reached)
    return FileClaim(
        job,
        row.token,
        kind,
        row.collection_id,
        payload,
        reached,
        document=row.document_id,
        version_id=row.version_id,
    )


def fail_version(session: Session, version_id: int | None) -> None:
    version = None if version_id is None else session.get(VersionRow, version_id)
    if version is not None:
        version.status = "failed"
        session.add(version)


def bounded(data: Mapping[str, Any], most: int, what: str) -> dict[str, Any]:
    """Raises InvalidInput for what is no JSON, or more of it than a row should hold."""
    try:
        size = len(json.dumps(data, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} is no JSON ({error}): give plain values") from error
    if size > most:
        raise InvalidInput(f"{what} has {size} bytes of JSON: {most} are held at most")
    return dict(data)


def cut(trace: str | None) -> str | None:
    """The end of a traceback says most; PostgreSQL holds no NUL."""
    return None if trace is None else trace[-_MOST_TRACE:].replace("\x00", "\ufffd")


def owned(session: Session, claim: Claim) -> JobRow | None:
    """The claimed job's row, None when the claim no longer holds; nobody takes it away while the session is open."""
    row = locked(session, JobRow, claim.job)
    held = row is not None and row.token == claim.token and row.status == JobStatus.RUNNING.value
    return row if held else None
