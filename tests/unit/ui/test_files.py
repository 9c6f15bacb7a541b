"""What the page shows of a collection's files, and when it looks again."""

import json

import httpx
from scripted_jobs import counted, document, job

from app.client import ApiClient
from app.schemas import UploadedOut
from ui.files import retry_failed, viewed
from ui.progress import Upload
from ui.uploads import followed
from ui.words_en import ENGLISH


class Server:
    def __init__(self, **counts: int) -> None:
        self.counts = counts
        self.asked: list[str] = []
        self.client = ApiClient("http://api", httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.url.path}?{request.url.query.decode()}")
        match request.url.path:
            case "/documents":
                one = document("d").model_dump() | {"status": "processing", "job_id": "j"}
                return httpx.Response(200, json={"documents": [one], "next_cursor": None})
            case "/jobs":
                rows = [job("j", "queued").model_dump()]
                return httpx.Response(200, json={"jobs": rows, "next_cursor": None})
            case "/jobs/retry":
                return httpx.Response(200, json={"retried": 4})
            case "/jobs/events" if self.counts:
                data = json.dumps(counted(**self.counts))
                return httpx.Response(200, content=f"event: jobs\ndata: {data}\n\n".encode())
            case _:
                return httpx.Response(502)


async def test_the_files_that_wait_are_counted_and_a_waiting_one_says_so_without_a_bar() -> None:
    server = Server(queued=3, done=7)
    view = await viewed(server.client, "mine", "", None, ENGLISH)
    assert view.batch is not None
    assert (view.batch.open, view.going) == (3, True)
    assert "/jobs/events?collection=mine&kind=ingest" in server.asked
    assert '<span class="zn-pill">waiting</span>' in view.html
    assert "progressbar" not in view.html


async def test_a_look_that_fails_keeps_what_was_known() -> None:
    known = (await viewed(Server(queued=3).client, "mine", "", None, ENGLISH)).batch
    view = await viewed(Server().client, "mine", "", known, ENGLISH)
    assert view.batch is known
    assert view.going
    away = ApiClient("http://api", httpx.MockTransport(lambda request: httpx.Response(503)))
    lost = await viewed(away, "mine", "", known, ENGLISH)
    assert lost.batch is known
    assert "zn-problem" in lost.html
    assert lost.going


async def test_jobs_that_the_list_just_told_of_are_not_asked_for_again() -> None:
    server = Server(queued=1)
    view = await viewed(server.client, "mine", "", None, ENGLISH)
    sent = UploadedOut(
        id="d", filename="a", job_id="j", status="processing", duplicate=False, error=None
    )
    before = len(server.asked)
    (upload,) = await followed(server.client, (Upload(sent),), view.jobs)
    assert upload.job is not None
    assert upload.job.status == "queued"
    assert len(server.asked) == before


async def test_only_files_are_retried_and_how_many_is_said() -> None:
    server = Server(failed=4)
    said = await retry_failed(server.client, "mine", ENGLISH)
    assert "Files queued again: 4." in said
    assert server.asked == ["/jobs/retry?collection=mine&kind=ingest"]
    assert "zn-problem" in await retry_failed(
        ApiClient("http://api", httpx.MockTransport(lambda request: httpx.Response(500))),
        "mine",
        ENGLISH,
    )
