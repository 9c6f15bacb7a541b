"""The Celery application of the workers: `celery -A workers.main worker`."""

import os

from app.queue import celery_app

app = celery_app(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.include = ["workers.tasks"]
