"""What the API does about jobs and schedules: one typed method a call."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from pydantic import BaseModel

from app.connection import ANSWER_TIMEOUT, Connection, parse, segment
from app.job_schemas import (
    CancelledOut,
    DeleteRequest,
    EvaluateRequest,
    JobEvent,
    JobOut,
    JobsResponse,
    QueueEvent,
    ReindexRequest,
    RemovedOut,
    RetriedOut,
    ScheduleOut,
    ScheduleRequest,
    SchedulesResponse,
)
from app.problems import ApiProblem
from app.sse import server_sent_events

Event = TypeVar("Event", bound=BaseModel)


class JobCalls(Connection):
    """`/jobs` and `/schedules`."""

    async def jobs(
        self,
        collection: str | None = None,
        *,
        kinds: Sequence[str] = (),
        status: str | None = None,
        parent: str | None = None,
        limit: int = 200,
    ) -> JobsResponse:
        """`GET /jobs`, newest first; of all kinds where none is named. `parent` is the job of an archive."""
        params = _of(collection, kinds) | {"limit": str(limit)}
        params |= {"status": status} if status else {}
        params |= {"parent": parent} if parent else {}
        return await self._call(JobsResponse, self._request("GET", "/jobs", params=params))

    async def job(self, job_id: str) -> JobOut:
        """`GET /jobs/{id}`."""
        return await self._call(JobOut, self._request("GET", f"/jobs/{segment(job_id)}"))

    async def cancel(self, job_id: str) -> CancelledOut:
        """`POST /jobs/{id}/cancel`."""
        path = f"/jobs/{segment(job_id)}/cancel"
        return await self._call(CancelledOut, self._request("POST", path))

    async def retry(self, job_id: str) -> JobOut:
        """`POST /jobs/{id}/retry`."""
        path = f"/jobs/{segment(job_id)}/retry"
        return await self._call(JobOut, self._request("POST", path))

    async def retry_all(
        self, collection: str | None = None, *, kinds: Sequence[str] = ()
    ) -> RetriedOut:
        """`POST /jobs/retry`."""
        params = _of(collection, kinds)
        return await self._call(RetriedOut, self._request("POST", "/jobs/retry", params=params))

    async def delete_many(self, request: DeleteRequest) -> JobOut:
        """`POST /jobs/delete`."""
        body = request.model_dump()
        return await self._call(JobOut, self._request("POST", "/jobs/delete", json=body))

    async def reindex(self, request: ReindexRequest) -> JobOut:
        """`POST /jobs/reindex`."""
        body = request.model_dump()
        return await self._call(JobOut, self._request("POST", "/jobs/reindex", json=body))

    async def evaluate(self, request: EvaluateRequest) -> JobOut:
        """`POST /jobs/evaluate`."""
        body = request.model_dump()
        return await self._call(JobOut, self._request("POST", "/jobs/evaluate", json=body))

    def job_events(self, job_id: str) -> AsyncGenerator[JobEvent, None]:
        """`GET /jobs/{id}/events`: an event a change, until the job ends."""
        return self._events(JobEvent, "job", f"/jobs/{segment(job_id)}/events", {})

    def queue_events(
        self, collection: str | None = None, *, kinds: Sequence[str] = ()
    ) -> AsyncGenerator[QueueEvent, None]:
        """`GET /jobs/events`: an event a change, as long as it is listened to."""
        return self._events(QueueEvent, "jobs", "/jobs/events", _of(collection, kinds))

    async def counts(
        self, collection: str | None = None, *, kinds: Sequence[str] = ()
    ) -> dict[str, int]:
        """How many jobs there are by status: the first event of `GET /jobs/events`."""
        async with aclosing(self.queue_events(collection, kinds=kinds)) as events:
            async for event in events:
                return event.jobs
        raise ApiProblem("Broken off", "The numbers of jobs did not come. Try again.", None)

    async def schedules(self) -> SchedulesResponse:
        """`GET /schedules`."""
        return await self._call(SchedulesResponse, self._request("GET", "/schedules"))

    async def add_schedule(self, request: ScheduleRequest) -> ScheduleOut:
        """`POST /schedules`."""
        body = request.model_dump()
        return await self._call(ScheduleOut, self._request("POST", "/schedules", json=body))

    async def remove_schedule(self, schedule_id: str) -> RemovedOut:
        """`DELETE /schedules/{id}`."""
        path = f"/schedules/{segment(schedule_id)}"
        return await self._call(RemovedOut, self._request("DELETE", path))

    async def _events(
        self, model: type[Event], named: str, path: str, params: Mapping[str, str | Sequence[str]]
    ) -> AsyncGenerator[Event, None]:
        headers = {"Accept": "text/event-stream"}
        asked = self._request("GET", path, params=params, headers=headers, timeout=ANSWER_TIMEOUT)
        async with self._sent(asked) as response:
            async for name, data in server_sent_events(response.aiter_bytes()):
                if name == named:
                    yield parse(model, data)


def _of(collection: str | None, kinds: Sequence[str]) -> dict[str, str | Sequence[str]]:
    named: dict[str, str | Sequence[str]] = {"collection": collection} if collection else {}
    return named | {"kind": kinds}
