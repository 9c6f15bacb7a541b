"""`/schedules`."""

import asyncio
from functools import partial

from fastapi import APIRouter

from app.job_schemas import (
    RemovedOut,
    ScheduleOut,
    ScheduleRequest,
    SchedulesResponse,
)
from app.state import Given
from indexer.jobs.schedules import Schedule
from indexer.jobs.watching import allowed_folder
from pipeline.types import JobKind

router = APIRouter(prefix="/schedules", tags=["jobs"])


@router.get("")
async def schedules(state: Given) -> SchedulesResponse:
    """What begins by the clock, the next one first."""
    found = await asyncio.to_thread(state.services.core.schedules.all)
    return SchedulesResponse(schedules=[_out(one) for one in found])


@router.post("", status_code=201)
async def add(state: Given, request: ScheduleRequest) -> ScheduleOut:
    """Have jobs begin by the clock: a folder watched, old documents deleted, an index made anew or merged, a backup.

    A job that is missed while the server is down runs once when it is up again. Only directories in
    `ZHINAO_WATCH_ROOTS` are watched.
    """
    core = state.services.core
    kind = JobKind(request.kind)
    if kind is JobKind.WATCH and isinstance(folder := request.payload.get("folder"), str):
        await asyncio.to_thread(allowed_folder, folder, core.settings.watch_roots)
    made = partial(
        core.schedules.add,
        kind,
        request.when,
        zone=request.zone,
        collection=request.collection,
        payload=request.payload,
    )
    return _out(await asyncio.to_thread(made))


@router.delete("/{schedule_id}")
async def remove(schedule_id: str, state: Given) -> RemovedOut:
    """Remove a schedule; a job that it began goes on, and documents of a watched folder stay."""
    await asyncio.to_thread(state.services.core.schedules.remove, schedule_id)
    return RemovedOut(id=schedule_id)


def _out(schedule: Schedule) -> ScheduleOut:
    return ScheduleOut(
        id=schedule.id,
        kind=schedule.kind.value,
        collection=schedule.collection,
        when=schedule.when,
        zone=schedule.zone,
        payload=dict(schedule.payload),
        next=schedule.next,
        last=schedule.last,
        job_id=schedule.job,
    )
