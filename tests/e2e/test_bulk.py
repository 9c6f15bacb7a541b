"""Hundreds of small files at once: a user's one goes first, none is lost, and memory does not grow with them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import children_of
from rest import Api

FILES = 300
A_REQUEST = 60
_PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def api(server) -> Iterator[Api]:
    made = Api(server.url)
    yield made
    made.http.close()


def text(number: int) -> bytes:
    return (
        f"Order {number:05d} was placed by customer {number * 7 % 997} and holds {number % 13 + 1} items "
        f"from aisle {number % 41}. It leaves the warehouse by van {number % 9} in week {number % 52 + 1}."
    ).encode()


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def heaviest(server) -> int:
    """The most that one of the server's processes holds, in bytes; those that read files come and go."""
    workers = [pid for pid, words in children_of(server.process.pid).items() if "celery" in words]
    return max(resident(pid) for pid in (server.process.pid, *workers))


def test_one_file_goes_before_hundreds_and_all_are_done(api: Api, server) -> None:
    bulk, mine = api.collection(), api.collection()
    api.upload(mine, ("warm.txt", b"The first file loads the model."))
    for start in range(0, FILES, A_REQUEST):
        files = [("files", (f"{n}.txt", text(n))) for n in range(start, start + A_REQUEST)]
        reply = api.http.post("/documents", data={"collection": bulk, "bulk": "true"}, files=files)
        assert reply.status_code == 202
        assert not [row for row in reply.json()["documents"] if row["error"]]
    for collection in (bulk, mine):  # among the many, and beside them
        [row] = api.upload(
            collection, ("mine.txt", b"The key to the lighthouse lies under the mat.")
        )
        assert row["job"]["status"] == "done"
        assert open_jobs(api, bulk)
        assert (
            api.search("Where is the key to the lighthouse?", collection)[0]["filename"]
            == "mine.txt"
        )
    early = heaviest(server)
    end = time.monotonic() + 600
    while open_jobs(api, bulk):
        assert time.monotonic() < end, "some jobs are still open"
        time.sleep(0.5)
    assert heaviest(server) - early < 80 * 2**20
    [counted] = [
        row
        for row in api.http.get("/collections", params={"limit": 500}).json()["collections"]
        if row["name"] == bulk
    ]
    assert (counted["documents"], counted["chunks"]) == (FILES + 1, FILES + 1)
    for number in (0, 137, FILES - 1):
        hits = api.search(f"Order {number:05d}", bulk, mode="words")
        assert hits[0]["filename"] == f"{number}.txt"


def open_jobs(api: Api, collection: str) -> bool:
    asked: dict[str, object] = {"collection": collection, "limit": 1}
    return any(
        api.http.get("/jobs", params={**asked, "status": status}).json()["jobs"]
        for status in ("queued", "running")
    )


def test_a_bulk_upload_may_be_called_that_and_nothing_else(api: Api) -> None:
    reply: httpx.Response = api.http.post(
        "/documents", data={"bulk": "perhaps"}, files=[("files", ("a.txt", b"x"))]
    )
    assert reply.status_code == 422
