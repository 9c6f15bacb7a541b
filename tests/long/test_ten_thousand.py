"""Ten thousand small files while a user uploads one: theirs goes first, all are done, and memory does not grow."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
from processes import children_of, until

from app.running import free_port

FILES = 10_000
A_REQUEST = 100
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = Path(__file__).parents[1] / "fixtures" / "hashed.py"


def text(number: int) -> bytes:
    return (
        f"Order {number:05d} was placed by customer {number * 7 % 997} and holds {number % 13 + 1} items "
        f"from aisle {number % 41}. It leaves the warehouse by van {number % 9} in week {number % 52 + 1}."
    ).encode()


def resident(server: int) -> tuple[int, int]:
    """MiB of the API, and of the heaviest of the workers' processes, of whatever queue."""
    below = children_of(server).items()
    workers = [pid for pid, words in below if "--queues" in words]
    held = [0]
    for pid in workers:
        with suppress(OSError):  # it has ended
            held.append(mib(pid))
    return mib(server), max(held)


def mib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE >> 20


def test_ten_thousand_files_and_one(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, str(_ENTRY), "serve", str(port), str(tmp_path)]
    environment = {**os.environ, "TEST_SAID_EVERY_S": "0.5"}  # as often as in use
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)

    def ready() -> bool:
        try:
            return http.get("/health/live").status_code == 200
        except httpx.HTTPError:
            return False

    def counts() -> dict[str, int]:
        with http.stream("GET", "/jobs/events", params={"collection": "bulk"}) as told:
            data = next(line for line in told.iter_lines() if line.startswith("data: "))
        return httpx.Response(200, text=data.removeprefix("data: ")).json()["jobs"]

    try:
        until(ready, 120)
        assert http.post("/collections", json={"name": "bulk"}).status_code == 201
        begun = time.monotonic()
        for start in range(0, FILES, A_REQUEST):
            files = [("files", (f"{n}.txt", text(n))) for n in range(start, start + A_REQUEST)]
            data = {"collection": "bulk", "bulk": "true"}
            assert http.post("/documents", data=data, files=files).status_code == 202
        uploaded = time.monotonic() - begun
        until(lambda: counts()["done"] >= 1_000, 3_600, every=2)
        held = [resident(server.pid)]
        mine = {"files": ("mine.txt", b"The key to the lighthouse lies under the mat.")}
        job = http.post("/documents", files=mine).json()["documents"][0]["job_id"]
        sent = time.monotonic()
        until(lambda: http.get(f"/jobs/{job}").json()["status"] == "done", 600)
        waited = time.monotonic() - sent
        left = counts()
        assert left["queued"] > 0, "the bulk was done before it: nothing was measured"
        for done in range(2_000, FILES + 1, 1_000):
            until(lambda least=done: counts()["done"] >= least, 3_600, every=2)
            held.append(resident(server.pid))
        print(
            f"{FILES} files: uploaded in {uploaded:.0f} s, all done after {time.monotonic() - begun:.0f} s; "
            f"mine after {waited:.1f} s with {left['queued']} waiting; MiB at each thousand: "
            f"API {[api for api, _ in held]}, worker {[worker for _, worker in held]}",
            flush=True,
        )
        for early, late in zip(held[0], held[-1], strict=True):
            assert late - early < 100
        [shown] = [
            row
            for row in http.get("/collections", params={"limit": 500}).json()["collections"]
            if row["name"] == "bulk"
        ]
        assert (shown["documents"], shown["chunks"]) == (FILES, FILES)
    finally:
        server.terminate()
        server.wait(60)
        http.close()
