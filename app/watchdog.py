"""Keeps workers at work: starts one when there is something for it, and anew when it stopped taking messages.

A Celery worker may lose its Redis, find it again, and never ask it for a message: it lives, so nothing else would
notice. What counts is what its jobs do, so that a worker on another machine that takes them is enough.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from app.children import Children, Program
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.vitals import Pulse, read_pulse
from indexer.sql.database import Database
from pipeline.errors import Unavailable
from pipeline.ports import JobQueue

STILL_S = 90.0
"""So long messages may wait, none taken, while no job runs. A worker that starts and loads its models takes up to 60 s
on a busy machine; where it takes longer, each next time has twice the patience.
"""
_LOOK_EVERY_S = 5.0
_log = logging.getLogger("zhinao.watchdog")


@dataclass(frozen=True, slots=True)
class Patience:
    """`since` is when messages were first seen to wait without a sign of life, None while there is one."""

    limit_s: float
    since: float | None = None
    claims: int = 0


def look(before: Patience, pulse: Pulse, now: float) -> tuple[Patience, bool]:
    """What is known after one more look at a queue in which messages wait, and whether its worker starts anew.

    >>> look(Patience(90.0, since=0.0, claims=7), Pulse(running=0, claims=7), 90.0)
    (Patience(limit_s=180.0, since=90.0, claims=7), True)
    """
    if pulse.running or before.since is None or pulse.claims != before.claims:
        lively = bool(pulse.running) or pulse.claims != before.claims
        limit_s = STILL_S if lively else before.limit_s
        return Patience(limit_s, now, pulse.claims), False
    if now - before.since < before.limit_s:
        return before, False
    return Patience(before.limit_s * 2, now, pulse.claims), True


class Watchdog:
    """The workers of one process, a program for each queue."""

    def __init__(
        self,
        children: Children,
        programs: Mapping[Queue, Program],
        database: Database,
        messages: JobQueue,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = children
        self._programs = programs
        self._database = database
        self._messages = messages
        self._clock = clock
        self._patience = {queue: Patience(STILL_S) for queue in programs}
        self._looked = -_LOOK_EVERY_S

    def need(self, queue: Queue) -> None:
        """Start the worker of a queue, unless it is there already."""
        self._children.want(self._programs[queue])

    def look(self) -> None:
        """Start those anew that take nothing; a look soon after another does nothing.

        Raises Unavailable while the database or the queue does not answer.
        """
        now = self._clock()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        for queue, program in self._programs.items():
            before = self._patience[queue]
            try:
                waits = self._messages.waiting(queue.value) > 0
            except Unavailable:
                self._patience[queue] = replace(before, since=None)
                raise
            if not waits:
                self._patience[queue] = replace(before, since=None)
                continue
            pulse = read_pulse(self._database, kinds_of(queue))
            self._patience[queue], deaf = look(before, pulse, now)
            if deaf:
                _log.error(
                    "messages of the queue %s wait for %.0f s, and its worker takes none: it is started anew",
                    *(queue.value, before.limit_s),
                )
                self._children.renew(program.name)
