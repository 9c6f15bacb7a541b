"""`/health`."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Response

from app.schemas import ReadyOut
from app.state import Given, State
from pipeline.errors import RagError

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/ready")
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


def _parts(state: State) -> dict[str, str]:
    return {
        "database": _check(state.services.core.jobs.counts),
        "queue": _check(state.queue.waiting),
        "embedder": "ok",
        "worker": state.children.says("worker") if state.children else "none here",
    }


def _check(part: Callable[[], object]) -> str:
    try:
        part()
    except RagError as error:
        return str(error)
    return "ok"
