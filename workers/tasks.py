"""The task that runs a job by its id. Models load on the first job, after Celery's fork."""

import functools
import logging
import threading
import traceback
from collections.abc import Callable

from app.settings import Settings, load
from app.wiring import Core, build_ingester
from indexer.ingest.ingest import Ingester
from indexer.jobs.jobs import Claim, Jobs
from indexer.sql.database import Database
from pipeline.errors import RagError, Unavailable
from workers.main import app, stopping

_RENEW_S = 1.0
_log = logging.getLogger("zhinao.worker")


@functools.cache
def _built(settings: Settings) -> tuple[Core, Ingester]:
    return build_ingester(settings)


@app.task(name="workers.tasks.run")  # type: ignore[untyped-decorator]
def run(job_id: str) -> None:
    """Run the job whose turn it is, which need not be this one: a message says that some job waits."""
    try:
        _run(job_id)
    except Unavailable as error:  # of the database: what else befell a job stands in its row
        _log.warning("%s; the job is sent again by itself", error)


def _run(job_id: str) -> None:
    settings = load()
    try:
        core, ingester = _built(settings)
    except RagError as error:
        _log.error("this worker cannot work: %s", error)
        give_back(settings, job_id, str(error))
        return
    except Exception as error:  # (entry point: the job's row must not wait without a reason)
        kind = type(error).__name__
        give_back(settings, job_id, f"the worker cannot start: its log says more ({kind})")
        raise
    claim = core.jobs.claim_next()
    if claim is not None:
        work(core.jobs, ingester, claim)


def give_back(settings: Settings, job_id: str, error: str) -> None:
    """Let the job's row say why it waits, without the models that could not be built; five times and it is dead."""
    database = Database(settings.database)
    try:
        jobs = Jobs(database)
        claim = jobs.claim(job_id)
        if claim is not None:
            jobs.release(claim, error)
    finally:
        database.close()


def work(jobs: Jobs, ingester: Ingester, claim: Claim) -> None:
    """Run a claimed job under a heartbeat, and record how it ended."""
    with _Heartbeat(jobs, claim, ingester.interrupt):
        try:
            ingester.run(claim)
        except RagError as error:
            if error.retryable:
                jobs.release(claim, str(error))
            else:
                jobs.fail(claim, str(error), type(error).__name__)
        except Exception as error:  # noqa: BLE001  (entry point: a bug ends its job, not the worker)
            _log.exception("job %s failed", claim.job)
            where = traceback.extract_tb(error.__traceback__)[-1]
            jobs.fail(
                claim,
                "the application made a mistake with this file: the worker's log says more "
                f"({type(error).__name__} in {where.name})",
                type(error).__name__,
            )


class _Heartbeat:
    """Renews a claim while the block runs, and hands its job back when the worker is told to end.

    `lost` is called once the claim no longer holds; the block sees for itself at its next step.
    """

    def __init__(self, jobs: Jobs, claim: Claim, lost: Callable[[], None]) -> None:
        self._jobs = jobs
        self._claim = claim
        self._lost = lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(_RENEW_S):
            try:
                held = self._breathe()
            except RagError as error:
                _log.warning("heartbeat of job %s: %s", self._claim.job, error)
                continue
            if not held:
                self._lost()
                return

    def _breathe(self) -> bool:
        if stopping.is_set():
            self._jobs.hand_back(self._claim)
            return False
        return self._jobs.renew(self._claim)
