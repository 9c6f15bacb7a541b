"""What every reranker promises, and MaxSim against a brute-force oracle."""

import numpy as np
import pytest
from tiny_zhinao import write_reranker

from models.fakes import HashEmbedder, OverlapReranker
from models.rerank import MaxSimReranker, maxsim
from pipeline.ports import EncodedQuery, Reranker
from pipeline.types import Chunk, ChunkId, DocumentId, Hit, Key, Passage, Script

TEXTS = [
    "年假为五天",
    "the warranty covers 24 months",
    "passwords expire after 90 days",
    "the river flows east",
]


class Stored:
    """Token vectors by key."""

    def __init__(self, tokens):
        self.tokens = tokens

    def get(self, keys):
        return [self.tokens.get(key) for key in keys]


def hit(key: int, text: str) -> Hit:
    chunk = Chunk(
        ChunkId(str(key)),
        Key(key),
        DocumentId("d"),
        "d.txt",
        1,
        text,
        0,
        len(text),
        None,
        (),
        "",
        Script.LATIN,
    )
    return Hit(chunk, 0.0)


HITS = [hit(key, text) for key, text in enumerate(TEXTS)]


async def encode(question: str) -> EncodedQuery:
    embedded = await HashEmbedder().embed_queries([question])
    return EncodedQuery(question, embedded.vectors[0], embedded.tokens[0], {})


@pytest.fixture(scope="module")
def zhinao_reranker(tmp_path_factory):
    from models.zhinao_rerank import ZhinaoReranker

    loaded = ZhinaoReranker.load(write_reranker(tmp_path_factory.mktemp("reranker")), device="cpu")
    yield loaded
    loaded.close()


@pytest.fixture(params=["maxsim", "overlap", "zhinao"])
async def any_reranker(request) -> Reranker:
    """Random weights too, which keep every promise but that of meaning."""
    if request.param == "zhinao":
        return request.getfixturevalue("zhinao_reranker")
    return await knowing(request.param)


@pytest.fixture(params=["maxsim", "overlap"])
async def reranker(request) -> Reranker:
    return await knowing(request.param)


async def knowing(name: str) -> Reranker:
    if name == "overlap":
        return OverlapReranker()
    embedded = await HashEmbedder().embed_passages([Passage("", text) for text in TEXTS])
    return MaxSimReranker(Stored(dict(enumerate(embedded.tokens))))


async def test_every_hit_gets_a_float_and_order_follows_the_hits(any_reranker):
    query = await encode("how many months does the warranty cover")
    scores = await any_reranker.score(query, HITS)
    assert all(type(score) is float for score in scores)
    assert len(set(scores)) > 1
    assert await any_reranker.score(query, HITS[::-1]) == pytest.approx(scores[::-1], abs=1e-6)


async def test_the_passage_that_answers_has_the_highest_score(reranker):
    query = await encode("how many months does the warranty cover")
    assert np.argmax(await reranker.score(query, HITS)) == 1


async def test_a_hit_is_scored_by_itself(any_reranker):
    query = await encode("passwords expire")
    together = await any_reranker.score(query, HITS)
    alone = [(await any_reranker.score(query, [one]))[0] for one in HITS]
    assert together == pytest.approx(alone, abs=1e-5)


async def test_no_hits_give_no_scores(any_reranker):
    assert await any_reranker.score(await encode("anything"), []) == []


async def test_a_query_without_words_scores_nothing_higher(reranker):
    query = await encode("……")
    assert await reranker.score(query, HITS) == [0.0] * len(HITS)


async def test_maxsim_is_the_mean_of_each_query_tokens_best_cosine():
    dice = np.random.default_rng(3)
    query = dice.standard_normal((7, 96)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    passages = [dice.standard_normal((length, 96)).astype(np.float32) for length in (1, 5, 250, 2)]
    passages = [passage / np.linalg.norm(passage, axis=1, keepdims=True) for passage in passages]
    brute = [
        sum(max(float(token @ other) for other in passage) for token in query) / len(query)
        for passage in passages
    ]
    np.testing.assert_allclose(maxsim(query, passages), brute, atol=1e-5)
    encoded = EncodedQuery("", query[0], query, {})
    reranker = MaxSimReranker(Stored(dict(enumerate(passages))))
    assert await reranker.score(encoded, HITS) == pytest.approx(brute, abs=1e-5)


async def test_a_hit_without_stored_vectors_gets_the_mean_of_the_others():
    embedded = await HashEmbedder().embed_passages([Passage("", text) for text in TEXTS])
    stored = dict(enumerate(embedded.tokens))
    stored[2] = np.zeros((0, 64), np.float32)
    del stored[0]
    query = await encode("the warranty")
    scores = await MaxSimReranker(Stored(stored)).score(query, HITS)
    assert scores[1] > scores[3]
    assert scores[0] == scores[2] == pytest.approx((scores[1] + scores[3]) / 2)


async def test_nothing_stored_or_nothing_asked_moves_no_hit():
    query = await encode("the warranty")
    assert await MaxSimReranker(Stored({})).score(query, HITS) == [0.0] * 4
    plain = EncodedQuery("the warranty", query.vector, None, {})
    assert await MaxSimReranker(Stored({})).score(plain, HITS) == [0.0] * 4
