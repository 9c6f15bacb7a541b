"""`/jobs`."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.cursor import decode, encode
from app.present import job_out
from app.schemas import JobOut, JobsResponse
from app.state import Given

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
async def jobs(
    state: Given,
    collection: Annotated[str | None, Query(max_length=100)] = None,
    status: Literal["queued", "running", "done", "failed", "cancelled", "dead"] | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> JobsResponse:
    """A page of jobs, newest first."""
    page, following = await asyncio.to_thread(
        state.services.core.jobs.page,
        collection=collection,
        status=status,
        limit=limit,
        cursor=decode(cursor),
    )
    return JobsResponse(jobs=[job_out(job) for job in page], next_cursor=encode(following))


@router.get("/{job_id}")
async def job(job_id: str, state: Given) -> JobOut:
    """One job."""
    return job_out(await asyncio.to_thread(state.services.core.jobs.get, job_id))
