"""A server in a child process, for the demo, the measurements and the tests."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pipeline.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Server:
    """Where it answers, and its process."""

    url: str
    data: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """A port of the loopback address that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(
    data: Path,
    *,
    options: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    wait_s: float = 120.0,
) -> Iterator[Server]:
    """`zhinao serve` on a free port, ready; ended with SIGTERM. Raises Unavailable when it does not come up."""
    port = free_port()
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen([*command, *options], env={**os.environ, **(environment or {})})  # noqa: S603
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(url, process, wait_s)
        yield Server(url, data, process)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(url: str, process: subprocess.Popen[bytes], wait_s: float) -> None:
    end = time.monotonic() + wait_s
    with httpx.Client(timeout=5, trust_env=False) as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise Unavailable(
                    f"the server ended with code {process.returncode}: its message stands above"
                )
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{url}/health/ready").status_code == 200:
                    return
            time.sleep(0.1)
    raise Unavailable(f"the server was not ready after {wait_s:.0f} s")
