"""The task that runs a job by its id. Models load on the first job, after Celery's fork."""

import contextlib
import ctypes
import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.settings import Settings, load
from app.wiring import Worker, build_worker
from indexer.jobs.claims import Claim
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import Queue
from indexer.jobs.work import Handler, Superseded, Teller
from indexer.sql.database import Database
from pipeline.errors import NotFound, RagError, Unavailable, disk_refused
from pipeline.types import JobKind, JobStatus
from workers.main import app, stopping

if TYPE_CHECKING:
    from celery import Task

_LOOK_S = 0.25
"""A job that was cancelled ends within so long; looking writes nothing."""
_RENEW_S = 1.0
_LONG_S = 2.0
"""A job of more seconds than this is followed by milliseconds of tidying up."""
_NO_MEMORY = "the worker had not enough memory: free some, or let fewer work at a time with ZHINAO_WORKER_PROCESSES"
_log = logging.getLogger("zhinao.worker")


@functools.cache
def _built(settings: Settings, queue: Queue) -> Worker:
    return build_worker(settings, queue)


@app.task(name="workers.tasks.run", bind=True)  # type: ignore[untyped-decorator]
def run(self: "Task", job_id: str) -> None:
    """Run the job whose turn it is in the message's queue: a message only says that one waits."""
    came_by = (self.request.delivery_info or {}).get("routing_key", Queue.INGEST.value)
    try:
        _run(job_id, Queue(came_by))
    except Unavailable as error:  # of the database: what else befell a job stands in its row
        _log.warning("%s; the job is sent again by itself", error)


def _run(job_id: str, queue: Queue) -> None:
    settings = load()
    try:
        worker = _built(settings, queue)
    except RagError as error:
        _log.error("this worker cannot work: %s", error)
        give_back(settings, job_id, str(error), error)
        return
    except MemoryError as error:
        give_back(settings, job_id, _NO_MEMORY, error)
        raise
    except Exception as error:  # (entry point: the job's row must not wait without a reason)
        says = f"the worker cannot start: its log says more ({type(error).__name__})"
        give_back(settings, job_id, says, error)
        raise
    claim = worker.core.jobs.claim_next(worker.handlers)
    if claim is not None:
        begun = time.monotonic()
        work(worker.core.jobs, worker.handlers[claim.kind], claim)
        if time.monotonic() - begun > _LONG_S:
            _give_memory_back()


def _give_memory_back() -> None:
    """What a long document took: glibc keeps freed memory, about 100 MB after some batches of passages."""
    with contextlib.suppress(AttributeError, OSError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)


def give_back(settings: Settings, job_id: str, says: str, error: Exception) -> None:
    """Let the job's row say why it waits, without the models that could not be built."""
    database = Database(settings.database)
    try:
        jobs = Jobs(database)
        claim = jobs.claim(job_id)
        if claim is not None:
            _release(jobs, claim, says, error)
    finally:
        database.close()


def work(jobs: Jobs, handler: Handler, claim: Claim) -> None:
    """Run a claimed job under a heartbeat, and record how it ended."""
    say = Teller(jobs, claim)

    def lost() -> None:
        say.lost = True
        handler.interrupt()

    with _Heartbeat(jobs, claim, say.breathe, lost):
        try:
            result = handler.run(claim, say)
            if result is not None:
                say.breathe()  # how much was done
                jobs.finish(claim, result)
        except Superseded:
            return
        except Exception as error:  # noqa: BLE001  (entry point: a bug ends its job, not the worker)
            with contextlib.suppress(Exception):  # why it ended is told in any case
                say.breathe()  # the stage that it ended in
            _record(jobs, claim, error)


def _record(jobs: Jobs, claim: Claim, error: Exception) -> None:
    """Give the job back where that may help, and fail it otherwise."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, RagError):
        if error.retryable:
            _release(jobs, claim, str(error), error)
        else:
            jobs.fail(claim, str(error), type(error).__name__, trace)
        return
    _log.error("job %s failed", claim.job, exc_info=error)
    if (passing := _may_pass(error)) is not None:
        _release(jobs, claim, passing, error)
        return
    where = traceback.extract_tb(error.__traceback__)[-1]
    what = "file" if claim.kind is JobKind.INGEST else "job"
    jobs.fail(
        claim,
        f"the application made a mistake with this {what}: the worker's log says more "
        f"({type(error).__name__} in {where.name})",
        type(error).__name__,
        trace,
    )


def _release(jobs: Jobs, claim: Claim, says: str, error: Exception) -> None:
    trace = "".join(traceback.format_exception(error))
    jobs.release(claim, says, trace, error_type=type(error).__name__)


def _may_pass(error: Exception) -> str | None:
    """What the machine lacks for the moment, as a sentence; None for a bug."""
    return _NO_MEMORY if isinstance(error, MemoryError) else disk_refused(error)


class _Heartbeat:
    """Renews a claim while the block runs, and hands its job back when the worker is told to end.

    `lost` is called once the claim no longer holds; the block sees for itself at its next step.
    """

    def __init__(
        self, jobs: Jobs, claim: Claim, renew: Callable[[], bool], lost: Callable[[], None]
    ) -> None:
        self._jobs = jobs
        self._claim = claim
        self._renew = renew
        self._lost = lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._over.wait(min(_LOOK_S, _RENEW_S)):
            due = time.monotonic() - renewed >= _RENEW_S
            try:
                held = self._breathe() if due or stopping.is_set() else self._look()
            except RagError as error:
                _log.warning("heartbeat of job %s: %s", self._claim.job, error)
                continue
            if not held:
                break
            renewed = time.monotonic() if due else renewed
        # More than once: what is to end may be about to begin.
        while not self._over.is_set():
            self._lost()
            self._over.wait(_LOOK_S)

    def _look(self) -> bool:
        """False once the job was cancelled, deleted or given back; another worker's claim shows at the next breath."""
        try:
            return self._jobs.get(self._claim.job).status is JobStatus.RUNNING
        except NotFound:
            return False

    def _breathe(self) -> bool:
        if stopping.is_set():
            self._jobs.hand_back(self._claim)
            return False
        return self._renew()
