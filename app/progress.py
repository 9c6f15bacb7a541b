"""Jobs as server-sent events: what changed, how fast it goes, how long it still takes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from sse_starlette import ServerSentEvent

from app.job_schemas import JobEvent, QueueEvent
from app.present import job_out
from app.rate import Rate
from pipeline.types import Job, JobStatus

EVERY_S = 0.5
OPEN = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


def event_id(job: Job) -> str:
    """What `Last-Event-ID` is compared with: the moment of the row's last change, and its state."""
    return f"{job.updated:.6f}-{job.status.value}"


async def job_events(
    read: Callable[[], Job], seen: str | None, *, every_s: float = EVERY_S
) -> AsyncIterator[ServerSentEvent]:
    """An event a change, from the one after `seen` on; the stream ends with the job.

    Raises what `read` raises: NotFound when the document is deleted meanwhile.
    """
    rate, stage = Rate(), ""
    while True:
        job = await asyncio.to_thread(read)
        if job.stage != stage:
            rate, stage = Rate(), job.stage
        speed = rate.of(job.done) if job.status is JobStatus.RUNNING else None
        if (changed := event_id(job)) != seen:
            seen = changed
            left = (job.total - job.done) / speed if speed else None
            event = JobEvent(
                **job_out(job).model_dump(), per_second=_short(speed), seconds_left=_short(left)
            )
            yield ServerSentEvent(event.model_dump_json(), event="job", id=changed)
        if job.status not in OPEN:
            return
        await asyncio.sleep(every_s)


async def queue_events(
    read: Callable[[], Mapping[str, int]], seen: str | None, *, every_s: float = EVERY_S
) -> AsyncIterator[ServerSentEvent]:
    """An event each time the numbers of jobs by status change; the stream does not end by itself."""
    rate = Rate()
    while True:
        counts = await asyncio.to_thread(read)
        waiting = sum(counts.get(status.value, 0) for status in OPEN)
        ended = sum(counts.values()) - waiting
        speed = rate.of(ended)
        changed = "-".join(str(counts.get(status.value, 0)) for status in JobStatus)
        if changed != seen:
            seen = changed
            left = waiting / speed if speed and waiting else None
            event = QueueEvent(
                jobs={status.value: counts.get(status.value, 0) for status in JobStatus},
                per_second=_short(speed),
                seconds_left=_short(left),
            )
            yield ServerSentEvent(event.model_dump_json(), event="jobs", id=changed)
        await asyncio.sleep(every_s)


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
