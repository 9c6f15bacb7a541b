"""What `/health/ready` says: the parts that an upload or a question needs, and what became of the children."""

from collections.abc import Callable
from functools import partial

from app.disk import check_room
from app.looks import WAIT_S, Part
from app.metrics import IDLE_S
from app.placed import is_served, placed
from app.queue import worker_name
from app.settings import Place
from app.state import State
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.vitals import read_vitals
from pipeline.errors import RagError

_LOCKED_S = 12.0
"""A writer of the database waits for another up to 10 s: until then it is busy, not broken."""
_NO_DATABASE = "unknown: the database does not answer"


def look(state: State) -> tuple[dict[str, str], dict[str, str]]:
    """What each needed part and each child says; all is well where every needed one says "ok"."""
    reads = _check(state.services.core.jobs.counts)
    needed = {
        "database": reads,
        "queue": _check(state.queue.waiting),
        "embedder": "ok",  # in this process: it is loaded
        **state.looks.say(_looked_at(state, reads=reads == "ok")),
    }
    return needed, _children(state, reads=reads == "ok")


def _looked_at(state: State, *, reads: bool) -> dict[str, Part]:
    core = state.services.core
    parts = {"disk": Part(partial(check_room, core.folders.data))}
    if reads:
        parts["database"] = Part(core.database.check_writable, patience_s=_LOCKED_S)
    settings = core.settings
    models: dict[str, Place | None] = {
        "embedder": settings.embedder,
        "next_embedder": settings.next_embedder,
        "reranker": settings.reranker,
        "chat": settings.chat,
    }
    for role, place in models.items():
        if place is not None and is_served(place):
            parts[role] = Part(partial(placed, role, place, wait_s=WAIT_S))
    return parts


def _children(state: State, *, reads: bool) -> dict[str, str]:
    """What became of each child, and that a queue's jobs are taken by no worker, wherever one runs."""
    told = {"worker": "none here"}
    if (children := state.children) is not None:
        told |= {name: children.says(name) for name in children.restarts}
    try:
        vitals = read_vitals(state.services.core.database) if reads else None
    except RagError:
        vitals = None
    if vitals is None:
        return {**told, "worker": _NO_DATABASE}
    for queue in vitals.alone(IDLE_S):
        waited = round(max(vitals.waiting_s.get(kind.value, 0.0) for kind in kinds_of(queue)))
        which = "" if queue is Queue.INGEST else f" --queue {queue.value}"
        told[worker_name(queue)] = (
            f"jobs wait for {waited} s and no worker takes them: start one with zhinao worker{which}"
        )
    return told


def _check(part: Callable[[], object]) -> str:
    try:
        part()
    except RagError as error:
        return str(error)
    return "ok"
