"""An embedder behind a URL: vLLM, TEI, Infinity, another instance of ours, or any OpenAI-like server."""

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from models.embed import joined
from models.exchange import WireThread, exchange
from models.http import Limits, ModelServer
from models.projection import unit
from models.zhinao_embed import INSTRUCTION
from pipeline.errors import ModelUnavailable, TooLarge
from pipeline.types import Embeddings, Passage, Vectors

RECIPE = "remote-l2-1"
_BATCH = 32
"""Texts a request."""
_AT_ONCE = 4
"""Requests of one call that are under way together."""
_BUNDLED = "multilingual-e5-small-q4"
"""Our own server's name for the bundled embedder, which puts its prefixes itself."""


class RemoteEmbedder:
    """Implements the port Embedder by `/v1/embeddings`; no token vectors.

    Vectors are made unit length here; those of another length than `dim`, with a NaN or of zeros
    are refused. Tokens are counted with the model's `tokenizer.json`, so that nothing is cut by the
    server. `instruction` stands before each query; None means 360Zhinao-search's for a model of
    that name, else nothing. With `input_type` the server is told which texts are queries (Cohere's
    and Jina's field); None means only where ours serves the bundled embedder.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        tokenizer: Path,
        dim: int | None = None,
        max_tokens: int = 512,
        api_key: str | None = None,
        key_setting: str = "ZHINAO_EMBEDDER__API_KEY",
        instruction: str | None = None,
        input_type: bool | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """Asks the server for one vector when `dim` is None, which takes as long as it answers.

        Raises ModelUnavailable for a tokenizer that cannot be read and a server that does not answer.
        """
        self._name = name
        self._max_tokens = max_tokens
        self._tokenizer = _tokenizer(tokenizer)
        self._instruction = _instruction(name) if instruction is None else instruction
        self._input_type = name == _BUNDLED if input_type is None else input_type
        self._server = ModelServer(
            url,
            api_key=api_key,
            key_setting=key_setting,
            label=f"The embedder at {url}",
            limits=limits,
            transport=transport,
            sleep=sleep,
            dice=dice,
        )
        self._wire = WireThread("remote-embedder")
        self._dim = dim
        self._reported: str | None = None
        self._other = ""
        if dim is None:
            self._dim = len(self._wire.wait(self._asked(["dim"], "passage"))[0])
            self._other = other_model(name, self._reported)

    def close(self) -> None:
        """Close the connections; further calls raise ModelUnavailable."""
        self._wire.close(self._server.aclose())

    @property
    def fingerprint(self) -> str:
        """Of name, length, instruction and recipe, and of the model that the server says it serves,
        where that is another and the server was asked for `dim`. A server does not show its weights,
        so other weights under the same name need another name here.
        """
        parts = f"{RECIPE} {self._name} {self.dim} {self._instruction} {self._input_type}"
        parts += f" {self._other}" if self._other else ""
        return f"remote-{self._name}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    @property
    def dim(self) -> int:
        assert self._dim is not None
        return self._dim

    @property
    def token_dim(self) -> int | None:
        return None

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        """Tokens of a passage of this text, the tokenizer's end marks included."""
        return len(self._tokenizer.encode(text).ids)

    async def embed_queries(self, texts: Sequence[str]) -> Embeddings:
        """A query over `max_tokens`, its instruction included, is read up to there."""
        cut = [self._cut(self._instruction + text) for text in texts]
        return await self._embed(cut, "query")

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        """Raises TooLarge for a passage over `max_tokens`."""
        texts = [joined(passage) for passage in passages]
        for text in texts:
            if (count := self.count_tokens(text)) > self._max_tokens:
                raise TooLarge(
                    f"A passage has {count} tokens and the embedder reads {self._max_tokens} at "
                    f"most: “{text[:40]}…”. Cut it into smaller passages."
                )
        return await self._embed(texts, "passage")

    async def _embed(self, texts: Sequence[str], kind: str) -> Embeddings:
        if not texts:
            return Embeddings(np.zeros((0, self.dim), np.float32))
        return Embeddings(unit(await self._wire.run(self._all(texts, kind))))

    async def _all(self, texts: Sequence[str], kind: str) -> Vectors:
        """In the thread of the connections: a few requests at a time; the first error ends all."""
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(batch: Sequence[str]) -> Vectors:
            async with free:
                return await self._asked(batch, kind)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(one(texts[first : first + _BATCH]))
                    for first in range(0, len(texts), _BATCH)
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return np.concatenate([task.result() for task in tasks])

    async def _asked(self, texts: Sequence[str], kind: str) -> Vectors:
        body: dict[str, object] = {
            "model": self._name,
            "input": list(texts),
            "encoding_format": "float",
        }
        if self._input_type:
            body["input_type"] = kind
        found = await exchange(self._server, "embeddings", body)
        self._still_the_same(found)
        try:
            vectors = read_vectors(found, len(texts))
        except ValueError as error:
            raise ModelUnavailable(
                f"{self._server.label} answered with {error}: check that the URL is that of an "
                f"embedding model and that its name is {self._name}."
            ) from error
        if self._dim is not None and vectors.shape[1] != self._dim:
            raise ModelUnavailable(
                f"{self._server.label} gives vectors of {vectors.shape[1]} numbers and "
                f"{self._dim} are expected: it serves another model, or ZHINAO_EMBEDDER__DIM is wrong."
            )
        return vectors

    def _still_the_same(self, found: object) -> None:
        """Vectors of two models in one index would be wrong answers in silence."""
        said = found.get("model") if isinstance(found, dict) else None
        if not isinstance(said, str):
            return
        self._reported = self._reported or said
        if said != self._reported:
            raise ModelUnavailable(
                f"{self._server.label} serves {said} now and served {self._reported} before: start "
                "the former model again, or restart this program and index the documents anew."
            )

    def _cut(self, text: str) -> str:
        read = self._tokenizer.encode(text)
        kept = text
        surplus = len(read.ids) - self._max_tokens
        while surplus > 0 and kept:
            ends = [end for start, end in read.offsets if end > start]
            kept = kept[: ends[max(0, len(ends) - 1 - surplus)]] if len(ends) > surplus else ""
            read = self._tokenizer.encode(kept)
            surplus = len(read.ids) - self._max_tokens
        return kept


def other_model(name: str, reported: str | None) -> str:
    """The model that a server reports, where it is another than the one asked for; else nothing.

    Folders, owners and capitals make no other model.

    >>> [other_model("bge-m3", said) for said in (None, "bge-m3", "/models/BGE-M3", "BAAI/bge-base")]
    ['', '', '', 'BAAI/bge-base']
    """
    ends = [one.rstrip("/").rpartition("/")[2].casefold() for one in (name, reported or name)]
    return "" if ends[0] == ends[1] else reported or ""


def read_vectors(found: object, count: int) -> Vectors:
    """(count, dim) float32 from OpenAI's reply, in the order of `index`.

    ValueError says what is wrong: the shape, lengths that differ, NaN or infinity, a zero vector.
    """
    try:
        rows = found["data"]  # type: ignore[index]
        placed = {
            int(row.get("index", i)): _numbers(row["embedding"]) for i, row in enumerate(rows)
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError("something else than embeddings") from error
    if sorted(placed) != list(range(count)) or len(rows) != count:
        raise ValueError(f"{len(rows)} embeddings for {count} texts")
    if len({row.shape for row in placed.values()}) > 1 or placed[0].ndim != 1 or not placed[0].size:
        raise ValueError("embeddings of different lengths")
    vectors = np.stack([placed[i] for i in range(count)])
    if not np.isfinite(vectors).all():
        raise ValueError("embeddings that hold NaN or infinity")
    if not (np.linalg.norm(vectors, axis=1) > 0).all():
        raise ValueError("embeddings of zeros")
    return vectors


def _numbers(given: Any) -> Vectors:  # noqa: ANN401  another server's JSON
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4").astype(np.float32)
    return np.asarray(given, dtype=np.float32)


def _instruction(name: str) -> str:
    return INSTRUCTION if "360zhinao-search" in name.lower() else ""


def _tokenizer(path: Path) -> Any:  # noqa: ANN401  tokenizers ships no types
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelUnavailable(
            f"The tokenizer {path} cannot be read ({error}): set ZHINAO_EMBEDDER__TOKENIZER to the "
            "tokenizer.json of the embedding model."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
