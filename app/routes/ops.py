"""`/health` and `/metrics`."""

import asyncio
import contextlib

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.metrics import CONTENT_TYPE, exposition
from app.readiness import look
from app.schemas import ReadyOut
from app.state import Given, State
from indexer.jobs.vitals import read_vitals
from pipeline.errors import Unavailable

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/health/ready")
async def ready(state: Given, response: Response) -> ReadyOut:
    """Every part that an upload or a question needs, with "ok" or what is wrong; 503 when one is not ok.

    Beside them stand this server's own children, each with what became of it. They never make a 503: a child that
    ended is started again, and uploads wait for a worker.
    """
    needed, beside = await asyncio.to_thread(look, state)
    ok = all(says == "ok" for says in needed.values())
    response.status_code = 200 if ok else 503
    services = state.services
    return ReadyOut(
        ready=ok,
        parts={**needed, **beside},
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
    restarts = state.children.restarts if state.children else {}
    return exposition(vitals, messages=messages, restarts=restarts)
