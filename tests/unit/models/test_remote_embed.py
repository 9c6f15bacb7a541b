"""An embedder and a reranker behind a URL: against our own server, and against servers that fail."""

import asyncio
import base64
import json
import math
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_openai import ScriptedOpenAI, drop, raw, silence, status

from app.model_server import build_server
from app.served import Served
from models.fakes import HashEmbedder, OverlapReranker
from models.http import Limits
from models.remote_embed import RemoteEmbedder, read_vectors
from models.remote_rerank import RemoteReranker, read_scores
from models.zhinao_embed import INSTRUCTION
from pipeline.errors import InvalidInput, ModelUnavailable, Overloaded, TooLarge
from pipeline.ports import EncodedQuery
from pipeline.types import Chunk, ChunkId, DocumentId, Hit, Key, Passage, Script

QUICK = Limits(connect_s=1, answer_s=0.3, backoff_s=0.001, longest_backoff_s=0.002)
SEARCH = "360Zhinao-search"


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A tokenizer.json with a token a character and two marks around."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def vectors_of(*rows: list[float]) -> str:
    return json.dumps({"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]})


def hit(number: int, text: str) -> Hit:
    chunk = Chunk(
        id=ChunkId(str(number)),
        key=Key(number),
        document=DocumentId("d"),
        name="d",
        version=1,
        text=text,
        start=0,
        end=len(text),
        page=None,
        heading=(),
        context="",
        script=Script.HAN,
    )
    return Hit(chunk, 0.0)


def query(text: str) -> EncodedQuery:
    return EncodedQuery(text, np.zeros(0, np.float32), None, {})


def our_server() -> httpx.ASGITransport:
    served = Served(
        embedder=HashEmbedder(),
        embedder_name="hash",
        reranker=lambda _: OverlapReranker(),
        reranker_name="overlap",
    )
    return httpx.ASGITransport(app=build_server(served))


async def test_our_own_server_gives_the_vectors_of_the_model_behind_it(words):
    remote = RemoteEmbedder("http://models", "hash", tokenizer=words, transport=our_server())
    own = HashEmbedder()
    passages = [Passage("手册", f"第{i}条 annual leave {i}") for i in range(70)]
    asked, read = await asyncio.gather(
        remote.embed_queries(["年假 leave"]), remote.embed_passages(passages)
    )
    assert remote.dim == own.dim
    expected = await own.embed_passages(passages)
    np.testing.assert_allclose(read.vectors, expected.vectors, atol=1e-6)
    np.testing.assert_allclose(
        asked.vectors, (await own.embed_queries(["年假 leave"])).vectors, atol=1e-6
    )
    assert (await remote.embed_passages([])).vectors.shape == (0, own.dim)
    remote.close()
    with pytest.raises(ModelUnavailable, match="closed"):
        await remote.embed_queries(["x"])


def test_it_works_in_one_event_loop_after_another(words, scripted_openai: ScriptedOpenAI):
    scripted_openai.replies = [status(200, vectors_of([3.0, 4.0]))]
    remote = RemoteEmbedder(scripted_openai.url, "m", tokenizer=words, dim=2)
    for _ in range(3):
        found = asyncio.run(remote.embed_passages([Passage("", "x")]))
        np.testing.assert_allclose(found.vectors, [[0.6, 0.8]], atol=1e-6)
    assert len({request.connection for request in scripted_openai.requests}) == 1
    remote.close()


@pytest.mark.parametrize(
    ("name", "expected", "field"),
    [
        (SEARCH, INSTRUCTION + "海", None),
        ("m", "海", None),
        ("multilingual-e5-small-q4", "海", "query"),
    ],
)
async def test_a_query_is_asked_as_its_model_wants(
    words, scripted_openai: ScriptedOpenAI, name, expected, field
):
    scripted_openai.replies = [status(200, vectors_of([1.0, 0.0]))]
    remote = RemoteEmbedder(scripted_openai.url, name, tokenizer=words, dim=2)
    await remote.embed_queries(["海"])
    await remote.embed_passages([Passage("a", "海")])
    remote.close()
    asked, read = [request.body for request in scripted_openai.requests]
    assert asked["input"] == [expected]
    assert asked.get("input_type") == field
    assert read["input"] == ["a\n海"]


async def test_a_long_query_is_cut_to_the_limit_and_a_long_passage_refused(
    words, scripted_openai: ScriptedOpenAI
):
    scripted_openai.replies = [status(200, vectors_of([1.0, 0.0]))]
    remote = RemoteEmbedder(scripted_openai.url, SEARCH, tokenizer=words, dim=2, max_tokens=64)
    await remote.embed_queries(["长" * 500])
    [text] = scripted_openai.requests[0].body["input"]
    assert remote.count_tokens(text) == 64
    assert text.startswith(INSTRUCTION)
    with pytest.raises(TooLarge, match="64"):
        await remote.embed_passages([Passage("", "长" * 500)])
    remote.close()


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (status(200, "<html>"), ModelUnavailable, "something else"),
        (status(200, "[]"), ModelUnavailable, "something else than embeddings"),
        (status(200, vectors_of([1.0])), ModelUnavailable, "vectors of 1 numbers"),
        (status(200, vectors_of([1.0, 0.0], [1.0, 0.0])), ModelUnavailable, "2 embeddings for 1"),
        (status(200, '{"data":[{"index":0,"embedding":[NaN,1]}]}'), ModelUnavailable, "NaN"),
        (status(200, vectors_of([0.0, 0.0])), ModelUnavailable, "zeros"),
        (status(500, "boom"), ModelUnavailable, "boom"),
        (status(429, "busy"), Overloaded, "busy"),
        (status(401, "k"), ModelUnavailable, "ZHINAO_EMBEDDER__API_KEY"),
        (silence(), ModelUnavailable, "sent nothing"),
        (drop(), ModelUnavailable, "closed the connection"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), ModelUnavailable, "closed"),
    ],
)
async def test_a_server_that_fails_is_named_with_what_to_do(
    words, scripted_openai: ScriptedOpenAI, reply, error, says
):
    scripted_openai.replies = [reply]
    remote = RemoteEmbedder(scripted_openai.url, "m", tokenizer=words, dim=2, limits=QUICK)
    with pytest.raises(error, match=says) as caught:
        await remote.embed_passages([Passage("", "x")])
    assert scripted_openai.url in str(caught.value)
    remote.close()


async def test_an_answer_that_broke_off_is_asked_for_again(words, scripted_openai: ScriptedOpenAI):
    broken = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    scripted_openai.replies = [broken, status(200, vectors_of([1.0, 0.0]))]
    remote = RemoteEmbedder(scripted_openai.url, "m", tokenizer=words, dim=2, limits=QUICK)
    assert (await remote.embed_passages([Passage("", "x")])).vectors.shape == (1, 2)
    assert len(scripted_openai.requests) == 2
    remote.close()


def test_nobody_there_and_no_tokenizer_are_said_at_the_start(words, tmp_path):
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        RemoteEmbedder("http://127.0.0.1:9", "m", tokenizer=words, limits=QUICK)
    with pytest.raises(ModelUnavailable, match=r"missing\.json"):
        RemoteEmbedder("http://x", "m", tokenizer=tmp_path / "missing.json", dim=2)
    with pytest.raises(InvalidInput, match="not http"):
        RemoteEmbedder("ftp://x", "m", tokenizer=words, dim=2)


def test_the_fingerprint_changes_with_what_changes_vectors(words):
    def of(name: str, **more) -> str:
        return RemoteEmbedder("http://x", name, tokenizer=words, **more).fingerprint

    one = of("m", dim=2)
    assert one == of("m", dim=2)
    assert len({one, of("n", dim=2), of("m", dim=3), of("m", dim=2, instruction="q: ")}) == 4


def reply_of(model: str | None) -> str:
    return json.dumps(json.loads(vectors_of([3.0, 4.0])) | ({"model": model} if model else {}))


def test_the_fingerprint_changes_with_the_model_that_the_server_reports(
    words, scripted_openai: ScriptedOpenAI
):
    def of(model: str | None) -> str:
        scripted_openai.replies = [status(200, reply_of(model))]
        remote = RemoteEmbedder(scripted_openai.url, "bge-m3", tokenizer=words)
        remote.close()
        return remote.fingerprint

    silent = RemoteEmbedder(scripted_openai.url, "bge-m3", tokenizer=words, dim=2).fingerprint
    assert of(None) == of("bge-m3") == of("BAAI/BGE-M3") == of("/models/bge-m3/") == silent
    assert len({silent, of("BAAI/bge-base"), of("BAAI/bge-large")}) == 3


async def test_a_server_that_changes_its_model_is_refused(words, scripted_openai: ScriptedOpenAI):
    scripted_openai.replies = [status(200, reply_of(name)) for name in ("a", "a", "b")]
    remote = RemoteEmbedder(scripted_openai.url, "a", tokenizer=words)
    np.testing.assert_allclose((await remote.embed_queries(["x"])).vectors, [[0.6, 0.8]], atol=1e-6)
    with pytest.raises(ModelUnavailable, match="serves b now and served a before"):
        await remote.embed_queries(["x"])
    remote.close()


@given(rows=st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), max_size=5))
@settings(deadline=None)
def test_any_order_and_both_encodings_are_read_alike(rows):
    rows = [[*row[:2], 1.0] for row in rows]
    packed = [base64.b64encode(np.asarray(row, "<f4").tobytes()).decode() for row in rows]
    for given_rows in (rows, packed):
        data = [{"index": i, "embedding": row} for i, row in enumerate(given_rows)][::-1]
        if rows:
            np.testing.assert_array_equal(read_vectors({"data": data}, len(rows)), rows)


async def test_our_own_server_scores_as_the_reranker_behind_it():
    remote = RemoteReranker("http://models/v1", "overlap", transport=our_server())
    hits = [hit(i, text) for i, text in enumerate(["nothing", "年假五天", "年"] * 30)]
    assert await remote.score(query("年假"), hits) == await OverlapReranker().score(
        query("年假"), hits
    )
    assert await remote.score(query("年假"), []) == []
    remote.close()


async def test_tei_is_asked_in_its_own_shape(scripted_openai: ScriptedOpenAI):
    rows = [{"index": 1, "score": 2.0}, {"index": 0, "score": 0.0}]
    scripted_openai.replies = [status(200, json.dumps(rows))]
    remote = RemoteReranker(f"{scripted_openai.url}/v1", "m", shape="tei", logits=True)
    scores = await remote.score(query("q"), [hit(0, "a"), hit(1, "b")])
    assert scores == [0.5, pytest.approx(1 / (1 + math.exp(-2)))]
    [request] = scripted_openai.requests
    assert request.path == "/rerank"
    assert request.body == {"query": "q", "texts": ["a", "b"]}
    remote.close()


@pytest.mark.parametrize(
    "body",
    ["{}", "7", "[]", '[{"index":0}]', '[{"index":0,"score":1},{"index":0,"score":1}]',
     '[{"index":0,"score":NaN},{"index":1,"score":1}]', '[{"index":0,"score":"x"},3]'],
)  # fmt: skip
async def test_wrong_scores_name_the_server(scripted_openai: ScriptedOpenAI, body):
    scripted_openai.replies = [status(200, body)]
    remote = RemoteReranker(scripted_openai.url, "m", limits=QUICK)
    with pytest.raises(ModelUnavailable, match="reranker") as caught:
        await remote.score(query("q"), [hit(0, "a"), hit(1, "b")])
    assert scripted_openai.url in str(caught.value)
    remote.close()


def test_scores_are_placed_by_index():
    rows = [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.5},
            {"index": 1, "relevance_score": 0.1}]  # fmt: skip
    assert read_scores({"results": rows}, 3) == [0.5, 0.1, 0.9]
