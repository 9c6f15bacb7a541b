"""The bundled embedder: multilingual-e5-small on the CPU."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bounded_pool import BoundedPool
from models.e5_engine import (
    HIDDEN,
    MAX_TOKENS,
    E5Engine,
    Encoded,
    Halt,
    Output,
    Side,
    batches,
)
from models.projection import Projection, load_projection, unit
from models.sentence_scorer import TokenEncoding
from pipeline.errors import TooLarge
from pipeline.types import Embeddings, Passage

_WAITING = 64
"""Batches that may wait for a thread; one takes half a second at most on two cores."""


class E5Embedder:
    """Implements the port Embedder, and gives last-layer token vectors for answers.

    Token vectors in `Embeddings` are hidden states after the ninth of twelve layers, projected and
    of length 1; marks and prefix are left out, a passage's context is in. Every call raises
    Overloaded when too much waits.
    """

    def __init__(
        self,
        engine: E5Engine,
        projection: Projection,
        *,
        workers: int = 1,
        waiting: int = _WAITING,
    ) -> None:
        self._engine = engine
        self._projection = projection
        self._workers = workers
        self._pool = BoundedPool("embedder", workers=workers, waiting=waiting)

    @classmethod
    def load(cls, folder: Path, *, threads: int, workers: int = 1) -> "E5Embedder":
        """Opens a folder from `models.bundled.ensure_e5`. `threads` work on one batch together,
        `workers` batches run at once. Raises ModelUnavailable.
        """
        return cls(E5Engine.load(folder, threads=threads), load_projection(), workers=workers)

    def close(self) -> None:
        """Ends the threads; calls that wait are dropped."""
        self._pool.close()

    @property
    def fingerprint(self) -> str:
        """Changes whenever vectors may change: other weights, another recipe or projection."""
        manifest = self._engine.manifest
        parts = f"{manifest.source.sha256} {manifest.recipe} {self._projection.sha256}"
        return f"multilingual-e5-small-q4-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    @property
    def dim(self) -> int:
        return HIDDEN

    @property
    def token_dim(self) -> int | None:
        return self._projection.dim

    @property
    def max_tokens(self) -> int:
        return MAX_TOKENS

    def count_tokens(self, text: str) -> int:
        """What the model reads of a passage of this text (context, newline, text), marks and prefix
        included; about half a millisecond for a passage.
        """
        return len(self._engine.ids(text, Side.PASSAGE))

    async def embed_queries(self, texts: Sequence[str]) -> Embeddings:
        """A query over `max_tokens` is read up to there: its beginning names its subject."""
        return self._embeddings(await self._read(texts, Side.QUERY, Output.MIDDLE))

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        """Raises TooLarge for a passage over `max_tokens`."""
        texts = [joined(passage) for passage in passages]
        return self._embeddings(await self._read(texts, Side.PASSAGE, Output.MIDDLE))

    async def encode_question(self, text: str) -> TokenEncoding:
        """Last-layer token vectors (t, 384) of a question; cut like a query."""
        [read] = await self._read([text], Side.QUERY, Output.LAST)
        return self._encoding(read, text, skip=0)

    async def encode_tokens(self, passages: Sequence[Passage]) -> list[TokenEncoding]:
        """Last-layer token vectors (t, 384) of each passage, places counted in its `text`.

        Raises TooLarge for a passage over `max_tokens`.
        """
        texts = [joined(passage) for passage in passages]
        read = await self._read(texts, Side.PASSAGE, Output.LAST)
        return [
            self._encoding(encoded, text, skip=len(text) - len(passage.text))
            for encoded, text, passage in zip(read, texts, passages, strict=True)
        ]

    async def _read(self, texts: Sequence[str], side: Side, output: Output) -> list[Encoded]:
        """Encodes all texts, a batch a turn: between batches others get theirs.

        A batch ends unfinished when its caller is cancelled: the next one finds its thread free.
        """
        rows = await self._pool.run(self._tokenise, texts, side)
        order = list(batches([len(row) for row in rows]))
        encoded: dict[int, Encoded] = {}
        halt = Halt()
        try:
            for first in range(0, len(order), self._workers):
                together = order[first : first + self._workers]
                results = await asyncio.gather(
                    *(
                        self._pool.run(self._encode, [rows[i] for i in batch], side, output, halt)
                        for batch in together
                    )
                )
                for batch, result in zip(together, results, strict=True):
                    encoded.update(zip(batch, result, strict=True))
        finally:
            halt.now()
        return [encoded[position] for position in range(len(texts))]

    def _tokenise(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        rows = [self._engine.ids(text, side) for text in texts]
        if side is Side.QUERY:
            return [
                row if len(row) <= MAX_TOKENS else [*row[: MAX_TOKENS - 1], row[-1]] for row in rows
            ]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > MAX_TOKENS:
                raise TooLarge(
                    f"A passage has {len(row)} tokens and the embedder reads {MAX_TOKENS} at most: "
                    f"“{text[:40]}…”. Cut it into smaller passages."
                )
        return rows

    def _encode(
        self, rows: Sequence[Sequence[int]], side: Side, output: Output, halt: Halt
    ) -> list[Encoded]:
        """In a thread of the pool. Middle states are projected there too, so that no more is kept
        than is wanted.
        """
        shrink = self._projection.apply if output is Output.MIDDLE else unit
        return [
            Encoded(encoded.vector, shrink(encoded.states))
            for encoded in self._engine.encode(rows, side, output, halt)
        ]

    def _embeddings(self, read: Sequence[Encoded]) -> Embeddings:
        vectors = [encoded.vector for encoded in read]
        stacked = np.stack(vectors) if vectors else np.zeros((0, HIDDEN), np.float32)
        return Embeddings(stacked, tuple(encoded.states for encoded in read))

    def _encoding(self, read: Encoded, text: str, *, skip: int) -> TokenEncoding:
        """Places in what follows the first `skip` characters of `text`."""
        places = [
            (max(span.start - skip, 0), span.end - skip)
            if span.end > max(skip, span.start)
            else (-1, -1)
            for span in self._engine.tokens(text).spans[: len(read.states)]
        ]
        return TokenEncoding(read.states, np.asarray(places, dtype=np.int64).reshape(-1, 2))


def joined(passage: Passage) -> str:
    """What the embedder reads of a passage, after its prefix."""
    return f"{passage.context}\n{passage.text}" if passage.context else passage.text
