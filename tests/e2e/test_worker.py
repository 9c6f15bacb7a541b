"""`zhinao worker`: the workers of all queues, or of one, beside a Redis that is there."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from processes import children_of, until

from app.redis import SOCKET, redis_command, redis_url


@pytest.mark.parametrize(
    ("options", "queues"),
    [((), {"ingest", "index", "train"}), (("--queue", "index"), {"index"})],
    ids=["all", "one"],
)
def test_workers_of_each_queue_start_and_end_with_one_signal(
    tmp_path: Path, options: tuple[str, ...], queues: set[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="zw-") as folder:
        redis = subprocess.Popen(redis_command(Path(folder)), stdout=subprocess.DEVNULL)
        until((Path(folder) / SOCKET).exists, 60)
        command = [sys.executable, "-m", "app", "worker", "--data", str(tmp_path), *options]
        environment = {**os.environ, "REDIS_URL": redis_url(Path(folder))}
        worker = subprocess.Popen(command, env=environment)

        def served() -> set[str]:
            words = [line.split() for line in children_of(worker.pid).values()]
            return {line[line.index("--queues") + 1] for line in words if "--queues" in line}

        try:
            until(lambda: served() == queues, 120)
            below = children_of(worker.pid)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
            until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), 30)
        finally:
            worker.kill()
            worker.wait(30)
            redis.kill()
            redis.wait(30)
