"""The loop that keeps jobs moving: sends what was not sent, gives back what stopped breathing, begins what is due."""

import asyncio
import logging
from functools import partial

from app.watchdog import Watchdog
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.schedules import Schedules
from indexer.jobs.submit import WITHOUT_HANDLER
from pipeline.errors import Unavailable
from pipeline.ports import JobQueue

_EVERY_S = 1.0
_log = logging.getLogger("zhinao.relay")


async def relay(
    jobs: Jobs,
    queue: JobQueue,
    *,
    schedules: Schedules | None = None,
    watchdog: Watchdog | None = None,
) -> None:
    """Run until cancelled. Every process may run one: claims, give-backs and what schedules begin are atomic.

    `watchdog` is told each time which queue has jobs to run.
    """
    while True:
        try:
            await asyncio.to_thread(tick, jobs, queue, watchdog, schedules)
        except Exception as error:  # noqa: BLE001  (an entry point: the loop must go on)
            _tell(error)
        await asyncio.sleep(_EVERY_S)


def tick(
    jobs: Jobs,
    queue: JobQueue,
    watchdog: Watchdog | None = None,
    schedules: Schedules | None = None,
) -> None:
    """One round: each part of it is done, whatever befell another; the first error is raised at its end.

    A job that was sent is sent again only when no message waits any more.
    """
    failed: list[Exception] = []
    for part in (
        partial(_send, jobs, queue, watchdog),
        jobs.wake,
        partial(_reap, jobs),
        *((schedules.begin_due,) if schedules is not None else ()),
        *((watchdog.look,) if watchdog is not None else ()),
    ):
        try:
            part()
        except Exception as error:  # noqa: BLE001  (an entry point: a round is made of parts that go on)
            failed.append(error)
    for other in failed[1:]:
        _tell(other)
    if failed:
        raise failed[0]


def _send(jobs: Jobs, queue: JobQueue, watchdog: Watchdog | None) -> None:
    queued = jobs.queued_kinds() - WITHOUT_HANDLER
    for name in Queue:
        kinds = kinds_of(name) & queued
        if not kinds:
            continue
        ids = list(jobs.unsent(stale=False, kinds=kinds))
        lost = jobs.unsent(stale=True, kinds=kinds)
        if watchdog is not None and (ids or lost):
            watchdog.need(name)
        if lost and queue.waiting(name.value) == 0:
            ids.extend(lost)
        for job_id in ids:
            queue.submit(job_id, queue=name.value)
        jobs.mark_sent(ids)


def _reap(jobs: Jobs) -> None:
    if given_back := jobs.reap():
        _log.warning("%d jobs were given back: their workers stopped", given_back)


def _tell(error: Exception) -> None:
    if isinstance(error, Unavailable):
        _log.warning("%s", error)
    else:
        _log.error("a round of the relay failed", exc_info=error)
