"""`/health` and `/metrics`."""

import asyncio
import contextlib
from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.metrics import CONTENT_TYPE, IDLE_S, exposition
from app.schemas import ReadyOut
from app.state import Given, State
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.vitals import read_vitals
from pipeline.errors import RagError, Unavailable

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/health/ready")
async def ready(state: Given, response: Response) -> ReadyOut:
    """Every part that an upload or a question needs, with "ok" or what is wrong; 503 when one is not ok.

    The part "worker" tells of this server's own worker: uploads wait for it, so that it never makes a 503.
    """
    parts = await asyncio.to_thread(_parts, state)
    ok = all(says == "ok" for part, says in parts.items() if part != "worker")
    response.status_code = 200 if ok else 503
    services = state.services
    return ReadyOut(
        ready=ok,
        parts=parts,
        profile=services.core.settings.profile,
        models={"embedder": services.embedder.fingerprint, "answers": services.answerer.model},
    )


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: Given) -> Response:
    """Jobs and queue as numbers, in the text format of Prometheus."""
    return Response(await asyncio.to_thread(_metrics, state), media_type=CONTENT_TYPE)


def _metrics(state: State) -> bytes:
    messages: int | None = None
    with contextlib.suppress(Unavailable):
        messages = state.queue.waiting()
    vitals = read_vitals(state.services.core.database)
    restarts = state.children.restarts if state.children else 0
    return exposition(vitals, messages=messages, restarts=restarts)


def _parts(state: State) -> dict[str, str]:
    return {
        "database": _check(state.services.core.jobs.counts),
        "queue": _check(state.queue.waiting),
        "embedder": "ok",
        "worker": _worker(state),
    }


def _worker(state: State) -> str:
    try:
        vitals = read_vitals(state.services.core.database)
    except RagError:
        return "unknown: the database does not answer"
    for queue in vitals.alone(IDLE_S):
        waited = round(max(vitals.waiting_s.get(kind.value, 0.0) for kind in kinds_of(queue)))
        which = "" if queue is Queue.INGEST else f" --queue {queue.value}"
        return f"jobs wait for {waited} s and no worker takes them: start one with zhinao worker{which}"
    return state.children.says("worker") if state.children else "none here"


def _check(part: Callable[[], object]) -> str:
    try:
        part()
    except RagError as error:
        return str(error)
    return "ok"
