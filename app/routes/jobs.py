"""`/jobs`."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse

from app.cursor import decode, encode
from app.job_schemas import (
    CancelledOut,
    DeleteRequest,
    EvaluateRequest,
    JobEvent,
    JobOut,
    JobsResponse,
    QueueEvent,
    ReindexRequest,
    RetriedOut,
)
from app.present import job_out
from app.progress import OPEN, event_id, job_events, queue_events
from app.state import Given
from indexer.index.backing import submit_backup
from indexer.ingest.asking import submit_reindex
from indexer.ingest.evaluating import submit_evaluate
from indexer.ingest.gate import Asked
from indexer.jobs.deleting import submit_delete
from pipeline.types import DocumentId, JobKind

router = APIRouter(prefix="/jobs", tags=["jobs"])

LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=200)]
Where = Annotated[str | None, Query(max_length=100)]
Kinds = Annotated[list[JobKind] | None, Query()]


@router.get("")
async def jobs(
    state: Given,
    collection: Where = None,
    status: Literal["queued", "running", "done", "failed", "cancelled", "dead"] | None = None,
    kind: Kinds = None,
    parent: Where = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> JobsResponse:
    """A page of jobs, newest first; of some kinds alone where `kind` names them.

    With `parent`, the id of an archive's or mail's job, those of the files in it.
    """
    page, following = await asyncio.to_thread(
        state.services.core.jobs.page,
        collection=collection,
        status=status,
        kinds=kind,
        parent=parent,
        limit=limit,
        cursor=decode(cursor),
    )
    return JobsResponse(jobs=[job_out(job) for job in page], next_cursor=encode(following))


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses={200: {"model": QueueEvent, "description": "An event `jobs` a change"}},
)
async def all_events(
    state: Given,
    collection: Where = None,
    kind: Kinds = None,
    last_event_id: LastEvent = None,
) -> EventSourceResponse:
    """How many jobs of a collection, or of all, wait, run and have ended, as it changes; with `kind` of some kinds."""
    jobs = state.services.core.jobs
    await asyncio.to_thread(jobs.counts, collection)  # a wrong name is an error before the stream
    return EventSourceResponse(
        queue_events(lambda: jobs.counts(collection, kind), last_event_id), sep="\n"
    )


@router.post("/retry")
async def retry_all(state: Given, collection: Where = None, kind: Kinds = None) -> RetriedOut:
    """Queue every job that failed or died again, with `kind` those of some kinds; cancelled ones stay as they are."""
    control = state.services.core.control
    return RetriedOut(retried=await asyncio.to_thread(control.retry_all, collection, kind))


@router.post("/delete", status_code=202)
async def delete(state: Given, request: DeleteRequest) -> JobOut:
    """Delete documents, or a whole collection, in the background: a few at a time, with progress.

    Each is out of every answer once its turn comes. The job outlives the collection.
    """
    core = state.services.core
    job_id = await asyncio.to_thread(
        submit_delete,
        core.jobs,
        core.catalog,
        collection=request.collection,
        documents=request.document_ids,
    )
    return job_out(await asyncio.to_thread(core.jobs.get, job_id))


@router.post("/backup", status_code=202)
async def backup(state: Given) -> JobOut:
    """Make a backup in the folder that the settings name, while everything runs; one at a time."""
    core = state.services.core
    job_id = await asyncio.to_thread(submit_backup, core.jobs, core.settings.backup.folder)
    return job_out(await asyncio.to_thread(core.jobs.get, job_id))


@router.post("/reindex", status_code=202)
async def reindex(state: Given, request: ReindexRequest) -> JobOut:
    """Index a collection anew, while it is searched and added to, with the embedder and the sizes that are set.

    The new index takes over when it finds what the old one finds, all at once; `back` goes back to the one before.
    """
    core = state.services.core
    questions = [
        Asked(each.question, tuple(map(DocumentId, each.document_ids)), passage=each.passage)
        for each in request.questions
    ]
    job_id = await asyncio.to_thread(
        submit_reindex,
        core.database,
        request.collection,
        back=request.back,
        force=request.force,
        margin=request.margin,
        agreement=request.agreement,
        questions=questions,
    )
    return job_out(await asyncio.to_thread(core.jobs.get, job_id))


@router.post("/evaluate", status_code=202)
async def evaluate(state: Given, request: EvaluateRequest) -> JobOut:
    """Ask a collection its own questions, and count how many are answered: the job's result has recall and MRR.

    The questions are those of `PUT /collections/{name}/questions`.
    """
    core = state.services.core
    job_id = await asyncio.to_thread(
        submit_evaluate, core.database, core.jobs, request.collection, top_k=request.top_k
    )
    return job_out(await asyncio.to_thread(core.jobs.get, job_id))


@router.get("/{job_id}")
async def job(job_id: str, state: Given) -> JobOut:
    """One job."""
    return job_out(await asyncio.to_thread(state.services.core.jobs.get, job_id))


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"model": JobEvent, "description": "An event `job` a change, until the job ends"},
        204: {"description": "The job has ended, and `Last-Event-ID` names its last event"},
    },
)
async def events(job_id: str, state: Given, last_event_id: LastEvent = None) -> Response:
    """A job's progress as it changes. With `Last-Event-ID` only what came after that event is sent."""
    jobs = state.services.core.jobs
    found = await asyncio.to_thread(jobs.get, job_id)
    if found.status not in OPEN and event_id(found) == last_event_id:
        return Response(status_code=204)  # tells an EventSource not to connect again
    return EventSourceResponse(job_events(lambda: jobs.get(job_id), last_event_id), sep="\n")


@router.post("/{job_id}/cancel")
async def cancel(job_id: str, state: Given) -> CancelledOut:
    """Stop a job, and those of an archive's members: nothing of it can be found afterwards, and it can be retried."""
    core = state.services.core
    count = await asyncio.to_thread(core.control.cancel, job_id)
    return CancelledOut(
        job=job_out(await asyncio.to_thread(core.jobs.get, job_id)), cancelled=count
    )


@router.post("/{job_id}/retry")
async def retry(job_id: str, state: Given) -> JobOut:
    """Queue a job again that failed, died or was cancelled."""
    core = state.services.core
    await asyncio.to_thread(core.control.retry, job_id)
    return job_out(await asyncio.to_thread(core.jobs.get, job_id))
