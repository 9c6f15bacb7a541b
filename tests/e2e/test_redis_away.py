"""Redis is away for a while: uploads are taken, the server says what is wrong, and everything is read afterwards.

The long tests have a minute of it, with files in hand.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import until
from redis import Redis

from app.redis import SOCKET, redis_command, redis_url
from app.running import free_port

ENTRY = Path(__file__).parents[1] / "fixtures" / "hashed.py"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="zr-") as made:
        yield Path(made)


def started(folder: Path) -> subprocess.Popen[bytes]:
    redis = subprocess.Popen(redis_command(folder), stdout=subprocess.DEVNULL)
    until((folder / SOCKET).exists, 60)
    return redis


def test_uploads_wait_while_redis_is_away_and_none_is_lost(tmp_path: Path, folder: Path) -> None:
    redis, port = started(folder), free_port()
    command = [sys.executable, str(ENTRY), "serve", str(port), str(tmp_path)]
    environment = {**os.environ, "REDIS_URL": redis_url(folder)}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)

    def upload(name: str) -> str:
        text = f"The walrus of {name} sleeps on the ice.".encode()
        reply = http.post("/documents", files={"files": (name, text)})
        assert reply.status_code == 202, reply.text
        return reply.json()["documents"][0]["job_id"]

    def status(job: str) -> str:
        return http.get(f"/jobs/{job}").json()["status"]

    def ready() -> bool:
        try:
            return http.get("/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def no_message_is_in_hand() -> bool:
        """A message sent twice, because its worker was still loading, would be worked off without Redis."""
        with Redis(unix_socket_path=str(folder / SOCKET)) as asked:
            return asked.llen("ingest") == 0 and asked.hlen("unacked") == 0

    try:
        until(ready, 300)
        first = upload("first.txt")
        until(lambda: status(first) == "done" and no_message_is_in_hand(), 180)
        redis.kill()
        redis.wait(30)
        (folder / SOCKET).unlink()
        later = [upload(f"{n}.txt") for n in range(3)]
        told = http.get("/health/ready")
        assert told.status_code == 503
        assert "Redis" in told.json()["parts"]["queue"]
        assert "zhinao_queue_up 0.0" in http.get("/metrics").text
        assert {status(job) for job in later} == {"queued"}
        redis = started(folder)
        until(lambda: {status(job) for job in later} == {"done"}, 180)
        assert ready()
        assert http.get("/documents").json()["documents"][0]["status"] == "ready"
    finally:
        server.terminate()
        server.wait(60)
        redis.kill()
        redis.wait(30)
        http.close()
