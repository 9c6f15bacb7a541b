"""The client against a scripted API over ASGI, and against servers that misbehave."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.client import ApiClient, Finished, Retrieved, Token
from app.problems import ApiProblem
from app.schemas import (
    AskRequest,
    SearchRequest,
    UploadedOut,
    UploadResponse,
)
from app.sse import server_sent_events


@pytest.fixture
async def client(api) -> AsyncIterator[ApiClient]:
    made = ApiClient("http://api", httpx.ASGITransport(app=api.app()))
    yield made
    await made.aclose()


def answering(handler) -> ApiClient:
    return ApiClient("http://api", httpx.MockTransport(handler))


async def asked(client: ApiClient, question: str) -> list:
    return [event async for event in client.ask(AskRequest(question=question))]


async def test_a_search_returns_typed_hits(client) -> None:
    found = await client.search(SearchRequest(query="年假", top_k=1))
    assert [hit.filename for hit in found.hits] == ["员工手册.pdf"]


async def test_a_problem_is_raised_with_its_title_detail_and_status(client) -> None:
    with pytest.raises(ApiProblem) as raised:
        await client.search(SearchRequest(query="x", collection="nowhere"))
    assert (raised.value.title, raised.value.status) == ("Not found", 404)
    assert "nowhere" in raised.value.detail


async def test_an_answer_arrives_as_passages_then_tokens_then_the_whole(client, api) -> None:
    events = await asked(client, "年假有几天？")
    assert [type(event) for event in events] == [Retrieved, Token, Token, Finished]
    assert api.asked[0].stream is True
    text = next(iter(api.texts.values()))
    for citation in events[-1].answer.citations:
        assert text[citation.start : citation.end] == citation.quote


async def test_an_error_event_is_raised(client) -> None:
    with pytest.raises(ApiProblem, match="No model answers <now>"):
        await asked(client, "break")


async def test_a_stream_that_ends_early_is_a_problem_and_not_an_answer(client) -> None:
    with pytest.raises(ApiProblem, match="broke off"):
        await asked(client, "silence")


async def test_files_are_sent_under_the_names_the_user_gave_them(client, tmp_path: Path) -> None:
    path = tmp_path / "0"
    path.write_text("正文", encoding="utf-8")
    reply = await client.upload(
        [("报告（最终版）+1.txt", path), ("empty.txt", _empty(tmp_path))], "default"
    )
    assert [row.filename for row in reply.documents] == ["报告（最终版）+1.txt", "empty.txt"]
    assert reply.documents[0].job_id is not None
    assert "empty" in (reply.documents[1].error or "")


def _empty(folder: Path) -> Path:
    path = folder / "1"
    path.touch()
    return path


async def test_files_none_of_which_was_taken_each_say_why(client, tmp_path: Path) -> None:
    reply = await client.upload([("empty.txt", _empty(tmp_path))], "default")
    assert ["empty" in (row.error or "") for row in reply.documents] == [True]


async def test_a_sentence_of_the_api_begins_with_a_capital() -> None:
    body = {"type": "t", "title": "T", "status": 404, "detail": "there is no such job"}
    client = answering(lambda request: httpx.Response(404, json=body))
    with pytest.raises(ApiProblem, match="There is no such job"):
        await client.job("x")


async def test_an_upload_that_was_refused_as_a_whole_is_a_problem(tmp_path: Path) -> None:
    body = {"type": "t", "title": "T", "status": 422, "detail": "no such collection"}
    client = answering(lambda request: httpx.Response(422, json=body))
    with pytest.raises(ApiProblem, match="No such collection"):
        await client.upload([("a.txt", _empty(tmp_path))], "nowhere")


async def test_a_refused_url_is_a_row_with_its_sentence() -> None:
    row = UploadedOut(
        id=None,
        filename="http://x/",
        job_id=None,
        status="failed",
        duplicate=False,
        error="private.",
    )
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        body = {"type": "t", "title": "T", "status": 422, "detail": "d"}
        return httpx.Response(422, json=body | UploadResponse(documents=[row]).model_dump())

    assert (await answering(answer).upload_url("http://x/", "c")).documents == [row]
    assert json.loads(sent[0]) == {"url": "http://x/", "collection": "c"}


async def test_a_file_that_is_gone_is_a_problem_that_names_it(client, tmp_path: Path) -> None:
    with pytest.raises(ApiProblem, match=r"lost\.txt"):
        await client.upload([("lost.txt", tmp_path / "missing")], "default")


async def test_all_pages_of_collections_are_read(client, api) -> None:
    api.collections += ["法务", "Research & Development"]
    assert [one.name for one in await client.collections()] == api.collections


async def test_a_collection_with_an_awkward_name_can_be_made_and_deleted(client, api) -> None:
    await client.create_collection("a/b ?#%")
    await client.delete_collection("a/b ?#%")
    assert api.collections == ["default"]


async def test_a_collection_without_a_name_is_refused_with_a_sentence(client) -> None:
    with pytest.raises(ApiProblem, match="1 to 100 characters"):
        await client.create_collection("")


async def test_documents_are_listed_read_and_deleted(client, api) -> None:
    listed = await client.documents("default", q="手册")
    assert [one.filename for one in listed.documents] == ["员工手册.pdf"]
    id_ = listed.documents[0].id
    assert await client.text(id_, 1) == api.texts[id_]
    assert (await client.delete_document(id_)).deleted == {"chunks": 23}
    with pytest.raises(ApiProblem) as raised:
        await client.text(id_, 1)
    assert raised.value.status == 404


async def test_a_service_that_is_not_ready_still_says_what_it_is(client) -> None:
    ready = await client.ready()
    assert not ready.ready
    assert ready.models == {"answers": "extractive"}


async def test_no_connection_is_a_problem_without_a_status() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ApiProblem) as raised:
        await answering(refuse).jobs()
    assert (raised.value.title, raised.value.status) == ("Unreachable", None)


async def test_a_timeout_is_a_problem_that_says_so() -> None:
    def stall(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(ApiProblem, match="in time"):
        await answering(stall).jobs()


@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", "", '{"detail": "x"}'])
async def test_an_error_without_an_explanation_still_is_one_problem(body: str) -> None:
    client = answering(lambda request: httpx.Response(502, text=body))
    with pytest.raises(ApiProblem, match="502"):
        await client.jobs()


async def test_an_answer_of_another_shape_is_a_problem() -> None:
    client = answering(lambda request: httpx.Response(200, json={"jobs": 3}))
    with pytest.raises(ApiProblem, match="does not know"):
        await client.jobs()


async def test_stored_text_keeps_every_code_point() -> None:
    text = "\ufeff一\u2028二\r\n三\x85😀e\u0301"
    client = answering(lambda request: httpx.Response(200, content=text.encode()))
    assert await client.text("d", 1) == text


@given(
    events=st.lists(
        st.tuples(st.sampled_from(["token", "finished"]), st.text(max_size=20)), max_size=5
    ),
    size=st.integers(1, 7),
    newline=st.sampled_from(["\n", "\r\n"]),
)
@hypothesis_settings(deadline=None, max_examples=60)
async def test_events_survive_any_cut_of_the_stream(events, size: int, newline: str) -> None:
    lines = []
    for name, text in events:
        lines += [
            ": ping",
            "",
            f"event: {name}",
            f"data: {json.dumps(text, ensure_ascii=False)}",
            "",
        ]
    wire = "".join(line + newline for line in lines).encode("utf-8", "surrogatepass")

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(wire), size):
            yield wire[at : at + size]

    read = [(name, json.loads(data)) async for name, data in server_sent_events(pieces())]
    assert read == events


async def test_the_numbers_of_jobs_are_the_first_event_of_a_stream_that_is_then_let_go() -> None:
    asked: list[str] = []

    class Endless(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            counts = {"queued": 2, "done": 1}
            told = {"jobs": counts, "per_second": None, "seconds_left": None}
            yield b": ping\r\n\r\n"
            while True:
                yield f"event: jobs\r\ndata: {json.dumps(told)}\r\n\r\n".encode()

        async def aclose(self) -> None:
            self.closed = True

    stream = Endless()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, stream=stream)

    client = answering(answer)
    assert await client.counts("a&b", kinds=("ingest", "merge")) == {"queued": 2, "done": 1}
    assert stream.closed
    assert asked == ["http://api/jobs/events?collection=a%26b&kind=ingest&kind=merge"]
    broken = answering(lambda request: httpx.Response(200, content=b": ping\r\n\r\n"))
    with pytest.raises(ApiProblem, match="did not come"):
        await broken.counts()


@pytest.mark.parametrize(
    ("url", "certificates"),
    [("http://a", False), ("https://a", True), ("HTTPS://a", True)],
)
def test_only_a_secure_url_has_certificates_read(
    url: str, certificates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    real = httpx.AsyncClient

    def build(**options: Any) -> httpx.AsyncClient:
        seen.append(options["verify"])
        return real(**options)

    monkeypatch.setattr(httpx, "AsyncClient", build)
    ApiClient(url)
    assert [verify is True for verify in seen] == [certificates]
