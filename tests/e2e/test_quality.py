"""Retrieval over REST on small parts of the measuring sets; the whole is `make quality` (docs/quality.md)."""

import asyncio
import uuid

import pytest

from bench.client import Api
from bench.quality import measure
from bench.sets import DATA, Asked, load_set

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason="the shared measuring data is not here"),
]
PASSAGES = 24
QUESTIONS = 60


def some(asked: list[Asked]) -> list[Asked]:
    """Every so many, so that all passages are asked about."""
    return asked[:: max(1, len(asked) // QUESTIONS)][:QUESTIONS]


async def uploaded(api: Api, files) -> str:
    name = f"quality-{uuid.uuid4().hex[:8]}"
    await api.create(name)
    rows = await api.upload(name, files)
    assert {row["job"]["status"] for row in rows} == {"done"}
    return name


async def test_two_languages_in_one_collection_find_their_own_and_each_other(server) -> None:
    zh, en = load_set("xquad-zh", most=2 * PASSAGES), load_set("xquad-en", most=2 * PASSAGES)
    chinese = {path.stem for path in zh.files[:PASSAGES]}
    english = {path.stem for path in en.files[PASSAGES:]}
    async with Api(server.url) as api:
        name = await uploaded(api, (*zh.files[:PASSAGES], *en.files[PASSAGES:]))
        own = [q for q in zh.answerable if q.relevant <= chinese] + [
            q for q in en.answerable if q.relevant <= english
        ]
        other = [q for q in zh.answerable if q.relevant <= english] + [
            q for q in en.answerable if q.relevant <= chinese
        ]
        same = await measure(api, some(own), name, mode="hybrid")
        across = await measure(api, some(other), name, mode="hybrid")
        plain = await measure(api, some(other), name, mode="words")
    assert same.ndcg >= 0.97
    assert across.ndcg >= 0.85
    assert plain.ndcg < across.ndcg


async def test_native_chinese_questions_find_their_passages(server) -> None:
    given = load_set("cmrc2018-trial", most=PASSAGES)
    async with Api(server.url) as api:
        name = await uploaded(api, given.files)
        hybrid, dense = await asyncio.gather(
            measure(api, some(list(given.answerable)), name, mode="hybrid"),
            measure(api, some(list(given.answerable)), name, mode="dense", rerank=False),
        )
    assert hybrid.ndcg >= 0.98
    assert hybrid.ndcg >= dense.ndcg - 0.01
