"""The job queue: Celery on Redis. It only carries ids; a message that is lost is sent again by the relay."""

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.broker import use_mended_transport
from indexer.jobs.kinds import Queue
from pipeline.errors import Unavailable

RUN = "workers.tasks.run"
INGEST = Queue.INGEST.value
_TIMEOUT_S = 5.0


def worker_name(queue: Queue) -> str:
    """What a queue's worker is called among a server's children."""
    return "worker" if queue is Queue.INGEST else f"worker {queue.value}"


def celery_app(broker: str) -> Celery:
    """A Celery application: JSON only, acknowledged early, one message at a time, results nowhere."""
    use_mended_transport()
    app = Celery("zhinao", broker=broker)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_default_queue=INGEST,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
        },
    )
    return app


class CeleryQueue:
    """Implements `pipeline.ports.JobQueue`."""

    def __init__(self, broker: str) -> None:
        self._app = celery_app(broker)
        # One more try, at once: an upload must not wait for a Redis that is gone.
        self._app.conf.broker_transport_options.update(
            max_retries=1, interval_start=0, interval_step=0.1, interval_max=0.1
        )

    def submit(self, job_id: str, *, queue: str = INGEST) -> None:
        """Send an id. Raises Unavailable when Redis does not answer; the row stays queued then."""
        try:
            self._app.send_task(RUN, args=[job_id], queue=queue, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            raise _no_redis() from error

    def waiting(self, queue: str = INGEST) -> int:
        """Messages that no worker has taken yet."""
        try:
            with self._app.connection_or_acquire() as connection:
                return int(connection.default_channel.client.llen(queue))
        except (OperationalError, RedisError, OSError) as error:
            raise _no_redis() from error

    def close(self) -> None:
        self._app.close()


def _no_redis() -> Unavailable:
    return Unavailable(
        "the job queue (Redis) does not answer: uploads wait and go on by themselves when it is back"
    )
