"""The whole application on the three 360Zhinao classes at once: published layouts, loaded in the processes, on the CPU.

The embedder and the reranker are random, so what they like is nonsense and the path is real. The chat model's layers
are taught one sentence, so that there is something to stream and to cite.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import openai
import pytest
from rest import Api
from tiny_zhinao import read_weights, write_chat, write_reranker, write_search

from app.running import Server, running_server

GUESTS = "House rules\n\nYou are helpful to every guest. Breakfast is served from seven to ten.\n"
PUMP = "空气净化器说明\n\n空气净化器的主机保修期为三十六个月。滤网建议每六个月更换一次。\n"
SENTENCE = ["You", " are", " helpful", "[", "1", "]", "."]
QUESTION = "What are you to every guest?"


def teach(folder: Path) -> Path:
    """Weights that write SENTENCE after a line break, whatever was asked: attention and MLP add nothing, and the head
    knows the next word by the last one.
    """
    import torch
    from safetensors.torch import save_file

    from models.zhinao_folder import Words

    words = Words.load(folder)
    chain = [words.ids(piece) for piece in ["\n", *SENTENCE]]
    assert all(len(ids) == 1 for ids in chain)
    ids = [*(ids[0] for ids in chain), words.control("<|im_end|>")]
    weights = read_weights(folder)
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    weights["model.norm.weight"].fill_(1)
    head = torch.zeros_like(weights["lm_head.weight"])
    for last, following in pairwise(ids):
        head[following] = weights["model.embed_tokens.weight"][last]
    save_file(
        {**weights, "lm_head.weight": head},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("zhinao")
    environment = {
        "ZHINAO_EMBEDDER__FOLDER": str(write_search(models / "search")),
        "ZHINAO_RERANKER__FOLDER": str(write_reranker(models / "reranker")),
        "ZHINAO_CHAT__FOLDER": str(teach(write_chat(models / "chat", kv_heads=2))),
        "ZHINAO_EMBEDDER__DEVICE": "cpu",
        "ZHINAO_RERANKER__DEVICE": "cpu",
        "ZHINAO_CHAT__DEVICE": "cpu",
        "ZHINAO_WORKER_PROCESSES": "1",
        "OMP_NUM_THREADS": "1",
    }
    options = ("--no-samples", "--role", "api")
    data = tmp_path_factory.mktemp("data")
    with running_server(data, options=options, environment=environment, wait_s=300) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    api = Api(server.url)
    yield api
    api.http.close()


@pytest.fixture(scope="module")
def guests(api: Api) -> str:
    files = (("guests.txt", GUESTS.encode()), ("pump.txt", PUMP.encode()))
    rows = api.upload("default", *files)
    assert [row["job"]["status"] for row in rows] == ["done", "done"], rows
    return rows[0]["id"]


def test_the_server_names_the_models(api: Api) -> None:
    models = api.http.get("/health/ready").json()["models"]
    assert models["embedder"].startswith("360zhinao-search-")
    assert models["answers"] == "chat"


def test_every_hit_has_the_rerankers_score_and_stands_in_its_order(api: Api, guests: str) -> None:
    hits = api.search("保修期多长？", "default")
    assert len(hits) == 2
    scores = [hit["scores"]["rerank"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert [hit["score"] for hit in hits] == scores
    assert all("dense" in hit["scores"] for hit in hits)
    assert len(set(scores)) == 2
    plain = api.search("保修期多长？", "default", rerank=False)
    assert plain[0]["filename"] == "pump.txt"
    assert "rerank" not in plain[0]["scores"]


def test_an_answer_is_written_counted_and_cited(api: Api, guests: str) -> None:
    answer = api.ask(QUESTION, "default", document_ids=[guests])
    assert answer["model"] == "chat"
    assert answer["usage"]["completion_tokens"] == len(SENTENCE)
    assert answer["usage"]["prompt_tokens"] > 50
    [sentence] = answer["sentences"]
    assert "You are helpful" in sentence["text"]
    [citation] = answer["citations"]
    assert citation["document_id"] == guests
    text = api.text(guests, citation["version"])
    assert citation["quote"] == text[citation["start"] : citation["end"]]
    assert citation["quote"] == "You are helpful to every guest."


def test_a_stream_brings_the_tokens_one_by_one(api: Api, guests: str) -> None:
    body = {
        "question": QUESTION,
        "collection": "default",
        "document_ids": [guests],
        "stream": True,
    }
    events: list[tuple[str, dict]] = []
    with api.http.stream("POST", "/ask", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                events.append((line.removeprefix("event: "), {}))
            elif line.startswith("data: "):
                events[-1] = (events[-1][0], json.loads(line.removeprefix("data: ")))
    assert [data["text"] for name, data in events if name == "token"] == SENTENCE
    assert events[-1][0] == "finished"
    assert events[-1][1]["citations"][0]["quote"] == "You are helpful to every guest."


def test_the_official_client_uses_the_models_of_this_process(server: Server) -> None:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http
    ) as client:
        names = [model.id for model in client.models.list()]
        assert names[:3] == ["chat", "search", "reranker"]
        assert client.models.retrieve("chat").model_extra["max_model_len"] == 4096
        written = "".join(SENTENCE)
        turn = {"role": "user", "content": "Who are you?"}
        reply = client.chat.completions.create(model="chat", messages=[turn])
        assert reply.choices[0].message.content == written
        reply = client.completions.create(model="chat", prompt="Say it:\n", max_tokens=3)
        assert reply.choices[0].text == "".join(SENTENCE[:3])
        assert reply.choices[0].finish_reason == "length"
        pieces = client.completions.create(model="chat", prompt="Say it:\n", stream=True)
        assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == written
        [row] = client.embeddings.create(model="search", input="你好").data
        assert abs(np.linalg.norm(row.embedding) - 1) < 1e-5
