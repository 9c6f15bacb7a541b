"""What becomes of a worker's messages when Redis is killed while it holds some: it goes on once Redis is back."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kombu import Connection
from kombu.transport.redis import Transport
from processes import until

from app.broker import use_mended_transport
from app.queue import INGEST, CeleryQueue
from app.redis import SOCKET, redis_command, redis_url
from pipeline.errors import Unavailable

FIXTURES = Path(__file__).parents[1] / "fixtures"
HELD = 2


class MortalRedis:
    """A Redis in a short folder that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = redis_url(folder)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(redis_command(self.folder), stdout=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with suppress(Unavailable, FileNotFoundError):
            CeleryQueue(self.url).waiting()
            return (self.folder / SOCKET).exists()
        return False


@pytest.fixture
def redis() -> Iterator[MortalRedis]:
    with tempfile.TemporaryDirectory(prefix="zr-") as folder:
        made = MortalRedis(Path(folder))
        yield made
        made.kill()


def test_what_could_not_be_acknowledged_takes_no_place_of_the_messages_a_worker_may_hold(
    redis: MortalRedis,
) -> None:
    use_mended_transport()
    queue = CeleryQueue(redis.url)
    for number in range(HELD):
        queue.submit(str(number))
    with Connection(redis.url) as connection:
        channel = connection.channel()
        channel.basic_qos(0, HELD, False)
        taken = [channel.basic_get(INGEST) for _ in range(HELD)]
        assert not channel.qos.can_consume()
        redis.kill()
        for message in taken:
            with pytest.raises(Transport.connection_errors):
                message.ack()
        assert channel.qos.can_consume()


def test_a_worker_takes_messages_again_after_redis_was_killed_under_its_hands(
    redis: MortalRedis, tmp_path: Path
) -> None:
    """Four messages are in the hands of two processes when Redis dies: two are worked on, two are yet to be."""
    echo = tmp_path / "echo"
    echo.touch()
    queue = CeleryQueue(redis.url)

    def came(*ids: str) -> bool:
        return set(ids) <= set(echo.read_text().split())

    command = [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "echoing", "worker", "--queues", INGEST),
        *("--concurrency", "2", "--loglevel", "CRITICAL"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    environment = {**os.environ, "REDIS_URL": redis.url, "ECHO": str(echo)}
    worker = subprocess.Popen(
        command, cwd=FIXTURES, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for number in range(3):
            for each in range(10):
                queue.submit(f"{number}-{each}")
            until(lambda n=number: came(f"{n}-1"), 60)
            redis.kill()
            redis.start()
            queue.submit(f"after-{number}")
            until(lambda n=number: came(f"after-{n}"), 60)
    finally:
        worker.terminate()
        worker.wait(30)
