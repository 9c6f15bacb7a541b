"""Jobs in the terminal as they change: each event a line, one that is written over where somebody sits before it."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TypeVar

from rich.live import Live
from rich.text import Text

from app.client import ApiClient
from app.job_schemas import JobEvent, QueueEvent
from app.problems import ApiProblem
from app.rate import pace
from app.terminal import OUT, SCREEN, plain

_OPEN = ("queued", "running")
_AGAIN_S = 1.0
_PATIENCE_S = 60.0
Event = TypeVar("Event", JobEvent, QueueEvent)


async def follow_queue(
    api: ApiClient, collection: str | None, kinds: Sequence[str], *, as_json: bool
) -> None:
    """How many jobs there are by status, until none is open."""
    events = unbroken(
        lambda: api.queue_events(collection, kinds=kinds),
        lambda event: not any(event.jobs.get(status) for status in _OPEN),
    )
    with _told(as_json=as_json) as say:
        async with aclosing(events):
            async for event in events:
                say(event, queue_line(event))


async def follow_job(api: ApiClient, job_id: str, *, as_json: bool) -> JobEvent:
    """One job until it ends; its last event."""
    events = unbroken(lambda: api.job_events(job_id), lambda event: event.status not in _OPEN)
    last: JobEvent | None = None
    with _told(as_json=as_json) as say:
        async with aclosing(events):
            async for last in events:
                say(last, job_line(last))
    assert last is not None
    return last


async def unbroken(
    listen: Callable[[], AsyncGenerator[Event, None]],
    is_last: Callable[[Event], bool],
    *,
    again_s: float = _AGAIN_S,
    patience_s: float = _PATIENCE_S,
) -> AsyncGenerator[Event, None]:
    """The events of a stream up to its last one; a server that starts anew is waited for.

    Raises ApiProblem where the first attempt fails, or nothing answers for a minute.
    """
    heard: float | None = None
    while True:
        try:
            async with aclosing(listen()) as events:
                async for event in events:
                    heard = time.monotonic()
                    yield event
                    if is_last(event):
                        return
        except ApiProblem as problem:
            waited = heard is not None and time.monotonic() - heard < patience_s
            if not problem.passing or not waited:
                raise
        else:
            heard = heard or time.monotonic()
        await asyncio.sleep(again_s)


def queue_line(event: QueueEvent) -> str:
    """`12 queued · 2 running · 57 done · 3.2 jobs/s · about 4 s left`."""
    counts = [f"{n} {status}" for status, n in event.jobs.items() if n or status in _OPEN]
    speed = pace("jobs", event.per_second, event.seconds_left)
    return " · ".join([*counts, *([speed] if speed else [])])


def job_line(event: JobEvent) -> str:
    """`a.pdf: running · embed 5/20 · 3.2/s · about 5 s left`."""
    stage = f"{event.stage} {event.done}/{event.total}" if event.total else event.stage
    speed = pace("", event.per_second, event.seconds_left)
    parts = [part for part in (event.status, stage, speed) if part]
    return f"{event.filename or event.kind}: {' · '.join(dict.fromkeys(parts))}"


@contextmanager
def _told(*, as_json: bool) -> Iterator[Callable[[JobEvent | QueueEvent, str], None]]:
    if as_json:
        yield lambda event, _: print(json.dumps(event.model_dump(), ensure_ascii=False), flush=True)  # noqa: T201
    elif SCREEN.is_terminal:
        with Live(console=SCREEN, auto_refresh=False) as live:
            yield lambda _, line: live.update(Text(line), refresh=True)
    else:
        yield lambda _, line: OUT.print(plain(line))
