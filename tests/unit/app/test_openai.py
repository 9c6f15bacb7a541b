"""`/v1` on small models in this process: shapes, mapping of fields, and errors as OpenAI has them."""

import base64
import json
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_openai import ScriptedOpenAI, status

from app.model_server import build_server, checked, vllm_words
from app.openai_schemas import ChatRequest
from app.openai_text import StopStrings
from app.served import Served
from app.settings import load
from models.fakes import HashEmbedder, OverlapReranker, ScriptedChat
from models.remote import RemoteChat
from models.rerank import MaxSimReranker
from pipeline.errors import InvalidInput, Overloaded
from pipeline.types import Sampling

ASK = {"model": "scripted", "messages": [{"role": "user", "content": "几天？"}]}
PIECES = ["五天", "年假", "。END", "more"]


def client(served: Served) -> httpx.AsyncClient:
    app = build_server(served)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://models")


@pytest.fixture
async def v1() -> AsyncIterator[httpx.AsyncClient]:
    served = Served(
        embedder=HashEmbedder(),
        embedder_name="hash",
        reranker=lambda _: OverlapReranker(),
        reranker_name="overlap",
        chat=ScriptedChat(PIECES),
    )
    async with client(served) as found:
        yield found


def events(body: str) -> list[str]:
    return [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]


async def test_a_chat_answer_has_openais_shape(v1):
    reply = (await v1.post("/v1/chat/completions", json=ASK)).json()
    assert reply["object"] == "chat.completion"
    [choice] = reply["choices"]
    assert choice["message"] == {"role": "assistant", "content": "".join(PIECES)}
    assert choice["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "citations" not in reply


async def test_a_stream_ends_with_reason_usage_and_done(v1):
    body = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, done = events((await v1.post("/v1/chat/completions", json=body)).text)
    assert done == "[DONE]"
    read = [json.loads(chunk) for chunk in chunks]
    assert read[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in read if c["choices"])
    assert text == "".join(PIECES)
    assert read[-2]["choices"][0]["finish_reason"] == "stop"
    assert read[-1]["choices"] == []
    assert read[-1]["usage"]["completion_tokens"] > 0
    assert len({chunk["id"] for chunk in read}) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_ends_the_text_before_itself(v1, stream):
    body = {**ASK, "stop": ["假。E"], "stream": stream}
    reply = await v1.post("/v1/chat/completions", json=body)
    if stream:
        read = [json.loads(chunk) for chunk in events(reply.text)[:-1]]
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in read)
    else:
        text = reply.json()["choices"][0]["message"]["content"]
    assert text == "五天年"


async def test_a_full_answer_says_that_it_was_cut(v1):
    reply = (await v1.post("/v1/chat/completions", json={**ASK, "max_tokens": 1})).json()
    assert reply["choices"][0]["finish_reason"] == "length"


@given(text=st.text("ab", max_size=40), stop=st.text("ab", min_size=1, max_size=4), data=st.data())
@settings(deadline=None)
def test_stop_strings_are_found_however_the_text_is_cut(text, stop, data):
    stopping, out, rest = StopStrings([stop]), "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        out += stopping.feed(rest[:size])
        rest = rest[size:]
    out += stopping.end()
    assert out == text.partition(stop)[0]
    assert stopping.met == (stop in text)


def test_the_fields_of_the_original_server_are_mapped():
    asked = ChatRequest.model_validate(
        {**ASK, "max_new_tokens": 9, "do_sample": False, "top_k": 0, "repetition_penalty": 1.25}
    )
    assert asked.most_tokens == 9
    assert asked.heat == 0.0
    assert asked.sampling == Sampling(presence_penalty=0.25, frequency_penalty=0.25)
    assert ChatRequest.model_validate({**ASK, "top_k": 5}).sampling.top_k == 5


async def test_a_server_behind_is_asked_with_the_same_sampling(scripted_openai: ScriptedOpenAI):
    model = RemoteChat(scripted_openai.url, "scripted")
    body = {**ASK, "top_p": 0.8, "top_k": 7, "seed": 0, "temperature": 0.5, "max_tokens": 33}
    async with client(Served(chat=model)) as v1:
        reply = await v1.post("/v1/chat/completions", json={**body, "repetition_penalty": 1.5})
        text = (await v1.post("/v1/completions", json={"model": "scripted", "prompt": "海"})).json()
    await model.aclose()
    assert reply.json()["usage"]["prompt_tokens"] == 11
    sent = scripted_openai.requests[0].body
    assert {k: sent[k] for k in ("top_p", "top_k", "seed", "temperature", "max_tokens")} == {
        "top_p": 0.8,
        "top_k": 7,
        "seed": 0,
        "temperature": 0.5,
        "max_tokens": 33,
    }
    assert sent["presence_penalty"] == sent["frequency_penalty"] == 0.5
    assert scripted_openai.requests[1].path == "/v1/completions"
    assert scripted_openai.requests[1].body["prompt"] == "海"
    assert text["choices"][0]["text"] == "好的"


async def test_embeddings_as_numbers_and_as_base64_are_the_model_s_vectors(v1):
    texts = ["年假有几天", "the warranty"]
    body = {"model": "hash", "input": texts}
    plain = (await v1.post("/v1/embeddings", json=body)).json()
    packed = (await v1.post("/v1/embeddings", json={**body, "encoding_format": "base64"})).json()
    expected = (await HashEmbedder().embed_queries(texts)).vectors
    for i, row in enumerate(plain["data"]):
        np.testing.assert_allclose(row["embedding"], expected[i], atol=1e-6)
        raw = np.frombuffer(base64.b64decode(packed["data"][i]["embedding"]), "<f4")
        np.testing.assert_array_equal(raw, expected[i])
    assert plain["usage"]["prompt_tokens"] == sum(map(HashEmbedder().count_tokens, texts))


async def test_rerank_orders_the_documents_and_keeps_their_places(v1):
    documents = ["nothing here", {"text": "年假五天"}, "年"]
    body = {"model": "overlap", "query": "年假", "documents": documents, "top_n": 2}
    reply = (await v1.post("/v1/rerank", json={**body, "return_documents": True})).json()
    assert [row["index"] for row in reply["results"]] == [1, 2]
    assert reply["usage"]["total_tokens"] > 0
    assert reply["results"][0] == {
        "index": 1,
        "relevance_score": 1.0,
        "document": {"text": "年假五天"},
    }


async def test_the_bundled_reranker_reads_the_token_vectors_of_the_request():
    served = Served(embedder=HashEmbedder(), embedder_name="", reranker=MaxSimReranker)
    async with client(served) as v1:
        body = {"model": "maxsim", "query": "annual leave", "documents": ["boats", "leave days"]}
        reply = (await v1.post("/v1/rerank", json=body)).json()
        assert [row["index"] for row in reply["results"]] == [1, 0]
        assert reply["results"][0]["relevance_score"] > reply["results"][1]["relevance_score"]
        listed = (await v1.get("/v1/models")).json()["data"]
        assert [row["id"] for row in listed] == ["maxsim"]


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("chat/completions", {**ASK, "model": "gpt-4"}, 404, "scripted"),
        ("chat/completions", {**ASK, "n": 2}, 400, "n must be 1"),
        ("chat/completions", {**ASK, "messages": []}, 400, "messages"),
        ("chat/completions", {**ASK, "temperature": -1}, 400, "temperature"),
        ("chat/completions", {**ASK, "model": "rag:default"}, 404, "rag:default"),
        ("completions", {"model": "scripted", "prompt": "x"}, 400, "/v1/chat/completions"),
        ("embeddings", {"model": "hash", "input": [[1, 2]]}, 400, "token ids"),
        ("embeddings", {"model": "hash", "input": []}, 400, "1 to 2048"),
        ("embeddings", {"model": "hash", "input": "x", "dimensions": 3}, 400, "64"),
        ("embeddings", {"model": "hash", "input": "好" * 600}, 400, "512"),
        ("rerank", {"model": "overlap", "query": "x", "documents": []}, 400, "1 to 2048"),
        ("nothing", {}, 404, "nothing"),
    ],
)
async def test_what_is_wrong_is_said_in_openais_shape(v1, path, body, code, words):
    reply = await v1.post(f"/v1/{path}", json=body)
    assert reply.status_code == code
    error = reply.json()["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "code", "param"}


@pytest.mark.parametrize(("code", "kind"), [(429, "rate_limit_error"), (503, "server_error")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_busy_or_broken_model_is_an_http_error_with_a_time_to_wait(
    scripted_openai: ScriptedOpenAI, code, kind, stream
):
    scripted_openai.replies = [status(code if code == 429 else 500, "no")]

    async def at_once(_seconds: float) -> None: ...

    model = RemoteChat(scripted_openai.url, "scripted", sleep=at_once)
    async with client(Served(chat=model)) as v1:
        reply = await v1.post("/v1/chat/completions", json={**ASK, "stream": stream})
    await model.aclose()
    assert reply.status_code == code
    assert reply.headers["Retry-After"] == "2"
    assert reply.json()["error"]["type"] == kind


class BreaksOff(ScriptedChat):
    """Writes a piece and fails."""

    async def stream(self, messages, *, max_tokens, temperature=0.0, sampling=None):
        yield "begun"
        raise Overloaded("the GPU is full: try again")


async def test_a_stream_that_fails_midway_says_so_as_an_event():
    async with client(Served(chat=BreaksOff([]))) as v1:
        reply = await v1.post("/v1/chat/completions", json={**ASK, "stream": True})
    *_, error, done = events(reply.text)
    assert json.loads(error)["error"]["message"] == "the GPU is full: try again"
    assert done == "[DONE]"


async def test_a_model_server_is_ready_and_names_its_models(v1):
    assert (await v1.get("/health/live")).json() == {"live": True}
    ready = (await v1.get("/health/ready")).json()
    assert ready == {"ready": True, "models": ["scripted", "hash", "overlap"]}
    hashed = (await v1.get("/v1/models/hash")).json()
    assert (hashed["id"], "max_model_len" in hashed) == ("hash", False)
    assert (await v1.get("/v1/models/scripted")).json()["max_model_len"] == 4096
    assert (await v1.get("/v1/models/other")).status_code == 404


def test_roles_are_checked_and_vllm_gets_its_command(tmp_path):
    assert checked(["embed", "rerank"]) == {"embed", "rerank"}
    for wrong in ([], ["paint"]):
        with pytest.raises(InvalidInput, match="embed, rerank, chat"):
            checked(wrong)
    chosen = load({}, chat={"folder": tmp_path / "Chat"}, port=8011)
    assert vllm_words(chosen)[2:] == [
        "models.vllm_serve",
        "chat",
        str(tmp_path / "Chat"),
        *("--name", "Chat", "--host", "127.0.0.1", "--port", "8011"),
    ]
    with pytest.raises(InvalidInput, match="ZHINAO_CHAT__FOLDER"):
        vllm_words(load({}))
