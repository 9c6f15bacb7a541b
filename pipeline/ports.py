"""Ports: what the query path and the write path ask of the world. Each has two implementations at
least.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.types import (
    Box,
    Chunk,
    DocumentId,
    Embeddings,
    Hit,
    Key,
    Keys,
    Message,
    Parsed,
    Passage,
    Sampling,
    Script,
    Span,
    Usage,
    Vectors,
)


class Embedder(Protocol):
    """Turns texts into unit vectors, and into token vectors where it has them.

    `count_tokens` counts what the model reads of a passage of this text, prefix and end marks
    included;
    a passage over `max_tokens` raises InvalidInput, it is never cut in silence.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def token_dim(self) -> int | None: ...
    @property
    def max_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    async def embed_queries(self, texts: Sequence[str]) -> Embeddings: ...
    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings: ...


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query as the legs read it: vector (dim,), token vectors (tokens, token_dim) or None,
    weighted terms.
    """

    text: str
    vector: Vectors
    tokens: Vectors | None
    terms: Mapping[str, float]


class Reranker(Protocol):
    """Scores hits again by reading query and passage together; higher is better, one float a hit."""

    async def score(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[float]: ...


class TokenVectors(Protocol):
    """Stored token vectors: one array (tokens, token_dim) a key, None where none is stored."""

    def get(self, keys: Sequence[Key]) -> list[Vectors | None]: ...


class SentenceScorer(Protocol):
    """How well each sentence of each passage answers a question.

    `sentences[i]` are spans in `passages[i].text`; `weights` are the question's terms and how rare
    they are
    (idf). Returns one list of floats a passage, one float a sentence.
    """

    async def score(
        self,
        question: str,
        weights: Mapping[str, float],
        passages: Sequence[Passage],
        sentences: Sequence[Sequence[Span]],
    ) -> list[list[float]]: ...


class ChatModel(Protocol):
    """Writes an answer token by token. `context_tokens` is the most that prompt and answer may take
    together; a model behind a URL asks its server for it.
    """

    @property
    def name(self) -> str: ...
    async def context_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[str | Usage, None]: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class Completer(Protocol):
    """A model that also continues a plain text, without the turns of a conversation: a base model."""

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[str | Usage, None]: ...


class VectorIndex(Protocol):
    """Dense candidates among live rows. `allowed` (sorted keys) narrows the search; None means all live rows.

    `search` returns the k best (fewer only when fewer exist) as (key, cosine), best first; `script` keeps
    to the passages of one script, since raw cosines do not compare between scripts.
    `score` returns the exact cosine of the given live keys, from the raw vectors.
    """

    def search(
        self, vector: Vectors, k: int, allowed: Keys | None, script: Script | None = None
    ) -> list[tuple[Key, float]]: ...
    def score(self, vector: Vectors, keys: Keys) -> Vectors: ...
    def centroids(self) -> Mapping[Script, tuple[Vectors, int]]: ...


class WordIndex(Protocol):
    """Candidates by words among live rows; a score is the sum over matching terms of weight x
    saturated tf (0 to 1).
    """

    def search(
        self, terms: Mapping[str, float], k: int, allowed: Keys | None
    ) -> list[tuple[Key, float]]: ...
    def score(self, terms: Mapping[str, float], keys: Keys) -> Vectors: ...
    def frequencies(self, terms: Sequence[str]) -> tuple[list[int], int]: ...


class Snapshot(Protocol):
    """One consistent state of a collection: both legs, token vectors and chunks show the same live
    rows. `fingerprint` is that of the embedder whose space its vectors are in.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def vectors(self) -> VectorIndex: ...
    @property
    def words(self) -> WordIndex: ...
    @property
    def tokens(self) -> TokenVectors: ...
    def chunks(self, keys: Sequence[Key]) -> list[Chunk]: ...
    def keys_of(self, documents: Sequence[DocumentId]) -> Keys: ...
    def locate(
        self, document: DocumentId, version: int, start: int, end: int
    ) -> tuple[int | None, tuple[Box, ...]]: ...


class Parser(Protocol):
    """Reads one kind of file. Raises InvalidInput with a sentence when the file can't be read."""

    @property
    def media_types(self) -> frozenset[str]: ...
    def parse(self, data: bytes, name: str) -> Parsed: ...


@runtime_checkable
class Interruptible(Protocol):
    """A parser whose reading another thread can end: `parse` raises Unavailable then."""

    def interrupt(self) -> None: ...


class Pages(Protocol):
    """Takes the pages of one document as they are read, a few at a time and in any order."""

    def begin(self, total: int) -> Sequence[tuple[range, bytes]]:
        """What an earlier reading noted of a document of so many pages, no page twice; pages count from 0."""
        ...

    def note(self, pages: range, read: bytes) -> None:
        """These pages were read. May raise what ends the reading."""
        ...


@runtime_checkable
class Paged(Protocol):
    """A parser that reads long documents page by page, and goes on where an earlier reading ended."""

    def parse_pages(self, data: bytes, name: str, pages: Pages) -> Parsed: ...


class JobQueue(Protocol):
    """Carries job ids to workers. The SQL row is the truth: a lost message is sent again by the
    relay.
    """

    def submit(self, job_id: str, *, queue: str) -> None: ...
    def waiting(self, queue: str) -> int: ...
