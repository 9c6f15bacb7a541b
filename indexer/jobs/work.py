"""How a kind of job is run: what its handler is given, and what it gives back.

To add a kind: name it in `pipeline.types.JobKind`, give it a rule in `indexer/jobs/kinds.py`, write a handler (a
class with `run` and `interrupt`) in the package that owns the work, and name it in `app.wiring.build_worker` under the
kind's queue. Whoever wants the work done calls `Jobs.submit(kind, collection=..., payload=...)`; the relay sends
it, a worker of its queue claims it, and API, page, terminal, metrics, cancelling, retries and leases work without more.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from indexer.jobs.claims import Claim
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import RULES
from pipeline.types import JobKind

_SAID_EVERY_S = 0.5
_LOOK_EVERY_S = 5.0
_STAGES = ("", "unpack", "members", "parse", "chunk", "embed", "publish")
"""Of a file, in their order."""
Result = Mapping[str, object]
"""What a job leaves to be read in its row: JSON, at most 64 KiB."""


class Superseded(Exception):
    """The claim no longer holds: the job was cancelled or its document deleted, or another worker has the job."""


class Say(Protocol):
    """Tells how far a job is, in the stage's units; raises Superseded once the claim no longer holds.

    Call it often, at least once a second where that is possible: the row is written twice a second at most, and a
    job that is cancelled ends at a next call.
    """

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None: ...


class Handler(Protocol):
    """Runs claimed jobs of a kind, one at a time. A job may be run again from its start at any moment.

    What it writes to the database it fences off in the same transaction: `owned(session, claim)` is None there once
    another worker has the job.
    """

    def run(self, claim: Claim, say: Say) -> Result | None:
        """Do the job. The worker ends the row with what is returned; None leaves the row as it is.

        Raises RagErrors: a retryable one queues the job again after a pause, any other fails it. Superseded ends
        quietly.
        """
        ...

    def interrupt(self) -> None:
        """Stop what runs, as far as that is possible; another thread calls it when the claim no longer holds."""
        ...


class Teller:
    """Implements Say on a claim's row. A file's progress never goes back: what an attempt does again is not told.

    It writes at most twice a second; what is said between is written by the next call, or by `breathe`. A job whose
    kind gives way is handed back here when one that goes first waits for its worker.
    """

    def __init__(
        self, jobs: Jobs, claim: Claim, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._jobs = jobs
        self._claim = claim
        self._clock = clock
        self._writing = threading.Lock()
        self._said: float | None = None
        self._due: tuple[str, int, int] | None = None
        self._looked = clock()
        self._reached = _place(*claim.reached) if claim.kind is JobKind.INGEST else (0, 0)
        self.lost = False

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        if self.lost:
            raise Superseded
        with self._writing:
            now = self._clock()
            self._due = None if _place(stage, done) < self._reached else (stage, done, total)
            if self._said is not None and now - self._said < _SAID_EVERY_S:
                return
            self._said = now
            if not self._write():
                raise Superseded
        if RULES[self._claim.kind].gives_way and now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            if self._jobs.give_way(self._claim):
                raise Superseded

    def breathe(self) -> bool:
        """Renew the lease, from any thread, and write what was said last; False once the claim no longer holds."""
        with self._writing:
            return self._write()

    def _write(self) -> bool:
        if self._due is None:
            return self._jobs.renew(self._claim)
        held = self._jobs.progress(self._claim, *self._due)
        self._due = None
        return held


def _place(stage: str, done: int) -> tuple[int, int]:
    """Where in its way a file is; a stage of another kind of job is behind all of them."""
    return (_STAGES.index(stage) if stage in _STAGES else len(_STAGES)), done
