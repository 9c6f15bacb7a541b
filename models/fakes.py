"""Small stand-ins for models, for unit tests: deterministic, instant, and without any weights."""

import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np

from models.embed import joined
from models.projection import unit
from models.sentence_scorer import TokenEncoding
from pipeline.analyze import saturate
from pipeline.errors import TooLarge
from pipeline.ports import EncodedQuery
from pipeline.types import (
    Embeddings,
    Hit,
    Key,
    Keys,
    Message,
    Passage,
    Sampling,
    Script,
    Span,
    Usage,
    Vectors,
)

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


class HashEmbedder:
    """Implements Embedder and TokenEncoder: a word (or a Han character) always has the same random
    direction, and a text is the mean of its words. So shared words, and nothing else, make a cosine.
    """

    def __init__(self, *, dim: int = 64, max_tokens: int = 512, seed: str = "") -> None:
        self._dim = dim
        self._max_tokens = max_tokens
        self._seed = seed

    @property
    def fingerprint(self) -> str:
        return f"hash-{self._dim}-{self._seed}"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def token_dim(self) -> int | None:
        return self._dim

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        """Words and Han characters, and two marks."""
        return len(_spans(text)) + 2

    async def embed_queries(self, texts: Sequence[str]) -> Embeddings:
        tokens = [self._vectors(text)[: self._max_tokens - 2] for text in texts]
        return self._embeddings(tokens)

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        """Raises TooLarge for a passage over `max_tokens`."""
        texts = [joined(passage) for passage in passages]
        for text in texts:
            if self.count_tokens(text) > self._max_tokens:
                raise TooLarge(f"A passage has more than {self._max_tokens} tokens.")
        return self._embeddings([self._vectors(text) for text in texts])

    async def encode_question(self, text: str) -> TokenEncoding:
        return self._encoding(text, skip=0)

    async def encode_tokens(self, passages: Sequence[Passage]) -> list[TokenEncoding]:
        return [
            self._encoding(joined(passage), skip=len(joined(passage)) - len(passage.text))
            for passage in passages
        ]

    def _encoding(self, text: str, *, skip: int) -> TokenEncoding:
        places = [
            (span.start - skip, span.end - skip) if span.start >= skip else (-1, -1)
            for span in _spans(text)
        ]
        return TokenEncoding(self._vectors(text), np.asarray(places, dtype=np.int64).reshape(-1, 2))

    def _embeddings(self, tokens: Sequence[Vectors]) -> Embeddings:
        means = [own.mean(axis=0) if len(own) else self._direction("nothing") for own in tokens]
        vectors = unit(np.stack(means)) if means else np.zeros((0, self._dim), np.float32)
        return Embeddings(vectors, tuple(tokens))

    def _vectors(self, text: str) -> Vectors:
        words = [text[span.start : span.end].casefold() for span in _spans(text)]
        rows = [self._direction(word) for word in words]
        return np.stack(rows) if rows else np.zeros((0, self._dim), np.float32)

    def _direction(self, word: str) -> Vectors:
        digest = hashlib.sha256(f"{self._seed}{word}".encode()).digest()
        dice = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return unit(dice.standard_normal(self._dim, dtype=np.float32))


class OverlapReranker:
    """Implements Reranker: the share of the query's words that stand in the passage."""

    async def score(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[float]:
        wanted = _words(query.text)
        return [len(wanted & _words(hit.chunk.text)) / max(1, len(wanted)) for hit in hits]


class ScriptedChat:
    """Implements ChatModel: streams the given pieces and keeps the prompts that it was shown."""

    def __init__(
        self, pieces: Sequence[str], *, name: str = "scripted", context_tokens: int = 4096
    ) -> None:
        self._pieces = tuple(pieces)
        self._name = name
        self._context_tokens = context_tokens
        self.prompts: list[tuple[Message, ...]] = []

    @property
    def name(self) -> str:
        return self._name

    async def context_tokens(self) -> int:
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        """Words and Han characters."""
        return len(_spans(text))

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,  # noqa: ARG002  the port's; a script has no dice
        sampling: Sampling | None = None,  # noqa: ARG002
    ) -> AsyncIterator[str | Usage]:
        """The pieces, at most `max_tokens` of them, then how much was read and written."""
        self.prompts.append(tuple(messages))
        written = self._pieces[:max_tokens]
        for piece in written:
            yield piece
        read = sum(self.count_tokens(message.content) for message in messages)
        yield Usage(read, sum(self.count_tokens(piece) for piece in written))


def _spans(text: str) -> list[Span]:
    return [Span(*match.span()) for match in _WORD.finditer(text)]


def _words(text: str) -> set[str]:
    return {text[span.start : span.end].casefold() for span in _spans(text)}


class ListQueue:
    """A job queue that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: dict[str, list[str]] = {}

    def submit(self, job_id: str, *, queue: str) -> None:
        self.sent.setdefault(queue, []).append(job_id)

    def waiting(self, queue: str) -> int:
        return len(self.sent.get(queue, []))


class PlainVectors:
    """Implements VectorIndex over a dict of live rows: a vector (dim,) and a script by key; all are looked at."""

    def __init__(self, rows: Mapping[Key, tuple[Vectors, Script]]) -> None:
        self._rows = dict(rows)

    def search(
        self, vector: Vectors, k: int, allowed: Keys | None, script: Script | None = None
    ) -> list[tuple[Key, float]]:
        among = None if allowed is None else set(allowed.tolist())
        scores = {
            key: _product(own, vector)
            for key, (own, of) in self._rows.items()
            if (among is None or key in among) and (script is None or of is script)
        }
        return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))[: max(k, 0)]

    def score(self, vector: Vectors, keys: Keys) -> Vectors:
        """Raises KeyError for a key that is not live."""
        products = (_product(self._rows[Key(key)][0], vector) for key in keys.tolist())
        return np.fromiter(products, np.float32, len(keys))

    def centroids(self) -> Mapping[Script, tuple[Vectors, int]]:
        of: dict[Script, list[Vectors]] = {}
        for own, script in self._rows.values():
            of.setdefault(script, []).append(own)
        return {
            script: (np.mean(np.asarray(own, np.float64), axis=0).astype(np.float32), len(own))
            for script, own in of.items()
        }


class PlainWords:
    """Implements WordIndex over a dict of live rows: the terms of each key. `mean` is the length they are compared
    with, that of all rows where it is None.
    """

    def __init__(self, rows: Mapping[Key, Sequence[str]], mean: float | None = None) -> None:
        self._rows = {key: Counter(terms) for key, terms in rows.items()}
        lengths = [counts.total() for counts in self._rows.values()]
        self._mean = mean or max(1.0, sum(lengths) / max(1, len(lengths)))

    def search(
        self, terms: Mapping[str, float], k: int, allowed: Keys | None
    ) -> list[tuple[Key, float]]:
        keys = self._rows if allowed is None else self._rows.keys() & set(allowed.tolist())
        scores = {key: score for key in keys if (score := self._score(terms, key))}
        best = sorted(scores.items(), key=lambda hit: (-round(hit[1], 9), hit[0]))
        return best[: max(k, 0)]

    def score(self, terms: Mapping[str, float], keys: Keys) -> Vectors:
        """Raises KeyError for a key that is not live."""
        scores = (self._score(terms, Key(key)) for key in keys.tolist())
        return np.fromiter(scores, np.float32, len(keys))

    def frequencies(self, terms: Sequence[str]) -> tuple[list[int], int]:
        rows = [sum(term in counts for counts in self._rows.values()) for term in terms]
        return rows, len(self._rows)

    def _score(self, terms: Mapping[str, float], key: Key) -> float:
        counts = self._rows[key]
        return sum(
            weight * saturate(counts[term], counts.total(), self._mean)
            for term, weight in terms.items()
            if weight > 0 and counts[term]
        )


def _product(own: Vectors, vector: Vectors) -> float:
    return float(np.dot(own.astype(np.float32), vector.astype(np.float32)))
