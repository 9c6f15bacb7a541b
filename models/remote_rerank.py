"""A reranker behind a URL: vLLM, Infinity, TEI, another instance of ours, or Jina's and Cohere's shape."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import httpx

from models.embed import joined
from models.exchange import WireThread, exchange
from models.http import Limits, ModelServer
from pipeline.errors import ModelUnavailable
from pipeline.ports import EncodedQuery
from pipeline.rows import passage
from pipeline.types import Hit

_BATCH = 64
"""Passages a request; a score does not hang on the others."""


class RemoteReranker:
    """Implements the port Reranker.

    `shape` "jina" asks `/v1/rerank` with `documents` and reads `relevance_score`; "tei" asks TEI's
    `/rerank` with `texts` and reads `score`. Both put the best first, so scores are taken by index.
    They are as the server gives them: 0 to 1 (a sigmoid) from vLLM, TEI, Infinity and ours for
    cross-encoders. With `logits` the server gives raw scores and the sigmoid is taken here.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        api_key: str | None = None,
        key_setting: str = "ZHINAO_RERANKER__API_KEY",
        shape: Literal["jina", "tei"] = "jina",
        logits: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._tei = shape == "tei"
        self._logits = logits
        self._server = ModelServer(
            url,
            api_key=api_key,
            key_setting=key_setting,
            label=f"The reranker at {url}",
            limits=limits,
            transport=transport,
            sleep=sleep,
            dice=dice,
        )
        self._wire = WireThread("remote-reranker")

    def close(self) -> None:
        """Close the connections; further calls raise ModelUnavailable."""
        self._wire.close(self._server.aclose())

    async def score(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[float]:
        """One float a hit. Raises ModelUnavailable, Overloaded or TooLarge, naming the server."""
        texts = [joined(passage(hit.chunk)) for hit in hits]
        return await self._wire.run(self._all(query.text, texts))

    async def _all(self, query: str, texts: Sequence[str]) -> list[float]:
        scores: list[float] = []
        for first in range(0, len(texts), _BATCH):
            scores += await self._asked(query, texts[first : first + _BATCH])
        return scores

    async def _asked(self, query: str, texts: Sequence[str]) -> list[float]:
        if self._tei:
            body: dict[str, object] = {"query": query, "texts": list(texts)}
            found = await exchange(self._server, "/rerank", body)
        else:
            body = {"model": self._name, "query": query, "documents": list(texts)}
            found = await exchange(self._server, "rerank", body)
        try:
            scores = read_scores(found, len(texts))
        except ValueError as error:
            raise ModelUnavailable(
                f"{self._server.label} answered with {error}: check that the URL is that of a "
                f"reranker and that its name is {self._name}."
            ) from error
        return [_sigmoid(score) for score in scores] if self._logits else scores


def read_scores(found: object, count: int) -> list[float]:
    """One score a document, in the order of the documents, from Jina's `results` or TEI's list.

    ValueError says what is wrong: the shape, a document that is missing or twice there, NaN.
    """
    rows = found.get("results") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise ValueError("something else than scores")  # noqa: TRY004 - wrong data, not a wrong call
    try:
        placed = {int(row["index"]): _score(row) for row in rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError("something else than scores") from error
    if sorted(placed) != list(range(count)) or len(rows) != count:
        raise ValueError(f"{len(rows)} scores for {count} passages")
    if not all(map(math.isfinite, placed.values())):
        raise ValueError("scores that are NaN or infinite")
    return [placed[i] for i in range(count)]


def _score(row: Mapping[str, Any]) -> float:
    return float(row["relevance_score"] if "relevance_score" in row else row["score"])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
