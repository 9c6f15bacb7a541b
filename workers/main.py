"""The Celery application of the workers: `celery -A workers.main worker`."""

import multiprocessing
import os
import warnings

from celery.platforms import SecurityWarning
from celery.signals import celeryd_init, worker_shutting_down

from app.queue import celery_app

app = celery_app(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.include = ["workers.tasks"]

stopping = multiprocessing.Event()
"""Set when the worker is told to end; its processes are forked from this one and see it."""


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _tell_the_processes(**_: object) -> None:
    stopping.set()


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _as_whoever_started_it(**_: object) -> None:
    """Celery warns of root for the sake of pickled messages; ours are JSON, and containers run as root."""
    warnings.filterwarnings("ignore", category=SecurityWarning)
