"""The official client, unmodified, on the whole application; and `zhinao chat` and `serve-model` beside it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from rest import Api, http
from scripted_openai import ScriptedOpenAI, chat, status

from app.running import Server, free_port, running_server

DATA = Path(__file__).parents[1] / "data"
QUESTION = "滤网建议多久更换一次？"
PIECES = ["滤网建议每六个月", "更换一次[1]。"]


@pytest.fixture(scope="module")
def behind() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI() as running:
        yield running


@pytest.fixture(scope="module")
def talking(tmp_path_factory, e5_folder: Path, behind: ScriptedOpenAI) -> Iterator[Server]:
    environment = {"ZHINAO_CHAT__URL": behind.url, "ZHINAO_CHAT__NAME": "scripted"}
    options = ("--no-samples", "--role", "api")
    folder = tmp_path_factory.mktemp("talking")
    (folder / "models").symlink_to(e5_folder.parent)
    with running_server(folder, options=options, environment=environment) as server:
        api = Api(server.url)
        api.upload("default", ("warranty.zh.pdf", (DATA / "warranty.zh.pdf").read_bytes()))
        api.http.close()
        yield server


@pytest.fixture
def client(talking: Server, behind: ScriptedOpenAI) -> Iterator[openai.OpenAI]:
    behind.replies = [chat(PIECES)]
    found = openai.OpenAI(
        base_url=f"{talking.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    with found:
        yield found


def test_the_models_and_the_collections_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["scripted", "multilingual-e5-small-q4", "maxsim", "rag:default"]
    assert client.models.retrieve("rag:default").id == "rag:default"


def test_a_chat_is_answered_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "你好"}]}
    whole = client.chat.completions.create(**asked, max_tokens=50, stop=["更"])
    assert whole.choices[0].message.content == PIECES[0]
    assert whole.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "".join(PIECES)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 18


def test_a_text_is_continued(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="scripted", prompt="从前", max_tokens=9)
    assert reply.choices[0].text == "".join(PIECES)


def test_embeddings_are_near_where_the_meaning_is(client: openai.OpenAI) -> None:
    texts = ["滤网每六个月更换一次。", "The cat sleeps on the sofa."]
    model = "multilingual-e5-small-q4"
    passages = client.embeddings.create(model=model, input=texts)
    query = client.embeddings.create(
        model=model, input=QUESTION, extra_body={"input_type": "query"}
    )
    rows = np.asarray([row.embedding for row in passages.data])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    near, far = rows @ np.asarray(query.data[0].embedding)
    assert near > far + 0.05
    plain = client.embeddings.create(model=model, input=texts[0], encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, rows[0], atol=1e-4)


def test_documents_answer_with_verified_citations(client: openai.OpenAI, talking: Server) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": QUESTION}]
    reply = client.chat.completions.create(model="rag:default", messages=messages)
    text = reply.choices[0].message.content
    [cited] = reply.model_extra["citations"]
    assert f"[{cited['marker']}]" in text
    stored = http.get(f"{talking.url}/documents/{cited['document_id']}/text", timeout=60).text
    assert stored[cited["start"] : cited["end"]] == cited["quote"]
    *pieces, last = client.chat.completions.create(
        model="rag:default", messages=messages, stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in pieces) == text
    assert last.model_extra["citations"][0]["quote"] == cited["quote"]


def test_errors_are_the_clients_own_classes(client: openai.OpenAI, behind: ScriptedOpenAI) -> None:
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "你好"}]}
    with pytest.raises(openai.NotFoundError, match="scripted") as unknown:
        client.chat.completions.create(**{**asked, "model": "gpt-4"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="nowhere"):
        client.chat.completions.create(**{**asked, "model": "rag:nowhere"})
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(**asked, n=2)
    behind.replies = [status(500, "broken")]
    with pytest.raises(openai.InternalServerError, match="broken"):
        client.chat.completions.create(**asked)


def test_reranking_puts_the_answer_first(talking: Server) -> None:
    body = {
        "model": "maxsim",
        "query": QUESTION,
        "documents": ["保修期为两年。", "滤网每六个月更换。"],
    }
    reply = http.post(f"{talking.url}/v1/rerank", json=body, timeout=60).json()
    assert [row["index"] for row in reply["results"]] == [1, 0]


def run_chat(server: Server, *options: str, said: str) -> list[dict]:
    words = [sys.executable, "-m", "app", "chat", "--json", "--url", server.url, *options]
    done = subprocess.run(
        words, input=said, capture_output=True, text=True, timeout=120, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_terminal_keeps_the_conversation_until_it_is_cleared(
    client: openai.OpenAI, talking: Server, behind: ScriptedOpenAI
) -> None:
    before = len(behind.requests)
    said = "/system 简短\n一\n二\n/clear\n三\n/nothing\n/quit\n四\n"
    answers = run_chat(talking, said=said)
    assert [row["answer"] for row in answers] == ["".join(PIECES)] * 3
    sent = [[m["content"] for m in r.body["messages"]] for r in behind.requests[before:]]
    full = "".join(PIECES)
    assert sent == [["简短", "一"], ["简短", "一", full, "二"], ["简短", "三"]]


def test_the_terminal_answers_from_documents(client: openai.OpenAI, talking: Server) -> None:
    [row] = run_chat(talking, "--collection", "default", said=f"{QUESTION}\n")
    assert row["citations"][0]["filename"] == "warranty.zh.pdf"
    assert row["error"] is None


def test_models_are_served_without_a_database(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-m", "app", "serve-model", "embed", "rerank", "--port", str(port)]
    environment = {**os.environ, "ZHINAO_DATA": str(tmp_path)}
    process = subprocess.Popen(words, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        ready = _await(f"{url}/health/ready", process)
        assert ready["models"] == ["multilingual-e5-small-q4", "maxsim"]
        body = {"model": "multilingual-e5-small-q4", "input": "海"}
        reply = http.post(f"{url}/v1/embeddings", json=body, timeout=60).json()
        assert len(reply["data"][0]["embedding"]) == 384
        assert not list(tmp_path.glob("*.db"))
    finally:
        process.terminate()
        process.wait(20)


def _await(url: str, process: subprocess.Popen[bytes]) -> dict:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            return http.get(url, timeout=5).json()
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("the model server did not come up")
