"""A disk that is full, nearly full or read-only: a sentence says so, nothing is left half-made, nothing is lost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rest import Api
from small_disk import SmallDisk, small_disk

from app.running import Server, free_port, running_server

FACT = b"The lighthouse of Skagen was built in 1858 and is 46 metres high."
OTHER = "The harbour crane of Esbjerg lifts {} tonnes.\n\n"


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    with small_disk() as made:
        yield made


@pytest.fixture(scope="module")
def running(disk: SmallDisk) -> Iterator[Server]:
    """A server whose data and temporary files are on the small disk."""
    scratch = disk.path / "tmp"
    scratch.mkdir()
    with running_server(
        disk.path / "data",
        options=("--no-samples", "--role", "api"),
        environment={"TMPDIR": str(scratch)},
    ) as server:
        yield server
        disk.grow()


@pytest.fixture
def api(disk: SmallDisk, running: Server) -> Iterator[Api]:
    disk.grow()
    made = Api(running.url)
    made.upload("default", ("lighthouse.txt", FACT))
    yield made
    disk.grow()
    made.http.close()


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def names(api: Api) -> list[str]:
    return [d["filename"] for d in api.http.get("/documents").json()["documents"]]


def serve(data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "serve", "--role", "api", "--no-samples"]
    return subprocess.run(
        [*command, "--port", str(free_port()), "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_server_does_not_start_on_a_disk_with_little_room() -> None:
    with small_disk("100m") as disk:
        ended = serve(disk.path / "data")
        assert ended.returncode == 1
        assert "less than 500 MiB are free" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert files(disk.path) <= {"data/serve.lock"}


@pytest.mark.parametrize("made", [False, True], ids=["empty", "used-before"])
def test_a_server_does_not_start_in_a_folder_that_cannot_be_written(made: bool) -> None:
    with small_disk() as disk:
        if made:
            (disk.path / "data").mkdir()
            (disk.path / "data" / "serve.lock").touch()
        before = files(disk.path)
        disk.remount("ro")
        ended = serve(disk.path / "data")
        assert ended.returncode == 1
        assert (
            "cannot be written (Read-only file system): choose another with --data" in ended.stderr
        )
        assert "Traceback" not in ended.stderr
        assert files(disk.path) == before


@pytest.mark.parametrize(
    ("free", "size"),
    [(600_000, 900_000), (600_000, 3_000_000), (0, 200), (0, 3_000_000)],
    ids=["stored", "spooled", "not-a-byte", "not-a-byte-spooled"],
)
def test_an_upload_that_finds_no_room_is_a_problem_and_leaves_nothing(
    api: Api, disk: SmallDisk, running: Server, free: int, size: int
) -> None:
    folder = running.data / "collections"
    before, listed = files(folder), names(api)
    data = os.urandom(size // 2).hex().encode()
    disk.leave(free)
    response = api.send("default", ("big.txt", data))
    assert response.status_code in (503, 507), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert (
        "free some disk space" in response.json()["detail"]
        or "free space" in response.json()["detail"]
    )
    assert api.search("Skagen lighthouse", "default")
    assert names(api) == listed
    disk.grow()
    assert files(folder) == before
    assert not list((running.data / "uploads").glob("*"))
    [row] = api.upload("default", ("big.txt", b"It is smaller now: " + data[:100]))
    assert row["job"]["status"] == "done"
    api.http.delete(f"/documents/{row['id']}")


def test_a_job_that_finds_no_room_waits_with_a_sentence_and_ends_when_there_is(
    api: Api, disk: SmallDisk, running: Server
) -> None:
    text = "".join(OTHER.format(n) * 8 for n in range(110)).encode()
    row = api.send("default", ("crane.txt", text)).json()["documents"][0]
    seen(api, row["job_id"], lambda job: job["stage"] == "embed")
    disk.leave(500_000)  # the database can be written for minutes yet, what was embedded cannot
    job = seen(api, row["job_id"], lambda job: job["status"] != "running")
    assert job["status"] == "queued", job
    assert "free some disk space" in job["error"]
    assert api.search("Skagen lighthouse", "default")
    assert not [h for h in api.search("crane Esbjerg", "default") if h["filename"] == "crane.txt"]
    disk.grow()
    assert api.ended(row["job_id"])["status"] == "done"
    assert [h for h in api.search("crane Esbjerg", "default") if h["filename"] == "crane.txt"]
    assert running.process.poll() is None


def seen(api: Api, job_id: str, true) -> dict:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            job = api.http.get(f"/jobs/{job_id}").json()
        except httpx.HTTPError:
            continue
        if true(job):
            return job
        time.sleep(0.1)
    raise AssertionError(f"nothing came of it: {job}")
