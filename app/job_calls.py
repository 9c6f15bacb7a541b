"""What the API does about jobs and schedules: one typed method a call."""

from collections.abc import AsyncIterator, Sequence

from app.connection import ANSWER_TIMEOUT, Connection, parse, segment
from app.job_schemas import (
    CancelledOut,
    DeleteRequest,
    EvaluateRequest,
    JobEvent,
    JobOut,
    JobsResponse,
    ReindexRequest,
    RemovedOut,
    RetriedOut,
    ScheduleOut,
    ScheduleRequest,
    SchedulesResponse,
)
from app.sse import server_sent_events


class JobCalls(Connection):
    """`/jobs` and `/schedules`."""

    async def jobs(
        self, collection: str | None = None, *, kinds: Sequence[str] = (), limit: int = 200
    ) -> JobsResponse:
        """`GET /jobs`, newest first; of all kinds where none is named."""
        params: dict[str, str | Sequence[str]] = {"limit": str(limit), "kind": kinds}
        if collection:
            params["collection"] = collection
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

    async def retry_all(self, collection: str | None = None) -> RetriedOut:
        """`POST /jobs/retry`."""
        params = {"collection": collection} if collection else {}
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

    async def job_events(self, job_id: str) -> AsyncIterator[JobEvent]:
        """`GET /jobs/{id}/events`: an event a change, until the job ends."""
        path = f"/jobs/{segment(job_id)}/events"
        headers = {"Accept": "text/event-stream"}
        asked = self._request("GET", path, headers=headers, timeout=ANSWER_TIMEOUT)
        async with self._sent(asked) as response:
            async for name, data in server_sent_events(response.aiter_bytes()):
                if name == "job":
                    yield parse(JobEvent, data)

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
