"""Workers and Redis are killed under the bundled model and leases of 15 s. The chaos of `make test` has short ones."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from packed import tarred
from processes import children_of, until
from rest import Api

from app.running import Server, running_server


@pytest.fixture
def own(tmp_path: Path, e5_folder: Path) -> Iterator[tuple[Api, Server]]:
    (tmp_path / "models").symlink_to(e5_folder.parent)
    with running_server(tmp_path, options=("--no-samples", "--role", "api")) as running:
        made = Api(running.url)
        yield made, running
        made.http.close()


def test_an_archive_whose_worker_is_killed_halfway_is_read_once(own: tuple[Api, Server]) -> None:
    api, server = own
    collection = api.collection()
    files = {f"{n}.txt": f"Walrus number {n} sleeps on the ice.".encode() for n in range(12)}
    [row] = api.send(collection, ("a.tar.gz", tarred(files, "w:gz"))).json()["documents"]
    job = f"/jobs/{row['job_id']}"
    until(lambda: api.http.get(job).json()["done"] >= 2, 60)
    killed = 0
    for pid, command in children_of(server.process.pid).items():
        if "celery" in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    assert killed
    assert api.ended(row["job_id"])["status"] == "done"
    asked = {"collection": collection, "limit": 500}
    told = api.http.get("/documents", params=asked).json()["documents"]
    shown = {one["filename"]: one for one in told}
    assert set(shown) == {"a.tar.gz", *(f"a.tar.gz/{name}" for name in files)}
    assert {(one["status"], tuple(one["versions"])) for one in shown.values()} == {("ready", (1,))}
    assert shown["a.tar.gz"]["members"] == {"total": 12, "read": 12}


def test_a_file_is_read_although_its_worker_and_redis_are_killed(own: tuple[Api, Server]) -> None:
    api, server = own
    text = "\n\n".join(
        f"Paragraph {n}: the walrus number {n} sleeps on the ice." * 6 for n in range(60)
    )
    [row] = api.send("default", ("walrus.txt", text.encode())).json()["documents"]
    job = f"/jobs/{row['job_id']}"
    until(lambda: api.http.get(job).json()["stage"] == "embed", 60)
    for pid, command in children_of(server.process.pid).items():
        if "celery" in command or "redis" in command:
            os.kill(pid, signal.SIGKILL)
    ended = api.ended(row["job_id"])
    assert (ended["status"], ended["attempts"]) == ("done", 2)
    hits = api.search("walrus number 42", "default", top_k=100, mode="words")
    assert len({hit["chunk_id"] for hit in hits}) == len(hits) == ended["total"]
    ready = api.http.get("/health/ready").json()
    assert ready["ready"]
    assert ready["parts"]["worker"] == "started again once, last exit code -9"
