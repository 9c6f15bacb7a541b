"""The JSON of jobs and schedules: what is asked for, what is shown, what is told as it changes."""

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field

from app.schemas import NAME, KnownAnswer, Request


class JobOut(BaseModel):
    """One job. `status` is queued, running, done, failed, cancelled or dead; `done`/`total` count
    the stage's units: in the stage `members` the files of an archive. `parent` is the job of the archive around a file.
    `kind` is ingest (a file is read), delete, reindex, merge, backup, watch, expire, sft or evaluate; `payload` is what
    was asked for, `result` what came of it. `collection` is "" where a job is of none. `error_type` is the class of the
    error, such as DamagedDocument or ModelUnavailable, where it is known.
    """

    id: str
    kind: str
    status: str
    stage: str
    done: int
    total: int
    error: str | None
    error_type: str | None = None
    collection: str
    document_id: str | None
    filename: str | None
    parent: str | None = None
    attempts: int
    created: float
    updated: float
    payload: dict[str, Any] = {}
    result: dict[str, Any] = {}


class JobEvent(JobOut):
    """A change of a job, as `GET /jobs/{id}/events` sends it. The speed is its stage's, as measured."""

    per_second: float | None
    seconds_left: float | None


class QueueEvent(BaseModel):
    """The numbers of jobs by status after a change; `per_second` counts jobs that end."""

    jobs: dict[str, int]
    per_second: float | None
    seconds_left: float | None


class JobsResponse(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobOut]
    next_cursor: str | None


class CancelledOut(BaseModel):
    """What `POST /jobs/{id}/cancel` ended: the job, and open jobs of its members; 0 when it was cancelled before."""

    job: JobOut
    cancelled: int


class RetriedOut(BaseModel):
    """How many jobs `POST /jobs/retry` queued again."""

    retried: int


class DeleteRequest(BaseModel):
    """What to delete in the background: documents of a collection, or with none named the collection itself."""

    collection: Annotated[str, Field(min_length=1, max_length=100)]
    document_ids: Annotated[list[str], Field(min_length=1, max_length=10_000)] | None = None


class EvaluateRequest(Request):
    """`POST /jobs/evaluate`: which collection's questions are asked, and among how many first hits an answer counts."""

    collection: Annotated[str, NAME]
    top_k: Annotated[int, Field(ge=1, le=100)] = 10


class ReindexRequest(Request):
    """A collection to index anew, or with `back` to be searched in the index before the last one again.

    The two indexes are asked the `questions`, without any the collection's own, and where it has none sentences of 100
    of its passages. The new one must not find more than `margin` less of what answers them, as it is searched and by
    vectors alone. Beside its passages the last 100 queries of the collection are asked: of 10 or more, the best hit
    before must be among the first ten afterwards for the share `agreement`. With `force` nothing is asked.
    """

    collection: Annotated[str, Field(min_length=1, max_length=100)]
    back: bool = False
    force: bool = False
    margin: Annotated[float, Field(ge=0, le=1)] = 0.02
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.6
    questions: list[KnownAnswer] = Field(default=[], max_length=1000)


class ScheduleRequest(BaseModel):
    """Work that is to begin by the clock: `when` is "every 15m", "every 6h", "every 1d", "at 03:00" or "at 03:00 on
    mon,fri", in the time `zone`. `payload` is {"folder": "/a/directory"} for watch, {"days": N} for expire, else {}.
    """

    kind: Literal["watch", "expire", "reindex", "merge", "backup"]
    when: Annotated[str, Field(min_length=1, max_length=100)]
    zone: Annotated[str, Field(min_length=1, max_length=100)] = "UTC"
    collection: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    payload: dict[str, Any] = {}


class ScheduleOut(BaseModel):
    """One schedule; `next` and `last` are seconds since 1970, `job_id` the last job that it began."""

    id: str
    kind: str
    collection: str
    when: str
    zone: str
    payload: dict[str, Any]
    next: float
    last: float | None
    job_id: str | None


def zone_of(schedule: ScheduleOut) -> ZoneInfo | None:
    """The time zone that a schedule is meant in; None where this machine does not know it."""
    try:
        return ZoneInfo(schedule.zone)
    except (ZoneInfoNotFoundError, ValueError):
        return None


class SchedulesResponse(BaseModel):
    """All schedules, the next one first."""

    schedules: list[ScheduleOut]


class RemovedOut(BaseModel):
    """The schedule that was removed."""

    id: str
