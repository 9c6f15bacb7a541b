"""Jobs of other kinds over HTTP and in the terminal: by the clock, many deletes, a worker that starts when needed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import children_of, until

from app.running import free_port
from indexer.jobs.jobs import Jobs
from indexer.sql.database import Database
from pipeline.types import JobKind

ENTRY = Path(__file__).parents[1] / "fixtures" / "hashed.py"


class Running:
    """A server on hashes that may watch folders in `root`."""

    def __init__(self, folder: Path, root: Path) -> None:
        port = free_port()
        self.data, self.root, self.url = folder, root, f"http://127.0.0.1:{port}"
        command = [sys.executable, str(ENTRY), "serve", str(port), str(folder)]
        environment = {**os.environ, "ZHINAO_WATCH_ROOTS": str(root)}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        self.http = httpx.Client(base_url=self.url, timeout=120, trust_env=False)
        until(self.ready, 300)

    def ready(self) -> bool:
        try:
            return self.http.get("/health/live").status_code == 200
        except httpx.HTTPError:
            return False

    def ended(self, job: str) -> dict:
        until(
            lambda: self.http.get(f"/jobs/{job}").json()["status"] not in ("queued", "running"), 180
        )
        return self.http.get(f"/jobs/{job}").json()

    def zhinao(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("root"))
    yield made
    made.process.terminate()
    made.process.wait(60)
    made.http.close()


def test_schedules_are_added_listed_and_removed(running: Running) -> None:
    (running.root / "docs").mkdir()
    folder = str(running.root / "docs")
    body = {"kind": "watch", "when": "every 15m", "collection": "default"}
    made = running.http.post("/schedules", json={**body, "payload": {"folder": folder}})
    assert made.status_code == 201, made.text
    outside = running.http.post("/schedules", json={**body, "payload": {"folder": "/etc"}})
    assert outside.status_code == 422
    assert "ZHINAO_WATCH_ROOTS" in outside.json()["detail"]
    wrong = running.http.post("/schedules", json={**body, "when": "at noon"})
    assert "at 03:00" in wrong.json()["detail"]
    told = running.zhinao(
        *("schedule", "add", "expire", "at 04:00 on sun", "--days", "365"),
        *("--zone", "Asia/Shanghai", "--json", "--url", running.url),
    )
    [expire] = json.loads(told.stdout)
    listed = running.http.get("/schedules").json()["schedules"]
    assert [row["id"] for row in listed] == [made.json()["id"], expire["id"]]
    removed = running.zhinao("schedule", "remove", expire["id"], "--url", running.url)
    assert removed.returncode == 0, removed.stderr
    assert running.http.delete(f"/schedules/{made.json()['id']}").status_code == 200
    assert running.http.get("/schedules").json() == {"schedules": []}
    assert running.http.delete(f"/schedules/{made.json()['id']}").status_code == 404


def test_a_collection_is_deleted_by_a_job_that_outlives_it(running: Running) -> None:
    running.http.post("/collections", json={"name": "old"})
    files = [("files", (f"{n}.txt", f"The walrus {n} sleeps.".encode())) for n in range(3)]
    rows = running.http.post("/documents", data={"collection": "old"}, files=files).json()
    for row in rows["documents"]:
        assert running.ended(row["job_id"])["status"] == "done"
    first = [rows["documents"][0]["id"]]
    some = running.http.post("/jobs/delete", json={"collection": "old", "document_ids": first})
    assert some.status_code == 202, some.text
    assert running.ended(some.json()["id"])["result"]["lost"]["documents"] == 1
    told = running.zhinao("delete", "--all", "-c", "old", "--json", "--url", running.url)
    assert told.returncode == 0, told.stderr
    job = running.ended(json.loads(told.stdout)["id"])
    assert (job["status"], job["kind"], job["collection"]) == ("done", "delete", "old")
    assert job["result"]["lost"]["documents"] == 2
    names = [row["name"] for row in running.http.get("/collections").json()["collections"]]
    assert "old" not in names
    assert "delete" in running.zhinao("jobs", "--url", running.url).stdout


def test_the_worker_of_a_queue_starts_when_there_is_something_for_it(running: Running) -> None:
    database = Database(f"sqlite:///{running.data / 'zhinao.db'}")
    job = Jobs(database).submit(JobKind.MERGE, collection="default")
    database.close()
    assert running.ended(job)["status"] == "done"
    words = children_of(running.process.pid).values()
    assert any("--queues index" in line for line in words)
    assert not any("--queues train" in line for line in words)
